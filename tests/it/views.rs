//! What status, API and explanations tell of balancing and of endpoints in trouble.

use std::process::{Command, Stdio};

use serde_json::Value;

use crate::harness::*;

const CONFIG: &str = r#"
listeners: { web: { bind: "@web@" } }
hosts:
  "*":
    routes:
      - { path: /, upstream: app, retry: off }
      - { path: /user, upstream: users }
      - { path: /session, upstream: sessions }
      - { path: /busy, upstream: busy }
      - { path: /none, upstream: checked }
upstreams:
  app:
    endpoints: ["@good@", { address: "@bad@", zone: elsewhere }]
    balance: round_robin
    outlier: { consecutive_5xx: 2, ejection: 1h, max_ejection: 1h }
  users: { endpoints: ["@good@", "@bad@"], balance: { hash: [{ header: x-user }, client_ip] } }
  sessions: { endpoints: ["@good@", "@bad@"], affinity: { cookie: sid }, balance: random }
  busy: { endpoints: ["@slow@"], limits: { requests: 1 } }
  checked: { endpoints: ["@nobody@"], health: { type: tcp, interval: 20ms, fall: 1 }, panic_threshold: 0 }
"#;

struct Bench {
    proxy: Proxy,
    good: Server,
    bad: Backend,
    nobody: std::net::SocketAddr,
    _slow: Backend,
}

impl Bench {
    async fn start() -> Self {
        let good = Server::named("good").await;
        let bad = Backend::answering("HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n").await;
        let slow = Backend::script(async |mut peer| {
            let _ = peer.head().await;
            peer.stall().await;
        })
        .await;
        let nobody = reserve();
        let proxy = Setup::new(CONFIG)
            .with("good", good.address())
            .with("bad", bad.address())
            .with("slow", slow.address())
            .with("nobody", nobody)
            .start()
            .await;
        Self { proxy, good, bad, nobody, _slow: slow }
    }

    async fn upstream(&self, name: &str) -> Value {
        let all = self.proxy.admin("/api/upstreams").await.json();
        let found = all.as_array().unwrap().iter().find(|upstream| upstream["name"] == name);
        found.unwrap_or_else(|| panic!("no {name} in {all}")).clone()
    }

    /// What a command says of the running proxy.
    async fn says(&self, args: &[&str]) -> String {
        let mut command = Command::new(portcullis());
        let admin = format!("http://{}", self.proxy.addr("admin"));
        command.args(args).args(["--admin", &admin]).stdin(Stdio::null());
        let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    async fn explained(&self, path: &str, args: &[&str]) -> String {
        let url = format!("http://{}{path}", self.proxy.web());
        self.says(&[&["explain", &url], args].concat()).await
    }
}

#[tokio::test]
async fn an_ejected_endpoint_comes_with_its_reason_and_its_time() {
    let bench = Bench::start().await;
    let web = bench.proxy.web();
    eventually(STEP, "the ejection shows", async || {
        get(web, "t", "/").await;
        bench.upstream("app").await["available"] == 1
    })
    .await;
    let app = bench.upstream("app").await;
    let (good, bad) = (&app["endpoints"][0], &app["endpoints"][1]);
    assert_eq!((&good["state"], &good["share"]), (&"available".into(), &1.0.into()), "{good}");
    assert_eq!((&bad["state"], &bad["share"]), (&"ejected".into(), &Value::Null), "{bad}");
    assert_eq!(bad["zone"], "elsewhere");
    let ejection = &bad["ejection"];
    assert_eq!((&ejection["reason"], &ejection["times"]), (&"2 consecutive 5xx".into(), &1.into()));
    let left = ejection["left_ms"].as_u64().unwrap();
    assert!(left > 3_500_000 && left <= 3_600_000, "{ejection}");
    assert!(good["latency_ms"].as_f64().is_some_and(|latency| latency > 0.0), "{good}");

    let status = bench.says(&["status"]).await;
    let line = format!("    {} ejected: 2 consecutive 5xx, ", bench.bad.address());
    for text in ["app: 1 of 2 available", &line] {
        assert!(status.contains(text), "no {text:?} in\n{status}");
    }
    let status = bench.says(&["status", "app"]).await;
    assert!(status.contains("after 2 5xx or 5 local failures or success rate, for 1h"), "{status}");
    assert!(status.lines().all(|line| line.chars().count() <= 100), "{status}");
    let explained = bench.explained("/", &[]).await;
    let picks = format!("picks    {}: the only one", bench.good.address());
    assert!(explained.contains(&picks), "{explained}");
    assert!(explained.contains("ejected: 2 consecutive 5xx"), "{explained}");
}

#[tokio::test]
async fn an_explanation_names_the_endpoint_that_then_serves() {
    let bench = Bench::start().await;
    let web = bench.proxy.web();
    for user in ["anna", "berta", "carla", "dora"] {
        let header = format!("x-user: {user}");
        let args = ["-H", &header, "--from", "127.0.0.1"];
        let explained = bench.explained("/user", &args).await;
        let mut client = Client::connect(web).await;
        client.send(format!("GET /user HTTP/1.1\r\nhost: t\r\n{header}\r\n\r\n")).await;
        let served = match client.response().await.status {
            500 => bench.bad.address(),
            _ => bench.good.address(),
        };
        let picks = format!("picks    {served}: the hash of header x-user and client_ip");
        assert!(explained.contains(&picks), "{user}: {explained}");
    }
    let without = bench.explained("/user", &[]).await;
    assert!(without.contains("there is no header x-user and client_ip to hash (say --from IP)"));

    let begun = get(web, "t", "/session").await;
    let cookie = begun.headers.get("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    let served = if begun.status == 500 { bench.bad.address() } else { bench.good.address() };
    let explained = bench.explained("/session", &["-H", &format!("cookie: {cookie}")]).await;
    let picks = format!("picks    {served}: the session in the cookie sid is there");
    assert!(explained.contains(&picks), "{explained}");
    let explained = bench.explained("/session", &[]).await;
    assert!(explained.contains("a session begins there, by the cookie sid"), "{explained}");
}

#[tokio::test]
async fn failing_health_checks_and_full_limits_show() {
    let bench = Bench::start().await;
    eventually(STEP, "the health check's failure shows", async || {
        bench.upstream("checked").await["endpoints"][0]["state"] == "unhealthy"
    })
    .await;
    let checked = bench.upstream("checked").await;
    let check = &checked["endpoints"][0]["check"];
    assert_eq!((&check["result"], &checked["available"]), (&"connect".into(), &0.into()));
    let status = bench.says(&["status"]).await;
    let line = format!("    {} unhealthy: ", bench.nobody);
    for text in ["checked: NONE of 1 available", &line, "in a row"] {
        assert!(status.contains(text), "no {text:?} in\n{status}");
    }
    let explained = bench.explained("/none", &[]).await;
    assert!(explained.contains("picks    none is available: answered 503"), "{explained}");

    let mut clients = Vec::new();
    for _ in 0..2 {
        let mut client = Client::connect(bench.proxy.web()).await;
        client.send("GET /busy HTTP/1.1\r\nhost: t\r\n\r\n").await;
        clients.push(client);
    }
    let mut seen = String::new();
    eventually(STEP, "a request waits", async || {
        seen = bench.says(&["status", "busy"]).await;
        seen.contains("1 of 1 requests, 1 of 1024 WAITING")
    })
    .await;
    assert!(seen.contains("limits    1 requests"), "{seen}");
}
