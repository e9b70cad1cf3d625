//! The end of the process: nothing in flight is lost.

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::*;

fn config(drain: &str) -> String {
    format!(
        r#"
drain: {drain}
listeners: {{ web: {{ bind: "@web@" }} }}
hosts: {{ "*": {{ routes: [ {{ path: /, upstream: app }} ] }} }}
upstreams: {{ app: {{ endpoints: ["@app@"] }} }}
"#
    )
}

#[tokio::test]
async fn sigterm_finishes_what_is_in_flight_and_exits_0() {
    let echo = Server::echo().await;
    let config = config("{ grace: 1500ms, deadline: 20s }");
    let mut proxy = Proxy::start(&config, &[("app", &echo.address())]).await;
    let (web, admin) = (proxy.web(), proxy.addr("admin"));
    let mut kept = Client::connect(web).await;
    assert_eq!(kept.request("GET", "t", "/").await.status, 200);
    let mut idle = Client::connect(web).await;
    assert_eq!(idle.request("GET", "t", "/").await.status, 200);
    let mut h2 = H2::connect(web).await;
    assert_eq!(h2.get("t", "/").await.status, 200);
    let mut slow = Client::connect(web).await;
    slow.send("GET /slow?delay_ms=3000 HTTP/1.1\r\nHost: t\r\n\r\n").await;
    let (slow_stream, _) =
        h2.open(get_request("t", "/slow?delay_ms=3000"), true).await.expect("a stream");
    eventually(STEP, "both are under way", async || echo.requests() == 5).await;

    let start = Instant::now();
    proxy.signal(Signal::TERM);
    eventually(Duration::from_secs(1), "not ready at once", async || {
        admin_of(admin, "/readyz").await.is_some_and(|response| response.status == 503)
    })
    .await;
    assert_eq!(admin_of(admin, "/healthz").await.expect("it lives").status, 200);
    assert!(start.elapsed() < Duration::from_millis(1000), "this test's machine is too slow");
    // Load balancers need a while to see it: until then everything is served.
    assert_eq!(get(web, "t", "/new").await.status, 200, "new connections within the grace time");
    let response = kept.request("GET", "t", "/kept").await;
    assert_eq!(response.status, 200);
    assert!(
        response.headers.joined("connection").eq_ignore_ascii_case("close"),
        "clients are asked to go: {response}"
    );
    kept.closed().await;
    for _ in 0..10 {
        let mut h2 = H2::connect(web).await;
        let response = h2.try_request(get_request("t", "/new-h2"), None, None).await;
        assert_eq!(response.expect("served within the grace time").status, 200);
    }
    assert!(start.elapsed() < Duration::from_millis(1400), "this test's machine is too slow");

    let refused = async || Client::try_connect(web).await.is_err();
    eventually(STEP, "no new connections after the grace time", refused).await;
    assert!(start.elapsed() >= Duration::from_millis(1400), "{:?}", start.elapsed());
    idle.closed().await;
    let response = slow.response().await;
    assert_eq!(response.status, 200, "{response}");
    let streamed = collect(slow_stream).await.expect("the stream is finished");
    assert_eq!(streamed.status, 200);
    // The client keeps its connection and would ask for more; GOAWAY tells it not to.
    let goaway = h2.open(get_request("t", "/late"), true).await.expect_err("no new streams");
    assert!(goaway.is_go_away() && goaway.is_remote(), "{goaway}");
    assert_eq!(goaway.reason(), Some(h2::Reason::NO_ERROR));
    let status = proxy.exited(Duration::from_secs(10)).await;
    assert_eq!(status.code(), Some(0));
    assert!(start.elapsed() < Duration::from_secs(10), "it does not wait for the deadline");
}

#[tokio::test]
async fn an_idle_proxy_goes_right_after_its_grace_time() {
    let mut proxy =
        Proxy::start(&config("{ grace: 0s, deadline: 30s }"), &[("app", &reserve())]).await;
    let mut idle = Client::connect(proxy.web()).await;
    proxy.signal(Signal::TERM);
    idle.closed().await;
    assert_eq!(proxy.exited(Duration::from_secs(5)).await.code(), Some(0));
}

#[tokio::test]
async fn what_does_not_end_by_the_deadline_is_cut_off_and_told_by_exit_code_4() {
    let app = Backend::script(|mut conn| async move {
        let Some(_) = conn.request().await else { return };
        conn.stall().await;
    })
    .await;
    let config = config("{ grace: 0s, deadline: 1s }");
    let mut proxy = Proxy::start(&config, &[("app", &app.address())]).await;
    let mut client = Client::connect(proxy.web()).await;
    client.send("GET /stuck HTTP/1.1\r\nHost: t\r\n\r\n").await;
    eventually(STEP, "it is under way", async || app.requests().len() == 1).await;
    let start = Instant::now();
    proxy.signal(Signal::TERM);
    let status = proxy.exited(Duration::from_secs(8)).await;
    assert_eq!(status.code(), Some(4));
    assert!(start.elapsed() >= Duration::from_millis(950), "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_second_sigterm_does_not_wait() {
    let app = Backend::script(|mut conn| async move {
        let Some(_) = conn.request().await else { return };
        conn.stall().await;
    })
    .await;
    let config = config("{ grace: 30s, deadline: 60s }");
    let mut proxy = Proxy::start(&config, &[("app", &app.address())]).await;
    let admin = proxy.addr("admin");
    let mut client = Client::connect(proxy.web()).await;
    client.send("GET /stuck HTTP/1.1\r\nHost: t\r\n\r\n").await;
    eventually(STEP, "it is under way", async || app.requests().len() == 1).await;
    proxy.signal(Signal::TERM);
    eventually(STEP, "draining", async || {
        admin_of(admin, "/readyz").await.is_some_and(|response| response.status == 503)
    })
    .await;
    proxy.signal(Signal::TERM);
    let status = proxy.exited(Duration::from_secs(5)).await;
    assert_eq!(status.code(), Some(4), "a request was cut off");
}

#[tokio::test]
async fn a_second_sigterm_does_not_wait_after_the_grace_time_either() {
    let app = Backend::script(|mut conn| async move {
        let Some(_) = conn.request().await else { return };
        conn.stall().await;
    })
    .await;
    let config = config("{ grace: 0s, deadline: 60s }");
    let mut proxy = Proxy::start(&config, &[("app", &app.address())]).await;
    let web = proxy.web();
    let mut client = Client::connect(web).await;
    client.send("GET /stuck HTTP/1.1\r\nHost: t\r\n\r\n").await;
    eventually(STEP, "it is under way", async || app.requests().len() == 1).await;
    proxy.signal(Signal::TERM);
    let refused = async || Client::try_connect(web).await.is_err();
    eventually(STEP, "no new connections", refused).await;
    assert!(proxy.runs());
    proxy.signal(Signal::TERM);
    let status = proxy.exited(Duration::from_secs(10)).await;
    assert_eq!(status.code(), Some(4), "a request was cut off");
}

#[tokio::test]
async fn a_second_sigterm_that_cuts_nothing_off_is_no_failure() {
    let config = config("{ grace: 60s, deadline: 60s }");
    let app = Backend::saying("fine").await;
    let mut proxy = Proxy::start(&config, &[("app", &app.address())]).await;
    let admin = proxy.addr("admin");
    let mut idle = Client::connect(proxy.web()).await;
    assert_eq!(idle.request("GET", "t", "/").await.status, 200);
    proxy.signal(Signal::TERM);
    eventually(STEP, "draining", async || {
        admin_of(admin, "/readyz").await.is_some_and(|response| response.status == 503)
    })
    .await;
    proxy.signal(Signal::TERM);
    assert_eq!(proxy.exited(Duration::from_secs(10)).await.code(), Some(0));
}

#[tokio::test]
async fn the_shutdown_is_that_of_the_last_edit() {
    let app = Backend::saying("fine").await;
    let slow = config("{ grace: 10m, deadline: 10m }");
    let mut proxy = Proxy::start(&slow, &[("app", &app.address())]).await;
    proxy.rewrite(&config("{ grace: 0s, deadline: 1s }"));
    proxy
        .metrics_until("the edit is live", |metrics| {
            metrics.sum("portcullis_config_generation", &[]) > 1.0
        })
        .await;
    proxy.signal(Signal::TERM);
    assert_eq!(proxy.exited(STEP).await.code(), Some(0));
}

#[tokio::test]
async fn a_websocket_may_finish_within_the_deadline() {
    let app = Backend::script(|mut conn| async move {
        if accept_websocket(&mut conn).await.is_some() {
            echo_frames(conn).await;
        }
    })
    .await;
    let config = config("{ grace: 0s, deadline: 20s }");
    let mut proxy = Proxy::start(&config, &[("app", &app.address())]).await;
    let mut socket = WebSocket::connect(proxy.web(), "t", "/").await;
    socket.round_trip("before").await;
    let web = proxy.web();
    proxy.signal(Signal::TERM);
    let refused = async || Client::try_connect(web).await.is_err();
    eventually(STEP, "no new connections", refused).await;
    socket.round_trip("meanwhile").await;
    assert!(proxy.runs());
    socket.send_frame(Opcode::Close, b"").await;
    while socket.next().await.is_some() {}
    drop(socket);
    assert_eq!(proxy.exited(Duration::from_secs(8)).await.code(), Some(0));
}

#[tokio::test]
async fn what_was_connected_before_the_close_is_answered() {
    let app = Server::echo().await;
    for round in 0..6 {
        let config = config("{ grace: 0s, deadline: 20s }");
        let mut proxy = Proxy::start(&config, &[("app", &app.address())]).await;
        let web = proxy.web();
        let mut tasks = Vec::new();
        let answered = Arc::new(AtomicU64::new(0));
        for _ in 0..8 {
            let answered = answered.clone();
            tasks.push(tokio::spawn(async move {
                // A connection that was accepted is served; only new ones may be refused, or
                // reset where they stood in the queue of a socket that closed.
                while let Ok(mut client) = TcpStream::connect(web).await {
                    let request = b"GET / HTTP/1.1\r\nHost: t\r\n\r\n";
                    if client.write_all(request).await.is_err() {
                        continue;
                    }
                    let mut response = [0; 12];
                    match client.read_exact(&mut response).await {
                        Ok(_) => assert_eq!(&response, b"HTTP/1.1 200"),
                        Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                            panic!("closed without an answer");
                        }
                        Err(_) => continue,
                    }
                    answered.fetch_add(1, Ordering::SeqCst);
                }
            }));
        }
        eventually(STEP, "a load", async || answered.load(Ordering::SeqCst) > 100).await;
        proxy.signal(Signal::TERM);
        for task in tasks {
            within(STEP, "the clients end", task).await.unwrap_or_else(|error| {
                panic!("round {round}: {error}");
            });
        }
        assert_eq!(proxy.exited(Duration::from_secs(10)).await.code(), Some(0));
    }
}
