//! HTTP/2 from clients, over TLS and by prior knowledge, and towards upstreams.

use bytes::Bytes;
use http::{HeaderMap, Method, Request};

use crate::harness::*;

#[tokio::test]
async fn streams_of_one_connection_are_served_at_once() {
    let echo = Server::echo().await;
    let proxy = Proxy::to(echo.address()).await;
    let mut h2 = H2::connect(proxy.web()).await;
    let mut waiting = Vec::new();
    for number in 0..60 {
        let request = get_request("shop.example", &format!("/{number}?delay_ms=200"));
        let (response, _) = h2.open(request, true).await.expect("a stream");
        waiting.push(tokio::spawn(collect(response)));
    }
    let start = std::time::Instant::now();
    for (number, task) in waiting.into_iter().enumerate() {
        let response = within(STEP, "a response", task).await.expect("no panic").expect("whole");
        let echoed = response.echoed();
        assert_eq!(echoed.target, format!("/{number}?delay_ms=200"));
        assert_eq!(echoed.host, "shop.example");
        assert_eq!(echoed.version, "HTTP/1.1");
    }
    assert!(start.elapsed().as_secs_f64() < 6.0, "not one after the other: {:?}", start.elapsed());
}

#[tokio::test]
async fn requests_are_translated_to_http_1_and_back() {
    let app = Backend::answering(
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\n\
         Keep-Alive: timeout=5\r\nX-Kept: 1\r\n\r\nok",
    )
    .await;
    let proxy = Proxy::to(app.address()).await;
    let mut h2 = H2::connect(proxy.web()).await;
    let request = Request::get(authority("shop.example", "/a?b"))
        .header("cookie", "a=1")
        .header("cookie", "b=2")
        .header("te", "trailers")
        .header("x-forwarded-for", "6.6.6.6")
        .body(())
        .expect("a request");
    let response = h2.request(request, None, None).await;
    assert_eq!((response.status, response.text().as_str()), (200, "ok"));
    assert_eq!(response.header("x-kept"), Some("1"));
    for name in ["connection", "x-hop", "keep-alive", "transfer-encoding"] {
        assert_eq!(response.header(name), None, "{name}");
    }
    let seen = app.last();
    assert_eq!((seen.method.as_str(), seen.target.as_str()), ("GET", "/a?b"));
    assert_eq!(seen.headers.all("host").collect::<Vec<_>>(), ["shop.example"]);
    assert_eq!(seen.headers.all("cookie").collect::<Vec<_>>(), ["a=1; b=2"], "RFC 9113 8.2.3");
    assert_eq!(seen.headers.joined("x-forwarded-for"), "127.0.0.1");
    assert!(!seen.headers.has("content-length") && !seen.headers.has("transfer-encoding"));
}

#[tokio::test]
async fn bodies_of_known_and_unknown_length_arrive_with_one_framing() {
    let app = Backend::saying("stored").await;
    let proxy = Proxy::to(app.address()).await;
    let mut h2 = H2::connect(proxy.web()).await;

    assert_eq!(
        h2.request(post_request("t", "/unknown"), Some(b"hello"), None).await.text(),
        "stored"
    );
    let seen = app.last();
    assert_eq!(seen.body, b"hello");
    assert_eq!(seen.headers.joined("transfer-encoding"), "chunked");
    assert!(!seen.headers.has("content-length"));

    let known = Request::post(authority("t", "/known")).header("content-length", "5");
    let known = known.body(()).expect("a request");
    assert_eq!(h2.request(known, Some(b"hello"), None).await.text(), "stored");
    let seen = app.last();
    assert_eq!(seen.body, b"hello");
    assert_eq!(seen.headers.all("content-length").collect::<Vec<_>>(), ["5"]);
    assert!(!seen.headers.has("transfer-encoding"));

    // A GET that does not say it is over, and then is, is a GET without a body.
    let (response, mut stream) = h2.open(get_request("t", "/late-end"), false).await.expect("open");
    stream.send_data(Bytes::new(), true).expect("the stream is open");
    assert_eq!(collect(response).await.expect("a response").text(), "stored");
    assert_eq!(app.last().body, b"");
}

#[tokio::test]
async fn a_wrong_content_length_ends_the_stream_and_the_upstream_connection() {
    for (length, body) in [("3", &b"hello"[..]), ("9", &b"hello"[..])] {
        let app = Backend::saying("stored").await;
        let proxy = Proxy::to(app.address()).await;
        let mut h2 = H2::connect(proxy.web()).await;
        let request = Request::post(authority("t", "/")).header("content-length", length);
        let request = request.body(()).expect("a request");
        match h2.try_request(request, Some(body), None).await {
            Ok(response) => assert_eq!(response.status, 400, "{}", response.text()),
            Err(error) => assert_eq!(error.reason(), Some(h2::Reason::PROTOCOL_ERROR), "{error}"),
        }
        eventually(STEP, "the upstream connection is not used again", async || app.open() == 0)
            .await;
        assert_eq!(h2.get("t", "/next").await.text(), "stored", "other streams go on");
    }
}

#[tokio::test]
async fn trailers_pass_both_ways() {
    let app = Backend::script(|mut conn| async move {
        while let Some(seen) = conn.request().await {
            let sum = seen.trailers.get("x-sum").unwrap_or("none").to_owned();
            conn.send(format!(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Back\r\n\r\n\
                 2\r\nok\r\n0\r\nX-Back: {sum}\r\n\r\n"
            ))
            .await;
        }
    })
    .await;
    let proxy = Proxy::to(app.address()).await;
    let mut h2 = H2::connect(proxy.web()).await;
    let request = Request::post(authority("t", "/")).header("te", "trailers");
    let request = request.header("trailer", "x-sum").body(()).expect("a request");
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", "42".parse().expect("a value"));
    let response = h2.request(request, Some(b"body"), Some(trailers)).await;
    assert_eq!(response.text(), "ok");
    assert_eq!(response.trailer("x-back"), Some("42"));
}

#[tokio::test]
async fn early_hints_are_relayed() {
    let app = Backend::answering(
        "HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n\
         HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\npage",
    )
    .await;
    let proxy = Proxy::to(app.address()).await;
    let mut h2 = H2::connect(proxy.web()).await;
    let response = h2.get("t", "/").await;
    let hints: Vec<_> = response
        .interim
        .iter()
        .map(|hint| (hint.status().as_u16(), hint.headers().get("link").cloned()))
        .collect();
    assert_eq!(hints, [(103, Some("</style.css>".parse().expect("a value")))]);
    assert_eq!(response.text(), "page");
}

#[tokio::test]
async fn connect_and_trace_are_not_forwarded() {
    let app = Backend::saying("fine").await;
    let proxy = Proxy::to(app.address()).await;
    let mut h2 = H2::connect(proxy.web()).await;
    let connect = Request::builder().method(Method::CONNECT).uri("db.internal:5432");
    let response = h2.request(connect.body(()).expect("a request"), None, None).await;
    assert_eq!(response.status, 405);
    let trace = Request::builder().method(Method::TRACE).uri(authority("t", "/"));
    let response = h2.request(trace.body(()).expect("a request"), None, None).await;
    assert_eq!(response.status, 405);
    assert_eq!(app.connections(), 0);
}

#[tokio::test]
async fn a_host_field_beside_the_authority_must_agree() {
    let app = Backend::saying("fine").await;
    let proxy = Proxy::to(app.address()).await;
    let mut h2 = H2::connect(proxy.web()).await;
    let with_host = |host: &str| {
        Request::get(authority("a.example", "/")).header("host", host).body(()).expect("a request")
    };
    assert_eq!(h2.request(with_host("b.example"), None, None).await.status, 400);
    assert_eq!(app.connections(), 0);
    assert_eq!(h2.request(with_host("a.example"), None, None).await.status, 200);
    assert_eq!(app.last().headers.all("host").collect::<Vec<_>>(), ["a.example"]);
}

#[tokio::test]
async fn bad_authorities_and_paths_are_refused() {
    let app = Backend::saying("fine").await;
    let proxy = Proxy::to(app.address()).await;
    let mut h2 = H2::connect(proxy.web()).await;
    for uri in ["http://u@a.example/", "http://a.example:99999/", "http://a.example/%00"] {
        let Ok(request) = Request::get(uri).body(()) else { continue };
        match h2.try_request(request, None, None).await {
            Ok(response) => assert_eq!(response.status, 400, "{uri}"),
            Err(error) => assert!(error.reason().is_some(), "{uri}: {error}"),
        }
    }
    assert_eq!(app.connections(), 0);
}

#[tokio::test]
async fn http_2_can_be_turned_off() {
    let ca = Ca::new();
    let pair = ca.server(&["shop.example"]);
    let app = Backend::saying("fine").await;
    let setup = Setup::new(
        r#"
listeners:
  web: { bind: "@web@", http2: false }
  secure: { bind: "@secure@", http2: false, tls: { certificates: [ { cert: shop.pem, key: shop.key } ] } }
hosts: { "*": { routes: [ { path: /, upstream: app } ] } }
upstreams: { app: { endpoints: ["@app@"] } }
"#,
    );
    let setup =
        setup.with("app", app.address()).file("shop.pem", pair.cert).file("shop.key", pair.key);
    let proxy = setup.start().await;
    let mut client = Client::connect(proxy.web()).await;
    client.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await;
    match client.try_response(false).await {
        Ok(response) => assert!(response.status >= 400, "{response}"),
        Err(Broken::Closed) => {}
        Err(broken) => panic!("{broken:?}"),
    }
    let tls = TlsClient::new(&ca, "shop.example", &["h2", "http/1.1"]);
    let stream = tls.connect(proxy.addr("secure")).await.expect("the handshake succeeds");
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
}

#[tokio::test]
async fn upstreams_are_spoken_to_in_cleartext_http_2_where_configured() {
    let echo = Server::h2c().await;
    let proxy = Proxy::start(
        r#"
listeners: { web: { bind: "@web@" } }
hosts: { "*": { routes: [ { path: /, upstream: app } ] } }
upstreams: { app: { protocol: h2c, endpoints: ["@app@"] } }
"#,
        &[("app", &echo.address())],
    )
    .await;
    let mut client = Client::connect(proxy.web()).await;
    for number in 0..20 {
        let response = client.request("GET", "shop.example", &format!("/{number}")).await;
        let echoed = Echoed::of(&response.body);
        assert_eq!((echoed.version.as_str(), echoed.host.as_str()), ("HTTP/2.0", "shop.example"));
        assert!(echoed.header("connection").is_none() && echoed.header("host").is_none());
    }
    assert_eq!(echo.connections(), 1, "streams share a connection");
    client
        .send(
            "POST /b HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum\r\n\r\n\
             5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n",
        )
        .await;
    let echoed = Echoed::of(&client.response().await.body);
    assert_eq!((echoed.length, echoed.fingerprint), (5, fingerprint(b"hello")));
    assert_eq!(echoed.trailers, [("x-sum".to_owned(), "1".to_owned())]);

    let mut h2 = H2::connect(proxy.web()).await;
    let body = body_pattern(300_000);
    let (response, mut stream) = h2.open(post_request("t", "/big"), false).await.expect("open");
    send_all(&mut stream, &body).await;
    let echoed = collect(response).await.expect("a response").echoed();
    assert_eq!((echoed.length, echoed.fingerprint), (300_000, fingerprint(&body)));
}

/// Opens a stream and resets it once the back end has the request; false where the connection
/// takes no more.
async fn open_and_reset(h2: &mut H2, app: &H2Backend) -> bool {
    let before = app.calls();
    let Ok((response, _)) = h2.open(get_request("t", "/hang"), true).await else { return false };
    let ended = async || h2.send.clone().ready().await.is_err();
    eventually(STEP, "it gets there", async || app.calls() > before || ended().await).await;
    drop(response);
    true
}

#[tokio::test]
async fn a_client_that_only_resets_its_streams_is_shown_the_door() {
    let app = H2Backend::script(|mut call| async move {
        match call.path() {
            "/hang" => std::future::pending().await,
            _ => call.say("served"),
        }
    })
    .await;
    let proxy = Proxy::start(
        r#"
listeners: { web: { bind: "@web@" } }
hosts: { "*": { routes: [ { path: /, upstream: app } ] } }
upstreams: { app: { protocol: h2c, endpoints: ["@app@"] } }
"#,
        &[("app", &app.address())],
    )
    .await;
    let mut busy = H2::connect(proxy.web()).await;
    for number in 0..300 {
        assert_eq!(busy.get("t", "/").await.text(), "served", "after {number} resets");
        assert!(open_and_reset(&mut busy, &app).await, "after {number} resets");
    }
    let mut hasty = H2::connect(proxy.web()).await;
    let mut resets = 0;
    while resets < 400 && open_and_reset(&mut hasty, &app).await {
        resets += 1;
    }
    assert!((250..400).contains(&resets), "{resets} resets");
    assert_eq!(busy.get("t", "/").await.text(), "served", "others are served as before");
}

/// Sends a body within the peer's window.
async fn send_all(stream: &mut h2::SendStream<Bytes>, mut body: &[u8]) {
    while !body.is_empty() {
        stream.reserve_capacity(body.len());
        let granted = std::future::poll_fn(|context| stream.poll_capacity(context));
        let granted = within(STEP, "a window", granted).await.expect("open").expect("granted");
        let (now, later) = body.split_at(granted.min(body.len()));
        stream.send_data(Bytes::copy_from_slice(now), later.is_empty()).expect("open");
        body = later;
    }
}
