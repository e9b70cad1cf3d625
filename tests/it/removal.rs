//! Endpoints that are taken out while they are at work, by configuration, by DNS, or by degrees:
//! what was begun is finished, nothing new comes to them, and their connections are closed.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::harness::*;

/// A back end that says its name, takes uploads, and sends the second half of a download when it
/// is let.
struct App {
    backend: Backend,
    go: Arc<Semaphore>,
}

impl App {
    async fn new(name: &'static str) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").await.expect("a free port"), name)
    }

    fn on(listener: TcpListener, name: &'static str) -> Self {
        let go = Arc::new(Semaphore::new(0));
        let shared = go.clone();
        let backend = Backend::script_on(listener, move |conn| serve(conn, name, shared.clone()));
        Self { backend, go }
    }

    fn address(&self) -> SocketAddr {
        self.backend.address()
    }
}

async fn serve(mut conn: Conn, name: &'static str, go: Arc<Semaphore>) {
    while let Some(seen) = conn.head().await {
        match seen.target.as_str() {
            "/ws" => {
                conn.send(consent()).await;
                return echo_frames(conn).await;
            }
            "/download" => {
                conn.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst").await;
                go.acquire().await.expect("never closed").forget();
                conn.send("other").await;
            }
            "/upload" => {
                let length = seen.headers.get("content-length").expect("a length");
                let body = conn.exactly(length.parse().expect("a length")).await;
                let Some(body) = body else { return };
                let text = format!("{:x}", fingerprint(&body));
                conn.send(ok(&text)).await;
            }
            _ => conn.send(ok(name)).await,
        }
    }
}

fn ok(text: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{text}", text.len())
}

const UPLOAD: usize = 300_000;
/// How often a worker looks for connections that are of no more use.
const LOOK: Duration = Duration::from_secs(1);

/// Everything that takes long, begun and half done.
struct AtWork {
    download: Client,
    stream: h2::RecvStream,
    upload: Client,
    socket: WebSocket,
}

impl AtWork {
    async fn begin(web: SocketAddr) -> Self {
        let mut download = Client::connect(web).await;
        download.send("GET /download HTTP/1.1\r\nHost: t\r\n\r\n").await;
        assert_eq!(download.head().await.status, 200);
        assert_eq!(download.exactly(5).await.expect("open").as_deref(), Some(&b"first"[..]));
        let mut h2 = H2::connect(web).await;
        let (response, _) = h2.open(get_request("t", "/download"), true).await.expect("a stream");
        let mut stream = within(STEP, "a head", response).await.expect("a response").into_body();
        let first = within(STEP, "data", stream.data()).await.expect("open").expect("data");
        assert_eq!(first, "first");
        let mut upload = Client::connect(web).await;
        let head = format!("POST /upload HTTP/1.1\r\nHost: t\r\nContent-Length: {UPLOAD}\r\n\r\n");
        upload.send(head).await;
        upload.send(&body_pattern(UPLOAD)[..UPLOAD / 2]).await;
        let mut socket = WebSocket::connect(web, "t", "/ws").await;
        socket.round_trip("before").await;
        Self { download, stream, upload, socket }
    }

    /// Everything ends as it should; the WebSocket is given back open.
    async fn finish(mut self, app: &App) -> WebSocket {
        self.socket.round_trip("after").await;
        app.go.add_permits(2);
        let rest = self.download.exactly(5).await.expect("open");
        assert_eq!(rest.as_deref(), Some(&b"other"[..]));
        let mut rest = Vec::new();
        while let Some(data) = within(STEP, "data", self.stream.data()).await {
            rest.extend_from_slice(&data.expect("no error"));
        }
        assert_eq!(rest, b"other");
        let body = body_pattern(UPLOAD);
        self.upload.send(&body[UPLOAD / 2..]).await;
        assert_eq!(self.upload.response().await.text(), format!("{:x}", fingerprint(&body)));
        self.socket.round_trip("still").await;
        self.socket
    }
}

/// No connection is closed for having waited.
fn config(endpoints: &str) -> String {
    format!(
        r#"
workers: 2
resolver: {{ nameservers: ["@dns@"], timeout: 500ms }}
listeners: {{ web: {{ bind: "@web@" }} }}
hosts: {{ "*": {{ routes: [ {{ path: /, upstream: app }} ] }} }}
upstreams: {{ app: {{ endpoints: [{endpoints}], balance: round_robin, pool: {{ idle_timeout: 1h }} }} }}
"#
    )
}

async fn name(proxy: &Proxy) -> String {
    let response = get(proxy.web(), "t", "/").await;
    assert_eq!(response.status, 200, "{response}");
    response.text()
}

/// Waits until this one alone answers, as far as twenty requests in a row tell.
async fn served_by(proxy: &Proxy, who: &str) {
    let mut row = 0;
    eventually(STEP, who, async || {
        row = if name(proxy).await == who { row + 1 } else { 0 };
        row == 20
    })
    .await;
}

/// `old` is at work when `remove` takes it out in favour of `new`.
async fn outlives(proxy: &mut Proxy, old: &App, new: &App, remove: impl FnOnce(&mut Proxy)) {
    let at_work = AtWork::begin(proxy.web()).await;
    eventually(STEP, "all of it has begun", async || old.backend.open() >= 4).await;
    // Some that are free, too: those have to go by themselves.
    for _ in 0..8 {
        assert_eq!(name(proxy).await, "old");
    }
    remove(proxy);
    served_by(proxy, "new").await;
    let before = old.backend.requests().len();
    eventually(STEP, "free connections are closed", async || old.backend.open() == 4).await;
    let mut client = Client::connect(proxy.web()).await;
    for number in 0..100 {
        let response = client.request("GET", "t", &format!("/{number}")).await;
        assert_eq!((response.status, response.text().as_str()), (200, "new"));
    }
    let mut socket = at_work.finish(old).await;
    assert_eq!(old.backend.requests().len(), before, "nothing new came");
    eventually(STEP, "the others are closed after use", async || old.backend.open() == 1).await;
    socket.round_trip("last words").await;
    socket.send_frame(Opcode::Close, b"").await;
    assert!(socket.next().await.is_some_and(|frame| frame.opcode == Opcode::Close as u8));
    drop(socket);
    eventually(STEP, "that of the WebSocket as well", async || old.backend.open() == 0).await;
    assert!(new.backend.requests().len() >= 120);
    let metrics = proxy.metrics().await;
    assert_eq!(metrics.sum("portcullis_requests_total", &[("code", "5xx")]), 0.0);
}

#[tokio::test]
async fn what_an_endpoint_is_at_goes_on_when_the_configuration_drops_it() {
    let (old, new, dns) = (App::new("old").await, App::new("new").await, Dns::start().await);
    let values: [(&str, &dyn std::fmt::Display); 3] =
        [("old", &old.address()), ("new", &new.address()), ("dns", &dns.address())];
    let mut proxy = Proxy::start(&config(r#""@old@""#), &values).await;
    outlives(&mut proxy, &old, &new, |proxy| proxy.rewrite(&config(r#""@new@""#))).await;
}

#[tokio::test]
async fn what_an_endpoint_is_at_goes_on_when_dns_drops_it() {
    let (one, two) = (Ipv4Addr::new(127, 0, 0, 1), Ipv4Addr::new(127, 0, 0, 2));
    let (old, new) = loop {
        let first = TcpListener::bind((one, reserve().port())).await.expect("a free port");
        let port = first.local_addr().expect("bound").port();
        if let Ok(second) = TcpListener::bind((two, port)).await {
            break (App::on(first, "old"), App::on(second, "new"));
        }
    };
    let dns = Dns::start().await;
    dns.addresses("app.test", 1, &[IpAddr::V4(one)]);
    let endpoint = format!("\"app.test:{}\"", old.address().port());
    let mut proxy = Proxy::start(&config(&endpoint), &[("dns", &dns.address())]).await;
    outlives(&mut proxy, &old, &new, |_| dns.addresses("app.test", 1, &[IpAddr::V4(two)])).await;
}

#[tokio::test]
async fn what_an_endpoint_is_at_goes_on_while_it_drains() {
    let (old, new, dns) = (App::new("old").await, App::new("new").await, Dns::start().await);
    let values: [(&str, &dyn std::fmt::Display); 3] =
        [("old", &old.address()), ("new", &new.address()), ("dns", &dns.address())];
    // It is still an endpoint: its connections go as any others that are not needed any more.
    let config = |list: &str| config(list).replace("idle_timeout: 1h", "idle_timeout: 1s");
    let mut proxy = Proxy::start(&config(r#""@old@""#), &values).await;
    let draining = config(r#"{ address: "@old@", draining: true }, "@new@""#);
    outlives(&mut proxy, &old, &new, |proxy| proxy.rewrite(&draining)).await;
}

#[tokio::test]
async fn a_stream_to_an_http_2_endpoint_goes_on_when_the_endpoint_is_dropped() {
    let (old, new, dns) = (Server::grpc_h2c().await, Server::h2c().await, Dns::start().await);
    let values: [(&str, &dyn std::fmt::Display); 3] =
        [("old", &old.address()), ("new", &new.address()), ("dns", &dns.address())];
    let config = |endpoint: &str| config(endpoint).replace("pool:", "protocol: h2c, pool:");
    let mut proxy = Proxy::start(&config(r#""@old@""#), &values).await;
    let mut h2 = H2::connect(proxy.web()).await;
    let (response, mut send) = h2.open(post_request("t", "/"), false).await.expect("a stream");
    send.send_data(Bytes::from_static(b"one"), false).expect("open");
    let mut body = within(STEP, "a head", response).await.expect("a response").into_body();
    assert_eq!(within(STEP, "data", body.data()).await.expect("open").expect("data"), "one");
    proxy.rewrite(&config(r#""@new@""#));
    eventually(STEP, "new requests go to the new one", async || {
        let seen = new.requests();
        get(proxy.web(), "t", "/").await;
        new.requests() > seen
    })
    .await;
    // Long enough for the connection to be found that nothing new may use.
    let (before, since) = (old.requests(), Instant::now());
    eventually(STEP, "two looks at the pool", async || {
        assert_eq!(get(proxy.web(), "t", "/").await.status, 200);
        since.elapsed() > 2 * LOOK
    })
    .await;
    assert_eq!((old.open(), old.requests()), (1, before));
    send.send_data(Bytes::from_static(b"two"), true).expect("open");
    assert_eq!(within(STEP, "data", body.data()).await.expect("open").expect("data"), "two");
    let trailers = within(STEP, "trailers", body.trailers()).await.expect("no error");
    assert_eq!(trailers.expect("trailers")["grpc-status"], "0");
    eventually(STEP, "its connection is closed", async || old.open() == 0).await;
}

#[tokio::test]
async fn an_address_that_comes_back_is_another_endpoint_with_connections_of_its_own() {
    let (old, new, dns) = (App::new("old").await, App::new("new").await, Dns::start().await);
    let values: [(&str, &dyn std::fmt::Display); 3] =
        [("old", &old.address()), ("new", &new.address()), ("dns", &dns.address())];
    let mut proxy = Proxy::start(&config(r#""@old@""#), &values).await;
    // One that is in use while its endpoint goes and comes back.
    let mut download = Client::connect(proxy.web()).await;
    download.send("GET /download HTTP/1.1\r\nHost: t\r\n\r\n").await;
    assert_eq!(download.head().await.status, 200);
    for _ in 0..8 {
        assert_eq!(name(&proxy).await, "old");
    }
    let before = old.backend.connections();
    proxy.rewrite(&config(r#""@new@""#));
    served_by(&proxy, "new").await;
    proxy.rewrite(&config(r#""@old@""#));
    served_by(&proxy, "old").await;
    old.go.add_permits(1);
    assert_eq!(download.exactly(10).await.expect("open").as_deref(), Some(&b"firstother"[..]));
    served_by(&proxy, "old").await;
    let seen = old.backend.requests();
    let later = seen.iter().rev().take(40).all(|seen| seen.connection >= before);
    assert!(later, "another server may listen there now");
}

#[tokio::test]
async fn endpoints_that_all_drain_serve_on_and_none_left_is_a_503() {
    let (one, two, dns) = (App::new("one").await, App::new("two").await, Dns::start().await);
    let values: [(&str, &dyn std::fmt::Display); 3] =
        [("one", &one.address()), ("two", &two.address()), ("dns", &dns.address())];
    let draining = |names: &[&str]| {
        let list = names.iter().map(|name| format!("{{ address: \"@{name}@\", draining: true }}"));
        config(&list.collect::<Vec<_>>().join(", "))
    };
    let mut proxy = Proxy::start(&config(r#""@one@", "@two@""#), &values).await;
    assert_eq!(get(proxy.web(), "t", "/").await.status, 200);
    let generation = |metrics: &Metrics| metrics.sum("portcullis_config_generation", &[]);
    let before = generation(&proxy.metrics().await);
    proxy.rewrite(&draining(&["one", "two"]));
    proxy.metrics_until("the edit is live", |metrics| generation(metrics) > before).await;
    let seen = [&one, &two].map(|app| app.backend.requests().len());
    let mut client = Client::connect(proxy.web()).await;
    for _ in 0..60 {
        assert_eq!(client.request("GET", "t", "/").await.status, 200);
    }
    for (app, seen) in [&one, &two].iter().zip(seen) {
        assert!(app.backend.requests().len() > seen + 5, "both are used");
    }
    // One of them is gone for good: it is the last.
    proxy.rewrite(&draining(&["two"]));
    served_by(&proxy, "two").await;
    proxy.rewrite(&config(""));
    eventually(STEP, "none is left", async || get(proxy.web(), "t", "/").await.status != 200).await;
    get(proxy.web(), "t", "/").await.assert_refused(503, "no_endpoint");
    eventually(STEP, "their connections are closed", async || {
        one.backend.open() + two.backend.open() == 0
    })
    .await;
}

#[tokio::test]
async fn an_endpoint_that_drains_is_used_again_while_all_others_are_unhealthy() {
    let (leaving, staying) = (App::new("leaving").await, Checked::new().await);
    let config = r#"
listeners: { web: { bind: "@web@" } }
hosts: { "*": { routes: [ { path: /, upstream: app } ] } }
upstreams:
  app:
    endpoints: [{ address: "@leaving@", draining: true }, "@staying@"]
    health: { path: /healthz, interval: 50ms, unhealthy_interval: 50ms, rise: 1, fall: 1 }
"#;
    let values: [(&str, &dyn std::fmt::Display); 2] =
        [("leaving", &leaving.address()), ("staying", &staying.backend.address())];
    let proxy = Proxy::start(config, &values).await;
    for (healthy, serving) in [(true, "staying"), (false, "leaving"), (true, "staying")] {
        staying.healthy.store(healthy, Ordering::SeqCst);
        served_by(&proxy, serving).await;
    }
}

/// A back end whose health can be changed.
struct Checked {
    backend: Backend,
    healthy: Arc<AtomicBool>,
}

impl Checked {
    async fn new() -> Self {
        let healthy = Arc::new(AtomicBool::new(true));
        let shared = healthy.clone();
        let backend = Backend::script(move |mut conn| {
            let healthy = shared.clone();
            async move {
                while let Some(seen) = conn.request().await {
                    let well = healthy.load(Ordering::SeqCst);
                    if seen.target == "/healthz" && !well {
                        conn.send("HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n").await;
                    } else {
                        conn.send(ok("staying")).await;
                    }
                }
            }
        })
        .await;
        Self { backend, healthy }
    }
}

#[tokio::test]
async fn who_waits_for_a_connection_to_an_endpoint_that_is_dropped_goes_to_another() {
    let (app, hole) = (App::new("app").await, BlackHole::open().await);
    let patient = |endpoints: &str| {
        let routes = "upstream: app, timeouts: { connect: 5m }, retry: { attempts: 0 } }";
        config(endpoints).replace("upstream: app }", routes)
    };
    let dns = Dns::start().await;
    let values: [(&str, &dyn std::fmt::Display); 3] =
        [("app", &app.address()), ("hole", &hole.address()), ("dns", &dns.address())];
    let mut proxy = Proxy::start(&patient(r#""@hole@", "@app@""#), &values).await;
    let web = proxy.web();
    let asked: Vec<_> =
        (0..8).map(|_| tokio::spawn(async move { get(web, "t", "/").await })).collect();
    eventually(STEP, "some are answered, and some wait", async || {
        let answered = asked.iter().filter(|asked| asked.is_finished()).count();
        let waiting = proxy.metrics().await.sum("portcullis_requests_in_flight", &[]);
        answered > 0 && answered + waiting as usize == asked.len()
    })
    .await;
    assert!(asked.iter().any(|asked| !asked.is_finished()));
    proxy.rewrite(&patient(r#""@app@""#));
    for asked in asked {
        let answer = within(STEP, "an answer", asked).await.expect("no panic");
        assert_eq!((answer.status, answer.text().as_str()), (200, "app"), "{answer}");
    }
}
