//! TLS that is not terminated here: the back end's own certificate, and every byte of both sides.

use std::time::Duration;

use rustix::process::Signal;

use crate::harness::*;

const CONFIG: &str = r#"
access_log: true
limits: { head_timeout: 2s }
drain: { grace: 0s, deadline: 20s }
listeners:
  web: { bind: "@web@" }
  secure: { bind: "@secure@", tls: { certificates: [ { cert: a.pem, key: a.key } ] } }
hosts:
  vault.example: { tls_passthrough: vault, routes: [ { path: /, respond: { body: plain } } ] }
  "*.raw.example": { tls_passthrough: { upstream: raw, idle: 1s } }
  long.raw.example: { tls_passthrough: raw }
  here.raw.example: { routes: [ { path: /, respond: { body: terminated } } ] }
  half.example: { tls_passthrough: half }
  none.example: { tls_passthrough: none }
  dead.example: { tls_passthrough: { upstream: dead, connect: 300ms } }
  full.example: { tls_passthrough: full }
  shop.example: { routes: [ { path: /, respond: { body: shop } } ] }
upstreams:
  vault: { endpoints: ["@vault@"] }
  raw: { endpoints: ["@raw@"] }
  half: { balance: round_robin, outlier: off, endpoints: ["@gone@", "@raw@"] }
  none: { endpoints: [] }
  dead: { endpoints: ["@gone@", "@hole@"] }
  full: { endpoints: ["@raw@"], limits: { connections: 1, pending: 1, pending_timeout: 200ms } }
"#;

/// A proxy with a certificate of its own before a vault with another.
struct World {
    proxy: Proxy,
    vault: Server,
    raw: Backend,
    /// Has signed the proxy's certificate.
    ours: Ca,
    /// Has signed the vault's.
    theirs: Ca,
    _hole: BlackHole,
}

impl World {
    /// `raw` is told every connection to the back end of that name.
    async fn start<F, Fut>(raw: F) -> Self
    where
        F: Fn(Conn) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let (ours, theirs) = (Ca::new(), Ca::new());
        let alpn = ["h2", "http/1.1"];
        let config = server_config(&theirs.server(&["vault.example"]), &alpn, Some(&theirs));
        let vault = Server::tls(config).await;
        let raw = Backend::script(raw).await;
        let hole = BlackHole::open().await;
        let pair = ours.server(&["shop.example", "*.example", "*.raw.example"]);
        let setup = Setup::new(CONFIG).with("vault", vault.address()).with("raw", raw.address());
        let setup = setup.with("gone", reserve()).with("hole", hole.address());
        let setup = setup.file("a.pem", pair.cert.as_str()).file("a.key", pair.key.as_str());
        Self { proxy: setup.start().await, vault, raw, ours, theirs, _hole: hole }
    }

    async fn connect(&self) -> Client {
        Client::connect(self.proxy.addr("secure")).await
    }

    /// Waits until so many connections have ended for `reason`.
    async fn ended(&self, reason: &str, count: usize) {
        let labels = [("listener", "secure"), ("reason", reason)];
        let total = "portcullis_passthrough_connections_total";
        let what = format!("{count} that ended: {reason}");
        self.proxy
            .metrics_until(&what, |metrics| metrics.sum(total, &labels) == count as f64)
            .await;
    }

    /// The line of the access log that has this in it.
    async fn line(&self, part: &str) -> serde_json::Value {
        let line = self.proxy.stdout_line(part, |line| line.contains(part)).await;
        serde_json::from_str(&line).expect("JSON")
    }
}

async fn nothing(mut conn: Conn) {
    conn.stall().await;
}

/// Sends back what comes.
async fn echo(mut conn: Conn) {
    loop {
        let some = conn.some().await;
        if some.is_empty() || !conn.try_send(&some).await {
            return;
        }
    }
}

/// The record of a ClientHello that asks for `name` and is padded with so many bytes.
fn hello(name: &str, padding: usize) -> Vec<u8> {
    let vector = |bytes: &[u8]| [&(bytes.len() as u16).to_be_bytes()[..], bytes].concat();
    let list = [&[0][..], &vector(name.as_bytes())].concat();
    let extensions = [&[0, 0][..], &vector(&vector(&list)), &[0, 21], &vector(&vec![0; padding])];
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.extend([0, 0, 2, 0x13, 0x01, 1, 0]);
    body.extend(vector(&extensions.concat()));
    let length = (body.len() as u32).to_be_bytes();
    let message = [&[1][..], &length[1..], &body].concat();
    message.chunks(1 << 14).flat_map(|piece| [&[22, 3, 1][..], &vector(piece)].concat()).collect()
}

#[tokio::test]
async fn the_back_end_shakes_hands_itself_and_sees_what_the_client_shows() {
    let world = World::start(nothing).await;
    let own = world.theirs.client("anna");
    let all = rustls::ALL_VERSIONS;
    // Its certificate is the vault's; the proxy has no other for it, and no client's key.
    let tls = TlsClient::with(&world.theirs, "vault.example", &["http/1.1"], Some(&own), all);
    let mut client = Client::tls(world.proxy.addr("secure"), &tls).await;
    let echoed = Echoed::of(&client.request("GET", "vault.example", "/a").await.body);
    assert_eq!(echoed.sni.as_deref(), Some("vault.example"));
    assert!(echoed.client_certificate);
    assert_eq!(echoed.header("x-forwarded-for"), None, "nothing is added");
    let big = body_pattern(3_000_000);
    let head =
        format!("POST / HTTP/1.1\r\nHost: vault.example\r\nContent-Length: {}\r\n\r\n", big.len());
    client.send([head.as_bytes(), &big].concat()).await;
    let echoed = Echoed::of(&client.response().await.body);
    assert_eq!((echoed.length, echoed.fingerprint), (3_000_000, fingerprint(&big)));
    // What ALPN agrees on is theirs to say.
    let tls = TlsClient::with(&world.theirs, "VAULT.example", &["h2"], Some(&own), all);
    let stream = tls.connect(world.proxy.addr("secure")).await.expect("shaken hands");
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    drop((client, stream));
    world
        .proxy
        .metrics_until("both ended", |metrics| {
            let of_listener = [("listener", "secure")];
            metrics.sum("portcullis_passthrough_connections_total", &of_listener) == 2.0
        })
        .await;
    let line = world.line("\"request_bytes\":30").await;
    assert_eq!((line["scheme"].as_str(), line["status"].as_u64()), (Some("tls"), Some(0)));
    assert_eq!(line["server_name"], "vault.example");
    assert_eq!(line["upstream"], "vault");
    assert_eq!(line["endpoint"], world.vault.address().to_string());
    assert_eq!(line["attempts"], 1);
    assert!(line.get("method").is_none() && line.get("path").is_none(), "{line}");
    let metrics = world.proxy.metrics().await;
    let of = |direction| [("listener", "secure"), ("direction", direction)];
    let bytes = |direction| metrics.sum("portcullis_passthrough_bytes_total", &of(direction));
    assert!(bytes("received") > 3_000_000.0 && bytes("sent") > 500.0);
    assert_eq!(metrics.sum("portcullis_passthrough_connections", &[("listener", "secure")]), 0.0);
    assert_eq!(metrics.sum("portcullis_upstream_attempts_total", &[("upstream", "vault")]), 2.0);
    assert_eq!(metrics.sum("portcullis_upstream_connections", &[("upstream", "vault")]), 0.0);
    assert!(!metrics.has("portcullis_tls_handshakes_total", &[("listener", "secure")]));
}

#[tokio::test]
async fn other_names_are_terminated_here_and_cannot_be_used_for_those_that_pass() {
    let world = World::start(nothing).await;
    let secure = world.proxy.addr("secure");
    for (name, body) in [("shop.example", "shop"), ("here.raw.example", "terminated")] {
        let mut client = H2::tls(secure, &TlsClient::new(&world.ours, name, &["h2"])).await;
        assert_eq!(client.get(name, "/").await.text(), body, "{name}");
        // A certificate for all names does not lead there; on a new connection the client gets there.
        assert_eq!(client.get("vault.example", "/").await.status, 421, "{name}");
        assert_eq!(client.get(name, "/").await.text(), body, "{name}, again");
    }
    let nobody = TlsClient::gullible("shop.example", &[]).without_sni();
    let mut client = Client::tls(secure, &nobody).await;
    assert_eq!(client.request("GET", "shop.example", "/").await.text(), "shop");
    let response = get(world.proxy.web(), "vault.example", "/").await;
    assert_eq!(response.text(), "plain", "without TLS there are routes");
    assert_eq!((world.vault.connections(), world.raw.connections()), (0, 0));
}

#[tokio::test]
async fn every_byte_arrives_however_the_hello_was_cut() {
    let world = World::start(echo).await;
    let whole = hello("a.raw.example", 100);
    let (first, second) = whole[5..].split_at(30);
    let record = |bytes: &[u8]| [&[22, 3, 3, 0, bytes.len() as u8][..], bytes].concat();
    let two = [record(first), record(second)].concat();
    for (name, bytes) in
        [("one", whole), ("two records", two), ("large", hello("b.raw.example", 12_000))]
    {
        for trickled in [false, true] {
            let mut client = world.connect().await;
            if trickled {
                for byte in &bytes[..bytes.len().min(300)] {
                    client.send([*byte]).await;
                }
                client.send(&bytes[bytes.len().min(300)..]).await;
            } else {
                client.send([&bytes, b"more".as_slice()].concat()).await;
            }
            let expected =
                if trickled { bytes.clone() } else { [&bytes, b"more".as_slice()].concat() };
            let came = client.exactly(expected.len()).await.expect("sound");
            assert_eq!(came, Some(expected), "{name}, {trickled}");
        }
    }
}

#[tokio::test]
async fn what_is_no_hello_hears_so_and_reaches_nobody() {
    let world = World::start(echo).await;
    for bytes in
        [&b"GET / HTTP/1.1\r\nHost: t\r\n\r\n"[..], b"\x16\x03\x01\x00\x04\x02\x00\x00\x00"]
    {
        let mut client = world.connect().await;
        client.send(bytes).await;
        let alert = client.exactly(7).await.expect("sound").expect("an alert");
        assert_eq!(alert[0], 21, "{alert:?}");
        client.closed().await;
    }
    // Too much for a hello: who may have written that is not asked any further.
    let mut client = world.connect().await;
    let _ = client.try_send(hello("a.raw.example", 17_000)).await;
    client.closed().await;
    // One that never ends its hello has no more time than any other.
    let mut silent = world.connect().await;
    silent.send(&hello("a.raw.example", 0)[..20]).await;
    silent.closed().await;
    let rejected = |reason| [("listener", "secure"), ("reason", reason)];
    for reason in ["client_hello_too_long", "handshake_timeout"] {
        world
            .proxy
            .metrics_until(reason, |metrics| {
                metrics.sum("portcullis_rejected_requests_total", &rejected(reason)) == 1.0
            })
            .await;
    }
    assert_eq!(world.raw.connections(), 0);
}

#[tokio::test]
async fn an_end_is_passed_on_by_halves() {
    let world = World::start(|mut conn: Conn| async move {
        // All of it first, then an answer that takes its time.
        let mut count = 0;
        loop {
            match conn.some().await.len() {
                0 => break,
                some => count += some,
            }
        }
        conn.trickle(format!("{count} bytes").repeat(2), Duration::from_millis(1)).await;
    })
    .await;
    let bytes = hello("long.raw.example", 0);
    let mut client = world.connect().await;
    client.send(&bytes).await;
    client.half_close().await;
    let expected = format!("{} bytes", bytes.len()).repeat(2);
    let came = client.exactly(expected.len()).await.expect("sound").expect("all of it");
    assert_eq!(String::from_utf8_lossy(&came), expected);
    client.closed().await;
    world.ended("-", 1).await;
}

#[tokio::test]
async fn what_the_back_end_said_last_arrives_though_it_takes_no_more() {
    let world = World::start(|mut conn: Conn| async move {
        conn.some().await;
        conn.send("goodbye").await;
    })
    .await;
    let mut client = world.connect().await;
    client.send(hello("long.raw.example", 0)).await;
    assert_eq!(client.exactly(7).await.expect("sound").as_deref(), Some(&b"goodbye"[..]));
    client.closed().await;
    let mut client = world.connect().await;
    client.send(hello("long.raw.example", 0)).await;
    client.exactly(7).await.expect("sound");
    drop(client);
    world.ended("-", 2).await;
}

#[tokio::test]
async fn a_connection_in_which_nothing_moves_ends() {
    let world = World::start(echo).await;
    let mut client = world.connect().await;
    let bytes = hello("a.raw.example", 0);
    client.send(&bytes).await;
    client.exactly(bytes.len()).await.expect("sound");
    client.closed().await;
    world.ended("tunnel_idle", 1).await;
}

#[tokio::test]
async fn without_an_endpoint_the_connection_is_closed_and_told_of() {
    let world = World::start(echo).await;
    for (host, reason) in [("none.example", "no_endpoint"), ("dead.example", "connect_")] {
        let mut client = world.connect().await;
        client.send(hello(host, 0)).await;
        client.closed().await;
        let line = world.line(&format!("\"server_name\":\"{host}\"")).await;
        assert!(line["reason"].as_str().expect("a reason").starts_with(reason), "{line}");
    }
    // Where another one takes it, nothing is to be seen of that.
    for _ in 0..4 {
        let bytes = hello("half.example", 0);
        let mut client = world.connect().await;
        client.send(&bytes).await;
        assert_eq!(client.exactly(bytes.len()).await.expect("sound"), Some(bytes));
    }
    let metrics = world.proxy.metrics().await;
    let of = |upstream| [("upstream", upstream)];
    assert!(metrics.sum("portcullis_upstream_retries_total", &of("half")) >= 1.0);
    assert_eq!(metrics.sum("portcullis_upstream_no_endpoint_total", &of("none")), 1.0);
    assert!(metrics.sum("portcullis_upstream_errors_total", &of("dead")) >= 2.0);
}

#[tokio::test]
async fn an_upstream_bears_as_many_connections_as_it_says() {
    let world = World::start(echo).await;
    let bytes = hello("full.example", 0);
    let mut first = world.connect().await;
    first.send(&bytes).await;
    first.exactly(bytes.len()).await.expect("sound");
    let mut second = world.connect().await;
    second.send(&bytes).await;
    second.closed().await;
    world.ended("queue_timeout", 1).await;
    drop(first);
    world.ended("-", 1).await;
    let mut third = world.connect().await;
    third.send(&bytes).await;
    assert_eq!(third.exactly(bytes.len()).await.expect("sound"), Some(bytes));
}

#[tokio::test]
async fn a_change_of_configuration_closes_none_and_holds_for_the_next() {
    let mut world = World::start(echo).await;
    let bytes = hello("long.raw.example", 0);
    let mut old = world.connect().await;
    old.send(&bytes).await;
    old.exactly(bytes.len()).await.expect("sound");
    // Host and upstream are gone: the name is terminated here now.
    let config = CONFIG
        .lines()
        .filter(|line| !line.contains("tls_passthrough: raw") && !line.contains("upstream: raw"))
        .filter(|line| !["  raw:", "  full", "  half"].iter().any(|gone| line.starts_with(gone)))
        .collect::<Vec<_>>()
        .join("\n");
    world.proxy.rewrite(&config);
    let tls = TlsClient::new(&world.ours, "long.raw.example", &[]);
    let secure = world.proxy.addr("secure");
    let terminated = async || tls.connect(secure).await.is_ok();
    eventually(STEP, "the name is terminated here", terminated).await;
    old.send("still there").await;
    assert_eq!(old.exactly(11).await.expect("sound").as_deref(), Some(&b"still there"[..]));
    // And back: a connection that was terminated here is not one to the back end.
    let shop = TlsClient::new(&world.ours, "shop.example", &[]);
    let mut client = Client::tls(secure, &shop).await;
    assert_eq!(client.request("GET", "shop.example", "/").await.text(), "shop");
    let config = CONFIG.replace("shop.example: {", "shop.example: { tls_passthrough: vault,");
    world.proxy.rewrite(&config);
    let misdirected = async || {
        let response = client.request("GET", "shop.example", "/").await;
        response.status == 421
    };
    eventually(STEP, "the client is sent to a new connection", misdirected).await;
    client.closed().await;
    let metrics = world.proxy.metrics().await;
    assert_eq!(metrics.sum("portcullis_passthrough_connections", &[("listener", "secure")]), 1.0);
}

#[tokio::test]
async fn a_shutdown_waits_for_what_passes_through() {
    let mut world = World::start(echo).await;
    let bytes = hello("long.raw.example", 0);
    let mut client = world.connect().await;
    client.send(&bytes).await;
    client.exactly(bytes.len()).await.expect("sound");
    let secure = world.proxy.addr("secure");
    world.proxy.signal(Signal::TERM);
    let refused = async || Client::try_connect(secure).await.is_err();
    eventually(STEP, "no new connections", refused).await;
    client.send("last words").await;
    assert_eq!(client.exactly(10).await.expect("sound").as_deref(), Some(&b"last words"[..]));
    drop(client);
    assert_eq!(world.proxy.exited(STEP).await.code(), Some(0));
}

#[tokio::test]
async fn people_are_told_what_passes_through() {
    let world = World::start(nothing).await;
    let said = |args: &[&str]| {
        let admin = format!("--admin={}", world.proxy.addr("admin"));
        let out = std::process::Command::new(portcullis()).args(args).arg(admin).output();
        String::from_utf8(out.expect("it ran").stdout).expect("UTF-8")
    };
    let text = said(&["explain", "https://vault.example/a"]);
    assert!(text.contains("tls      passes through to the upstream vault"), "{text}");
    assert!(text.contains(&world.vault.address().to_string()), "{text}");
    let text = said(&["explain", "http://vault.example/a"]);
    assert!(text.contains("respond 200") && !text.contains("passes through"), "{text}");
    let text = said(&["routes"]);
    let line = text.lines().find(|line| line.contains("vault.example#tls")).expect("a line");
    assert!(line.contains("vault (TLS passes through)") && line.contains("secure"), "{line}");
}
