//! Attempts that fail and are repeated, and those that must not be: counted at the back ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::harness::*;

const UNAVAILABLE: &str =
    "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\nX-From: back\r\n\r\nbusy";

/// A route in turn to these endpoints, without ejection, so that what a test counts is its own.
/// A repeat takes the next turn: of two endpoints the first request or every one begins with the
/// same.
fn config(endpoints: &str, route: &str, upstream: &str) -> String {
    format!(
        r#"
workers: 1
access_log: true
listeners: {{ web: {{ bind: "@web@" }} }}
hosts: {{ "*": {{ routes: [ {{ path: /, upstream: app, {route} }} ] }} }}
upstreams: {{ app: {{ endpoints: [{endpoints}], balance: round_robin, outlier: off, {upstream} }} }}
"#
    )
}

async fn two(one: &Backend, other: &Backend, route: &str) -> Proxy {
    let values: [(&str, &dyn std::fmt::Display); 2] =
        [("one", &one.address()), ("other", &other.address())];
    Proxy::start(&config(r#""@one@", "@other@""#, route, ""), &values).await
}

/// Reads each request whole and resets the connection instead of an answer.
async fn resetting() -> Backend {
    Backend::script(|mut conn| async move {
        if conn.request().await.is_some() {
            conn.reset();
        }
    })
    .await
}

/// Reads requests and never answers.
async fn silent() -> Backend {
    Backend::script(|mut conn| async move {
        if conn.request().await.is_some() {
            conn.stall().await;
        }
    })
    .await
}

async fn retries(proxy: &Proxy, reason: &str) -> f64 {
    let labels = [("upstream", "app"), ("reason", reason)];
    proxy.metrics().await.sum("portcullis_upstream_retries_total", &labels)
}

fn put(target: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!("PUT {target} HTTP/1.1\r\nHost: t\r\nContent-Length: {length}\r\n\r\n");
    [head.as_bytes(), body].concat()
}

#[tokio::test]
async fn a_get_that_is_reset_goes_to_another_endpoint_unnoticed() {
    let (bad, good) = (resetting().await, Backend::saying("fine").await);
    let proxy = two(&bad, &good, "").await;
    let mut client = Client::connect(proxy.web()).await;
    for number in 0..20 {
        let response = client.request("GET", "t", &format!("/{number}")).await;
        assert_eq!((response.status, response.text().as_str()), (200, "fine"), "{response}");
    }
    let failed = bad.requests().len();
    assert!(failed >= 8, "the endpoint has its turns: {failed}");
    assert_eq!(good.requests().len(), 20);
    assert_eq!(retries(&proxy, "upstream_reset").await, failed as f64);
    let line = proxy.stdout_line("two attempts", |line| line.contains(r#""attempts":2"#)).await;
    assert!(line.contains(&good.address().to_string()), "the endpoint that answered: {line}");
}

#[tokio::test]
async fn a_condition_that_is_not_named_is_not_repeated() {
    let (bad, good) = (resetting().await, Backend::saying("fine").await);
    let proxy = two(&bad, &good, "retry: { on: [503] }").await;
    let mut client = Client::connect(proxy.web()).await;
    let mut refused = 0;
    for _ in 0..6 {
        let response = client.request("GET", "t", "/").await;
        refused += usize::from(response.status == 502);
    }
    assert_eq!((refused, bad.requests().len(), good.requests().len()), (3, 3, 3));
}

#[tokio::test]
async fn a_post_is_never_written_twice() {
    let (bad, good) = (resetting().await, Backend::saying("fine").await);
    let on = "retry: { attempts: 5, on: [reset, timeout, 503] }";
    let proxy = two(&bad, &good, on).await;
    let mut statuses = Vec::new();
    for _ in 0..20 {
        let mut client = Client::connect(proxy.web()).await;
        client.send("POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 5\r\n\r\nhello").await;
        statuses.push(client.response().await.status);
    }
    assert_eq!(statuses.iter().filter(|status| **status == 502).count(), bad.requests().len());
    assert_eq!(bad.requests().len() + good.requests().len(), 20, "{statuses:?}");
    assert!(bad.requests().len() >= 8, "{statuses:?}");
}

#[tokio::test]
async fn a_post_is_repeated_where_the_user_says_so() {
    let (bad, good) = (resetting().await, Backend::saying("fine").await);
    let proxy = two(&bad, &good, "retry: { non_idempotent: true }").await;
    for _ in 0..6 {
        let mut client = Client::connect(proxy.web()).await;
        client.send("POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 5\r\n\r\nhello").await;
        assert_eq!(client.response().await.status, 200);
    }
    assert!(good.requests().iter().all(|seen| seen.body == b"hello"));
    assert_eq!(good.requests().len(), 6);
}

#[tokio::test]
async fn named_statuses_are_repeated_elsewhere_and_others_are_passed_on() {
    let (busy, good) = (Backend::answering(UNAVAILABLE).await, Backend::saying("fine").await);
    let proxy = two(&busy, &good, "retry: { on: [503], backoff: 5ms }").await;
    let mut client = Client::connect(proxy.web()).await;
    for _ in 0..10 {
        assert_eq!(client.request("GET", "t", "/").await.text(), "fine");
    }
    assert!(retries(&proxy, "status").await >= 4.0);
    assert!(busy.connections() <= 4, "a response that was read leaves its connection usable");

    let proxy = two(&busy, &good, "retry: { on: [502] }").await;
    let mut client = Client::connect(proxy.web()).await;
    let statuses = [client.request("GET", "t", "/").await, client.request("GET", "t", "/").await];
    assert_eq!(statuses.iter().filter(|response| response.status == 503).count(), 1);
}

#[tokio::test]
async fn the_last_response_is_passed_on_when_all_endpoints_disappoint() {
    let backs = [UNAVAILABLE; 3].map(Backend::answering);
    let [one, other, third] = backs;
    let (one, other, third) = (one.await, other.await, third.await);
    let config = config(
        r#""@one@", "@other@", "@third@""#,
        "retry: { on: [gateway_error], attempts: 2, backoff: 1ms }",
        "",
    );
    let values: [(&str, &dyn std::fmt::Display); 3] =
        [("one", &one.address()), ("other", &other.address()), ("third", &third.address())];
    let proxy = Proxy::start(&config, &values).await;
    let response = get(proxy.web(), "t", "/").await;
    assert_eq!((response.status, response.text().as_str()), (503, "busy"));
    assert_eq!(response.headers.get("x-from"), Some("back"));
    let seen = [&one, &other, &third].map(|back| back.requests().len());
    assert_eq!(seen, [1, 1, 1], "each attempt went to another endpoint");
}

#[tokio::test]
async fn a_response_is_passed_on_rather_than_the_error_that_came_after_it() {
    let (busy, bad) = (Backend::answering(UNAVAILABLE).await, resetting().await);
    let on = "retry: { on: [503, reset], attempts: 1, backoff: 1ms }";
    let proxy = two(&busy, &bad, on).await;
    for _ in 0..4 {
        let response = get(proxy.web(), "t", "/").await;
        assert_eq!((response.status, response.text().as_str()), (503, "busy"), "{response}");
    }
}

#[tokio::test]
async fn a_single_endpoint_is_asked_again_after_a_response() {
    let count = Arc::new(AtomicUsize::new(0));
    let app = Backend::script(move |mut conn| {
        let count = count.clone();
        async move {
            while conn.request().await.is_some() {
                match count.fetch_add(1, Ordering::SeqCst) % 3 {
                    0 | 1 => conn.send(UNAVAILABLE).await,
                    _ => conn.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await,
                }
            }
        }
    })
    .await;
    let config = config(r#""@app@""#, "retry: { on: [503], backoff: 1ms }", "");
    let proxy = Proxy::start(&config, &[("app", &app.address())]).await;
    for _ in 0..3 {
        assert_eq!(get(proxy.web(), "t", "/").await.text(), "ok");
    }
}

#[tokio::test]
async fn an_attempt_that_takes_too_long_is_repeated_elsewhere() {
    let (slow, good) = (silent().await, Backend::saying("fine").await);
    let proxy = two(&slow, &good, "retry: { on: [timeout], per_try: 200ms }").await;
    let start = Instant::now();
    for _ in 0..4 {
        assert_eq!(get(proxy.web(), "t", "/").await.text(), "fine");
    }
    assert!(start.elapsed() >= Duration::from_millis(580), "{:?}", start.elapsed());
    let late = slow.requests().len();
    assert!(late >= 3, "{late}");
    eventually(STEP, "slow attempts are given up", async || slow.open() == 0).await;
    assert_eq!(retries(&proxy, "response_timeout").await, late as f64);
}

#[tokio::test]
async fn no_attempt_begins_after_the_time_for_it() {
    // Fails late the first time it is asked, and at once later on.
    let count = Arc::new(AtomicUsize::new(0));
    let late = Backend::script(move |mut conn| {
        let first = count.fetch_add(1, Ordering::SeqCst) == 0;
        async move {
            if conn.request().await.is_some() {
                pass(Duration::from_millis(if first { 600 } else { 0 })).await;
                conn.reset();
            }
        }
    })
    .await;
    let route = "retry: { attempts: 5, max_elapsed: 500ms, backoff: 1ms }";
    let proxy = Proxy::start(&config(r#""@app@""#, route, ""), &[("app", &late.address())]).await;
    assert_eq!(get(proxy.web(), "t", "/").await.status, 502);
    assert_eq!(late.requests().len(), 1, "nothing begins after its time");
    assert_eq!(get(proxy.web(), "t", "/").await.status, 502);
    let attempts = late.requests().len();
    assert!(attempts >= 3, "failures before it are repeated: {attempts}");
}

#[tokio::test]
async fn grpc_codes_of_responses_without_a_body_are_repeated() {
    let grpc = |code: &'static str| {
        Server::http2(move |_| async move {
            let mut answer = answer(200, "");
            let headers = answer.headers_mut();
            headers.insert("content-type", "application/grpc".parse().expect("a value"));
            headers.insert("grpc-status", code.parse().expect("a value"));
            answer
        })
    };
    let (busy, good) = (grpc("14").await, grpc("0").await);
    let route = "retry: { on: [grpc:unavailable], non_idempotent: true, backoff: 1ms }";
    let config = config(r#""@one@", "@other@""#, route, "protocol: h2c");
    let values: [(&str, &dyn std::fmt::Display); 2] =
        [("one", &busy.address()), ("other", &good.address())];
    let proxy = Proxy::start(&config, &values).await;
    let mut h2 = H2::connect(proxy.web()).await;
    for _ in 0..6 {
        let response = h2.request(post_request("t", "/echo.Echo/Say"), Some(b"hello"), None).await;
        assert_eq!(response.header("grpc-status"), Some("0"), "{response:?}");
    }
    let disappointed = busy.requests();
    assert!(disappointed >= 5, "{disappointed}");
    assert_eq!((good.requests(), retries(&proxy, "grpc_status").await), (6, disappointed as f64));
}

#[tokio::test]
async fn a_body_is_sent_again_byte_by_byte() {
    let bad = Backend::script(|mut conn| async move {
        let Some(seen) = conn.head().await else { return };
        // Some are cut off in the middle of their body, some at its end.
        let read = if seen.target == "/half" { 10_000 } else { 20_000 };
        if conn.exactly(read).await.is_some() {
            conn.reset();
        }
    })
    .await;
    let good = Backend::saying("stored").await;
    let proxy = two(&bad, &good, "retry: { buffer: 64KiB }").await;
    let body = body_pattern(20_000);
    for target in ["/half", "/whole", "/half", "/whole"] {
        let mut client = Client::connect(proxy.web()).await;
        // In two pieces: what is read later follows what was kept.
        let (first, rest) = put(target, &body).split_at(12_000).to_owned_pair();
        client.send(first).await;
        pass(Duration::from_millis(20)).await;
        client.send(rest).await;
        assert_eq!(client.response().await.text(), "stored");
        assert_eq!(good.last().body, body, "{target}");
    }
    let mut client = Client::connect(proxy.web()).await;
    for number in 0..2 {
        client.send("PUT /chunked HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n").await;
        for piece in body.chunks(5_000) {
            client.send(format!("{:x}\r\n", piece.len())).await;
            client.send(piece).await;
            client.send("\r\n").await;
        }
        client.send("0\r\nX-Sum: 7\r\n\r\n").await;
        assert_eq!(client.response().await.text(), "stored", "{number}");
        assert_eq!(good.last().body, body);
        assert_eq!(good.last().trailers.get("x-sum"), Some("7"));
    }
    let mut h2 = H2::connect(proxy.web()).await;
    for _ in 0..2 {
        let request = http::Request::put(authority("t", "/whole")).body(()).expect("a request");
        assert_eq!(h2.request(request, Some(&body), None).await.text(), "stored");
        assert_eq!(good.last().body, body);
    }
    assert!(bad.requests().len() >= 7, "{}", bad.requests().len());
    assert_eq!(good.requests().len(), 8);
}

trait ToOwnedPair {
    fn to_owned_pair(self) -> (Vec<u8>, Vec<u8>);
}

impl ToOwnedPair for (&[u8], &[u8]) {
    fn to_owned_pair(self) -> (Vec<u8>, Vec<u8>) {
        (self.0.to_vec(), self.1.to_vec())
    }
}

#[tokio::test]
async fn a_body_larger_than_the_buffer_is_sent_once() {
    let (bad, good) = (resetting().await, Backend::saying("stored").await);
    let proxy = two(&bad, &good, "retry: { buffer: 1KiB, attempts: 5 }").await;
    let mut statuses = Vec::new();
    for chunked in [false, false, true, true] {
        let mut client = Client::connect(proxy.web()).await;
        if chunked {
            client.send("PUT / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n").await;
            client.send(format!("800\r\n{}\r\n0\r\n\r\n", "x".repeat(2048))).await;
        } else {
            client.send(put("/", &[b'x'; 2048])).await;
        }
        statuses.push(client.response().await.status);
    }
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 200, 502, 502]);
    assert_eq!((bad.requests().len(), good.requests().len()), (2, 2), "none was sent twice");
}

#[tokio::test]
async fn a_retry_waits_as_long_as_the_response_asks() {
    let wait = |seconds: u32| {
        format!("HTTP/1.1 503 Busy\r\nRetry-After: {seconds}\r\nContent-Length: 0\r\n\r\n")
    };
    let (short, long) = (wait(1), wait(30));
    let (one, other) = (Backend::answering(short).await, Backend::saying("fine").await);
    let proxy = two(&one, &other, "retry: { on: [503], backoff: 1ms }").await;
    let start = Instant::now();
    for _ in 0..2 {
        assert_eq!(get(proxy.web(), "t", "/").await.text(), "fine");
    }
    assert!(start.elapsed() >= Duration::from_millis(990), "{:?}", start.elapsed());

    let (one, other) = (Backend::answering(long.clone()).await, Backend::answering(long).await);
    let proxy = two(&one, &other, "retry: { on: [503], backoff: 1ms }").await;
    let start = Instant::now();
    let response = get(proxy.web(), "t", "/").await;
    assert_eq!((response.status, response.headers.get("retry-after")), (503, Some("30")));
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert_eq!(one.requests().len() + other.requests().len(), 1);
}

#[tokio::test]
async fn retries_stay_within_the_time_of_the_whole_request() {
    let busy = Backend::answering(UNAVAILABLE).await;
    let route = "timeout: 400ms, retry: { on: [503], attempts: 100, backoff: 150ms }";
    let config = config(r#""@app@""#, route, "");
    let proxy = Proxy::start(&config, &[("app", &busy.address())]).await;
    // An attempt that is under way when the time is up makes a 504; few are.
    let mut statuses = Vec::new();
    eventually(STEP, "what was answered and not a 504", async || {
        let (start, before) = (Instant::now(), busy.requests().len());
        let response = get(proxy.web(), "t", "/").await;
        assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
        let attempts = busy.requests().len() - before;
        assert!((1..=8).contains(&attempts), "{attempts}");
        statuses.push(response.status);
        (response.status, response.text().as_str()) == (503, "busy") && attempts > 1
    })
    .await;
    assert!(statuses.len() < 6, "{statuses:?}");
}

#[tokio::test]
async fn an_upstream_that_fails_altogether_sees_no_more_than_its_budget_allows() {
    let (one, other) = (Backend::answering(UNAVAILABLE).await, resetting().await);
    let config = config(
        r#""@one@", "@other@""#,
        "retry: { on: [503, reset], attempts: 3, backoff: 1ms }",
        "retry_budget: { ratio: 20%, min_per_second: 0 }",
    );
    let values: [(&str, &dyn std::fmt::Display); 2] =
        [("one", &one.address()), ("other", &other.address())];
    let proxy = Proxy::start(&config, &values).await;
    let mut clients = Vec::new();
    for _ in 0..8 {
        clients.push(Client::connect(proxy.web()).await);
    }
    for number in 0..400 {
        let response = clients[number % 8].request("GET", "t", "/").await;
        assert!([502, 503].contains(&response.status), "{response}");
    }
    let attempts = one.requests().len() + other.requests().len();
    assert!(attempts <= 480, "400 requests made {attempts} attempts");
    assert!(attempts >= 470, "the budget is there to be used: {attempts}");
    let labels = [("upstream", "app"), ("reason", "budget")];
    let refused = proxy.metrics().await;
    let refused = refused.sum("portcullis_upstream_retries_refused_total", &labels);
    assert!(refused >= 300.0, "{refused}");
}

#[tokio::test]
async fn an_upstream_that_fails_altogether_sees_a_fifth_more_and_ten_a_second_by_default() {
    let (one, other, third) =
        (Backend::answering(UNAVAILABLE).await, resetting().await, resetting().await);
    let config = r#"
workers: 2
listeners: { web: { bind: "@web@" } }
hosts: { "*": { routes: [ { path: /, upstream: app, retry: { on: [reset, gateway_error] } } ] } }
upstreams: { app: { endpoints: ["@one@", "@other@", "@third@"] } }
"#;
    let values: [(&str, &dyn std::fmt::Display); 3] =
        [("one", &one.address()), ("other", &other.address()), ("third", &third.address())];
    let proxy = Proxy::start(config, &values).await;
    let (clients, each, start) = (8, 200, Instant::now());
    let clients: Vec<_> = (0..clients)
        .map(|_| {
            let web = proxy.web();
            tokio::spawn(async move {
                let mut client = Client::connect(web).await;
                for _ in 0..each {
                    let status = client.request("GET", "t", "/").await.status;
                    assert!([502, 503].contains(&status), "{status}");
                }
            })
        })
        .collect();
    let requests = clients.len() * each;
    for client in clients {
        client.await.expect("no failure");
    }
    let attempts = [&one, &other, &third].map(|back| back.requests().len()).iter().sum::<usize>();
    // What is allowed without any request is that of ten seconds, and then ten a second.
    let floor = 10 * (10 + start.elapsed().as_secs() as usize + 1);
    let most = requests + requests / 5 + floor;
    assert!(
        attempts <= most,
        "{requests} requests made {attempts} attempts in {:?}",
        start.elapsed()
    );
    assert!(attempts >= requests + requests / 5, "the budget is there to be used: {attempts}");
}

#[tokio::test]
async fn streams_that_an_endpoint_refuses_are_held_against_the_budget() {
    let seen = Arc::new(AtomicUsize::new(0));
    let (one, other) = (
        h2_resetting(h2::Reason::REFUSED_STREAM, seen.clone()).await,
        h2_resetting(h2::Reason::REFUSED_STREAM, seen.clone()).await,
    );
    let budget = "protocol: h2c, retry_budget: { ratio: 20%, min_per_second: 0 }";
    let config = config(r#""@one@", "@other@""#, "", budget);
    let proxy = Proxy::start(&config, &[("one", &one), ("other", &other)]).await;
    let mut client = Client::connect(proxy.web()).await;
    for _ in 0..200 {
        assert_eq!(client.request("GET", "t", "/").await.status, 502);
    }
    let attempts = seen.load(Ordering::SeqCst);
    assert!((235..=240).contains(&attempts), "200 requests made {attempts} attempts");
}

#[tokio::test]
async fn connections_that_cannot_be_made_are_not_held_against_the_budget() {
    let good = Backend::saying("fine").await;
    let config =
        config(r#""@dead@", "@app@""#, "", "retry_budget: { ratio: 0%, min_per_second: 0 }");
    let values: [(&str, &dyn std::fmt::Display); 2] =
        [("app", &good.address()), ("dead", &reserve())];
    let proxy = Proxy::start(&config, &values).await;
    for _ in 0..20 {
        assert_eq!(get(proxy.web(), "t", "/").await.status, 200);
    }
}

#[tokio::test]
async fn streams_that_an_http_2_endpoint_resets_or_refuses_go_elsewhere() {
    for reason in [h2::Reason::INTERNAL_ERROR, h2::Reason::REFUSED_STREAM] {
        let seen = Arc::new(AtomicUsize::new(0));
        let bad = h2_resetting(reason, seen.clone()).await;
        let good = Server::http2(|_| async { answer(200, "fine") }).await;
        let config = config(r#""@one@", "@other@""#, "", "protocol: h2c");
        let values: [(&str, &dyn std::fmt::Display); 2] =
            [("one", &bad), ("other", &good.address())];
        let proxy = Proxy::start(&config, &values).await;
        let mut client = Client::connect(proxy.web()).await;
        for _ in 0..6 {
            assert_eq!(client.request("GET", "t", "/").await.text(), "fine", "{reason:?}");
        }
        client.send(put("/", b"hello")).await;
        client.response().await;
        client.send(put("/", b"hello")).await;
        assert_eq!(client.response().await.text(), "fine", "a small body goes along");
        let failed = seen.load(Ordering::SeqCst);
        assert!(failed >= 7, "{reason:?}: {failed}");
        assert_eq!(good.requests(), 8, "{reason:?}");
        // What was refused was not acted upon; what was reset may have been.
        client.send("POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 0\r\n\r\n").await;
        let one = client.response().await.status;
        client.send("POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 0\r\n\r\n").await;
        let other = client.response().await.status;
        assert!(seen.load(Ordering::SeqCst) > failed);
        let expected = if reason == h2::Reason::REFUSED_STREAM { 200 } else { 502 };
        assert_eq!((one.max(other), one.min(other)), (expected, 200), "{reason:?}");
    }
}

/// An HTTP/2 endpoint that ends every stream so.
async fn h2_resetting(reason: h2::Reason, seen: Arc<AtomicUsize>) -> std::net::SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let seen = seen.clone();
            tokio::spawn(async move {
                let connection: Result<h2::server::Connection<_, Bytes>, _> =
                    h2::server::handshake(stream).await;
                let Ok(mut connection) = connection else { return };
                while let Some(Ok((_, mut respond))) = connection.accept().await {
                    seen.fetch_add(1, Ordering::SeqCst);
                    respond.send_reset(reason);
                }
            });
        }
    });
    address
}
