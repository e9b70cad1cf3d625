//! Slow requests that are sent a second time: the first response wins, the other is cancelled.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::harness::*;

fn config(route: &str, upstream: &str) -> String {
    format!(
        r#"
workers: 1
access_log: true
listeners: {{ web: {{ bind: "@web@" }} }}
hosts: {{ "*": {{ routes: [ {{ path: /, upstream: app, {route} }} ] }} }}
upstreams: {{ app: {{ endpoints: ["@one@", "@other@"], balance: round_robin, outlier: off, {upstream} }} }}
"#
    )
}

async fn start(
    one: std::net::SocketAddr,
    other: std::net::SocketAddr,
    route: &str,
    upstream: &str,
) -> Proxy {
    Proxy::start(&config(route, upstream), &[("one", &one), ("other", &other)]).await
}

/// Reads requests and never answers those to `/slow`.
async fn slow() -> Backend {
    Backend::script(|mut conn| async move {
        while let Some(seen) = conn.request().await {
            if seen.target == "/slow" {
                return conn.stall().await;
            }
            conn.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nquick").await;
        }
    })
    .await
}

async fn count(proxy: &Proxy, name: &str) -> f64 {
    let name = format!("portcullis_upstream_{name}_total");
    proxy.metrics().await.sum(&name, &[("upstream", "app")])
}

#[tokio::test]
async fn a_slow_request_is_answered_by_another_endpoint_and_the_first_attempt_is_cancelled() {
    let (slow, quick) = (slow().await, Backend::saying("second").await);
    let route = "hedge: { after: 50ms, budget: 100% }";
    let proxy = start(slow.address(), quick.address(), route, "").await;
    let start = Instant::now();
    for _ in 0..6 {
        let response = get(proxy.web(), "t", "/slow").await;
        assert_eq!((response.status, response.text().as_str()), (200, "second"));
    }
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    let hedged = slow.requests().len();
    assert!(hedged >= 3, "{hedged}");
    eventually(STEP, "the losers are cancelled", async || slow.open() == 0).await;
    assert_eq!(quick.requests().len(), 6, "each was answered once");
    assert_eq!(count(&proxy, "hedges").await, hedged as f64);
    assert_eq!(count(&proxy, "hedges_won").await, hedged as f64);
    assert_eq!(count(&proxy, "errors").await, 0.0, "cancelling is held against nobody");
    let line = proxy.stdout_line("a log line", |line| line.contains(r#""hedge":"won""#)).await;
    let entry: serde_json::Value = serde_json::from_str(&line).expect("JSON");
    assert_eq!(entry["attempts"], 2);
    assert_eq!(entry["endpoint"], quick.address().to_string(), "the one that answered");
}

#[tokio::test]
async fn the_first_attempt_may_still_win() {
    let late = || {
        Backend::script(|mut conn| async move {
            while conn.request().await.is_some() {
                pass(Duration::from_millis(150)).await;
                conn.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlate").await;
            }
        })
    };
    let (one, other) = (late().await, late().await);
    let route = "hedge: { after: 100ms, budget: 100% }";
    let proxy = start(one.address(), other.address(), route, "").await;
    let response = get(proxy.web(), "t", "/").await;
    assert_eq!(response.text(), "late");
    assert_eq!((count(&proxy, "hedges").await, count(&proxy, "hedges_won").await), (1.0, 0.0));
    let line = proxy.stdout_line("a log line", |line| line.contains(r#""hedge":"lost""#)).await;
    let entry: serde_json::Value = serde_json::from_str(&line).expect("JSON");
    let winner = entry["endpoint"].as_str().unwrap_or_default().to_owned();
    eventually(STEP, "the second is cancelled", async || one.open() + other.open() == 1).await;
    let open = if one.open() == 1 { one.address() } else { other.address() };
    assert_eq!(winner, open.to_string(), "the connection of the one that answered is kept");
}

#[tokio::test]
async fn requests_that_are_not_idempotent_are_not_hedged() {
    let (slow, quick) = (slow().await, slow().await);
    let route = "hedge: { after: 20ms, budget: 100% }, timeouts: { response: 200ms }";
    let proxy = start(slow.address(), quick.address(), route, "").await;
    for _ in 0..4 {
        let mut client = Client::connect(proxy.web()).await;
        client.send("POST /slow HTTP/1.1\r\nHost: t\r\nContent-Length: 5\r\n\r\nhello").await;
        assert_eq!(client.response().await.status, 504);
    }
    assert_eq!(slow.requests().len() + quick.requests().len(), 4);
}

#[tokio::test]
async fn a_small_body_goes_with_the_second_attempt() {
    let (slow, quick) = (slow().await, Backend::saying("second").await);
    let route = "hedge: { after: 50ms, budget: 100% }, retry: off";
    let proxy = start(slow.address(), quick.address(), route, "").await;
    let body = body_pattern(10_000);
    for _ in 0..4 {
        let mut client = Client::connect(proxy.web()).await;
        client.send("PUT /slow HTTP/1.1\r\nHost: t\r\nContent-Length: 10000\r\n\r\n").await;
        client.send(&body).await;
        assert_eq!(client.response().await.text(), "second");
        assert_eq!(quick.last().body, body);
    }
    assert!(slow.requests().len() >= 3);
}

#[tokio::test]
async fn hedges_stay_within_their_budget() {
    let late = || {
        Backend::script(|mut conn| async move {
            while conn.request().await.is_some() {
                pass(Duration::from_millis(30)).await;
                conn.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlate").await;
            }
        })
    };
    let (one, other) = (late().await, late().await);
    let proxy =
        start(one.address(), other.address(), "hedge: { after: 5ms, budget: 10% }", "").await;
    let mut client = Client::connect(proxy.web()).await;
    for _ in 0..100 {
        assert_eq!(client.request("GET", "t", "/").await.text(), "late");
    }
    let hedges = count(&proxy, "hedges").await;
    assert!((9.0..=10.0).contains(&hedges), "{hedges} of 100");
    assert!(count(&proxy, "hedges_refused").await >= 89.0);
}

#[tokio::test]
async fn without_a_fixed_time_the_routes_own_latency_says_what_is_slow() {
    let (slow, quick) = (slow().await, Backend::saying("second").await);
    let proxy = start(slow.address(), quick.address(), "hedge: { budget: 100% }", "").await;
    let mut client = Client::connect(proxy.web()).await;
    for _ in 0..110 {
        client.request("GET", "t", "/quick").await;
    }
    pass(Duration::from_millis(300)).await; // what is known is looked at four times a second
    let start = Instant::now();
    for _ in 0..4 {
        assert_eq!(get(proxy.web(), "t", "/slow").await.text(), "second");
    }
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
    assert!(slow.requests().iter().filter(|seen| seen.target == "/slow").count() >= 1);
}

#[tokio::test]
async fn streams_of_an_http_2_endpoint_are_cancelled_too() {
    struct Running(Arc<AtomicUsize>);
    impl Drop for Running {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::SeqCst);
        }
    }
    let (running, begun) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let slow = Server::http2({
        let (running, begun) = (running.clone(), begun.clone());
        move |_| {
            running.fetch_add(1, Ordering::SeqCst);
            begun.fetch_add(1, Ordering::SeqCst);
            let guard = Running(running.clone());
            async move {
                std::future::pending::<()>().await;
                drop(guard);
                answer(200, "never")
            }
        }
    })
    .await;
    let quick = Server::http2(|_| async { answer(200, "second") }).await;
    let route = "hedge: { after: 50ms, budget: 100% }";
    let proxy = start(slow.address(), quick.address(), route, "protocol: h2c").await;
    let mut h2 = H2::connect(proxy.web()).await;
    for _ in 0..4 {
        assert_eq!(h2.get("t", "/").await.text(), "second");
    }
    assert!(begun.load(Ordering::SeqCst) >= 1);
    let cancelled = async || running.load(Ordering::SeqCst) == 0;
    eventually(STEP, "the losers are cancelled", cancelled).await;
    assert_eq!(slow.connections(), 1, "the connection stays");
}

#[tokio::test]
async fn where_the_hedge_fails_the_first_attempt_is_waited_for() {
    let late = Backend::script(|mut conn| async move {
        while conn.request().await.is_some() {
            pass(Duration::from_millis(200)).await;
            conn.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlate").await;
        }
    })
    .await;
    let route = "hedge: { after: 50ms, budget: 100% }, retry: off";
    let proxy = start(late.address(), reserve(), route, "").await;
    let mut answered = 0;
    for _ in 0..4 {
        let response = get(proxy.web(), "t", "/").await;
        answered += usize::from(response.status == 200);
    }
    assert!(answered >= 2, "those that began at the living endpoint: {answered}");
}
