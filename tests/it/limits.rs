//! What an upstream bears: limits, the queue before them, and requests that are turned away.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

use crate::harness::*;

fn config(workers: u32, endpoints: &str, upstream: &str) -> String {
    format!(
        r#"
workers: {workers}
access_log: true
listeners: {{ web: {{ bind: "@web@" }} }}
hosts: {{ "*": {{ routes: [ {{ path: /, upstream: app }} ] }} }}
upstreams: {{ app: {{ endpoints: [{endpoints}], outlier: off, {upstream} }} }}
"#
    )
}

/// A back end that answers when it is let, and counts how many requests it has at once.
struct Held {
    backend: Backend,
    go: Arc<Semaphore>,
    most: Arc<AtomicUsize>,
    now: Arc<AtomicUsize>,
}

impl Held {
    async fn new() -> Self {
        let go = Arc::new(Semaphore::new(0));
        let (most, now) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let backend = Backend::script({
            let (go, most, now) = (go.clone(), most.clone(), now.clone());
            move |mut conn| {
                let (go, most, now) = (go.clone(), most.clone(), now.clone());
                async move {
                    while conn.request().await.is_some() {
                        let here = now.fetch_add(1, Ordering::SeqCst) + 1;
                        most.fetch_max(here, Ordering::SeqCst);
                        go.acquire().await.expect("never closed").forget();
                        now.fetch_sub(1, Ordering::SeqCst);
                        conn.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
                    }
                }
            }
        })
        .await;
        Self { backend, go, most, now }
    }

    async fn has(&self, count: usize) {
        eventually(STEP, "requests arrive", async || self.now.load(Ordering::SeqCst) == count)
            .await;
    }
}

async fn send(proxy: &Proxy, target: &str) -> Client {
    let mut client = Client::connect(proxy.web()).await;
    client.send(format!("GET {target} HTTP/1.1\r\nHost: t\r\n\r\n")).await;
    client
}

async fn pending(proxy: &Proxy, count: f64) {
    proxy
        .metrics_until("requests wait", |metrics| {
            metrics.sum("portcullis_upstream_pending", &[("upstream", "app")]) == count
        })
        .await;
}

async fn shed(proxy: &Proxy, reason: &str) -> f64 {
    let labels = [("upstream", "app"), ("reason", reason)];
    proxy.metrics().await.sum("portcullis_upstream_shed_total", &labels)
}

#[tokio::test]
async fn beyond_the_limit_and_without_a_queue_requests_are_refused_at_once() {
    let app = Held::new().await;
    let config = config(2, r#""@app@""#, "limits: { requests: 2, pending: 0 }");
    let proxy = Proxy::start(&config, &[("app", &app.backend.address())]).await;
    let mut first = [send(&proxy, "/1").await, send(&proxy, "/2").await];
    app.has(2).await;
    let start = Instant::now();
    for _ in 0..5 {
        let response = get(proxy.web(), "t", "/more").await;
        response.assert_refused(503, "overloaded");
        assert_eq!(response.headers.get("retry-after"), Some("1"));
    }
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    assert_eq!((app.backend.requests().len(), shed(&proxy, "overloaded").await), (2, 5.0));
    app.go.add_permits(10);
    for client in &mut first {
        assert_eq!(client.response().await.text(), "ok");
    }
    assert_eq!(get(proxy.web(), "t", "/again").await.status, 200, "places come back");
}

#[tokio::test]
async fn a_request_in_the_queue_is_served_when_a_place_comes_free() {
    let app = Held::new().await;
    let config = config(2, r#""@app@""#, "limits: { requests: 1, pending_timeout: 20s }");
    let proxy = Proxy::start(&config, &[("app", &app.backend.address())]).await;
    let mut clients = Vec::new();
    for number in 0..6 {
        clients.push(send(&proxy, &format!("/{number}")).await);
    }
    app.has(1).await;
    pending(&proxy, 5.0).await;
    app.go.add_permits(6);
    for client in &mut clients {
        assert_eq!(client.response().await.text(), "ok");
    }
    assert_eq!(app.most.load(Ordering::SeqCst), 1);
    pending(&proxy, 0.0).await;
    proxy.stdout_line("the wait is logged", |line| line.contains("queue_ms")).await;
}

#[tokio::test]
async fn a_request_that_waits_for_too_long_is_turned_away() {
    let app = Held::new().await;
    let config = config(1, r#""@app@""#, "limits: { requests: 1, pending_timeout: 300ms }");
    let proxy = Proxy::start(&config, &[("app", &app.backend.address())]).await;
    let mut first = send(&proxy, "/first").await;
    app.has(1).await;
    let start = Instant::now();
    get(proxy.web(), "t", "/late").await.assert_refused(503, "queue_timeout");
    assert!(start.elapsed() >= Duration::from_millis(290), "{:?}", start.elapsed());
    assert_eq!(shed(&proxy, "queue_timeout").await, 1.0);
    app.go.add_permits(2);
    assert_eq!(first.response().await.text(), "ok");
    assert_eq!(get(proxy.web(), "t", "/next").await.status, 200);
}

#[tokio::test]
async fn clients_that_leave_give_their_places_back() {
    let app = Held::new().await;
    let config = config(2, r#""@app@""#, "limits: { requests: 1, pending_timeout: 20s }");
    let proxy = Proxy::start(&config, &[("app", &app.backend.address())]).await;
    let first = send(&proxy, "/first").await;
    app.has(1).await;
    let waits = [send(&proxy, "/1").await, send(&proxy, "/2").await, send(&proxy, "/3").await];
    let mut last = send(&proxy, "/last").await;
    pending(&proxy, 4.0).await;
    drop(waits);
    pending(&proxy, 1.0).await;
    drop(first);
    app.go.add_permits(5);
    assert_eq!(last.response().await.text(), "ok");
    assert_eq!(get(proxy.web(), "t", "/next").await.status, 200);
}

#[tokio::test]
async fn workers_share_the_places_and_no_request_is_lost_between_them() {
    let now = Arc::new(AtomicUsize::new(0));
    let most = Arc::new(AtomicUsize::new(0));
    let app = Backend::script({
        let (now, most) = (now.clone(), most.clone());
        move |mut conn| {
            let (now, most) = (now.clone(), most.clone());
            async move {
                while conn.request().await.is_some() {
                    let here = now.fetch_add(1, Ordering::SeqCst) + 1;
                    most.fetch_max(here, Ordering::SeqCst);
                    tokio::task::yield_now().await;
                    now.fetch_sub(1, Ordering::SeqCst);
                    conn.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
                }
            }
        }
    })
    .await;
    let config = config(4, r#""@app@""#, "limits: { requests: 3, pending_timeout: 20s }");
    let proxy = Proxy::start(&config, &[("app", &app.address())]).await;
    let clients = (0..40).map(|_| {
        let address = proxy.web();
        tokio::spawn(async move {
            let mut client = Client::connect(address).await;
            for _ in 0..25 {
                assert_eq!(client.request("GET", "t", "/").await.text(), "ok");
            }
        })
    });
    for client in clients.collect::<Vec<_>>() {
        within(STEP, "every request is answered", client).await.expect("no failure");
    }
    assert_eq!(app.requests().len(), 1_000);
    let most = most.load(Ordering::SeqCst);
    assert!((2..=3).contains(&most), "{most} at once");
}

#[tokio::test]
async fn no_endpoint_gets_more_than_its_share() {
    let (one, other) = (Held::new().await, Held::new().await);
    let upstream = "limits: { requests_per_endpoint: 2, pending_timeout: 20s }";
    let config = config(2, r#""@one@", "@other@""#, upstream);
    let values: [(&str, &dyn std::fmt::Display); 2] =
        [("one", &one.backend.address()), ("other", &other.backend.address())];
    let proxy = Proxy::start(&config, &values).await;
    let mut clients = Vec::new();
    for number in 0..8 {
        clients.push(send(&proxy, &format!("/{number}")).await);
    }
    one.has(2).await;
    other.has(2).await;
    pending(&proxy, 4.0).await;
    one.go.add_permits(8);
    other.go.add_permits(8);
    for client in &mut clients {
        assert_eq!(client.response().await.text(), "ok");
    }
    let most = [&one, &other].map(|app| app.most.load(Ordering::SeqCst));
    assert_eq!(most, [2, 2]);
}

#[tokio::test]
async fn an_adaptive_limit_sheds_what_the_upstream_cannot_do_and_lets_the_rest_through() {
    // Four at a time for 20 ms each: 200 a second.
    let cores = Arc::new(Semaphore::new(4));
    let most = Arc::new(AtomicUsize::new(0));
    let app = Backend::script({
        let (cores, most, now) = (cores, most.clone(), Arc::new(AtomicUsize::new(0)));
        move |mut conn| {
            let (cores, most, now) = (cores.clone(), most.clone(), now.clone());
            async move {
                while conn.request().await.is_some() {
                    most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    let core = cores.acquire().await.expect("never closed");
                    pass(Duration::from_millis(20)).await;
                    drop(core);
                    now.fetch_sub(1, Ordering::SeqCst);
                    conn.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
                }
            }
        }
    })
    .await;
    let upstream = "limits: { pending: 0, adaptive: { min: 2, initial: 8, interval: 50ms } }";
    let config = config(2, r#""@app@""#, upstream);
    let proxy = Proxy::start(&config, &[("app", &app.address())]).await;
    // Alone it learns what is usual.
    let mut client = Client::connect(proxy.web()).await;
    for _ in 0..50 {
        assert_eq!(client.request("GET", "t", "/").await.status, 200);
    }
    let (served, refused) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let until = Instant::now() + Duration::from_secs(3);
    let clients = (0..60).map(|_| {
        let (served, refused, address) = (served.clone(), refused.clone(), proxy.web());
        tokio::spawn(async move {
            let mut client = Client::connect(address).await;
            while Instant::now() < until {
                match client.request("GET", "t", "/").await.status {
                    200 => served.fetch_add(1, Ordering::SeqCst),
                    503 => refused.fetch_add(1, Ordering::SeqCst),
                    other => panic!("{other}"),
                };
                pass(Duration::from_millis(20)).await;
            }
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.await.expect("no failure");
    }
    let (served, refused) = (served.load(Ordering::SeqCst), refused.load(Ordering::SeqCst));
    let most = most.load(Ordering::SeqCst);
    assert!(most <= 24, "60 clients, {most} at once");
    assert!(refused > served, "{served} served, {refused} refused");
    assert!(served > 100, "the upstream stays busy: {served} in 3 s");
    let limit = proxy.metrics().await;
    let limit = limit.sum("portcullis_upstream_concurrency_limit", &[("upstream", "app")]);
    assert!((2.0..=24.0).contains(&limit), "{limit}");
}

#[tokio::test]
async fn retries_in_flight_have_a_limit_of_their_own() {
    let busy =
        Backend::answering("HTTP/1.1 503 Busy\r\nRetry-After: 1\r\nContent-Length: 4\r\n\r\nbusy")
            .await;
    let config = format!(
        r#"
workers: 1
listeners: {{ web: {{ bind: "@web@" }} }}
hosts: {{ "*": {{ routes: [ {{ path: /, upstream: app, retry: {{ on: [503], attempts: 1 }} }} ] }} }}
upstreams: {{ app: {{ endpoints: ["{}"], outlier: off, limits: {{ retries: 1 }} }} }}
"#,
        busy.address()
    );
    let proxy = Proxy::start(&config, &[]).await;
    let mut clients = Vec::new();
    for _ in 0..4 {
        clients.push(send(&proxy, "/").await);
    }
    for client in &mut clients {
        assert_eq!(client.response().await.status, 503);
    }
    assert_eq!(busy.requests().len(), 5, "one of four was repeated");
    let labels = [("upstream", "app"), ("reason", "limit")];
    let metrics = proxy.metrics().await;
    assert_eq!(metrics.sum("portcullis_upstream_retries_refused_total", &labels), 3.0);
}
