//! The proxy's own addresses, for the statuses of Ingresses; and who else serves.

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Service;
use serde_json::{Value, json};

use super::Context;
use super::api::Fault;
use super::kind::Kind;

/// Labels that tell the pods of one version from those of another.
const REVISIONS: [&str; 3] =
    ["pod-template-hash", "controller-revision-hash", "pod-template-generation"];
/// What labels begin with that the API server gives a pod after the node it runs on.
const PLACES: &str = "topology.kubernetes.io/";

/// Finds out what is to be published.
pub struct Publish {
    context: Arc<Context>,
    /// Whether a failure was told of.
    told: bool,
}

impl Publish {
    /// As the options say.
    pub fn new(context: Arc<Context>) -> Self {
        Self { context, told: false }
    }

    /// Whether anything is to be published at all.
    pub fn is_wanted(&self) -> bool {
        let options = &self.context.options;
        options.publish_service.is_some()
            || !options.publish_addresses.is_empty()
            || options.publish_nodes
    }

    /// What `status.loadBalancer.ingress` is to say; `None` where that cannot be known now.
    pub async fn addresses(&mut self) -> Option<Vec<Value>> {
        match self.find().await {
            Ok(addresses) => {
                self.told = false;
                Some(addresses)
            }
            Err(fault) => {
                if !std::mem::replace(&mut self.told, true) {
                    tracing::warn!("the addresses for statuses cannot be found out: {fault}");
                }
                None
            }
        }
    }

    async fn find(&self) -> Result<Vec<Value>, Fault> {
        let options = &self.context.options;
        if let Some(key) = &options.publish_service {
            let service = self.context.api.get::<Service>(&Kind::Service.path_of(key)).await?;
            return Ok(of_service(&service));
        }
        let mut all = options.publish_addresses.clone();
        if let Some(pod) = options.pod.as_deref().filter(|_| options.publish_nodes) {
            let replicas = self.replicas(pod).await?;
            let nodes: BTreeSet<&str> =
                replicas.iter().filter_map(|pod| field(pod, "/spec/nodeName")).collect();
            for node in nodes {
                let node = self.context.api.get::<Value>(&format!("/api/v1/nodes/{node}")).await?;
                all.extend(of_node(&node));
            }
        }
        Ok(entries(all.iter().map(String::as_str)))
    }

    /// Whether a pod like this one serves beside it. Where that cannot be found out it is taken for
    /// so: another's addresses must not be taken away.
    pub async fn others_serve(&self) -> bool {
        let Some(pod) = &self.context.options.pod else { return false };
        match self.others(pod).await {
            Ok(others) => others,
            Err(fault) => {
                tracing::info!("whether other replicas serve is not known, statuses stay: {fault}");
                true
            }
        }
    }

    async fn others(&self, pod: &str) -> Result<bool, Fault> {
        let replicas = self.replicas(pod).await?;
        Ok(replicas.iter().any(|other| field(other, "/metadata/name") != Some(pod)))
    }

    /// The pods that run with the labels of `pod`, whatever their version, and are to stay; `pod`
    /// among them.
    async fn replicas(&self, pod: &str) -> Result<Vec<Value>, Fault> {
        let namespace = &self.context.options.namespace;
        let pods = format!("/api/v1/namespaces/{namespace}/pods");
        let own = self.context.api.get::<Value>(&format!("{pods}/{pod}")).await?;
        let Some(selector) = selector(&own) else {
            let message = format!("pod {pod} has no labels by which to find others like it");
            return Err(Fault::Malformed(message));
        };
        let query = label_query(&selector);
        let listed = self.context.api.get::<Value>(&format!("{pods}?{query}")).await?;
        let items = listed.get("items").and_then(Value::as_array).into_iter().flatten();
        let stays = |item: &&Value| {
            field(item, "/metadata/deletionTimestamp").is_none()
                && field(item, "/status/phase") == Some("Running")
        };
        Ok(items.filter(stays).cloned().collect())
    }
}

/// What the labels of pods like this one are, whatever their version and wherever they run; `None`
/// where it has no such labels.
fn selector(pod: &Value) -> Option<String> {
    let labels = pod.pointer("/metadata/labels").and_then(Value::as_object)?;
    let lasting = |name: &str| !REVISIONS.contains(&name) && !name.starts_with(PLACES);
    let labels = labels.iter().filter(|(name, _)| lasting(name));
    let labels = labels.filter_map(|(name, value)| Some(format!("{name}={}", value.as_str()?)));
    let labels: Vec<String> = labels.collect();
    (!labels.is_empty()).then(|| labels.join(","))
}

fn label_query(selector: &str) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.append_pair("labelSelector", selector).finish()
}

fn field<'v>(object: &'v Value, path: &str) -> Option<&'v str> {
    object.pointer(path).and_then(Value::as_str)
}

/// The addresses of a node by which the world reaches it, else those by which its neighbours do.
fn of_node(node: &Value) -> Vec<String> {
    let all = node.pointer("/status/addresses").and_then(Value::as_array);
    let of = |kind: &str| {
        let all = all.into_iter().flatten().filter(|one| field(one, "/type") == Some(kind));
        all.filter_map(|one| field(one, "/address").map(str::to_owned)).collect::<Vec<_>>()
    };
    let external = of("ExternalIP");
    if external.is_empty() { of("InternalIP") } else { external }
}

/// The addresses of a Service: those its load balancer gave it, else those it was given by hand.
fn of_service(service: &Service) -> Vec<Value> {
    let status = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let given = status.and_then(|status| status.ingress.as_ref()).into_iter().flatten();
    let given = given.flat_map(|one| [one.ip.as_deref(), one.hostname.as_deref()]).flatten();
    let spec = service.spec.as_ref();
    let external = spec.and_then(|spec| spec.external_ips.as_ref()).into_iter().flatten();
    let mut all: Vec<&str> = given.chain(external.map(String::as_str)).collect();
    if all.is_empty()
        && let Some(spec) = spec
    {
        match spec.type_.as_deref() {
            Some("ExternalName") => all.extend(spec.external_name.as_deref()),
            Some("LoadBalancer") => {}
            // Reachable inside the cluster, which is what such a Service is for.
            _ => all.extend(spec.cluster_ip.as_deref().filter(|ip| !matches!(*ip, "" | "None"))),
        }
    }
    entries(all.into_iter())
}

/// Each address once, in an order of its own so that equal sets are equal.
fn entries<'a>(addresses: impl Iterator<Item = &'a str>) -> Vec<Value> {
    let all: BTreeSet<&str> = addresses.map(str::trim).filter(|text| !text.is_empty()).collect();
    let entry = |text: &str| match text.parse::<std::net::IpAddr>() {
        Ok(ip) => json!({ "ip": ip.to_string() }),
        Err(_) => json!({ "hostname": text }),
    };
    all.into_iter().map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(service: Value) -> String {
        Value::from(of_service(&serde_json::from_value(service).unwrap())).to_string()
    }

    #[test]
    fn replicas_are_alike_in_other_versions_and_zones() {
        let of = |labels: Value| selector(&json!({ "metadata": { "labels": labels } }));
        let pod = json!({
            "app": "portcullis",
            "tier": "edge",
            "pod-template-hash": "1",
            "topology.kubernetes.io/region": "here",
            "topology.kubernetes.io/zone": "zone-a",
        });
        assert_eq!(of(pod).as_deref(), Some("app=portcullis,tier=edge"));
        assert_eq!(of(json!({ "pod-template-hash": "1" })), None);
        assert_eq!(selector(&json!({})), None);
    }

    #[test]
    fn the_addresses_of_a_node() {
        let inside = json!({ "type": "InternalIP", "address": "10.0.0.1" });
        let outside = json!({ "type": "ExternalIP", "address": "192.0.2.1" });
        let node = |all: Value| json!({ "status": { "addresses": all } });
        assert_eq!(of_node(&node(json!([inside, outside]))), ["192.0.2.1"]);
        assert_eq!(of_node(&node(json!([inside]))), ["10.0.0.1"]);
        assert!(of_node(&json!({})).is_empty());
    }

    #[test]
    fn the_addresses_of_a_service() {
        let balancer = json!({ "loadBalancer": { "ingress": [
            { "ip": "192.0.2.9" }, { "hostname": "lb.example.com" }, { "ip": "192.0.2.1" },
        ] } });
        let said = addresses(json!({
            "spec": { "type": "LoadBalancer", "externalIPs": ["198.51.100.1"] }, "status": balancer,
        }));
        let expected = r#"[{"ip":"192.0.2.1"},{"ip":"192.0.2.9"},{"ip":"198.51.100.1"},{"hostname":"lb.example.com"}]"#;
        assert_eq!(said, expected);
        let none = json!({ "spec": { "type": "LoadBalancer", "clusterIP": "10.0.0.1" } });
        assert_eq!(addresses(none), "[]", "it is still to come");
        let inside = json!({ "spec": { "type": "ClusterIP", "clusterIP": "10.0.0.1" } });
        assert_eq!(addresses(inside), r#"[{"ip":"10.0.0.1"}]"#);
        assert_eq!(addresses(json!({ "spec": { "clusterIP": "None" } })), "[]");
    }
}
