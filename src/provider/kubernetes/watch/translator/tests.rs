//! The translator between changes that are made up and a listener that notes what it is told.

use std::collections::HashSet;
use std::sync::mpsc::{Sender, channel};

use k8s_openapi::api::core::v1::{Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::{Ingress, IngressClass};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::*;
use crate::provider::kubernetes::slice::SERVICE_NAME;
use crate::provider::kubernetes::watch::kind::{Object, Watched, keep};

/// How long a test waits for what must come. Generous; nothing waits for it unless it fails.
const STEP: Duration = Duration::from_secs(20);

struct World {
    changes: Sender<Change>,
    said: Receiver<Update>,
    wanted: watch::Receiver<Arc<References>>,
    outcome: watch::Receiver<Outcome>,
}

impl World {
    fn start(edit: impl FnOnce(&mut Parts)) -> Self {
        let (world, translator, news) = Self::with(edit);
        std::thread::spawn(move || translator.run(&news));
        world
    }

    /// A translator whose turns are for the test to take.
    fn with(edit: impl FnOnce(&mut Parts)) -> (Self, Translator, Receiver<Change>) {
        let (changes, news) = channel();
        let (told, said) = channel();
        let (wanted, wants) = watch::channel(Arc::<References>::default());
        let (outcome, outcomes) = watch::channel(Outcome::default());
        let scope = |kind| Scope::all(kind, None);
        let kinds = [Kind::Ingress, Kind::IngressClass, Kind::Service, Kind::EndpointSlice];
        let mut parts = Parts {
            store: Store::default(),
            from_disk: false,
            waited_for: kinds.into_iter().map(scope).collect(),
            tolerates_no_classes: false,
            options: Options::default(),
            metrics: Metrics::new(1),
            disk: None,
            out: Box::new(move |update| told.send(update).is_ok()),
            wanted,
            outcome,
        };
        edit(&mut parts);
        let world = Self { changes, said, wanted: wants, outcome: outcomes };
        (world, Translator::new(parts), news)
    }

    fn tell(&self, change: Change) {
        self.changes.send(change).unwrap();
    }

    fn list(&self, kind: Kind, objects: Vec<(Key, Object)>) {
        let scope = Scope::all(kind, None);
        self.tell(Change::Listed { scope, objects, odd: HashSet::new(), at: Instant::now() });
    }

    fn set(&self, (key, object): (Key, Object)) {
        self.tell(Change::Set { key, object, at: Instant::now() });
    }

    /// Lists of everything, with one route.
    fn lists(&self, ingress: (Key, Object)) {
        self.list(Kind::Ingress, vec![ingress]);
        self.list(Kind::IngressClass, vec![class()]);
        self.list(Kind::Service, vec![service()]);
        self.list(Kind::EndpointSlice, vec![slice("10.0.0.1")]);
    }

    fn all(&self) -> Everything {
        match self.said.recv_timeout(STEP).unwrap() {
            Update::All(all) => all,
            Update::Endpoints { .. } => panic!("endpoints alone"),
        }
    }

    fn endpoints(&self) -> Lists {
        match self.said.recv_timeout(STEP).unwrap() {
            Update::Endpoints { lists, .. } => lists,
            Update::All(_) => panic!("everything"),
        }
    }

    fn is_silent(&self) -> bool {
        self.said.try_recv().is_err()
    }
}

fn until(what: &str, check: impl Fn() -> bool) {
    let deadline = Instant::now() + STEP;
    while !check() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::yield_now();
    }
}

fn object<T: DeserializeOwned + Watched>(value: Value) -> (Key, Object) {
    let (key, _, object) = keep(serde_json::from_value::<T>(value).unwrap()).unwrap();
    (key, object)
}

fn ingress(host: &str, secret: Option<&str>) -> (Key, Object) {
    let tls = secret.map(|name| json!([{ "hosts": [host], "secretName": name }]));
    object::<Ingress>(json!({
        "metadata": { "name": "web", "namespace": "shop" },
        "spec": {
            "ingressClassName": "portcullis", "tls": tls,
            "rules": [{ "host": host, "http": { "paths": [{ "path": "/", "pathType": "Prefix",
                "backend": { "service": { "name": "web", "port": { "number": 80 } } } }] } }],
        },
    }))
}

fn class() -> (Key, Object) {
    let controller = crate::provider::kubernetes::CONTROLLER;
    object::<IngressClass>(json!({
        "metadata": { "name": "portcullis" }, "spec": { "controller": controller },
    }))
}

fn service() -> (Key, Object) {
    object::<Service>(json!({
        "metadata": { "name": "web", "namespace": "shop" },
        "spec": { "clusterIP": "10.96.0.1", "ports": [{ "port": 80, "targetPort": 8080 }] },
    }))
}

fn slice(ip: &str) -> (Key, Object) {
    object::<EndpointSlice>(json!({
        "metadata": { "name": "web-1", "namespace": "shop", "labels": { SERVICE_NAME: "web" } },
        "addressType": "IPv4", "endpoints": [{ "addresses": [ip] }], "ports": [{ "port": 8080 }],
    }))
}

#[test]
fn nothing_is_said_before_everything_was_heard() {
    let world = World::start(|_| {});
    world.list(Kind::Ingress, vec![ingress("a.example", None)]);
    world.list(Kind::IngressClass, vec![class()]);
    world.list(Kind::Service, vec![service()]);
    assert!(world.is_silent());
    world.list(Kind::EndpointSlice, vec![slice("10.0.0.1")]);
    let all = world.all();
    assert_eq!((all.fragment.hosts.len(), all.endpoints.len()), (1, 1), "together");
    until("what became of it is told", || world.outcome.borrow().ingresses.len() == 1);
}

#[test]
fn endpoints_go_the_short_way_and_only_where_they_are_others() {
    let world = World::start(|_| {});
    world.lists(ingress("a.example", None));
    world.all();
    world.set(slice("10.0.0.2"));
    let lists = world.endpoints();
    let list: Vec<_> = lists.values().flat_map(|list| list.iter()).collect();
    assert_eq!(list.len(), 1);
    assert_eq!(list[0].address.to_string(), "10.0.0.2:8080");
    world.set(slice("10.0.0.2"));
    world.set(ingress("b.example", None));
    let all = world.all();
    assert_eq!(*all.endpoints, lists, "what was told apart is in the whole");
}

#[test]
fn what_means_the_same_is_not_said_again() {
    let world = World::start(|_| {});
    world.lists(ingress("a.example", None));
    world.all();
    world.lists(ingress("a.example", None));
    world.set(ingress("a.example", None));
    world.set(ingress("c.example", None));
    let all = world.all();
    assert_eq!(all.fragment.hosts[0].pattern.to_string(), "c.example");
    assert!(all.since.is_some());
}

#[test]
fn a_configuration_waits_for_the_secrets_it_is_the_first_to_refer_to() {
    let world = World::start(|_| {});
    world.lists(ingress("a.example", Some("cert")));
    let key = Key::new("shop", "cert");
    until("the Secret is asked for", || world.wanted.borrow().secrets.contains(&key));
    assert!(world.is_silent(), "the Secret was not heard of");
    let scope = Scope::one(Kind::Secret, &key);
    let secret = object::<Secret>(json!({ "metadata": { "name": "cert", "namespace": "shop" } }));
    let odd = HashSet::new();
    world.tell(Change::Listed { scope, objects: vec![secret], odd, at: Instant::now() });
    assert_eq!(world.all().fragment.hosts.len(), 1);
    // One that may not be read is not waited for.
    world.set(ingress("b.example", Some("other")));
    let key = Key::new("shop", "other");
    world.tell(Change::Forbidden { scope: Scope::one(Kind::Secret, &key) });
    assert_eq!(world.all().fragment.hosts[0].pattern.to_string(), "b.example");
    assert_eq!(world.wanted.borrow().secrets.len(), 1, "nobody refers to the first any more");
}

#[test]
fn a_route_waits_a_moment_for_the_service_that_it_sends_to() {
    let world = World::start(|_| {});
    world.list(Kind::Ingress, Vec::new());
    world.list(Kind::IngressClass, vec![class()]);
    world.list(Kind::Service, Vec::new());
    world.list(Kind::EndpointSlice, Vec::new());
    world.all();
    // Each by a watch of its own, in whatever order.
    world.set(ingress("a.example", None));
    world.set(slice("10.0.0.1"));
    world.set(service());
    let all = world.all();
    let lists: Vec<usize> = all.endpoints.values().map(|list| list.len()).collect();
    assert_eq!((all.fragment.hosts.len(), lists), (1, vec![1]));
    // One that does not come is not waited for long.
    let (key, _) = service();
    world.tell(Change::Gone { kind: Kind::Service, key, at: Instant::now() });
    world.all();
    world.set(ingress("b.example", None));
    assert_eq!(world.all().fragment.hosts[0].pattern.to_string(), "b.example");
}

#[test]
fn a_service_that_was_not_there_before_either_is_not_waited_for() {
    let (world, mut translator, news) = World::with(|_| {});
    world.list(Kind::Ingress, vec![ingress("a.example", None)]);
    world.list(Kind::IngressClass, vec![class()]);
    world.list(Kind::Service, Vec::new());
    world.list(Kind::EndpointSlice, Vec::new());
    let mut now = Instant::now();
    let mut turn = |world: &World| {
        news.try_iter().for_each(|change| translator.take(change));
        // Later than changes are gathered, earlier than Services are waited for.
        now = now.max(Instant::now()) + GATHER;
        translator.act(now);
        !world.is_silent()
    };
    assert!(turn(&world));
    world.set(ingress("b.example", None));
    assert!(turn(&world), "its Service never was there");
    world.set(ingress_called("new", "c.example"));
    assert!(!turn(&world), "that of a new one may be on its way");
    world.set(service());
    world.set(slice("10.0.0.1"));
    assert!(turn(&world));
}

#[test]
fn classes_that_may_not_be_read_are_waited_for_unless_that_is_no_matter() {
    let world = World::start(|parts| {
        parts.tolerates_no_classes = true;
        parts.options.class_by_name = true;
    });
    world.list(Kind::Ingress, vec![ingress("a.example", None)]);
    world.list(Kind::Service, vec![service()]);
    world.list(Kind::EndpointSlice, Vec::new());
    world.tell(Change::Forbidden { scope: Scope::all(Kind::IngressClass, None) });
    assert_eq!(world.all().fragment.hosts.len(), 1);
}

/// The same of another name.
fn ingress_called(name: &str, host: &str) -> (Key, Object) {
    let (_, ingress) = ingress(host, None);
    (Key::new("shop", name), ingress)
}

/// An Ingress whose annotation says how many requests a client may make.
fn limited(host: &str, rate: &str) -> (Key, Object) {
    let (_, Object::Ingress(ingress)) = ingress(host, None) else { panic!("an Ingress") };
    let mut ingress = (*ingress).clone();
    let name = "nginx.ingress.kubernetes.io/limit-rps".to_owned();
    ingress.annotations = BTreeMap::from([(name, rate.to_owned())]).into();
    (Key::new("shop", "web"), Object::Ingress(Arc::new(ingress)))
}

#[test]
fn an_object_that_cannot_be_taken_over_stays_as_it_was_when_it_was_last_good() {
    let hosts = |all: &Everything| -> Vec<String> {
        all.fragment.hosts.iter().map(|host| host.pattern.to_string()).collect()
    };
    let refusal = |all: &Everything| all.problems.iter().any(|p| p.message.contains("limit-rps"));
    let world = World::start(|_| {});
    world.lists(limited("a.example", "5"));
    let first = world.all();
    assert!(hosts(&first) == ["a.example"] && !refusal(&first));
    // With another host, and a rate that is none.
    world.set(limited("b.example", "many"));
    let held = world.all();
    assert_eq!(held.fragment, first.fragment, "nothing of it is taken over");
    assert!(refusal(&held), "{:?}", held.problems);
    // Another one that is no better, and changes of others.
    world.set(limited("c.example", "more"));
    world.set(ingress_called("other", "d.example"));
    let held = world.all();
    assert_eq!(hosts(&held), ["a.example", "d.example"]);
    assert!(refusal(&held));
    world.set(limited("b.example", "7"));
    let mended = world.all();
    assert_eq!(hosts(&mended), ["b.example", "d.example"]);
    assert!(!refusal(&mended), "{:?}", mended.problems);
    // One that is gone has nothing to stay as.
    world.tell(Change::Gone {
        kind: Kind::Ingress,
        key: Key::new("shop", "web"),
        at: Instant::now(),
    });
    world.all();
    world.set(limited("e.example", "many"));
    let all = world.all();
    assert!(matches!(all.fragment.hosts[1].routes[0].action, ir::Action::Fail { .. }));
}
