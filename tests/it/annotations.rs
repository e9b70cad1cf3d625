//! Every annotation that is honoured, shown by a request through a real cluster: one Ingress for
//! each line of the table, all applied at once.

mod table;

use std::collections::BTreeSet;
use std::fmt::Write;

use futures_util::future::join_all;

use self::table::{Ask, CASES, Case, ELSEWHERE, EXEMPT, LIMITED};
use crate::harness::*;

const SUPPORT: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/src/provider/kubernetes/annotation/table.rs");

/// A back end that says which Service it is behind, over plain HTTP and TLS.
fn service(name: &str) -> String {
    format!(
        r#"---
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
            - {{ name: TLS_CERT, value: /var/run/echo/tls.crt }}
            - {{ name: TLS_KEY, value: /var/run/echo/tls.key }}
          ports: [ {{ name: http, containerPort: 8080 }}, {{ name: https, containerPort: 8443 }} ]
          readinessProbe: {{ httpGet: {{ path: /readyz, port: http }}, periodSeconds: 1 }}
          volumeMounts: [ {{ name: tls, mountPath: /var/run/echo }} ]
      volumes: [ {{ name: tls, secret: {{ secretName: backend-ca }} }} ]
---
apiVersion: v1
kind: Service
metadata: {{ name: {name} }}
spec:
  selector: {{ app: {name} }}
  ports: [ {{ name: web, port: 8080, targetPort: http }}, {{ name: secure, port: 8443, targetPort: https }} ]
"#
    )
}

/// The certificate of the back ends with its authority, and who may come in.
fn secrets(ca: &Ca) -> String {
    let pair = ca.server(&["backend.example"]);
    let indented = |pem: &str| pem.lines().fold(String::new(), |text, line| text + "\n    " + line);
    format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{ name: backend-ca }}\nstringData:\n  tls.crt: |{}\n  tls.key: |{}\n  ca.crt: |{}\n\
         ---\napiVersion: v1\nkind: Secret\nmetadata: {{ name: people }}\nstringData: {{ anna: \"{{SHA}}5en6G6MezRroT3XKqkdPOmY/BfQ=\" }}\n",
        indented(&pair.cert),
        indented(&pair.key),
        indented(&ca.pem)
    )
}

/// The Ingresses of a case as YAML.
fn ingresses(case: &Case) -> String {
    let Case { name, annotations, canary, .. } = case;
    let mut text = ingress(case, name, "one", annotations);
    if !canary.is_empty() {
        let marked: Vec<_> =
            [("canary", "true")].into_iter().chain(canary.iter().copied()).collect();
        text += &ingress(case, &format!("{name}-canary"), "two", &marked);
    }
    text
}

fn ingress(case: &Case, name: &str, service: &str, annotations: &[(&str, &str)]) -> String {
    let host = format!("{}.example", case.name);
    let mut text = format!(
        "---\napiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata:\n  name: {name}\n  annotations:\n    test: \"\"\n"
    );
    for (name, value) in annotations {
        let value = serde_json::Value::from(*value);
        writeln!(text, "    nginx.ingress.kubernetes.io/{name}: {value}").expect("memory");
    }
    let port = if case.secure { "secure" } else { "web" };
    let (path, kind) = match case.path {
        Some(path) => (path, "ImplementationSpecific"),
        None => ("/", "Prefix"),
    };
    let tls =
        if case.tls { format!("  tls: [ {{ hosts: [ {host} ] }} ]\n") } else { String::new() };
    text + &format!(
        "spec:\n  ingressClassName: \"@namespace@\"\n{tls}  rules:\n    - host: {host}\n      http: {{ paths: [ \
         {{ path: \"{path}\", pathType: {kind}, backend: {{ service: {{ name: {service}, port: {{ name: {port} }} }} }} }} ] }}\n"
    )
}

/// One request of a case, on a connection of its own.
async fn send(controller: &Controller<'_>, case: &Case, lines: &[&str]) -> Option<Response> {
    let mut head = format!("{} HTTP/1.1\r\nConnection: close\r\n", lines[0]);
    if !lines.iter().any(|line| line.starts_with("Host:")) {
        write!(head, "Host: {}.example\r\n", case.name).expect("memory");
    }
    let mut body = 0;
    for line in &lines[1..] {
        body = line.strip_prefix("Content-Length: ").map_or(body, |n| n.parse().expect("a number"));
        write!(head, "{line}\r\n").expect("memory");
    }
    let stream = controller.cluster().try_tcp(controller.http).await.ok()?;
    let mut client = Client::over(stream);
    client.try_send(head + "\r\n" + &"a".repeat(body)).await.ok()?;
    client.try_response(false).await.ok()
}

/// What is wrong with an answer.
fn wrong(response: &Response, ask: &Ask) -> Option<String> {
    let Ask(_, status, wanted) = ask;
    if response.status != *status {
        return Some(format!("not {status}"));
    }
    let met = |part: &&&str| {
        if let Some((key, value)) = part.strip_prefix("body ").and_then(|p| p.split_once('=')) {
            return response.json()[key] == value;
        }
        if let Some((name, value)) = part.strip_prefix("sent ").and_then(|p| p.split_once(": ")) {
            return response.json()["headers"][name].to_string().contains(value);
        }
        if let Some(name) = part.strip_prefix("server ") {
            return response.json()["tls"]["serverName"] == name;
        }
        let (name, value) = part.split_once(": ").expect("a header");
        response.headers.all(name).any(|seen| seen.contains(value))
    };
    let missing = wanted.iter().find(|part| !met(part))?;
    Some(format!("without {missing}"))
}

/// Asks until the answer is right: replicas come to know of an Ingress one after the other.
async fn shown(controller: &Controller<'_>, case: &Case, ask: &Ask) -> Result<(), String> {
    let deadline = std::time::Instant::now() + STEP;
    loop {
        let response = send(controller, case, ask.0).await;
        let why = match &response {
            Some(response) => wrong(response, ask),
            None => Some("no response".to_owned()),
        };
        let Some(why) = why else { return Ok(()) };
        if std::time::Instant::now() > deadline {
            let said = response.map(|response| response.to_string());
            return Err(format!("{} {:?}: {why}: {said:?}", case.name, ask.0));
        }
        pass(std::time::Duration::from_millis(50)).await;
    }
}

/// Twenty requests of a case at once: their statuses.
async fn twenty(controller: &Controller<'_>, name: &str) -> Vec<u16> {
    let case = CASES.iter().find(|case| case.name == name).expect("it is in the table");
    let requests = (0..20).map(|_| send(controller, case, &["GET /?delay=300ms"]));
    join_all(requests).await.into_iter().flatten().map(|response| response.status).collect()
}

#[tokio::test]
async fn every_annotation_that_is_honoured_is_shown_by_a_request() {
    let cluster = Cluster::shared().await;
    let space = cluster.namespace("annotations").await;
    let mut objects = secrets(&Ca::new()) + &service("one") + &service("two");
    objects.extend(CASES.iter().map(ingresses));
    space.apply(&objects).await;
    let controller = Controller::start(&space).await;
    space.rolled_out("one").await;
    space.rolled_out("two").await;
    let asks = CASES.iter().flat_map(|case| case.asks.iter().map(move |ask| (case, ask)));
    let outcomes = join_all(asks.map(|(case, ask)| shown(&controller, case, ask))).await;
    let failed: Vec<_> = outcomes.iter().filter_map(|outcome| outcome.as_ref().err()).collect();
    assert!(failed.is_empty(), "{failed:#?}");
    println!("{} requests for {} Ingresses", outcomes.len(), CASES.len());
    for name in LIMITED {
        let statuses = twenty(&controller, name).await;
        assert!(statuses.contains(&503), "{name}: {statuses:?}");
    }
    for name in EXEMPT {
        let statuses = twenty(&controller, name).await;
        assert_eq!(statuses, [200; 20], "{name}");
    }
}

#[test]
fn the_table_names_every_annotation_that_is_honoured() {
    let source = std::fs::read_to_string(SUPPORT).expect("a source file");
    let row = regex::Regex::new(r#"\b(?:yes|but)\(\s*"([a-z-]+)""#).expect("a pattern");
    let honoured: BTreeSet<&str> =
        row.captures_iter(&source).filter_map(|found| Some(found.get(1)?.as_str())).collect();
    let in_cases = CASES.iter().flat_map(|case| case.annotations.iter().chain(case.canary));
    let mut shown: BTreeSet<&str> = in_cases.map(|(name, _)| *name).collect();
    shown.insert("canary");
    for name in ELSEWHERE {
        assert!(shown.insert(name), "{name} is shown here, too");
    }
    assert!(honoured.len() > 90, "{honoured:?}");
    let missing: Vec<_> = honoured.difference(&shown).collect();
    assert!(missing.is_empty(), "honoured, and no request shows it: {missing:?}");
    let odd: Vec<_> = shown.difference(&honoured).collect();
    assert!(odd.is_empty(), "not honoured: {odd:?}");
}
