//! What an attacker or a bad day does to the data path: each test is a fault that once was there.

use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::ext::Protocol;
use http::{HeaderMap, HeaderValue, Method, Request};

use crate::harness::{
    Backend, Client, H2, H2Tunnel, Proxy, STEP, Server, authority, eventually, get, pass,
    post_request, reserve, within,
};

const WEBSOCKET: &str = "Upgrade: websocket\r\nConnection: Upgrade\r\n";

/// A proxy in front of `app` whose one route also says `route`.
async fn with_route(app: std::net::SocketAddr, route: &str) -> Proxy {
    let config = format!(
        r#"
listeners: {{ web: {{ bind: "@web@" }} }}
hosts: {{ "*": {{ routes: [ {{ path: /, upstream: app, {route} }} ] }} }}
upstreams: {{ app: {{ endpoints: ["{app}"] }} }}
"#
    );
    Proxy::start(&config, &[]).await
}

#[tokio::test]
async fn an_upgrade_refused_before_its_body_ended_leaves_a_connection_that_goes_on() {
    let app = Backend::script(|mut conn| async move {
        while let Some(seen) = conn.head().await {
            // The answer begins before the body ends.
            conn.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n").await;
            let length = seen.headers.get("content-length").and_then(|l| l.parse().ok());
            conn.exactly(length.unwrap_or(0)).await;
            conn.send("0\r\n\r\n").await;
        }
    })
    .await;
    let proxy = Proxy::to(app.address()).await;
    let mut client = Client::connect(proxy.web()).await;
    let head = format!("POST / HTTP/1.1\r\nHost: t\r\n{WEBSOCKET}Content-Length: 6\r\n\r\nabc");
    client.send(head).await;
    client.head().await;
    assert_eq!(client.chunk().await.expect("a chunk"), b"a");
    client.send("def").await;
    assert!(client.chunk().await.expect("the last chunk").is_empty());
    assert_eq!(client.exactly(2).await.expect("its end").as_deref(), Some(&b"\r\n"[..]));
    let next = client.request("GET", "t", "/next").await;
    assert_eq!(next.status, 200, "the connection is not held for an upgrade that was refused");
}

#[tokio::test]
async fn http_1_0_cannot_ask_for_an_upgrade() {
    let app = Backend::script(|mut conn| async move {
        while let Some(seen) = conn.request().await {
            if seen.headers.has("upgrade") {
                conn.send("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n").await;
                return conn.stall().await;
            }
            conn.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
        }
    })
    .await;
    let proxy = Proxy::to(app.address()).await;
    let mut client = Client::connect(proxy.web()).await;
    client.send(format!("GET / HTTP/1.0\r\nHost: t\r\n{WEBSOCKET}\r\n")).await;
    let response = client.response().await;
    assert_eq!((response.status, response.text().as_str()), (200, "ok"), "RFC 9110 section 7.8");
    assert!(!app.last().headers.has("upgrade"));
}

fn websocket_request() -> Request<()> {
    let request = Request::builder().method(Method::CONNECT).uri(authority("t", "/chat"));
    let mut request = request.header("sec-websocket-version", "13").body(()).expect("a request");
    request.extensions_mut().insert(Protocol::from_static("websocket"));
    request
}

/// Switches to a protocol that sends back what it gets.
async fn echo_after_101() -> Backend {
    Backend::script(|mut conn| async move {
        while let Some(seen) = conn.request().await {
            if !seen.headers.has("upgrade") {
                conn.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
                continue;
            }
            conn.send("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n").await;
            loop {
                let bytes = conn.some().await;
                if bytes.is_empty() {
                    return;
                }
                conn.send(bytes).await;
            }
        }
    })
    .await
}

#[tokio::test]
async fn a_websocket_over_http_2_is_no_upload() {
    let app = echo_after_101().await;
    let proxy = with_route(app.address(), "body_limit: 8, timeouts: { idle: 200ms }").await;
    let mut h2 = H2::connect(proxy.web()).await;
    h2.get("t", "/").await;
    let (response, send) = h2.open(websocket_request(), false).await.expect("a stream");
    let response = within(STEP, "the tunnel opens", response).await.expect("a response");
    assert_eq!(response.status(), 200);
    let mut tunnel = H2Tunnel::new(send, response.into_body());
    pass(Duration::from_millis(600)).await;
    tunnel.send(b"more than eight bytes".to_vec());
    while tunnel.buffer.len() < 21 {
        assert!(tunnel.fill().await, "neither silence nor size of a body ends a tunnel");
    }
}

#[tokio::test]
async fn an_endpoint_that_does_not_switch_opens_no_websocket_over_http_2() {
    let app = Backend::saying("a plain page").await;
    let proxy = Proxy::to(app.address()).await;
    let mut h2 = H2::connect(proxy.web()).await;
    h2.get("t", "/").await;
    let (response, _send) = h2.open(websocket_request(), false).await.expect("a stream");
    let response = within(STEP, "an answer", response).await.expect("a response");
    assert_eq!(response.status(), 502, "200 would mean that the tunnel is open (RFC 8441)");
}

#[tokio::test]
async fn an_upload_over_http_2_that_is_not_answered_is_a_504_in_time() {
    let app = Server::http2(|request| async move {
        let _ = http_body_util::BodyExt::collect(request.into_body()).await;
        std::future::pending().await
    })
    .await;
    let config = format!(
        r#"
listeners: {{ web: {{ bind: "@web@" }} }}
hosts: {{ "*": {{ routes: [ {{ path: /, upstream: app, timeouts: {{ response: 300ms, idle: 15s }} }} ] }} }}
upstreams: {{ app: {{ protocol: h2c, endpoints: ["{}"] }} }}
"#,
        app.address()
    );
    let proxy = Proxy::start(&config, &[]).await;
    let mut h2 = H2::connect(proxy.web()).await;
    let (response, mut send) = h2.open(post_request("t", "/"), false).await.expect("a stream");
    send.send_data(Bytes::from_static(b"abc"), false).expect("an open stream");
    pass(Duration::from_millis(100)).await;
    send.send_data(Bytes::from_static(b"def"), true).expect("an open stream");
    let sent = Instant::now();
    let response = within(STEP, "an answer", response).await.expect("a response");
    assert_eq!(response.status(), 504);
    assert!(sent.elapsed() < Duration::from_secs(5), "{:?}", sent.elapsed());
}

#[tokio::test]
async fn trailers_cannot_smuggle_what_a_head_may_not_say() {
    let app = Backend::script(|mut conn| async move {
        while conn.request().await.is_some() {
            conn.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 5\r\nConnection: close\r\nX-Sum: 2\r\n\r\n").await;
        }
    })
    .await;
    let proxy = Proxy::to(app.address()).await;
    let mut h2 = H2::connect(proxy.web()).await;
    let mut trailers = HeaderMap::new();
    for name in
        ["content-length", "host", "authorization", "x-forwarded-for", "x_forwarded_for", "x-sum"]
    {
        trailers.insert(name, HeaderValue::from_static("1"));
    }
    let response = h2.request(post_request("t", "/"), Some(b"body"), Some(trailers)).await;
    assert_eq!(response.status, 200);
    let seen: Vec<_> = app.last().trailers.0.into_iter().map(|(name, _)| name).collect();
    assert_eq!(seen, ["x-sum"]);
    let back = response.trailers.expect("trailers");
    assert_eq!(back.keys().map(|name| name.as_str()).collect::<Vec<_>>(), ["x-sum"]);
    // An HTTP/1 client cannot say them either.
    let mut client = Client::connect(proxy.web()).await;
    client.send("POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-Forwarded-For: 1.2.3.4\r\nX-Sum: 3\r\n\r\n").await;
    assert_eq!(client.response().await.status, 200);
    let seen: Vec<_> = app.last().trailers.0.into_iter().map(|(name, _)| name).collect();
    assert_eq!(seen, ["x-sum"]);
}

#[tokio::test]
async fn a_trusted_proxy_may_pass_on_fields_that_only_begin_like_ours() {
    let app = Backend::saying("ok").await;
    let config = format!(
        r#"
listeners: {{ web: {{ bind: "@web@", trusted_proxies: ["127.0.0.0/8"] }} }}
hosts: {{ "*": {{ routes: [ {{ path: /, upstream: app }} ] }} }}
upstreams: {{ app: {{ endpoints: ["{}"] }} }}
"#,
        app.address()
    );
    let proxy = Proxy::start(&config, &[]).await;
    let mut client = Client::connect(proxy.web()).await;
    client
        .send(
            "GET / HTTP/1.1\r\nHost: t\r\nX-Client-Version: 7\r\nX-Client-Verify: SUCCESS\r\n\r\n",
        )
        .await;
    client.response().await;
    let seen = app.last();
    assert_eq!(seen.headers.get("x-client-version"), Some("7"));
    assert!(!seen.headers.has("x-client-verify"));
}

#[tokio::test]
async fn what_ends_a_request_is_told_and_not_what_its_first_attempt_met() {
    let silent = Backend::script(|mut conn| async move { conn.stall().await }).await;
    let refusing = reserve();
    let config = format!(
        r#"
listeners: {{ web: {{ bind: "@web@" }} }}
hosts: {{ "*": {{ routes: [ {{ path: /, upstream: app, body_limit: 5, timeouts: {{ response: 300ms }} }} ] }} }}
upstreams: {{ app: {{ balance: round_robin, endpoints: ["{refusing}", "{}"] }} }}
"#,
        silent.address()
    );
    let proxy = Proxy::start(&config, &[]).await;
    for _ in 0..4 {
        let mut client = Client::connect(proxy.web()).await;
        client.send("GET / HTTP/1.1\r\nHost: t\r\n\r\n").await;
        client.response().await.assert_refused(504, "response_timeout");
        let mut client = Client::connect(proxy.web()).await;
        client.send("POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nabcdef\r\n0\r\n\r\n").await;
        client.response().await.assert_refused(413, "body_too_large");
    }
}

#[tokio::test]
async fn a_listener_with_another_name_keeps_its_connections() {
    let app = Backend::saying("ok").await;
    let config = |name: &str| {
        format!(
            r#"
listeners: {{ {name}: {{ bind: "@web@" }} }}
hosts: {{ "*": {{ routes: [ {{ path: /, upstream: app }} ] }} }}
upstreams: {{ app: {{ endpoints: ["{}"] }} }}
"#,
            app.address()
        )
    };
    let mut proxy = Proxy::start(&config("web"), &[]).await;
    let mut client = Client::connect(proxy.web()).await;
    assert_eq!(client.request("GET", "t", "/").await.status, 200);
    for name in ["public", "web", "edge"] {
        proxy.rewrite(&config(name));
        let label = format!("listener=\"{name}\"");
        eventually(STEP, "the new name is in use", async || {
            assert_eq!(client.request("GET", "t", "/").await.status, 200, "{name}");
            get(proxy.web(), "t", "/").await;
            proxy.admin("/metrics").await.text().contains(&label)
        })
        .await;
        assert_eq!(client.request("GET", "t", "/").await.status, 200);
    }
}

#[tokio::test]
async fn an_idle_http_2_client_that_answers_no_ping_is_let_go() {
    let app = Backend::saying("ok").await;
    let config = format!(
        r#"
limits: {{ keep_alive: 200ms }}
listeners: {{ web: {{ bind: "@web@" }} }}
hosts: {{ "*": {{ routes: [ {{ path: /, upstream: app }} ] }} }}
upstreams: {{ app: {{ endpoints: ["{}"] }} }}
"#,
        app.address()
    );
    let proxy = Proxy::start(&config, &[]).await;
    let mut client = Client::connect(proxy.web()).await;
    client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await;
    within(STEP, "the proxy closes", async {
        while !client.some().await.expect("frames").is_empty() {}
    })
    .await;
}

#[tokio::test]
async fn the_first_websocket_to_an_http_2_endpoint_opens() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut server = h2::server::Builder::new();
                let handshake = server.enable_connect_protocol().handshake::<_, Bytes>(stream);
                let Ok(mut connection) = handshake.await else { return };
                let mut open = Vec::new();
                while let Some(Ok((request, mut respond))) = connection.accept().await {
                    let response = http::Response::new(());
                    open.push((request, respond.send_response(response, false)));
                }
            });
        }
    });
    let config = format!(
        r#"
listeners: {{ web: {{ bind: "@web@" }} }}
hosts: {{ "*": {{ routes: [ {{ path: /, upstream: app, timeouts: {{ idle: 200ms, request: 400ms }} }} ] }} }}
upstreams: {{ app: {{ protocol: h2c, endpoints: ["{address}"] }} }}
"#
    );
    let proxy = Proxy::start(&config, &[]).await;
    let mut h2 = H2::connect(proxy.web()).await;
    eventually(STEP, "the proxy's settings", async || {
        h2.send = h2.send.clone().ready().await.expect("open");
        h2.send.is_extended_connect_protocol_enabled()
    })
    .await;
    let (response, mut send) = h2.open(websocket_request(), false).await.expect("a stream");
    let response = within(STEP, "the tunnel opens", response).await.expect("a response");
    assert_eq!(response.status(), 200);
    let mut body = response.into_body();
    let silence = tokio::time::timeout(Duration::from_secs(1), body.data()).await;
    assert!(silence.is_err(), "a tunnel is not cut off like a body: {silence:?}");
    send.send_reset(h2::Reason::CANCEL);
}

#[tokio::test]
async fn head_of_a_resource_of_unknown_length_tells_no_length() {
    let app = Backend::script(|mut conn| async move {
        while let Some(_seen) = conn.request().await {
            conn.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await;
        }
    })
    .await;
    let proxy = Proxy::to(app.address()).await;
    let mut client = Client::connect(proxy.web()).await;
    let response = client.request("HEAD", "t", "/").await;
    assert_eq!(response.headers.get("content-length"), None, "{response}");
}

#[tokio::test]
async fn the_limit_on_connections_can_be_raised_while_running() {
    let app = Backend::saying("ok").await;
    let config = |most: usize| {
        format!(
            r#"
limits: {{ connections: {most} }}
listeners: {{ web: {{ bind: "@web@" }} }}
hosts: {{ "*": {{ routes: [ {{ path: /, upstream: app }} ] }} }}
upstreams: {{ app: {{ endpoints: ["{}"] }} }}
"#,
            app.address()
        )
    };
    let mut proxy = Proxy::start(&config(1), &[]).await;
    let mut first = Client::connect(proxy.web()).await;
    assert_eq!(first.request("GET", "t", "/").await.status, 200);
    let web = proxy.web();
    let serves_another = async || {
        let mut client = Client::connect(web).await;
        let sent = client.try_send("GET / HTTP/1.1\r\nHost: t\r\n\r\n").await;
        sent.is_ok() && client.try_response(false).await.is_ok()
    };
    assert!(!serves_another().await, "one is the most");
    proxy.rewrite(&config(2));
    eventually(STEP, "a second connection is served", serves_another).await;
}
