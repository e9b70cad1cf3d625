//! A memo that goes through random changes of a cluster against a translation from scratch after each
//! of them; and what has not changed is the same in memory.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const HOSTS: [&str; 6] = ["a.test", "www.a.test", "b.test", "*.b.test", "x.b.test", ""];
const SERVICES: [&str; 4] = ["one", "two", "three", "default"];
/// Annotations that reach beyond the Ingress they stand on, by name and value.
const ANNOTATIONS: [(&str, &str); 13] = [
    ("server-alias", "b.test,c.test"),
    ("from-to-www-redirect", "true"),
    ("load-balance", "ewma"),
    ("load-balance", "round_robin"),
    ("canary", "true"),
    ("use-regex", "true"),
    ("app-root", "/app"),
    ("auth-url", "http://auth.example.com/check"),
    ("custom-http-errors", "503"),
    ("affinity", "cookie"),
    ("session-cookie-path", ""),
    ("backend-protocol", "HTTPS"),
    ("auth-tls-secret", "ns/secret1"),
];

/// One change of the cluster.
#[derive(Clone, Debug)]
enum Step {
    Ingress {
        name: usize,
        hosts: Vec<usize>,
        service: usize,
        notes: Vec<usize>,
        tls: bool,
        age: usize,
        class: bool,
    },
    NoIngress(usize),
    Class {
        ours: bool,
    },
    NoClass,
    Service {
        name: usize,
        port: u16,
        external: bool,
    },
    NoService(usize),
    Slice {
        service: usize,
        addresses: Vec<u8>,
    },
    Secret {
        name: usize,
        good: bool,
    },
    NoSecret(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let hosts = prop::collection::vec(0..HOSTS.len(), 0..3);
    let notes = prop::collection::vec(0..ANNOTATIONS.len(), 0..3);
    let more = (any::<bool>(), 0..4_usize, prop::bool::weighted(0.2));
    let ingress = (0..6_usize, hosts, 0..SERVICES.len(), notes, more).prop_map(
        |(name, hosts, service, notes, (tls, age, class))| Step::Ingress {
            name,
            hosts,
            service,
            notes,
            tls,
            age,
            class,
        },
    );
    let service = (0..SERVICES.len(), 80..83_u16, any::<bool>())
        .prop_map(|(name, port, external)| Step::Service { name, port, external });
    let slice = (0..SERVICES.len(), prop::collection::vec(any::<u8>(), 0..3))
        .prop_map(|(service, addresses)| Step::Slice { service, addresses });
    prop_oneof![
        6 => ingress,
        1 => (0..6_usize).prop_map(Step::NoIngress),
        1 => any::<bool>().prop_map(|ours| Step::Class { ours }),
        1 => Just(Step::NoClass),
        3 => service,
        1 => (0..SERVICES.len()).prop_map(Step::NoService),
        2 => slice,
        1 => (0..2_usize, any::<bool>()).prop_map(|(name, good)| Step::Secret { name, good }),
        1 => (0..2_usize).prop_map(Step::NoSecret),
    ]
}

fn object<T: serde::de::DeserializeOwned>(value: Value) -> Arc<T> {
    Arc::new(serde_json::from_value(value).unwrap())
}

fn take(step: &Step, inputs: &mut Inputs) {
    let key = |kind: &str, name: usize| Key::new("ns", format!("{kind}{name}"));
    let service = |name: usize| Key::new("ns", SERVICES[name]);
    match step {
        Step::Ingress { name, hosts, service, notes, tls, age, class } => {
            let path = json!({
                "path": "/x", "pathType": "Prefix",
                "backend": { "service": { "name": SERVICES[*service], "port": { "number": 80 } } },
            });
            let rules = hosts
                .iter()
                .map(|host| json!({ "host": HOSTS[*host], "http": { "paths": [path.clone()] } }));
            let notes = notes.iter().map(|note| {
                let (name, value) = ANNOTATIONS[*note];
                (format!("nginx.ingress.kubernetes.io/{name}"), value)
            });
            let secret = json!([{ "secretName": format!("secret{}", name % 2) }]);
            let ingress = json!({
                "metadata": {
                    "annotations": notes.collect::<BTreeMap<_, _>>(),
                    "creationTimestamp": format!("2026-01-01T00:00:0{age}Z"),
                },
                "spec": {
                    "rules": rules.collect::<Vec<_>>(),
                    "defaultBackend": path["backend"],
                    "tls": if *tls { secret } else { json!([]) },
                    "ingressClassName": class.then_some("c"),
                },
            });
            inputs.ingresses.insert(key("i", *name), object(ingress));
        }
        Step::NoIngress(name) => drop(inputs.ingresses.remove(&key("i", *name))),
        Step::Class { ours } => {
            let controller = Options::default().controllers.first().cloned();
            let controller = controller.filter(|_| *ours).unwrap_or("example.com/x".into());
            let class =
                json!({ "metadata": { "name": "c" }, "spec": { "controller": controller } });
            inputs.classes.insert("c".into(), object(class));
        }
        Step::NoClass => drop(inputs.classes.remove("c")),
        Step::Service { name, port, external } => {
            let spec = match external {
                true => json!({ "type": "ExternalName", "externalName": "example.com" }),
                false => json!({ "ports": [{ "port": port, "targetPort": 80 }] }),
            };
            inputs.services.insert(service(*name), object(json!({ "spec": spec })));
        }
        Step::NoService(name) => drop(inputs.services.remove(&service(*name))),
        Step::Slice { service: name, addresses } => {
            let endpoints =
                addresses.iter().map(|last| json!({ "addresses": [format!("10.0.0.{last}")] }));
            let slice = json!({
                "addressType": "IPv4", "endpoints": endpoints.collect::<Vec<_>>(),
                "ports": [{ "port": 8080 }],
            });
            let slice = Slice::of(&serde_json::from_value(slice).unwrap());
            let mut slices = Slices::default();
            slices.insert("s".into(), Arc::new(slice));
            inputs.slices.insert(service(*name), Arc::new(slices));
        }
        Step::Secret { name, good } => {
            // "crt" and "key": what is in it matters to nobody here.
            let data = match good {
                true => json!({ "tls.crt": "Y3J0", "tls.key": "a2V5" }),
                false => json!({ "tls.crt": "Y3J0" }),
            };
            inputs.secrets.insert(key("secret", *name), object(json!({ "data": data })));
        }
        Step::NoSecret(name) => drop(inputs.secrets.remove(&key("secret", *name))),
    }
}

proptest! {
    #[test]
    fn what_is_remembered_changes_nothing(
        steps in prop::collection::vec(step(), 1..30),
        default in any::<bool>(),
    ) {
        let options = Options {
            without_class: true,
            external_names: true,
            default_backend: default.then(|| Key::new("ns", "default")),
            ..Options::default()
        };
        let (mut memo, mut inputs) = (Memo::default(), Inputs::default());
        for step in &steps {
            take(step, &mut inputs);
            if let Step::Slice { service, .. } = step {
                memo.endpoints(&inputs, &Key::new("ns", SERVICES[*service]));
            }
            let remembered = memo.translate(&inputs, &options);
            prop_assert_eq!(remembered, translate(&inputs, &options), "after {:?}", step);
        }
    }
}

#[test]
fn what_has_not_changed_is_the_same_in_memory() {
    let options = Options { without_class: true, ..Options::default() };
    let (mut memo, mut inputs) = (Memo::default(), Inputs::default());
    let ingress = |name, host, service| Step::Ingress {
        name,
        hosts: vec![host],
        service,
        notes: Vec::new(),
        tls: false,
        age: 0,
        class: false,
    };
    for step in
        [ingress(0, 0, 0), ingress(1, 2, 1), Step::Service { name: 0, port: 80, external: false }]
    {
        take(&step, &mut inputs);
    }
    let before = memo.translate(&inputs, &options).fragment;
    take(&ingress(1, 2, 0), &mut inputs);
    let after = memo.translate(&inputs, &options).fragment;
    let name = |name: &str| before.upstreams.keys().find(|n| n.as_str() == name).unwrap().clone();
    assert!(Arc::ptr_eq(&before.hosts[0], &after.hosts[0]), "another host");
    assert_ne!(before.hosts[1], after.hosts[1]);
    let one = name("ns/one:80");
    assert!(Arc::ptr_eq(&before.upstreams[&one], &after.upstreams[&one]));
    assert!(before.listeners.iter().all(|(name, l)| Arc::ptr_eq(l, &after.listeners[name])));
}

#[test]
fn a_change_beside_the_default_backend_copies_no_upstreams() {
    let default_backend = Some(Key::new("ns", SERVICES[3]));
    let options = Options { without_class: true, default_backend, ..Options::default() };
    let (mut memo, mut inputs) = (Memo::default(), Inputs::default());
    take(&Step::Service { name: 3, port: 80, external: false }, &mut inputs);
    let mut at_age = |age| {
        let step = Step::Ingress {
            name: 0,
            hosts: vec![0],
            service: 0,
            notes: Vec::new(),
            tls: false,
            age,
            class: false,
        };
        take(&step, &mut inputs);
        memo.translate(&inputs, &options)
    };
    let (before, after) = (at_age(0), at_age(1));
    assert!(Arc::ptr_eq(&before.fragment.upstreams, &after.fragment.upstreams));
    assert!(Arc::ptr_eq(&before.endpoints, &after.endpoints));
}

#[test]
fn a_config_map_that_is_deleted_keeps_nobody_out_less() {
    let key = Key::new("edge", "controller");
    let config_map = Some(key.clone());
    let options = Options { without_class: true, config_map, ..Options::default() };
    let (mut memo, mut inputs) = (Memo::default(), Inputs::default());
    inputs
        .config_maps
        .insert(key.clone(), object(json!({ "data": { "block-cidrs": "192.0.2.1" } })));
    let ingress = Step::Ingress {
        name: 0,
        hosts: vec![0],
        service: 0,
        notes: Vec::new(),
        tls: false,
        age: 0,
        class: false,
    };
    take(&ingress, &mut inputs);
    let there = memo.translate(&inputs, &options);
    assert!(there.fragment.hosts[0].routes[0].guard.access.is_some());
    inputs.config_maps.remove(&key);
    let gone = memo.translate(&inputs, &options);
    assert_eq!(gone.fragment, there.fragment);
    assert!(gone.problems.iter().any(|problem| problem.message.contains("no ConfigMap")));
    assert!(translate(&inputs, &options).fragment.hosts[0].routes[0].guard.access.is_none());
}
