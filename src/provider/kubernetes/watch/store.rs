//! Changes into `Inputs`, and what each of them means: another configuration, other endpoints of a
//! Service, or nothing.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::kind::{Kind, Object};
use super::reflect::Scope;
use crate::provider::kubernetes::{Inputs, Key, Slice, Slices};

/// What changes came to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// Whether the configuration may be another.
    pub configuration: bool,
    /// The Services whose endpoints may be others.
    pub services: BTreeSet<Key>,
    /// Whether only what we write ourselves is another: statuses.
    pub status: bool,
}

/// What is known of the cluster, kept up to date.
#[derive(Default)]
pub struct Store {
    inputs: Inputs,
    /// The Service of each slice.
    homes: HashMap<Key, Key>,
}

impl Store {
    /// What is known.
    pub fn inputs(&self) -> &Inputs {
        &self.inputs
    }

    /// Begins with `inputs`.
    pub fn begin_with(inputs: Inputs) -> Self {
        let mut homes = HashMap::new();
        for (service, slices) in &inputs.slices {
            for (name, _) in slices.iter() {
                let slice = Key::new(service.namespace.clone(), name.clone());
                homes.insert(slice, service.clone());
            }
        }
        Self { inputs, homes }
    }

    /// The objects of a kind that are in `scope`.
    pub fn keys(&self, scope: &Scope) -> HashSet<Key> {
        let all: Vec<Key> = match scope.kind {
            Kind::ConfigMap => self.inputs.config_maps.keys().cloned().collect(),
            Kind::EndpointSlice => self.homes.keys().cloned().collect(),
            Kind::Ingress => self.inputs.ingresses.keys().cloned().collect(),
            Kind::IngressClass => {
                self.inputs.classes.keys().map(|name| Key::new("", name.clone())).collect()
            }
            Kind::Secret => self.inputs.secrets.keys().cloned().collect(),
            Kind::Service => self.inputs.services.keys().cloned().collect(),
        };
        all.into_iter().filter(|key| scope.holds(key)).collect()
    }

    /// How many objects there are of each kind.
    pub fn counts(&self) -> [(Kind, usize); 6] {
        let Inputs { ingresses, classes, services, secrets, config_maps, slices: _ } = &self.inputs;
        [
            (Kind::ConfigMap, config_maps.len()),
            (Kind::EndpointSlice, self.homes.len()),
            (Kind::Ingress, ingresses.len()),
            (Kind::IngressClass, classes.len()),
            (Kind::Secret, secrets.len()),
            (Kind::Service, services.len()),
        ]
    }

    /// An object is there, or is another than before.
    pub fn set(&mut self, key: Key, object: Object, effects: &mut Effects) {
        let inputs = &mut self.inputs;
        match object {
            Object::EndpointSlice(slice) => {
                let service = slice.service.clone();
                let home = service.map(|name| Key::new(key.namespace.clone(), name));
                if self.homes.get(&key) != home.as_ref() {
                    self.drop_slice(&key, effects);
                }
                // A slice of no Service is nobody's.
                let Some(home) = home else { return };
                let slices = self.inputs.slices.entry(home.clone()).or_default();
                let before = Arc::make_mut(slices).insert(key.name.clone(), slice.clone());
                self.homes.insert(key, home.clone());
                if before.as_ref() != Some(&slice) {
                    effects.services.insert(home);
                }
            }
            Object::ConfigMap(map) => {
                let before = inputs.config_maps.insert(key, map.clone());
                effects.configuration |= before.is_none_or(|before| {
                    (&before.data, &before.binary_data) != (&map.data, &map.binary_data)
                });
            }
            Object::Ingress(ingress) => {
                let before = inputs.ingresses.insert(key, ingress.clone());
                let same = before.is_some_and(|before| {
                    effects.status |= before.status != ingress.status;
                    before.spec == ingress.spec
                        && before.annotations == ingress.annotations
                        && (&before.created, &before.uid) == (&ingress.created, &ingress.uid)
                });
                effects.configuration |= !same;
            }
            Object::IngressClass(class) => {
                let before = inputs.classes.insert(key.name, class.clone());
                effects.configuration |= before.is_none_or(|before| {
                    before.spec != class.spec || !is_alike(&before.metadata, &class.metadata)
                });
            }
            Object::Secret(secret) => {
                let before = inputs.secrets.insert(key, secret.clone());
                effects.configuration |= before.is_none_or(|before| {
                    (&before.data, &before.type_) != (&secret.data, &secret.type_)
                });
            }
            Object::Service(service) => {
                let before = inputs.services.insert(key, service.clone());
                effects.configuration |= before.is_none_or(|before| before != service);
            }
        }
    }

    /// An object is gone.
    pub fn gone(&mut self, kind: Kind, key: &Key, effects: &mut Effects) {
        let inputs = &mut self.inputs;
        effects.configuration |= match kind {
            Kind::ConfigMap => inputs.config_maps.remove(key).is_some(),
            Kind::EndpointSlice => return self.drop_slice(key, effects),
            Kind::Ingress => inputs.ingresses.remove(key).is_some(),
            Kind::IngressClass => inputs.classes.remove(&key.name).is_some(),
            Kind::Secret => inputs.secrets.remove(key).is_some(),
            Kind::Service => inputs.services.remove(key).is_some(),
        };
    }

    /// These are all objects of `scope`, beside those that are `odd`, which stay as they were.
    pub fn listed(
        &mut self,
        scope: &Scope,
        objects: Vec<(Key, Object)>,
        odd: &HashSet<Key>,
        effects: &mut Effects,
    ) {
        let now: HashSet<&Key> = objects.iter().map(|(key, _)| key).collect();
        let mut gone = self.keys(scope);
        gone.retain(|key| !now.contains(key) && !odd.contains(key));
        for key in gone {
            self.gone(scope.kind, &key, effects);
        }
        for (key, object) in objects {
            self.set(key, object, effects);
        }
    }

    /// The Services that the Ingress `key` sends to and of which not everything is known: they, or
    /// their endpoints, may come by another watch than the Ingress did, and a little later.
    pub fn lacks(&self, key: &Key) -> Vec<Key> {
        let spec = self.inputs.ingresses.get(key).and_then(|ingress| ingress.spec.as_ref());
        let Some(spec) = spec else { return Vec::new() };
        let rules = spec.rules.iter().flatten().filter_map(|rule| rule.http.as_ref());
        let backends = rules.flat_map(|http| http.paths.iter().map(|path| &path.backend));
        let services = backends.chain(&spec.default_backend).filter_map(|b| b.service.as_ref());
        let keys = services.map(|service| Key::new(key.namespace.clone(), service.name.as_str()));
        keys.filter(|key| !self.is_whole(key)).collect()
    }

    /// Whether the Service `key` is known, and its endpoints, where it has some.
    pub fn is_whole(&self, key: &Key) -> bool {
        let service = self.inputs.services.get(key);
        service.is_some_and(|service| service.is_external || self.inputs.slices.contains_key(key))
    }

    /// Forgets the Secrets and ConfigMaps that nothing refers to.
    pub fn keep_only(&mut self, secrets: &BTreeSet<Key>, config_maps: &BTreeSet<Key>) {
        self.inputs.secrets.retain(|key, _| secrets.contains(key));
        self.inputs.config_maps.retain(|key, _| config_maps.contains(key));
    }

    fn drop_slice(&mut self, key: &Key, effects: &mut Effects) {
        let Some(home) = self.homes.remove(key) else { return };
        if let Some(slices) = self.inputs.slices.get_mut(&home) {
            Arc::make_mut(slices).remove(&key.name);
            if slices.is_empty() {
                self.inputs.slices.remove(&home);
            }
        }
        effects.services.insert(home);
    }
}

/// Whether two versions of an object ask for the same with their metadata.
fn is_alike(a: &ObjectMeta, b: &ObjectMeta) -> bool {
    let read = |metadata: &ObjectMeta| {
        (metadata.annotations.clone(), metadata.creation_timestamp.clone(), metadata.uid.clone())
    };
    read(a) == read(b)
}

/// Which Service has which slices: for those who read them back from a file.
pub fn by_service(slices: Vec<EndpointSlice>) -> BTreeMap<Key, Arc<Slices>> {
    let mut all = Store::default();
    for slice in slices {
        if let Some(key) = super::kind::key_of(&slice.metadata) {
            let slice = Arc::new(Slice::of(&slice));
            all.set(key, Object::EndpointSlice(slice), &mut Effects::default());
        }
    }
    all.inputs.slices
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::provider::kubernetes::slice::SERVICE_NAME;

    fn slice(name: &str, service: &str, ip: &str) -> (Key, Object) {
        let slice = json!({
            "metadata": { "name": name, "namespace": "x", "labels": { SERVICE_NAME: service } },
            "addressType": "IPv4", "endpoints": [{ "addresses": [ip] }],
        });
        let slice = Slice::of(&serde_json::from_value(slice).unwrap());
        (Key::new("x", name), Object::EndpointSlice(Arc::new(slice)))
    }

    fn ingress(name: &str, class: &str, status: &str) -> (Key, Object) {
        let ingress = json!({
            "metadata": { "name": name, "namespace": "x", "resourceVersion": status },
            "spec": { "ingressClassName": class },
            "status": { "loadBalancer": { "ingress": [{ "hostname": status }] } },
        });
        let ingress = serde_json::from_value(ingress).unwrap();
        (Key::new("x", name), Object::Ingress(Arc::new(ingress)))
    }

    fn effects(change: impl FnOnce(&mut Effects)) -> Effects {
        let mut effects = Effects::default();
        change(&mut effects);
        effects
    }

    #[test]
    fn slices_concern_their_service_alone() {
        let mut store = Store::default();
        let of = |names: &[&str]| Effects {
            services: names.iter().map(|name| Key::new("x", *name)).collect(),
            ..Effects::default()
        };
        let set = |store: &mut Store, (key, object): (Key, Object)| {
            effects(|effects| store.set(key, object, effects))
        };
        assert_eq!(set(&mut store, slice("a", "web", "10.0.0.1")), of(&["web"]));
        assert_eq!(set(&mut store, slice("a", "web", "10.0.0.1")), of(&[]), "the same again");
        assert_eq!(set(&mut store, slice("a", "web", "10.0.0.2")), of(&["web"]));
        assert_eq!(set(&mut store, slice("a", "api", "10.0.0.2")), of(&["api", "web"]), "moved");
        let gone = |effects: &mut Effects| {
            store.gone(Kind::EndpointSlice, &Key::new("x", "a"), effects);
        };
        assert_eq!(effects(gone), of(&["api"]));
        assert!(store.inputs().slices.is_empty());
    }

    #[test]
    fn a_status_is_no_other_configuration() {
        let mut store = Store::default();
        let mut set = |(key, object): (Key, Object)| {
            let effects = effects(|effects| store.set(key, object, effects));
            (effects.configuration, effects.status)
        };
        assert_eq!(set(ingress("a", "portcullis", "1")), (true, false));
        assert_eq!(set(ingress("a", "portcullis", "2")), (false, true));
        assert_eq!(set(ingress("a", "nginx", "2")), (true, false));
    }

    #[test]
    fn a_list_replaces_its_scope_but_for_what_is_odd() {
        let scope = Scope::all(Kind::Ingress, Some("x".into()));
        let mut store = Store::default();
        let ignored = &mut Effects::default();
        let all = vec![ingress("a", "c", "1"), ingress("b", "c", "1"), ingress("c", "c", "1")];
        store.listed(&scope, all, &HashSet::new(), ignored);
        let elsewhere = Scope::all(Kind::Ingress, Some("y".into()));
        store.listed(&elsewhere, Vec::new(), &HashSet::new(), ignored);
        assert_eq!(store.keys(&scope).len(), 3, "a list of another namespace");
        let odd = HashSet::from([Key::new("x", "b")]);
        let now = vec![ingress("a", "c", "1")];
        let changed = effects(|effects| store.listed(&scope, now, &odd, effects));
        assert!(changed.configuration);
        let left: Vec<_> = store.inputs().ingresses.keys().map(Key::to_string).collect();
        assert_eq!(left, ["x/a", "x/b"]);
        let now = vec![ingress("a", "c", "1"), ingress("b", "c", "1")];
        let changed = effects(|effects| store.listed(&scope, now, &HashSet::new(), effects));
        assert_eq!(changed, Effects::default(), "a list that says what is known");
    }
}
