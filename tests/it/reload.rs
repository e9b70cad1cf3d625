//! Changes of the configuration under traffic.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rustix::process::Signal;

use crate::harness::*;

/// A route that answers with `text`, and an upstream for the rest.
fn saying(text: &str) -> String {
    format!(
        r#"
listeners: {{ web: {{ bind: "@web@" }} }}
hosts:
  "*":
    routes:
      - {{ path: /, upstream: app }}
      - {{ path: /said, respond: {{ body: "{text}" }} }}
upstreams: {{ app: {{ endpoints: ["@app@"] }} }}
"#
    )
}

#[tokio::test]
async fn an_edit_is_live_within_100_ms_on_open_connections_too() {
    let echo = Server::echo().await;
    let mut proxy = Proxy::start(&saying("0"), &[("app", &echo.address())]).await;
    let mut client = Client::connect(proxy.web()).await;
    let mut h2 = H2::connect(proxy.web()).await;
    let mut times = Vec::new();
    for number in 1..=11 {
        let text = number.to_string();
        proxy.rewrite(&saying(&text));
        let start = Instant::now();
        eventually(STEP, "the edit is live", async || {
            client.request("GET", "t", "/said").await.text() == text
        })
        .await;
        times.push(start.elapsed());
        assert_eq!(h2.get("t", "/said").await.text(), text, "on every connection at once");
        assert_eq!(get(proxy.web(), "t", "/said").await.text(), text, "and on new ones");
    }
    times.sort();
    assert!(times[5] < Duration::from_millis(100), "{times:?}");
}

#[tokio::test]
async fn sighup_reads_the_configuration_again() {
    let echo = Server::echo().await;
    let mut proxy = Proxy::start(&saying("old"), &[("app", &echo.address())]).await;
    let reloads = |metrics: &Metrics| metrics.sum("portcullis_config_reloads_total", &[]);
    let before = reloads(&proxy.metrics().await);
    proxy.signal(Signal::HUP);
    proxy.metrics_until("the reload is counted", |metrics| reloads(metrics) > before).await;
    assert!(proxy.runs());
    assert_eq!(get(proxy.web(), "t", "/said").await.text(), "old");
    proxy.rewrite(&saying("new"));
    proxy.signal(Signal::HUP);
    eventually(STEP, "the edit is live", async || {
        get(proxy.web(), "t", "/said").await.text() == "new"
    })
    .await;
}

#[tokio::test]
async fn a_broken_edit_changes_nothing_and_says_what_is_wrong_and_where() {
    let echo = Server::echo().await;
    let mut proxy = Proxy::start(&saying("good"), &[("app", &echo.address())]).await;
    let generation = |metrics: &Metrics| metrics.sum("portcullis_config_generation", &[]);
    let before = generation(&proxy.metrics().await);
    let broken = saying("bad").replace("path: /said", "pth: /said");
    let line = 1 + broken.lines().position(|line| line.contains("pth:")).expect("it is there");
    let column = 1 + broken.lines().find_map(|line| line.find("pth:")).expect("it is there");
    proxy.rewrite(&broken);
    proxy
        .metrics_until("the refusal shows", |metrics| {
            metrics.has("portcullis_config_last_reload_successful", &[])
                && metrics.sum("portcullis_config_last_reload_successful", &[]) == 0.0
        })
        .await;
    let metrics = proxy.metrics().await;
    assert!(metrics.sum("portcullis_config_reloads_total", &[("result", "failure")]) >= 1.0);
    assert_eq!(generation(&metrics), before);
    assert_eq!(get(proxy.web(), "t", "/said").await.text(), "good");
    let place = format!("portcullis.yaml:{line}:{column}");
    proxy.logs(&place).await;
    for (source, text) in
        [("log", proxy.stderr()), ("admin API", proxy.admin("/api/status").await.text())]
    {
        for part in [place.as_str(), "pth", "did you mean", "path"] {
            assert!(text.contains(part), "no {part:?} in the {source}: {text}");
        }
    }
    proxy.rewrite(&saying("mended"));
    eventually(STEP, "the mended edit is live", async || {
        get(proxy.web(), "t", "/said").await.text() == "mended"
    })
    .await;
    let metrics = proxy.metrics().await;
    assert_eq!(metrics.sum("portcullis_config_last_reload_successful", &[]), 1.0);
    assert!(generation(&metrics) > before);
}

#[tokio::test]
async fn a_configuration_file_that_goes_away_changes_nothing() {
    let echo = Server::echo().await;
    let mut proxy = Proxy::start(&saying("here"), &[("app", &echo.address())]).await;
    std::fs::remove_file(proxy.path()).expect("it is there");
    proxy
        .metrics_until("the refusal shows", |metrics| {
            metrics.sum("portcullis_config_reloads_total", &[("result", "failure")]) >= 1.0
        })
        .await;
    assert_eq!(get(proxy.web(), "t", "/said").await.text(), "here");
    proxy.rewrite(&saying("back"));
    eventually(STEP, "it is read when it is back", async || {
        get(proxy.web(), "t", "/said").await.text() == "back"
    })
    .await;
}

#[tokio::test]
async fn a_directory_or_file_that_is_empty_for_a_moment_changes_nothing() {
    let dir = tempfile::TempDir::new().expect("a directory");
    let (web, admin) = (reserve(), reserve());
    let file = dir.path().join("all.yaml");
    let write = |said: &str| {
        let text = format!(
            "admin: {{ bind: \"{admin}\" }}\nlisteners: {{ web: {{ bind: \"{web}\" }} }}\n\
             hosts: {{ \"*\": {{ routes: [ {{ respond: {{ body: {said} }} }} ] }} }}\n"
        );
        std::fs::write(&file, text).expect("it can be written");
    };
    let refused = async || {
        let page = admin_of(admin, "/metrics").await.expect("the admin listener answers");
        let metrics = Metrics::parse(&page.text());
        metrics.sum("portcullis_config_last_reload_successful", &[]) == 0.0
    };
    write("first");
    let _proxy = Running::on(dir.path());
    eventually(STEP, "it serves", async || said(web).await.as_deref() == Some("first")).await;
    for (round, emptied) in
        [None, Some("# All of it is commented out.\n"), Some("---\n...\n")].into_iter().enumerate()
    {
        match emptied {
            None => std::fs::remove_file(&file).expect("it is there"),
            Some(text) => std::fs::write(&file, text).expect("it can be written"),
        }
        eventually(STEP, "the refusal shows", refused).await;
        assert!(said(web).await.is_some(), "the last good state stays: {emptied:?}");
        let next = format!("round-{round}");
        write(&next);
        eventually(STEP, "it is mended", async || said(web).await == Some(next.clone())).await;
    }
}

/// The binary on a directory; ended when dropped.
struct Running(std::process::Child);

impl Running {
    fn on(directory: &std::path::Path) -> Self {
        let mut command = std::process::Command::new(portcullis());
        command.args(["run", "--config"]).arg(directory).stderr(std::process::Stdio::null());
        Self(command.spawn().expect("it starts"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What is answered at `web`; nothing where nobody listens.
async fn said(web: std::net::SocketAddr) -> Option<String> {
    let mut client = Client::try_connect(web).await.ok()?;
    client.try_send("GET / HTTP/1.1\r\nHost: t\r\n\r\n").await.ok()?;
    client.try_response(false).await.ok().map(|response| response.text())
}

#[tokio::test]
async fn what_is_fixed_at_the_start_is_told_to_wait_for_the_next() {
    let echo = Server::echo().await;
    let mut proxy = Proxy::start(&saying("old"), &[("app", &echo.address())]).await;
    let status = async |proxy: &Proxy| proxy.admin("/api/status").await.text();
    let told = |status: &str, key: &str| {
        status.contains(&format!("`{key}` is not what the process was started with"))
    };
    let edited =
        format!("zone: elsewhere\nworkers: 3\nadmin: {{ bind: \"@other@\" }}\n{}", saying("x"));
    proxy.rewrite(&edited);
    eventually(STEP, "the admin listener's end is put off", async || {
        told(&status(&proxy).await, "admin")
    })
    .await;
    let said = status(&proxy).await;
    assert!(told(&said, "workers") && told(&said, "zone"), "{said}");
    assert!(said.contains("next start"), "{said}");
    proxy.rewrite(&saying("old"));
    eventually(STEP, "with the old values nothing waits", async || {
        !status(&proxy).await.contains("started with")
    })
    .await;
}

#[tokio::test]
async fn listeners_come_and_go_and_the_others_do_not_notice() {
    let echo = Server::echo().await;
    let base = saying("x");
    let two = base.replace(
        "listeners: { web: { bind: \"@web@\" } }",
        "listeners: { web: { bind: \"@web@\" }, second: { bind: \"@second@\" } }",
    );
    assert_ne!(base, two);
    let mut proxy = Proxy::start(&base, &[("app", &echo.address())]).await;
    let mut kept = Client::connect(proxy.web()).await;
    assert_eq!(kept.request("GET", "t", "/").await.status, 200);
    proxy.rewrite(&two);
    let second = proxy.addr("second");
    eventually(STEP, "the new listener accepts", async || {
        Client::try_connect(second).await.is_ok()
    })
    .await;
    assert_eq!(get(second, "t", "/said").await.text(), "x");
    let mut long = Client::connect(second).await;
    long.send("GET /slow?delay_ms=700 HTTP/1.1\r\nHost: t\r\n\r\n").await;
    eventually(STEP, "the request is under way", async || echo.requests() >= 2).await;
    proxy.rewrite(&base);
    eventually(STEP, "the removed listener refuses", async || {
        Client::try_connect(second).await.is_err()
    })
    .await;
    assert_eq!(long.response().await.status, 200, "what was in flight there is finished");
    assert_eq!(kept.request("GET", "t", "/").await.status, 200, "the other one's connections stay");
}

#[tokio::test]
async fn a_listener_whose_port_is_taken_does_not_stop_the_others() {
    let echo = Server::echo().await;
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = taken.local_addr().expect("bound");
    let base = saying("x");
    let two = base.replace(
        "listeners: { web: { bind: \"@web@\" } }",
        &format!("listeners: {{ web: {{ bind: \"@web@\" }}, second: {{ bind: \"{address}\" }} }}"),
    );
    let mut proxy = Proxy::start(&base, &[("app", &echo.address())]).await;
    proxy.rewrite(&two.replace("body: \"x\"", "body: \"y\""));
    eventually(STEP, "the rest of the edit is live", async || {
        get(proxy.web(), "t", "/said").await.text() == "y"
    })
    .await;
    proxy.logs(&address.to_string()).await;
    assert_eq!(proxy.admin("/readyz").await.status, 200, "the others serve on");
    drop(taken);
    eventually(
        STEP,
        "it is opened as soon as that is possible",
        async || match Client::try_connect(address).await {
            Ok(mut client) => client.request("GET", "t", "/said").await.text() == "y",
            Err(_) => false,
        },
    )
    .await;
    let status = proxy.admin("/api/status").await.text();
    assert!(!status.contains("cannot bind"), "{status}");
}

#[tokio::test]
async fn a_second_process_at_the_same_address_is_warned_of() {
    let config = "listeners: { web: { bind: \"@web@\" } }\n\
                  hosts: { \"*\": { routes: [ { respond: { body: x } } ] } }\n";
    let first = Proxy::start(config, &[]).await;
    let second = Setup::new(config).with("web", first.web()).start().await;
    second.logs("another process listens").await;
    assert!(!first.stderr().contains("another process listens"), "{}", first.stderr());
}

#[tokio::test]
async fn a_process_is_ready_when_all_of_its_listeners_are_open() {
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = taken.local_addr().expect("bound");
    let setup = Setup::new(
        r#"
listeners:
  web: { bind: "@web@" }
  any: { bind: "127.0.0.1:0" }
  late: { bind: "@late@" }
hosts: { "*": { routes: [ { path: /said, respond: { body: here } } ] } }
"#,
    );
    let proxy = setup.with("late", address).spawn();
    let (web, admin) = (proxy.web(), proxy.addr("admin"));
    eventually(STEP, "what is open serves", async || match Client::try_connect(web).await {
        Ok(mut client) => client.request("GET", "t", "/said").await.text() == "here",
        Err(_) => false,
    })
    .await;
    let listener = async |name: &str| {
        let status = proxy.admin("/api/status").await.text();
        let status: serde_json::Value = serde_json::from_str(&status).expect("JSON");
        let listeners = status["listeners"].as_array().expect("listeners").clone();
        listeners.into_iter().find(|listener| listener["name"] == name).expect("it is there")
    };
    let up = |metrics: &Metrics, name: &str| {
        metrics.sum("portcullis_listener_up", &[("listener", name)])
    };
    let ready = async || admin_of(admin, "/readyz").await.is_some_and(|r| r.status == 200);
    assert!(!ready().await);
    eventually(STEP, "it is told", async || listener("any").await["open"] == true).await;
    let (late, any) = (listener("late").await, listener("any").await);
    assert_eq!((&late["open"], &any["open"]), (&false.into(), &true.into()));
    let any: std::net::SocketAddr =
        any["address"].as_str().expect("text").parse().expect("an address");
    assert_eq!(get(any, "t", "/said").await.text(), "here", "the port that was chosen is told");
    let metrics = proxy.metrics().await;
    assert_eq!((up(&metrics, "late"), up(&metrics, "web")), (0.0, 1.0));
    drop(taken);
    eventually(STEP, "ready", ready).await;
    assert_eq!(get(address, "t", "/said").await.text(), "here");
    assert_eq!(listener("late").await["open"], true);
    assert_eq!(up(&proxy.metrics().await, "late"), 1.0);
}

#[tokio::test]
async fn what_is_under_way_goes_on_when_its_route_is_removed() {
    let app = Backend::script(|mut conn| async move {
        let Some(seen) = conn.head().await else { return };
        if seen.headers.has("upgrade") {
            conn.send(
                "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: raw\r\n\r\n",
            )
            .await;
            while let Some(line) = conn.line().await {
                conn.send(format!("{line}\r\n")).await;
            }
            return;
        }
        conn.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await;
        // Every line of the upload is answered by a chunk.
        loop {
            let Some(size) = conn.line().await else { return };
            if size == "0" {
                break;
            }
            let Some(line) = conn.line().await else { return };
            conn.send(format!("{:x}\r\n{line}\r\n", line.len())).await;
        }
        conn.send("0\r\n\r\n").await;
    })
    .await;
    let mut proxy = Proxy::start(&saying("old"), &[("app", &app.address())]).await;
    let in_memory = |metrics: &Metrics| metrics.sum("portcullis_config_snapshots", &[]);
    proxy.metrics_until("one snapshot", |metrics| in_memory(metrics) == 1.0).await;

    let mut tunnel = Client::connect(proxy.web()).await;
    tunnel.send("GET /t HTTP/1.1\r\nHost: t\r\nConnection: Upgrade\r\nUpgrade: raw\r\n\r\n").await;
    assert_eq!(tunnel.head().await.status, 101);
    let mut stream = Client::connect(proxy.web()).await;
    stream.send("POST /s HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    stream.send("3\r\none\r\n").await;
    assert_eq!(stream.head().await.status, 200);
    assert_eq!(stream.chunk().await.expect("a chunk"), b"one");
    let mut h2 = H2::connect(proxy.web()).await;
    let (response, mut send) = h2.open(post_request("t", "/h2"), false).await.expect("a stream");
    send.send_data(Bytes::from_static(b"one"), false).expect("open");
    let mut body = within(STEP, "a head", response).await.expect("a response").into_body();
    assert_eq!(within(STEP, "data", body.data()).await.expect("open").expect("data"), "one");

    proxy.rewrite(
        r#"
listeners: { web: { bind: "@web@" } }
hosts: { "*": { routes: [ { path: /said, respond: { body: new } } ] } }
"#,
    );
    eventually(STEP, "the edit is live", async || {
        get(proxy.web(), "t", "/said").await.text() == "new"
    })
    .await;
    assert_eq!(get(proxy.web(), "t", "/s").await.status, 404);

    tunnel.send("still here\r\n").await;
    assert_eq!(tunnel.exactly(12).await.expect("open").as_deref(), Some(&b"still here\r\n"[..]));
    stream.send("3\r\ntwo\r\n").await;
    assert_eq!(stream.chunk().await.expect("a chunk"), b"two");
    send.send_data(Bytes::from_static(b"two"), false).expect("open");
    assert_eq!(within(STEP, "data", body.data()).await.expect("open").expect("data"), "two");
    // None of them keeps the old configuration in memory.
    proxy.metrics_until("the old one is gone", |metrics| in_memory(metrics) == 1.0).await;
    stream.send("0\r\n\r\n").await;
    assert_eq!(stream.chunk().await.expect("the end"), b"");
    send.send_data(Bytes::new(), true).expect("open");
    // The end may come in a frame of its own, without data.
    while let Some(data) = within(STEP, "the end", body.data()).await {
        assert!(data.expect("no error").is_empty());
    }
    drop(tunnel);
    let in_flight = |metrics: &Metrics| metrics.sum("portcullis_requests_in_flight", &[]);
    proxy.metrics_until("each is counted to its end", |metrics| in_flight(metrics) == 0.0).await;
}

#[tokio::test]
async fn a_directory_of_files_is_one_configuration() {
    let echo = Server::echo().await;
    let dir = tempfile::TempDir::new().expect("a directory");
    let (web, admin) = (reserve(), reserve());
    let write = |name: &str, text: String| {
        std::fs::write(dir.path().join(name), text).expect("it can be written");
    };
    write(
        "main.yaml",
        format!(
            "admin: {{ bind: \"{admin}\" }}\nlisteners: {{ web: {{ bind: \"{web}\" }} }}\n\
             upstreams: {{ app: {{ endpoints: [\"{}\"] }} }}\n",
            echo.address()
        ),
    );
    write("a.yaml", "hosts: { a.example: { routes: [ { upstream: app } ] } }\n".into());
    let mut child = std::process::Command::new(portcullis())
        .args(["run", "--config"])
        .arg(dir.path())
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("it starts");
    eventually(STEP, "ready", async || {
        admin_of(admin, "/readyz").await.is_some_and(|response| response.status == 200)
    })
    .await;
    assert_eq!(get(web, "a.example", "/").await.status, 200);
    assert_eq!(get(web, "b.example", "/").await.status, 404);
    write("b.yaml", "hosts: { b.example: { routes: [ { upstream: app } ] } }\n".into());
    eventually(STEP, "a new file is read", async || get(web, "b.example", "/").await.status == 200)
        .await;
    std::fs::remove_file(dir.path().join("a.yaml")).expect("it is there");
    eventually(STEP, "a removed one is gone", async || {
        get(web, "a.example", "/").await.status == 404
    })
    .await;
    child.kill().expect("it runs");
    child.wait().expect("it ends");
}

#[tokio::test]
async fn connections_to_upstreams_outlive_a_change_and_removed_endpoints_get_nothing_more() {
    let (one, two) = (Server::named("one").await, Server::named("two").await);
    let config = |endpoint: &str, said: &str| {
        saying(said).replace("\"@app@\"", &format!("\"@{endpoint}@\""))
    };
    let values: [(&str, &dyn std::fmt::Display); 2] =
        [("one", &one.address()), ("two", &two.address())];
    let mut proxy = Proxy::start(&config("one", "0"), &values).await;
    let mut client = Client::connect(proxy.web()).await;
    for step in 1..=5 {
        assert_eq!(client.request("GET", "t", "/").await.status, 200);
        let said = step.to_string();
        proxy.rewrite(&config("one", &said));
        eventually(STEP, "the edit is live", async || {
            client.request("GET", "t", "/said").await.text() == said
        })
        .await;
    }
    assert_eq!(client.request("GET", "t", "/").await.status, 200);
    assert_eq!(one.connections(), 1, "the pool survives what does not concern it");
    proxy.rewrite(&config("two", "moved"));
    eventually(STEP, "the edit is live", async || {
        client.request("GET", "t", "/said").await.text() == "moved"
    })
    .await;
    let before = one.requests();
    for _ in 0..20 {
        let response = client.request("GET", "t", "/").await;
        assert_eq!(Echoed::of(&response.body).name, "two");
    }
    assert_eq!(one.requests(), before);
}

#[tokio::test]
async fn edits_between_requests_do_not_shift_the_shares_of_upstreams() {
    let (one, two) = (Server::named("one").await, Server::named("two").await);
    let config = |said: usize| {
        format!(
            r#"
workers: 1
listeners: {{ web: {{ bind: "@web@" }} }}
hosts:
  "*":
    routes:
      - {{ path: /, upstreams: [ {{ name: one }}, {{ name: two }} ] }}
      - {{ path: /said, respond: {{ body: "{said}" }} }}
upstreams: {{ one: {{ endpoints: ["@one@"] }}, two: {{ endpoints: ["@two@"] }} }}
"#
        )
    };
    let values: [(&str, &dyn std::fmt::Display); 2] =
        [("one", &one.address()), ("two", &two.address())];
    let mut proxy = Proxy::start(&config(0), &values).await;
    let web = proxy.web();
    for step in 1..=10 {
        proxy.rewrite(&config(step));
        eventually(STEP, "the edit is live", async || {
            get(web, "t", "/said").await.text() == step.to_string()
        })
        .await;
        get(web, "t", "/").await;
    }
    assert_eq!((one.requests(), two.requests()), (5, 5));
}

/// What the load generators of the long test share.
#[derive(Default)]
struct Load {
    done: AtomicBool,
    requests: AtomicU64,
}

impl Load {
    fn goes_on(&self) -> bool {
        !self.done.load(Ordering::SeqCst)
    }

    fn count(&self) {
        self.requests.fetch_add(1, Ordering::SeqCst);
    }
}

/// The configuration of the long test at one step: what is asked for never changes, everything
/// around it does.
fn churn(step: usize) -> String {
    let others: String = (0..50)
        .map(|n| format!("      - {{ path: /other-{n}-{step}, upstream: extra }}\n"))
        .collect();
    let endpoints = match step % 4 {
        0 => r#""@one@""#,
        1 => r#""@one@", "@two@""#,
        2 => r#""@two@""#,
        _ => r#"{ address: "@two@", weight: 3 }, "@one@""#,
    };
    let headers =
        if step.is_multiple_of(2) { "" } else { ", request_headers: { set: { x-step: odd } }" };
    format!(
        r#"
listeners: {{ web: {{ bind: "@web@" }} }}
hosts:
  load.example:
    routes:
      - {{ path: /, upstream: app{headers} }}
{others}
  host-{step}.example: {{ routes: [ {{ upstream: app }} ] }}
  ws.example: {{ routes: [ {{ upstream: socket }} ] }}
upstreams:
  app: {{ endpoints: [{endpoints}] }}
  extra: {{ endpoints: ["@one@"] }}
  socket: {{ endpoints: ["@socket@"] }}
"#
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_changes_under_load_lose_no_request_no_websocket_and_no_memory() {
    let (one, two) = (Server::named("one").await, Server::named("two").await);
    let socket = Backend::script(|mut conn| async move {
        if accept_websocket(&mut conn).await.is_some() {
            echo_frames(conn).await;
        }
    })
    .await;
    let values: [(&str, &dyn std::fmt::Display); 3] =
        [("one", &one.address()), ("two", &two.address()), ("socket", &socket.address())];
    let mut proxy = Proxy::start(&churn(0), &values).await;
    let web = proxy.web();
    let load = Arc::new(Load::default());
    let mut tasks = Vec::new();

    for worker in 0..2 {
        let load = Arc::clone(&load);
        tasks.push(tokio::spawn(async move {
            let mut client = Client::connect(web).await;
            while load.goes_on() {
                if worker == 0 {
                    client.send("GET /get HTTP/1.1\r\nHost: load.example\r\n\r\n").await;
                } else {
                    client
                        .send("POST /p HTTP/1.1\r\nHost: load.example\r\nContent-Length: 9\r\n\r\n")
                        .await;
                    client.send("some body").await;
                }
                let response = client.response().await;
                assert_eq!(response.status, 200, "{response}");
                load.count();
                // A connection has only so many requests; its last response says so.
                if response.headers.joined("connection").eq_ignore_ascii_case("close") {
                    client = Client::connect(web).await;
                }
                pass(Duration::from_millis(2)).await;
            }
        }));
    }
    tasks.push(tokio::spawn({
        let load = Arc::clone(&load);
        async move {
            while load.goes_on() {
                let response = get(web, "load.example", "/new-connection").await;
                assert_eq!(response.status, 200, "{response}");
                load.count();
                pass(Duration::from_millis(5)).await;
            }
        }
    }));
    tasks.push(tokio::spawn({
        let load = Arc::clone(&load);
        async move {
            let mut h2 = H2::connect(web).await;
            while load.goes_on() {
                let mut streams = Vec::new();
                for number in 0..4 {
                    let request = || get_request("load.example", &format!("/{number}?delay_ms=3"));
                    let response = match h2.open(request(), true).await {
                        Ok((response, _)) => response,
                        // A connection has only so many requests. GOAWAY says so in time: what
                        // was opened before is answered.
                        Err(error) if error.is_go_away() => {
                            assert_eq!(error.reason(), Some(h2::Reason::NO_ERROR));
                            h2 = H2::connect(web).await;
                            h2.open(request(), true).await.expect("a new connection").0
                        }
                        Err(error) => panic!("{error}"),
                    };
                    streams.push(response);
                }
                for response in streams {
                    let response = within(STEP, "a response", collect(response)).await;
                    assert_eq!(response.expect("a whole response").status, 200);
                    load.count();
                }
            }
        }
    }));
    tasks.push(tokio::spawn({
        let load = Arc::clone(&load);
        async move {
            let mut socket = WebSocket::connect(web, "ws.example", "/").await;
            let mut number = 0;
            while load.goes_on() {
                socket.round_trip(&format!("message {number}")).await;
                number += 1;
                pass(Duration::from_millis(20)).await;
            }
        }
    }));

    let generation = |metrics: &Metrics| metrics.sum("portcullis_config_generation", &[]);
    let first = generation(&proxy.metrics().await);
    let mut pace = tokio::time::interval(Duration::from_millis(100));
    let mut settled = (0, 0);
    for step in 1..=200 {
        pace.tick().await;
        proxy.rewrite(&churn(step));
        if step == 60 {
            settled = (proxy.rss(), proxy.descriptors());
        }
        assert!(tasks.iter().all(|task| !task.is_finished()), "failed by change {step}");
    }
    eventually(STEP, "the last change is live", async || {
        get(web, "host-200.example", "/").await.status == 200
    })
    .await;
    load.done.store(true, Ordering::SeqCst);
    for task in tasks {
        task.await.expect("nothing failed");
    }
    let metrics = proxy.metrics().await;
    let requests = load.requests.load(Ordering::SeqCst);
    assert!(requests > 1000, "a load worth the name: {requests}");
    let changes = generation(&metrics) - first;
    assert!(changes >= 150.0, "{changes} generations; changes that fall together may count once");
    let grown = proxy.rss().saturating_sub(settled.0);
    assert!(grown < 12 << 20, "memory grew by {grown} bytes from change 60 to 200");
    let opened = proxy.descriptors().saturating_sub(settled.1);
    assert!(opened < 20, "{opened} more descriptors than after change 60");
    assert!(one.requests() > 100 && two.requests() > 100, "both endpoints had their turns");
    let own = metrics.sum("portcullis_requests_total", &[("code", "5xx")]);
    assert_eq!(own, 0.0, "the proxy agrees that nothing failed");
}
