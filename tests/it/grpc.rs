//! gRPC: streams in both directions at once, status in trailers, over TLS and cleartext.

use bytes::Bytes;
use http::{HeaderMap, Request};

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
