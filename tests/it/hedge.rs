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

/// Says its name: after 60 ms to those who ask for `/60`; where it `hangs`, never to those who ask
/// for `/slow`.
async fn usual(name: &'static str, hangs: bool) -> Backend {
    Backend::script(move |mut conn| async move {
        while let Some(seen) = conn.request().await {
            match seen.target.as_str() {
                "/60" => pass(Duration::from_millis(60)).await,
                "/slow" if hangs => return conn.stall().await,
                _ => {}
            }
            let length = name.len();
            conn.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{name}")).await;
        }
    })
    .await
}

#[tokio::test]
async fn what_is_usual_for_a_route_is_not_hedged_and_what_is_slower_is_no_sooner() {
    let (usual, quick) = (usual("usual", true).await, usual("second", false).await);
    let route = "hedge: { after: p95, budget: 100% }, retry: off, timeouts: { response: 1s }";
    let proxy = start(usual.address(), quick.address(), route, "").await;
    // Too little is known yet: one that hangs is waited for.
    let first = [get(proxy.web(), "t", "/slow").await, get(proxy.web(), "t", "/slow").await];
    assert_eq!(first.iter().filter(|response| response.status == 504).count(), 1);
    let clients: Vec<_> = (0..20)
        .map(|_| {
            let web = proxy.web();
            tokio::spawn(async move {
                let mut client = Client::connect(web).await;
                for _ in 0..8 {
                    assert_eq!(client.request("GET", "t", "/60").await.status, 200);
                }
            })
        })
        .collect();
    for client in clients {
        client.await.expect("all are answered");
    }
    let usual_hedges = count(&proxy, "hedges").await;
    assert!(usual_hedges <= 20.0, "{usual_hedges} of 160");
    let asked = || usual.requests().iter().filter(|seen| seen.target == "/slow").count();
    for _ in 0..4 {
        let (before, start) = (asked(), Instant::now());
        assert_eq!(get(proxy.web(), "t", "/slow").await.text(), "second");
        let (hung, took) = (asked() > before, start.elapsed());
        assert!(
            !hung || took >= Duration::from_millis(55),
            "what is usual is waited for: {took:?}"
        );
    }
    assert!(count(&proxy, "hedges_won").await >= 2.0);
}

#[tokio::test]
async fn a_body_that_is_not_there_or_too_large_goes_once() {
    let (slow, quick) = (slow().await, slow().await);
    let route = "hedge: { after: 20ms, budget: 100% }, timeouts: { response: 300ms }, \
                 retry: { attempts: 1, on: [reset], buffer: 1KiB }";
    let proxy = start(slow.address(), quick.address(), route, "").await;
    let asked = || slow.requests().len() + quick.requests().len();
    // Too large to be kept.
    let mut client = Client::connect(proxy.web()).await;
    client.send("PUT /slow HTTP/1.1\r\nHost: t\r\nContent-Length: 2000\r\n\r\n").await;
    client.send([b'x'; 2000]).await;
    client.response().await.assert_refused(504, "response_timeout");
    assert_eq!(asked(), 1);
    // Still on its way when the second would go.
    let mut client = Client::connect(proxy.web()).await;
    client.send("PUT /slow HTTP/1.1\r\nHost: t\r\nContent-Length: 10\r\n\r\nhello").await;
    eventually(STEP, "the first half is there", async || asked() == 2).await;
    pass(Duration::from_millis(150)).await;
    client.send("world").await;
    client.response().await.assert_refused(504, "response_timeout");
    assert_eq!((asked(), count(&proxy, "hedges").await), (2, 0.0));
}

#[tokio::test]
async fn a_switch_of_protocols_and_a_single_endpoint_are_asked_for_once() {
    let (slow, quick) = (slow().await, slow().await);
    let route = "hedge: { after: 20ms, budget: 100% }, timeouts: { response: 300ms }";
    let proxy = start(slow.address(), quick.address(), route, "").await;
    let mut client = Client::connect(proxy.web()).await;
    client.send(handshake("t", "/slow")).await;
    client.response().await.assert_refused(504, "response_timeout");
    assert_eq!(slow.requests().len() + quick.requests().len(), 1);

    let config = config(route, "").replace(r#", "@other@""#, "");
    let proxy = Proxy::start(&config, &[("one", &slow.address())]).await;
    let before = slow.requests().len();
    get(proxy.web(), "t", "/slow").await.assert_refused(504, "response_timeout");
    assert_eq!((slow.requests().len(), count(&proxy, "hedges").await), (before + 1, 0.0));
}

#[tokio::test]
async fn an_endpoint_whose_attempts_were_cancelled_is_not_held_to_have_failed() {
    let (slow, quick) = (slow().await, Backend::saying("second").await);
    let route = "hedge: { after: 10ms, budget: 100% }";
    let config = config(route, "").replace("outlier: off", "outlier: { consecutive_local: 1 }");
    let values: [(&str, &dyn std::fmt::Display); 2] =
        [("one", &slow.address()), ("other", &quick.address())];
    let proxy = Proxy::start(&config, &values).await;
    for _ in 0..12 {
        assert_eq!(get(proxy.web(), "t", "/slow").await.text(), "second");
    }
    eventually(STEP, "the losers are cancelled", async || slow.open() == 0).await;
    let metrics = proxy.metrics().await;
    let sum = |name: &str| metrics.sum(&format!("portcullis_{name}"), &[]);
    assert_eq!((sum("upstream_ejections_total"), sum("upstream_errors_total")), (0.0, 0.0));
    assert_eq!((sum("requests_total"), sum("requests_in_flight")), (12.0, 0.0));
    assert_eq!(sum("upstream_attempts_total"), 12.0 + sum("upstream_hedges_total"));
    let upstreams = proxy.admin("/api/upstreams").await.json();
    for endpoint in upstreams[0]["endpoints"].as_array().expect("endpoints") {
        assert_eq!((&endpoint["in_flight"], &endpoint["state"]), (&0.into(), &"available".into()));
    }
}

#[tokio::test]
async fn where_no_connection_is_made_in_time_another_endpoint_is_asked() {
    let (hole, quick) = (BlackHole::open().await, Backend::saying("second").await);
    let route = "hedge: { after: 30ms, budget: 100% }, timeouts: { connect: 20s }";
    let proxy = start(hole.address(), quick.address(), route, "").await;
    let start = Instant::now();
    for _ in 0..4 {
        assert_eq!(get(proxy.web(), "t", "/").await.text(), "second");
    }
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    assert!(count(&proxy, "hedges_won").await >= 2.0);
}

#[tokio::test]
async fn hedges_take_places_within_the_upstreams_limit() {
    let (slow, quick) = (slow().await, Backend::saying("second").await);
    let route = "hedge: { after: 20ms, budget: 100% }, timeouts: { response: 200ms }";
    let proxy = start(slow.address(), quick.address(), route, "limits: { requests: 1 }").await;
    let mut late = 0;
    for _ in 0..4 {
        late += usize::from(get(proxy.web(), "t", "/slow").await.status == 504);
    }
    assert!(late >= 2, "those that began at the slow one: {late}");
    assert_eq!(count(&proxy, "hedges").await, 0.0);
    let labels = [("upstream", "app"), ("reason", "limit")];
    let refused = proxy.metrics().await;
    let refused = refused.sum("portcullis_upstream_hedges_refused_total", &labels);
    assert_eq!(refused, late as f64);
}

#[tokio::test]
async fn where_both_attempts_disappoint_a_third_endpoint_is_asked() {
    let late = || {
        Backend::script(|mut conn| async move {
            while conn.request().await.is_some() {
                pass(Duration::from_millis(100)).await;
                conn.send("HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy").await;
            }
        })
    };
    let (one, other, third) = (late().await, late().await, Backend::saying("third").await);
    let route = "hedge: { after: 30ms, budget: 100% }, retry: { on: [503], attempts: 1 }";
    let config = config(route, "").replace(r#""@other@""#, r#""@other@", "@third@""#);
    let config = config.replace("round_robin", "random");
    let values: [(&str, &dyn std::fmt::Display); 3] =
        [("one", &one.address()), ("other", &other.address()), ("third", &third.address())];
    let proxy = Proxy::start(&config, &values).await;
    for _ in 0..24 {
        let response = get(proxy.web(), "t", "/").await;
        assert_eq!((response.status, response.text().as_str()), (200, "third"), "{response}");
    }
}
