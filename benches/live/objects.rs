//! What is in the cluster, and how it changes.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::Ingress;
use kube::api::{Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::Failure;

/// The endpoints of a Service.
pub const ENDPOINTS: usize = 4;
/// How many objects are made at once.
const AT_ONCE: usize = 8;
/// The annotation that changes.
const REDIRECT: &str = "nginx.ingress.kubernetes.io/temporal-redirect";
/// The Service whose endpoint becomes ready.
const BACK: &str = "back";

/// Objects in the default namespace.
#[derive(Clone)]
pub struct Objects {
    services: Api<Service>,
    slices: Api<EndpointSlice>,
    ingresses: Api<Ingress>,
}

impl Objects {
    pub async fn new(kubeconfig: &Path) -> Result<Self, Failure> {
        let config = Kubeconfig::read_from(kubeconfig)?;
        let options = KubeConfigOptions::default();
        let config = kube::Config::from_custom_kubeconfig(config, &options).await?;
        let client = Client::try_from(config)?;
        Ok(Self {
            services: Api::namespaced(client.clone(), "default"),
            slices: Api::namespaced(client.clone(), "default"),
            ingresses: Api::namespaced(client, "default"),
        })
    }

    /// Makes `count` Ingresses with a Service and its endpoints each.
    pub async fn fill(&self, count: usize) -> Result<(), Failure> {
        let next = Arc::new(AtomicUsize::new(0));
        let mut tasks = JoinSet::new();
        for _ in 0..AT_ONCE {
            let (objects, next) = (self.clone(), next.clone());
            tasks.spawn(async move {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        return Ok(());
                    }
                    objects.add(number).await?;
                }
            });
        }
        while let Some(done) = tasks.join_next().await {
            let done: Result<(), Failure> = done?;
            done?;
        }
        Ok(())
    }

    async fn add(&self, number: usize) -> Result<(), Failure> {
        let name = format!("s{number}");
        let address = |at: usize| {
            let at = number * ENDPOINTS + at;
            format!("10.{}.{}.{}", 70 + at / 62_500, at / 250 % 250, at % 250 + 1)
        };
        let addresses: Vec<_> = (0..ENDPOINTS).map(address).collect();
        // Without a ClusterIP and a selector: none of it is work for others than the API server.
        create(&self.services, service(&name)).await?;
        create(&self.slices, slice(&name, 8080, &addresses, true)).await?;
        let mut object = ingress(&name, &format!("h{number}.example.com"), &name);
        object["metadata"]["annotations"] = json!({
            "nginx.ingress.kubernetes.io/proxy-body-size": "8m",
            "nginx.ingress.kubernetes.io/proxy-read-timeout": "30",
        });
        create(&self.ingresses, object).await
    }

    /// Makes an Ingress that sends requests for `host` to the endpoint that becomes ready.
    pub async fn create(&self, name: &str, host: &str) -> Result<(), Failure> {
        create(&self.ingresses, ingress(name, host, BACK)).await
    }

    /// Has it redirect to `target`.
    pub async fn redirect_to(&self, name: &str, target: &str) -> Result<(), Failure> {
        let patch = json!({ "metadata": { "annotations": { REDIRECT: target } } });
        self.ingresses.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await?;
        Ok(())
    }

    /// Makes an Ingress for `host` whose Service has one endpoint, which is not ready.
    pub async fn create_back(&self, host: &str, address: SocketAddr) -> Result<(), Failure> {
        create(&self.services, service(BACK)).await?;
        let addresses = [address.ip().to_string()];
        create(&self.slices, slice(BACK, address.port(), &addresses, false)).await?;
        create(&self.ingresses, ingress(BACK, host, BACK)).await
    }

    /// Says whether that endpoint is ready.
    pub async fn set_ready(&self, address: SocketAddr, ready: bool) -> Result<(), Failure> {
        let object = slice(BACK, address.port(), &[address.ip().to_string()], ready);
        let patch = json!({ "endpoints": object["endpoints"] });
        self.slices.patch(BACK, &PatchParams::default(), &Patch::Merge(patch)).await?;
        Ok(())
    }
}

async fn create<K>(api: &Api<K>, object: Value) -> Result<(), Failure>
where
    K: Clone + std::fmt::Debug + DeserializeOwned + Serialize,
{
    api.create(&PostParams::default(), &serde_json::from_value(object)?).await?;
    Ok(())
}

fn service(name: &str) -> Value {
    json!({
        "metadata": { "name": name },
        "spec": { "clusterIP": "None", "ports": [{ "port": 80, "targetPort": 8080 }] },
    })
}

fn slice(service: &str, port: u16, addresses: &[String], ready: bool) -> Value {
    let conditions = json!({ "ready": ready, "serving": ready, "terminating": false });
    let endpoint = |address| json!({ "addresses": [address], "conditions": conditions });
    json!({
        "metadata": { "name": service, "labels": { "kubernetes.io/service-name": service } },
        "addressType": "IPv4",
        "ports": [{ "port": port, "name": "" }],
        "endpoints": addresses.iter().map(endpoint).collect::<Vec<_>>(),
    })
}

fn ingress(name: &str, host: &str, service: &str) -> Value {
    let backend = json!({ "service": { "name": service, "port": { "number": 80 } } });
    let path = json!({ "path": "/", "pathType": "Prefix", "backend": backend });
    json!({
        "metadata": { "name": name },
        "spec": {
            "ingressClassName": "portcullis",
            "rules": [{ "host": host, "http": { "paths": [path] } }],
        },
    })
}
