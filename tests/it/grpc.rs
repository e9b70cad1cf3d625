//! gRPC: streams in both directions at once, status in trailers, over TLS and cleartext; what
//! endpoints are judged by.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, Full};
use tokio::sync::Semaphore;

use crate::harness::*;

/// A message in gRPC's length-prefixed form.
fn message(text: &str) -> Bytes {
    let mut bytes = vec![0];
    bytes.extend_from_slice(&(text.len() as u32).to_be_bytes());
    bytes.extend_from_slice(text.as_bytes());
    bytes.into()
}

fn call(method: &str) -> Request<()> {
    Request::post(authority("grpc.example", method))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .expect("a request")
}

/// A bidirectional call: each message is answered before the next is sent.
async fn ping_pong(h2: &mut H2) {
    let (response, mut send) = h2.open(call("/echo.Echo/Chat"), false).await.expect("a stream");
    send.send_data(message("one"), false).expect("open");
    let response = within(STEP, "the response begins", response).await.expect("a response");
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "application/grpc");
    assert_eq!(response.headers()["x-te-seen"], "trailers", "gRPC servers insist on it");
    let mut receive = response.into_body();
    for (number, text) in ["one", "two", "three"].into_iter().enumerate() {
        if number > 0 {
            send.send_data(message(text), false).expect("open");
        }
        let mut got = Vec::new();
        while got.len() < message(text).len() {
            let data =
                within(STEP, "a message", receive.data()).await.expect("open").expect("data");
            receive.flow_control().release_capacity(data.len()).expect("received");
            got.extend_from_slice(&data);
        }
        assert_eq!(got, message(text), "{text}");
    }
    let mut trailers = HeaderMap::new();
    trailers.insert("x-client", "done".parse().expect("a value"));
    send.send_trailers(trailers).expect("open");
    assert!(within(STEP, "the end of data", receive.data()).await.is_none());
    let trailers = receive.trailers().await.expect("whole").expect("trailers");
    assert_eq!(trailers["grpc-status"], "0");
    assert_eq!(trailers["x-client"], "done");
}

#[tokio::test]
async fn calls_pass_over_cleartext_http_2() {
    let app = Server::grpc_h2c().await;
    let proxy = Proxy::start(
        r#"
listeners: { web: { bind: "@web@" } }
hosts: { grpc.example: { routes: [ { path: /echo.Echo, upstream: app } ] } }
upstreams: { app: { protocol: h2c, endpoints: ["@app@"] } }
"#,
        &[("app", &app.address())],
    )
    .await;
    let mut h2 = H2::connect(proxy.web()).await;
    ping_pong(&mut h2).await;
    ping_pong(&mut h2).await;
}

#[tokio::test]
async fn calls_pass_over_tls_on_both_sides() {
    let ca = Ca::new();
    let pair = ca.server(&["grpc.example"]);
    let app = Server::grpc_tls(server_config(&pair, &["h2"], None)).await;
    let setup = Setup::new(
        r#"
listeners:
  secure: { bind: "@secure@", tls: { certificates: [ { cert: grpc.pem, key: grpc.key } ] } }
hosts: { grpc.example: { routes: [ { path: /, upstream: app } ] } }
upstreams: { app: { endpoints: ["@app@"], tls: { ca: ca.pem, server_name: grpc.example } } }
"#,
    );
    let setup = setup.with("app", app.address()).file("ca.pem", ca.pem.as_str());
    let proxy = setup.file("grpc.pem", pair.cert).file("grpc.key", pair.key).start().await;
    let tls = TlsClient::new(&ca, "grpc.example", &["h2"]);
    let mut h2 = H2::tls(proxy.addr("secure"), &tls).await;
    ping_pong(&mut h2).await;
}

#[tokio::test]
async fn a_status_without_messages_arrives_as_trailers_only() {
    let app = Server::http2(|_| async {
        let mut answer = answer(200, "");
        answer.headers_mut().insert("content-type", "application/grpc".parse().expect("a value"));
        answer.headers_mut().insert("grpc-status", "5".parse().expect("a value"));
        answer
    })
    .await;
    let proxy = Proxy::start(
        r#"
listeners: { web: { bind: "@web@" } }
hosts: { "*": { routes: [ { path: /, upstream: app } ] } }
upstreams: { app: { protocol: h2c, endpoints: ["@app@"] } }
"#,
        &[("app", &app.address())],
    )
    .await;
    let mut h2 = H2::connect(proxy.web()).await;
    let response = h2.request(call("/echo.Echo/None"), Some(&message("x")), None).await;
    assert_eq!(response.header("grpc-status"), Some("5"));
    assert!(response.body.is_empty());
}

/// A back end that answers every call with a message, and with a code in trailers once `permits`
/// has one for it. 99 stands for no code at all.
async fn ending(code: &Arc<AtomicUsize>, permits: &Arc<Semaphore>) -> Server {
    let (code, permits) = (code.clone(), permits.clone());
    Server::http2(move |_| {
        let (code, permits) = (code.clone(), permits.clone());
        async move {
            let trailers = async move {
                permits.acquire().await.expect("never closed").forget();
                let code = code.load(Ordering::SeqCst);
                let name = if code == 99 { "x-nothing" } else { "grpc-status" };
                let code = code.to_string().parse().expect("a value");
                Some(Ok(HeaderMap::from_iter([(name.parse().expect("a name"), code)])))
            };
            let body = Full::new(message("hello")).with_trailers(trailers);
            let body = body.map_err(|never| match never {}).boxed_unsync();
            let mut answer = http::Response::new(body);
            let kind = "application/grpc+proto".parse().expect("a value");
            answer.headers_mut().insert("content-type", kind);
            answer
        }
    })
    .await
}

/// One that ends calls at once.
async fn ending_at_once(code: usize) -> Server {
    ending(&Arc::new(AtomicUsize::new(code)), &Arc::new(Semaphore::new(1_000_000))).await
}

/// A proxy over these back ends in turns.
async fn in_turns(upstream: &str, route: &str, apps: &[&Server]) -> Proxy {
    let endpoints = apps.iter().map(|app| format!("{:?}", app.address().to_string()));
    let endpoints = endpoints.collect::<Vec<_>>().join(", ");
    let config = format!(
        r#"
workers: 1
access_log: true
listeners: {{ web: {{ bind: "@web@" }} }}
hosts: {{ "*": {{ routes: [ {{ path: /, upstream: app, {route} }} ] }} }}
upstreams:
  app:
    protocol: h2c
    endpoints: [{endpoints}]
    balance: round_robin
    panic_threshold: 0%
    {upstream}
"#
    );
    Proxy::start(&config, &[]).await
}

async fn called(h2: &mut H2) -> H2Response {
    h2.request(call("/shop.Cart/Get"), Some(&message("x")), None).await
}

fn ejected(metrics: &Metrics) -> f64 {
    metrics.sum("portcullis_upstream_ejected", &[("upstream", "app")])
}

#[tokio::test]
async fn who_answers_calls_with_unavailable_and_nothing_else_is_ejected() {
    let only = async |code: &'static str| {
        Server::http2(move |_| async move {
            let mut answer = answer(200, "");
            let headers = answer.headers_mut();
            headers.insert("content-type", "application/grpc".parse().expect("a value"));
            headers.insert("grpc-status", code.parse().expect("a value"));
            answer
        })
        .await
    };
    let (serving, missing, gone) = (only("0").await, only("5").await, only("14").await);
    let outlier = "outlier: { consecutive_5xx: 0, consecutive_gateway: 5 }";
    let proxy = in_turns(outlier, "retry: off", &[&serving, &missing, &gone]).await;
    let mut h2 = H2::connect(proxy.web()).await;
    eventually(STEP, "the one that is gone is ejected", async || {
        assert_eq!(called(&mut h2).await.status, 200);
        ejected(&proxy.metrics().await) == 1.0
    })
    .await;
    let seen = gone.requests();
    for _ in 0..6 {
        assert_ne!(called(&mut h2).await.header("grpc-status"), Some("14"));
    }
    assert_eq!(gone.requests(), seen);
    let metrics = proxy.metrics().await;
    let reason = [("upstream", "app"), ("reason", "consecutive_gateway")];
    assert_eq!(metrics.sum("portcullis_upstream_ejections_total", &reason), 1.0);
    let responses = [("upstream", "app"), ("code", "5xx")];
    assert_eq!(metrics.sum("portcullis_upstream_responses_total", &responses), 0.0);
}

#[tokio::test]
async fn who_ends_calls_with_unavailable_in_trailers_is_ejected_and_nothing_is_repeated() {
    let (serving, missing) = (ending_at_once(0).await, ending_at_once(5).await);
    let (gone, nameless) = (ending_at_once(14).await, ending_at_once(99).await);
    let apps =
        [(&serving, "ok"), (&missing, "not_found"), (&gone, "unavailable"), (&nameless, "unknown")];
    let proxy = in_turns(
        "outlier: { ejection: 60s, max_ejected: 100%, consecutive_gateway: 5 }",
        r#"retry: { on: ["grpc:unavailable"], non_idempotent: true }"#,
        &apps.map(|(app, _)| app),
    )
    .await;
    let mut h2 = H2::connect(proxy.web()).await;
    let mut calls = 0;
    eventually(STEP, "two are ejected", async || {
        let response = called(&mut h2).await;
        assert_eq!((response.status, response.body), (200, message("hello")));
        calls += 1;
        ejected(&proxy.metrics().await) == 2.0
    })
    .await;
    let metrics = proxy.metrics().await;
    for reason in ["consecutive_gateway", "consecutive_5xx"] {
        let labels = [("upstream", "app"), ("reason", reason)];
        assert_eq!(metrics.sum("portcullis_upstream_ejections_total", &labels), 1.0, "{reason}");
    }
    let all: usize = apps.iter().map(|(app, _)| app.requests()).sum();
    assert_eq!(all, calls, "nothing is repeated behind a message");
    for (app, name) in apps {
        let endpoint = app.address().to_string();
        let labels = [("endpoint", endpoint.as_str()), ("grpc_status", name)];
        let counted = metrics.sum("portcullis_upstream_grpc_responses_total", &labels);
        assert_eq!(counted, app.requests() as f64, "{name}");
    }
    let seen = (gone.requests(), nameless.requests());
    for _ in 0..10 {
        let response = called(&mut h2).await;
        assert!(["0", "5"].contains(&response.trailer("grpc-status").expect("a code")));
    }
    assert_eq!((gone.requests(), nameless.requests()), seen);
    let line = proxy.stdout_line("a line", |line| line.contains("\"unavailable\"")).await;
    let entry: serde_json::Value = serde_json::from_str(&line).expect("JSON");
    assert_eq!((&entry["grpc_status"], &entry["status"]), (&"unavailable".into(), &200.into()));
    assert_eq!((&entry["attempts"], &entry["reason"]), (&1.into(), &"-".into()));
}

#[tokio::test]
async fn a_stream_is_judged_at_its_end_and_its_latency_is_the_time_to_its_head() {
    let (code, permits) = (Arc::new(AtomicUsize::new(0)), Arc::new(Semaphore::new(0)));
    let one = ending(&code, &permits).await;
    let other = ending(&code, &permits).await;
    let outlier = "outlier: { consecutive_gateway: 1, ejection: 60s }";
    let proxy = in_turns(outlier, "retry: off", &[&one, &other]).await;
    let latencies = async || {
        let upstreams = proxy.admin("/api/upstreams").await.json();
        [0, 1].map(|at| upstreams[0]["endpoints"][at]["latency_ms"].as_f64())
    };
    let mut h2 = H2::connect(proxy.web()).await;
    let mut streams = Vec::new();
    for _ in 0..2 {
        let (response, _) = h2.open(call("/shop.Cart/Watch"), true).await.expect("a stream");
        streams.push(within(STEP, "its head", response).await.expect("a response").into_body());
    }
    let begun = latencies().await;
    assert!(begun.iter().all(Option::is_some), "known while they last: {begun:?}");
    permits.add_permits(2);
    for mut stream in streams {
        assert_eq!(end_of(&mut stream).await, "0");
    }
    assert_eq!(latencies().await, begun, "however long they lasted");

    code.store(14, Ordering::SeqCst);
    let (response, _) = h2.open(call("/shop.Cart/Watch"), true).await.expect("a stream");
    let mut stream = within(STEP, "its head", response).await.expect("a response").into_body();
    assert_eq!(ejected(&proxy.metrics().await), 0.0, "it serves");
    permits.add_permits(1);
    assert_eq!(end_of(&mut stream).await, "14");
    proxy.metrics_until("its endpoint is ejected", |metrics| ejected(metrics) == 1.0).await;
}

/// Reads a stream to its end and returns the code it ended with.
async fn end_of(stream: &mut h2::RecvStream) -> String {
    while let Some(data) = within(STEP, "a message", stream.data()).await {
        let length = data.expect("whole").len();
        stream.flow_control().release_capacity(length).expect("received");
    }
    let trailers = within(STEP, "its end", stream.trailers()).await.expect("whole");
    let trailers = trailers.expect("trailers");
    trailers["grpc-status"].to_str().expect("a number").to_owned()
}

#[tokio::test]
async fn the_code_of_the_proxys_own_answers_is_logged_too() {
    let config = r#"
access_log: { format: "{path} {grpc_status} {reason}" }
listeners: { web: { bind: "@web@" } }
hosts: { "*": { routes: [ { path: /, upstream: app } ] } }
upstreams: { app: { protocol: h2c, endpoints: ["@nobody@"] } }
"#;
    let proxy = Proxy::start(config, &[]).await;
    let mut h2 = H2::connect(proxy.web()).await;
    let response = called(&mut h2).await;
    assert_eq!(response.header("grpc-status"), Some("14"));
    let line = proxy.stdout_line("a line", |line| line.starts_with("/shop.Cart/Get")).await;
    assert_eq!(line, "/shop.Cart/Get unavailable connect_failed");
    h2.get("t", "/page").await;
    let line = proxy.stdout_line("a line", |line| line.starts_with("/page")).await;
    assert_eq!(line, "/page - connect_failed", "no call");
}
