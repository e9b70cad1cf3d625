//! Bodies that are long, slow or without end: passed on as they come, with back-pressure, in
//! constant memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::harness::*;

/// What the kernel's socket buffers of four sockets may hold on top of the proxy's own.
const IN_FLIGHT: usize = 24 << 20;

#[tokio::test]
async fn server_sent_events_arrive_one_by_one() {
    let events = Events::start("Content-Type: text/event-stream\r\n").await;
    let proxy = Proxy::to(events.app().address()).await;
    events.arrive_by(&proxy).await;
    let head = Client::connect(proxy.web()).await.request("HEAD", "t", "/events").await;
    assert_eq!(head.headers.get("content-type"), Some("text/event-stream"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_download_waits_for_a_slow_reader_in_constant_memory() {
    let size = 160 << 20;
    let sent = Arc::new(AtomicUsize::new(0));
    let app = Backend::script({
        let sent = Arc::clone(&sent);
        move |mut conn| {
            let sent = Arc::clone(&sent);
            async move {
                let Some(_) = conn.request().await else { return };
                conn.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n")).await;
                let block = vec![b'x'; 64 << 10];
                while sent.load(Ordering::SeqCst) < size && conn.try_send(&block).await {
                    sent.fetch_add(block.len(), Ordering::SeqCst);
                }
                conn.stall().await;
            }
        }
    })
    .await;
    let proxy = Proxy::to(app.address()).await;
    // The first request brings in what stays: pages, buffers, a connection.
    let before = proxy.rss();
    let mut client = Client::connect_narrow(proxy.web()).await;
    client.send("GET / HTTP/1.1\r\nHost: t\r\n\r\n").await;
    assert_eq!(client.head().await.status, 200);
    let stopped = settled(|| sent.load(Ordering::SeqCst)).await;
    assert!(stopped < IN_FLIGHT, "{stopped} bytes were taken although nobody reads");
    let mut received = 0;
    let mut highest = proxy.rss();
    while received < size {
        let bytes = client.some().await.expect("more");
        assert!(!bytes.is_empty(), "ended after {received}");
        received += bytes.len();
        highest = highest.max(proxy.rss());
    }
    assert_eq!(received, size);
    assert!(highest < before + (24 << 20), "memory grew from {before} to {highest}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_upload_waits_for_a_slow_back_end_in_constant_memory() {
    let size = 160 << 20;
    let gate = Arc::new(tokio::sync::Notify::new());
    let app = Backend::script({
        let gate = Arc::clone(&gate);
        move |mut conn| {
            let gate = Arc::clone(&gate);
            async move {
                let Some(_) = conn.head().await else { return };
                gate.notified().await;
                let mut received = 0;
                while received < size {
                    let bytes = conn.some().await;
                    if bytes.is_empty() {
                        return;
                    }
                    received += bytes.len();
                }
                conn.send(format!(
                    "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{received}",
                    received.to_string().len()
                ))
                .await;
                conn.stall().await;
            }
        }
    })
    .await;
    let proxy = Proxy::to(app.address()).await;
    let before = proxy.rss();
    let client = Client::connect(proxy.web()).await;
    let (io, _) = client.into_parts();
    let (mut read, mut write) = tokio::io::split(io);
    let sent = Arc::new(AtomicUsize::new(0));
    let upload = tokio::spawn({
        let sent = Arc::clone(&sent);
        async move {
            use tokio::io::AsyncWriteExt;
            let head = format!("POST / HTTP/1.1\r\nHost: t\r\nContent-Length: {size}\r\n\r\n");
            write.write_all(head.as_bytes()).await.expect("the proxy reads");
            let block = vec![b'x'; 64 << 10];
            while sent.load(Ordering::SeqCst) < size {
                write.write_all(&block).await.expect("the proxy reads");
                sent.fetch_add(block.len(), Ordering::SeqCst);
            }
            write
        }
    });
    let stopped = settled(|| sent.load(Ordering::SeqCst)).await;
    assert!(stopped < IN_FLIGHT, "{stopped} bytes were taken although nobody reads");
    gate.notify_one();
    let mut response = Vec::new();
    let mut highest = 0;
    let expected = format!("\r\n\r\n{size}");
    while !String::from_utf8_lossy(&response).ends_with(&expected) {
        let mut buffer = [0; 1024];
        let read = tokio::io::AsyncReadExt::read(&mut read, &mut buffer);
        tokio::select! {
            count = read => {
                let count = count.expect("a response");
                assert!(count > 0, "ended with {:?}", String::from_utf8_lossy(&response));
                response.extend_from_slice(&buffer[..count]);
            }
            () = pass(Duration::from_millis(20)) => {}
        }
        highest = highest.max(proxy.rss());
    }
    drop(upload.await.expect("the upload ends"));
    assert!(highest < before + (24 << 20), "memory grew from {before} to {highest}");
}

/// The value that `read` comes to rest at.
async fn settled(read: impl Fn() -> usize) -> usize {
    let mut last = usize::MAX;
    let mut calm = 0;
    eventually(STEP, "the flow stops", async || {
        let now = read();
        calm = if now == last && now > 0 { calm + 1 } else { 0 };
        last = now;
        calm >= 60
    })
    .await;
    last
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_of_all_sizes_arrive_unchanged_over_every_protocol() {
    let echo = Server::echo().await;
    let h2c = Server::h2c().await;
    let proxy = Proxy::start(
        r#"
listeners: { web: { bind: "@web@" } }
hosts:
  "*":
    routes:
      - { path: /h1, upstream: h1 }
      - { path: /h2, upstream: h2 }
upstreams:
  h1: { endpoints: ["@h1@"] }
  h2: { protocol: h2c, endpoints: ["@h2@"] }
"#,
        &[("h1", &echo.address()), ("h2", &h2c.address())],
    )
    .await;
    let sizes = [0, 1, 1023, 8192, 16_384, 16_385, 65_535, 65_536, 262_144, 1_000_003];
    let mut client = Client::connect(proxy.web()).await;
    for path in ["/h1", "/h2"] {
        for size in sizes {
            let body = body_pattern(size);
            client
                .send(format!("POST {path} HTTP/1.1\r\nHost: t\r\nContent-Length: {size}\r\n\r\n"))
                .await;
            client.send(&body).await;
            let echoed = Echoed::of(&client.response().await.body);
            assert_eq!(
                (echoed.length, echoed.fingerprint),
                (size as u64, fingerprint(&body)),
                "{path} {size} up"
            );
            let response = client.request("GET", "t", &format!("{path}?size={size}")).await;
            assert!(response.body == body, "{path} {size} down");
        }
    }
    let mut h2 = H2::connect(proxy.web()).await;
    for path in ["/h1", "/h2"] {
        for size in sizes {
            let response = h2.get("t", &format!("{path}?size={size}")).await;
            assert!(response.body == body_pattern(size), "{path} {size} down over HTTP/2");
        }
    }
}

#[tokio::test]
async fn a_client_that_goes_away_frees_the_upstream() {
    let app = Backend::script(|mut conn| async move {
        let Some(_) = conn.request().await else { return };
        conn.stall().await;
    })
    .await;
    let proxy = Proxy::to(app.address()).await;
    let mut client = Client::connect(proxy.web()).await;
    client.send("GET /slow HTTP/1.1\r\nHost: t\r\n\r\n").await;
    eventually(STEP, "the request arrives", async || app.requests().len() == 1).await;
    drop(client);
    eventually(Duration::from_secs(2), "the upstream request is given up", async || {
        app.open() == 0
    })
    .await;

    let mut h2 = H2::connect(proxy.web()).await;
    let (response, mut send) = h2.open(get_request("t", "/slow"), false).await.expect("a stream");
    eventually(STEP, "the request arrives", async || app.requests().len() == 2).await;
    send.send_reset(h2::Reason::CANCEL);
    drop(response);
    eventually(Duration::from_secs(2), "the upstream request is given up", async || {
        app.open() == 0
    })
    .await;
    proxy
        .metrics_until("both are counted as closed by the client", |metrics| {
            let closed = &[("reason", "client_closed")];
            metrics.sum("portcullis_requests_total", closed) >= 2.0
        })
        .await;
}

#[tokio::test]
async fn a_client_may_fall_silent_while_the_response_goes_on() {
    // One message up, and then a message down for as long as anybody listens.
    let app = Backend::script(|mut conn| async move {
        let Some(_) = conn.head().await else { return };
        conn.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await;
        while conn.try_send("4\r\ntick\r\n").await {
            pass(Duration::from_millis(100)).await;
        }
    })
    .await;
    let proxy = Proxy::start(
        r#"
listeners: { web: { bind: "@web@" } }
hosts: { "*": { routes: [ { path: /, upstream: app, timeouts: { idle: 1s } } ] } }
upstreams: { app: { endpoints: ["@app@"] } }
"#,
        &[("app", &app.address())],
    )
    .await;
    let start = Instant::now();
    let mut h2 = H2::connect(proxy.web()).await;
    let (response, mut send) = h2.open(post_request("t", "/"), false).await.expect("a stream");
    send.send_data(Bytes::from_static(b"subscribe"), false).expect("open");
    let mut body = within(STEP, "a head", response).await.expect("a response").into_body();
    let mut client = Client::connect(proxy.web()).await;
    client.send("POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    client.send("9\r\nsubscribe\r\n").await;
    assert_eq!(client.head().await.status, 200);
    while start.elapsed() < Duration::from_millis(2500) {
        let data = within(STEP, "a tick over HTTP/2", body.data()).await;
        let data = data.expect("it goes on").expect("data");
        body.flow_control().release_capacity(data.len()).expect("what came");
        assert_eq!(client.chunk().await.expect("a tick"), b"tick");
    }
    drop((send, body, h2, client));
    eventually(STEP, "the upstream is told that nobody listens", async || app.open() == 0).await;
    let errors = proxy.metrics().await.sum("portcullis_upstream_errors_total", &[]);
    assert_eq!(errors, 0.0, "a client's silence is held against nobody");
}

#[tokio::test]
async fn a_slow_reader_does_not_stretch_the_time_of_a_whole_request() {
    let app = Backend::script(|mut conn| async move {
        let Some(_) = conn.request().await else { return };
        conn.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n").await;
        while conn.try_send(vec![b'x'; 64 * 1024]).await {}
    })
    .await;
    let proxy = Proxy::start(
        r#"
access_log: true
listeners: { web: { bind: "@web@" } }
hosts: { "*": { routes: [ { path: /, upstream: app, timeouts: { request: 1s } } ] } }
upstreams: { app: { endpoints: ["@app@"] } }
"#,
        &[("app", &app.address())],
    )
    .await;
    let mut client = Client::connect_narrow(proxy.web()).await;
    client.send("GET / HTTP/1.1\r\nHost: t\r\n\r\n").await;
    assert_eq!(client.head().await.status, 200);
    // Never so slow that nothing moves.
    let mut read = 0;
    within(STEP, "the end", async {
        while let Ok(some) = client.some().await {
            if some.is_empty() {
                break;
            }
            read += some.len();
            pass(Duration::from_millis(1)).await;
        }
    })
    .await;
    assert!(read < 1_000_000_000, "it was cut off");
    let line = proxy.stdout_line("a log line", |line| line.contains("request_timeout")).await;
    assert!(line.contains(r#""status":200"#), "{line}");
    let errors = proxy.metrics().await.sum("portcullis_upstream_errors_total", &[]);
    assert_eq!(errors, 0.0, "the endpoint was quick enough");
}

#[tokio::test]
async fn what_a_stream_sends_once_its_answer_has_begun_is_not_kept_for_a_repeat() {
    const PIECE: usize = 15 << 10;
    let app = Server::grpc_h2c().await;
    let proxy = Proxy::start(
        r#"
workers: 1
listeners: { web: { bind: "@web@" } }
hosts: { "*": { routes: [ { path: /, upstream: app, retry: { buffer: 64KiB } } ] } }
upstreams: { app: { endpoints: ["@app@"], protocol: h2c } }
"#,
        &[("app", &app.address())],
    )
    .await;
    let piece = Bytes::from(body_pattern(PIECE));
    let mut streams = Vec::new();
    for _ in 0..4 {
        let mut h2 = H2::connect(proxy.web()).await;
        for _ in 0..90 {
            let (response, mut send) =
                h2.open(post_request("t", "/"), false).await.expect("a stream");
            send.send_data(Bytes::from_static(b"first"), false).expect("open");
            let response = within(STEP, "a head", response).await.expect("a response");
            streams.push((send, response.into_body()));
        }
    }
    let mut before = 0;
    for round in 0..4 {
        for (send, receive) in &mut streams {
            send.send_data(piece.clone(), false).expect("open");
            let mut got = if round == 0 { PIECE + 5 } else { PIECE };
            while got > 0 {
                let data = within(STEP, "data", receive.data()).await.expect("open");
                let data = data.expect("no error");
                receive.flow_control().release_capacity(data.len()).expect("received");
                got -= data.len();
            }
        }
        if round == 0 {
            before = proxy.rss();
        }
    }
    // 360 streams sent 45 KiB each since.
    let grown = proxy.rss().saturating_sub(before);
    assert!(grown < 6 << 20, "{grown} bytes");
}
