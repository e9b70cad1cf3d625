//! A cluster at one moment: what configuration is made from, listed once. Nothing is watched and
//! nothing is written.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ir::Problem;
use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::{Ingress, IngressClass};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::api::{Access, Api, Fault};
use super::kind::{Kind, Object, Watched, keep};
use super::list::{List, list};
use super::reflect::Scope;
use super::store::{Effects, Store};
use super::{missing_rule, refused, scopes};
use crate::ir;
use crate::provider::kubernetes::report::origin;
use crate::provider::kubernetes::{Inputs, Key, Memo, Options, References};

/// How long a list may take: a person waits for it.
const PATIENCE: Duration = Duration::from_secs(30);
/// How many Secrets and ConfigMaps are asked for at once.
const AT_ONCE: usize = 16;
/// How many of them are named where there are many.
const NAMED: usize = 3;

/// What was seen.
pub struct Look {
    /// The objects, and over them those that they are to be seen with.
    pub inputs: Inputs,
    /// The Secrets and ConfigMaps that may not be read.
    pub unread: References,
    /// What could not be read or understood.
    pub problems: Vec<Problem>,
}

/// Looks at the cluster as if `over` had been applied to it. Blocks; it is bounded in time.
///
/// # Errors
/// If the API server does not answer, or keeps what nothing can be said without: what to do about
/// it is in the text.
pub fn look(access: Access, over: &Inputs, meaning: &Options) -> Result<Look, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let looked = runtime.block_on(async {
        let mut looking = Looking {
            api: Arc::new(Api::new(access)),
            store: Store::default(),
            unread: BTreeMap::new(),
            problems: Vec::new(),
        };
        looking.list_all(meaning).await?;
        looking.references(over, meaning).await
    });
    // A name that is being resolved must not be waited for.
    runtime.shutdown_background();
    looked
}

struct Looking {
    api: Arc<Api>,
    store: Store,
    /// What may not be read, and why.
    unread: BTreeMap<(Kind, Key), Fault>,
    problems: Vec<Problem>,
}

impl Looking {
    /// What is always read.
    async fn list_all(&mut self, meaning: &Options) -> Result<(), String> {
        let mut forbidden = Vec::new();
        for scope in scopes(meaning) {
            let listed = match scope.kind {
                Kind::EndpointSlice => self.list::<EndpointSlice>(&scope).await,
                Kind::Ingress => self.list::<Ingress>(&scope).await,
                Kind::IngressClass => self.list::<IngressClass>(&scope).await,
                Kind::Service => self.list::<Service>(&scope).await,
                // Only where something refers to them.
                Kind::ConfigMap | Kind::Secret => Ok(()),
            };
            match listed {
                Ok(()) => {}
                Err(fault) if fault.status() == 403 => forbidden.push((scope, fault)),
                Err(fault) => return Err(unreachable(&scope, &fault)),
            }
        }
        // A Role in some namespaces cannot allow it.
        let tolerated =
            |scope: &Scope| scope.kind == Kind::IngressClass && !meaning.namespaces.is_empty();
        if forbidden.iter().any(|(scope, _)| tolerated(scope)) {
            let problem = Problem::warning("IngressClasses may not be read: none is known");
            self.problems.push(problem.hint("with --ingress-class-by-name classes count by name"));
            forbidden.retain(|(scope, _)| !tolerated(scope));
        }
        match forbidden.is_empty() {
            true => Ok(()),
            false => Err(all_forbidden(&forbidden)),
        }
    }

    async fn list<T: Watched>(&mut self, scope: &Scope) -> Result<(), Fault> {
        let path = scope.kind.path(scope.namespace.as_deref());
        let listed = timeout(PATIENCE, list::<T>(&self.api, &path, "")).await;
        let late = |_| Err(Fault::Unreachable(format!("not within {PATIENCE:?}")));
        let List { objects, odd, .. } = listed.unwrap_or_else(late)?;
        for (key, why) in odd {
            let problem = Problem::error(format!("it cannot be understood: {why}"));
            let nameless = || Key::new("", "?");
            let about = origin(scope.kind.name(), &key.unwrap_or_else(nameless));
            self.problems.push(problem.about(&about));
        }
        let (odd, ignored) = (HashSet::new(), &mut Effects::default());
        self.store.listed(scope, objects, &odd, ignored);
        Ok(())
    }

    /// The Secrets and ConfigMaps that something refers to; one may refer to others.
    async fn references(mut self, over: &Inputs, meaning: &Options) -> Result<Look, String> {
        let mut inputs = self.store.inputs().clone();
        apply(over, &mut inputs);
        let mut memo = Memo::default();
        let mut asked: BTreeSet<(Kind, Key)> = BTreeSet::new();
        loop {
            let references = memo.translate(&inputs, meaning).references;
            let References { secrets, config_maps } = Arc::unwrap_or_clone(references);
            let secrets = secrets.into_iter().filter(|key| !inputs.secrets.contains_key(key));
            let maps = config_maps.into_iter().filter(|key| !inputs.config_maps.contains_key(key));
            let wanted = secrets.map(|key| (Kind::Secret, key));
            let wanted = wanted.chain(maps.map(|key| (Kind::ConfigMap, key)));
            let wanted: Vec<_> = wanted.filter(|one| asked.insert(one.clone())).collect();
            if wanted.is_empty() {
                break;
            }
            self.fetch(wanted, &mut inputs).await?;
        }
        self.tell_unread(Kind::Secret, meaning);
        self.tell_unread(Kind::ConfigMap, meaning);
        let mut unread = References::default();
        for (kind, key) in self.unread.into_keys() {
            match kind {
                Kind::Secret => unread.secrets.insert(key),
                _ => unread.config_maps.insert(key),
            };
        }
        Ok(Look { inputs, unread, problems: self.problems })
    }

    async fn fetch(&mut self, wanted: Vec<(Kind, Key)>, inputs: &mut Inputs) -> Result<(), String> {
        let mut wanted = wanted.into_iter();
        let mut asking = JoinSet::new();
        loop {
            for (kind, key) in wanted.by_ref().take(AT_ONCE - asking.len()) {
                asking.spawn(get(self.api.clone(), kind, key));
            }
            let Some(answer) = asking.join_next().await else { return Ok(()) };
            let Ok((kind, key, answer)) = answer else { continue };
            match answer {
                Ok(Some(Object::Secret(secret))) => drop(inputs.secrets.insert(key, secret)),
                Ok(Some(Object::ConfigMap(map))) => drop(inputs.config_maps.insert(key, map)),
                Ok(_) => {}
                Err(fault) if fault.status() == 404 => {}
                Err(fault) if fault.status() == 403 => {
                    self.unread.insert((kind, key), fault);
                }
                Err(fault) => return Err(unreachable(&Scope::one(kind, &key), &fault)),
            }
        }
    }

    /// Says that some of a kind may not be read, once for all of them.
    fn tell_unread(&mut self, kind: Kind, meaning: &Options) {
        let unread = self.unread.iter().filter(|((other, _), _)| *other == kind);
        let unread: Vec<_> = unread.map(|((_, key), fault)| (key, fault)).collect();
        let Some((first, fault)) = unread.first() else { return };
        let mut scope = Scope::one(kind, first);
        if meaning.namespaces.is_empty() {
            scope.namespace = None;
        }
        let names: Vec<_> = unread.iter().take(NAMED).map(|(key, _)| key.to_string()).collect();
        let more = match unread.len().saturating_sub(NAMED) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let message = format!(
            "{}: {fault}; what {}{more} would say is not judged",
            refused("get", &scope),
            names.join(", ")
        );
        scope.name = None;
        let (role, rule) = missing_rule(&scope, &["get"]);
        let hint = format!("give {role} of whoever asks the rule {rule}");
        self.problems.push(Problem::warning(message).hint(hint));
    }
}

async fn get(api: Arc<Api>, kind: Kind, key: Key) -> (Kind, Key, Result<Option<Object>, Fault>) {
    let path = kind.path_of(&key);
    let asking = async {
        match kind {
            Kind::Secret => api.get::<Secret>(&path).await.map(keep),
            _ => return api.get::<ConfigMap>(&path).await.map(keep),
        }
    };
    let late = |_| Err(Fault::Unreachable(format!("not within {PATIENCE:?}")));
    let answer = timeout(PATIENCE, asking).await.unwrap_or_else(late);
    (kind, key, answer.map(|kept| kept.map(|(_, _, object)| object)))
}

/// Puts objects over those of the cluster, as `kubectl apply` would: what is there keeps its age,
/// and what is not is the youngest.
fn apply(over: &Inputs, inputs: &mut Inputs) {
    for (key, ingress) in &over.ingresses {
        let mut ingress = crate::provider::kubernetes::Ingress::clone(ingress);
        let created = inputs.ingresses.get(key).and_then(|before| before.created.clone());
        ingress.created = Some(created.unwrap_or_else(|| Time(Timestamp::now())));
        inputs.ingresses.insert(key.clone(), Arc::new(ingress));
    }
    fn extend<K: Ord + Clone, V: Clone>(over: &BTreeMap<K, V>, to: &mut BTreeMap<K, V>) {
        to.extend(over.iter().map(|(key, value)| (key.clone(), value.clone())));
    }
    extend(&over.classes, &mut inputs.classes);
    extend(&over.services, &mut inputs.services);
    extend(&over.secrets, &mut inputs.secrets);
    extend(&over.config_maps, &mut inputs.config_maps);
    for (service, slices) in &over.slices {
        let known = Arc::make_mut(inputs.slices.entry(service.clone()).or_default());
        for (name, slice) in slices.iter() {
            known.insert(name.clone(), slice.clone());
        }
    }
}

fn unreachable(scope: &Scope, fault: &impl fmt::Display) -> String {
    format!(
        "the cluster cannot be read: list {}: {fault}\nWhich API server is asked, and as whom, is \
         what the kubeconfig says (--kubeconfig or KUBECONFIG, and --context); `kubectl get \
         ingresses` must work with it",
        scope.kind.plural()
    )
}

/// What may not be read, each with the rule that is missing.
fn all_forbidden(forbidden: &[(Scope, Fault)]) -> String {
    let mut text = "nothing can be said of the cluster".to_owned();
    for (scope, fault) in forbidden {
        let (role, rule) = missing_rule(scope, &["list"]);
        let refused = refused("list", scope);
        text = format!("{text}\n{refused}: {fault}\n  give {role} of whoever asks the rule {rule}");
    }
    text
}
