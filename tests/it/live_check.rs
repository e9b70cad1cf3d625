//! `portcullis check --kubernetes`: what becomes of the Ingresses of a cluster, told without
//! touching it.

use std::path::Path;
use std::process::{Command, Output};

use base64::Engine;
use serde_json::{Value, json};

use crate::harness::*;

/// Three Ingresses of ingress-nginx and one of somebody else, by the old annotation, which needs no
/// object of the whole cluster.
const OBJECTS: &str = r#"
apiVersion: v1
kind: Service
metadata: { name: web }
spec: { ports: [ { name: http, port: 80 } ] }
---
apiVersion: v1
kind: Secret
metadata: { name: users }
stringData: { auth: "ada:{SHA}qUqP5cyxm6YcTAhz05Hph5gvu9M=" }
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: fine
  annotations:
    kubernetes.io/ingress.class: nginx
    nginx.ingress.kubernetes.io/auth-type: basic
    nginx.ingress.kubernetes.io/auth-secret: users
spec: { rules: [ { host: fine.@namespace@.example, http: { paths: [ { path: /, pathType: Prefix, backend: { service: { name: web, port: { name: http } } } } ] } } ] }
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: odd
  annotations:
    kubernetes.io/ingress.class: nginx
    nginx.ingress.kubernetes.io/mirror-target: https://mirror.example.com
spec: { rules: [ { host: odd.@namespace@.example, http: { paths: [ { path: /, pathType: Prefix, backend: { service: { name: web, port: { number: 80 } } } } ] } } ] }
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: broken
  annotations:
    kubernetes.io/ingress.class: nginx
    nginx.ingress.kubernetes.io/auth-type: basic
    nginx.ingress.kubernetes.io/auth-secret: nobody
spec: { rules: [ { host: broken.@namespace@.example, http: { paths: [ { path: /, pathType: Prefix, backend: { service: { name: gone, port: { number: 80 } } } } ] } } ] }
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: { name: theirs, annotations: { kubernetes.io/ingress.class: traefik } }
spec: { defaultBackend: { service: { name: web, port: { number: 80 } } } }
"#;

/// What lists all that is read always, in one namespace.
const READER: &str = r#"
apiVersion: v1
kind: ServiceAccount
metadata: { name: reader }
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: { name: reader }
rules:
  - { apiGroups: ["networking.k8s.io"], resources: [ingresses], verbs: [list] }
  - { apiGroups: [""], resources: [services], verbs: [list] }
  - { apiGroups: ["discovery.k8s.io"], resources: [endpointslices], verbs: [list] }
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: { name: reader }
roleRef: { apiGroup: rbac.authorization.k8s.io, kind: Role, name: reader }
subjects: [ { kind: ServiceAccount, name: reader } ]
"#;

/// `portcullis check` with these arguments.
async fn check(kubeconfig: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(portcullis());
    command.args(["check", "--kubernetes"]).args(args).env("KUBECONFIG", kubeconfig);
    // A pod's service account is not what is meant here.
    command.env_remove("KUBERNETES_SERVICE_HOST");
    let output = tokio::task::spawn_blocking(move || command.output()).await;
    output.expect("it does not panic").expect("the binary runs")
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[track_caller]
fn says(output: &Output, code: i32, parts: &[&str]) {
    let told = text(output);
    assert_eq!(output.status.code(), Some(code), "{told}");
    for part in parts {
        assert!(told.contains(part), "{part} is not in\n{told}");
    }
}

#[tokio::test]
async fn every_ingress_of_a_cluster_is_judged_and_none_is_touched() {
    let cluster = Cluster::shared().await;
    let space = cluster.namespace("judged").await;
    space.apply(OBJECTS).await;
    let (name, config) = (space.name.as_str(), cluster.kubeconfig());
    let before = cluster.kubectl_run(&["-n", name, "get", "ingresses,events", "-o", "name"]).await;
    let namespace = format!("--watch-namespace={name}");
    let output = check(config, &[&namespace]).await;
    let fine = format!("Ingress {name}/fine: honoured\n");
    says(
        &output,
        3,
        &[
            &fine,
            &format!("Ingress {name}/odd: not honoured in all\n"),
            "left out         nginx.ingress.kubernetes.io/mirror-target: ",
            &format!("Ingress {name}/broken: not honoured in all\n"),
            &format!(
                "refused          nginx.ingress.kubernetes.io/auth-secret: is not honoured: there is no Secret {name}/nobody"
            ),
            &format!(
                "Ingress {name}/theirs: not served, its annotation kubernetes.io/ingress.class asks for `traefik`"
            ),
            "4 Ingresses: 1 honoured, 2 not honoured in all, 1 not served\n",
        ],
    );
    // The whole cluster, by the kubeconfig as a flag, as JSON.
    let flag = format!("--kubeconfig={}", config.display());
    let output = check(Path::new("/nonexistent"), &["--json", &flag]).await;
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let ingresses = report["ingresses"].as_array().expect("a list");
    let verdict = |ingress: &str| {
        let mut all = ingresses.iter().filter(|i| i["namespace"] == name && i["name"] == ingress);
        all.next().expect("it is there")["verdict"].clone()
    };
    assert_eq!(verdict("fine"), "honoured");
    assert_eq!(verdict("odd"), "left out");
    assert_eq!(verdict("broken"), "refused");
    assert_eq!(verdict("theirs"), "ignored");
    // With manifests as if they had been applied: one mended, and one that comes too late.
    let dir = tempfile::tempdir().expect("a directory");
    let manifests = dir.path().join("change.yaml");
    let mended = OBJECTS.split("\n---\n").nth(4).expect("the broken one");
    let mended = mended.replace("name: gone", "name: web").replace("nobody", "users");
    let late = mended.replace("name: broken", "name: late");
    let text = format!("{mended}\n---\n{late}").replace("@namespace@", name);
    let text = text.replace("metadata:\n", &format!("metadata:\n  namespace: {name}\n"));
    std::fs::write(&manifests, text).expect("written");
    let output = check(config, &[&namespace, manifests.to_str().expect("text")]).await;
    says(
        &output,
        3,
        &[
            &fine,
            &format!("Ingress {name}/broken ("),
            "/change.yaml:1): honoured\n",
            &format!("Ingress {name}/late ("),
            "spec.rules[0].http.paths[0]: ",
        ],
    );
    let after = cluster.kubectl_run(&["-n", name, "get", "ingresses,events", "-o", "name"]).await;
    assert_eq!(before, after, "nothing was written");
    let leases = cluster.kubectl_run(&["-n", name, "get", "leases", "-o", "name"]).await;
    assert_eq!(leases, "");
}

#[tokio::test]
async fn what_may_not_be_read_is_said_with_the_rule_that_is_missing() {
    let cluster = Cluster::shared().await;
    let space = cluster.namespace("unread").await;
    space.apply(OBJECTS).await;
    space.apply(READER).await;
    let name = space.name.as_str();
    // A second context of the administrator's own kubeconfig.
    let token = cluster.kubectl_run(&["-n", name, "create", "token", "reader"]).await;
    let raw = cluster.kubectl_run(&["config", "view", "--raw", "-o", "json"]).await;
    let mut config: Value = serde_json::from_str(&raw).expect("JSON");
    let of = config["contexts"][0]["context"]["cluster"].clone();
    config["users"]
        .as_array_mut()
        .expect("users")
        .push(json!({ "name": "reader", "user": { "token": token.trim() } }));
    let context = json!({ "name": "reader", "context": { "cluster": of, "user": "reader" } });
    config["contexts"].as_array_mut().expect("contexts").push(context);
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("config");
    std::fs::write(&path, config.to_string()).expect("written");

    let output = check(&path, &["--context=reader"]).await;
    says(
        &output,
        1,
        &[
            "nothing can be said of the cluster",
            "does not let us list ingressclasses in the cluster: 403",
            r#"give a ClusterRole of whoever asks the rule { apiGroups: ["networking.k8s.io"], resources: ["ingresses"], verbs: ["list"] }"#,
            r#"apiGroups: [""], resources: ["services"]"#,
            r#"apiGroups: ["discovery.k8s.io"], resources: ["endpointslices"]"#,
        ],
    );
    let output = check(&path, &["--context=reader", &format!("--watch-namespace={name}")]).await;
    says(
        &output,
        3,
        &[
            "IngressClasses may not be read",
            &format!("does not let us get secrets in namespace {name}: 403"),
            &format!("what {name}/nobody, {name}/users would say is not judged"),
            &format!(
                r#"give a Role in namespace {name} of whoever asks the rule {{ apiGroups: [""], resources: ["secrets"], verbs: ["get"] }}"#
            ),
            // That Service is missing for certain.
            &format!("there is no Service {name}/gone"),
            "honoured         nginx.ingress.kubernetes.io/auth-secret\n",
        ],
    );
    assert!(!text(&output).contains("no Secret"), "{}", text(&output));
    let output = check(&path, &["--context=elsewhere"]).await;
    says(&output, 1, &["elsewhere", "--context"]);
}

#[tokio::test]
async fn pages_are_gone_through_and_nothing_but_asked() {
    let cluster = ApiServer::start().await;
    cluster.put(ingress_class());
    for name in ["a", "b", "c", "d", "e"] {
        cluster.put(service(name));
        cluster.put(slice(name, "10.0.0.1:80".parse().expect("an address")));
        let mut ingress = ingress(name, &format!("{name}.example"), name);
        ingress["spec"]["tls"] =
            json!([{ "hosts": [format!("{name}.example")], "secretName": name }]);
        cluster.put(ingress);
    }
    let data = base64::engine::general_purpose::STANDARD.encode("no certificate");
    cluster.put(json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "a", "namespace": "shop" },
        "data": { "tls.crt": data, "tls.key": data },
    }));
    cluster.put(json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "nginx", "namespace": "shop" },
        "data": { "proxy-body-size": "2m", "no-such-key": "x" },
    }));
    cluster.page(2);
    let output = check(&cluster.kubeconfig(), &["--configmap=shop/nginx"]).await;
    says(
        &output,
        3,
        &[
            "5 Ingresses: 5 not honoured in all\n",
            "spec.tls[0].secretName: the certificate 'a' cannot be used",
            "spec.tls[0].secretName: there is no Secret shop/e",
            "no-such-key",
            "--> ConfigMap shop/nginx",
        ],
    );
    let asked = cluster.asked();
    assert!(asked.iter().all(|(method, _)| method == "GET"), "{asked:?}");
    let has = |part: &str| asked.iter().filter(|(_, target)| target.contains(part)).count();
    assert_eq!(has("/ingresses?"), 3, "pages of two: {asked:?}");
    assert_eq!(has("watch"), 0, "{asked:?}");
    let secrets: Vec<_> = asked.iter().filter(|(_, to)| to.contains("secret")).collect();
    assert!(secrets.iter().all(|(_, to)| to.contains("/namespaces/shop/secrets/")), "{asked:?}");
    assert_eq!(secrets.len(), 5, "{asked:?}");
}

#[tokio::test]
async fn a_server_that_is_away_is_said_at_once_with_what_to_do() {
    let cluster = ApiServer::start().await;
    cluster.go_away();
    let kubeconfig = cluster.kubeconfig();
    let output = within(STEP, "it gives up", check(&kubeconfig, &[])).await;
    says(&output, 1, &["the cluster cannot be read", "no answer", "--kubeconfig", "--context"]);
    cluster.come_back();
    cluster.take_token("another");
    let output = within(STEP, "it gives up", check(&kubeconfig, &[])).await;
    says(&output, 1, &["401", "--kubeconfig"]);
    let output = check(Path::new("/nonexistent/config"), &[]).await;
    says(&output, 1, &["/nonexistent/config", "--kubeconfig"]);
}
