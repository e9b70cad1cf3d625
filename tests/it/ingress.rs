//! The shipped manifest on a real API server: Portcullis as a pod, with its own account's rights.

use std::net::SocketAddr;

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
      terminationGracePeriodSeconds: 30
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
    cluster.kubectl_run(&["apply", "-f", MANIFEST]).await;
    let rolled_out = ["-n", "portcullis", "rollout", "status", "deployment/portcullis"];
    cluster.kubectl_run(&[&rolled_out[..], &["--timeout=60s"]].concat()).await;

    let space = cluster.namespace("ingress").await;
    space.apply(ECHO).await;
    space.rolled_out("echo").await;
    let address = published(&space).await;
    // Each of the replicas hears of routes by itself, and any of them answers.
    let answered = async |host: &str, target: &str, status: u16| {
        let mut last = None;
        eventually(STEP, &format!("{host}{target} is answered {status}"), async || {
            last = cluster.try_get(address, host, target).await;
            last.as_ref().is_some_and(|response| response.status == status)
        })
        .await;
        last.expect("set when the wait ended")
    };
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
        let response = answered(host, target, status).await;
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

    cluster.kubectl_run(&["apply", "-f", SHOP]).await;
    cluster
        .kubectl_run(&["-n", "shop", "rollout", "status", "deployment/shop", "--timeout=60s"])
        .await;
    eventually(STEP, "the shop is served", async || {
        let response = cluster.try_get(address, "shop.example", "/products").await;
        response.is_some_and(|response| response.status == 200)
    })
    .await;
    answered("staff.shop.example", "/orders", 401).await;
    let request = "GET /orders HTTP/1.1\r\nHost: staff.shop.example\r\n\
                   Authorization: Basic YW5uYTpzZWNyZXQ=\r\n\r\n";
    eventually(STEP, "staff may look at orders", async || {
        let mut staff = cluster.connect(address).await;
        staff.send(request).await;
        staff.response().await.status == 200
    })
    .await;

    let log = nothing_was_forbidden(cluster).await;
    // As whoever reads the logs of ingress-nginx looks for it.
    let line = format!("[{}-echo-80] [] 10.", space.name);
    assert!(log.contains(&line) && log.contains("\"GET /exact HTTP/1.1\" 200 "), "{log}");

    back_ends_are_replaced(&space, address).await;
    back_ends_go_and_come_back(&space, address).await;

    let load = Load::start(cluster.inside(), address, "echo.example", &["/cart"], 3);
    cluster.kubectl_run(&["-n", "portcullis", "rollout", "restart", "deployment/portcullis"]).await;
    cluster.kubectl_run(&[&rolled_out[..], &["--timeout=60s"]].concat()).await;
    println!("{} POSTs while Portcullis was replaced, 0 lost", load.end().await.all_served());

    nothing_was_forbidden(cluster).await;
}

/// Twenty rolling restarts under load: of five Deployments at a time, four times.
async fn back_ends_are_replaced(space: &Namespace<'_>, address: SocketAddr) {
    let names = ["echo", "echo-1", "echo-2", "echo-3", "echo-4"];
    let mut objects = String::new();
    let mut targets = Vec::new();
    for name in &names[1..] {
        let documents: Vec<_> = ECHO.split("---").take(2).collect();
        objects += &documents.join("---").replace("name: echo }", &format!("name: {name} }}"));
        objects = objects.replace("app: echo }", &format!("app: {name} }}"));
        objects += &format!("---{}---", route(name));
        targets.push(format!("/{name}"));
    }
    space.apply(objects.trim_end_matches("---")).await;
    for name in names {
        space.rolled_out(name).await;
    }
    targets.push("/cart".to_owned());
    for target in &targets {
        eventually(STEP, &format!("{target} is served"), async || {
            let response = space.cluster().try_get(address, "echo.example", target).await;
            response.is_some_and(|response| response.status == 200)
        })
        .await;
    }
    let targets: Vec<_> = targets.iter().map(String::as_str).collect();
    let load = Load::start(space.cluster().inside(), address, "echo.example", &targets, 4);
    for _ in 0..4 {
        let deployments = names.map(|name| format!("deployment/{name}"));
        let restart = ["-n", &space.name, "rollout", "restart"];
        let deployments: Vec<_> = deployments.iter().map(String::as_str).collect();
        space.cluster().kubectl_run(&[&restart[..], &deployments].concat()).await;
        for name in names {
            space.rolled_out(name).await;
            let pods = format!("app={name}");
            eventually(STEP * 3, "the old pods are gone", async || {
                space.pods(&pods).await.len() == 2
            })
            .await;
        }
    }
    let served = load.end().await.all_served();
    println!("{served} POSTs during 20 rolling restarts of back ends, 0 lost");
}

/// An Ingress of a host that others have, too.
fn route(service: &str) -> String {
    let backend = format!("{{ service: {{ name: {service}, port: {{ number: 80 }} }} }}");
    format!(
        "
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {{ name: {service} }}
spec:
  ingressClassName: portcullis
  rules:
    - host: echo.example
      http: {{ paths: [ {{ path: /{service}, pathType: Prefix, backend: {backend} }} ] }}
"
    )
}

/// Requests for a Service that has no pod left are answered so; with the first pod that is over. Its
/// pods drain: where all of them end they are asked until they say that they are not ready, and one
/// that closes its connections before cuts off a POST on its way, which nobody may repeat.
async fn back_ends_go_and_come_back(space: &Namespace<'_>, address: SocketAddr) {
    let cluster = space.cluster();
    let drain = ["-n", &space.name, "set", "env", "deployment/echo", "DRAIN=20s"];
    cluster.kubectl_run(&drain).await;
    space.rolled_out("echo").await;
    // Those before them do not drain.
    eventually(STEP * 3, "the old pods are gone", async || space.pods("app=echo").await.len() == 2)
        .await;
    let load = Load::start(cluster.inside(), address, "echo.example", &["/cart"], 3);
    let status = async |wanted: u16| {
        eventually(STEP * 3, &format!("{wanted} is answered"), async || {
            let response = cluster.try_get(address, "echo.example", "/cart").await;
            response.is_some_and(|response| response.status == wanted)
        })
        .await;
    };
    let scale = async |count: &str| {
        cluster.kubectl_run(&["-n", &space.name, "scale", "deployment/echo", count]).await;
    };
    scale("--replicas=0").await;
    space.ready_endpoints("echo", 0).await;
    eventually(STEP * 3, "all pods are gone", async || space.pods("app=echo").await.is_empty())
        .await;
    status(503).await;
    load.more(100).await;
    scale("--replicas=2").await;
    space.rolled_out("echo").await;
    space.ready_endpoints("echo", 2).await;
    status(200).await;
    let counts = load.end().await;
    let Counts { sent, unavailable, lost } = &counts;
    println!("{sent} POSTs while a Service had pods, none and two again, {unavailable} found none");
    assert!(lost.is_empty(), "{} of {sent} lost: {lost:?}", lost.len());
    assert!(*unavailable > 0, "{counts:?}");
    // Each replica hears of the endpoints by itself.
    eventually(STEP * 3, "all replicas have endpoints", async || {
        for _ in 0..20 {
            let response = cluster.try_get(address, "echo.example", "/cart").await;
            if response.is_none_or(|response| response.status != 200) {
                return false;
            }
        }
        true
    })
    .await;
    let load = Load::start(cluster.inside(), address, "echo.example", &["/cart"], 3);
    load.more(200).await;
    println!("{} POSTs after that, 0 lost", load.end().await.all_served());
}

/// The logs of all replicas. A rule that is missing is named with the Role it belongs to.
async fn nothing_was_forbidden(cluster: &Cluster) -> String {
    let pods: Api<Pod> = Api::namespaced(cluster.client().await, "portcullis");
    let mut logs = String::new();
    for pod in pods.list(&ListParams::default()).await.expect("a list") {
        if pod.metadata.deletion_timestamp.is_some() {
            continue;
        }
        let log = pods.logs(&pod.name_any(), &LogParams::default()).await.expect("a log");
        assert!(log.contains("listening") && !log.contains("Role"), "{log}");
        logs.push_str(&log);
    }
    logs
}
