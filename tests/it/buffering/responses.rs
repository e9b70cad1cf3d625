//! Responses that are read ahead of slow clients.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;

use super::one_route;
use crate::harness::*;

/// More than the sockets between a back end and a client hold (`streaming` says how much that is).
const SIZE: usize = 25 << 20;
const AHEAD: &str = "response_buffer: 31MiB";

/// A back end whose responses to `/large` are these bytes, and which tells how many of them are out; to
/// anything else it says `small`.
async fn large(head: &str, body: Vec<u8>) -> (Backend, Arc<AtomicUsize>) {
    let sent = Arc::new(AtomicUsize::new(0));
    let (head, body, counter) = (head.to_owned(), Arc::new(body), Arc::clone(&sent));
    let app = Backend::script(move |mut conn| {
        let (head, body, sent) = (head.clone(), Arc::clone(&body), Arc::clone(&counter));
        async move {
            while let Some(seen) = conn.request().await {
                if seen.target != "/large" {
                    conn.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nsmall").await;
                    continue;
                }
                conn.send(&head).await;
                for block in body.chunks(64 << 10) {
                    if !conn.try_send(block).await {
                        return;
                    }
                    sent.fetch_add(block.len(), Ordering::SeqCst);
                }
            }
        }
    })
    .await;
    (app, sent)
}

fn with_length() -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n")
}

/// In chunks, with a trailer section.
fn chunked(body: &[u8]) -> Vec<u8> {
    let mut framed = Vec::with_capacity(body.len() + 1024);
    for chunk in body.chunks(1 << 20) {
        framed.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        framed.extend_from_slice(chunk);
        framed.extend_from_slice(b"\r\n");
    }
    framed.extend_from_slice(b"0\r\nX-Sum: 42\r\n\r\n");
    framed
}

async fn all_is_sent(sent: &AtomicUsize, size: usize) {
    eventually(STEP, "all of it is read", async || sent.load(Ordering::SeqCst) >= size).await;
}

/// A proxy that lets one request at a time in to the back end.
async fn one_place(app: &Backend) -> Proxy {
    let config = format!(
        r#"
workers: 1
listeners: {{ web: {{ bind: "@web@" }} }}
hosts: {{ "*": {{ routes: [ {{ path: /, upstream: app, {AHEAD} }} ] }} }}
upstreams: {{ app: {{ endpoints: ["@app@"], limits: {{ requests: 1, pending: 1 }} }} }}
"#
    );
    Proxy::start(&config, &[("app", &app.address())]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_client_holds_neither_the_connection_nor_a_place_of_its_back_end() {
    let body = body_pattern(SIZE);
    let (app, sent) = large(&with_length(), body.clone()).await;
    let proxy = one_place(&app).await;
    let mut slow = Client::connect_narrow(proxy.web()).await;
    slow.send("GET /large HTTP/1.1\r\nHost: t\r\n\r\n").await;
    assert_eq!(slow.head().await.headers.get("content-length"), Some(SIZE.to_string().as_str()));
    all_is_sent(&sent, SIZE).await;
    for _ in 0..3 {
        assert_eq!(get(proxy.web(), "t", "/").await.text(), "small");
    }
    assert_eq!(app.connections(), 1, "its connection is used again");
    assert!(slow.exactly(SIZE).await.expect("a body").expect("all of it") == body);
    assert_eq!(slow.request("GET", "t", "/").await.text(), "small");

    // A client of HTTP/2 that gives no window; what is in chunks, with trailers.
    let framed = chunked(&body);
    let length = framed.len();
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n";
    let (app, sent) = large(head, framed).await;
    let proxy = one_place(&app).await;
    let mut h2 = H2::connect(proxy.web()).await;
    let (slow, _) = h2.open(get_request("t", "/large"), true).await.expect("a stream");
    all_is_sent(&sent, length).await;
    assert_eq!(get(proxy.web(), "t", "/").await.text(), "small");
    assert_eq!(app.connections(), 1, "its connection is used again");
    let response = within(STEP, "a response", collect(slow)).await.expect("all of it");
    assert!(response.body == body);
    assert_eq!(response.trailer("x-sum"), Some("42"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_over_http2_is_read_ahead_as_well() {
    let body = Arc::new(body_pattern(SIZE));
    let sent = Arc::new(AtomicUsize::new(0));
    let app = H2Backend::script({
        let (body, sent) = (Arc::clone(&body), Arc::clone(&sent));
        move |mut call| {
            let (body, sent) = (Arc::clone(&body), Arc::clone(&sent));
            async move {
                let mut stream = call.begin(200);
                if send_frames(&mut stream, &body, 16 << 10, &sent).await {
                    let _ = stream.send_data(Bytes::new(), true);
                }
            }
        }
    })
    .await;
    let proxy = Proxy::start(
        &format!(
            r#"
workers: 1
listeners: {{ web: {{ bind: "@web@" }} }}
hosts: {{ "*": {{ routes: [ {{ path: /, upstream: app, {AHEAD} }} ] }} }}
upstreams: {{ app: {{ endpoints: ["@app@"], protocol: h2c }} }}
"#
        ),
        &[("app", &app.address())],
    )
    .await;
    let mut slow = Client::connect_narrow(proxy.web()).await;
    slow.send("GET /large HTTP/1.1\r\nHost: t\r\n\r\n").await;
    assert_eq!(slow.head().await.status, 200);
    all_is_sent(&sent, SIZE).await;
    let mut received = Vec::new();
    while received.len() < SIZE {
        received.extend_from_slice(&slow.chunk().await.expect("more"));
    }
    assert!(received == *body);
    assert!(slow.chunk().await.expect("the end").is_empty());
}

#[tokio::test]
async fn nothing_waits_for_a_buffer_to_fill() {
    let events = Events::start("").await;
    let proxy = one_route(events.app(), "response_buffer: 1MiB").await;
    events.arrive_by(&proxy).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_read_ahead_is_bounded_however_it_comes() {
    const CLIENTS: usize = 12;
    let asked = Arc::new(AtomicUsize::new(0));
    let sent = Arc::new(AtomicUsize::new(0));
    let app = Backend::script({
        let (asked, sent) = (Arc::clone(&asked), Arc::clone(&sent));
        move |mut conn| {
            let (asked, sent) = (Arc::clone(&asked), Arc::clone(&sent));
            async move {
                let Some(seen) = conn.request().await else { return };
                asked.fetch_add(1, Ordering::SeqCst);
                conn.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await;
                let (block, bytes) = match seen.target.as_str() {
                    "/bytes" => ("1\r\nx\r\n".repeat(4 << 10), 4 << 10),
                    _ => (format!("10000\r\n{}\r\n", "x".repeat(64 << 10)), 64 << 10),
                };
                while conn.try_send(&block).await {
                    sent.fetch_add(bytes, Ordering::SeqCst);
                }
            }
        }
    })
    .await;
    for (path, buffer) in [("/bytes", "256KiB"), ("/blocks", "1GiB")] {
        let proxy = one_route(&app, &format!("response_buffer: {buffer}")).await;
        let before = proxy.rss();
        let mut clients = Vec::new();
        for _ in 0..CLIENTS {
            let mut client = Client::connect_narrow(proxy.web()).await;
            client.send(format!("GET {path} HTTP/1.1\r\nHost: t\r\n\r\n")).await;
            assert_eq!(client.head().await.status, 200);
            clients.push(client);
        }
        let mut last = 0;
        eventually(STEP, "the flow stops", async || {
            pass(Duration::from_millis(100)).await;
            let now = sent.load(Ordering::SeqCst);
            std::mem::replace(&mut last, now) == now
        })
        .await;
        let grown = proxy.rss().saturating_sub(before);
        println!("{path}: {} KiB for {CLIENTS} clients, {last} bytes sent", grown >> 10);
        let most = if path == "/bytes" { 24 << 20 } else { 112 << 20 };
        assert!(grown < most, "{path}: {grown} bytes");
        // Clients that leave free all of it.
        drop(clients);
        eventually(STEP, "the back end is left", async || app.open() == 0).await;
    }
    assert_eq!(asked.load(Ordering::SeqCst), 2 * CLIENTS);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_response_that_breaks_off_does_so_after_what_came_of_it() {
    let part = body_pattern(6 << 20);
    let gone = Arc::new(AtomicUsize::new(0));
    let app = Backend::script({
        let (part, gone) = (part.clone(), Arc::clone(&gone));
        move |mut conn| {
            let (part, gone) = (part.clone(), Arc::clone(&gone));
            async move {
                let Some(_) = conn.request().await else { return };
                conn.send(with_length()).await;
                conn.send(&part).await;
                conn.half_close().await;
                conn.stall().await;
                gone.fetch_add(1, Ordering::SeqCst);
            }
        }
    })
    .await;
    // With and without: a slow client loses nothing either way.
    for (number, settings) in [AHEAD, "response_buffer: off"].into_iter().enumerate() {
        let proxy = one_route(&app, settings).await;
        let mut slow = Client::connect_narrow(proxy.web()).await;
        slow.send("GET / HTTP/1.1\r\nHost: t\r\n\r\n").await;
        assert_eq!(slow.head().await.status, 200);
        if number == 0 {
            let left = async || gone.load(Ordering::SeqCst) == 1;
            eventually(STEP, "the proxy has seen the end", left).await;
        }
        let received = slow.exactly(part.len()).await.expect("a body");
        assert!(received.expect("all that came") == part, "{settings}");
        slow.closed().await;
        proxy.stdout_line("the loss", |line| line.contains("upstream_incomplete")).await;

        let mut h2 = H2::connect(proxy.web()).await;
        let broken = h2.try_request(get_request("t", "/"), None, None).await;
        assert!(broken.is_err(), "{settings}: a part for the whole");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_back_end_says_whether_it_wants_to_be_read_ahead() {
    let cases = [
        ("response_buffer: 31MiB", "X-Accel-Buffering: no", false),
        ("response_buffer: 31MiB", "X-Accel-Buffering: yes", true),
        ("response_buffer: { size: 31MiB, by_default: false }", "X-Accel-Buffering: YES", true),
        ("response_buffer: { size: 31MiB, by_default: false }", "X-Other: 1", false),
    ];
    for (settings, field, ahead) in cases {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n{field}\r\n\r\n");
        let (app, sent) = large(&head, vec![b'x'; SIZE]).await;
        let proxy = one_route(&app, settings).await;
        let mut slow = Client::connect_narrow(proxy.web()).await;
        slow.send("GET /large HTTP/1.1\r\nHost: t\r\n\r\n").await;
        let head = slow.head().await;
        assert!(!head.headers.has("x-accel-buffering"), "{settings}: {head}");
        if ahead {
            all_is_sent(&sent, SIZE).await;
            continue;
        }
        let (mut last, mut calm) = (usize::MAX, 0);
        eventually(STEP, "the flow stops", async || {
            pass(Duration::from_millis(20)).await;
            let now = sent.load(Ordering::SeqCst);
            calm = if std::mem::replace(&mut last, now) == now { calm + 1 } else { 0 };
            calm > 20
        })
        .await;
        assert!(last < SIZE, "{settings}, {field}: read ahead");
    }
    // Where nothing is read ahead it is a field as others.
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-Accel-Buffering: no\r\n\r\n";
    let app = Backend::answering(head).await;
    let proxy = one_route(&app, "response_buffer: off").await;
    let response = get(proxy.web(), "t", "/").await;
    assert_eq!(response.headers.get("x-accel-buffering"), Some("no"));
}

#[tokio::test]
async fn responses_without_a_body_and_tunnels_are_as_they_were() {
    let app = Backend::script(|mut conn| async move {
        while let Some(seen) = conn.request().await {
            match (seen.method.as_str(), seen.target.as_str()) {
                ("HEAD", _) => conn.send("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n").await,
                (_, "/204") => conn.send("HTTP/1.1 204 No Content\r\n\r\n").await,
                (_, "/304") => conn.send("HTTP/1.1 304 Not Modified\r\n\r\n").await,
                (_, "/close") => {
                    conn.send("HTTP/1.1 200 OK\r\n\r\nuntil close").await;
                    return;
                }
                _ => {
                    conn.send(
                        "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\n\
                         Upgrade: echo\r\n\r\n",
                    )
                    .await;
                    let ping = conn.exactly(4).await.unwrap_or_default();
                    conn.send(ping).await;
                    return;
                }
            }
        }
    })
    .await;
    let proxy = one_route(&app, "response_buffer: 1MiB").await;
    let mut client = Client::connect(proxy.web()).await;
    assert_eq!(
        client.request("HEAD", "t", "/").await.headers.get("content-length"),
        Some("100000")
    );
    assert_eq!(client.request("GET", "t", "/204").await.status, 204);
    assert_eq!(client.request("GET", "t", "/304").await.status, 304);
    assert_eq!(app.connections(), 1);
    assert_eq!(client.request("GET", "t", "/close").await.text(), "until close");
    client.send("GET / HTTP/1.1\r\nHost: t\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n").await;
    assert_eq!(client.head().await.status, 101);
    client.send("ping").await;
    assert_eq!(client.exactly(4).await.expect("bytes").expect("all four"), b"ping");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_time_of_a_whole_request_ends_for_a_slow_reader_of_what_is_here() {
    let (app, sent) = large(&with_length(), vec![b'x'; SIZE]).await;
    let proxy = one_route(&app, &format!("{AHEAD}, timeouts: {{ request: 3s }}")).await;
    let mut slow = Client::connect_narrow(proxy.web()).await;
    slow.send("GET /large HTTP/1.1\r\nHost: t\r\n\r\n").await;
    assert_eq!(slow.head().await.status, 200);
    all_is_sent(&sent, SIZE).await;
    let mut read = 0;
    within(STEP, "the end", async {
        while let Ok(some) = slow.some().await {
            if some.is_empty() {
                break;
            }
            read += some.len();
            pass(Duration::from_millis(10)).await;
        }
    })
    .await;
    assert!(read < SIZE, "it was cut off");
    proxy.stdout_line("a log line", |line| line.contains("request_timeout")).await;
}
