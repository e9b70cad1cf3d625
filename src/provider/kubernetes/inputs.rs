//! What is known of a cluster at one moment.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::api::networking::v1::IngressClass;

use super::{Ingress, Service, Slices};

/// The namespace and name of an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
}

impl Key {
    /// The object `name` in `namespace`.
    pub fn new(namespace: impl Into<Arc<str>>, name: impl Into<Arc<str>>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }

    /// Whether this is a clone of `other`: told without a look at the names.
    pub(super) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.namespace, &other.namespace) && Arc::ptr_eq(&self.name, &other.name)
    }
}

/// As people write it: `namespace/name`.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// The objects that configuration is made from, without what no one reads of them. Cheap to
/// clone but for its maps: objects are shared.
#[derive(Clone, Default)]
pub struct Inputs {
    /// Ingresses, of whatever class.
    pub ingresses: BTreeMap<Key, Arc<Ingress>>,
    /// Ingress classes by name. They have no namespace.
    pub classes: BTreeMap<Arc<str>, Arc<IngressClass>>,
    /// Services.
    pub services: BTreeMap<Key, Arc<Service>>,
    /// Endpoint slices under the key of their Service.
    pub slices: BTreeMap<Key, Arc<Slices>>,
    /// The Secrets that something refers to. One that is referred to and not here does not exist
    /// or may not be read.
    pub secrets: BTreeMap<Key, Arc<Secret>>,
    /// The ConfigMaps that something refers to; as with Secrets.
    pub config_maps: BTreeMap<Key, Arc<ConfigMap>>,
}

/// How many there are of each: what Secrets hold must not get into a log.
impl fmt::Debug for Inputs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inputs")
            .field("ingresses", &self.ingresses.len())
            .field("classes", &self.classes.len())
            .field("services", &self.services.len())
            .field("slices", &self.slices.len())
            .field("secrets", &self.secrets.len())
            .field("config_maps", &self.config_maps.len())
            .finish()
    }
}
