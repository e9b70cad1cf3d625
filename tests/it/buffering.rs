//! Bodies that are held in memory, what for and how much of it they take; and responses that are
//! held back.

mod responses;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::harness::*;

/// One route to `app`, with `route` as its settings.
async fn one_route(app: &Backend, route: &str) -> Proxy {
    let config = format!(
        r#"
workers: 1
access_log: true
listeners: {{ web: {{ bind: "@web@" }} }}
hosts: {{ "*": {{ routes: [ {{ path: /, upstream: app, {route} }} ] }} }}
upstreams: {{ app: {{ endpoints: ["@app@"] }} }}
"#
    );
    Proxy::start(&config, &[("app", &app.address())]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_is_kept_byte_by_byte_takes_no_more_memory_than_it_has_bytes() {
    const CLIENTS: usize = 8;
    const SIZE: usize = 64 << 10;
    let whole = Arc::new(AtomicUsize::new(0));
    let app = Backend::script({
        let whole = Arc::clone(&whole);
        move |mut conn| {
            let whole = Arc::clone(&whole);
            async move {
                let Some(_) = conn.head().await else { return };
                let mut end = Vec::new();
                while !end.ends_with(b"0\r\n\r\n") {
                    let bytes = conn.some().await;
                    if bytes.is_empty() {
                        return;
                    }
                    end.extend_from_slice(&bytes);
                    end.drain(..end.len().saturating_sub(5));
                }
                whole.fetch_add(1, Ordering::SeqCst);
                conn.stall().await;
            }
        }
    })
    .await;
    let proxy = one_route(&app, "retry: { buffer: 1MiB }").await;
    let mut upload = "PUT / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned();
    upload.push_str(&"1\r\nx\r\n".repeat(SIZE));
    upload.push_str("0\r\n\r\n");
    let before = proxy.rss();
    let mut clients = Vec::new();
    for number in 1..=CLIENTS {
        let mut client = Client::connect(proxy.web()).await;
        client.send(&upload).await;
        eventually(STEP, "it is sent", async || whole.load(Ordering::SeqCst) == number).await;
        clients.push(client);
    }
    // None is answered, so that all of them are kept.
    let grown = proxy.rss().saturating_sub(before);
    println!("{} KiB for {} KiB", grown >> 10, (CLIENTS * SIZE) >> 10);
    assert!(grown < 24 << 20, "{grown} bytes");
}

fn upload(method: &str, length: usize) -> String {
    format!("{method} / HTTP/1.1\r\nHost: t\r\nContent-Length: {length}\r\n\r\n")
}

#[tokio::test]
async fn a_slow_upload_reaches_a_back_end_once_it_is_whole_or_more_than_is_buffered() {
    let app = Backend::saying("stored").await;
    let proxy = one_route(&app, "request_buffer: 64KiB, body_limit: 1MiB").await;
    let body = body_pattern(30_000);
    let (first, rest) = body.split_at(10_000);

    let mut client = Client::connect(proxy.web()).await;
    client.send(upload("POST", body.len())).await;
    client.send(first).await;
    assert!(client.silent(Duration::from_millis(200)).await);
    assert_eq!(app.connections(), 0, "nobody is bothered with a part of it");
    client.send(rest).await;
    assert_eq!(client.response().await.text(), "stored");
    assert_eq!(app.last().body, body);

    // The length of a body in chunks is known by then.
    client.send("POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    for piece in body.chunks(7_000) {
        client.send(format!("{:x}\r\n", piece.len())).await;
        client.send(piece).await;
        client.send("\r\n").await;
    }
    client.send("0\r\n\r\n").await;
    assert_eq!(client.response().await.text(), "stored");
    assert_eq!(app.last().body, body);
    assert_eq!(app.last().headers.get("content-length"), Some("30000"));
    assert!(!app.last().headers.has("transfer-encoding"));

    // More than is buffered goes on as it comes.
    let large = body_pattern(300_000);
    let (first, rest) = large.split_at(150_000);
    let before = app.bytes();
    client.send(upload("POST", large.len())).await;
    client.send(first).await;
    eventually(STEP, "it is passed on", async || app.bytes() > before + 100_000).await;
    client.send(rest).await;
    assert_eq!(client.response().await.text(), "stored");
    assert_eq!(app.last().body, large);

    let mut h2 = H2::connect(proxy.web()).await;
    for sent in [&body, &large] {
        let response = h2.request(post_request("t", "/"), Some(sent), None).await;
        assert_eq!(response.text(), "stored");
        assert_eq!(&app.last().body, sent);
    }

    // One that leaves before its end, and one that is too large, reach nobody.
    let before = app.requests().len();
    let mut client = Client::connect(proxy.web()).await;
    client.send(upload("POST", body.len())).await;
    client.send(&body[..20_000]).await;
    drop(client);
    let mut client = Client::connect(proxy.web()).await;
    client.send(upload("POST", 2 << 20)).await;
    client.response().await.assert_refused(413, "body_too_large");
    assert_eq!(app.requests().len(), before);
}

#[tokio::test]
async fn what_comes_before_an_attempt_is_not_the_endpoints_doing() {
    const WAIT: Duration = Duration::from_millis(1200);
    let auth = Backend::script(|mut conn| async move {
        while conn.request().await.is_some() {
            pass(WAIT).await;
            conn.send("HTTP/1.1 204 No Content\r\n\r\n").await;
        }
    })
    .await;
    let app = Backend::saying("stored").await;
    let url = format!("http://{}/", auth.address());
    let route = format!(
        "request_buffer: 64KiB, retry: {{ per_try: 600ms, attempts: 1 }}, \
         auth: {{ external: {{ url: \"{url}\" }} }}"
    );
    let proxy = one_route(&app, &route).await;
    let mut client = Client::connect(proxy.web()).await;
    // The service takes its time.
    client.send("GET / HTTP/1.1\r\nHost: t\r\n\r\n").await;
    assert_eq!(client.response().await.text(), "stored");
    // So does the client, once the service has answered.
    client.send(upload("POST", 4)).await;
    client.send("ab").await;
    assert!(client.silent(WAIT * 2).await);
    client.send("cd").await;
    assert_eq!(client.response().await.text(), "stored");
    let entries = || {
        let lines = proxy.stdout().into_iter().filter(|line| line.contains("upstream_ms"));
        lines
            .map(|line| serde_json::from_str(&line).expect("JSON"))
            .collect::<Vec<serde_json::Value>>()
    };
    eventually(STEP, "both are logged", async || entries().len() == 2).await;
    for entry in entries() {
        let took = entry["upstream_ms"].as_f64().expect("a number");
        assert!(
            took < 600.0 && entry["duration_ms"].as_f64().is_some_and(|all| all > 1200.0),
            "{entry}"
        );
    }
}

#[tokio::test]
async fn a_body_that_was_buffered_is_sent_again_where_its_request_may_be() {
    let bad = Backend::script(|mut conn| async move {
        if conn.request().await.is_some() {
            conn.reset();
        }
    })
    .await;
    let good = Backend::saying("stored").await;
    let proxy = Proxy::start(
        r#"
workers: 1
listeners: { web: { bind: "@web@" } }
hosts: { "*": { routes: [ { path: /, upstream: app, request_buffer: 64KiB, retry: { buffer: 1KiB } } ] } }
upstreams: { app: { endpoints: ["@bad@", "@good@"], balance: round_robin, outlier: off } }
"#,
        &[("bad", &bad.address()), ("good", &good.address())],
    )
    .await;
    let body = body_pattern(20_000);
    for _ in 0..4 {
        let mut client = Client::connect(proxy.web()).await;
        client.send(upload("PUT", body.len())).await;
        client.send(&body).await;
        assert_eq!(client.response().await.text(), "stored");
        assert_eq!(good.last().body, body);
    }
    assert_eq!(good.requests().len(), 4);
    let disappointed = bad.requests().len();
    assert!(disappointed >= 2, "{disappointed}");
    // What might be done twice is not.
    let mut statuses = Vec::new();
    for _ in 0..2 {
        let mut client = Client::connect(proxy.web()).await;
        client.send(upload("POST", body.len())).await;
        client.send(&body).await;
        statuses.push(client.response().await.status);
    }
    assert!(statuses.contains(&502), "{statuses:?}");
    assert_eq!(good.requests().len() + bad.requests().len(), 4 + disappointed + 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_uploads_take_no_more_memory_than_a_worker_may_hold() {
    const CLIENTS: usize = 200;
    let app = Backend::saying("stored").await;
    let proxy = one_route(&app, "request_buffer: 1MiB").await;
    let part = vec![b'x'; 800 << 10];
    let before = proxy.rss();
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        let mut client = Client::connect(proxy.web()).await;
        client.send(upload("POST", 1 << 20)).await;
        client.send(&part).await;
        clients.push(client);
    }
    // Those for which there is no room are passed on.
    eventually(STEP, "some are streamed", async || app.open() > CLIENTS / 3).await;
    let grown = proxy.rss().saturating_sub(before);
    println!(
        "{} MiB for {} MiB, {} streamed",
        grown >> 20,
        (CLIENTS * part.len()) >> 20,
        app.open()
    );
    assert!(app.open() < CLIENTS, "and the others are not");
    assert!(grown < 112 << 20, "{grown} bytes");
}

#[tokio::test]
async fn a_response_goes_no_faster_than_its_route_lets_it() {
    let body = body_pattern(128 << 10);
    let app = Backend::answering({
        let mut answer =
            format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
        answer.extend_from_slice(&body);
        answer
    })
    .await;
    let rate = "response_rate: 32KiB, response_rate_after: 64KiB";
    let proxy = one_route(&app, rate).await;
    // 64 KiB go at once, and 64 KiB in two seconds.
    let one = async {
        let start = Instant::now();
        let mut client = Client::connect(proxy.web()).await;
        client.send("GET / HTTP/1.1\r\nHost: t\r\n\r\n").await;
        assert_eq!(client.head().await.headers.get("content-length"), Some("131072"));
        let received = client.exactly(body.len()).await.expect("a body").expect("all of it");
        assert!(received == body);
        start.elapsed()
    };
    let other = async {
        let start = Instant::now();
        let mut h2 = H2::connect(proxy.web()).await;
        let response = h2.request(get_request("t", "/"), None, None).await;
        assert!(response.body == body);
        start.elapsed()
    };
    let (one, other) = tokio::join!(one, other);
    for took in [one, other] {
        assert!(took > Duration::from_millis(1_500) && took < STEP, "{took:?}");
    }
    // A client that leaves meanwhile sets the endpoint free.
    let mut client = Client::connect(proxy.web()).await;
    client.send("GET / HTTP/1.1\r\nHost: t\r\n\r\n").await;
    client.head().await;
    drop(client);
    proxy.stdout_line("the loss", |line| line.contains("client_closed")).await;
}
