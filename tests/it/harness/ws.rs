//! WebSocket (RFC 6455) as far as a proxy test needs it: the handshake of the RFC's own example,
//! and single frames.

use std::net::SocketAddr;

use bytes::{Buf, BytesMut};

use super::Client;
use super::backend::{Conn, Seen};

/// The key and its answer of RFC 6455 §1.3.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Opcode {
    /// UTF-8 text.
    Text = 1,
    /// Bytes.
    Binary = 2,
    /// The end.
    Close = 8,
}

/// A whole frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The opcode as it stands on the wire.
    pub opcode: u8,
    /// The unmasked payload.
    pub payload: Vec<u8>,
}

/// The bytes of a frame; a client's are masked.
pub fn frame(opcode: Opcode, payload: &[u8], masked: bool) -> Vec<u8> {
    let mut bytes = vec![0x80 | opcode as u8];
    let mask_bit = if masked { 0x80 } else { 0 };
    match payload.len() {
        length @ 0..=125 => bytes.push(mask_bit | length as u8),
        length @ 126..=0xffff => {
            bytes.push(mask_bit | 126);
            bytes.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            bytes.push(mask_bit | 127);
            bytes.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    if masked {
        let mask = [0x37, 0xfa, 0x21, 0x3d];
        bytes.extend_from_slice(&mask);
        bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    } else {
        bytes.extend_from_slice(payload);
    }
    bytes
}

/// Takes a whole frame off the front of `buffer`.
pub fn parse(buffer: &mut BytesMut) -> Option<Frame> {
    let (first, second) = (*buffer.first()?, *buffer.get(1)?);
    let (length, mut at) = match second & 0x7f {
        126 => (usize::from(u16::from_be_bytes(buffer.get(2..4)?.try_into().ok()?)), 4),
        127 => (u64::from_be_bytes(buffer.get(2..10)?.try_into().ok()?) as usize, 10),
        length => (usize::from(length), 2),
    };
    let mask = if second & 0x80 != 0 {
        let mask: [u8; 4] = buffer.get(at..at + 4)?.try_into().ok()?;
        at += 4;
        mask
    } else {
        [0; 4]
    };
    let payload = buffer.get(at..at + length)?;
    let payload = payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
    buffer.advance(at + length);
    Some(Frame { opcode: first & 0x0f, payload })
}

/// A client's end of a WebSocket over HTTP/1.
pub struct WebSocket {
    client: Client,
    buffer: BytesMut,
}

impl WebSocket {
    /// Connects and upgrades.
    pub async fn connect(address: SocketAddr, host: &str, path: &str) -> Self {
        Self::over(Client::connect(address).await, host, path).await
    }

    /// Upgrades a connection that is already there.
    pub async fn over(mut client: Client, host: &str, path: &str) -> Self {
        client.send(handshake(host, path)).await;
        let response = client.head().await;
        assert_eq!(response.status, 101, "{response}");
        assert_eq!(response.headers.get("sec-websocket-accept"), Some(ACCEPT));
        assert_eq!(response.headers.get("upgrade"), Some("websocket"));
        Self::opened(client)
    }

    /// A connection on which the upgrade has been granted.
    pub fn opened(client: Client) -> Self {
        Self { client, buffer: BytesMut::new() }
    }

    /// Ends the sending direction.
    pub async fn half_close(&mut self) {
        self.client.half_close().await;
    }

    /// Sends a text message.
    pub async fn send(&mut self, text: &str) {
        self.client.send(frame(Opcode::Text, text.as_bytes(), true)).await;
    }

    /// Sends any frame.
    pub async fn send_frame(&mut self, opcode: Opcode, payload: &[u8]) {
        self.client.send(frame(opcode, payload, true)).await;
    }

    /// The next frame; `None` at the end of the connection.
    pub async fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = parse(&mut self.buffer) {
                return Some(frame);
            }
            let bytes = self.client.some().await.expect("a frame in time");
            if bytes.is_empty() {
                return None;
            }
            self.buffer.extend_from_slice(&bytes);
        }
    }

    /// Sends a text message and checks that it comes back.
    #[track_caller]
    pub fn round_trip(&mut self, text: &str) -> impl Future<Output = ()> {
        let caller = std::panic::Location::caller();
        async move {
            self.send(text).await;
            let back = self.next().await;
            assert_eq!(
                back.as_ref().map(|frame| String::from_utf8_lossy(&frame.payload)),
                Some(text.into()),
                "the websocket answers ({caller})"
            );
        }
    }
}

/// The bytes of an opening handshake.
pub fn handshake(host: &str, path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
}

/// A back end's half of the handshake; `None` when the request is no such one.
pub async fn accept_websocket(conn: &mut Conn) -> Option<Seen> {
    let seen = conn.head().await?;
    let upgrade = seen.headers.get("upgrade").unwrap_or_default();
    if !upgrade.eq_ignore_ascii_case("websocket") {
        conn.send("HTTP/1.1 426 Upgrade Required\r\nContent-Length: 0\r\n\r\n").await;
        return None;
    }
    conn.send(consent()).await;
    Some(seen)
}

/// The bytes that grant a handshake.
pub fn consent() -> String {
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Accept: {ACCEPT}\r\n\r\n"
    )
}

/// Sends every frame back until a close, which it answers.
pub async fn echo_frames(mut conn: Conn) {
    let mut buffer = BytesMut::new();
    loop {
        let bytes = conn.some().await;
        if bytes.is_empty() {
            return;
        }
        buffer.extend_from_slice(&bytes);
        while let Some(Frame { opcode, payload }) = parse(&mut buffer) {
            let kind = match opcode {
                1 => Opcode::Text,
                2 => Opcode::Binary,
                _ => Opcode::Close,
            };
            conn.send(frame(kind, &payload, false)).await;
            if kind == Opcode::Close {
                return;
            }
        }
    }
}
