//! The PROXY protocol in front of connections, versions 1 and 2.

use crate::harness::*;

async fn proxy(app: &Backend, trusted: &str) -> Proxy {
    Proxy::start(
        &format!(
            r#"
listeners: {{ web: {{ bind: "@web@", proxy_protocol: {{ trusted: [{trusted}] }} }} }}
hosts: {{ "*": {{ routes: [ {{ path: /, upstream: app }} ] }} }}
upstreams: {{ app: {{ endpoints: ["@app@"] }} }}
"#
        ),
        &[("app", &app.address())],
    )
    .await
}

/// A version 2 header: command and family, then the addresses and TLVs.
fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let mut bytes = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    bytes.extend_from_slice(&[0x20 | command, family]);
    bytes.extend_from_slice(&(rest.len() as u16).to_be_bytes());
    bytes.extend_from_slice(rest);
    bytes
}

fn v4_addresses() -> Vec<u8> {
    let mut bytes = vec![203, 0, 113, 9, 10, 0, 0, 1];
    bytes.extend_from_slice(&4711_u16.to_be_bytes());
    bytes.extend_from_slice(&80_u16.to_be_bytes());
    bytes
}

#[tokio::test]
async fn the_header_says_who_the_client_is() {
    let app = Backend::saying("fine").await;
    let proxy = proxy(&app, "127.0.0.0/8").await;
    let with_tlv = [v4_addresses(), vec![0x03, 0, 4, 1, 2, 3, 4]].concat();
    let mut v6 = vec![0; 36];
    v6[..4].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
    v6[15] = 7;
    let rows: Vec<(&str, Vec<u8>, &str)> = vec![
        ("v1", b"PROXY TCP4 203.0.113.9 10.0.0.1 4711 80\r\n".to_vec(), "203.0.113.9"),
        ("v1 IPv6", b"PROXY TCP6 2001:db8::7 ::1 4711 80\r\n".to_vec(), "2001:db8::7"),
        ("v1 unknown", b"PROXY UNKNOWN\r\n".to_vec(), "127.0.0.1"),
        ("v2", v2(1, 0x11, &v4_addresses()), "203.0.113.9"),
        ("v2 with TLVs", v2(1, 0x11, &with_tlv), "203.0.113.9"),
        ("v2 IPv6", v2(1, 0x21, &v6), "2001:db8::7"),
        ("v2 local", v2(0, 0, &[]), "127.0.0.1"),
    ];
    for (name, header, expected) in rows {
        // In one segment with the request, and byte by byte.
        for trickled in [false, true] {
            let mut client = Client::connect(proxy.web()).await;
            if trickled {
                for byte in &header {
                    client.send([*byte]).await;
                }
                client.send("GET / HTTP/1.1\r\nHost: t\r\n\r\n").await;
            } else {
                let request = b"GET / HTTP/1.1\r\nHost: t\r\n\r\n".as_slice();
                client.send([&header, request].concat()).await;
            }
            assert_eq!(client.response().await.text(), "fine", "{name}");
            let seen = app.last().headers;
            assert_eq!(seen.joined("x-forwarded-for"), expected, "{name}");
            assert_eq!(seen.joined("x-real-ip"), expected, "{name}");
            let again = client.request("GET", "t", "/again").await;
            assert_eq!(again.text(), "fine", "{name}");
        }
    }
}

#[tokio::test]
async fn a_bad_or_missing_header_closes_the_connection() {
    let app = Backend::saying("fine").await;
    let proxy = proxy(&app, "127.0.0.0/8").await;
    let mut bad_tlv = v4_addresses();
    bad_tlv.extend_from_slice(&[0x03, 0xff, 0xff, 1]);
    let mut short = v2(1, 0x11, &v4_addresses());
    short[15] = 4;
    let rows: Vec<(&str, Vec<u8>)> = vec![
        ("none", b"".to_vec()),
        ("v1 port", b"PROXY TCP4 203.0.113.9 10.0.0.1 99999 80\r\n".to_vec()),
        ("v1 address", b"PROXY TCP4 203.0.113 10.0.0.1 4711 80\r\n".to_vec()),
        ("v1 family", b"PROXY TCP6 203.0.113.9 10.0.0.1 4711 80\r\n".to_vec()),
        ("v1 words", b"PROXY TCP4 203.0.113.9\r\n".to_vec()),
        ("v1 LF", b"PROXY TCP4 203.0.113.9 10.0.0.1 4711 80\n".to_vec()),
        ("v1 too long", [b"PROXY UNKNOWN ".to_vec(), vec![b'x'; 200], b"\r\n".to_vec()].concat()),
        ("v2 command", v2(7, 0x11, &v4_addresses())),
        ("v2 too short", short),
        ("v2 TLV past the end", v2(1, 0x11, &bad_tlv)),
    ];
    for (name, header) in rows {
        let mut client = Client::connect(proxy.web()).await;
        let request = b"GET / HTTP/1.1\r\nHost: t\r\n\r\n".as_slice();
        let _ = client.try_send([&header, request].concat()).await;
        match client.try_response(false).await {
            Err(Broken::Closed) => {}
            Ok(response) if response.status == 400 => {}
            other => panic!("{name}: {other:?}"),
        }
    }
    assert_eq!(app.bytes(), 0);
    assert!(proxy.metrics().await.sum("portcullis_rejected_requests_total", &[]) >= 10.0);
}

#[tokio::test]
async fn a_peer_that_is_not_trusted_is_refused_with_or_without_a_header() {
    let app = Backend::saying("fine").await;
    let proxy = proxy(&app, "192.0.2.0/24").await;
    for header in ["PROXY TCP4 203.0.113.9 10.0.0.1 4711 80\r\n", ""] {
        let mut client = Client::connect(proxy.web()).await;
        let _ = client.try_send(format!("{header}GET / HTTP/1.1\r\nHost: t\r\n\r\n")).await;
        match client.try_response(false).await {
            Err(Broken::Closed) => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(app.bytes(), 0);
}

#[tokio::test]
async fn the_header_stands_before_tls() {
    let ca = Ca::new();
    let pair = ca.server(&["shop.example"]);
    let app = Backend::saying("fine").await;
    let setup = Setup::new(
        r#"
listeners:
  secure:
    bind: "@secure@"
    proxy_protocol: { trusted: [127.0.0.1] }
    tls: { certificates: [ { cert: shop.pem, key: shop.key } ] }
hosts: { "*": { routes: [ { path: /, upstream: app } ] } }
upstreams: { app: { endpoints: ["@app@"] } }
"#,
    );
    let setup = setup.with("app", app.address()).file("shop.pem", pair.cert);
    let proxy = setup.file("shop.key", pair.key).start().await;
    let mut stream =
        tokio::net::TcpStream::connect(proxy.addr("secure")).await.expect("it listens");
    let header = v2(1, 0x11, &v4_addresses());
    tokio::io::AsyncWriteExt::write_all(&mut stream, &header).await.expect("it reads");
    let tls = TlsClient::new(&ca, "shop.example", &["http/1.1"]);
    let stream = within(STEP, "the handshake", tls.over(stream)).await.expect("it succeeds");
    let mut client = Client::over(stream);
    assert_eq!(client.request("GET", "shop.example", "/").await.text(), "fine");
    assert_eq!(app.last().headers.joined("x-forwarded-for"), "203.0.113.9");
}
