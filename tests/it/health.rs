//! Endpoints that fail, are ejected or found unhealthy, and come back: what a client notices.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::harness::*;

/// The status of one that says nothing.
const SILENCE: usize = 0;

/// A back end that answers every request with a status that can be changed, and its own name;
/// `/healthz` with another one. Counts both apart.
struct App {
    backend: Backend,
    state: Arc<State>,
}

struct State {
    status: AtomicUsize,
    health: AtomicUsize,
    requests: AtomicUsize,
    checks: AtomicUsize,
}

impl App {
    async fn new(status: usize) -> Self {
        let state = Arc::new(State {
            status: AtomicUsize::new(status),
            health: AtomicUsize::new(200),
            requests: AtomicUsize::new(0),
            checks: AtomicUsize::new(0),
        });
        let shared = Arc::clone(&state);
        let backend = Backend::script(move |mut conn| {
            let state = Arc::clone(&shared);
            async move {
                while let Some(seen) = conn.request().await {
                    let (count, status) = match seen.target == "/healthz" {
                        true => (&state.checks, &state.health),
                        false => (&state.requests, &state.status),
                    };
                    count.fetch_add(1, Ordering::SeqCst);
                    let status = status.load(Ordering::SeqCst);
                    if status == SILENCE {
                        return conn.stall().await;
                    }
                    conn.send(format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n")).await;
                }
            }
        })
        .await;
        Self { backend, state }
    }

    fn answer(&self, status: usize) {
        self.state.status.store(status, Ordering::SeqCst);
    }

    fn answer_checks(&self, status: usize) {
        self.state.health.store(status, Ordering::SeqCst);
    }

    fn requests(&self) -> usize {
        self.state.requests.load(Ordering::SeqCst)
    }

    fn checks(&self) -> usize {
        self.state.checks.load(Ordering::SeqCst)
    }
}

/// Turns, so that each endpoint gets its share; retries would hide what single endpoints answer.
fn turns(endpoints: &str, upstream: &str) -> String {
    format!(
        r#"
workers: 1
listeners: {{ web: {{ bind: "@web@" }} }}
hosts: {{ "*": {{ routes: [ {{ path: /, upstream: app, retry: {{ attempts: 0 }} }} ] }} }}
upstreams:
  app: {{ endpoints: [{endpoints}], balance: round_robin, {upstream} }}
"#
    )
}

/// Two apps in turns.
async fn pair(a: &App, b: &App, upstream: &str) -> Proxy {
    let values: [(&str, &dyn std::fmt::Display); 2] =
        [("a", &a.backend.address()), ("b", &b.backend.address())];
    Proxy::start(&turns(r#""@a@", "@b@""#, upstream), &values).await
}

async fn statuses(proxy: &Proxy, count: usize) -> Vec<u16> {
    let mut client = Client::connect(proxy.web()).await;
    let mut statuses = Vec::new();
    for _ in 0..count {
        statuses.push(client.request("GET", "t", "/").await.status);
    }
    statuses
}

fn ejected(metrics: &Metrics) -> f64 {
    metrics.sum("portcullis_upstream_ejected", &[("upstream", "app")])
}

fn up(metrics: &Metrics) -> f64 {
    metrics.sum("portcullis_endpoint_up", &[("upstream", "app")])
}

#[tokio::test]
async fn a_failing_endpoint_gets_no_requests_for_a_while_and_comes_back() {
    let (good, bad) = (App::new(200).await, App::new(500).await);
    let policy = "outlier: { ejection: 2s }";
    let proxy = pair(&good, &bad, policy).await;
    let seen = statuses(&proxy, 10).await;
    assert_eq!(seen.iter().filter(|status| **status == 500).count(), 5, "{seen:?}");
    proxy.metrics_until("one is ejected", |metrics| ejected(metrics) == 1.0).await;
    let metrics = proxy.metrics().await;
    let ejections = [("upstream", "app"), ("reason", "consecutive_5xx")];
    assert_eq!(metrics.sum("portcullis_upstream_ejections_total", &ejections), 1.0);
    assert_eq!(up(&metrics), 1.0);

    let (before, since) = (bad.requests(), Instant::now());
    let seen = statuses(&proxy, 50).await;
    if since.elapsed() < Duration::from_secs(1) {
        assert!(seen.iter().all(|status| *status == 200), "{seen:?}");
        assert_eq!(bad.requests(), before, "no request reaches the ejected one");
    }
    proxy.logs("5 consecutive 5xx").await;

    bad.answer(200);
    proxy.metrics_until("it is back", |metrics| ejected(metrics) == 0.0).await;
    assert_eq!(up(&proxy.metrics().await), 2.0);
    eventually(STEP, "it gets requests again", async || {
        assert!(statuses(&proxy, 10).await.iter().all(|status| *status == 200));
        bad.requests() > before
    })
    .await;
}

#[tokio::test]
async fn an_endpoint_that_hangs_past_the_requests_time_is_ejected() {
    let good = App::new(200).await;
    let hung = Backend::script(|mut conn| async move { conn.stall().await }).await;
    let config = turns(r#""@a@", "@b@""#, "outlier: { ejection: 60s }")
        .replace("retry: { attempts: 0 }", "timeout: 100ms");
    let proxy =
        Proxy::start(&config, &[("a", &good.backend.address()), ("b", &hung.address())]).await;
    eventually(STEP, "the hung one is ejected", async || {
        let _ = statuses(&proxy, 2).await;
        ejected(&proxy.metrics().await) == 1.0
    })
    .await;
    let metrics = proxy.metrics().await;
    let local = [("upstream", "app"), ("reason", "consecutive_local")];
    assert_eq!(metrics.sum("portcullis_upstream_ejections_total", &local), 1.0);
    assert!(statuses(&proxy, 20).await.iter().all(|status| *status == 200));
}

#[tokio::test]
async fn an_endpoint_whose_responses_break_off_is_ejected() {
    let good = App::new(200).await;
    let broken = Backend::script(|mut conn| async move {
        conn.request().await;
        conn.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf").await;
    })
    .await;
    let config = turns(r#""@a@", "@b@""#, "outlier: { ejection: 60s }");
    let proxy =
        Proxy::start(&config, &[("a", &good.backend.address()), ("b", &broken.address())]).await;
    for _ in 0..10 {
        let mut client = Client::connect(proxy.web()).await;
        client.send("GET / HTTP/1.1\r\nHost: t\r\n\r\n").await;
        let _ = client.try_response(false).await;
    }
    proxy.metrics_until("it is ejected", |metrics| ejected(metrics) == 1.0).await;
    let local = [("upstream", "app"), ("reason", "consecutive_local")];
    let metrics = proxy.metrics().await;
    assert_eq!(metrics.sum("portcullis_upstream_ejections_total", &local), 1.0);
    assert_eq!(broken.requests().len(), 5);
}

#[tokio::test]
async fn the_grpc_health_protocol_is_asked_over_h2c() {
    let healthy = Arc::new(AtomicUsize::new(1));
    let status = Arc::clone(&healthy);
    let app = Server::http2(move |request| {
        let status = status.load(Ordering::SeqCst) as u8;
        async move {
            let health = request.uri().path() == "/grpc.health.v1.Health/Check";
            let body = if health { vec![0, 0, 0, 0, 2, 8, status] } else { Vec::new() };
            let mut answer = answer(200, body);
            let headers = answer.headers_mut();
            headers.insert("content-type", "application/grpc".parse().expect("a value"));
            headers.insert("grpc-status", "0".parse().expect("a value"));
            answer
        }
    })
    .await;
    let config = turns(
        r#""@a@""#,
        "protocol: h2c, health: { type: grpc, service: shop.Cart, interval: 20ms, unhealthy_interval: 20ms }",
    );
    let proxy = Proxy::start(&config, &[("a", &app.address())]).await;
    let count = |metrics: &Metrics, result| {
        let labels = [("upstream", "app"), ("result", result)];
        metrics.sum("portcullis_health_checks_total", &labels)
    };
    proxy.metrics_until("it serves", |metrics| count(metrics, "success") > 2.0).await;
    assert_eq!(up(&proxy.metrics().await), 1.0);
    healthy.store(2, Ordering::SeqCst);
    proxy.metrics_until("it does not serve", |metrics| up(metrics) == 0.0).await;
    assert!(count(&proxy.metrics().await, "not_serving") >= 3.0);
    healthy.store(1, Ordering::SeqCst);
    proxy.metrics_until("it serves again", |metrics| up(metrics) == 1.0).await;
}

#[tokio::test]
async fn clients_who_send_slowly_get_no_endpoint_ejected() {
    for limits in ["timeout: 50ms", "timeouts: { idle: 50ms }"] {
        let (a, b) = (App::new(200).await, App::new(200).await);
        let config = turns(r#""@a@", "@b@""#, "outlier: { ejection: 60s }")
            .replace("retry: { attempts: 0 }", limits);
        let values: [(&str, &dyn std::fmt::Display); 2] =
            [("a", &a.backend.address()), ("b", &b.backend.address())];
        let proxy = Proxy::start(&config, &values).await;
        for _ in 0..20 {
            let mut client = Client::connect(proxy.web()).await;
            client.send("POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 9\r\n\r\nx").await;
            let status = client.response().await.status;
            assert!([408, 504].contains(&status), "{status}");
        }
        let metrics = proxy.metrics().await;
        let app = [("upstream", "app")];
        assert_eq!(metrics.sum("portcullis_upstream_ejections_total", &app), 0.0, "{limits}");
    }
}

#[tokio::test]
async fn an_endpoint_that_fails_now_and_then_stays() {
    let (good, flapping) = (App::new(200).await, App::new(500).await);
    let proxy = pair(&good, &flapping, "outlier: { success_rate: off }").await;
    for round in 0..5 {
        let before = flapping.requests();
        for (status, seen) in [(500, 4), (200, 5)] {
            flapping.answer(status);
            eventually(STEP, "it gets its requests", async || {
                let _ = statuses(&proxy, 1).await;
                flapping.requests() >= before + seen
            })
            .await;
        }
        let metrics = proxy.metrics().await;
        assert_eq!(ejected(&metrics), 0.0, "round {round}");
    }
}

#[tokio::test]
async fn when_all_fail_the_last_one_stays_and_keeps_answering() {
    let (a, b) = (App::new(503).await, App::new(500).await);
    let proxy = pair(&a, &b, "outlier: { ejection: 60s }").await;
    let _ = statuses(&proxy, 20).await;
    proxy.metrics_until("one is ejected", |metrics| ejected(metrics) == 1.0).await;
    let before = a.requests() + b.requests();
    for response in 0..50 {
        let response = get(proxy.web(), "t", &format!("/{response}")).await;
        assert!([500, 503].contains(&response.status), "{response}");
    }
    assert_eq!(a.requests() + b.requests(), before + 50, "endpoints answer, not the proxy");
    let metrics = proxy.metrics().await;
    assert_eq!((ejected(&metrics), up(&metrics)), (1.0, 1.0));

    let alone = App::new(500).await;
    let config = turns(r#""@a@""#, "outlier: { ejection: 60s }");
    let proxy = Proxy::start(&config, &[("a", &alone.backend.address())]).await;
    assert_eq!(statuses(&proxy, 50).await, [500; 50]);
    assert_eq!((alone.requests(), ejected(&proxy.metrics().await)), (50, 0.0));
}

#[tokio::test]
async fn without_outlier_ejection_nobody_goes() {
    let (good, bad) = (App::new(200).await, App::new(500).await);
    let proxy = pair(&good, &bad, "outlier: off").await;
    let _ = statuses(&proxy, 100).await;
    assert_eq!((good.requests(), bad.requests()), (50, 50));
}

const CHECKS: &str = "health: { path: /healthz, interval: 50ms, timeout: 5s }";

#[tokio::test]
async fn an_endpoint_found_unhealthy_is_left_out_until_it_is_healthy() {
    let (good, sick) = (App::new(200).await, App::new(200).await);
    let proxy = pair(&good, &sick, CHECKS).await;
    eventually(STEP, "both are checked", async || good.checks() > 1 && sick.checks() > 1).await;
    assert_eq!(up(&proxy.metrics().await), 2.0);

    sick.answer_checks(503);
    proxy.metrics_until("it is found unhealthy", |metrics| up(metrics) == 1.0).await;
    let before = sick.requests();
    assert_eq!(statuses(&proxy, 40).await, [200; 40]);
    assert_eq!(sick.requests(), before);
    proxy.logs("unhealthy: status 503").await;
    let counted = [("upstream", "app"), ("result", "status")];
    assert!(proxy.metrics().await.sum("portcullis_health_checks_total", &counted) >= 3.0);

    sick.answer_checks(200);
    proxy.metrics_until("it is healthy", |metrics| up(metrics) == 2.0).await;
    eventually(STEP, "it gets requests again", async || {
        assert!(statuses(&proxy, 10).await.iter().all(|status| *status == 200));
        sick.requests() > before
    })
    .await;
}

#[tokio::test]
async fn nobody_waits_for_checks_at_the_start_and_all_unhealthy_are_used_all_the_same() {
    let (a, b) = (App::new(200).await, App::new(200).await);
    a.answer_checks(500);
    b.answer_checks(500);
    let proxy = pair(&a, &b, CHECKS).await;
    assert_eq!(statuses(&proxy, 4).await, [200; 4]);
    proxy.metrics_until("both are found unhealthy", |metrics| up(metrics) == 0.0).await;
    let (before_a, before_b) = (a.requests(), b.requests());
    assert_eq!(statuses(&proxy, 40).await, [200; 40], "panic: health is ignored");
    assert!(a.requests() > before_a && b.requests() > before_b);
}

#[tokio::test]
async fn checks_do_not_multiply_with_routes_listeners_and_reloads() {
    let app = App::new(200).await;
    let config = |routes: usize| {
        let mut config = String::from(
            "listeners: { web: { bind: \"@web@\" }, other: { bind: \"@other@\" } }\nhosts:\n",
        );
        for host in 0..routes {
            config.push_str(&format!(
                "  h{host}.test: {{ routes: [ {{ path: /a, upstream: app }}, {{ path: /b, upstream: app }} ] }}\n"
            ));
        }
        config.push_str(
            "upstreams: { app: { endpoints: [\"@a@\"], health: { path: /healthz, interval: 100ms, jitter: 0 } } }\n",
        );
        config
    };
    let mut proxy = Proxy::start(&config(50), &[("a", &app.backend.address())]).await;
    for routes in 51..54 {
        proxy.rewrite(&config(routes));
        let routed = format!("h{}.test", routes - 1);
        eventually(STEP, "the new route is there", async || {
            get(proxy.web(), &routed, "/a").await.status == 200
        })
        .await;
    }
    let (before, started) = (app.checks(), Instant::now());
    eventually(STEP, "twenty checks", async || app.checks() >= before + 20).await;
    let took = started.elapsed();
    assert!(took > Duration::from_millis(1_700), "twenty checks 100 ms apart took {took:?}");
}

#[tokio::test]
async fn an_endpoint_that_joins_gets_requests_after_its_first_check_only() {
    let (old, new) = (App::new(200).await, App::new(200).await);
    let values: [(&str, &dyn std::fmt::Display); 2] =
        [("a", &old.backend.address()), ("b", &new.backend.address())];
    let checks = "health: { path: /healthz, interval: 50ms, timeout: 500ms }";
    let mut proxy = Proxy::start(&turns(r#""@a@""#, checks), &values).await;
    eventually(STEP, "it is checked", async || old.checks() > 1).await;
    new.answer_checks(SILENCE);
    proxy.rewrite(&turns(r#""@a@", "@b@""#, checks));
    eventually(STEP, "the new one is being checked", async || new.checks() > 0).await;
    assert_eq!(statuses(&proxy, 20).await, [200; 20]);
    assert_eq!(new.requests(), 0);
    new.answer_checks(200);
    eventually(STEP, "it gets requests", async || {
        let _ = statuses(&proxy, 2).await;
        new.requests() > 0
    })
    .await;
}
