//! Balancing by the load that endpoints report (ORCA): least utilisation and weights by load.
//! Reports are for the proxy: clients never see them.

mod polled;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use http_body_util::{BodyExt, Full};

use crate::harness::*;

const REPORTS: &str = "portcullis_upstream_load_reports_total";

/// Says nothing of its load.
const SILENT: usize = usize::MAX;

/// A back end that answers with its name and reports `percent` of that moment in its head.
async fn reporting(name: &'static str, percent: &Arc<AtomicUsize>) -> Backend {
    let percent = percent.clone();
    Backend::script(move |mut conn| {
        let percent = percent.clone();
        async move {
            while conn.request().await.is_some() {
                let report = match percent.load(Ordering::SeqCst) {
                    SILENT => String::new(),
                    percent => {
                        let busy = percent as f64 / 100.0;
                        format!("Endpoint-Load-Metrics: TEXT cpu_utilization={busy}\r\n")
                    }
                };
                conn.send(format!("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n{report}\r\n{name}"))
                    .await;
            }
        }
    })
    .await
}

/// A back end whose responses have these fields and its name as their body.
async fn answering(name: &str, fields: &str) -> Backend {
    let length = name.len();
    let fields: String = fields.lines().map(|line| format!("{}\r\n", line.trim())).collect();
    Backend::answering(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n{fields}\r\n{name}"))
        .await
}

/// A back end whose responses have these trailers and its name as their body.
async fn trailing(name: &str, trailers: &str) -> Backend {
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\
                Trailer: Endpoint-Load-Metrics, X-Sum";
    Backend::answering(format!("{head}\r\n\r\n1\r\n{name}\r\n0\r\n{trailers}\r\nX-Sum: 7\r\n\r\n"))
        .await
}

fn busy(percent: usize) -> Arc<AtomicUsize> {
    Arc::new(AtomicUsize::new(percent))
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
workers: 1
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

/// What the API says of `backend`.
async fn endpoint(proxy: &Proxy, backend: &Backend) -> serde_json::Value {
    let upstreams = proxy.admin("/api/upstreams").await.json();
    let endpoints = upstreams[0]["endpoints"].as_array().expect("endpoints").clone();
    let address = backend.address().to_string();
    endpoints.into_iter().find(|one| one["address"] == *address).expect("the endpoint is listed")
}

async fn reports(proxy: &Proxy, result: &str) -> f64 {
    proxy.metrics().await.sum(REPORTS, &[("upstream", "app"), ("result", result)])
}

#[tokio::test]
async fn traffic_moves_to_the_endpoint_that_says_it_is_less_busy() {
    let (busy_a, busy_b) = (busy(90), busy(10));
    let (a, b) = (reporting("a", &busy_a).await, reporting("b", &busy_b).await);
    let proxy = over("{ least_utilization: { interval: 2s } }", &a, &b).await;
    let mut client = Client::connect(proxy.web()).await;
    eventually(STEP, "all goes to b", async || share(&mut client, 30).await == (0, 30)).await;
    assert!(!a.requests().is_empty(), "both were asked while nothing was known of them");
    busy_a.store(10, Ordering::SeqCst);
    busy_b.store(90, Ordering::SeqCst);
    eventually(STEP, "all goes to a", async || share(&mut client, 30).await == (30, 0)).await;
}

#[tokio::test]
async fn the_api_shows_what_endpoints_report_and_how_old_that_is() {
    let a = answering("a", "Endpoint-Load-Metrics: TEXT cpu_utilization=0.9").await;
    let b = answering("b", "Endpoint-Load-Metrics: JSON {\"cpuUtilization\": 0.1}").await;
    let proxy = over("least_utilization", &a, &b).await;
    let before = endpoint(&proxy, &a).await;
    assert!(before["utilization"].is_null() && before["reported_ago_ms"].is_null(), "{before}");
    let mut client = Client::connect(proxy.web()).await;
    eventually(STEP, "both have reported", async || {
        share(&mut client, 1).await;
        !a.requests().is_empty() && !b.requests().is_empty()
    })
    .await;
    let since = Instant::now();
    let (shown_a, shown_b) = (endpoint(&proxy, &a).await, endpoint(&proxy, &b).await);
    assert_eq!((&shown_a["utilization"], &shown_b["utilization"]), (&0.9.into(), &0.1.into()));
    if since.elapsed() < Duration::from_secs(5) {
        assert!(shown_a["cost"].as_f64() > shown_b["cost"].as_f64(), "{shown_a} {shown_b}");
    }
    pass(Duration::from_millis(50)).await;
    let aged = endpoint(&proxy, &a).await["reported_ago_ms"].as_u64().expect("an age");
    assert!(aged >= 50 + shown_a["reported_ago_ms"].as_u64().expect("an age"), "{aged}");
}

#[tokio::test]
async fn the_busier_gets_less_once_the_blackout_is_over_where_weights_follow_load() {
    let a = answering("a", "Endpoint-Load-Metrics: TEXT cpu_utilization=0.5,rps_fractional=300");
    let b = answering("b", "Endpoint-Load-Metrics: TEXT cpu_utilization=0.5,rps_fractional=100");
    let (a, b) = (a.await, b.await);
    let start = Instant::now();
    let blackout = Duration::from_secs(2);
    let balance = "{ client_side_weighted_round_robin: { blackout: 2s, update: 100ms } }";
    let proxy = over(balance, &a, &b).await;
    let mut client = Client::connect(proxy.web()).await;
    assert_eq!(share(&mut client, 2).await, (1, 1));
    let shown = (endpoint(&proxy, &a).await, endpoint(&proxy, &b).await);
    assert_eq!(
        (&shown.0["reported_weight"], &shown.1["reported_weight"]),
        (&600.0.into(), &200.0.into()),
        "known and not used yet"
    );
    eventually(STEP, "weights follow what is reported", async || {
        let weight = endpoint(&proxy, &a).await["effective_weight"].as_f64().expect("a weight");
        let early = start.elapsed() < blackout;
        assert!(!early || weight == 1.0, "{weight} in the blackout");
        (weight - 1.5).abs() < 0.01
    })
    .await;
    assert!(start.elapsed() >= blackout);
    eventually(STEP, "three of four go to the one that does three times as much", async || {
        let (a, b) = share(&mut client, 80).await;
        (57..=63).contains(&a) && a + b == 80
    })
    .await;
}

#[tokio::test]
async fn reports_in_a_head_are_read_in_every_form_and_never_reach_the_client() {
    for (fields, result) in [
        ("Endpoint-Load-Metrics: TEXT cpu_utilization=0.5,named_metrics.queue=5", "accepted"),
        ("Endpoint-Load-Metrics: cpu_utilization:0.5", "accepted"),
        ("ENDPOINT-LOAD-METRICS: JSON {\"cpu_utilization\": 0.5}", "accepted"),
        ("Endpoint-Load-Metrics: BIN CQAAAAAAAOA/", "accepted"),
        ("Endpoint-Load-Metrics-Bin: CQAAAAAAAOA/", "accepted"),
        ("Endpoint-Load-Metrics-Json: {\"cpuUtilization\": 0.5}", "accepted"),
        ("Endpoint-Load-Metrics: TEXT cpu_utilization=-1", "malformed"),
    ] {
        let a = answering("a", &format!("X-Kept: 1\n{fields}")).await;
        for balance in ["least_utilization", "weighted_by_load", "least_request"] {
            let proxy = over_one(balance, &a).await;
            let response = get(proxy.web(), "t", "/").await;
            assert_eq!((response.status, response.text().as_str()), (200, "a"), "{fields}");
            assert_eq!(response.headers.get("x-kept"), Some("1"));
            let mut names = response.headers.0.iter().map(|(name, _)| name.to_lowercase());
            assert!(!names.any(|name| name.contains("load")), "{balance}: {response}");
            let (counted, shown) = (reports(&proxy, result).await, endpoint(&proxy, &a).await);
            if balance == "least_request" {
                assert!(counted == 0.0 && shown["utilization"].is_null(), "not read: {shown}");
            } else {
                assert_eq!(counted, 1.0, "{fields}");
                let expected = (result == "accepted").then_some(0.5);
                assert_eq!(shown["utilization"].as_f64(), expected, "{fields}");
            }
        }
    }
}

#[tokio::test]
async fn reports_in_http_1_trailers_count_and_are_taken_out() {
    let a = trailing("a", "Endpoint-Load-Metrics: TEXT cpu_utilization=0.9").await;
    let b = trailing("b", "ENDPOINT-LOAD-METRICS-BIN: CQAAAAAAAOA/").await;
    let proxy = over("least_utilization", &a, &b).await;
    let mut client = Client::connect(proxy.web()).await;
    eventually(STEP, "all goes to b", async || share(&mut client, 20).await == (0, 20)).await;
    assert_eq!(endpoint(&proxy, &a).await["utilization"], 0.9);
    assert_eq!(endpoint(&proxy, &b).await["utilization"], 0.5);
    client.send("GET / HTTP/1.1\r\nHost: t\r\nTE: trailers\r\nConnection: te\r\n\r\n").await;
    let response = client.response().await;
    assert_eq!(response.headers.get("trailer"), Some("X-Sum"), "{response}");
    assert_eq!(response.trailers.0, [("x-sum".to_owned(), "7".to_owned())]);
    assert_eq!(reports(&proxy, "malformed").await, 0.0);
}

/// An HTTP/2 back end that answers with one gRPC message, and trailers with a report.
async fn grpc(report: &'static str) -> Server {
    Server::http2(move |_| async move {
        let trailers = HeaderMap::from_iter([
            ("grpc-status".parse().expect("a name"), HeaderValue::from_static("0")),
            (
                "endpoint-load-metrics-bin".parse().expect("a name"),
                HeaderValue::from_static(report),
            ),
        ]);
        let body = Full::new(Bytes::from_static(b"\0\0\0\0\0"));
        let body = body.with_trailers(async move { Some(Ok(trailers)) });
        let mut answer = http::Response::new(body.map_err(|never| match never {}).boxed_unsync());
        let headers = answer.headers_mut();
        headers.insert("content-type", HeaderValue::from_static("application/grpc"));
        headers.insert("content-length", HeaderValue::from_static("5"));
        answer
    })
    .await
}

#[tokio::test]
async fn reports_in_grpc_trailers_count_and_are_taken_out() {
    // 0.5 and 0.25 as the field 1 of the message.
    let (a, b) = (grpc("CQAAAAAAAOA/").await, grpc("CQAAAAAAANA/").await);
    let proxy = Proxy::start(
        r#"
workers: 1
access_log: true
listeners: { web: { bind: "@web@" } }
hosts: { "*": { routes: [ { path: /, upstream: app } ] } }
upstreams: { app: { protocol: h2c, endpoints: ["@a@", "@b@"], balance: least_utilization } }
"#,
        &[("a", &a.address()), ("b", &b.address())],
    )
    .await;
    let mut h2 = H2::connect(proxy.web()).await;
    eventually(STEP, "b gets ten in a row", async || {
        let before = (a.requests(), b.requests());
        for _ in 0..10 {
            let response = h2.get("t", "/echo.Echo/Once").await;
            assert_eq!(response.trailer("grpc-status"), Some("0"));
            assert_eq!(response.trailer("endpoint-load-metrics-bin"), None);
            assert_eq!(response.body.as_ref(), b"\0\0\0\0\0");
        }
        (a.requests(), b.requests()) == (before.0, before.1 + 10)
    })
    .await;
    let metrics = proxy.metrics().await;
    let all = (a.requests() + b.requests()) as f64;
    assert_eq!(metrics.sum(REPORTS, &[("result", "accepted")]), all);
}

#[tokio::test]
async fn a_report_behind_a_body_of_known_length_counts_for_clients_of_http_1_too() {
    let app = grpc("CQAAAAAAAOA/").await;
    let proxy = Proxy::start(
        r#"
access_log: true
listeners: { web: { bind: "@web@" } }
hosts: { "*": { routes: [ { path: /, upstream: app } ] } }
upstreams: { app: { protocol: h2c, endpoints: ["@app@"], balance: least_utilization } }
"#,
        &[("app", &app.address())],
    )
    .await;
    let mut client = Client::connect(proxy.web()).await;
    for _ in 0..3 {
        assert_eq!(client.request("GET", "t", "/").await.body, b"\0\0\0\0\0");
    }
    proxy.metrics_until("all reports are read", |metrics| metrics.sum(REPORTS, &[]) == 3.0).await;
    let line = proxy.stdout_line("a log line", |line| line.contains("\"status\":200")).await;
    assert!(line.contains("\"reason\":\"-\""), "the client did not go away: {line}");
}

#[tokio::test]
async fn garbage_is_ignored_and_does_no_harm() {
    let many = |count: usize| (0..count).map(|n| format!("named_metrics.m{n}=1,")).collect();
    let field = |value: String| format!("Endpoint-Load-Metrics: {value}\r\n");
    let good = field("TEXT cpu_utilization=0.3".into());
    let mut garbage: Vec<String> = [
        "TEXT cpu_utilization=NaN",
        "TEXT cpu_utilization=inf",
        "TEXT cpu_utilization=-0.5",
        "TEXT cpu_utilization=1e400",
        "TEXT cpu_utilization=1e300",
        "TEXT cpu_utilization=0.1,cpu_utilization=0.2",
        "TEXT cpu_utilization",
        "TEXT",
        "",
        "what?",
        "\u{fffd}=1",
        "JSON {",
        "JSON [0.1]",
        "JSON {\"cpu_utilization\": \"NaN\"}",
        "JSON {\"cpu_utilization\": 1e999}",
        "JSON {\"cpu_utilization\": {}}",
        "BIN !!!!",
        "BIN CQAA",
        "BIN CQAAAAAAAPB/", // infinite
        "BIN CQAAAAAAAPj/", // not a number
        "BIN /////////////////////w==",
    ]
    .map(|value| field(value.into()))
    .into();
    let long: String = many(70);
    garbage.push(field(format!("TEXT {long}eps=1")));
    garbage.push(field(format!("TEXT named_metrics.{}=1", "x".repeat(300))));
    garbage.push(field(format!("BIN {}", "A".repeat(12_000))));
    garbage.push(format!("{good}{good}"));
    garbage.push(format!("{good}Endpoint-Load-Metrics-Bin: CQAAAAAAAOA/\r\n"));
    let count = garbage.len();
    let garbage = Arc::new(garbage);
    let a = Backend::script({
        let (good, garbage) = (good.clone(), garbage.clone());
        move |mut conn| {
            let (good, garbage) = (good.clone(), garbage.clone());
            async move {
                while let Some(seen) = conn.request().await {
                    let number: Option<usize> = seen.target.trim_start_matches('/').parse().ok();
                    let fields = number.and_then(|number| garbage.get(number)).unwrap_or(&good);
                    conn.send(format!("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n{fields}\r\na"))
                        .await;
                }
            }
        }
    })
    .await;
    let proxy = over_one("least_utilization", &a).await;
    let mut client = Client::connect(proxy.web()).await;
    client.request("GET", "t", "/good").await;
    for number in 0..count {
        let response = client.request("GET", "t", &format!("/{number}")).await;
        assert_eq!((response.status, &*response.body), (200, &b"a"[..]), "{}", garbage[number]);
        assert!(!response.headers.has("endpoint-load-metrics"), "{}", garbage[number]);
        let malformed = reports(&proxy, "malformed").await;
        assert_eq!(malformed, number as f64 + 1.0, "{}", garbage[number]);
    }
    assert_eq!(reports(&proxy, "accepted").await, 1.0);
    assert_eq!(endpoint(&proxy, &a).await["utilization"], 0.3, "the good one still counts");
    assert_eq!(a.connections(), 1, "the connection is as good as before");
}

#[tokio::test]
async fn a_report_is_forgotten_after_three_intervals() {
    let (busy_a, busy_b) = (busy(90), busy(10));
    let (a, b) = (reporting("a", &busy_a).await, reporting("b", &busy_b).await);
    let proxy = over("{ least_utilization: { interval: 500ms } }", &a, &b).await;
    let mut client = Client::connect(proxy.web()).await;
    eventually(STEP, "a was asked", async || share(&mut client, 1).await == (1, 0)).await;
    let asked = Instant::now();
    busy_a.store(SILENT, Ordering::SeqCst);
    let before = a.requests().len();
    eventually(STEP, "a is asked again", async || {
        share(&mut client, 1).await;
        a.requests().len() > before
    })
    .await;
    let apart = asked.elapsed();
    assert!(apart > Duration::from_secs(1) || b.requests().is_empty(), "{apart:?}");
    eventually(STEP, "a is not known to be busy", async || {
        endpoint(&proxy, &a).await["cost"].is_null()
    })
    .await;
    let shown = endpoint(&proxy, &a).await;
    assert_eq!(shown["utilization"], 0.9, "what it said last, and how long ago: {shown}");
    assert!(shown["reported_ago_ms"].as_u64() >= Some(1500), "{shown}");
    // Chance decides between one that says nothing and one that is not busy.
    eventually(STEP, "both are asked", async || {
        let (a, b) = share(&mut client, 20).await;
        a > 2 && b > 2
    })
    .await;
}
