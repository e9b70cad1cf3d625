//! Ingresses that are ours no more: what we wrote into their statuses goes, and what another
//! controller wrote stays.
//!
//! Who wrote is what the API server says (`managedFields`), not what we remember: so it is known
//! after a restart and by another replica, and it changes hands when somebody else writes.

use std::collections::HashMap;
use std::sync::Arc;

use http::Method;
use k8s_openapi::api::networking::v1 as api;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use serde_json::{Value, json};

use super::api::Fault;
use super::status::published;
use super::{Context, kind::Kind};
use crate::provider::kubernetes::{Ingress, Key};

/// Takes our addresses back.
#[derive(Default)]
pub struct Left {
    /// The version of each that was looked into last: until another comes, nothing is to be done.
    seen: HashMap<Key, Option<Box<str>>>,
}

impl Left {
    /// Clears the statuses among `others` that say `addresses` and were written by us. What fails
    /// is tried again the next time.
    pub async fn clear(
        &mut self,
        context: &Context,
        others: &[(Key, Arc<Ingress>)],
        addresses: &[Value],
    ) {
        if addresses.is_empty() {
            return;
        }
        let mut seen = HashMap::new();
        for (key, ingress) in others.iter().filter(|(_, ingress)| published(ingress) == addresses) {
            let version = ingress.version.clone();
            if self.seen.get(key) != Some(&version) {
                match take_back(context, key, addresses).await {
                    Ok(true) => {
                        context.metrics.kubernetes().status_update("success");
                        tracing::info!("Ingress {key} is another's now: its status is cleared");
                    }
                    Ok(false) => {}
                    Err(fault) if fault.status() == 404 => {}
                    Err(fault) => {
                        tracing::debug!("the status of Ingress {key} is not cleared: {fault}");
                        continue;
                    }
                }
            }
            seen.insert(key.clone(), version);
        }
        self.seen = seen;
    }
}

/// Whether it was ours to take.
async fn take_back(context: &Context, key: &Key, addresses: &[Value]) -> Result<bool, Fault> {
    let path = Kind::Ingress.path_of(key);
    let object = context.api.get::<api::Ingress>(&path).await?;
    let manager = context.field_manager();
    let mut fields = object.metadata.managed_fields.iter().flatten();
    let is_ours = fields.any(|entry| wrote(entry, &manager));
    let ingress = Ingress::from(object);
    if published(&ingress) != addresses || !is_ours {
        return Ok(false);
    }
    // With the version: should somebody write meanwhile, it is not cleared.
    let body = json!({
        "metadata": { "resourceVersion": ingress.version },
        "status": { "loadBalancer": { "ingress": [] } },
    });
    let content = Some(("application/merge-patch+json", body.to_string().into_bytes()));
    let path = format!("{path}/status?{}", context.manager_query());
    context.api.ask(Method::PATCH, &path, content).await.map(|_| true)
}

/// Whether the addresses in a status were written by `manager`.
fn wrote(entry: &ManagedFieldsEntry, manager: &str) -> bool {
    let fields = entry.fields_v1.as_ref().map(|fields| &fields.0);
    entry.manager.as_deref() == Some(manager)
        && entry.subresource.as_deref() == Some("status")
        && fields.is_some_and(|fields| fields.pointer("/f:status/f:loadBalancer").is_some())
}
