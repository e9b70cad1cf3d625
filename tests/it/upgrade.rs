//! WebSocket and other upgrades, over HTTP/1 and by extended CONNECT over HTTP/2.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use h2::ext::Protocol;
use http::{Method, Request};
use tokio::net::TcpListener;

use crate::harness::*;

async fn websocket_backend() -> Backend {
    Backend::script(|mut conn| async move {
        if accept_websocket(&mut conn).await.is_some() {
            echo_frames(conn).await;
        }
    })
    .await
}

#[tokio::test]
async fn a_websocket_passes_messages_both_ways() {
    let app = websocket_backend().await;
    let proxy = Proxy::to(app.address()).await;
    let mut socket = WebSocket::connect(proxy.web(), "chat.example", "/room?id=1").await;
    socket.round_trip("hello").await;
    let long = "x".repeat(200_000);
    socket.round_trip(&long).await;
    socket.send_frame(Opcode::Close, b"\x03\xe8").await;
    let close = socket.next().await.expect("the close is answered");
    assert_eq!((close.opcode, close.payload.as_slice()), (8, &b"\x03\xe8"[..]));
    assert_eq!(socket.next().await, None, "then the connection ends");
    let seen = app.last();
    assert_eq!(seen.target, "/room?id=1");
    assert_eq!(seen.headers.get("sec-websocket-version"), Some("13"));
    assert!(seen.headers.joined("connection").to_ascii_lowercase().contains("upgrade"));
    assert_eq!(seen.headers.get("host"), Some("chat.example"));
    assert!(seen.headers.has("x-forwarded-for"));
}

#[tokio::test]
async fn frames_sent_right_behind_the_handshake_are_not_lost() {
    let app = websocket_backend().await;
    let proxy = Proxy::to(app.address()).await;
    let mut client = Client::connect(proxy.web()).await;
    client
        .send(
            [
                b"GET / HTTP/1.1\r\nHost: t\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                  Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
                    .to_vec(),
                frame(Opcode::Text, b"early", true),
            ]
            .concat(),
        )
        .await;
    assert_eq!(client.head().await.status, 101);
    let mut buffer = BytesMut::new();
    let echoed = loop {
        buffer.extend_from_slice(&client.some().await.expect("the frame comes back"));
        if let Some(frame) = parse(&mut buffer) {
            break frame;
        }
    };
    assert_eq!(echoed.payload, b"early");
}

#[tokio::test]
async fn a_refused_upgrade_stays_http() {
    let app = Backend::script(|mut conn| async move {
        while let Some(seen) = conn.request().await {
            let answer = match seen.target.as_str() {
                "/426" => {
                    "HTTP/1.1 426 Upgrade Required\r\nUpgrade: foo\r\nContent-Length: 0\r\n\r\n"
                }
                _ => "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nplain",
            };
            conn.send(answer).await;
        }
    })
    .await;
    let proxy = Proxy::to(app.address()).await;
    let mut client = Client::connect(proxy.web()).await;
    client
        .send(
            "GET /426 HTTP/1.1\r\nHost: t\r\nConnection: Upgrade\r\nUpgrade: foo\r\n\r\n\
             GET /next HTTP/1.1\r\nHost: t\r\n\r\n",
        )
        .await;
    assert_eq!(client.response().await.status, 426);
    assert_eq!(client.response().await.text(), "plain");
    let targets: Vec<_> = app.requests().into_iter().map(|seen| seen.target).collect();
    assert_eq!(targets, ["/426", "/next"], "the second request was parsed, not tunnelled");
}

#[tokio::test]
async fn other_protocols_are_tunnelled_as_bytes_and_each_direction_ends_on_its_own() {
    let app = Backend::script(|mut conn| async move {
        let Some(seen) = conn.head().await else { return };
        assert_eq!(seen.headers.get("upgrade"), Some("line-echo/1"));
        conn.send(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: line-echo/1\r\n\r\n\
             welcome\r\n",
        )
        .await;
        while let Some(line) = conn.line().await {
            conn.send(format!("{line}!\r\n")).await;
        }
        conn.send("bye\r\n").await;
    })
    .await;
    let proxy = Proxy::to(app.address()).await;
    let mut client = Client::connect(proxy.web()).await;
    client
        .send("GET / HTTP/1.1\r\nHost: t\r\nConnection: upgrade\r\nUpgrade: line-echo/1\r\n\r\n")
        .await;
    let head = client.head().await;
    assert_eq!((head.status, head.headers.get("upgrade")), (101, Some("line-echo/1")));
    assert_eq!(client.exactly(9).await.expect("bytes").as_deref(), Some(&b"welcome\r\n"[..]));
    client.send("a\r\n").await;
    assert_eq!(client.exactly(4).await.expect("bytes").as_deref(), Some(&b"a!\r\n"[..]));
    client.send("b\r\n").await;
    client.half_close().await;
    let rest = client.exactly(9).await.expect("bytes");
    assert_eq!(rest.as_deref(), Some(&b"b!\r\nbye\r\n"[..]), "what follows a half-close arrives");
    client.closed().await;
}

#[tokio::test]
async fn a_tunnel_ends_when_the_back_end_ends_it() {
    let app = Backend::script(|mut conn| async move {
        if accept_websocket(&mut conn).await.is_some() {
            conn.send(frame(Opcode::Text, b"last words", false)).await;
        }
    })
    .await;
    let proxy = Proxy::to(app.address()).await;
    let mut socket = WebSocket::connect(proxy.web(), "t", "/").await;
    assert_eq!(socket.next().await.expect("a frame").payload, b"last words");
    assert_eq!(socket.next().await, None);
}

#[tokio::test]
async fn switching_protocols_unasked_is_an_upstream_fault() {
    let app = Backend::answering(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: foo\r\n\r\nsecret",
    )
    .await;
    let proxy = Proxy::to(app.address()).await;
    let response = get(proxy.web(), "t", "/").await;
    response.assert_refused(502, "upstream_protocol");
    eventually(STEP, "the connection is dropped", async || app.open() == 0).await;
}

#[tokio::test]
async fn an_upgrade_that_would_carry_http_past_the_proxy_is_ignored() {
    let app = Backend::saying("plain").await;
    let proxy = Proxy::to(app.address()).await;
    let mut client = Client::connect(proxy.web()).await;
    let lists = [
        "h2c",
        "websocket, H2C",
        "h2c-14",
        "HTTP/2.0",
        "TLS/1.2, HTTP/1.1",
        "websocket, tls/1.0",
        "websocket\r\nUpgrade: h2c",
        // No list of protocols (RFC 9110 section 7.8): others may read it otherwise.
        "websocket; h2c",
        "\"h2c\"",
        "web socket",
    ];
    for list in lists {
        client
            .send(format!(
                "GET / HTTP/1.1\r\nHost: t\r\nConnection: Upgrade, HTTP2-Settings\r\n\
                 Upgrade: {list}\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n"
            ))
            .await;
        let response = client.response().await;
        assert_eq!((response.status, response.text().as_str()), (200, "plain"), "{list}");
        let seen = app.last();
        assert!(!seen.headers.has("http2-settings"), "{list}: {seen:?}");
        assert!(!seen.headers.has("upgrade"), "{list}: {seen:?}");
    }
}

#[tokio::test]
async fn an_extended_connect_that_would_carry_http_past_the_proxy_is_refused() {
    let app = Backend::answering(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\nsecret",
    )
    .await;
    let proxy = Proxy::to(app.address()).await;
    let mut h2 = H2::connect(proxy.web()).await;
    h2.get("t", "/warm-up").await;
    let before = app.requests().len();
    let refused = [
        ("h2c", 501),
        ("H2C", 501),
        ("h2c-14", 501),
        ("HTTP", 501),
        ("tls", 501),
        ("websocket, h2c", 400),
        ("HTTP/2.0", 400),
        ("websocket ", 400),
        ("", 400),
    ];
    for (protocol, status) in refused {
        let mut request = Request::builder()
            .method(Method::CONNECT)
            .uri(authority("t", "/public"))
            .header("http2-settings", "AAMAAABkAAQAAP__")
            .body(())
            .expect("a request");
        request.extensions_mut().insert(Protocol::from(protocol));
        let response = h2.try_request(request, None, None).await;
        match response {
            Ok(response) => assert_eq!(response.status, status, "{protocol:?}"),
            Err(error) => assert!(status == 400 && error.is_reset(), "{protocol:?}: {error}"),
        }
    }
    assert_eq!(app.requests().len(), before, "nothing was forwarded");
}

#[tokio::test]
async fn a_websocket_over_http_2_reaches_an_http_1_back_end() {
    let app = websocket_backend().await;
    let proxy = Proxy::to(app.address()).await;
    let mut h2 = H2::connect(proxy.web()).await;
    // The server's settings tell that it knows extended CONNECT (RFC 8441 section 3).
    h2.get("t", "/warm-up").await;
    assert!(h2.send.is_extended_connect_protocol_enabled(), "RFC 8441 is offered");
    let mut request = Request::builder()
        .method(Method::CONNECT)
        .uri(authority("chat.example", "/room?id=2"))
        .header("sec-websocket-version", "13")
        .body(())
        .expect("a request");
    request.extensions_mut().insert(Protocol::from_static("websocket"));
    let (response, send) = h2.open(request, false).await.expect("a stream");
    let response = within(STEP, "the tunnel opens", response).await.expect("a response");
    assert_eq!(response.status(), 200);
    let mut tunnel = H2Tunnel::new(send, response.into_body());
    for text in ["one", "two", &"y".repeat(70_000)] {
        tunnel.send(frame(Opcode::Text, text.as_bytes(), true));
        let back = loop {
            if let Some(frame) = parse(&mut tunnel.buffer) {
                break frame;
            }
            assert!(tunnel.fill().await, "the tunnel stays open");
        };
        assert_eq!(back.payload, text.as_bytes());
    }
    let seen = app.last();
    assert_eq!((seen.method.as_str(), seen.target.as_str()), ("GET", "/room?id=2"));
    assert_eq!(seen.headers.get("upgrade"), Some("websocket"));
    assert_eq!(seen.headers.get("host"), Some("chat.example"));
    assert_eq!(
        seen.headers.get("sec-websocket-key").map(str::len),
        Some(24),
        "the key that HTTP/2 does without is made for HTTP/1"
    );
    // Other streams of the connection go on meanwhile.
    assert_eq!(h2.get("t", "/other").await.status, 426);
    tunnel.finish();
    while tunnel.fill().await {}
}

#[tokio::test]
async fn a_tunnel_in_which_nothing_moves_is_closed_after_its_time() {
    let app = websocket_backend().await;
    let proxy = Proxy::start(
        r#"
listeners: { web: { bind: "@web@" } }
hosts: { "*": { routes: [ { path: /, upstream: app, timeouts: { tunnel_idle: 1s } } ] } }
upstreams: { app: { endpoints: ["@app@"] } }
"#,
        &[("app", &app.address())],
    )
    .await;
    let mut socket = WebSocket::connect(proxy.web(), "t", "/").await;
    let start = std::time::Instant::now();
    let mut last = start;
    while start.elapsed() < Duration::from_millis(1500) {
        last = std::time::Instant::now();
        socket.round_trip("busy").await;
        pass(Duration::from_millis(300)).await;
    }
    assert_eq!(socket.next().await, None, "silence ends it");
    assert!(last.elapsed() >= Duration::from_secs(1), "not before its time");
    assert!(last.elapsed() <= Duration::from_millis(3000), "nor much later");
}

/// A back end that speaks only HTTP/2, and sends back every WebSocket frame of an extended
/// CONNECT where `takes_connect`; the heads it saw go into the list.
async fn http2_backend(takes_connect: bool) -> (SocketAddr, Arc<Mutex<Vec<Request<()>>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let seen = Arc::new(Mutex::new(Vec::new()));
    let heads = Arc::clone(&seen);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let mut builder = h2::server::Builder::new();
            if takes_connect {
                builder.enable_connect_protocol();
            }
            let Ok(mut connection) = builder.handshake::<_, Bytes>(stream).await else { continue };
            let heads = Arc::clone(&heads);
            tokio::spawn(async move {
                while let Some(Ok((request, respond))) = connection.accept().await {
                    let (parts, body) = request.into_parts();
                    let head = Request::from_parts(parts, ());
                    heads.lock().expect("no holder panics").push(head.clone());
                    tokio::spawn(serve_http2(head, body, respond));
                }
            });
        }
    });
    (address, seen)
}

async fn serve_http2(
    head: Request<()>,
    mut body: h2::RecvStream,
    mut respond: h2::server::SendResponse<Bytes>,
) {
    let mut response = http::Response::builder().header("sec-websocket-protocol", "chat");
    if head.uri().path() == "/closed" {
        response = response.status(403);
    }
    let response = response.body(()).expect("a response");
    let Ok(mut send) = respond.send_response(response, head.uri().path() == "/closed") else {
        return;
    };
    if head.method() != Method::CONNECT {
        let _ = send.send_data(Bytes::from_static(b"plain"), true);
        return;
    }
    let mut buffer = BytesMut::new();
    while let Some(Ok(data)) = body.data().await {
        let _ = body.flow_control().release_capacity(data.len());
        buffer.extend_from_slice(&data);
        while let Some(frame) = parse(&mut buffer) {
            let opcode = if frame.opcode == 8 { Opcode::Close } else { Opcode::Text };
            let back = self::frame(opcode, &frame.payload, false);
            let _ = send.send_data(back.into(), false);
        }
    }
    let _ = send.send_data(frame(Opcode::Text, b"bye", false).into(), true);
}

fn to_http2(address: SocketAddr) -> String {
    format!(
        r#"
access_log: true
listeners: {{ web: {{ bind: "@web@" }} }}
hosts: {{ "*": {{ routes: [ {{ path: /, upstream: app }} ] }} }}
upstreams: {{ app: {{ protocol: h2c, endpoints: ["{address}"] }} }}
"#
    )
}

#[tokio::test]
async fn a_websocket_of_an_http_1_client_reaches_a_back_end_that_speaks_only_http_2() {
    let (address, seen) = http2_backend(true).await;
    let proxy = Proxy::start(&to_http2(address), &[]).await;
    let mut client = Client::connect(proxy.web()).await;
    // Sent right behind the handshake: must neither get lost nor be taken for a request.
    let early = frame(Opcode::Text, b"early", true);
    client.send([handshake("chat.example", "/room?id=3").into_bytes(), early].concat()).await;
    let head = client.head().await;
    assert_eq!(head.status, 101, "{head}");
    assert_eq!(head.headers.get("upgrade"), Some("websocket"));
    assert_eq!(head.headers.get("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    assert_eq!(head.headers.get("sec-websocket-protocol"), Some("chat"));
    assert!(!head.headers.has("transfer-encoding") && !head.headers.has("content-length"));
    let mut socket = WebSocket::opened(client);
    assert_eq!(socket.next().await.expect("a frame").payload, b"early");
    socket.round_trip("hello").await;
    socket.round_trip(&"z".repeat(300_000)).await;
    {
        let seen = seen.lock().expect("no holder panics");
        let head = seen.last().expect("it saw the request");
        assert_eq!(head.method(), Method::CONNECT);
        assert_eq!(head.extensions().get::<Protocol>().map(Protocol::as_str), Some("websocket"));
        assert_eq!(head.uri().path_and_query().map(|target| target.as_str()), Some("/room?id=3"));
        assert_eq!(head.uri().authority().map(|host| host.as_str()), Some("chat.example"));
        assert_eq!(
            head.headers().get("sec-websocket-version").map(|v| v.as_bytes()),
            Some(&b"13"[..])
        );
        assert!(!head.headers().contains_key("sec-websocket-key"), "HTTP/2 does without one");
        assert!(head.headers().contains_key("x-forwarded-for"));
    }
    // Each direction ends on its own: what follows the client's end still arrives.
    socket.half_close().await;
    assert_eq!(socket.next().await.expect("a frame").payload, b"bye");
    assert_eq!(socket.next().await, None);
    let line = proxy.stdout_line("a line", |line| line.contains("/room")).await;
    let entry: serde_json::Value = serde_json::from_str(&line).expect("JSON");
    assert_eq!((&entry["status"], &entry["reason"]), (&101.into(), &"-".into()), "{entry}");
}

#[tokio::test]
async fn a_websocket_that_an_http_2_back_end_refuses_stays_http() {
    let (address, _) = http2_backend(true).await;
    let proxy = Proxy::start(&to_http2(address), &[]).await;
    let mut client = Client::connect(proxy.web()).await;
    client.send(handshake("t", "/closed") + "GET /next HTTP/1.1\r\nHost: t\r\n\r\n").await;
    assert_eq!(client.response().await.status, 403);
    assert_eq!(client.response().await.text(), "plain");
}

#[tokio::test]
async fn an_upgrade_an_http_2_back_end_cannot_take_is_a_502_with_its_reason() {
    let (address, seen) = http2_backend(false).await;
    let proxy = Proxy::start(&to_http2(address), &[]).await;
    let mut client = Client::connect(proxy.web()).await;
    client.send(handshake("t", "/")).await;
    client.response().await.assert_refused(502, "upgrade_unsupported");
    // Only WebSocket has a form of its own in HTTP/2.
    let (address, others) = http2_backend(true).await;
    let proxy = Proxy::start(&to_http2(address), &[]).await;
    let mut client = Client::connect(proxy.web()).await;
    client.send("GET / HTTP/1.1\r\nHost: t\r\nConnection: upgrade\r\nUpgrade: foo\r\n\r\n").await;
    client.response().await.assert_refused(502, "upgrade_unsupported");
    // A handshake without its key could not be answered.
    client
        .send("GET / HTTP/1.1\r\nHost: t\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
        .await;
    client.response().await.assert_refused(400, "bad_request");
    for seen in [seen, others] {
        assert!(seen.lock().expect("no holder panics").is_empty(), "nothing was forwarded");
    }
}
