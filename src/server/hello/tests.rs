//! The parser against clients, against every way to cut what they say, and against rustls.

use std::sync::Arc;

use proptest::prelude::*;
use rustls::pki_types::ServerName;
use rustls::server::Acceptor;
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use super::*;

/// The first words of a client that asks for `name`.
fn hello(name: &str) -> Vec<u8> {
    let config = ClientConfig::builder_with_provider(Arc::new(
        rustls::crypto::aws_lc_rs::default_provider(),
    ));
    let config = config.with_safe_default_protocol_versions().expect("versions");
    let config = config.with_root_certificates(RootCertStore::empty()).with_no_client_auth();
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    let mut client = ClientConnection::new(Arc::new(config), name).expect("a client");
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).expect("a ClientHello");
    bytes
}

fn named(name: &str) -> Hello {
    Hello::Named(Some(name.into()))
}

/// A record of type `kind`.
fn record(kind: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).expect("a record");
    [&[kind, 3, 1][..], &length.to_be_bytes(), payload].concat()
}

/// A ClientHello with these extensions.
fn with_extensions(extensions: &[u8]) -> Vec<u8> {
    let length = u16::try_from(extensions.len()).expect("extensions");
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.extend([0, 0, 2, 0x13, 0x01, 1, 0]);
    body.extend(length.to_be_bytes());
    body.extend(extensions);
    let size = u32::try_from(body.len()).expect("a message").to_be_bytes();
    record(22, &[&[1, size[1], size[2], size[3]][..], &body].concat())
}

/// A server name extension with these entries.
fn server_names(entries: &[(u8, &[u8])]) -> Vec<u8> {
    let vector = |bytes: &[u8]| [&(bytes.len() as u16).to_be_bytes()[..], bytes].concat();
    let list: Vec<u8> =
        entries.iter().flat_map(|(kind, name)| [&[*kind][..], &vector(name)].concat()).collect();
    [&[0, 0][..], &vector(&vector(&list))].concat()
}

/// What rustls hears.
fn by_rustls(mut bytes: &[u8]) -> Option<Option<String>> {
    let mut acceptor = Acceptor::default();
    while !bytes.is_empty() && acceptor.read_tls(&mut bytes).ok()? > 0 {}
    let accepted = acceptor.accept().ok()??;
    Some(accepted.client_hello().server_name().map(str::to_ascii_lowercase))
}

#[test]
fn the_name_is_known_with_the_last_byte_and_not_before() {
    let bytes = hello("Shop.Example");
    for end in 0..bytes.len() {
        assert_eq!(parse(&bytes[..end]), Hello::Unfinished, "{end} of {}", bytes.len());
    }
    assert_eq!(parse(&bytes), named("shop.example"));
    let more = [bytes, vec![1, 2, 3]].concat();
    assert_eq!(parse(&more), named("shop.example"));
}

#[test]
fn a_client_may_name_nobody() {
    assert_eq!(parse(&hello("192.0.2.1")), Hello::Named(None));
    assert_eq!(parse(&with_extensions(&[])), Hello::Named(None));
}

#[test]
fn what_is_no_hello_is_told_at_once() {
    for bytes in [
        &b"GET / HTTP/1.1\r\n"[..],
        b"\x00",
        b"\x16\x02",
        b"\x16\x03\x01\x00\x00",
        b"\x16\x03\x01\xff\xff",
        b"\x16\x03\x01\x00\x04\x02",
        b"\x80\x2e\x01\x03\x01",
    ] {
        assert_eq!(parse(bytes), Hello::Other, "{bytes:?}");
    }
}

#[test]
fn what_is_ambiguous_is_not_taken_for_a_name() {
    let name = || server_names(&[(0, b"a.example")]);
    assert_eq!(parse(&with_extensions(&name())), named("a.example"));
    for extensions in [
        [name(), server_names(&[(0, b"b.example")])].concat(),
        server_names(&[(0, b"a.example"), (0, b"b.example")]),
        server_names(&[(0, b"a.example"), (1, b"b.example")]),
        server_names(&[(1, b"a.example")]),
        server_names(&[(0, b"")]),
        server_names(&[(0, b"a\0.example")]),
        server_names(&[(0, "ä.example".as_bytes())]),
        server_names(&[]),
        [name(), vec![0]].concat(),
        vec![0, 0, 0, 0],
    ] {
        assert_eq!(parse(&with_extensions(&extensions)), Hello::Other, "{extensions:?}");
    }
}

proptest! {
    #[test]
    fn records_may_be_cut_anywhere(cuts in prop::collection::vec(1usize..80, 0..40)) {
        let whole = hello("shop.example");
        let mut rest = &whole[5..];
        let mut bytes = Vec::new();
        for cut in cuts {
            let (piece, after) = rest.split_at(cut.min(rest.len().saturating_sub(1)));
            if !piece.is_empty() {
                bytes.extend(record(22, piece));
            }
            rest = after;
        }
        bytes.extend(record(22, rest));
        prop_assert_eq!(parse(&bytes), named("shop.example"));
        prop_assert_eq!(parse(&bytes[..bytes.len() - 1]), Hello::Unfinished);
        prop_assert_eq!(by_rustls(&bytes), Some(Some("shop.example".to_owned())));
    }

    /// Whatever is said, rustls does not hear another name.
    #[test]
    fn a_name_is_the_one_that_rustls_hears(
        changes in prop::collection::vec((0usize..600, any::<u8>()), 0..6),
    ) {
        let mut bytes = hello("shop.example");
        for (at, byte) in changes {
            if let Some(place) = bytes.get_mut(at) {
                *place = byte;
            }
        }
        if let (Hello::Named(ours), Some(theirs)) = (parse(&bytes), by_rustls(&bytes)) {
            prop_assert_eq!(ours.as_deref(), theirs.as_deref());
        }
    }

    #[test]
    fn any_bytes_come_to_something(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = parse(&bytes);
        let _ = parse(&record(22, &[&[1, 0, 0, 200][..], &bytes].concat()));
    }
}
