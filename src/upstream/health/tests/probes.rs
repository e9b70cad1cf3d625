//! Each kind of probe against each kind of server.

use std::net::SocketAddr;

use http::{HeaderName, HeaderValue};
use tokio::net::TcpListener;

use super::servers::{Reply, Script, Scripted, answer, http2};
use super::*;
use crate::ir::HeaderText;
use crate::upstream::health::prober::Prober;

use UpstreamProtocol::{Auto, Http1, Http2};

fn prober(spec: &HealthCheck, transport: &Transport, address: SocketAddr) -> Prober {
    named(spec, transport, address, None)
}

fn named(
    spec: &HealthCheck,
    transport: &Transport,
    address: SocketAddr,
    host: Option<&str>,
) -> Prober {
    let metrics = Metrics::new(1).endpoint(&"app".into(), "peer");
    let host = host.map(Arc::from);
    let endpoint = Endpoint::new(address, host, metrics, Arc::default(), Moment::now());
    Prober::new(spec, transport, &endpoint)
}

/// What one check found: the class and the words.
async fn check(probe: Probe, transport: &Transport, address: SocketAddr) -> (CheckResult, String) {
    let spec = HealthCheck { timeout: LIMIT, ..HealthCheck::new(probe) };
    found(&prober(&spec, transport, address)).await
}

async fn found(prober: &Prober) -> (CheckResult, String) {
    match prober.check().await {
        Ok(text) => (CheckResult::Success, text),
        Err(error) => (error.result, error.text),
    }
}

fn ok(text: &str) -> (CheckResult, String) {
    (CheckResult::Success, text.to_owned())
}

#[tokio::test]
async fn an_http_check_sends_what_it_is_told_and_believes_the_status() {
    let server = Scripted::answering(204, "").await;
    let probe = HttpProbe {
        method: "OPTIONS".into(),
        host: Some("shop.test:81".into()),
        headers: vec![
            HeaderText {
                name: HeaderName::from_static("x-key"),
                value: HeaderValue::from_static("sesame"),
            },
            HeaderText {
                name: HeaderName::from_static("user-agent"),
                value: HeaderValue::from_static("me"),
            },
        ],
        ..http("/healthz?deep=1")
    };
    let seen = check(Probe::Http(probe), &plain(Auto), server.address).await;
    assert_eq!(seen, ok("status 204"));
    let head = server.heads.lock().expect("whole")[0].to_lowercase();
    assert!(head.starts_with("options /healthz?deep=1 http/1.1\r\n"), "{head}");
    for line in ["host: shop.test:81", "x-key: sesame", "user-agent: me", "connection: close"] {
        assert!(head.contains(&format!("\r\n{line}\r\n")), "{line} in {head}");
    }
}

#[tokio::test]
async fn without_a_host_it_asks_for_the_endpoint() {
    let server = Scripted::answering(200, "").await;
    let spec = HealthCheck { timeout: LIMIT, ..HealthCheck::new(Probe::Http(http("/"))) };
    let port = server.address.port();
    for (host, wanted) in
        [(None, format!("127.0.0.1:{port}")), (Some("app.test"), format!("app.test:{port}"))]
    {
        let prober = named(&spec, &plain(Http1), server.address, host);
        assert_eq!(found(&prober).await, ok("status 200"));
        let head = server.heads.lock().expect("whole").pop().expect("a request");
        assert!(head.contains(&format!("host: {wanted}\r\n")), "{head}");
    }
}

#[tokio::test]
async fn only_expected_statuses_mean_healthy() {
    let mut probe = http("/");
    for (ranges, status, healthy) in [
        (vec![(200, 399)], 302, true),
        (vec![(200, 399)], 503, false),
        (vec![(200, 200), (401, 401)], 401, true),
        (vec![(200, 200), (401, 401)], 301, false),
        (vec![], 200, false),
    ] {
        probe.expect_status = ranges;
        let server = Scripted::answering(status, "").await;
        let seen = check(Probe::Http(probe.clone()), &plain(Http1), server.address).await;
        let result = if healthy { CheckResult::Success } else { CheckResult::Status };
        assert_eq!(seen, (result, format!("status {status}")));
    }
}

#[tokio::test]
async fn an_expected_text_must_be_in_the_beginning_of_the_body() {
    let late = format!("{}up", "x".repeat(64 * 1024 - 1));
    let probe = HttpProbe { expect_body: Some("up".into()), ..http("/") };
    for (body, healthy) in [
        ("it is up now", true),
        ("it is down", false),
        ("", false),
        (late.as_str(), false),
        (&late[1..], true),
    ] {
        let server = Scripted::answering(200, body).await;
        let (result, text) = check(Probe::Http(probe.clone()), &plain(Http1), server.address).await;
        let wanted = if healthy { CheckResult::Success } else { CheckResult::Body };
        assert_eq!(result, wanted, "{} bytes: {text}", body.len());
    }
}

#[tokio::test]
async fn whoever_does_not_answer_is_found_out() {
    let stalling = Scripted::new(Script::Stall).await;
    for probe in [Probe::Http(http("/")), Probe::Grpc { service: "".into() }] {
        let timeout = Duration::from_millis(50);
        let spec = HealthCheck { timeout, ..HealthCheck::new(probe) };
        let seen = found(&prober(&spec, &plain(Auto), stalling.address)).await;
        assert_eq!(seen, (CheckResult::Timeout, "no answer within 50ms".to_owned()));
    }
    let gone = TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("bound");
    for probe in [Probe::Http(http("/")), Probe::Tcp, Probe::Grpc { service: "".into() }] {
        let (result, text) = check(probe, &plain(Auto), gone).await;
        assert_eq!(result, CheckResult::Connect, "{text}");
        assert!(text.starts_with("connect: Connection refused"), "{text}");
    }
}

#[tokio::test]
async fn whoever_answers_something_else_is_found_out() {
    for script in [
        Script::Hang,
        Script::Greet("SSH-2.0-OpenSSH_9.6\r\n\r\n"),
        Script::Answer("HTTP/1.1 2x0 Nonsense\r\n\r\n".to_owned()),
        Script::Answer("HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\nshort".to_owned()),
    ] {
        let server = Scripted::new(script).await;
        let probe = HttpProbe { expect_body: Some("x".into()), ..http("/secret-path") };
        let (result, text) = check(Probe::Http(probe), &plain(Http1), server.address).await;
        assert_eq!(result, CheckResult::Protocol, "{text}");
        assert!(!text.is_empty() && !text.contains("secret"), "{text}");
    }
    let h1 = Scripted::new(answer(200, "")).await;
    h1.set(Script::Greet("HTTP/1.1 400 Bad Request\r\n\r\n"));
    let (result, _) = check(Probe::Http(http("/")), &plain(Http2), h1.address).await;
    assert_eq!(result, CheckResult::Protocol, "HTTP/1 where HTTP/2 is spoken");
}

#[tokio::test]
async fn a_connection_is_enough_for_tcp() {
    let server = Scripted::new(Script::Stall).await;
    assert_eq!(check(Probe::Tcp, &plain(Auto), server.address).await, ok("connected"));
    let (ca, tls) = servers::tls();
    let secure = Scripted::tls(Script::Stall, &tls).await;
    assert_eq!(check(Probe::Tcp, &trusting(Auto, &ca), secure.address).await, ok("connected"));
    let hanging = Scripted::new(Script::Hang).await;
    let (result, text) = check(Probe::Tcp, &trusting(Auto, &ca), hanging.address).await;
    assert_eq!(result, CheckResult::Tls, "with TLS the handshake belongs to it: {text}");
}

#[tokio::test]
async fn tls_is_the_upstreams_and_verified() {
    let (ca, tls) = servers::tls();
    let (other, _) = servers::tls();
    let server = Scripted::tls(answer(200, "fine"), &tls).await;
    let probe = || Probe::Http(HttpProbe { expect_body: Some("fine".into()), ..http("/") });
    let seen = check(probe(), &trusting(Http1, &ca), server.address).await;
    assert_eq!(seen, ok("status 200"));
    let (result, text) = check(probe(), &trusting(Http1, &other), server.address).await;
    assert_eq!(result, CheckResult::Tls);
    assert!(text.starts_with("TLS: invalid peer certificate"), "{text}");
    // The name: the endpoint's own, then the one asked for.
    for (host, asked, healthy) in [
        (Some("app.test"), None, true),
        (Some("web.test"), None, false),
        (None, Some("app.test:444"), true),
        (None, Some("web.test"), false),
    ] {
        let probe = HttpProbe { host: asked.map(Arc::from), ..http("/") };
        let spec = HealthCheck { timeout: LIMIT, ..HealthCheck::new(Probe::Http(probe)) };
        let prober = named(&spec, &trusting(Http1, &ca), server.address, host);
        let (result, text) = found(&prober).await;
        let wanted = if healthy { CheckResult::Success } else { CheckResult::Tls };
        assert_eq!(result, wanted, "{host:?} {asked:?}: {text}");
    }
    let clear = Scripted::new(Script::Greet("HTTP/1.1 400 Bad Request\r\n\r\n")).await;
    let (result, text) = check(probe(), &trusting(Http1, &ca), clear.address).await;
    assert_eq!(result, CheckResult::Tls, "{text}");
}

#[tokio::test]
async fn http_2_is_spoken_where_the_upstream_speaks_it() {
    let (ca, tls) = servers::tls();
    let reply = Reply { status: 200, body: b"all is well".to_vec(), ..Reply::default() };
    let (clear, clear_seen) = http2(reply.clone(), None).await;
    let (secure, secure_seen) = http2(reply, Some(&tls)).await;
    let probe = || Probe::Http(HttpProbe { expect_body: Some("well".into()), ..http("/up?x") });
    assert_eq!(check(probe(), &plain(Http2), clear).await, ok("status 200"));
    assert_eq!(check(probe(), &trusting(Auto, &ca), secure).await, ok("status 200"));
    assert_eq!(check(probe(), &trusting(Http2, &ca), secure).await, ok("status 200"));
    for (seen, scheme, address) in [(clear_seen, "http", clear), (secure_seen, "https", secure)] {
        let (head, _) = seen.lock().expect("whole").pop().expect("a request");
        assert_eq!(head.uri.to_string(), format!("{scheme}://{address}/up?x"));
        assert_eq!(head.headers["user-agent"], "portcullis-health");
        assert!(!head.headers.contains_key("connection"));
    }
}

#[tokio::test]
async fn another_port_can_be_asked() {
    let server = Scripted::answering(200, "").await;
    let elsewhere = SocketAddr::new(server.address.ip(), 9);
    let spec = HealthCheck {
        port: Some(server.address.port()),
        timeout: LIMIT,
        ..HealthCheck::new(Probe::Http(http("/")))
    };
    assert_eq!(found(&prober(&spec, &plain(Auto), elsewhere)).await, ok("status 200"));
}

/// A gRPC answer with this message and status.
fn grpc(message: &[u8], trailers: &[(&'static str, &'static str)]) -> Reply {
    let mut body = vec![0];
    body.extend((message.len() as u32).to_be_bytes());
    body.extend(message);
    let headers = vec![("content-type", "application/grpc")];
    Reply { status: 200, headers, body, trailers: trailers.to_vec() }
}

#[tokio::test]
async fn a_grpc_service_is_healthy_when_it_says_that_it_serves() {
    let fine = &[("grpc-status", "0")][..];
    let trailers_only = |code| Reply {
        status: 200,
        headers: vec![("content-type", "application/grpc"), ("grpc-status", code)],
        ..Reply::default()
    };
    for (reply, result, text) in [
        (grpc(&[8, 1], fine), CheckResult::Success, "SERVING"),
        (grpc(&[8, 2], fine), CheckResult::NotServing, "NOT_SERVING"),
        (grpc(&[8, 3], fine), CheckResult::NotServing, "SERVICE_UNKNOWN"),
        (grpc(&[], fine), CheckResult::NotServing, "UNKNOWN"),
        (grpc(&[8], fine), CheckResult::Protocol, "no HealthCheckResponse"),
        (grpc(&[8, 1], &[("x", "y")]), CheckResult::Protocol, "no gRPC status"),
        (
            trailers_only("12"),
            CheckResult::NotServing,
            "gRPC status 12 (UNIMPLEMENTED: no health service)",
        ),
        (
            grpc(&[], &[("grpc-status", "5")]),
            CheckResult::NotServing,
            "gRPC status 5 (NOT_FOUND: no such service)",
        ),
        (Reply { status: 404, ..Reply::default() }, CheckResult::Status, "status 404"),
    ] {
        let (address, seen) = http2(reply, None).await;
        // Without TLS it is HTTP/2 by prior knowledge, whatever requests are sent over.
        for protocol in [Auto, Http2] {
            let probe = Probe::Grpc { service: "shop.Cart".into() };
            let found = check(probe, &plain(protocol), address).await;
            assert_eq!(found, (result, text.to_owned()));
        }
        let (head, body) = seen.lock().expect("whole").pop().expect("a request");
        assert_eq!(head.uri.path(), "/grpc.health.v1.Health/Check");
        assert_eq!(head.method, "POST");
        assert_eq!(head.headers["te"], "trailers");
        assert_eq!(head.headers["content-type"], "application/grpc");
        assert_eq!(&body[..], b"\0\0\0\0\x0b\x0a\x09shop.Cart");
    }
}

#[tokio::test]
async fn grpc_over_tls_needs_http_2() {
    let (ca, tls) = servers::tls();
    let (address, _) = http2(grpc(&[8, 1], &[("grpc-status", "0")]), Some(&tls)).await;
    let probe = || Probe::Grpc { service: "".into() };
    assert_eq!(check(probe(), &trusting(Auto, &ca), address).await, ok("SERVING"));
    let seen = check(probe(), &trusting(Http1, &ca), address).await;
    let wanted = "the endpoint did not agree on h2 by ALPN".to_owned();
    assert_eq!(seen, (CheckResult::Protocol, wanted));
}
