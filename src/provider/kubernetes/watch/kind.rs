//! The kinds of objects that are watched: where the API has them, what their permission is called,
//! and what of an object is kept.

use std::fmt;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::{Ingress, IngressClass};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::de::DeserializeOwned;

use crate::provider::kubernetes::{self as kept, Key, Slice};

/// The annotation in which `kubectl apply` keeps a copy of the whole object.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// A kind of object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "the API's own names")]
pub enum Kind {
    ConfigMap,
    EndpointSlice,
    Ingress,
    IngressClass,
    Secret,
    Service,
}

impl Kind {
    /// As an object's `kind` has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::ConfigMap => "ConfigMap",
            Self::EndpointSlice => "EndpointSlice",
            Self::Ingress => "Ingress",
            Self::IngressClass => "IngressClass",
            Self::Secret => "Secret",
            Self::Service => "Service",
        }
    }

    /// As paths and roles have it.
    pub fn plural(self) -> &'static str {
        match self {
            Self::ConfigMap => "configmaps",
            Self::EndpointSlice => "endpointslices",
            Self::Ingress => "ingresses",
            Self::IngressClass => "ingressclasses",
            Self::Secret => "secrets",
            Self::Service => "services",
        }
    }

    /// The API group; empty for the core.
    pub fn group(self) -> &'static str {
        match self {
            Self::ConfigMap | Self::Secret | Self::Service => "",
            Self::EndpointSlice => "discovery.k8s.io",
            Self::Ingress | Self::IngressClass => "networking.k8s.io",
        }
    }

    /// The path of all its objects, in `namespace` alone where one is given.
    pub fn path(self, namespace: Option<&str>) -> String {
        let root = match self.group() {
            "" => "/api/v1".to_owned(),
            group => format!("/apis/{group}/v1"),
        };
        match namespace.filter(|_| self != Self::IngressClass) {
            Some(namespace) => format!("{root}/namespaces/{namespace}/{}", self.plural()),
            None => format!("{root}/{}", self.plural()),
        }
    }

    /// The path of one object.
    pub fn path_of(self, key: &Key) -> String {
        format!("{}/{}", self.path(Some(&key.namespace)), key.name)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An object of any kind that is watched.
#[derive(Clone)]
#[allow(missing_docs, reason = "one variant for each kind")]
pub enum Object {
    ConfigMap(Arc<ConfigMap>),
    EndpointSlice(Arc<Slice>),
    Ingress(Arc<kept::Ingress>),
    IngressClass(Arc<IngressClass>),
    Secret(Arc<Secret>),
    Service(Arc<kept::Service>),
}

/// A type of objects that are watched.
pub trait Watched: DeserializeOwned + Send + 'static {
    /// Its kind.
    const KIND: Kind;

    /// Its metadata.
    fn metadata(&mut self) -> &mut ObjectMeta;

    /// Takes out what nobody reads, beside the metadata that nobody reads.
    fn trim(&mut self);

    /// The same as an object of any kind.
    fn wrap(self) -> Object;
}

impl Watched for ConfigMap {
    const KIND: Kind = Kind::ConfigMap;
    fn metadata(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
    fn trim(&mut self) {}
    fn wrap(self) -> Object {
        Object::ConfigMap(Arc::new(self))
    }
}

impl Watched for EndpointSlice {
    const KIND: Kind = Kind::EndpointSlice;
    fn metadata(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
    fn trim(&mut self) {}
    /// What it says of endpoints is all that is kept.
    fn wrap(self) -> Object {
        Object::EndpointSlice(Arc::new(Slice::of(&self)))
    }
}

impl Watched for Ingress {
    const KIND: Kind = Kind::Ingress;
    fn metadata(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
    fn trim(&mut self) {}
    fn wrap(self) -> Object {
        Object::Ingress(Arc::new(self.into()))
    }
}

impl Watched for IngressClass {
    const KIND: Kind = Kind::IngressClass;
    fn metadata(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
    fn trim(&mut self) {}
    fn wrap(self) -> Object {
        Object::IngressClass(Arc::new(self))
    }
}

impl Watched for Secret {
    const KIND: Kind = Kind::Secret;
    fn metadata(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
    fn trim(&mut self) {
        self.metadata.annotations = None;
    }
    fn wrap(self) -> Object {
        Object::Secret(Arc::new(self))
    }
}

impl Watched for Service {
    const KIND: Kind = Kind::Service;
    fn metadata(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
    fn trim(&mut self) {}
    fn wrap(self) -> Object {
        Object::Service(Arc::new(self.into()))
    }
}

/// What is kept of an object, and where it belongs; `None` for one without a name.
pub fn keep<T: Watched>(mut object: T) -> Option<(Key, Option<String>, Object)> {
    object.trim();
    let metadata = object.metadata();
    metadata.managed_fields = None;
    metadata.owner_references = None;
    metadata.finalizers = None;
    metadata.generate_name = None;
    if let Some(annotations) = &mut metadata.annotations {
        annotations.remove(LAST_APPLIED);
    }
    let key = key_of(metadata)?;
    let version = metadata.resource_version.clone();
    Some((key, version, object.wrap()))
}

/// The key of the object with this metadata.
pub fn key_of(metadata: &ObjectMeta) -> Option<Key> {
    let name = metadata.name.as_deref()?;
    Some(Key::new(metadata.namespace.as_deref().unwrap_or_default(), name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_those_of_the_api() {
        let key = Key::new("shop", "web");
        for (kind, all, one) in [
            (Kind::Secret, "/api/v1/secrets", "/api/v1/namespaces/shop/secrets/web"),
            (
                Kind::Ingress,
                "/apis/networking.k8s.io/v1/ingresses",
                "/apis/networking.k8s.io/v1/namespaces/shop/ingresses/web",
            ),
            (
                Kind::IngressClass,
                "/apis/networking.k8s.io/v1/ingressclasses",
                "/apis/networking.k8s.io/v1/ingressclasses/web",
            ),
        ] {
            assert_eq!((kind.path(None).as_str(), kind.path_of(&key).as_str()), (all, one));
        }
    }

    #[test]
    fn what_nobody_reads_is_not_kept() {
        let ingress: Ingress = serde_json::from_value(serde_json::json!({
            "metadata": {
                "name": "web", "namespace": "shop", "resourceVersion": "7", "uid": "u",
                "managedFields": [{ "manager": "kubectl" }],
                "annotations": { LAST_APPLIED: "{}", "x": "y" },
            },
        }))
        .unwrap();
        let (key, version, object) = keep(ingress).unwrap();
        assert_eq!((key.to_string().as_str(), version.as_deref()), ("shop/web", Some("7")));
        let Object::Ingress(kept) = object else { panic!("an Ingress") };
        assert_eq!(kept.annotations.to_map().keys().collect::<Vec<_>>(), ["x"]);
        assert_eq!(kept.uid.as_deref(), Some("u"));
        assert!(keep(Ingress::default()).is_none(), "without a name");
    }
}
