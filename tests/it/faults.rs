//! Back ends that fail in every way: what the client gets, and what it does not notice.

use std::time::{Duration, Instant};

use crate::harness::*;

fn one(app: &str, route: &str) -> String {
    format!(
        r#"
listeners: {{ web: {{ bind: "@web@" }} }}
hosts: {{ "*": {{ routes: [ {{ path: /, upstream: app, {route} }} ] }} }}
upstreams: {{ app: {{ endpoints: [{app}] }} }}
"#
    )
}

#[tokio::test]
async fn a_refused_connection_goes_to_another_endpoint_unnoticed() {
    let echo = Server::echo().await;
    let proxy = Proxy::start(
        &one(r#""@dead@", "@app@", "@gone@""#, ""),
        &[("app", &echo.address()), ("dead", &reserve()), ("gone", &reserve())],
    )
    .await;
    let mut client = Client::connect(proxy.web()).await;
    for number in 0..30 {
        let response = client.request("GET", "t", &format!("/{number}")).await;
        assert_eq!(response.status, 200, "{response}");
        client.send("POST /p HTTP/1.1\r\nHost: t\r\nContent-Length: 5\r\n\r\nhello").await;
        let echoed = Echoed::of(&client.response().await.body);
        assert_eq!(echoed.length, 5, "a body that was not sent yet goes along");
    }
    let metrics = proxy.metrics().await;
    let retries = metrics.sum("portcullis_upstream_retries_total", &[("upstream", "app")]);
    assert!(retries > 0.0, "the retries are counted");
    let errors = [("upstream", "app"), ("reason", "connect_failed")];
    assert!(metrics.sum("portcullis_upstream_errors_total", &errors) > 0.0);
}

#[tokio::test]
async fn all_endpoints_refusing_is_a_502_or_503_with_its_reason() {
    let proxy = Proxy::start(&one(r#""@dead@", "@gone@""#, ""), &[]).await;
    let response = get(proxy.web(), "t", "/").await;
    assert!([502, 503].contains(&response.status), "{response}");
    response.assert_refused(response.status, "connect_failed");
}

#[tokio::test]
async fn no_endpoint_is_a_503_with_its_reason() {
    let proxy = Proxy::start(&one("", ""), &[]).await;
    get(proxy.web(), "t", "/").await.assert_refused(503, "no_endpoint");
    let metrics = proxy.metrics().await;
    assert!(metrics.sum("portcullis_upstream_no_endpoint_total", &[("upstream", "app")]) >= 1.0);
}

#[tokio::test]
async fn an_endpoint_that_accepts_nothing_is_a_504_after_the_connect_timeout() {
    let hole = BlackHole::open().await;
    let proxy = Proxy::start(
        &one(r#""@app@""#, "timeouts: { connect: 300ms }, retry: { attempts: 0 }"),
        &[("app", &hole.address())],
    )
    .await;
    let start = Instant::now();
    get(proxy.web(), "t", "/").await.assert_refused(504, "connect_timeout");
    let took = start.elapsed();
    assert!(took >= Duration::from_millis(280) && took < Duration::from_secs(3), "{took:?}");
}

#[tokio::test]
async fn a_connect_timeout_goes_to_another_endpoint_unnoticed() {
    let echo = Server::echo().await;
    let hole = BlackHole::open().await;
    let proxy = Proxy::start(
        &one(r#""@slow@", "@app@""#, "timeouts: { connect: 200ms }"),
        &[("app", &echo.address()), ("slow", &hole.address())],
    )
    .await;
    for _ in 0..4 {
        assert_eq!(get(proxy.web(), "t", "/").await.status, 200);
    }
}

#[tokio::test]
async fn a_response_that_does_not_come_is_a_504() {
    let app = Backend::script(|mut conn| async move {
        let Some(_) = conn.request().await else { return };
        conn.stall().await;
    })
    .await;
    let config = one(r#""@app@""#, "timeouts: { response: 300ms }");
    let proxy = Proxy::start(&config, &[("app", &app.address())]).await;
    let start = Instant::now();
    get(proxy.web(), "t", "/").await.assert_refused(504, "response_timeout");
    assert!(start.elapsed() >= Duration::from_millis(280));
    eventually(STEP, "the connection is given up", async || app.open() == 0).await;
    assert_eq!(app.requests().len(), 1, "a request that was sent is not sent again");
    let mut h2 = H2::connect(proxy.web()).await;
    let response = h2.get("t", "/").await;
    assert_eq!(response.status, 504);
    assert!(response.text().contains("response_timeout"));
}

#[tokio::test]
async fn an_exchange_that_takes_too_long_altogether_is_a_504() {
    let app = Backend::script(|mut conn| async move {
        let Some(_) = conn.request().await else { return };
        conn.stall().await;
    })
    .await;
    let config = one(r#""@app@""#, "timeout: 300ms");
    let proxy = Proxy::start(&config, &[("app", &app.address())]).await;
    let start = Instant::now();
    get(proxy.web(), "t", "/").await.assert_refused(504, "request_timeout");
    assert!(start.elapsed() >= Duration::from_millis(280));
}

#[tokio::test]
async fn a_body_that_takes_too_long_altogether_is_cut_off_visibly() {
    let app = Backend::script(|mut conn| async move {
        let Some(_) = conn.request().await else { return };
        conn.send("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n").await;
        conn.trickle([b'x'; 1000], Duration::from_millis(20)).await;
    })
    .await;
    let config = one(r#""@app@""#, "timeout: 400ms");
    let proxy = Proxy::start(&config, &[("app", &app.address())]).await;
    let mut client = Client::connect(proxy.web()).await;
    client.send("GET / HTTP/1.1\r\nHost: t\r\n\r\n").await;
    match client.try_response(false).await {
        Err(Broken::Truncated(response)) => assert!(response.body.len() < 1000),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_body_that_stalls_is_cut_off_visibly() {
    let app = Backend::script(|mut conn| async move {
        let Some(seen) = conn.request().await else { return };
        conn.send(match seen.target.as_str() {
            "/length" => "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello",
            _ => "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        })
        .await;
        conn.stall().await;
    })
    .await;
    let config = one(r#""@app@""#, "timeouts: { idle: 300ms }");
    let proxy = Proxy::start(&config, &[("app", &app.address())]).await;
    for target in ["/length", "/chunked"] {
        let mut client = Client::connect(proxy.web()).await;
        client.send(format!("GET {target} HTTP/1.1\r\nHost: t\r\n\r\n")).await;
        match client.try_response(false).await {
            Err(Broken::Truncated(response)) => assert_eq!(response.body, b"hello", "{target}"),
            other => panic!("{target}: {other:?}"),
        }
    }
    let mut h2 = H2::connect(proxy.web()).await;
    let error = h2.try_request(get_request("t", "/chunked"), None, None).await;
    let error = error.expect_err("the stream is reset");
    assert!(error.is_reset(), "{error}");
    proxy
        .metrics_until("counted with its reason", |metrics| {
            let labels = [("reason", "upstream_idle_timeout")];
            metrics.sum("portcullis_requests_total", &labels) >= 3.0
        })
        .await;
}

#[tokio::test]
async fn a_response_that_breaks_off_is_seen_to_break_off() {
    let app = Backend::script(|mut conn| async move {
        let Some(seen) = conn.request().await else { return };
        match seen.target.as_str() {
            "/length-close" => {
                conn.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello").await
            }
            "/chunked-close" => {
                conn.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
                    .await;
            }
            "/chunk-close" => {
                conn.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhello").await;
            }
            _ => {
                conn.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello").await;
                // The bytes must be on their way before the reset throws them away.
                pass(Duration::from_millis(100)).await;
                conn.reset();
            }
        }
    })
    .await;
    let proxy = Proxy::to(app.address()).await;
    for target in ["/length-close", "/chunked-close", "/chunk-close", "/length-reset"] {
        let mut client = Client::connect(proxy.web()).await;
        client.send(format!("GET {target} HTTP/1.1\r\nHost: t\r\n\r\n")).await;
        match client.try_response(false).await {
            Err(Broken::Truncated(response)) => assert_eq!(response.status, 200, "{target}"),
            // What broke off before the head was on its way leaves no response at all.
            Err(Broken::Closed) => {}
            other => panic!("{target}: {other:?}"),
        }
        let mut h2 = H2::connect(proxy.web()).await;
        let broken = h2.try_request(get_request("t", target), None, None).await;
        assert!(broken.is_err_and(|error| error.is_reset()), "{target}: the stream is reset");
    }
    proxy
        .metrics_until("counted with their reasons", |metrics| {
            let count = |reason| metrics.sum("portcullis_requests_total", &[("reason", reason)]);
            count("upstream_incomplete") + count("upstream_reset") >= 8.0
        })
        .await;
}

#[tokio::test]
async fn a_response_without_length_ends_with_the_connection() {
    let app = Backend::script(|mut conn| async move {
        let Some(_) = conn.request().await else { return };
        conn.send("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\nuntil the end").await;
    })
    .await;
    let proxy = Proxy::to(app.address()).await;
    let mut client = Client::connect(proxy.web()).await;
    for _ in 0..3 {
        let response = client.request("GET", "t", "/").await;
        assert_eq!(response.text(), "until the end");
    }
    assert_eq!(app.connections(), 3, "such a connection is not used again");
}

#[tokio::test]
async fn what_is_no_response_is_a_502() {
    let rows: &[(&str, &[u8])] = &[
        ("/garbage", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"),
        ("/http09", b"<html>hello</html>"),
        (
            "/two-lengths",
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        ),
        ("/bad-length", b"HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\nhello"),
        ("/fold", b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 0\r\n\r\n"),
        ("/no-colon", b"HTTP/1.1 200 OK\r\nnonsense\r\nContent-Length: 0\r\n\r\n"),
        ("/space", b"HTTP/1.1 200 OK\r\nX : a\r\nContent-Length: 0\r\n\r\n"),
        ("/status", b"HTTP/1.1 2x0 OK\r\nContent-Length: 0\r\n\r\n"),
        ("/nul", b"HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 0\r\n\r\n"),
        ("/coding", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),
        ("/version", b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n"),
    ];
    let app = Backend::script(move |mut conn| async move {
        let Some(seen) = conn.request().await else { return };
        if let Some((_, bytes)) = rows.iter().find(|(target, _)| *target == seen.target) {
            conn.send(bytes).await;
        } else if seen.target == "/huge" {
            conn.send("HTTP/1.1 200 OK\r\n").await;
            let line = format!("X-Long: {}\r\n", "y".repeat(8000));
            for _ in 0..200 {
                conn.send(&line).await;
            }
        } else {
            return;
        }
        conn.half_close().await;
        conn.stall().await;
    })
    .await;
    let proxy = Proxy::to(app.address()).await;
    let mut faults = Vec::new();
    for target in rows.iter().map(|(target, _)| *target).chain(["/huge"]) {
        let before = app.requests().len();
        let mut client = Client::connect(proxy.web()).await;
        client
            .send(format!("POST {target} HTTP/1.1\r\nHost: t\r\nContent-Length: 0\r\n\r\n"))
            .await;
        match client.try_response(false).await {
            Ok(response) if response.status == 502 => response.assert_refused(502, "upstream_"),
            other => faults.push(format!("{target}: {other:?}")),
        }
        if app.requests().len() != before + 1 {
            faults.push(format!("{target}: sent {} times", app.requests().len() - before));
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
    let response = get(proxy.web(), "t", "/closes-without-a-word").await;
    assert_eq!(response.status, 502, "{response}");
}

#[tokio::test]
async fn a_length_beside_chunks_does_not_reach_the_client() {
    let app = Backend::answering(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 30\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    )
    .await;
    let proxy = Proxy::to(app.address()).await;
    let mut client = Client::connect(proxy.web()).await;
    for _ in 0..2 {
        client.send("GET / HTTP/1.1\r\nHost: t\r\n\r\n").await;
        match client.try_response(false).await {
            Ok(response) if response.status == 502 => {}
            Ok(response) => assert_eq!(response.text(), "hello", "{response}"),
            Err(broken) => panic!("{broken:?}"),
        }
    }
    assert_eq!(app.connections(), 2, "such a connection is not used again");
}

#[tokio::test]
async fn bytes_behind_a_response_are_never_given_to_the_next_client() {
    let app = Backend::script(|mut conn| async move {
        while let Some(seen) = conn.request().await {
            let body = &seen.target[1..];
            conn.send(format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}\
                 HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
                body.len()
            ))
            .await;
        }
    })
    .await;
    let proxy = Proxy::to(app.address()).await;
    for number in 0..30 {
        let text = format!("user-{number}");
        let response = get(proxy.web(), "t", &format!("/{text}")).await;
        assert_eq!(response.text(), text);
    }
}

#[tokio::test]
async fn a_connection_the_back_end_closed_while_idle_is_not_noticed() {
    let app = Backend::script(|mut conn| async move {
        if conn.request().await.is_some() {
            conn.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
        }
    })
    .await;
    let proxy = Proxy::to(app.address()).await;
    let mut client = Client::connect(proxy.web()).await;
    // As fast as they come: the end of the connection may cross the next request.
    for number in 0..100 {
        let response = client.request("GET", "t", &format!("/{number}")).await;
        assert_eq!((response.status, response.text().as_str()), (200, "ok"), "{response}");
    }
    assert_eq!(app.requests().len(), 100, "each request arrived once");
    // A request that must not be sent twice, when the end has come before it.
    for number in 0..50 {
        eventually(STEP, "the connection is closed", async || app.open() == 0).await;
        client.send("POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 5\r\n\r\nhello").await;
        let response = client.response().await;
        assert_eq!(response.status, 200, "{number}: {response}");
    }
    assert_eq!(app.requests().len(), 150, "each request arrived once");
}

#[tokio::test]
async fn a_post_whose_connection_is_reset_is_a_502_and_is_not_sent_again() {
    let app = Backend::script(|mut conn| async move {
        let Some(_) = conn.request().await else { return };
        conn.reset();
    })
    .await;
    let other = Server::echo().await;
    let proxy = Proxy::start(
        &one(r#""@app@""#, "retry: { attempts: 3 }"),
        &[("app", &app.address()), ("other", &other.address())],
    )
    .await;
    let mut client = Client::connect(proxy.web()).await;
    client.send("POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 5\r\n\r\nhello").await;
    client.response().await.assert_refused(502, "upstream_reset");
    assert_eq!(app.requests().len(), 1);
}

#[tokio::test]
async fn a_request_body_over_the_limit_is_a_413() {
    let app = Backend::saying("stored").await;
    let config = one(r#""@app@""#, "body_limit: 1KiB");
    let proxy = Proxy::start(&config, &[("app", &app.address())]).await;

    let mut client = Client::connect(proxy.web()).await;
    client.send("POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 1025\r\n\r\n").await;
    client.response().await.assert_refused(413, "body_too_large");
    assert_eq!(app.connections(), 0, "a length that says too much is enough");

    // Most clients look for an answer once they have sent everything.
    let large = vec![b'x'; 8 << 20];
    let mut client = Client::connect(proxy.web()).await;
    client
        .send(format!("POST / HTTP/1.1\r\nHost: t\r\nContent-Length: {}\r\n\r\n", large.len()))
        .await;
    client.send(&large).await;
    client.response().await.assert_refused(413, "body_too_large");

    let mut client = Client::connect(proxy.web()).await;
    client
        .send("POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 2000\r\nExpect: 100-continue\r\n\r\n")
        .await;
    let response = client.response().await;
    assert_eq!((response.status, response.interim.len()), (413, 0), "{response}");

    let mut client = Client::connect(proxy.web()).await;
    client.send("POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    client.send(format!("400\r\n{}\r\n", "x".repeat(1024))).await;
    client.send("1\r\nx\r\n").await;
    client.response().await.assert_refused(413, "body_too_large");
    eventually(STEP, "the upstream's request is broken off", async || app.open() == 0).await;
    assert!(!app.received().ends_with(b"0\r\n\r\n"), "no last chunk");

    let mut client = Client::connect(proxy.web()).await;
    client
        .send(format!(
            "POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 1024\r\n\r\n{}",
            "x".repeat(1024)
        ))
        .await;
    assert_eq!(client.response().await.text(), "stored");

    let mut h2 = H2::connect(proxy.web()).await;
    let response = h2.request(post_request("t", "/"), Some(&[b'x'; 1500]), None).await;
    assert_eq!(response.status, 413);
}

#[tokio::test]
async fn an_early_response_is_relayed_and_the_upload_stops() {
    let app = Backend::script(|mut conn| async move {
        let Some(_) = conn.head().await else { return };
        conn.send("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno")
            .await;
        conn.half_close().await;
        conn.stall().await;
    })
    .await;
    let proxy = Proxy::to(app.address()).await;
    let mut client = Client::connect(proxy.web()).await;
    client.send("POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 100000000\r\n\r\nsome").await;
    let response = client.response().await;
    assert_eq!((response.status, response.text().as_str()), (403, "no"));
}

#[tokio::test]
async fn a_slow_head_is_cut_off_but_a_patient_connection_is_not_disturbed_before() {
    let app = Backend::saying("fine").await;
    let proxy = Proxy::start(
        r#"
limits: { head_timeout: 500ms, keep_alive: 900ms }
listeners: { web: { bind: "@web@" } }
hosts: { "*": { routes: [ { path: /, upstream: app } ] } }
upstreams: { app: { endpoints: ["@app@"] } }
"#,
        &[("app", &app.address())],
    )
    .await;
    let start = Instant::now();
    let mut slow = Client::connect(proxy.web()).await;
    slow.send("GET / HTTP/1.1\r\nHo").await;
    match slow.try_response(false).await {
        Ok(response) => assert_eq!(response.status, 408, "{response}"),
        Err(Broken::Closed) => {}
        Err(broken) => panic!("{broken:?}"),
    }
    assert!(start.elapsed() >= Duration::from_millis(450), "{:?}", start.elapsed());

    let mut silent = Client::connect(proxy.web()).await;
    silent.closed().await;

    let mut client = Client::connect(proxy.web()).await;
    assert_eq!(client.request("GET", "t", "/").await.text(), "fine");
    let start = Instant::now();
    assert!(client.silent(Duration::from_millis(600)).await, "kept between requests");
    client.closed().await;
    assert!(start.elapsed() >= Duration::from_millis(850), "{:?}", start.elapsed());
}

#[tokio::test]
async fn an_upload_that_stalls_is_a_408_and_frees_the_upstream() {
    let app = Backend::saying("stored").await;
    let config = one(r#""@app@""#, "timeouts: { idle: 400ms }");
    let proxy = Proxy::start(&config, &[("app", &app.address())]).await;
    let mut client = Client::connect(proxy.web()).await;
    client.send("POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 100\r\n\r\n").await;
    let start = Instant::now();
    // Slow is not stalled: each piece comes within the time.
    for _ in 0..3 {
        pass(Duration::from_millis(200)).await;
        client.send("some").await;
    }
    client.response().await.assert_refused(408, "client_body_timeout");
    assert!(start.elapsed() >= Duration::from_millis(950), "{:?}", start.elapsed());
    client.closed().await;
    eventually(STEP, "the upstream request is given up", async || app.open() == 0).await;

    let mut h2 = H2::connect(proxy.web()).await;
    let (response, mut send) = h2.open(post_request("t", "/"), false).await.expect("a stream");
    send.send_data(bytes::Bytes::from_static(b"some"), false).expect("open");
    match within(STEP, "an answer", collect(response)).await {
        Ok(response) => assert_eq!(response.status, 408),
        Err(error) => assert!(error.is_reset(), "{error}"),
    }
}

#[tokio::test]
async fn connections_over_the_limit_are_closed_and_counted_and_the_others_live() {
    let app = Backend::saying("fine").await;
    let proxy = Proxy::start(
        r#"
limits: { connections: 3 }
listeners: { web: { bind: "@web@" } }
hosts: { "*": { routes: [ { path: /, upstream: app } ] } }
upstreams: { app: { endpoints: ["@app@"] } }
"#,
        &[("app", &app.address())],
    )
    .await;
    let mut within_limit = Vec::new();
    for _ in 0..3 {
        let mut client = Client::connect(proxy.web()).await;
        assert_eq!(client.request("GET", "t", "/").await.text(), "fine");
        within_limit.push(client);
    }
    let mut over = Client::connect(proxy.web()).await;
    let _ = over.try_send("GET / HTTP/1.1\r\nHost: t\r\n\r\n").await;
    match over.try_response(false).await {
        Ok(response) => assert_eq!(response.status, 503, "{response}"),
        Err(Broken::Closed) => {}
        Err(broken) => panic!("{broken:?}"),
    }
    proxy
        .metrics_until("the refusal is counted", |metrics| {
            metrics.sum("portcullis_rejected_requests_total", &[("listener", "web")]) == 1.0
        })
        .await;
    for client in &mut within_limit {
        assert_eq!(client.request("GET", "t", "/").await.text(), "fine");
    }
    within_limit.pop();
    eventually(STEP, "a free place is given away", async || {
        let mut client = Client::connect(proxy.web()).await;
        client.try_send("GET / HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n").await.is_ok()
            && client.try_response(false).await.is_ok_and(|response| response.status == 200)
    })
    .await;
}

#[tokio::test]
async fn errors_are_json_where_configured_and_text_where_asked() {
    let proxy = Proxy::start(
        r#"
errors: json
listeners: { web: { bind: "@web@" } }
hosts: { "*": { routes: [ { path: /only, respond: {} } ] } }
"#,
        &[],
    )
    .await;
    let mut client = Client::connect(proxy.web()).await;
    let response = client.request("GET", "t", "/").await;
    assert_eq!(response.json()["reason"], "no_route");
    let mut h2 = H2::connect(proxy.web()).await;
    let response = h2.get("t", "/").await;
    assert_eq!((response.status, response.header("content-type")), (404, Some("application/json")));
    let head = client.request("HEAD", "t", "/").await;
    assert_eq!((head.status, head.body.len()), (404, 0));
    assert_eq!(client.request("GET", "t", "/only").await.status, 200, "the connection goes on");
}

#[tokio::test]
async fn the_log_of_a_request_that_every_endpoint_refused_names_the_last_one_and_why() {
    let (dead, gone) = (reserve(), reserve());
    let config = format!("access_log: true\n{}", one(r#""@dead@", "@gone@""#, ""));
    let proxy = Proxy::start(&config, &[("dead", &dead), ("gone", &gone)]).await;
    get(proxy.web(), "t", "/lost").await.assert_refused(503, "connect_failed");
    let line = proxy.stdout_line("a line", |line| line.contains("/lost")).await;
    let entry: serde_json::Value = serde_json::from_str(&line).expect("JSON");
    assert_eq!((&entry["status"], &entry["reason"]), (&503.into(), &"connect_failed".into()));
    assert_eq!((&entry["upstream"], &entry["attempts"]), (&"app".into(), &2.into()));
    let endpoint = entry["endpoint"].as_str().unwrap_or_default();
    assert!([dead.to_string(), gone.to_string()].contains(&endpoint.to_owned()), "{entry}");
    let metrics = proxy.metrics().await;
    let none = metrics.sum("portcullis_upstream_no_endpoint_total", &[("upstream", "app")]);
    assert_eq!(none, 0.0, "there were endpoints");
    let retries = metrics.sum("portcullis_upstream_retries_total", &[("upstream", "app")]);
    assert_eq!(retries, 1.0, "an attempt that was not made is no retry");
}
