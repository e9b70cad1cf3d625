//! The WebSocket handshake in its two forms: with a key and its proof in HTTP/1 (RFC 6455 §4),
//! with neither in HTTP/2 (RFC 8441 §5).

use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE};
use http::{HeaderMap, HeaderValue, StatusCode};

use super::Worker;
use crate::upstream::h1::ResponseHead;

const WEBSOCKET: HeaderValue = HeaderValue::from_static("websocket");

/// Whether a value of `Upgrade` asks for WebSocket and nothing else.
pub fn is_meant(protocol: &HeaderValue) -> bool {
    protocol.as_bytes().eq_ignore_ascii_case(WEBSOCKET.as_bytes())
}

/// Gives a handshake that came over HTTP/2 the key that an HTTP/1 endpoint wants.
pub fn add_key(worker: &Worker, headers: &mut HeaderMap) {
    let mut key = [0; 16];
    for half in key.chunks_exact_mut(8) {
        half.copy_from_slice(&worker.random().to_le_bytes());
    }
    if let Ok(key) = HeaderValue::try_from(STANDARD.encode(key)) {
        headers.insert(SEC_WEBSOCKET_KEY, key);
    }
}

/// Turns an HTTP/2 endpoint's consent into the one an HTTP/1 client with this key waits for.
pub fn consent(head: &mut ResponseHead, key: &HeaderValue) {
    super::hop::strip_response(&mut head.headers, false);
    head.status = StatusCode::SWITCHING_PROTOCOLS;
    head.headers.insert(UPGRADE, WEBSOCKET);
    head.headers.insert(SEC_WEBSOCKET_ACCEPT, proof(key));
}

/// What proves that the key was read (RFC 6455 §4.2.2).
fn proof(key: &HeaderValue) -> HeaderValue {
    const SALT: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    let mut hash = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    hash.update(key.as_bytes().trim_ascii());
    hash.update(SALT);
    let proof = STANDARD.encode(hash.finish());
    HeaderValue::try_from(proof).unwrap_or(HeaderValue::from_static("-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_proof_of_a_key_is_that_of_the_rfc() {
        let key = HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ==");
        assert_eq!(proof(&key), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }
}
