//! A proxy to which everything happens that dashboards show.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use base64::Engine;
use serde_json::json;
use tokio::task::JoinSet;

use crate::harness::*;

/// Beside what the cluster says: what only upstreams of files have.
const CONFIG: &str = r#"
workers: 2
access_log: true
listeners: { web: { bind: "@web@" } }
hosts:
  "*":
    routes:
      - { name: app, path: /, upstream: app, retry: { attempts: 3 } }
      - { name: slow, path: /slow, upstream: slow, hedge: { after: 5ms, budget: 100% } }
      - { name: narrow, path: /narrow, upstream: narrow }
      - { name: empty, path: /empty, upstream: empty }
      - { name: named, path: /named, upstream: named }
upstreams:
  app:
    balance: round_robin
    endpoints: ["@echo@", "@dead@"]
    outlier: { consecutive_local: 2, ejection: 1s }
  slow:
    balance: round_robin
    endpoints: ["@echo@", "@canary@"]
    health: { type: tcp, interval: 1s }
  narrow: { endpoints: ["@echo@"], limits: { requests: 1, pending: 0 } }
  empty: { endpoints: [] }
  named: { endpoints: ["localhost:@port@"] }
"#;

/// A proxy, what it follows and what stands behind it.
pub struct World {
    proxy: Proxy,
    cluster: Arc<ApiServer>,
    chat: Backend,
    http: SocketAddr,
    https: SocketAddr,
    tls: TlsClient,
    _echo: Server,
    _canary: Server,
}

/// Requests of all kinds, over and over.
pub struct Traffic {
    stop: Arc<AtomicBool>,
    clients: JoinSet<()>,
}

impl World {
    pub async fn start() -> Self {
        let (echo, canary) = (Server::named("main").await, Server::named("canary").await);
        let chat = Backend::script(|mut conn| async move {
            if accept_websocket(&mut conn).await.is_some() {
                echo_frames(conn).await;
            }
        })
        .await;
        let (cluster, ca) = (Arc::new(ApiServer::start().await), Ca::new());
        objects(&cluster, &ca, [echo.address(), canary.address(), chat.address()]);
        let (http, https) = (reserve(), reserve());
        let proxy = Setup::new(CONFIG)
            .with("echo", echo.address())
            .with("port", echo.address().port())
            .with("canary", canary.address())
            .with("dead", reserve())
            .arg("--kubernetes")
            .arg("--kubeconfig")
            .arg(&cluster.kubeconfig().display().to_string())
            .arg(&format!("--http={http}"))
            .arg(&format!("--https={https}"))
            .arg("--publish-status-address=192.0.2.7")
            .arg("--serve-nginx-class")
            .arg("--ingress-nginx-metrics")
            .env("POD_NAMESPACE", "edge")
            .env("POD_NAME", "edge-1")
            .start()
            .await;
        let tls = TlsClient::new(&ca, "shop.example", &["http/1.1"]);
        Self { proxy, cluster, http, https, tls, chat, _echo: echo, _canary: canary }
    }

    /// Where the metrics are.
    pub fn admin(&self) -> SocketAddr {
        self.proxy.addr("admin")
    }

    /// The metrics page.
    pub async fn page(&self) -> String {
        self.proxy.admin("/metrics").await.text()
    }

    /// The metrics, read.
    pub async fn metrics(&self) -> Metrics {
        self.proxy.metrics().await
    }

    /// One request of each kind to what the cluster says.
    pub async fn each_once(&self) {
        rules(self.http, self.https, &self.tls).await;
    }

    /// Has requests of all kinds come until it is stopped, from a few clients.
    pub fn traffic(&self) -> Traffic {
        let stop = Arc::new(AtomicBool::new(false));
        let mut clients = JoinSet::new();
        let (http, https, web) = (self.http, self.https, self.proxy.web());
        let (stopped, tls) = (stop.clone(), self.tls.clone());
        clients.spawn(async move {
            while !stopped.load(Ordering::Relaxed) {
                rules(http, https, &tls).await;
                pass(PAUSE).await;
            }
        });
        for _ in 0..2 {
            let stopped = stop.clone();
            clients.spawn(async move {
                while !stopped.load(Ordering::Relaxed) {
                    files(web).await;
                    pass(PAUSE).await;
                }
            });
        }
        let (cluster, chat, stopped) = (self.cluster.clone(), self.chat.address(), stop.clone());
        clients.spawn(async move {
            for round in 0.. {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                changes(&cluster, chat, round);
                pass(10 * PAUSE).await;
            }
        });
        Traffic { stop, clients }
    }
}

/// Between two rounds: the machine has other things to do, too.
const PAUSE: std::time::Duration = std::time::Duration::from_millis(20);

impl Traffic {
    /// Ends it.
    pub async fn stop(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.clients.join_next().await {
            ended.expect("no client panics");
        }
    }
}

fn objects(cluster: &ApiServer, ca: &Ca, [echo, canary, chat]: [SocketAddr; 3]) {
    cluster.put(ingress_class());
    for (name, endpoint) in [("web", echo), ("web-next", canary), ("chat", chat)] {
        cluster.put(service(name));
        cluster.put(slice(name, endpoint));
    }
    cluster.put(service("idle"));
    let pair = ca.server(&["shop.example"]);
    let base64 = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    cluster.put(json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
        "metadata": { "name": "shop-tls", "namespace": "shop" },
        "data": { "tls.crt": base64(&pair.cert), "tls.key": base64(&pair.key) },
    }));
    let mut shop = ingress("shop", "shop.example", "web");
    shop["metadata"]["annotations"] =
        json!({ "nginx.ingress.kubernetes.io/ssl-redirect": "false" });
    shop["spec"]["tls"] = json!([{ "hosts": ["shop.example"], "secretName": "shop-tls" }]);
    cluster.put(shop);
    let mut next = ingress("shop-next", "shop.example", "web-next");
    next["metadata"]["annotations"] = json!({
        "nginx.ingress.kubernetes.io/canary": "true",
        "nginx.ingress.kubernetes.io/canary-by-header": "X-Canary",
    });
    cluster.put(next);
    cluster.put(ingress("chat", "chat.example", "chat"));
    cluster.put(ingress("idle", "idle.example", "idle"));
    cluster.put(ingress("lost", "lost.example", "lost"));
}

/// One request of each kind to the rules of Ingresses.
async fn rules(http: SocketAddr, https: SocketAddr, tls: &TlsClient) {
    let mut client = Client::connect(http).await;
    for target in ["/", "/a?size=5000", "/?status=404", "/?status=503", "/?status=302"] {
        client.request("GET", "shop.example", target).await;
    }
    client.send("POST / HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 25\r\n\r\n").await;
    client.send(vec![b'x'; 25]).await;
    client.response().await;
    client.request("MAKE", "shop.example", "/").await;
    client.send("GET / HTTP/1.1\r\nHost: shop.example\r\nX-Canary: always\r\n\r\n").await;
    client.response().await;
    for host in ["idle.example", "lost.example", "nobody.example"] {
        client.request("GET", host, "/").await;
    }
    let mut socket = WebSocket::connect(http, "chat.example", "/").await;
    socket.round_trip("hello").await;
    socket.send_frame(Opcode::Close, b"\x03\xe8").await;
    while socket.next().await.is_some() {}
    let mut client = Client::tls(https, tls).await;
    client.request("GET", "shop.example", "/").await;
}

/// Something else in the cluster: a rule, endpoints, and now and then all watches broken off.
fn changes(cluster: &ApiServer, endpoint: SocketAddr, round: usize) {
    if round.is_multiple_of(2) {
        cluster.put(ingress("other", &format!("other-{round}.example"), "web"));
    } else {
        let state = if round % 4 == 1 { "terminating" } else { "ready" };
        cluster.put(slice_in_state("idle", endpoint, state));
    }
    if round.is_multiple_of(32) {
        cluster.break_off();
    }
}

/// The same to the routes of the file.
async fn files(web: SocketAddr) {
    let mut client = Client::connect(web).await;
    for target in
        ["/", "/", "/?status=404", "/?status=503", "/slow?delay_ms=20", "/empty", "/named"]
    {
        client.request("GET", "t", target).await;
    }
    let mut other = Client::connect(web).await;
    // One of the two finds the only place taken.
    let head = "GET /narrow?delay_ms=50 HTTP/1.1\r\nHost: t\r\n\r\n";
    client.send(head).await;
    other.send(head).await;
    client.response().await;
    other.response().await;
    // Refused before a route is looked up.
    client.send("GET / HTTP/1.1\r\n\r\n").await;
    let _ = client.try_response(false).await;
}
