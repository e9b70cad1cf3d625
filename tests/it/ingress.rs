//! The shipped manifest on a real API server: Portcullis as a pod, with its own account's rights.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use k8s_openapi::api::core::v1::{Event, Pod};
use k8s_openapi::api::networking::v1::Ingress;
use kube::api::{ListParams, LogParams};
use kube::{Api, ResourceExt};

use crate::harness::*;

const MANIFEST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/kubernetes/portcullis.yaml");
const SHOP: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/kubernetes/shop.yaml");

const ECHO: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: { name: echo }
spec:
  replicas: 2
  selector: { matchLabels: { app: echo } }
  strategy: { type: RollingUpdate, rollingUpdate: { maxUnavailable: 0, maxSurge: 1 } }
  template:
    metadata: { labels: { app: echo } }
    spec:
      terminationGracePeriodSeconds: 10
      containers:
        - name: echo
          image: echo:1
          env:
            - { name: POD_NAME, valueFrom: { fieldRef: { fieldPath: metadata.name } } }
          ports: [ { name: http, containerPort: 8080 } ]
          # On SIGTERM it closes idle connections, and a POST on its way to one of them cannot be
          # repeated: whoever has traffic to a terminating pod waits until it is known to be one.
          lifecycle: { preStop: { sleep: { seconds: 2 } } }
          readinessProbe: { httpGet: { path: /readyz, port: http }, periodSeconds: 1, failureThreshold: 1 }
---
apiVersion: v1
kind: Service
metadata: { name: echo }
spec:
  selector: { app: echo }
  ports: [ { name: web, port: 80, targetPort: http } ]
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: { name: shop }
spec:
  ingressClassName: portcullis
  rules:
    - host: echo.example
      http:
        paths:
          - { path: /exact, pathType: Exact, backend: { service: { name: echo, port: { name: web } } } }
          - { path: /cart, pathType: Prefix, backend: { service: { name: echo, port: { number: 80 } } } }
    - host: "*.wild.example"
      http:
        paths: [ { path: /, pathType: Prefix, backend: { service: { name: echo, port: { number: 80 } } } } ]
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: api
  annotations: { nginx.ingress.kubernetes.io/rewrite-target: "/v1/$2" }
spec:
  ingressClassName: portcullis
  rules:
    - host: api.example
      http:
        paths:
          - { path: "/api(/|$)(.*)", pathType: ImplementationSpecific, backend: { service: { name: echo, port: { number: 80 } } } }
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: { name: broken }
spec:
  ingressClassName: portcullis
  rules:
    - host: broken.example
      http:
        paths: [ { path: /, pathType: Prefix, backend: { service: { name: nobody, port: { number: 80 } } } } ]
"#;

/// `kubectl`, which must succeed.
async fn kubectl(cluster: &Cluster, arguments: &[&str]) {
    let mut command = cluster.kubectl();
    command.args(arguments);
    // Not on this thread: the load goes on meanwhile.
    let output = tokio::task::spawn_blocking(move || command.output()).await;
    let output = output.expect("it does not panic").expect("kubectl runs");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// POSTs until told to stop: some clients keep their connection for as long as they may, the others
/// make one for each.
struct Load {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicUsize>,
    clients: Vec<tokio::task::JoinHandle<Vec<String>>>,
}

impl Load {
    fn start(cluster: &'static Cluster, address: SocketAddr, clients: usize) -> Self {
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let client = |number: usize| {
            let keeps = number.is_multiple_of(2);
            let (stop, sent) = (stop.clone(), sent.clone());
            tokio::spawn(async move {
                let (mut lost, mut kept) = (Vec::new(), None);
                while !stop.load(Ordering::Relaxed) {
                    sent.fetch_add(1, Ordering::Relaxed);
                    match post(cluster, address, kept.take(), keeps).await {
                        Ok(connection) => kept = connection,
                        Err(why) => lost.push(why),
                    }
                }
                lost
            })
        };
        let clients = (0..clients).map(client).collect();
        Self { stop, sent, clients }
    }

    /// How many were sent; fails where one was lost.
    async fn end(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        let mut lost = Vec::new();
        for client in self.clients {
            lost.extend(client.await.expect("it does not panic"));
        }
        let sent = self.sent.load(Ordering::Relaxed);
        assert!(lost.is_empty(), "{} of {sent} lost: {:?}", lost.len(), lost.first());
        assert!(sent > 50, "only {sent} were sent");
        sent
    }
}

/// One POST; returns the connection where it may be used again.
async fn post(
    cluster: &Cluster,
    address: SocketAddr,
    kept: Option<Client>,
    keep: bool,
) -> Result<Option<Client>, String> {
    let mut client = match kept {
        Some(client) => client,
        None => Client::over(cluster.try_tcp(address).await.map_err(|e| format!("connect: {e}"))?),
    };
    let close = if keep { "" } else { "Connection: close\r\n" };
    let head = "POST /cart HTTP/1.1\r\nHost: echo.example\r\nContent-Length: 3\r\n";
    let request = format!("{head}{close}\r\nabc");
    client.try_send(request).await.map_err(|error| format!("sending: {error}"))?;
    let response = client.try_response(false).await.map_err(|error| format!("{error:?}"))?;
    if response.status != 200 {
        return Err(response.to_string());
    }
    let closes = response.headers.get("connection").is_some_and(|value| value == "close");
    Ok((keep && !closes).then_some(client))
}

/// The address at which the Service of the manifest is reached: what the statuses say.
async fn published(space: &Namespace<'_>) -> SocketAddr {
    let address = |ingress: &Ingress| {
        let status = ingress.status.as_ref()?.load_balancer.as_ref()?;
        status.ingress.as_ref()?.first()?.ip.clone()
    };
    let found = space.wait("shop", "an address", |ingress| address(ingress).is_some()).await;
    let ip = address(&found).expect("waited for");
    SocketAddr::new(ip.parse().expect("an address"), 80)
}

#[tokio::test]
async fn the_shipped_manifest_serves_ingresses_and_loses_nothing() {
    let cluster = Cluster::shared().await;
    kubectl(cluster, &["apply", "-f", MANIFEST]).await;
    let rolled_out = ["-n", "portcullis", "rollout", "status", "deployment/portcullis"];
    kubectl(cluster, &[&rolled_out[..], &["--timeout=60s"]].concat()).await;

    let space = cluster.namespace("ingress").await;
    space.apply(ECHO).await;
    space.rolled_out("echo").await;
    let address = published(&space).await;
    let answer = async |host: &str, target: &str| cluster.get(address, host, target).await;
    eventually(STEP, "the route is served", async || {
        let response = cluster.try_get(address, "echo.example", "/cart/1").await;
        response.is_some_and(|response| response.status == 200)
    })
    .await;
    for (host, target, status, path) in [
        ("echo.example", "/exact", 200, "/exact"),
        ("echo.example", "/exact/", 404, ""),
        ("echo.example", "/cart", 200, "/cart"),
        ("echo.example", "/cartoon", 404, ""),
        ("a.wild.example", "/x", 200, "/x"),
        ("a.b.wild.example", "/x", 404, ""),
        ("wild.example", "/x", 404, ""),
        ("api.example", "/api/users?n=1", 200, "/v1/users?n=1"),
        ("broken.example", "/", 503, ""),
        ("nobody.example", "/", 404, ""),
    ] {
        let response = answer(host, target).await;
        assert_eq!(response.status, status, "{host}{target}: {response}");
        if status == 200 {
            assert_eq!(response.json()["path"], path, "{host}{target}");
        }
    }
    let events: Api<Event> = space.api();
    eventually(STEP, "the broken Ingress is told why", async || {
        let list = events.list(&ListParams::default()).await.expect("a list");
        let why = |event: &Event| event.message.as_deref().is_some_and(|m| m.contains("nobody"));
        list.iter()
            .any(|event| event.involved_object.name.as_deref() == Some("broken") && why(event))
    })
    .await;

    kubectl(cluster, &["apply", "-f", SHOP]).await;
    kubectl(cluster, &["-n", "shop", "rollout", "status", "deployment/shop", "--timeout=60s"])
        .await;
    eventually(STEP, "the shop is served", async || {
        let response = cluster.try_get(address, "shop.example", "/products").await;
        response.is_some_and(|response| response.status == 200)
    })
    .await;
    assert_eq!(answer("staff.shop.example", "/orders").await.status, 401);
    let mut staff = cluster.connect(address).await;
    let request = "GET /orders HTTP/1.1\r\nHost: staff.shop.example\r\n\
                   Authorization: Basic YW5uYTpzZWNyZXQ=\r\n\r\n";
    staff.send(request).await;
    assert_eq!(staff.response().await.status, 200);

    nothing_was_forbidden(cluster).await;

    // Back ends, then Portcullis itself, replaced one by one under load.
    let load = Load::start(cluster, address, 3);
    for _ in 0..5 {
        kubectl(cluster, &["-n", &space.name, "rollout", "restart", "deployment/echo"]).await;
        space.rolled_out("echo").await;
        eventually(STEP, "the old pods are gone", async || space.pods("app=echo").await.len() == 2)
            .await;
    }
    println!("{} POSTs while back ends were replaced, 0 lost", load.end().await);
    let load = Load::start(cluster, address, 3);
    kubectl(cluster, &["-n", "portcullis", "rollout", "restart", "deployment/portcullis"]).await;
    kubectl(cluster, &[&rolled_out[..], &["--timeout=60s"]].concat()).await;
    println!("{} POSTs while Portcullis was replaced, 0 lost", load.end().await);

    nothing_was_forbidden(cluster).await;
}

/// Reads the logs of all replicas. A rule that is missing is named with the Role it belongs to.
async fn nothing_was_forbidden(cluster: &Cluster) {
    let pods: Api<Pod> = Api::namespaced(cluster.client().await, "portcullis");
    for pod in pods.list(&ListParams::default()).await.expect("a list") {
        if pod.metadata.deletion_timestamp.is_some() {
            continue;
        }
        let log = pods.logs(&pod.name_any(), &LogParams::default()).await.expect("a log");
        assert!(log.contains("listening") && !log.contains("Role"), "{log}");
    }
}
