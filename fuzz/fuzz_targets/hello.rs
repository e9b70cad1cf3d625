//! The reader of ClientHellos against every way to cut what it reads, and against rustls.
//!
//! The first byte says how much of a sound ClientHello stands around the rest, so that no corpus is
//! needed to get to the names.

#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis::server::hello::{Hello, parse};
use rustls::server::Acceptor;

fuzz_target!(|data: &[u8]| {
    let Some((&shape, rest)) = data.split_first() else { return };
    let bytes = match shape % 4 {
        0 => rest.to_vec(),
        1 => records(&message(rest), shape / 4),
        2 => records(&message(&body(rest)), shape / 4),
        _ => records(&message(&body(&server_name(rest))), shape / 4),
    };
    let whole = parse(&bytes);
    // What is known of the first bytes holds whatever follows.
    let mut known = Hello::Unfinished;
    for end in 0..=bytes.len() {
        let now = parse(&bytes[..end]);
        if known != Hello::Unfinished {
            assert_eq!(now, known, "{end} of {bytes:?}");
        }
        known = now;
    }
    assert_eq!(known, whole);
    // Nobody is passed on by a name that TLS would not have heard.
    if let (Hello::Named(ours), Some(theirs)) = (whole, by_rustls(&bytes)) {
        assert_eq!(ours.as_deref(), theirs.as_deref(), "{bytes:?}");
    }
});

/// What rustls hears; `None` where that is no ClientHello, or not all of it.
fn by_rustls(mut bytes: &[u8]) -> Option<Option<String>> {
    let mut acceptor = Acceptor::default();
    while !bytes.is_empty() && acceptor.read_tls(&mut bytes).ok()? > 0 {}
    let accepted = acceptor.accept().ok()??;
    Some(accepted.client_hello().server_name().map(str::to_ascii_lowercase))
}

/// A handshake message in records of so many bytes; 0 is one record, as far as one goes.
fn records(message: &[u8], size: u8) -> Vec<u8> {
    let size = if size == 0 { 1 << 14 } else { usize::from(size) };
    let mut bytes = Vec::new();
    for piece in message.chunks(size) {
        bytes.extend([22, 3, 1]);
        bytes.extend((piece.len() as u16).to_be_bytes());
        bytes.extend(piece);
    }
    bytes
}

/// A ClientHello.
fn message(body: &[u8]) -> Vec<u8> {
    let size = (body.len() as u32).to_be_bytes();
    [&[1, size[1], size[2], size[3]], body].concat()
}

/// The body of one with these extensions, and with those that rustls wants to see.
fn body(extensions: &[u8]) -> Vec<u8> {
    const ALGORITHMS: [u8; 8] = [0, 13, 0, 4, 0, 2, 4, 3];
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.extend([0, 0, 2, 0xc0, 0x2b, 1, 0]);
    body.extend(vector(&[extensions, &ALGORITHMS].concat()));
    body
}

/// A server name extension with these entries.
fn server_name(entries: &[u8]) -> Vec<u8> {
    [&[0, 0][..], &vector(&vector(entries))].concat()
}

fn vector(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u16).to_be_bytes()[..], bytes].concat()
}
