//! Connections that wait: what they hold, and that they serve on.

use std::time::Duration;

use rustix::process::Signal;

use crate::harness::*;

/// Longer than a connection keeps its buffers without a request.
const A_WHILE: Duration = Duration::from_millis(450);

fn config(limits: &str) -> String {
    format!(
        r#"
workers: 1
limits: {limits}
listeners: {{ web: {{ bind: "@web@" }} }}
hosts: {{ "*": {{ routes: [ {{ path: /, upstream: app }} ] }} }}
upstreams: {{ app: {{ endpoints: ["@app@"] }} }}
"#
    )
}

async fn open(proxy: &Proxy, count: usize) -> Vec<Client> {
    let mut clients = Vec::new();
    for _ in 0..count {
        let mut client = Client::connect(proxy.web()).await;
        assert_eq!(client.request("GET", "t", "/").await.status, 200);
        clients.push(client);
    }
    clients
}

#[tokio::test]
async fn connections_that_wait_hold_little_memory_and_serve_on() {
    const WAVE: usize = 400;
    const WAVES: usize = 4;
    let echo = Server::echo().await;
    let proxy = Proxy::start(&config("{ keep_alive: 60s }"), &[("app", &echo.address())]).await;
    let mut clients = open(&proxy, WAVE).await;
    assert!(clients[0].silent(A_WHILE).await);
    // What the first wave let go of need not go back to the system, but serves the waves after it.
    let small = proxy.rss();
    for _ in 1..WAVES {
        clients.extend(open(&proxy, WAVE).await);
        assert!(clients[0].silent(A_WHILE).await);
    }
    let each = proxy.rss().saturating_sub(small) / ((WAVES - 1) * WAVE) as u64;
    // With a parser its two buffers alone are 16 KiB.
    assert!(each < 12 * 1024, "{each} bytes for each connection that waits");
    for (number, client) in clients.iter_mut().enumerate() {
        let response = client.request("GET", "t", &format!("/{number}")).await;
        assert_eq!(Echoed::of(&response.body).target, format!("/{number}"));
    }
}

#[tokio::test]
async fn a_request_that_comes_in_pieces_after_a_pause_is_one_request() {
    let echo = Server::echo().await;
    let proxy = Proxy::start(&config("{ keep_alive: 60s }"), &[("app", &echo.address())]).await;
    let mut client = open(&proxy, 1).await.remove(0);
    for piece in
        ["\r", "\n", "P", "OST /late HTTP/1.1\r\nHo", "st: t\r\nContent-Length: 4\r\n\r\nab"]
    {
        assert!(client.silent(A_WHILE).await);
        client.send(piece).await;
    }
    assert!(client.silent(A_WHILE).await);
    client.send("cdGET /next HTTP/1.1\r\nHost: t\r\n\r\n").await;
    let echoed = Echoed::of(&client.response().await.body);
    assert_eq!((echoed.target.as_str(), echoed.length), ("/late", 4));
    assert_eq!(Echoed::of(&client.response().await.body).target, "/next");
}

#[tokio::test]
async fn what_the_gate_refuses_is_refused_after_a_pause_too() {
    let app = Backend::saying("fine").await;
    let proxy = Proxy::start(&config("{ keep_alive: 60s }"), &[("app", &app.address())]).await;
    let mut client = open(&proxy, 1).await.remove(0);
    assert!(client.silent(A_WHILE).await);
    client.send("GET / HTTP/1.1\r\nHost : t\r\n\r\n").await;
    assert_eq!(client.response().await.status, 400);
    client.closed().await;
    assert_eq!(app.requests().len(), 1);
}

#[tokio::test]
async fn a_head_that_stops_after_a_pause_is_cut_off_at_its_own_deadline() {
    let app = Backend::saying("fine").await;
    let config = config("{ head_timeout: 700ms, keep_alive: 60s }");
    let proxy = Proxy::start(&config, &[("app", &app.address())]).await;
    let mut client = open(&proxy, 1).await.remove(0);
    assert!(client.silent(A_WHILE * 2).await);
    client.send("GET / HT").await;
    assert!(client.silent(A_WHILE).await, "the head's time begins with its first byte");
    assert_eq!(client.response().await.status, 408);
}

#[tokio::test]
async fn a_client_that_goes_away_while_it_waits_is_let_go() {
    let app = Backend::saying("fine").await;
    let proxy = Proxy::start(&config("{ keep_alive: 60s }"), &[("app", &app.address())]).await;
    let descriptors = proxy.descriptors();
    let mut clients = open(&proxy, 20).await;
    assert!(clients[0].silent(A_WHILE).await);
    drop(clients);
    eventually(STEP, "their sockets are closed", async || {
        // One stays open towards the endpoint.
        proxy.descriptors() <= descriptors + 1
    })
    .await;
}

#[tokio::test]
async fn connections_that_wait_are_closed_when_the_process_ends() {
    let app = Backend::saying("fine").await;
    let config = config("{ keep_alive: 60s }").replace("workers", "drain: { grace: 0s }\nworkers");
    let mut proxy = Proxy::start(&config, &[("app", &app.address())]).await;
    let mut client = open(&proxy, 1).await.remove(0);
    assert!(client.silent(A_WHILE).await);
    proxy.signal(Signal::TERM);
    client.closed().await;
    assert!(proxy.exited(STEP).await.success());
}
