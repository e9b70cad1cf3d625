//! What SIG Network's conformance suite asks of an Ingress controller: its 25 scenarios, in our own
//! words, against Portcullis by its shipped manifest on a real API server.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use k8s_openapi::api::networking::v1::{Ingress, IngressClass};
use kube::api::{DeleteParams, ListParams};
use kube::{Api, ResourceExt};

use crate::harness::*;

/// What every scenario but those about the default backend and the balancing shares.
const INGRESSES: &str = r#"
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: { name: host-rules }
spec:
  ingressClassName: "@namespace@"
  rules:
    - host: exact.example
      http: { paths: [ { path: /, pathType: Prefix, backend: { service: { name: one, port: { name: web } } } } ] }
    - host: "*.wild.example"
      http: { paths: [ { path: /, pathType: Prefix, backend: { service: { name: two, port: { number: 8080 } } } } ] }
    - host: named.wild.example
      http: { paths: [ { path: /, pathType: Prefix, backend: { service: { name: three, port: { number: 8080 } } } } ] }
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: { name: secure }
spec:
  ingressClassName: "@namespace@"
  tls:
    - { hosts: [ tls.example ], secretName: tls-exact }
    - { hosts: [ "*.tls-wild.example" ], secretName: tls-wild }
  rules:
    - host: tls.example
      http: { paths: [ { path: /, pathType: Prefix, backend: { service: { name: one, port: { name: web } } } } ] }
    - host: "*.tls-wild.example"
      http: { paths: [ { path: /, pathType: Prefix, backend: { service: { name: two, port: { name: web } } } } ] }
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: { name: path-rules }
spec:
  ingressClassName: "@namespace@"
  rules:
    - host: exact.paths.example
      http:
        paths:
          - { path: /foo, pathType: Exact, backend: { service: { name: one, port: { name: web } } } }
          - { path: /slash/, pathType: Exact, backend: { service: { name: two, port: { name: web } } } }
    - host: prefix.paths.example
      http:
        paths:
          - { path: /foo, pathType: Prefix, backend: { service: { name: one, port: { name: web } } } }
          - { path: /aaa, pathType: Prefix, backend: { service: { name: three, port: { name: web } } } }
          - { path: /aaa/bbb, pathType: Prefix, backend: { service: { name: two, port: { name: web } } } }
    - host: slash.paths.example
      http: { paths: [ { path: /aaa/bbb/, pathType: Prefix, backend: { service: { name: one, port: { name: web } } } } ] }
    - host: mixed.paths.example
      http:
        paths:
          - { path: /foo, pathType: Prefix, backend: { service: { name: one, port: { name: web } } } }
          - { path: /foo, pathType: Exact, backend: { service: { name: two, port: { name: web } } } }
    - host: class.paths.example
      http: { paths: [ { path: /foo, pathType: ImplementationSpecific, backend: { service: { name: one, port: { name: web } } } } ] }
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: { name: foreign }
spec:
  ingressClassName: "@namespace@-of-nobody"
  rules:
    - host: foreign.example
      http: { paths: [ { path: /, pathType: Prefix, backend: { service: { name: one, port: { name: web } } } } ] }
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: { name: classless }
spec:
  rules:
    - host: classless.example
      http: { paths: [ { path: /, pathType: Prefix, backend: { service: { name: three, port: { name: web } } } } ] }
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: { name: balanced }
spec:
  ingressClassName: "@namespace@"
  rules:
    - host: balanced.example
      http: { paths: [ { path: /, pathType: Prefix, backend: { service: { name: many, port: { name: web } } } } ] }
"#;

const DEFAULT_CLASS: &str = r#"
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata:
  name: "@namespace@-default"
  annotations: { ingressclass.kubernetes.io/is-default-class: "true" }
spec: { controller: "test.dev/@namespace@" }
"#;

const DEFAULT_BACKEND: &str = r#"
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: { name: no-rules }
spec:
  ingressClassName: "@namespace@"
  defaultBackend: { service: { name: three, port: { name: web } } }
"#;

/// Scenario, host, target, and which Service answers; none where nothing may match.
type Row = (&'static str, &'static str, &'static str, Option<&'static str>);

/// `host_rules`, over plain HTTP.
const HOSTS: &[Row] = &[
    ("a host rule takes its host", "exact.example", "/", Some("one")),
    ("a host rule takes its host", "EXACT.example:8080", "/x", Some("one")),
    ("a host rule takes no other host", "other.example", "/", None),
    ("a host rule takes no other host", "sub.exact.example", "/", None),
    ("a wildcard takes one label", "bar.wild.example", "/", Some("two")),
    ("a wildcard takes one label", "named.wild.example", "/", Some("three")),
    ("a wildcard does not take two labels", "baz.bar.wild.example", "/", None),
    ("a wildcard does not take its parent", "wild.example", "/", None),
];

/// The same, over TLS with this name in the handshake.
const SECURE: &[Row] = &[
    ("a host rule takes its host over TLS", "tls.example", "/", Some("one")),
    ("a host rule takes its host over TLS", "bar.tls-wild.example", "/", Some("two")),
];

/// `path_rules`.
const PATHS: &[Row] = &[
    ("an exact path takes itself", "exact.paths.example", "/foo", Some("one")),
    ("an exact path takes itself", "exact.paths.example", "/foo?bar=1", Some("one")),
    ("an exact path does not take a slash more", "exact.paths.example", "/foo/", None),
    ("an exact path is case-sensitive", "exact.paths.example", "/FOO", None),
    ("an exact path with a slash wants it", "exact.paths.example", "/slash/", Some("two")),
    ("an exact path with a slash wants it", "exact.paths.example", "/slash", None),
    ("a prefix takes itself", "prefix.paths.example", "/foo", Some("one")),
    ("a prefix takes a slash more", "prefix.paths.example", "/foo/", Some("one")),
    ("a prefix takes what is below", "prefix.paths.example", "/foo/bar/baz", Some("one")),
    ("a prefix ends with a segment", "prefix.paths.example", "/foobar", None),
    ("a prefix is case-sensitive", "prefix.paths.example", "/FOO", None),
    ("a prefix with a slash takes itself without", "slash.paths.example", "/aaa/bbb", Some("one")),
    ("a prefix with a slash takes what has it", "slash.paths.example", "/aaa/bbb/", Some("one")),
    ("a prefix with a slash takes what has it", "slash.paths.example", "/aaa/bbb/c", Some("one")),
    ("a prefix with a slash takes what has it", "slash.paths.example", "/aaa/bbbc", None),
    ("the longest prefix wins", "prefix.paths.example", "/aaa/bbb", Some("two")),
    ("the longest prefix wins", "prefix.paths.example", "/aaa/bbb/ccc", Some("two")),
    ("a shorter prefix takes the rest", "prefix.paths.example", "/aaa/ccc", Some("three")),
    ("a shorter prefix takes the rest", "prefix.paths.example", "/aaa/bbbc", Some("three")),
    ("exact beats prefix", "mixed.paths.example", "/foo", Some("two")),
    ("a prefix takes what exact leaves", "mixed.paths.example", "/foo/", Some("one")),
    ("a prefix takes what exact leaves", "mixed.paths.example", "/foo/bar", Some("one")),
    ("no path, no service", "mixed.paths.example", "/", None),
];

/// What the suite leaves to the class, and what else belongs here.
const BEYOND: &[Row] = &[
    ("left to the class is a prefix of the text", "class.paths.example", "/foo/bar", Some("one")),
    ("left to the class is a prefix of the text", "class.paths.example", "/foobar", Some("one")),
    ("without a class the default one serves", "classless.example", "/", Some("three")),
];

/// A back end that says which Service it is behind.
fn service(name: &str) -> String {
    format!(
        r#"
apiVersion: apps/v1
kind: Deployment
metadata: {{ name: {name} }}
spec:
  selector: {{ matchLabels: {{ app: {name} }} }}
  template:
    metadata: {{ labels: {{ app: {name} }} }}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
        - name: echo
          image: echo:1
          env:
            - {{ name: SERVICE_NAME, value: {name} }}
            - {{ name: POD_NAME, valueFrom: {{ fieldRef: {{ fieldPath: metadata.name }} }} }}
          ports: [ {{ name: http, containerPort: 8080 }} ]
          readinessProbe: {{ httpGet: {{ path: /readyz, port: http }}, periodSeconds: 1 }}
---
apiVersion: v1
kind: Service
metadata: {{ name: {name} }}
spec: {{ selector: {{ app: {name} }}, ports: [ {{ name: web, port: 8080, targetPort: http }} ] }}
"#
    )
}

fn secret(name: &str, pair: &Pair) -> String {
    let indented = |pem: &str| pem.lines().fold(String::new(), |text, line| text + "\n    " + line);
    format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{ name: {name} }}\ntype: kubernetes.io/tls\n\
         stringData:\n  tls.crt: |{}\n  tls.key: |{}\n",
        indented(&pair.cert),
        indented(&pair.key)
    )
}

struct Suite<'a> {
    cluster: &'a Cluster,
    space: &'a Namespace<'a>,
    controller: Controller<'a>,
    ca: Ca,
    /// The scenarios that were gone through.
    passed: BTreeSet<&'static str>,
}

impl Suite<'_> {
    /// One request on a connection of its own.
    async fn ask(&self, secure: bool, method: &str, host: &str, target: &str) -> Option<Response> {
        let address = if secure { self.controller.https } else { self.controller.http };
        let stream = self.cluster.try_tcp(address).await.ok()?;
        let mut client = if secure {
            Client::over(TlsClient::new(&self.ca, host, &[]).over(stream).await.ok()?)
        } else {
            Client::over(stream)
        };
        let head = format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n");
        client.try_send(head + "Content-Length: 0\r\n\r\n").await.ok()?;
        client.try_response(method == "HEAD").await.ok()
    }

    /// Goes through a table. Replicas come to know of a change one after the other, so that a right
    /// answer counts when it comes three times in a row.
    async fn table(&mut self, secure: bool, rows: &[Row]) {
        for &(scenario, host, target, wanted) in rows {
            let what = format!("{scenario}: {host}{target} from {wanted:?}");
            let mut right = 0;
            eventually(STEP * 2, &what, async || {
                let response = self.ask(secure, "GET", host, target).await;
                let good = response.is_some_and(|response| match wanted {
                    Some(service) => {
                        response.status == 200 && response.json()["service"] == service
                    }
                    None => response.status == 404,
                });
                right = if good { right + 1 } else { 0 };
                right == 3
            })
            .await;
            self.passed.insert(scenario);
        }
    }

    /// The address of the Service stands in the status of what is served, and of nothing else.
    async fn statuses(&mut self) {
        let wanted = self.controller.http.ip().to_string();
        for name in ["host-rules", "secure", "path-rules", "classless", "balanced"] {
            self.space
                .wait::<Ingress>(name, "its address", |ingress| {
                    addresses(ingress) == [wanted.as_str()]
                })
                .await;
        }
        let all: Api<Ingress> = self.space.api();
        let foreign = all.get("foreign").await.expect("it is there");
        assert!(addresses(&foreign).is_empty(), "{foreign:?}");
        self.table(false, &[("a class of nobody is left alone", "foreign.example", "/", None)])
            .await;
    }

    /// An Ingress that has no rules takes what others leave, whatever the method.
    async fn default_backend(&mut self) {
        self.space.apply(DEFAULT_BACKEND).await;
        let scenario = "without rules everything goes to the default backend";
        self.table(
            false,
            &[
                (scenario, "unheard-of.example", "/", Some("three")),
                (scenario, "10.0.0.1", "/any/path/", Some("three")),
                (scenario, "exact.example", "/", Some("one")),
            ],
        )
        .await;
        for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] {
            let response = self.ask(false, method, "unheard-of.example", "/x").await;
            let response = response.expect("a response");
            assert_eq!(response.status, 200, "{method}: {response}");
            if method != "HEAD" {
                let seen = response.json();
                assert_eq!((&seen["method"], &seen["service"]), (&method.into(), &"three".into()));
            }
        }
    }

    /// All of ten pods are reached within a hundred requests.
    async fn balancing(&mut self) {
        let scale = ["-n", &self.space.name, "scale", "deployment/many", "--replicas=10"];
        self.cluster.kubectl_run(&scale).await;
        self.space.rolled_out("many").await;
        self.space.ready_endpoints("many", 10).await;
        let mut spread = BTreeMap::new();
        eventually(STEP, "a hundred requests reach all ten", async || {
            spread.clear();
            for _ in 0..100 {
                let response = self.ask(false, "GET", "balanced.example", "/").await;
                let response = response.expect("a response");
                assert_eq!(response.status, 200, "{response}");
                let pod = response.json()["pod"].as_str().expect("a name").to_owned();
                *spread.entry(pod).or_insert(0) += 1;
            }
            spread.len() == 10
        })
        .await;
        println!("100 requests over 10 pods: {:?}", spread.values().collect::<Vec<_>>());
        self.passed.insert("requests are spread over all endpoints");
    }
}

fn addresses(ingress: &Ingress) -> Vec<&str> {
    let balancer = ingress.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let list = balancer.and_then(|balancer| balancer.ingress.as_ref()).into_iter().flatten();
    list.filter_map(|entry| entry.ip.as_deref()).collect()
}

#[tokio::test]
async fn all_scenarios_of_the_conformance_suite_hold() {
    let cluster = Cluster::shared().await;
    let space = cluster.namespace("conformance").await;
    let ca = Ca::new();
    let mut objects = String::new();
    // First of all, so that the API server knows of the class when the Ingresses come.
    for part in [
        DEFAULT_CLASS,
        &secret("tls-exact", &ca.server(&["tls.example"])),
        &secret("tls-wild", &ca.server(&["*.tls-wild.example"])),
        &service("one"),
        &service("two"),
        &service("three"),
        &service("many"),
    ] {
        write!(objects, "---\n{part}").expect("memory");
    }
    space.apply(&objects).await;
    let controller = Controller::start(&space).await;
    for name in ["one", "two", "three", "many"] {
        space.rolled_out(name).await;
    }
    space.apply(INGRESSES).await;
    let mut suite = Suite { cluster, space: &space, controller, ca, passed: BTreeSet::new() };
    suite.table(false, HOSTS).await;
    suite.table(true, SECURE).await;
    suite.table(false, PATHS).await;
    suite.statuses().await;
    suite.balancing().await;
    suite.table(false, BEYOND).await;
    // The last: from then on nothing is answered 404 by a host that nobody names.
    suite.default_backend().await;
    println!("{} scenarios: {:#?}", suite.passed.len(), suite.passed);
    assert_eq!(suite.passed.len(), 25 + 2, "25 scenarios, and two of our own");

    let classes: Api<IngressClass> = Api::all(space.client());
    for class in classes.list(&ListParams::default()).await.expect("a list") {
        if class.name_any().starts_with(&space.name) {
            classes.delete(&class.name_any(), &DeleteParams::default()).await.expect("deleted");
        }
    }
}
