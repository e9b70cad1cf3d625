//! The provider at work in a cluster.
//!
//! One thread follows the API server (`reflect`: lists and watches), another keeps what is known
//! (`store`) and turns it into what is served (`translator`): configurations, and endpoints alone by
//! a shorter way. Neither is ever a worker. What is known stays whatever happens to the API server,
//! and across a restart where a directory is given for it (`disk`). The one replica that holds the
//! Lease (`leader`) writes statuses and events.

mod address;
mod api;
mod backoff;
mod disk;
mod event;
mod guard;
mod held;
mod kind;
mod leader;
mod left;
mod list;
mod look;
mod patience;
mod references;
mod reflect;
mod status;
mod store;
mod stream;
mod translator;

pub use api::Access;
pub use look::{Look, look};
pub use translator::{Everything, Update};

use std::collections::{BTreeSet, HashMap, HashSet};
use std::io;
use std::path::PathBuf;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::{Ingress, IngressClass};

use self::address::Publish;
use self::api::{Api, Fault};
use self::disk::Disk;
use self::kind::{Kind, Object};
use self::patience::{Patience, Say};
use self::reflect::{Reflector, Scope};
use self::store::Store;
use self::translator::Translator;
use super::{Key, Options};
use crate::telemetry::Metrics;
use crate::util::random::Random;

/// How the cluster is followed, beside what its objects mean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchOptions {
    /// Which cluster.
    pub access: Access,
    /// After how long a watch is asked for anew. A connection from which nothing comes any more is
    /// noticed at most a quarter and three seconds later. Also how long a list must go on saying
    /// that nearly everything is gone. Default 30 s, at least 1.
    pub watch_timeout: Duration,
    /// Where what is known is kept for a restart while the API server is away; `None` keeps
    /// nothing.
    pub state_dir: Option<PathBuf>,
    /// The Lease that decides which replica writes statuses.
    pub election: String,
    /// The Service whose addresses are those of the proxy.
    pub publish_service: Option<Key>,
    /// Addresses or host names of the proxy, instead.
    pub publish_addresses: Vec<String>,
    /// Whether the addresses of the nodes that the replicas run on are those of the proxy, instead.
    pub publish_nodes: bool,
    /// The namespace of this pod: where its Lease is.
    pub namespace: String,
    /// The name of this pod; `None` outside a cluster.
    pub pod: Option<String>,
}

/// A kind, the verb that is not allowed, and the namespace.
type Forbidden = (Kind, &'static str, Option<Arc<str>>);

/// What every part needs.
struct Context {
    api: Api,
    options: WatchOptions,
    metrics: Metrics,
    random: Mutex<Random>,
    /// What is forbidden, and for how long.
    forbidden: Mutex<HashMap<Forbidden, Patience>>,
    /// Whether IngressClasses need not be known, because only some namespaces are followed.
    tolerates_no_classes: bool,
}

impl Context {
    /// As whom we write: the same for all replicas, and another for every other installation.
    fn field_manager(&self) -> String {
        let WatchOptions { namespace, election, .. } = &self.options;
        // No longer than the API takes.
        format!("portcullis/{namespace}/{election}").chars().take(128).collect()
    }

    /// The same as a query.
    fn manager_query(&self) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.append_pair("fieldManager", &self.field_manager()).finish()
    }

    fn seed(&self) -> u64 {
        self.random.lock().unwrap_or_else(PoisonError::into_inner).draw()
    }

    /// How long a watch is to last: up to a quarter more than wanted, so that not all end at once.
    fn watch_span(&self) -> Duration {
        let more = self.random.lock().unwrap_or_else(PoisonError::into_inner).unit();
        self.options.watch_timeout.mul_f64(1.0 + more / 4.0)
    }

    /// Says what may not be done and, where that lasts, how to allow it: once for each kind and
    /// namespace. Whether it is worth to ask again soon.
    fn forbidden(&self, verb: &'static str, scope: &Scope, fault: &Fault) -> bool {
        let told = (scope.kind, verb, scope.namespace.clone());
        let mut forbidden = self.forbidden.lock().unwrap_or_else(PoisonError::into_inner);
        let patience = forbidden.entry(told).or_default();
        let say = patience.failed(Instant::now());
        let tolerated = scope.kind == Kind::IngressClass && self.tolerates_no_classes;
        match say {
            Say::Calmly if tolerated => tracing::info!(
                "IngressClasses may not be read: classes count by name, with --ingress-class-by-name"
            ),
            Say::Calmly => {
                let refused = refused(verb, scope);
                tracing::warn!("{refused}: {fault}. It may be starting; it is asked again");
            }
            Say::Loudly if !tolerated => tracing::error!("{}", advice(verb, scope, fault)),
            Say::Loudly | Say::Nothing => {}
        }
        patience.lasts()
    }

    /// Whether something was forbidden that is not any more: should it be again, that is news.
    fn allowed(&self, scope: &Scope) -> bool {
        let mut forbidden = self.forbidden.lock().unwrap_or_else(PoisonError::into_inner);
        let before = forbidden.len();
        forbidden
            .retain(|(kind, _, namespace), _| (*kind, namespace) != (scope.kind, &scope.namespace));
        forbidden.len() < before
    }
}

/// What is forbidden, and the rule that is missing.
fn advice(verb: &str, scope: &Scope, fault: &Fault) -> String {
    let (role, rule) = missing_rule(scope, &["get", "list", "watch"]);
    let refused = refused(verb, scope);
    format!("{refused}: {fault}. Give {role} of our service account the rule {rule}")
}

/// What is forbidden.
fn refused(verb: &str, scope: &Scope) -> String {
    let place = match &scope.namespace {
        Some(namespace) => format!("in namespace {namespace}"),
        None => "in the cluster".to_owned(),
    };
    format!("the API server does not let us {verb} {} {place}", scope.kind.plural())
}

/// The role that has to be given a rule, and the rule.
fn missing_rule(scope: &Scope, verbs: &[&str]) -> (String, String) {
    let (plural, group) = (scope.kind.plural(), scope.kind.group());
    let role = match &scope.namespace {
        Some(namespace) => format!("a Role in namespace {namespace}"),
        None => "a ClusterRole".to_owned(),
    };
    let named = scope.name.as_ref().map(|name| format!(", resourceNames: [\"{name}\"]"));
    let named = named.unwrap_or_default();
    let rule = format!(
        "{{ apiGroups: [\"{group}\"], resources: [\"{plural}\"]{named}, verbs: {verbs:?} }}"
    );
    (role, rule)
}

/// What became known of the cluster.
enum Change {
    /// An object is there, or is another than before.
    Set { key: Key, object: Object, at: Instant },
    /// An object is gone.
    Gone { kind: Kind, key: Key, at: Instant },
    /// All objects of a scope, beside those that cannot be understood.
    Listed { scope: Scope, objects: Vec<(Key, Object)>, odd: HashSet<Key>, at: Instant },
    /// A scope that may not be read.
    Forbidden { scope: Scope },
}

/// A provider at work.
pub struct Running {
    stop: oneshot::Sender<Parting>,
    stopped: oneshot::Receiver<()>,
}

/// How a process leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parting {
    /// Nobody stays behind but the other replicas, if there are any.
    Gone,
    /// Another process serves in its place, at the same addresses.
    Succeeded,
}

impl Running {
    /// Gives the Lease back and, where nobody else is left to serve, takes the addresses out of
    /// statuses. What is known is followed until the process ends.
    pub async fn stop(self, parting: Parting) {
        let _ = self.stop.send(parting);
        let _ = self.stopped.await;
    }
}

/// Follows the cluster and tells `out` what is to be served, first when all of it is known. `out`
/// may block, and returns whether anyone still listens.
///
/// # Errors
/// If a thread or its runtime cannot be started, or the directory for what is known cannot be used.
pub fn start(
    options: WatchOptions,
    meaning: Options,
    metrics: Metrics,
    out: Box<dyn FnMut(Update) -> bool + Send>,
) -> io::Result<Running> {
    let disk = options.state_dir.as_deref().map(Disk::open).transpose()?;
    let seed = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0);
    metrics.kubernetes().enable();
    let tolerates_no_classes = !meaning.namespaces.is_empty();
    let context = Arc::new(Context {
        api: Api::new(options.access.clone()),
        options,
        metrics: metrics.clone(),
        random: Mutex::new(Random::new(seed)),
        forbidden: Mutex::default(),
        tolerates_no_classes,
    });
    let scopes = scopes(&meaning);
    let store = disk.as_ref().and_then(Disk::load).map(Store::begin_with);
    let from_disk = store.is_some();
    let store = store.unwrap_or_default();
    let (changes, news) = channel();
    let (wanted, references) = watch::channel(Arc::<super::References>::default());
    let (outcome, outcomes) = watch::channel(status::Outcome::default());
    let known = |scope: &Scope| store.keys(scope);
    let scopes: Vec<_> = scopes.into_iter().map(|scope| (known(&scope), scope)).collect();
    let waited_for = scopes.iter().map(|(_, scope)| scope.clone()).collect();
    let translator = Translator::new(translator::Parts {
        store,
        from_disk,
        waited_for,
        tolerates_no_classes,
        options: meaning,
        metrics,
        disk,
        out,
        wanted,
        outcome,
    });
    let translating = std::thread::Builder::new().name("kube-translate".to_owned());
    translating.spawn(move || translator.run(&news))?;
    let (stop, stopping) = oneshot::channel();
    let (done, stopped) = oneshot::channel();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let following = std::thread::Builder::new().name("kube-watch".to_owned());
    following.spawn(move || {
        runtime.block_on(async move {
            let mut tasks = JoinSet::new();
            for (known, scope) in scopes {
                follow(&mut tasks, &context, scope, known, &changes);
            }
            tasks.spawn(references::follow(context.clone(), references, changes));
            let publish = Publish::new(context.clone());
            status::run(context, publish, outcomes, stopping).await;
            let _ = done.send(());
            // Endpoints still come and go while the process drains.
            while tasks.join_next().await.is_some() {}
        });
    })?;
    Ok(Running { stop, stopped })
}

/// Everything that is followed from the beginning.
fn scopes(meaning: &Options) -> Vec<Scope> {
    let namespaces: BTreeSet<Option<Arc<str>>> = match meaning.namespaces.is_empty() {
        true => [None].into(),
        false => meaning.namespaces.iter().cloned().map(Some).collect(),
    };
    let mut scopes = vec![Scope::all(Kind::IngressClass, None)];
    for kind in [Kind::Ingress, Kind::Service, Kind::EndpointSlice] {
        scopes.extend(namespaces.iter().map(|namespace| Scope::all(kind, namespace.clone())));
    }
    scopes
}

fn follow(
    tasks: &mut JoinSet<()>,
    context: &Arc<Context>,
    scope: Scope,
    known: HashSet<Key>,
    changes: &Sender<Change>,
) {
    let kind = scope.kind;
    let reflector = Reflector::new(context.clone(), scope, known, changes.clone());
    match kind {
        Kind::EndpointSlice => tasks.spawn(reflector.run::<EndpointSlice>()),
        Kind::Ingress => tasks.spawn(reflector.run::<Ingress>()),
        Kind::IngressClass => tasks.spawn(reflector.run::<IngressClass>()),
        Kind::Service => tasks.spawn(reflector.run::<Service>()),
        // Only where something refers to them: `references`.
        Kind::ConfigMap | Kind::Secret => return,
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_forbidden_is_said_with_the_rule_that_is_missing() {
        let fault = Fault::Refused {
            status: 403,
            reason: "Forbidden".to_owned(),
            message: "no".to_owned(),
            retry_after: None,
        };
        let scope = Scope::one(Kind::Secret, &Key::new("shop", "tls"));
        let said = advice("list", &scope, &fault);
        for part in [
            "list secrets in namespace shop",
            "403",
            "a Role in namespace shop",
            "apiGroups: [\"\"], resources: [\"secrets\"], resourceNames: [\"tls\"]",
        ] {
            assert!(said.contains(part), "{part}: {said}");
        }
        let said = advice("watch", &Scope::all(Kind::Ingress, None), &fault);
        assert!(said.contains("a ClusterRole") && said.contains("networking.k8s.io"), "{said}");
        assert!(said.ends_with("verbs: [\"get\", \"list\", \"watch\"] }"), "{said}");
    }

    #[test]
    fn namespaces_are_followed_one_by_one() {
        let mut meaning = Options::default();
        assert_eq!(scopes(&meaning).len(), 4);
        meaning.namespaces = ["a".into(), "b".into()].into();
        let scopes = scopes(&meaning);
        assert_eq!(scopes.len(), 7);
        let everywhere: Vec<_> = scopes.iter().filter(|s| s.namespace.is_none()).collect();
        assert_eq!(everywhere, [&Scope::all(Kind::IngressClass, None)]);
    }
}
