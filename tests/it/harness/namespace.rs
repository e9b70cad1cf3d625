//! A namespace of one test: objects are applied to it as YAML and waited for.

use std::fmt::Debug;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::{self as core, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{
    DeleteParams, DynamicObject, ListParams, LogParams, Patch, PatchParams, PostParams,
};
use kube::core::NamespaceResourceScope;
use kube::discovery::{Scope, pinned_kind};
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;

use super::{Cluster, eventually};

/// How long anything in a cluster may take: controllers that lost the API server come back at
/// their own pace, and the machine has other tests to run.
const SETTLE: Duration = Duration::from_secs(90);

/// A namespace; deleted when dropped, with all in it. When the test failed, what is in it is
/// printed before.
pub struct Namespace<'a> {
    cluster: &'a Cluster,
    client: kube::Client,
    /// Its name.
    pub name: String,
}

impl<'a> Namespace<'a> {
    /// Makes it, and waits until pods can be made in it.
    pub async fn create(cluster: &'a Cluster, name: String) -> Self {
        let client = cluster.client().await;
        let mut object = core::Namespace::default();
        object.metadata.name = Some(name.clone());
        let namespaces: Api<core::Namespace> = Api::all(client.clone());
        namespaces.create(&PostParams::default(), &object).await.expect("a new namespace");
        let made = Self { cluster, client, name };
        let accounts: Api<core::ServiceAccount> = made.api();
        eventually(SETTLE, "the namespace has its account", async || {
            accounts.get_opt("default").await.expect("an answer").is_some()
        })
        .await;
        made
    }

    /// The cluster it is in.
    pub fn cluster(&self) -> &'a Cluster {
        self.cluster
    }

    /// A client of the API server, as an administrator.
    pub fn client(&self) -> kube::Client {
        self.client.clone()
    }

    /// A client of the API server with the rights of a service account in it.
    pub async fn client_of(&self, account: &str) -> kube::Client {
        let accounts: Api<core::ServiceAccount> = self.api();
        let request = TokenRequest::default();
        let made = accounts.create_token_request(account, &PostParams::default(), &request).await;
        let token = made.expect("a token").status.expect("an answer").token;
        self.cluster.client_with(&token).await
    }

    /// Objects of a kind in it.
    pub fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), &self.name)
    }

    /// Applies every document of `yaml`, in which `@namespace@` stands for the name. Objects of
    /// namespaced kinds go into this namespace.
    pub async fn apply(&self, yaml: &str) {
        for document in documents(&yaml.replace("@namespace@", &self.name)) {
            self.apply_one(document).await.unwrap_or_else(|error| panic!("{error}"));
        }
    }

    /// Applies one document and returns what the API server made of it.
    pub async fn apply_one(&self, document: DynamicObject) -> Result<DynamicObject, kube::Error> {
        let types = document.types.clone().expect("apiVersion and kind");
        let kind = kube::core::GroupVersionKind::try_from(&types).expect("a group and version");
        let (resource, capabilities) = pinned_kind(&self.client, &kind).await?;
        let api: Api<DynamicObject> = match capabilities.scope {
            Scope::Cluster => Api::all_with(self.client.clone(), &resource),
            Scope::Namespaced => Api::namespaced_with(self.client.clone(), &self.name, &resource),
        };
        let parameters = PatchParams::apply("portcullis-test").force();
        api.patch(&document.name_any(), &parameters, &Patch::Apply(&document)).await
    }

    /// Waits until the object is there and satisfies `check`, and returns it.
    pub async fn wait<K>(&self, name: &str, what: &str, check: impl Fn(&K) -> bool) -> K
    where
        K: Resource<Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
        K::DynamicType: Default,
    {
        let api: Api<K> = self.api();
        let mut found = None;
        eventually(SETTLE, &format!("{name}: {what}"), async || {
            // The server may be away for a while, in tests that see to that.
            found = api.get_opt(name).await.ok().flatten().filter(&check);
            found.is_some()
        })
        .await;
        found.expect("set when the wait ended")
    }

    /// Waits until all pods of a Deployment's last version are ready and no others are left.
    pub async fn rolled_out(&self, name: &str) {
        self.wait::<Deployment>(name, "rolled out", |deployment| {
            let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
            let Some(status) = &deployment.status else { return false };
            status.observed_generation == deployment.metadata.generation
                && status.replicas.unwrap_or(0) == wanted
                && status.updated_replicas.unwrap_or(0) == wanted
                && status.available_replicas.unwrap_or(0) == wanted
        })
        .await;
    }

    /// Waits until exactly `count` endpoints of a Service are ready, and returns their addresses.
    pub async fn ready_endpoints(&self, service: &str, count: usize) -> Vec<String> {
        let slices: Api<EndpointSlice> = self.api();
        let of = ListParams::default().labels(&format!("kubernetes.io/service-name={service}"));
        let mut ready = Vec::new();
        eventually(SETTLE, &format!("{count} ready endpoints of {service}"), async || {
            let Ok(list) = slices.list(&of).await else { return false };
            let endpoints = list.items.into_iter().flat_map(|slice| slice.endpoints);
            let is_ready = |endpoint: &k8s_openapi::api::discovery::v1::Endpoint| {
                endpoint.conditions.as_ref().and_then(|c| c.ready).unwrap_or(true)
            };
            ready = endpoints.filter(is_ready).flat_map(|endpoint| endpoint.addresses).collect();
            ready.len() == count
        })
        .await;
        ready.sort();
        ready
    }

    /// The ClusterIP of a Service with the number of its first port.
    pub async fn cluster_ip(&self, service: &str) -> SocketAddr {
        let service = self.wait::<Service>(service, "has an address", |_| true).await;
        let spec = service.spec.expect("a spec");
        let address = spec.cluster_ip.expect("an address").parse::<IpAddr>();
        address_of(address.expect("no headless Service"), spec.ports)
    }

    /// The address that the load balancer gave to a Service, with the number of its first port.
    pub async fn balanced(&self, service: &str) -> SocketAddr {
        let service = self.wait(service, "a load balancer's address", has_balancer).await;
        let address = balancer(&service).and_then(|ip| ip.parse().ok()).expect("waited for");
        address_of(address, service.spec.expect("a spec").ports)
    }

    /// The pods with these labels.
    pub async fn pods(&self, labels: &str) -> Vec<Pod> {
        let pods: Api<Pod> = self.api();
        pods.list(&ListParams::default().labels(labels)).await.expect("a list").items
    }

    /// What a pod's first container has written, once that satisfies `check`.
    pub async fn pod_log(&self, pod: &str, what: &str, check: impl Fn(&str) -> bool) -> String {
        let pods: Api<Pod> = self.api();
        let mut log = String::new();
        eventually(SETTLE, &format!("{pod}: {what} in its log"), async || {
            log = pods.logs(pod, &LogParams::default()).await.unwrap_or_default();
            check(&log)
        })
        .await;
        log
    }

    /// Deletes an object.
    pub async fn delete<K>(&self, name: &str)
    where
        K: Resource<Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
        K::DynamicType: Default,
    {
        let api: Api<K> = self.api();
        api.delete(name, &DeleteParams::default()).await.expect("deleted");
    }

    /// Waits until there is no such object.
    pub async fn absent<K>(&self, name: &str)
    where
        K: Resource<Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
        K::DynamicType: Default,
    {
        let api: Api<K> = self.api();
        eventually(SETTLE, &format!("{name} is gone"), async || {
            matches!(api.get_opt(name).await, Ok(None))
        })
        .await;
    }
}

impl Drop for Namespace<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let mut command = self.cluster.kubectl();
            command.args(["get", "pods,services,ingresses,events", "-o", "wide", "-n", &self.name]);
            if let Ok(output) = command.output() {
                let text = String::from_utf8_lossy(&output.stdout);
                eprintln!("--- namespace {} ---\n{text}---", self.name);
            }
        }
        let mut command = self.cluster.kubectl();
        command.args(["delete", "namespace", &self.name, "--wait=false", "--request-timeout=5s"]);
        let _ = command.output();
    }
}

/// The documents of a YAML stream.
fn documents(yaml: &str) -> Vec<DynamicObject> {
    serde_saphyr::from_multiple(yaml).unwrap_or_else(|error| panic!("{error}\nin {yaml}"))
}

fn balancer(service: &Service) -> Option<&str> {
    let balancer = service.status.as_ref()?.load_balancer.as_ref()?;
    balancer.ingress.as_ref()?.first()?.ip.as_deref()
}

fn has_balancer(service: &Service) -> bool {
    balancer(service).is_some()
}

fn address_of(address: IpAddr, ports: Option<Vec<core::ServicePort>>) -> SocketAddr {
    let port = ports.and_then(|ports| ports.first().map(|port| port.port));
    let port = port.and_then(|port| u16::try_from(port).ok()).expect("a port");
    SocketAddr::new(address, port)
}
