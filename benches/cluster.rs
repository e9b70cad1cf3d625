//! What a cluster of 5,000 Ingresses and Services with 20,000 endpoints costs: the first translation
//! and compilation, one changed Ingress, one changed Service's endpoints, and memory.
//!
//! `cargo bench --bench cluster [-- INGRESSES] [tls]`; with `tls` each Ingress has a Secret with a
//! certificate. The steps are those of the running controller,
//! without the API server before them and the workers behind.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine;
use portcullis::control::{merge, share};
use portcullis::ir::{Config, EndpointAddress, EndpointSpec, Name, Upstream};
use portcullis::provider::kubernetes::{Inputs, Key, Memo, Options, Slice, Slices};
use portcullis::snapshot::{Compiler, Snapshot};
use portcullis::telemetry::Metrics;
use portcullis::tls::TlsShared;
use portcullis::upstream::{Environment, Registry, Target};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// How many changes are measured.
const CHANGES: usize = 300;
/// The endpoints of a Service.
const ENDPOINTS: usize = 4;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let count = std::env::args().skip(1).find_map(|arg| arg.parse().ok()).unwrap_or(5_000);
    let secret = std::env::args().any(|arg| arg == "tls").then(secret);
    let mut inputs = Inputs::default();
    let add = |inputs: &mut Inputs, number: usize, path: &str| {
        add(inputs, number, path, secret.as_ref());
    };
    for number in 0..count {
        add(&mut inputs, number, "/");
    }
    println!("{count} Ingresses and Services, {} endpoints", count * ENDPOINTS);
    println!("objects alone: {} MiB resident", resident());
    let mut world = World::new();
    let began = Instant::now();
    world.change(&inputs);
    println!("first: {:.1?} to the snapshot, {} MiB resident", began.elapsed(), resident());
    let mut times = Times::default();
    for change in 0..CHANGES {
        let number = change * 7919 % count;
        add(&mut inputs, number, &format!("/v{change}"));
        times.add(world.change(&inputs));
        world.rest();
    }
    times.print("an Ingress changed");
    let mut times = Times::default();
    for change in 0..CHANGES {
        add(&mut inputs, count + change, "/");
        times.add(world.change(&inputs));
        world.rest();
    }
    times.print("an Ingress and its Service came");
    let mut took = Vec::new();
    for change in 0..CHANGES {
        let key = Key::new("shop", format!("s{}", change * 7919 % count));
        slice(&mut inputs, &key, change);
        let began = Instant::now();
        black_box(world.memo.endpoints(&inputs, &key));
        took.push(began.elapsed());
    }
    print("endpoints of a Service changed, translated", took);
    println!("at the end: {} MiB resident", resident());
}

/// Everything between the objects and the snapshot.
struct World {
    memo: Memo,
    options: Options,
    compiler: Compiler,
    registry: Arc<Registry>,
    current: Option<Arc<Snapshot>>,
    retired: Vec<Arc<Snapshot>>,
}

impl World {
    fn new() -> Self {
        let metrics = Metrics::new(2);
        let registry = Arc::new(Registry::new(metrics.clone(), Environment::new(2, 1)));
        let tls = TlsShared::new().expect("TLS");
        Self {
            memo: Memo::default(),
            options: Options { without_class: true, ..Options::default() },
            compiler: Compiler::new(metrics, registry.clone(), tls, 2),
            registry,
            current: None,
            retired: Vec::new(),
        }
    }

    /// Takes over what changed; how long the parts of that took.
    fn change(&mut self, inputs: &Inputs) -> [Duration; 3] {
        let began = Instant::now();
        let translation = self.memo.translate(inputs, &self.options);
        let translated = began.elapsed();
        let began = Instant::now();
        let (mut config, _) = merge(&[Arc::new(translation.fragment)]);
        let current = self.current.as_deref();
        if let Some(current) = current {
            share(&mut config, &current.config);
            assert!(config != *current.config, "nothing changed");
        }
        let merged = began.elapsed();
        let began = Instant::now();
        let lists = &translation.endpoints;
        let targets = |name: &Name, _: &Upstream| targets(lists.get(name));
        let snapshot = self.compiler.compile(Arc::new(config), current, targets);
        self.retired.extend(self.current.replace(Arc::new(snapshot)));
        [translated, merged, began.elapsed()]
    }

    /// What comes after publishing.
    fn rest(&mut self) {
        self.retired.clear();
        let config: Option<&Config> = self.current.as_ref().map(|snapshot| &*snapshot.config);
        if let Some(config) = config {
            self.registry.forget_unused(|name| config.upstreams.contains_key(name));
        }
    }
}

fn targets(list: Option<&Arc<[EndpointSpec]>>) -> Vec<Target> {
    let socket = |spec: &EndpointSpec| match spec.address {
        EndpointAddress::Socket(address) => Some(Target::new(address, None, spec)),
        _ => None,
    };
    list.into_iter().flat_map(|list| list.iter()).filter_map(socket).collect()
}

fn object<T: DeserializeOwned>(value: Value) -> Arc<T> {
    Arc::new(serde_json::from_value(value).expect("an object"))
}

/// What Secrets with a certificate for all hosts hold.
fn secret() -> Value {
    let made = rcgen::generate_simple_self_signed(["*.example.com".to_owned()]);
    let made = made.expect("a certificate");
    let text = |pem: String| base64::engine::general_purpose::STANDARD.encode(pem);
    json!({ "tls.crt": text(made.cert.pem()), "tls.key": text(made.signing_key.serialize_pem()) })
}

fn add(inputs: &mut Inputs, number: usize, path: &str, secret: Option<&Value>) {
    let (name, ingress) = (format!("s{number}"), format!("i{number}"));
    let backend = json!({ "service": { "name": name, "port": { "number": 80 } } });
    let rule = json!({
        "host": format!("h{number}.example.com"),
        "http": { "paths": [{ "path": path, "pathType": "Prefix", "backend": backend }] },
    });
    let annotations: BTreeMap<_, _> = [
        ("nginx.ingress.kubernetes.io/proxy-body-size", "8m"),
        ("nginx.ingress.kubernetes.io/proxy-read-timeout", "30"),
    ]
    .into();
    let metadata = json!({
        "name": ingress, "namespace": "shop", "annotations": annotations,
        "creationTimestamp": "2026-01-01T00:00:00Z",
    });
    let key = |name: &str| Key::new("shop", name);
    let ingress = key(&ingress);
    let tls = secret.map(|_| json!([{ "secretName": name }]));
    let spec = json!({ "rules": [rule], "tls": tls });
    inputs.ingresses.insert(ingress, object(json!({ "metadata": metadata, "spec": spec })));
    let service = key(&name);
    if let Some(data) = secret
        && !inputs.secrets.contains_key(&service)
    {
        inputs.secrets.insert(service.clone(), object(json!({ "data": data })));
    }
    if !inputs.services.contains_key(&service) {
        let spec = json!({ "ports": [{ "port": 80, "targetPort": 8080 }] });
        inputs.services.insert(service.clone(), object(json!({ "spec": spec })));
        slice(inputs, &service, number);
    }
}

fn slice(inputs: &mut Inputs, service: &Key, number: usize) {
    let endpoints = (0..ENDPOINTS).map(|n| {
        let ip = number * ENDPOINTS + n;
        json!({ "addresses": [format!("10.{}.{}.{}", ip >> 16, ip >> 8 & 255, ip & 255)] })
    });
    let slice = json!({
        "addressType": "IPv4", "ports": [{ "port": 8080 }],
        "endpoints": endpoints.collect::<Vec<_>>(),
    });
    let slice = Slice::of(&serde_json::from_value(slice).expect("an object"));
    let mut slices = Slices::default();
    slices.insert("a".into(), Arc::new(slice));
    inputs.slices.insert(service.clone(), Arc::new(slices));
}

#[derive(Default)]
struct Times([Vec<Duration>; 3]);

impl Times {
    fn add(&mut self, took: [Duration; 3]) {
        for (all, took) in self.0.iter_mut().zip(took) {
            all.push(took);
        }
    }

    fn print(self, what: &str) {
        let [translated, merged, compiled] = &self.0;
        let sums = translated.iter().zip(merged).zip(compiled);
        print(what, sums.map(|((a, b), c)| *a + *b + *c).collect());
        for (part, took) in ["translated", "merged", "compiled"].into_iter().zip(self.0) {
            print(&format!("  {part}"), took);
        }
    }
}

fn print(what: &str, mut took: Vec<Duration>) {
    took.sort();
    let at = |share: usize| took[took.len() * share / 100];
    println!("{what}: p50 {:.2?}, p99 {:.2?}", at(50), at(99));
}

/// Resident memory, MiB.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<usize>().ok());
    kib.unwrap_or(0) / 1024
}
