//! Endpoints that are spoken to in HTTP/1.0.

use crate::harness::*;

/// One route to `app`, with `route` as its settings and `upstream` as those of its upstream.
async fn proxy(app: &Backend, route: &str, upstream: &str) -> Proxy {
    let config = format!(
        r#"
workers: 1
listeners: {{ web: {{ bind: "@web@" }} }}
hosts: {{ "*": {{ routes: [ {{ path: /, upstream: app, {route} }} ] }} }}
upstreams: {{ app: {{ endpoints: ["@app@"], protocol: http1.0, {upstream} }} }}
"#
    );
    Proxy::start(&config, &[("app", &app.address())]).await
}

#[tokio::test]
async fn each_request_is_one_of_http10_on_a_connection_of_its_own() {
    let app = Backend::script(|mut conn| async move {
        while let Some(seen) = conn.request().await {
            match seen.target.as_str() {
                // It would keep the connection.
                "/length" => conn.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nsaid").await,
                _ => {
                    conn.send("HTTP/1.0 200 OK\r\n\r\nuntil close").await;
                    return;
                }
            }
        }
    })
    .await;
    let proxy = proxy(&app, "retry: off", "").await;
    let mut client = Client::connect(proxy.web()).await;
    for (number, (path, text)) in
        [("/length", "said"), ("/length", "said"), ("/close", "until close")].iter().enumerate()
    {
        client
            .send(format!(
                "GET {path} HTTP/1.1\r\nHost: t\r\nTE: trailers\r\nConnection: TE\r\n\r\n"
            ))
            .await;
        assert_eq!(client.response().await.text(), *text);
        let seen = app.last();
        assert_eq!((seen.version.as_str(), seen.connection), ("HTTP/1.0", number));
        assert_eq!(seen.headers.get("connection"), Some("close"));
        assert_eq!(seen.headers.get("host"), Some("t"));
        assert!(!seen.headers.has("te"), "{seen:?}");
    }
    let mut h2 = H2::connect(proxy.web()).await;
    assert_eq!(h2.get("t", "/close").await.text(), "until close");
    eventually(STEP, "none is kept", async || app.open() == 0).await;
}

#[tokio::test]
async fn a_body_goes_with_its_length_or_not_at_all() {
    let app = Backend::saying("stored").await;
    // What is kept for repeats counts as well.
    for settings in ["retry: { buffer: 32KiB }", "request_buffer: 32KiB, retry: { buffer: 1KiB }"] {
        let proxy = proxy(&app, settings, "").await;
        let mut client = Client::connect(proxy.web()).await;
        let large = body_pattern(200_000);
        client
            .send(format!("POST / HTTP/1.1\r\nHost: t\r\nContent-Length: {}\r\n\r\n", large.len()))
            .await;
        client.send(&large).await;
        assert_eq!(client.response().await.text(), "stored");
        assert_eq!(app.last().body, large);

        let head = "POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n";
        for trailers in ["", "X-Sum: 1\r\n"] {
            client.send(format!("{head}5\r\nhello\r\n6\r\n world\r\n0\r\n{trailers}\r\n")).await;
            assert_eq!(client.response().await.text(), "stored");
            let seen = app.last();
            assert_eq!(seen.body, b"hello world");
            assert_eq!(seen.headers.get("content-length"), Some("11"));
            assert!(!seen.headers.has("transfer-encoding"), "{seen:?}");
        }
        let mut h2 = H2::connect(proxy.web()).await;
        let response = h2.request(post_request("t", "/"), Some(b"hello"), None).await;
        assert_eq!(response.text(), "stored");
        assert_eq!(app.last().headers.get("content-length"), Some("5"));

        let before = app.requests().len();
        client.send(format!("{head}{:x}\r\n", large.len())).await;
        client.send(&large).await;
        client.send("\r\n").await;
        client.response().await.assert_refused(411, "length_required");
        assert_eq!(app.requests().len(), before, "{settings}");
    }
}

#[tokio::test]
async fn there_are_no_upgrades_and_checks_are_in_http10_as_well() {
    let app = Backend::saying("ok").await;
    let proxy = proxy(&app, "retry: off", "health: { path: /healthy, interval: 100ms }").await;
    let checked = async || {
        app.requests().iter().any(|seen| seen.target == "/healthy" && seen.version == "HTTP/1.0")
    };
    eventually(STEP, "it is checked", checked).await;
    assert!(app.requests().iter().all(|seen| seen.version == "HTTP/1.0"));
    let mut client = Client::connect(proxy.web()).await;
    client
        .send("GET / HTTP/1.1\r\nHost: t\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
        .await;
    client.response().await.assert_refused(502, "upgrade_unsupported");
    assert!(app.requests().iter().all(|seen| seen.target == "/healthy"));
}
