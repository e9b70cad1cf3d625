//! Portcullis as a pod by the shipped manifest, in a namespace of one test and under names of its
//! own, so that several share a cluster and none serves what another asks for.

use std::net::SocketAddr;

use super::{Cluster, Metrics, Namespace};

const MANIFEST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/kubernetes/portcullis.yaml");

/// A controller of its own. Its IngressClass has the name of the namespace.
pub struct Controller<'a> {
    space: &'a Namespace<'a>,
    /// Where its Service is reached: plain HTTP.
    pub http: SocketAddr,
    /// The same for HTTPS.
    pub https: SocketAddr,
}

impl<'a> Controller<'a> {
    /// Applies the manifest, and waits until all replicas are ready.
    pub async fn start(space: &'a Namespace<'a>) -> Self {
        let text = std::fs::read_to_string(MANIFEST).expect("the manifest");
        Self::started(space, renamed(&text, &space.name)).await
    }

    /// The same with a single replica, which counts all requests, with a ConfigMap, with the files of
    /// a second one as configuration, and with TLS that may pass through.
    pub async fn start_one(space: &'a Namespace<'a>, config_map: &str, files: &str) -> Self {
        let text = std::fs::read_to_string(MANIFEST).expect("the manifest");
        let mut text = renamed(&text, &space.name);
        let name = &space.name;
        let arguments = format!(
            "--configmap={name}/{config_map}, --config=/etc/portcullis, --enable-ssl-passthrough"
        );
        for (from, to) in [
            ("replicas: 2", "replicas: 1".to_owned()),
            ("--kubernetes,", format!("--kubernetes, {arguments},")),
            (
                "          ports:\n",
                "          volumeMounts: [ { name: files, mountPath: /etc/portcullis } ]\n          ports:\n".to_owned(),
            ),
            (
                "      containers:\n",
                format!("      volumes: [ {{ name: files, configMap: {{ name: {files} }} }} ]\n      containers:\n"),
            ),
        ] {
            assert!(text.contains(from), "the manifest does not say {from}");
            text = text.replace(from, &to);
        }
        Self::started(space, text).await
    }

    async fn started(space: &'a Namespace<'a>, manifest: String) -> Self {
        space.apply(&manifest).await;
        space.rolled_out("portcullis").await;
        let http = space.balanced("portcullis").await;
        Self { space, http, https: SocketAddr::new(http.ip(), 443) }
    }

    /// The cluster it is in.
    pub fn cluster(&self) -> &'a Cluster {
        self.space.cluster()
    }

    /// Where plain HTTP of each replica is reached past the Service, once there are two.
    pub async fn replicas(&self) -> Vec<SocketAddr> {
        let ready = self.space.ready_endpoints("portcullis", 2).await;
        let address = |ip: &String| SocketAddr::new(ip.parse().expect("an address"), 8080);
        ready.iter().map(address).collect()
    }

    /// The metrics of a replica.
    pub async fn metrics(&self, replica: SocketAddr) -> Metrics {
        let admin = SocketAddr::new(replica.ip(), 9900);
        let page = self.space.cluster().get(admin, "portcullis", "/metrics").await;
        Metrics::parse(&page.text())
    }
}

/// The manifest with other names where they belong to the whole cluster.
fn renamed(manifest: &str, name: &str) -> String {
    let mut text = manifest.to_owned();
    for (from, to) in [
        ("namespace: portcullis", format!("namespace: {name}")),
        ("metadata: { name: portcullis }", format!("metadata: {{ name: {name} }}")),
        ("kind: ClusterRole, name: portcullis }", format!("kind: ClusterRole, name: {name} }}")),
        ("controller: portcullis.dev/ingress-controller", format!("controller: test.dev/{name}")),
        ("--kubernetes,", format!("--kubernetes, --controller-class=test.dev/{name},")),
    ] {
        assert!(text.contains(from), "the manifest does not say {from}");
        text = text.replace(from, &to);
    }
    text
}
