//! Answers that come in parts: byte by byte, too late, or not to their end; and endpoints that are
//! not there at all.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::harness::*;

fn config(endpoints: &str, route: &str) -> String {
    format!(
        r#"
workers: 1
listeners: {{ web: {{ bind: "@web@" }} }}
hosts: {{ "*": {{ routes: [ {{ path: /, upstream: app, {route} }} ] }} }}
upstreams: {{ app: {{ endpoints: [{endpoints}], balance: round_robin, outlier: off }} }}
"#
    )
}

#[tokio::test]
async fn what_breaks_off_after_its_first_byte_is_never_asked_for_again() {
    const HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n";
    let rows = [
        ("/first-byte", "H"),
        ("/status-line", "HTTP/1.1 200 OK\r\n"),
        ("/field", "HTTP/1.1 200 OK\r\nContent-Le"),
        ("/head", HEAD),
        ("/body", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello"),
    ];
    let script = move |mut conn: Conn| async move {
        let Some(seen) = conn.request().await else { return };
        let (path, way) = seen.target.split_once('?').expect("a way to end");
        let part = rows.iter().find(|(target, _)| *target == path).expect("a row").1;
        conn.send(part).await;
        if way == "reset" {
            // The bytes must be on their way before the reset throws them away.
            pass(Duration::from_millis(50)).await;
            conn.reset();
        }
    };
    let (one, other) = (Backend::script(script).await, Backend::script(script).await);
    let values: [(&str, &dyn std::fmt::Display); 2] =
        [("one", &one.address()), ("other", &other.address())];
    let retry = "retry: { attempts: 5, on: [reset, timeout, gateway_error], non_idempotent: true }";
    let proxy = Proxy::start(&config(r#""@one@", "@other@""#, retry), &values).await;
    for (path, part) in rows {
        for way in ["close", "reset"] {
            let target = format!("{path}?{way}");
            let mut client = Client::connect(proxy.web()).await;
            client.send(format!("GET {target} HTTP/1.1\r\nHost: t\r\n\r\n")).await;
            match client.try_response(false).await {
                Ok(response) => {
                    response.assert_refused(502, "upstream_incomplete");
                    assert!(part.len() < HEAD.len(), "{target}: {response}");
                }
                Err(Broken::Truncated(response)) => assert_eq!(response.status, 200, "{target}"),
                // What broke off before the head was on its way leaves no response at all.
                Err(Broken::Closed) => assert!(part.len() >= HEAD.len(), "{target}"),
                Err(broken) => panic!("{target}: {broken:?}"),
            }
            let mut h2 = H2::connect(proxy.web()).await;
            match h2.try_request(get_request("t", &target), None, None).await {
                Ok(response) => assert_eq!(response.status, 502, "{target}"),
                Err(error) => assert!(error.is_reset() && part.len() >= HEAD.len(), "{error}"),
            }
        }
    }
    let requests = one.requests().len() + other.requests().len();
    assert_eq!(requests, 4 * rows.len(), "each was sent once");
    let retries = proxy.metrics().await.sum("portcullis_upstream_retries_total", &[]);
    assert_eq!(retries, 0.0);
}

#[tokio::test]
async fn an_answer_that_comes_byte_by_byte_is_the_same_answer() {
    const ANSWER: &str = "HTTP/1.1 200 OK\r\nX-Slow: yes\r\nTrailer: X-Sum\r\n\
                          Transfer-Encoding: chunked\r\n\r\n\
                          6\r\nby the\r\n5\r\n byte\r\n0\r\nX-Sum: 11\r\n\r\n";
    let app = Backend::script(|mut conn| async move {
        while conn.request().await.is_some() {
            conn.trickle(ANSWER, Duration::from_millis(2)).await;
        }
    })
    .await;
    // Longer than any pause, shorter than all of it.
    let limits = "timeouts: { idle: 150ms, response: 20s }";
    let proxy = Proxy::start(&config(r#""@app@""#, limits), &[("app", &app.address())]).await;
    let mut client = Client::connect(proxy.web()).await;
    for _ in 0..2 {
        let head = "GET / HTTP/1.1\r\nHost: t\r\nTE: trailers\r\nConnection: te\r\n\r\n";
        client.send(head).await;
        let response = client.response().await;
        assert_eq!((response.status, response.text().as_str()), (200, "by the byte"));
        assert_eq!(response.headers.get("x-slow"), Some("yes"));
        assert_eq!(response.trailers.get("x-sum"), Some("11"));
    }
    let mut h2 = H2::connect(proxy.web()).await;
    let response = h2.get("t", "/").await;
    assert_eq!((response.status, response.text().as_str()), (200, "by the byte"));
    assert_eq!(app.connections(), 1, "its connection is as good as any");
}

#[tokio::test]
async fn a_head_that_comes_byte_by_byte_has_no_more_time_than_another() {
    let app = Backend::script(|mut conn| async move {
        let Some(_) = conn.request().await else { return };
        conn.send("HTTP/1.1 200 OK\r\n").await;
        while conn.try_send("X").await {
            pass(Duration::from_millis(20)).await;
        }
    })
    .await;
    let limits = "timeouts: { response: 300ms }, retry: { attempts: 5 }";
    let proxy = Proxy::start(&config(r#""@app@""#, limits), &[("app", &app.address())]).await;
    let start = Instant::now();
    get(proxy.web(), "t", "/").await.assert_refused(504, "response_timeout");
    assert!(start.elapsed() >= Duration::from_millis(280), "{:?}", start.elapsed());
    eventually(STEP, "the connection is given up", async || app.open() == 0).await;
    assert_eq!(app.requests().len(), 1);
}

#[tokio::test]
async fn endpoints_of_which_none_answers_a_connection_take_a_connect_timeout_each() {
    let (one, other) = (BlackHole::open().await, BlackHole::open().await);
    let values: [(&str, &dyn std::fmt::Display); 2] =
        [("one", &one.address()), ("other", &other.address())];
    let limits = "timeouts: { connect: 250ms }, retry: { attempts: 5 }";
    let proxy = Proxy::start(&config(r#""@one@", "@other@""#, limits), &values).await;
    let start = Instant::now();
    get(proxy.web(), "t", "/").await.assert_refused(504, "connect_timeout");
    assert!(start.elapsed() >= Duration::from_millis(480), "{:?}", start.elapsed());
    let metrics = proxy.metrics().await;
    let errors = [("upstream", "app"), ("reason", "connect_timeout")];
    assert_eq!(metrics.sum("portcullis_upstream_errors_total", &errors), 2.0, "each once");
}

#[tokio::test]
async fn a_post_whose_endpoint_answers_no_connection_goes_to_another_one_body_and_all() {
    let (hole, good) = (BlackHole::open().await, Backend::saying("stored").await);
    let values: [(&str, &dyn std::fmt::Display); 2] =
        [("one", &hole.address()), ("other", &good.address())];
    let limits = "timeouts: { connect: 200ms }";
    let proxy = Proxy::start(&config(r#""@one@", "@other@""#, limits), &values).await;
    let body = body_pattern(200_000);
    for number in 1..=4 {
        let mut client = Client::connect(proxy.web()).await;
        client.send("POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 200000\r\n\r\n").await;
        client.send(&body).await;
        assert_eq!(client.response().await.text(), "stored");
        assert_eq!((good.requests().len(), good.last().body == body), (number, true));
    }
}

#[tokio::test]
async fn an_endpoint_that_speaks_no_http_2_where_it_should_is_a_502() {
    let app = Arc::new(Backend::saying("in HTTP/1").await);
    let config = config(r#""@app@""#, "").replace("outlier: off", "outlier: off, protocol: h2c");
    let proxy = Proxy::start(&config, &[("app", &app.address())]).await;
    for _ in 0..3 {
        let response = get(proxy.web(), "t", "/").await;
        assert_eq!(response.status, 502, "{response}");
    }
    let mut client = Client::connect(proxy.web()).await;
    client.send("POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 5\r\n\r\nhello").await;
    assert_eq!(client.response().await.status, 502);
    eventually(STEP, "no connection stays", async || app.open() == 0).await;
}
