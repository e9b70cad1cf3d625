//! Balancing by the load that endpoints report (ORCA) or that is seen of them: least utilisation,
//! weights by load, Prequal. Reports are for the proxy: clients never see them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http_body_util::{BodyExt, Full};

use crate::harness::*;

const REPORTS: &str = "portcullis_upstream_load_reports_total";

/// A back end whose responses have these fields and its name as their body.
async fn reporting(name: &str, fields: &str) -> Backend {
    let length = name.len();
    let fields: String = fields.lines().map(|line| format!("{}\r\n", line.trim())).collect();
    Backend::answering(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n{fields}\r\n{name}"))
        .await
}

/// A proxy with `balance` over the back ends `a` and `b`.
async fn over(balance: &str, a: &Backend, b: &Backend) -> Proxy {
    start(balance, &format!("{:?}, {:?}", a.address().to_string(), b.address().to_string())).await
}

/// A proxy with `balance` over one back end.
async fn over_one(balance: &str, app: &Backend) -> Proxy {
    start(balance, &format!("{:?}", app.address().to_string())).await
}

async fn start(balance: &str, endpoints: &str) -> Proxy {
    let config = format!(
        r#"
listeners: {{ web: {{ bind: "@web@" }} }}
hosts: {{ "*": {{ routes: [ {{ path: /, upstream: app }} ] }} }}
upstreams: {{ app: {{ endpoints: [{endpoints}], outlier: off, balance: {balance} }} }}
"#
    );
    Proxy::start(&config, &[]).await
}

/// How many of `count` requests, one after the other, each back end answered.
async fn share(client: &mut Client, count: usize) -> (usize, usize) {
    let mut by = (0, 0);
    for _ in 0..count {
        let response = client.request("GET", "t", "/").await;
        assert_eq!(response.status, 200, "{response}");
        match &*response.body {
            b"a" => by.0 += 1,
            b"b" => by.1 += 1,
            other => panic!("who is {:?}?", String::from_utf8_lossy(other)),
        }
    }
    by
}

#[tokio::test]
async fn requests_go_to_the_endpoint_that_says_it_is_less_busy() {
    let a = reporting("a", "Endpoint-Load-Metrics: TEXT cpu_utilization=0.9").await;
    let b = reporting("b", "Endpoint-Load-Metrics: JSON {\"cpuUtilization\": 0.1}").await;
    let proxy = over("least_utilization", &a, &b).await;
    let mut client = Client::connect(proxy.web()).await;
    // Until both have reported, the requests in flight decide.
    eventually(STEP, "both are known", async || {
        share(&mut client, 1).await;
        !a.requests().is_empty() && !b.requests().is_empty()
    })
    .await;
    assert_eq!(share(&mut client, 50).await, (0, 50));
}

#[tokio::test]
async fn the_busier_gets_less_where_weights_follow_load() {
    let a = reporting("a", "Endpoint-Load-Metrics: TEXT cpu_utilization=0.5,rps_fractional=300");
    let b = reporting("b", "Endpoint-Load-Metrics: TEXT cpu_utilization=0.5,rps_fractional=100");
    let (a, b) = (a.await, b.await);
    let proxy = over("{ weighted_by_load: { blackout: off, update: 100ms } }", &a, &b).await;
    let mut client = Client::connect(proxy.web()).await;
    eventually(STEP, "three of four go to the one that does three times as much", async || {
        let (a, b) = share(&mut client, 80).await;
        (57..=63).contains(&a) && a + b == 80
    })
    .await;
}

#[tokio::test]
async fn clients_never_see_a_report_in_a_head_whatever_its_form() {
    for (fields, result) in [
        ("Endpoint-Load-Metrics: TEXT cpu_utilization=0.3,named_metrics.queue=5", "accepted"),
        ("ENDPOINT-LOAD-METRICS: JSON {\"cpu_utilization\": 0.3}", "accepted"),
        ("Endpoint-Load-Metrics: BIN CQAAAAAAAOA/", "accepted"),
        ("Endpoint-Load-Metrics-Bin: CQAAAAAAAOA/", "accepted"),
        ("Endpoint-Load-Metrics-Json: {\"eps\": 1}", "accepted"),
        ("Endpoint-Load-Metrics: TEXT cpu_utilization=-1", "malformed"),
        ("Endpoint-Load-Metrics: what?", "malformed"),
        ("Endpoint-Load-Metrics: TEXT eps=1\nEndpoint-Load-Metrics: TEXT eps=1", "malformed"),
    ] {
        let a = reporting("a", &format!("X-Kept: 1\n{fields}")).await;
        let proxy = over_one("least_utilization", &a).await;
        let response = get(proxy.web(), "t", "/").await;
        assert_eq!((response.status, response.text().as_str()), (200, "a"), "{fields}");
        assert_eq!(response.headers.get("x-kept"), Some("1"));
        let seen = response.headers.0.iter().any(|(name, _)| name.to_lowercase().contains("load"));
        assert!(!seen, "{response}");
        let labels = [("upstream", "app"), ("result", result)];
        assert_eq!(proxy.metrics().await.sum(REPORTS, &labels), 1.0, "{fields}");
    }
}

#[tokio::test]
async fn reports_are_the_clients_where_the_proxy_has_no_use_for_them() {
    let a = reporting("a", "Endpoint-Load-Metrics: TEXT cpu_utilization=0.3").await;
    let proxy = over_one("least_request", &a).await;
    let response = get(proxy.web(), "t", "/").await;
    assert_eq!(response.headers.get("endpoint-load-metrics"), Some("TEXT cpu_utilization=0.3"));
    assert!(!proxy.metrics().await.has(REPORTS, &[]));
}

#[tokio::test]
async fn a_report_in_http_1_trailers_is_read_and_taken_out() {
    let answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\
         Trailer: Endpoint-Load-Metrics, X-Sum\r\n\r\n1\r\na\r\n0\r\n\
         Endpoint-Load-Metrics: TEXT cpu_utilization=0.3\r\nX-Sum: 7\r\n\r\n";
    let a = Backend::answering(answer).await;
    let proxy = over_one("least_utilization", &a).await;
    let mut client = Client::connect(proxy.web()).await;
    client.send("GET / HTTP/1.1\r\nHost: t\r\nTE: trailers\r\nConnection: te\r\n\r\n").await;
    let response = client.response().await;
    assert_eq!(response.headers.get("trailer"), Some("X-Sum"), "{response}");
    assert_eq!(response.trailers.get("x-sum"), Some("7"), "{:?}", response.trailers);
    assert!(!response.trailers.has("endpoint-load-metrics"), "{:?}", response.trailers);
    let labels = [("result", "accepted")];
    assert_eq!(proxy.metrics().await.sum(REPORTS, &labels), 1.0);
}

#[tokio::test]
async fn a_report_in_grpc_trailers_is_read_and_taken_out() {
    let app = Server::http2(|_| async {
        let trailers = HeaderMap::from_iter([
            ("grpc-status".parse().expect("a name"), "0".parse().expect("a value")),
            (
                "endpoint-load-metrics-bin".parse().expect("a name"),
                "CQAAAAAAAOA/".parse().expect("a value"),
            ),
        ]);
        let body = Full::new(Bytes::from_static(b"\0\0\0\0\0"));
        let body = body.with_trailers(async move { Some(Ok(trailers)) });
        let body = body.map_err(|never| match never {}).boxed_unsync();
        let mut answer = http::Response::new(body);
        answer.headers_mut().insert("content-type", "application/grpc".parse().expect("a value"));
        answer
    })
    .await;
    let proxy = Proxy::start(
        r#"
listeners: { web: { bind: "@web@" } }
hosts: { "*": { routes: [ { path: /, upstream: app } ] } }
upstreams: { app: { protocol: h2c, endpoints: ["@app@"], balance: least_utilization } }
"#,
        &[("app", &app.address())],
    )
    .await;
    let mut h2 = H2::connect(proxy.web()).await;
    let response = h2.get("t", "/echo.Echo/Once").await;
    assert_eq!(response.trailer("grpc-status"), Some("0"));
    assert_eq!(response.trailer("endpoint-load-metrics-bin"), None);
    assert_eq!(response.body.as_ref(), b"\0\0\0\0\0");
    assert_eq!(proxy.metrics().await.sum(REPORTS, &[("result", "accepted")]), 1.0);
}

/// A back end that answers `GET /load` with `told`, formatted by `as_json`, and requests with its
/// name after `pause`; told nothing while `told` is the greatest number.
async fn telling(
    name: &'static str,
    pause: Duration,
    told: Arc<AtomicUsize>,
    as_json: fn(usize) -> String,
) -> Backend {
    Backend::script(move |mut conn| {
        let told = told.clone();
        async move {
            while let Some(request) = conn.request().await {
                let (status, body) = match (&*request.target, told.load(Ordering::SeqCst)) {
                    ("/load", usize::MAX) => (503, String::new()),
                    ("/load", told) => (200, as_json(told)),
                    _ => {
                        pass(pause).await;
                        (200, name.into())
                    }
                };
                let length = body.len();
                conn.send(format!("HTTP/1.1 {status} X\r\nContent-Length: {length}\r\n\r\n{body}"))
                    .await;
            }
        }
    })
    .await
}

fn utilization(percent: usize) -> String {
    format!("{{\"application_utilization\": {}}}", percent as f64 / 100.0)
}

#[tokio::test]
async fn load_is_polled_and_forgotten_when_it_is_no_longer_told() {
    let (busy_a, busy_b) = (Arc::new(AtomicUsize::new(90)), Arc::new(AtomicUsize::new(10)));
    let a = telling("a", Duration::ZERO, busy_a.clone(), utilization).await;
    let b = telling("b", Duration::ZERO, busy_b.clone(), utilization).await;
    let balance = "{ least_utilization: { poll: /load, interval: 100ms } }";
    let proxy = over(balance, &a, &b).await;
    let mut client = Client::connect(proxy.web()).await;
    eventually(STEP, "b is known to be idle", async || share(&mut client, 20).await == (0, 20))
        .await;
    busy_a.store(10, Ordering::SeqCst);
    busy_b.store(90, Ordering::SeqCst);
    eventually(STEP, "a is known to be idle", async || share(&mut client, 20).await == (20, 0))
        .await;
    busy_a.store(usize::MAX, Ordering::SeqCst);
    busy_b.store(usize::MAX, Ordering::SeqCst);
    eventually(STEP, "neither is known any more", async || {
        let (a, b) = share(&mut client, 20).await;
        a > 4 && b > 4
    })
    .await;
    let metrics = proxy.metrics().await;
    assert!(metrics.sum(REPORTS, &[("result", "accepted")]) >= 4.0);
    assert!(metrics.sum(REPORTS, &[("result", "failed")]) >= 2.0);
}

#[tokio::test]
async fn prequal_avoids_the_slow_endpoint() {
    let never = Arc::new(AtomicUsize::new(usize::MAX));
    let slow = telling("a", Duration::from_millis(100), never.clone(), utilization).await;
    let fast = telling("b", Duration::ZERO, never, utilization).await;
    let proxy = over("prequal", &slow, &fast).await;
    let mut client = Client::connect(proxy.web()).await;
    let (slow, fast) = share(&mut client, 100).await;
    assert!(slow <= 10, "{slow} to the slow one, {fast} to the fast one");
}

#[tokio::test]
async fn prequal_believes_probes_of_endpoints_that_others_load() {
    fn probe(rif: usize) -> String {
        format!("{{\"rif\": {rif}, \"latency_ms\": {rif}}}")
    }
    let (a, b) = (Arc::new(AtomicUsize::new(500)), Arc::new(AtomicUsize::new(1)));
    let one = telling("a", Duration::ZERO, a.clone(), probe).await;
    let two = telling("b", Duration::ZERO, b.clone(), probe).await;
    let balance = "{ prequal: { probe_path: /load, max_age: 200ms } }";
    let proxy = over(balance, &one, &two).await;
    let mut client = Client::connect(proxy.web()).await;
    eventually(STEP, "b is told to be idle", async || share(&mut client, 20).await == (0, 20))
        .await;
    b.store(900, Ordering::SeqCst);
    eventually(STEP, "a is told to be the better one", async || {
        share(&mut client, 20).await == (20, 0)
    })
    .await;
}
