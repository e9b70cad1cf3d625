//! Ingresses as they are kept: their rules as the API has them, and of all else what is read.

use std::collections::BTreeMap;

use k8s_openapi::api::networking::v1 as api;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use serde::Deserialize;

use super::Key;

/// What one Ingress says.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(from = "api::Ingress")]
pub struct Ingress {
    /// The version of the object.
    pub version: Option<Box<str>>,
    /// What tells it from others that had or will have its name.
    pub uid: Option<Box<str>>,
    /// When it was made; not known of manifests.
    pub created: Option<Time>,
    /// Its annotations.
    pub annotations: Annotations,
    /// Its rules.
    pub spec: Option<api::IngressSpec>,
    /// Its status, which is what we write ourselves.
    pub status: Option<api::IngressStatus>,
}

/// The annotations of an object, by name. Most have few, for which a list takes a third of the
/// memory of a map.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Annotations(Box<[(Box<str>, Box<str>)]>);

impl Annotations {
    /// What the annotation `name` says.
    pub fn get(&self, name: &str) -> Option<&str> {
        let at = self.0.binary_search_by(|(known, _)| (**known).cmp(name)).ok()?;
        self.0.get(at).map(|(_, text)| &**text)
    }

    /// The same as a map, for those who read them all.
    pub fn to_map(&self) -> BTreeMap<String, String> {
        self.0.iter().map(|(name, text)| (name.to_string(), text.to_string())).collect()
    }
}

impl From<BTreeMap<String, String>> for Annotations {
    fn from(map: BTreeMap<String, String>) -> Self {
        Self(map.into_iter().map(|(name, text)| (name.into(), text.into())).collect())
    }
}

impl From<api::Ingress> for Ingress {
    fn from(object: api::Ingress) -> Self {
        let api::Ingress { metadata, mut spec, mut status } = object;
        if let Some(spec) = &mut spec {
            fit(&mut spec.tls);
            fit(&mut spec.rules);
            for http in spec.rules.iter_mut().flatten().filter_map(|rule| rule.http.as_mut()) {
                http.paths.shrink_to_fit();
            }
        }
        let balancer = status.as_mut().and_then(|status| status.load_balancer.as_mut());
        if let Some(balancer) = balancer {
            fit(&mut balancer.ingress);
        }
        Self {
            version: metadata.resource_version.map(Into::into),
            uid: metadata.uid.map(Into::into),
            created: metadata.creation_timestamp,
            annotations: metadata.annotations.unwrap_or_default().into(),
            spec,
            status,
        }
    }
}

impl Ingress {
    /// An object that says the same; for the disk.
    pub fn to_object(&self, key: &Key) -> api::Ingress {
        api::Ingress {
            metadata: ObjectMeta {
                name: Some(key.name.to_string()),
                namespace: Some(key.namespace.to_string()),
                resource_version: self.version.as_deref().map(str::to_owned),
                uid: self.uid.as_deref().map(str::to_owned),
                creation_timestamp: self.created.clone(),
                annotations: Some(self.annotations.to_map()),
                ..ObjectMeta::default()
            },
            spec: self.spec.clone(),
            status: self.status.clone(),
        }
    }
}

/// Lists out of JSON are made for four elements at least, most of which have one.
fn fit<T>(list: &mut Option<Vec<T>>) {
    if let Some(list) = list {
        list.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_object_made_of_an_ingress_says_the_same() {
        let object = json!({
            "metadata": {
                "name": "web", "namespace": "shop", "resourceVersion": "7", "uid": "u",
                "creationTimestamp": "2026-01-01T00:00:00Z",
                "managedFields": [{ "manager": "kubectl" }],
                "annotations": { "x": "y", "b": "c" },
            },
            "spec": { "ingressClassName": "portcullis", "rules": [{ "host": "a.example" }] },
            "status": { "loadBalancer": { "ingress": [{ "ip": "10.0.0.1" }] } },
        });
        let ingress: Ingress = serde_json::from_value(object).unwrap();
        assert_eq!(Ingress::from(ingress.to_object(&Key::new("shop", "web"))), ingress);
        let texts = ["b", "c", "x"].map(|name| ingress.annotations.get(name));
        assert_eq!(texts, [Some("c"), None, Some("y")]);
        assert_eq!((ingress.version.as_deref(), ingress.uid.as_deref()), (Some("7"), Some("u")));
        assert!(ingress.created.is_some() && ingress.spec.is_some() && ingress.status.is_some());
    }
}
