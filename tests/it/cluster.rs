//! The test cluster itself: what later tests take for granted of it.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::AsyncReadExt;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::api::LogParams;
use kube::{Api, ResourceExt};

use crate::harness::*;

/// Two echo back ends behind a Service that has a load balancer's address.
const ECHO: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: { name: echo }
spec:
  replicas: 2
  selector: { matchLabels: { app: echo } }
  template:
    metadata: { labels: { app: echo } }
    spec:
      terminationGracePeriodSeconds: 5
      containers:
        - name: echo
          image: echo:1
          env:
            - { name: POD_NAME, valueFrom: { fieldRef: { fieldPath: metadata.name } } }
            - { name: NAMESPACE, valueFrom: { fieldRef: { fieldPath: metadata.namespace } } }
          ports: [ { name: http, containerPort: 8080 } ]
          readinessProbe: { httpGet: { path: /readyz, port: http }, periodSeconds: 1, failureThreshold: 1 }
          livenessProbe: { httpGet: { path: /livez, port: http }, periodSeconds: 1, failureThreshold: 3 }
---
apiVersion: v1
kind: Service
metadata: { name: echo }
spec:
  type: LoadBalancer
  selector: { app: echo }
  ports: [ { name: web, port: 80, targetPort: http } ]
"#;

/// Which pods answer at `address`, out of so many requests.
async fn answering(
    space: &Namespace<'_>,
    address: SocketAddr,
    requests: usize,
) -> BTreeSet<String> {
    let mut pods = BTreeSet::new();
    for _ in 0..requests {
        let response = space.cluster().get(address, "echo.example", "/who?x=1").await;
        assert_eq!(response.status, 200, "{response}");
        let seen = response.json();
        assert_eq!(seen["path"], "/who?x=1");
        assert_eq!(seen["namespace"], space.name.as_str());
        pods.insert(seen["pod"].as_str().expect("a name").to_owned());
    }
    pods
}

/// Waits until exactly these pods answer at `address`.
async fn only(space: &Namespace<'_>, address: SocketAddr, wanted: &BTreeSet<String>) {
    eventually(STEP, "only the endpoints that are ready answer", async || {
        &answering(space, address, 6).await == wanted
    })
    .await;
}

#[tokio::test]
async fn pods_answer_at_the_addresses_of_their_service() {
    let cluster = Cluster::shared().await;
    assert!(cluster.start_millis() < 60_000, "{} ms", cluster.start_millis());
    let space = cluster.namespace("addresses").await;
    space.apply(ECHO).await;
    space.rolled_out("echo").await;
    let endpoints = space.ready_endpoints("echo", 2).await;
    let pods = space.pods("app=echo").await;
    let names: BTreeSet<_> = pods.iter().map(ResourceExt::name_any).collect();
    let node = |pod: &Pod| pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
    let nodes: BTreeSet<_> = pods.iter().filter_map(node).collect();
    assert_eq!(nodes.len(), 2, "one of each zone: {nodes:?}");
    for pod in &pods {
        let status = pod.status.as_ref().expect("a status");
        assert!(endpoints.contains(status.pod_ip.as_ref().expect("an address")), "{status:?}");
    }
    for address in [space.cluster_ip("echo").await, space.balanced("echo").await] {
        only(&space, address, &names).await;
    }
    // A client outside finds the way as well.
    let here = cluster.forward(space.balanced("echo").await).await;
    assert_eq!(get(here, "echo.example", "/").await.status, 200);

    let first = pods[0].name_any();
    space.delete::<Pod>(&first).await;
    space.absent::<Pod>(&first).await;
    space.rolled_out("echo").await;
    space.ready_endpoints("echo", 2).await;
    let names: BTreeSet<_> = space.pods("app=echo").await.iter().map(|p| p.name_any()).collect();
    assert!(!names.contains(&first), "{names:?}");
    only(&space, space.balanced("echo").await, &names).await;
}

#[tokio::test]
async fn probes_decide_who_is_ready_and_who_is_started_again() {
    let cluster = Cluster::shared().await;
    let space = cluster.namespace("probes").await;
    space.apply(ECHO).await;
    space.rolled_out("echo").await;
    let pods = space.pods("app=echo").await;
    let [first, second] = &pods[..] else { panic!("two pods: {pods:?}") };
    let ip = first.status.as_ref().and_then(|status| status.pod_ip.as_ref()).expect("an address");
    let address: SocketAddr = format!("{ip}:8080").parse().expect("an address");
    let tell = async |query: &str| {
        let mut client = cluster.connect(address).await;
        let head =
            format!("POST /control?{query} HTTP/1.1\r\nHost: c\r\nContent-Length: 0\r\n\r\n");
        client.send(head).await;
        assert_eq!(client.response().await.status, 200);
    };
    tell("ready=false").await;
    space.ready_endpoints("echo", 1).await;
    only(&space, space.balanced("echo").await, &BTreeSet::from([second.name_any()])).await;
    tell("ready=true").await;
    space.ready_endpoints("echo", 2).await;
    tell("live=false").await;
    space
        .wait::<Pod>(&first.name_any(), "started again and ready", |pod| {
            let containers = pod.status.as_ref().and_then(|s| s.container_statuses.as_ref());
            containers.is_some_and(|list| list.iter().all(|c| c.restart_count == 1 && c.ready))
        })
        .await;
}

#[tokio::test]
async fn secrets_are_files_that_follow_changes() {
    let cluster = Cluster::shared().await;
    let space = cluster.namespace("secrets").await;
    let secret = |word: &str| {
        format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{ name: words }}\nstringData: {{ word: {word} }}\n"
        )
    };
    space.apply(&secret("before")).await;
    space
        .apply(
            r#"
apiVersion: v1
kind: Pod
metadata: { name: reader, labels: { tier: "front" } }
spec:
  terminationGracePeriodSeconds: 1
  containers:
    - name: reader
      image: busybox
      command: [ sh, -c ]
      args: [ "while :; do echo $(cat /var/run/words/word) $(WORD) $(WHERE) $(id -u); sleep 0.1; done" ]
      securityContext: { runAsUser: 65532 }
      env:
        - { name: WORD, valueFrom: { secretKeyRef: { name: words, key: word } } }
        - { name: WHERE, valueFrom: { fieldRef: { fieldPath: "metadata.labels['tier']" } } }
      volumeMounts: [ { name: words, mountPath: /var/run/words } ]
  volumes: [ { name: words, secret: { secretName: words } } ]
"#,
        )
        .await;
    space.pod_log("reader", "the secret", |log| log.contains("before before front 65532")).await;
    space.apply(&secret("after")).await;
    space.pod_log("reader", "the change", |log| log.contains("after before front 65532")).await;
    space.delete::<Secret>("words").await;
    assert!(!std::path::Path::new("/run/words").exists(), "mounted in the pod alone");
}

#[tokio::test]
async fn a_deleted_pod_is_told_and_given_its_time() {
    let cluster = Cluster::shared().await;
    let space = cluster.namespace("grace").await;
    space
        .apply(
            r#"
apiVersion: v1
kind: Pod
metadata: { name: slow }
spec:
  terminationGracePeriodSeconds: 15
  containers:
    - name: slow
      image: busybox
      args: [ -c, "trap 'echo told; sleep 0.3; echo goodbye; exit 0' TERM; echo up; while :; do sleep 0.05; done" ]
      lifecycle: { preStop: { exec: { command: [ sh, -c, "echo hooked > /proc/1/fd/1" ] } } }
"#,
        )
        .await;
    space.pod_log("slow", "a sign of life", |log| log.contains("up")).await;
    let follow = LogParams { follow: true, ..LogParams::default() };
    let stream = space.api::<Pod>().log_stream("slow", &follow).await.expect("the log is served");
    space.delete::<Pod>("slow").await;
    let mut log = String::new();
    let mut stream = std::pin::pin!(stream);
    within(STEP, "the log ends", stream.read_to_string(&mut log)).await.expect("whole");
    assert_eq!(log, "up\nhooked\ntold\ngoodbye\n");
    space.absent::<Pod>("slow").await;
}

#[tokio::test]
async fn a_pod_has_the_rights_of_its_account_and_no_more() {
    let cluster = Cluster::shared().await;
    let space = cluster.namespace("rights").await;
    space
        .apply(
            r#"
apiVersion: v1
kind: Pod
metadata: { name: caller }
spec:
  terminationGracePeriodSeconds: 1
  containers:
    - name: caller
      image: busybox
      args:
        - -c
        - >-
          cd /var/run/secrets/kubernetes.io/serviceaccount;
          while :; do
          curl -s --cacert ca.crt -H "Authorization: Bearer $(cat token)" -o /tmp/out -w 'said %{http_code}\n'
          https://$KUBERNETES_SERVICE_HOST/api/v1/namespaces/$(cat namespace)/pods; sleep 0.1;
          done
"#,
        )
        .await;
    space.pod_log("caller", "a refusal", |log| log.contains("said 403")).await;
    let client = space.client_of("default").await;
    let pods = Api::<Pod>::namespaced(client, &space.name);
    let refused = pods.get("caller").await.expect_err("nothing is granted");
    assert!(matches!(&refused, kube::Error::Api(status) if status.code == 403), "{refused}");
    space
        .apply(
            r#"
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: { name: viewers }
roleRef: { apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: view }
subjects: [ { kind: ServiceAccount, name: default, namespace: "@namespace@" } ]
"#,
        )
        .await;
    space.pod_log("caller", "an answer", |log| log.contains("said 200")).await;
    assert_eq!(pods.get("caller").await.expect("now it may").name_any(), "caller");
}

#[tokio::test]
async fn pods_find_services_by_name() {
    let cluster = Cluster::shared().await;
    let space = cluster.namespace("names").await;
    space.apply(ECHO).await;
    space
        .apply(
            r#"
apiVersion: v1
kind: Service
metadata: { name: bare }
spec: { clusterIP: None, selector: { app: echo }, ports: [ { port: 80 } ] }
---
apiVersion: v1
kind: Service
metadata: { name: alias }
spec: { type: ExternalName, externalName: echo.@namespace@.svc.cluster.local }
---
apiVersion: v1
kind: Pod
metadata: { name: asker }
spec:
  terminationGracePeriodSeconds: 1
  containers:
    - name: asker
      image: busybox
      args:
        - -c
        - >-
          while :; do
          for name in echo bare alias missing; do
          echo $name=$(getent ahostsv4 $name | grep STREAM | cut -d' ' -f1 | sort);
          done;
          sleep 0.2; done
"#,
        )
        .await;
    let endpoints = space.ready_endpoints("echo", 2).await.join(" ");
    let service = space.cluster_ip("echo").await.ip();
    let wanted = [
        format!("echo={service}\n"),
        format!("bare={endpoints}\n"),
        format!("alias={service}\n"),
        "missing=\n".to_owned(),
    ];
    space.pod_log("asker", "every name", |log| wanted.iter().all(|line| log.contains(line))).await;
}

#[tokio::test]
async fn portcullis_runs_as_a_restricted_pod() {
    let cluster = Cluster::shared().await;
    let space = cluster.namespace("proxy").await;
    space.apply(ECHO).await;
    let echo = space.cluster_ip("echo").await;
    let config = format!(
        "{{ portcullis.yaml: '{{ listeners: {{ web: {{ bind: \"0.0.0.0:80\" }} }}, \
         admin: {{ bind: \"0.0.0.0:9900\" }}, \
         hosts: {{ \"*\": {{ routes: [ {{ name: all, path: /, upstream: echo }} ] }} }}, \
         upstreams: {{ echo: {{ endpoints: [\"{echo}\"] }} }} }}' }}"
    );
    space
        .apply(&format!(
            r#"
apiVersion: v1
kind: ConfigMap
metadata: {{ name: portcullis }}
data: {config}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{ name: portcullis }}
spec:
  selector: {{ matchLabels: {{ app: portcullis }} }}
  template:
    metadata: {{ labels: {{ app: portcullis }} }}
    spec:
      terminationGracePeriodSeconds: 5
      securityContext: {{ runAsNonRoot: true }}
      containers:
        - name: portcullis
          image: ghcr.io/example/portcullis:v0.1.0
          args: [ run, --config, /etc/portcullis/portcullis.yaml ]
          securityContext:
            readOnlyRootFilesystem: true
            allowPrivilegeEscalation: false
            capabilities: {{ drop: [ ALL ] }}
          ports: [ {{ name: web, containerPort: 80 }}, {{ name: admin, containerPort: 9900 }} ]
          readinessProbe: {{ httpGet: {{ path: /readyz, port: admin }}, periodSeconds: 1 }}
          volumeMounts: [ {{ name: config, mountPath: /etc/portcullis }} ]
      volumes: [ {{ name: config, configMap: {{ name: portcullis }} }} ]
---
apiVersion: v1
kind: Service
metadata: {{ name: portcullis }}
spec:
  type: LoadBalancer
  selector: {{ app: portcullis }}
  ports: [ {{ port: 80, targetPort: web }} ]
"#
        ))
        .await;
    space.rolled_out("echo").await;
    space.rolled_out("portcullis").await;
    space.ready_endpoints("portcullis", 1).await;
    let address = space.balanced("portcullis").await;
    eventually(STEP, "the proxy answers for the back ends", async || {
        let response = cluster.try_get(address, "echo.example", "/through").await;
        response
            .is_some_and(|r| r.status == 200 && r.json()["headers"]["X-Forwarded-For"].is_array())
    })
    .await;
}

#[tokio::test]
async fn a_cluster_outlives_its_server_and_leaves_nothing() {
    let cluster = Cluster::start().await;
    let space = cluster.namespace("outage").await;
    space.apply(ECHO).await;
    space.rolled_out("echo").await;
    space.ready_endpoints("echo", 2).await;
    let address = space.balanced("echo").await;
    eventually(STEP, "the Service answers", async || {
        cluster.try_get(address, "e", "/").await.is_some()
    })
    .await;
    cluster.control("apiserver", "kill", &[]).await;
    assert!(space.client().apiserver_version().await.is_err(), "the server is away");
    eventually(STEP, "both pods are not", async || answering(&space, address, 6).await.len() == 2)
        .await;
    cluster.control("apiserver", "start", &["--goaway-chance=0.01"]).await;
    eventually(Duration::from_secs(60), "the server is back", async || {
        space.client().apiserver_version().await.is_ok()
    })
    .await;
    let pod = space.pods("app=echo").await[0].name_any();
    space.delete::<Pod>(&pod).await;
    space.absent::<Pod>(&pod).await;
    space.ready_endpoints("echo", 2).await;

    let (dir, process) = (cluster.dir().to_owned(), format!("/proc/{}", cluster.first_process()));
    assert!(dir.exists() && std::path::Path::new(&process).exists());
    drop(space);
    drop(cluster);
    assert!(!dir.exists() && !std::path::Path::new(&process).exists());
}
