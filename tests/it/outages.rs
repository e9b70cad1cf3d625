//! What breaks around Portcullis in a real cluster, under load: the replica that leads, the API
//! server, its memory of what was, and the rights to read.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::networking::v1::Ingress;
use kube::ResourceExt;

use crate::harness::*;

const ECHO: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: { name: echo }
spec:
  replicas: 1
  selector: { matchLabels: { app: echo } }
  template:
    metadata: { labels: { app: echo } }
    spec:
      terminationGracePeriodSeconds: 1
      containers:
        - name: echo
          image: echo:1
          ports: [ { name: http, containerPort: 8080 } ]
          readinessProbe: { httpGet: { path: /readyz, port: http }, periodSeconds: 1 }
---
apiVersion: v1
kind: Service
metadata: { name: echo }
spec: { selector: { app: echo }, ports: [ { name: web, port: 80, targetPort: http } ] }
"#;

/// What a change may take: generous, as the machine has other tests to run. What it does take is
/// printed; without them it is far below a second.
const CONVERGED: Duration = Duration::from_secs(30);

/// The same for a new leader: a Lease lasts for 15 s, and others look every 2 s.
const TAKEN_OVER: Duration = Duration::from_secs(60);

struct World<'a> {
    cluster: &'a Cluster,
    space: &'a Namespace<'a>,
    controller: Controller<'a>,
}

impl World<'_> {
    /// Makes an Ingress for a host of its own. How long all replicas need to serve it.
    async fn converges(&self, host: &str) -> Duration {
        let text = format!(
            "
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {{ name: {host} }}
spec:
  ingressClassName: \"@namespace@\"
  rules:
    - host: {host}
      http: {{ paths: [ {{ path: /, pathType: Prefix, backend: {{ service: {{ name: echo, port: {{ name: web }} }} }} }} ] }}
"
        );
        let replicas = self.controller.replicas().await;
        let begun = Instant::now();
        self.space.apply(&text).await;
        for replica in replicas {
            let left = CONVERGED.saturating_sub(begun.elapsed());
            eventually(left, &format!("{host} is served"), async || {
                let response = self.cluster.try_get(replica, host, "/").await;
                response.is_some_and(|response| response.status == 200)
            })
            .await;
        }
        begun.elapsed()
    }

    /// Waits until the API server says of itself that it is ready.
    async fn server_is_back(&self) {
        let client = self.space.client();
        eventually(Duration::from_secs(90), "the API server is ready", async || {
            let request = http::Request::get("/readyz").body(Vec::new()).expect("a request");
            client.request_text(request).await.is_ok()
        })
        .await;
    }

    /// What a sum of a metric is over all replicas.
    async fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let mut sum = 0.0;
        for replica in self.controller.replicas().await {
            sum += self.controller.metrics(replica).await.sum(name, labels);
        }
        sum
    }

    fn load(&self, address: SocketAddr) -> Load {
        Load::start(self.cluster.inside(), address, "first", &["/"], 2)
    }

    /// The leader is killed; the other goes on serving, and writes the statuses.
    async fn the_leader_dies(&self) {
        let lease = self.space.wait::<Lease>("portcullis-leader", "held", |_| true).await;
        let leader = lease.spec.and_then(|spec| spec.holder_identity).expect("a holder");
        let pods = self.space.pods("app=portcullis").await;
        let survivor = pods.iter().find(|pod| pod.name_any() != leader).expect("two replicas");
        let ip = survivor.status.as_ref().and_then(|status| status.pod_ip.as_ref());
        let ip = ip.expect("an address").parse().expect("an address");
        let load = self.load(SocketAddr::new(ip, 8080));
        load.more(50).await;
        let begun = Instant::now();
        let kill =
            ["-n", &self.space.name, "delete", "pod", &leader, "--grace-period=0", "--force"];
        self.cluster.kubectl_run(&kill).await;
        self.space.absent::<Pod>(&leader).await;
        let text = "
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: { name: orphan }
spec:
  ingressClassName: \"@namespace@\"
  rules:
    - host: orphan
      http: { paths: [ { path: /, pathType: Prefix, backend: { service: { name: echo, port: { name: web } } } } ] }
";
        self.space.apply(text).await;
        self.space
            .wait::<Ingress>("orphan", "an address", |ingress| {
                let balancer = ingress.status.as_ref().and_then(|s| s.load_balancer.as_ref());
                balancer.is_some_and(|balancer| balancer.ingress.is_some())
            })
            .await;
        let took = begun.elapsed();
        println!("a new leader writes statuses {took:?} after the death of the one before");
        assert!(took < TAKEN_OVER, "{took:?}");
        println!("{} POSTs to the other replica, 0 lost", load.end().await.all_served());
        self.space.rolled_out("portcullis").await;
    }

    /// The API server dies and is started again.
    async fn the_server_is_killed(&self) {
        let load = self.load(self.controller.http);
        self.cluster.control("apiserver", "kill", &[]).await;
        load.more(300).await;
        self.cluster.control("apiserver", "start", &[]).await;
        self.server_is_back().await;
        let took = self.converges("killed").await;
        let served = load.end().await.all_served();
        println!("API server killed: {served} POSTs, 0 lost; converged {took:?} after it was back");
    }

    /// The API server hangs: connections stay and nothing comes over them.
    async fn the_server_is_paused(&self) {
        let load = self.load(self.controller.http);
        self.cluster.control("apiserver", "pause", &[]).await;
        load.more(300).await;
        self.cluster.control("apiserver", "resume", &[]).await;
        self.server_is_back().await;
        let took = self.converges("paused").await;
        let served = load.end().await.all_served();
        println!("API server paused: {served} POSTs, 0 lost; converged {took:?} after it was back");
    }

    /// While the API server is away, etcd forgets all versions before the last: the watches begin
    /// at one that nobody knows of any more. Where it takes long to start they have given that up
    /// by then, and ask for lists: that is no 410, and it is tried again.
    async fn the_past_is_forgotten(&self) {
        let load = self.load(self.controller.http);
        for attempt in 1..=4 {
            let host = format!("compacted-{attempt}");
            let Some(took) = self.is_forgotten(&host).await else { continue };
            let served = load.end().await.all_served();
            println!(
                "compacted to 410: {served} POSTs, 0 lost; converged {took:?} after it was back"
            );
            return;
        }
        panic!("no watch got 410");
    }

    /// How long it takes then until an Ingress for `host` is served; `None` where no watch got 410.
    async fn is_forgotten(&self, host: &str) -> Option<Duration> {
        let expired = ("portcullis_kubernetes_watch_restarts_total", [("reason", "expired")]);
        let replicas = self.controller.replicas().await;
        // So that Services and Ingresses are known by a version before the last.
        for number in 0..20 {
            let text = format!(
                "apiVersion: v1\nkind: ConfigMap\nmetadata: {{ name: noise }}\ndata: {{ of: {host}, number: \"{number}\" }}\n"
            );
            self.space.apply(&text).await;
        }
        self.cluster.control("apiserver", "kill", &[]).await;
        let mut before = 0.0;
        for replica in &replicas {
            before += self.controller.metrics(*replica).await.sum(expired.0, &expired.1);
        }
        let head = self.etcd("/v3/kv/range", r#"{"key":"AA==","limit":1}"#).await;
        let revision = &head["header"]["revision"];
        let body = format!(r#"{{"revision":{revision},"physical":true}}"#);
        self.etcd("/v3/kv/compaction", &body).await;
        self.cluster.control("apiserver", "start", &[]).await;
        self.server_is_back().await;
        let took = self.converges(host).await;
        // The watches of Ingresses are back by now, in whatever way.
        (self.sum(expired.0, &expired.1).await > before).then_some(took)
    }

    /// Asks etcd by its JSON gateway.
    async fn etcd(&self, path: &str, body: &str) -> serde_json::Value {
        let mut client = self.cluster.connect(([127, 0, 0, 1], 2379).into()).await;
        let head = format!("POST {path} HTTP/1.1\r\nHost: etcd\r\nContent-Length: {}", body.len());
        client.send(format!("{head}\r\n\r\n{body}")).await;
        let response = client.response().await;
        assert_eq!(response.status, 200, "{path}: {response}");
        response.json()
    }

    /// A rule of the ClusterRole is taken away: what is known stays, it is said which rule is
    /// missing, and with the rule given back all is as before.
    async fn a_right_is_refused(&self) {
        let load = self.load(self.controller.http);
        let role = &self.space.name;
        let role = self.cluster.kubectl_run(&["get", "clusterrole", role, "-o", "json"]).await;
        let mut role: serde_json::Value = serde_json::from_str(&role).expect("JSON");
        let rules = role["rules"].as_array_mut().expect("rules");
        let whole = serde_json::to_string(&rules).expect("JSON");
        rules.retain(|rule| !rule["resources"].to_string().contains("endpointslices"));
        let less = serde_json::to_string(&rules).expect("JSON");
        let patch = async |rules: &str| {
            let patch = format!(r#"{{"rules":{rules}}}"#);
            let arguments =
                ["patch", "clusterrole", &self.space.name, "--type=merge", "-p", &patch];
            self.cluster.kubectl_run(&arguments).await;
        };
        let mut seen = Vec::new();
        for pod in self.space.pods("app=portcullis").await {
            let log = self.space.pod_log(&pod.name_any(), "anything", |_| true).await;
            // A server that starts, too, refuses for a moment.
            assert!(!log.contains("Give a"), "{log}");
            seen.push((pod.name_any(), log.len()));
        }
        patch(&less).await;
        // A watch is asked for anew every half minute, and when its connection ends.
        self.cluster.control("apiserver", "kill", &[]).await;
        self.cluster.control("apiserver", "start", &[]).await;
        self.server_is_back().await;
        for (pod, seen) in &seen {
            let said = |log: &str| {
                let tells = |line: &str| line.contains("endpointslices") && line.contains("ERROR");
                let mut since = log.get(*seen..).unwrap_or_default().lines();
                since.any(|line| tells(line) && line.contains("discovery.k8s.io"))
            };
            self.space.pod_log(pod, "the rule that is missing", said).await;
        }
        let restarts = "portcullis_kubernetes_watch_restarts_total";
        let labels = [("kind", "EndpointSlice"), ("reason", "forbidden")];
        assert!(self.sum(restarts, &labels).await > 0.0, "{labels:?}");
        load.more(200).await;
        let took = self.converges("refused").await;
        println!("with a right refused: other changes are served after {took:?}");

        patch(&whole).await;
        let begun = Instant::now();
        for (pod, seen) in &seen {
            let again = |log: &str| {
                let since = log.get(*seen..).unwrap_or_default();
                since.contains("endpointslices can be read again")
            };
            self.space.pod_log(pod, "that it is over", again).await;
        }
        let took = begun.elapsed();
        let served = load.end().await.all_served();
        println!("a right refused: {served} POSTs, 0 lost; over {took:?} after it was given back");
    }
}

#[tokio::test]
async fn traffic_does_not_notice_what_breaks_around_it() {
    let cluster = Cluster::start().await;
    let space = cluster.namespace("outages").await;
    space.apply(ECHO).await;
    let controller = Controller::start(&space).await;
    space.rolled_out("echo").await;
    let world = World { cluster: &cluster, space: &space, controller };
    println!("first route served after {:?}", world.converges("first").await);
    world.the_leader_dies().await;
    world.the_server_is_killed().await;
    world.the_server_is_paused().await;
    world.the_past_is_forgotten().await;
    world.a_right_is_refused().await;
}
