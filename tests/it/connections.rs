//! A limit on open connections to an upstream: never exceeded, no place lost, nobody starved.

mod change;
mod http2;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::harness::*;

fn config(workers: u32, endpoints: &str, upstream: &str) -> String {
    format!(
        r#"
workers: {workers}
access_log: true
listeners: {{ web: {{ bind: "@web@" }} }}
hosts: {{ "*": {{ routes: [ {{ path: /, upstream: app }} ] }} }}
upstreams: {{ app: {{ endpoints: [{endpoints}], balance: round_robin, outlier: off, {upstream} }} }}
"#
    )
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

async fn send(proxy: &Proxy, target: &str) -> Client {
    let mut client = Client::connect(proxy.web()).await;
    client.send(format!("GET {target} HTTP/1.1\r\nHost: t\r\n\r\n")).await;
    client
}

/// A back end that answers when it is let, except to `/free`.
async fn held(go: &Arc<Semaphore>) -> Backend {
    let go = go.clone();
    Backend::script(move |mut conn| {
        let go = go.clone();
        async move {
            while let Some(seen) = conn.request().await {
                if seen.target != "/free" {
                    go.acquire().await.expect("never closed").forget();
                }
                conn.send(OK).await;
            }
        }
    })
    .await
}

const APP: [(&str, &str); 1] = [("upstream", "app")];

/// Waits until so many connections to `app` have places.
async fn taken(proxy: &Proxy, count: usize) {
    taken_of(proxy, "app", count).await;
}

async fn taken_of(proxy: &Proxy, upstream: &str, count: usize) {
    eventually(STEP, "places are taken and given back", async || {
        let all = proxy.admin("/api/upstreams").await.json();
        let mut all = all.as_array().expect("a list").iter();
        let upstream = all.find(|each| each["name"] == upstream).expect("it is shown");
        upstream["limits"]["connections"]["taken"] == count
    })
    .await;
}

/// Up to `most` clients of each worker ask without a pause until each of them has got so many
/// answers, where there is one connection for all and `made` counts how many there were.
async fn all_get_their_share(proxy: &Proxy, made: &AtomicUsize, most: usize, each: usize) {
    let mut workers = [Vec::new(), Vec::new()];
    let (mut worker, mut before) = (0, 0);
    while workers.iter().map(Vec::len).min() < Some(1)
        || workers.iter().map(Vec::len).max() < Some(most)
    {
        let mut client = Client::connect(proxy.web()).await;
        assert_eq!(client.request("GET", "t", "/").await.text(), "ok");
        let now = made.load(Ordering::SeqCst);
        // The other worker cannot use the connection that is there.
        if std::mem::replace(&mut before, now) != now {
            worker = 1 - worker;
        }
        if workers[worker].len() < most {
            workers[worker].push(client);
        }
    }
    let clients: Vec<_> = workers.into_iter().flatten().collect();
    let left = Arc::new(AtomicUsize::new(clients.len()));
    let clients = clients.into_iter().map(|mut client| {
        let left = left.clone();
        tokio::spawn(async move {
            let mut served = 0;
            while left.load(Ordering::SeqCst) > 0 {
                assert_eq!(client.request("GET", "t", "/").await.text(), "ok");
                served += 1;
                if served == each {
                    left.fetch_sub(1, Ordering::SeqCst);
                }
            }
        })
    });
    for client in clients.collect::<Vec<_>>() {
        within(STEP * 2, "everybody is served", client).await.expect("no failure");
    }
}

async fn waiting(proxy: &Proxy, count: f64) {
    proxy
        .metrics_until("requests wait", |metrics| {
            metrics.sum("portcullis_upstream_pending", &APP) == count
        })
        .await;
}

async fn seen(backend: &Backend, count: usize) {
    eventually(STEP, "requests arrive", async || backend.requests().len() >= count).await;
}

// === never more than the limit ===

/// Back ends that know how many connections are open to all of them at once.
#[derive(Clone, Default)]
struct Crowd {
    open: Arc<Mutex<Vec<Weak<TcpStream>>>>,
    most: Arc<AtomicUsize>,
    ever: Arc<AtomicUsize>,
}

impl Crowd {
    async fn member(&self) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let (address, crowd) = (listener.local_addr().expect("bound"), self.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let stream = Arc::new(stream);
                let count = crowd.enter(&stream);
                crowd.ever.fetch_add(1, Ordering::SeqCst);
                crowd.most.fetch_max(count, Ordering::SeqCst);
                tokio::spawn(answer_all(stream));
            }
        });
        address
    }

    /// How many are open with this one. The proxy closes one connection before it opens another,
    /// so the kernel knows the end of the one when it accepts the other, whether or not a task
    /// has been woken for it.
    fn enter(&self, stream: &Arc<TcpStream>) -> usize {
        let mut open = self.open.lock().expect("no holder panics");
        open.retain(|other| other.upgrade().is_some_and(|other| !has_ended(&other)));
        open.push(Arc::downgrade(stream));
        open.len()
    }
}

fn has_ended(stream: &TcpStream) -> bool {
    let mut byte = [std::mem::MaybeUninit::uninit()];
    matches!(socket2::SockRef::from(stream).peek(&mut byte), Ok(0))
}

async fn answer_all(stream: Arc<TcpStream>) {
    let (mut buffer, mut head) = ([0; 4096], Vec::new());
    while stream.readable().await.is_ok() {
        match stream.try_read(&mut buffer) {
            Ok(0) => return,
            Ok(count) => head.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => continue,
            Err(_) => return,
        }
        if head.ends_with(b"\r\n\r\n") {
            head.clear();
            pass(Duration::from_millis(2)).await;
            if stream.writable().await.is_err() || stream.try_write(OK.as_bytes()).is_err() {
                return;
            }
        }
    }
}

#[tokio::test]
async fn never_are_more_open_than_the_limit_and_every_request_is_served() {
    let crowd = Crowd::default();
    let ends = [crowd.member().await, crowd.member().await, crowd.member().await];
    let upstream = "limits: { connections: 4, pending_timeout: 30s }";
    let config = config(2, r#""@a@", "@b@", "@c@""#, upstream);
    let values: [(&str, &dyn std::fmt::Display); 3] =
        [("a", &ends[0]), ("b", &ends[1]), ("c", &ends[2])];
    let proxy = Proxy::start(&config, &values).await;
    let clients = (0..24).map(|number| {
        let address = proxy.web();
        tokio::spawn(async move {
            let mut client = Client::connect(address).await;
            for round in 0..20 {
                if (number + round) % 5 == 0 {
                    client = Client::connect(address).await; // perhaps of another worker
                }
                assert_eq!(client.request("GET", "t", "/").await.text(), "ok");
            }
        })
    });
    for client in clients.collect::<Vec<_>>() {
        within(STEP * 2, "every request is answered", client).await.expect("no failure");
    }
    let most = crowd.most.load(Ordering::SeqCst);
    assert!((2..=4).contains(&most), "{most} at once");
    let metrics = proxy.metrics().await;
    assert_eq!(metrics.sum("portcullis_upstream_connection_limit", &APP), 4.0);
    assert_eq!(metrics.sum("portcullis_upstream_shed_total", &APP), 0.0);
    // Those that wait take turns with connections, not one connection a request.
    let ever = crowd.ever.load(Ordering::SeqCst);
    assert!(ever < 24 * 20, "{ever} connections for {} requests", 24 * 20);
}

#[tokio::test]
async fn a_connection_goes_from_one_request_to_the_next_that_waits() {
    let go = Arc::new(Semaphore::new(0));
    let app = held(&go).await;
    let config = config(1, r#""@app@""#, "limits: { connections: 1, pending_timeout: 20s }");
    let proxy = Proxy::start(&config, &[("app", &app.address())]).await;
    let mut clients = Vec::new();
    for number in 0..6 {
        clients.push(send(&proxy, &format!("/{number}")).await);
    }
    seen(&app, 1).await;
    waiting(&proxy, 5.0).await;
    assert_eq!(app.requests().len(), 1);
    go.add_permits(6);
    for client in &mut clients {
        assert_eq!(client.response().await.text(), "ok");
    }
    assert_eq!(app.connections(), 1);
    proxy.stdout_line("the wait is logged", |line| line.contains("queue_ms")).await;
    let status: serde_json::Value = proxy.admin("/api/upstreams").await.json();
    let used = status.pointer("/0/limits/connections").expect("it is shown").clone();
    assert_eq!(used, serde_json::json!({ "taken": 1, "limit": 1 }));
}

#[tokio::test]
async fn a_busy_connection_goes_when_another_worker_waits_for_its_place() {
    let crowd = Crowd::default();
    let app = crowd.member().await;
    let upstream = "limits: { connections: 1, pending_timeout: 60s }";
    let proxy = Proxy::start(&config(2, r#""@app@""#, upstream), &[("app", &app)]).await;
    // Two: of more that wait, the last to come would be the first.
    all_get_their_share(&proxy, &crowd.ever, 2, 20).await;
    assert_eq!(crowd.most.load(Ordering::SeqCst), 1);
}

// === turned away ===

#[tokio::test]
async fn without_a_queue_requests_that_need_one_more_are_refused_at_once() {
    let go = Arc::new(Semaphore::new(0));
    let app = held(&go).await;
    let config = config(2, r#""@app@""#, "limits: { connections: 2, pending: 0 }");
    let proxy = Proxy::start(&config, &[("app", &app.address())]).await;
    let mut first = [send(&proxy, "/1").await, send(&proxy, "/2").await];
    seen(&app, 2).await;
    for _ in 0..5 {
        let response = get(proxy.web(), "t", "/more").await;
        response.assert_refused(503, "overloaded");
        assert_eq!(response.headers.get("retry-after"), Some("1"));
    }
    let line = proxy.stdout_line("it is logged", |line| line.contains("overloaded")).await;
    assert!(!line.contains(&app.address().to_string()), "it was sent nowhere: {line}");
    let metrics = proxy.metrics().await;
    let labels = [("upstream", "app"), ("reason", "overloaded")];
    assert_eq!(metrics.sum("portcullis_upstream_shed_total", &labels), 5.0);
    assert_eq!(metrics.sum("portcullis_upstream_attempts_total", &APP), 2.0);
    assert_eq!((app.requests().len(), app.connections()), (2, 2));
    go.add_permits(10);
    for client in &mut first {
        assert_eq!(client.response().await.text(), "ok");
    }
    // One of the two connections may belong to the other worker, which gives it up when asked.
    eventually(STEP, "it is served again", async || {
        get(proxy.web(), "t", "/again").await.status == 200
    })
    .await;
}

#[tokio::test]
async fn a_request_that_waits_for_too_long_for_a_connection_is_turned_away() {
    let go = Arc::new(Semaphore::new(0));
    let (app, other) = (held(&go).await, Server::echo().await);
    let limits =
        r#"limits: { connections: 1, pending_timeout: 300ms } }, other: { endpoints: ["@other@"]"#;
    let config = config(1, r#""@app@""#, limits).replace(
        "{ path: /, upstream: app }",
        "{ path: /, upstream: app }, { path: /other, upstream: other }",
    );
    let values: [(&str, &dyn std::fmt::Display); 2] =
        [("app", &app.address()), ("other", &other.address())];
    let proxy = Proxy::start(&config, &values).await;
    let mut first = send(&proxy, "/first").await;
    seen(&app, 1).await;
    let start = Instant::now();
    let mut late = send(&proxy, "/late").await;
    waiting(&proxy, 1.0).await;
    assert_eq!(get(proxy.web(), "t", "/other").await.status, 200, "others go on");
    late.response().await.assert_refused(503, "queue_timeout");
    assert!(start.elapsed() >= Duration::from_millis(290), "{:?}", start.elapsed());
    let labels = [("upstream", "app"), ("reason", "queue_timeout")];
    assert_eq!(proxy.metrics().await.sum("portcullis_upstream_shed_total", &labels), 1.0);
    go.add_permits(2);
    assert_eq!(first.response().await.text(), "ok");
    assert_eq!(get(proxy.web(), "t", "/next").await.status, 200);
}

#[tokio::test]
async fn a_slow_request_is_not_sent_twice_while_others_wait_for_connections() {
    let go = Arc::new(Semaphore::new(0));
    let (one, other) = (held(&go).await, held(&go).await);
    let upstream = "limits: { connections: 1, pending_timeout: 60s }";
    let config = config(1, r#""@one@", "@other@""#, upstream)
        .replace("upstream: app }", "upstream: app, hedge: { after: 50ms, budget: 100% } }");
    let values: [(&str, &dyn std::fmt::Display); 2] =
        [("one", &one.address()), ("other", &other.address())];
    let proxy = Proxy::start(&config, &values).await;
    let mut clients = [send(&proxy, "/1").await, send(&proxy, "/2").await];
    let refused = |metrics: &Metrics| {
        let labels = [("upstream", "app"), ("reason", "limit")];
        metrics.sum("portcullis_upstream_hedges_refused_total", &labels)
    };
    proxy.metrics_until("it is not sent", |metrics| refused(metrics) >= 1.0).await;
    go.add_permits(10);
    for client in &mut clients {
        assert_eq!(client.response().await.text(), "ok");
    }
    taken(&proxy, 1).await;
}

#[tokio::test]
async fn clients_that_leave_the_queue_leave_nothing_behind() {
    let go = Arc::new(Semaphore::new(0));
    let app = held(&go).await;
    let config = config(2, r#""@app@""#, "limits: { connections: 1, pending_timeout: 20s }");
    let proxy = Proxy::start(&config, &[("app", &app.address())]).await;
    let first = send(&proxy, "/first").await;
    seen(&app, 1).await;
    let waits = [send(&proxy, "/1").await, send(&proxy, "/2").await, send(&proxy, "/3").await];
    let mut last = send(&proxy, "/last").await;
    waiting(&proxy, 4.0).await;
    drop(waits);
    waiting(&proxy, 1.0).await;
    drop(first);
    go.add_permits(5);
    assert_eq!(last.response().await.text(), "ok");
    assert_eq!(get(proxy.web(), "t", "/next").await.status, 200);
    taken(&proxy, 1).await;
}

// === idle connections ===

#[tokio::test]
async fn an_idle_connection_makes_room_for_one_to_another_endpoint() {
    let (a, b) = (Backend::saying("a").await, Backend::saying("b").await);
    let config = config(1, r#""@a@", "@b@""#, "limits: { connections: 1, pending: 0 }");
    let values: [(&str, &dyn std::fmt::Display); 2] = [("a", &a.address()), ("b", &b.address())];
    let proxy = Proxy::start(&config, &values).await;
    let mut client = Client::connect(proxy.web()).await;
    for _ in 0..10 {
        assert_eq!(client.request("GET", "t", "/").await.status, 200);
    }
    assert_eq!((a.connections(), b.connections()), (5, 5), "each in turn");
    taken(&proxy, 1).await;
}

/// Requests that come to either worker are served although one connection is all there may be.
async fn both_workers_are_served(upstream: &str, patience: Duration) {
    let app = Backend::saying("ok").await;
    let proxy = Proxy::start(&config(2, r#""@app@""#, upstream), &[("app", &app.address())]).await;
    let mut served = 0;
    // Which worker gets a connection is the kernel's choice.
    eventually(STEP, "the place goes from worker to worker", async || {
        let start = Instant::now();
        eventually(patience, "it is served", async || {
            get(proxy.web(), "t", "/").await.status == 200
        })
        .await;
        assert!(start.elapsed() < patience, "{:?}", start.elapsed());
        served += 1;
        app.connections() >= 4
    })
    .await;
    assert!(served >= 4);
    taken(&proxy, 1).await;
}

#[tokio::test]
async fn an_idle_connection_makes_room_for_one_of_another_worker() {
    both_workers_are_served("limits: { connections: 1, pending_timeout: 60s }", STEP / 2).await;
}

#[tokio::test]
async fn without_a_queue_an_idle_connection_makes_room_for_the_next_request() {
    both_workers_are_served("limits: { connections: 1, pending: 0 }", STEP / 2).await;
}

// === places come back ===

#[tokio::test]
async fn places_come_back_however_a_connection_ends() {
    let closing = Backend::script(|mut conn| async move {
        while let Some(seen) = conn.request().await {
            match seen.target.as_str() {
                "/close" => {
                    conn.send(
                        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
                    )
                    .await;
                    return;
                }
                "/reset" => return conn.reset(),
                "/short" => {
                    conn.send("HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nok").await;
                    return;
                }
                "/later" => {
                    conn.send(OK).await;
                    return; // while it is pooled
                }
                _ => conn.send(OK).await,
            }
        }
    })
    .await;
    // That it is idle for too long is not why one goes.
    let upstream = "pool: { idle_timeout: 60s }, limits: { connections: 1, pending_timeout: 20s }";
    let config = config(2, r#""@app@""#, upstream);
    let proxy = Proxy::start(&config, &[("app", &closing.address())]).await;
    for target in ["/close", "/reset", "/short", "/later"] {
        for _ in 0..3 {
            let mut client = send(&proxy, target).await;
            let _ = client.try_response(false).await;
            assert_eq!(get(proxy.web(), "t", "/").await.text(), "ok", "after {target}");
        }
        taken(&proxy, 1).await;
    }
    let mut client = send(&proxy, "/later").await;
    assert_eq!(client.response().await.text(), "ok");
    taken(&proxy, 0).await;
}

#[tokio::test]
async fn places_come_back_after_dials_that_fail_or_are_given_up() {
    let nobody = reserve();
    let silent = Backend::script(|mut conn| async move { conn.stall().await }).await;
    let limits = r#"limits: { connections: 2, pending: 0 }"#;
    let config = config(1, r#""@nobody@""#, limits).replace(
        "upstreams: {",
        r#"upstreams: { mute: { endpoints: ["https://@silent@"], outlier: off, limits: { connections: 1, pending: 0 } },"#,
    );
    let config = config.replace(
        "{ path: /, upstream: app }",
        "{ path: /, upstream: app }, { path: /mute, upstream: mute, timeouts: { connect: 60s } }, { path: /mute/short, upstream: mute, timeouts: { connect: 100ms } }",
    );
    let values: [(&str, &dyn std::fmt::Display); 2] =
        [("nobody", &nobody), ("silent", &silent.address())];
    let proxy = Proxy::start(&config, &values).await;
    for _ in 0..6 {
        get(proxy.web(), "t", "/").await.assert_refused(503, "connect_failed");
    }
    taken(&proxy, 0).await;
    for _ in 0..2 {
        get(proxy.web(), "t", "/mute/short").await.assert_refused(504, "connect_timeout");
    }
    let client = send(&proxy, "/mute").await;
    taken_of(&proxy, "mute", 1).await;
    proxy
        .metrics_until("the dial shows", |metrics| {
            let mute = [("upstream", "mute")];
            metrics.sum("portcullis_upstream_connections_taken", &mute) == 1.0
        })
        .await;
    drop(client);
    taken_of(&proxy, "mute", 0).await;
}

#[tokio::test]
async fn a_tunnel_holds_its_place_to_its_end() {
    let app = Backend::script(|mut conn| async move {
        if accept_websocket(&mut conn).await.is_some() {
            echo_frames(conn).await;
        }
    })
    .await;
    let config = config(2, r#""@app@""#, "limits: { connections: 1, pending: 0 }");
    let proxy = Proxy::start(&config, &[("app", &app.address())]).await;
    for _ in 0..3 {
        let mut socket = WebSocket::connect(proxy.web(), "t", "/").await;
        socket.round_trip("hello").await;
        get(proxy.web(), "t", "/").await.assert_refused(503, "overloaded");
        socket.round_trip("still there").await;
        drop(socket);
        taken(&proxy, 0).await;
    }
}
