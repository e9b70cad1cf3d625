//! Every way to install, in one cluster: the shop is served through each, and an Ingress shows
//! where and what is wrong with it.

use std::fs::Permissions;
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::{Command, Stdio};

use super::{CHART, of_the_other_chart, read, values};
use crate::harness::*;

/// What the Prometheus Operator defines, as far as we use it: anything else is refused.
const DEFINITIONS: &str = r#"
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: { name: servicemonitors.monitoring.coreos.com }
spec:
  group: monitoring.coreos.com
  scope: Namespaced
  names: { plural: servicemonitors, singular: servicemonitor, kind: ServiceMonitor }
  versions:
    - name: v1
      served: true
      storage: true
      schema:
        openAPIV3Schema:
          type: object
          required: [spec]
          properties:
            spec:
              type: object
              required: [endpoints, selector]
              properties:
                selector: { type: object, properties: { matchLabels: { type: object, additionalProperties: { type: string } } } }
                namespaceSelector: { type: object, properties: { matchNames: { type: array, items: { type: string } } } }
                endpoints:
                  type: array
                  items:
                    type: object
                    properties: { port: { type: string }, path: { type: string }, interval: { type: string, pattern: "^[0-9]+(ms|s|m)$" } }
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: { name: prometheusrules.monitoring.coreos.com }
spec:
  group: monitoring.coreos.com
  scope: Namespaced
  names: { plural: prometheusrules, singular: prometheusrule, kind: PrometheusRule }
  versions:
    - name: v1
      served: true
      storage: true
      schema:
        openAPIV3Schema:
          type: object
          required: [spec]
          properties:
            spec:
              type: object
              properties:
                groups:
                  type: array
                  items:
                    type: object
                    required: [name, rules]
                    properties:
                      name: { type: string }
                      rules:
                        type: array
                        items:
                          type: object
                          required: [expr]
                          properties:
                            alert: { type: string }
                            expr: { type: string }
                            for: { type: string, pattern: "^[0-9]+(ms|s|m|h)$" }
                            labels: { type: object, additionalProperties: { type: string } }
                            annotations: { type: object, additionalProperties: { type: string } }
"#;

const BROKEN: &str = r#"
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: { name: broken, namespace: boutique }
spec:
  ingressClassName: portcullis
  rules:
    - host: broken.example
      http:
        paths: [ { path: /, pathType: Prefix, backend: { service: { name: nobody, port: { number: 80 } } } } ]
"#;

/// What stands for ingress-nginx: something that answers at an address of its own, and its class.
const NGINX: &str = r#"
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: { name: nginx }
spec: { controller: k8s.io/ingress-nginx }
---
apiVersion: v1
kind: Namespace
metadata: { name: ingress-nginx }
---
apiVersion: apps/v1
kind: Deployment
metadata: { name: ingress-nginx-controller, namespace: ingress-nginx }
spec:
  selector: { matchLabels: { app.kubernetes.io/name: ingress-nginx } }
  template:
    metadata: { labels: { app.kubernetes.io/name: ingress-nginx, app.kubernetes.io/instance: ingress-nginx, app.kubernetes.io/component: controller } }
    spec:
      terminationGracePeriodSeconds: 2
      containers:
        - name: echo
          image: echo:1
          ports: [ { name: http, containerPort: 8080 } ]
          readinessProbe: { httpGet: { path: /readyz, port: http }, periodSeconds: 1 }
---
apiVersion: v1
kind: Service
metadata: { name: ingress-nginx-controller, namespace: ingress-nginx }
spec:
  type: LoadBalancer
  selector: { app.kubernetes.io/name: ingress-nginx, app.kubernetes.io/instance: ingress-nginx, app.kubernetes.io/component: controller }
  ports: [ { name: http, port: 80, targetPort: http } ]
"#;

/// Kustomizations as users write them around ours.
const KUSTOMIZATIONS: [(&str, &str); 3] = [
    (
        "everything",
        "resources: [../kustomize/overlays/loadbalancer]\n\
         images: [{ name: portcullis, newName: registry.example.com/portcullis, newTag: 0.1.0 }]\n\
         components: [../kustomize/components/autoscaling, ../kustomize/components/monitoring]\n",
    ),
    (
        "tenant",
        "namespace: tenant\nresources: [../kustomize/overlays/namespaced]\npatches:\n\
         - target: { kind: Deployment, name: portcullis }\n\
         \x20 patch: |-\n\
         \x20   - op: add\n\
         \x20     path: /spec/template/spec/containers/0/args/-\n\
         \x20     value: --ingress-class=tenant\n",
    ),
    ("nodes", "namespace: nodes\nresources: [../kustomize/overlays/hostnetwork]\n"),
];

/// The demo's shop in a namespace of its own, at hosts named after it, behind Ingresses of a class.
fn shop(namespace: &str, class: &str) -> String {
    read("deploy/kubernetes/shop.yaml")
        .replace("namespace: shop", &format!("namespace: {namespace}"))
        .replace("metadata: { name: shop }", &format!("metadata: {{ name: {namespace} }}"))
        .replace("shop.example", &format!("{namespace}.example"))
        .replace("ingressClassName: portcullis", &format!("ingressClassName: {class}"))
}

/// The cluster and the files that are applied to it.
struct World {
    cluster: Cluster,
    files: tempfile::TempDir,
}

impl World {
    /// A cluster, and the kustomizations beside copies of ours.
    async fn start() -> Self {
        let files = tempfile::tempdir().expect("a directory");
        let ours = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/kustomize");
        let copied = Command::new("cp").arg("-r").arg(ours).arg(files.path()).status();
        assert!(copied.expect("cp runs").success());
        for (name, text) in KUSTOMIZATIONS {
            let dir = files.path().join(name);
            std::fs::create_dir(&dir).expect("made");
            std::fs::write(dir.join("kustomization.yaml"), text).expect("written");
        }
        let world = Self { cluster: Cluster::start().await, files };
        world.provide_programs();
        world
    }

    fn path(&self, name: &str) -> String {
        self.files.path().join(name).to_str().expect("text").to_owned()
    }

    /// `kubectl` with this on its standard input; what it prints. It must succeed.
    async fn kubectl_with(&self, arguments: &[&str], input: &str) -> String {
        let mut command = self.cluster.kubectl();
        command.args(arguments);
        succeed(command, input.to_owned()).await
    }

    async fn kubectl(&self, arguments: &[&str]) -> String {
        self.kubectl_with(arguments, "").await
    }

    async fn helm(&self, arguments: &[&str]) -> String {
        let mut command = Cluster::tool("helm");
        command.env("KUBECONFIG", self.cluster.kubeconfig()).args(arguments);
        succeed(command, String::new()).await
    }

    /// A script as people run it, in a directory of its own, where `deploy/` is; what it prints.
    async fn shell(&self, script: &str) -> String {
        let mut command = Command::new("bash");
        command.args(["-euc", &format!("set -o pipefail\n{script}")]);
        command.current_dir(self.files.path()).env("KUBECONFIG", self.cluster.kubeconfig());
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{}:{path}", self.path("bin")));
        succeed(command, String::new()).await
    }

    /// The programs that scripts call, in `bin`: curl is in the cluster's network.
    fn provide_programs(&self) {
        let bin = self.files.path().join("bin");
        std::fs::create_dir(&bin).expect("made");
        let programs = [
            ("kubectl", self.cluster.kubectl()),
            ("helm", Cluster::tool("helm")),
            ("portcullis", Command::new(portcullis())),
            ("curl", self.cluster.command("/usr/bin/curl")),
        ];
        for (name, command) in programs {
            let words = std::iter::once(command.get_program()).chain(command.get_args());
            let words: Vec<_> = words.map(|word| word.to_str().expect("text")).collect();
            let path = bin.join(name);
            let text = format!("#!/bin/sh\nexec {} \"$@\"\n", words.join(" "));
            std::fs::write(&path, text).expect("written");
            std::fs::set_permissions(&path, Permissions::from_mode(0o755)).expect("set");
        }
        symlink(concat!(env!("CARGO_MANIFEST_DIR"), "/deploy"), self.path("deploy")).expect("made");
    }

    async fn rolled_out(&self, namespace: &str, what: &str) {
        self.kubectl(&["-n", namespace, "rollout", "status", what, "--timeout=90s"]).await;
    }

    /// A field of an object, once it is there.
    async fn field(&self, namespace: &str, object: &str, path: &str) -> String {
        let mut found = String::new();
        let path = format!("jsonpath={{{path}}}");
        eventually(STEP * 3, &format!("{object} has {path}"), async || {
            found = self.kubectl(&["-n", namespace, "get", object, "-o", &path]).await;
            !found.is_empty()
        })
        .await;
        found
    }

    /// The address that the load balancer gave to a Service.
    async fn balanced(&self, namespace: &str, service: &str) -> SocketAddr {
        let path = ".status.loadBalancer.ingress[0].ip";
        let ip = self.field(namespace, &format!("service/{service}"), path).await;
        SocketAddr::new(ip.parse().expect("an address"), 80)
    }

    /// Waits until the shop of a namespace is served at an address, and its staff's door is locked.
    async fn serves(&self, address: SocketAddr, namespace: &str) {
        let (host, staff) = (format!("{namespace}.example"), format!("staff.{namespace}.example"));
        eventually(STEP * 3, &format!("{host} is served at {address}"), async || {
            let response = self.cluster.try_get(address, &host, "/products").await;
            response.is_some_and(|response| response.status == 200)
        })
        .await;
        let staff = self.cluster.get(address, &staff, "/orders").await;
        assert_eq!(staff.status, 401, "{staff}");
    }

    /// Waits until `kubectl describe ingress` shows all of this.
    async fn described(&self, namespace: &str, ingress: &str, parts: &[&str]) {
        let mut text = String::new();
        eventually(STEP * 3, &format!("{namespace}/{ingress} shows {parts:?}"), async || {
            text = self.kubectl(&["-n", namespace, "describe", "ingress", ingress]).await;
            parts.iter().all(|part| text.contains(part))
        })
        .await;
    }
}

/// Runs a command off this thread; what it prints. It must succeed.
async fn succeed(mut command: Command, input: String) -> String {
    let run = move || {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("it runs");
        child.stdin.take().expect("a pipe").write_all(input.as_bytes()).expect("it reads");
        let output = child.wait_with_output().expect("it ends");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command:?}: {text}{complaint}");
        text
    };
    tokio::task::spawn_blocking(run).await.expect("it does not panic")
}

#[tokio::test]
async fn every_way_to_install_serves_the_shop() {
    let world = World::start().await;
    world.kubectl_with(&["apply", "-f", "-"], DEFINITIONS).await;
    world.kubectl(&["wait", "crd", "--all", "--for=condition=established"]).await;
    let shops = [shop("shop", "nginx"), shop("boutique", "portcullis"), shop("tenant", "tenant")];
    let shops = shops.join("\n---\n");
    world.kubectl_with(&["apply", "-f", "-"], &format!("{shops}\n---\n{NGINX}")).await;
    the_page_about_moving_is_true(&world).await;

    // At once, since most of it is waiting.
    world.kubectl(&["apply", "-k", &world.path("everything")]).await;
    world.kubectl(&["apply", "-k", &world.path("tenant")]).await;
    world.kubectl_with(&["apply", "-f", "-"], BROKEN).await;
    the_chart_is_observed(&world).await;
    world.rolled_out("portcullis", "deployment/portcullis").await;
    let address = world.balanced("portcullis", "portcullis").await;
    world.serves(address, "boutique").await;
    world.described("boutique", "shop", &[&address.ip().to_string(), "/products"]).await;
    world.described("boutique", "broken", &["Warning", "nobody"]).await;

    world.rolled_out("tenant", "deployment/portcullis").await;
    let tenants = world.balanced("tenant", "portcullis").await;
    world.serves(tenants, "tenant").await;
    world.described("tenant", "shop", &[&tenants.ip().to_string()]).await;
    assert_eq!(world.cluster.get(tenants, "broken.example", "/").await.status, 404);

    let selected = ["-n", "tenant", "logs", "--selector=app=portcullis", "--tail=-1"];
    let log = world.kubectl(&selected).await;
    assert!(log.contains("listening") && !log.contains("ERROR"), "{log}");

    every_rendered_object_is_accepted(&world).await;
    world.kubectl(&["delete", "-k", &world.path("everything"), "--wait=false"]).await;
    tokio::join!(on_the_nodes(&world), ignored_values_are_told_of(&world));
}

/// The page about moving, as it is written: there, and back.
async fn the_page_about_moving_is_true(world: &World) {
    let page = read("docs/moving-from-ingress-nginx.md");
    let mut steps = page.split("\n## ").skip(1);
    let mut step = async |title: &str| {
        let text = steps.next().unwrap_or_default();
        assert!(text.contains(title), "{title}: {text}");
        world.shell(&commands(text)).await
    };
    let checked = step("1. See what would differ").await;
    assert!(checked.contains("Ingress shop/shop") && checked.contains("honoured"), "{checked}");
    let notes = step("2. Run it beside").await;
    assert!(notes.contains("and those of ingress-nginx"), "{notes}");
    let own = world.balanced("ingress-nginx", "portcullis-controller").await;
    world.serves(own, "shop").await;
    let tried = step("3. Try it").await;
    assert!(tried.contains("brass-key") && tried.contains("listening"), "{tried}");

    let old = world.balanced("ingress-nginx", "ingress-nginx-controller").await;
    let answer = async |from_old: bool| {
        let response = world.cluster.try_get(old, "shop.example", "/products").await;
        // The echo back end tells which namespace it is in.
        response.is_some_and(|r| r.status == 200 && r.to_string().contains("pod") == from_old)
    };
    eventually(STEP, "ingress-nginx answers", async || answer(true).await).await;
    step("4. Switch").await;
    eventually(STEP, "Portcullis answers in its place", async || answer(false).await).await;
    world.serves(old, "shop").await;
    world.described("shop", "shop", &[&old.ip().to_string()]).await;
    step("5. Go back").await;
    eventually(STEP, "ingress-nginx answers again", async || answer(true).await).await;
    world.described("shop", "shop", &[&old.ip().to_string()]).await;
    step("6. When you stay").await;
}

/// The lines of a text's `sh` blocks.
fn commands(text: &str) -> String {
    let blocks = text.split("```sh\n").skip(1);
    blocks.filter_map(|block| block.split("```").next()).collect()
}

/// The chart with all that Prometheus is told, for a class of its own.
async fn the_chart_is_observed(world: &World) {
    let values = [
        "controller.metrics.enabled=true",
        "controller.metrics.serviceMonitor.enabled=true",
        "controller.metrics.prometheusRule.enabled=true",
        "controller.networkPolicy.enabled=true",
        "controller.serveNginxClass=true",
        "controller.ingressClassResource.name=beside",
        "controller.ingressClassResource.controllerValue=portcullis.dev/beside",
    ];
    let install = ["install", "beside", CHART, "--namespace=edge", "--create-namespace", "--wait"];
    let set = format!("--set={}", values.join(","));
    world.helm(&[&install[..], &[&set, "--timeout=90s"]].concat()).await;
    let address = world.balanced("edge", "beside-portcullis-controller").await;
    world.serves(address, "shop").await;
    world.described("shop", "shop", &[&address.ip().to_string()]).await;
    let service = "service/beside-portcullis-controller-metrics";
    let metrics = world.field("edge", service, ".spec.clusterIP").await;
    let metrics = format!("{metrics}:9900").parse().expect("an address");
    let page = world.cluster.get(metrics, "metrics", "/metrics").await;
    assert!(page.text().contains("portcullis_kubernetes_synced 1"), "{page}");
    world.helm(&["uninstall", "beside", "--namespace=edge"]).await;
    let left =
        ["get", "clusterroles,ingressclasses", "--selector=app.kubernetes.io/instance=beside"];
    assert_eq!(world.kubectl(&left).await, "");
}

/// A real API server takes everything that the chart renders, as far as it is recorded.
async fn every_rendered_object_is_accepted(world: &World) {
    for file in values() {
        let name = file.file_name().and_then(|name| name.to_str()).expect("text");
        let name = format!("helm-{}", name.replace(".values.yaml", ".out.yaml"));
        let rendered = file.with_file_name(name);
        let rendered = rendered.to_str().expect("text");
        world.kubectl(&["apply", "--dry-run=server", "--validate=strict", "-f", rendered]).await;
    }
}

/// Nothing that ingress-nginx's chart has is swallowed in silence.
async fn ignored_values_are_told_of(world: &World) {
    let ignored = &of_the_other_chart()["ignored"];
    let set = ignored.keys().map(|path| format!("--set={path}=true"));
    let set: Vec<_> = set.collect();
    let mut install = vec!["install", "other", CHART, "--namespace=edge", "--dry-run=client"];
    // Another installation has that one.
    install.push("--set=controller.ingressClassResource.enabled=false");
    install.extend(set.iter().map(String::as_str));
    let notes = world.helm(&install).await;
    for (path, why) in ignored {
        assert!(notes.contains(&format!("  {path}: {why}")), "{path}: {notes}");
    }
}

/// On ports 80 and 443 of the nodes, and through an update of one node after the other.
async fn on_the_nodes(world: &World) {
    let nodes = ["10.50.0.11", "10.50.0.12"];
    world.kubectl(&["apply", "-k", &world.path("nodes")]).await;
    world.rolled_out("nodes", "daemonset/portcullis").await;
    for node in nodes {
        world.serves(SocketAddr::new(node.parse().expect("an address"), 80), "boutique").await;
    }
    world.described("boutique", "shop", &nodes).await;
    world.kubectl(&["-n", "nodes", "rollout", "restart", "daemonset/portcullis"]).await;
    world.rolled_out("nodes", "daemonset/portcullis").await;
    for node in nodes {
        world.serves(SocketAddr::new(node.parse().expect("an address"), 80), "boutique").await;
    }
    let logs = ["-n", "nodes", "logs", "--selector=app=portcullis", "--tail=-1"];
    let log = world.kubectl(&logs).await;
    assert!(log.contains("listening") && !log.contains("already in use"), "{log}");
}
