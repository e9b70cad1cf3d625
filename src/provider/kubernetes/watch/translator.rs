//! From what is known to what is served.
//!
//! A change is translated at once, those that follow closely together with one another. Endpoints
//! do not wait for that. Nothing is said before everything was heard once, and a configuration that
//! refers to a Secret or ConfigMap for the first time waits a moment for it.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use ir::{EndpointSpec, Fragment, Name, Problem};
use tokio::sync::watch;

use super::Change;
use super::disk::Disk;
use super::held::Held;
use super::kind::{Kind, Object};
use super::reflect::Scope;
use super::status::Outcome;
use super::store::{Effects, Store};
use crate::ir;
use crate::provider::kubernetes::{Ingress, Key, Memo, Options, References, Report, Translation};
use crate::telemetry::Metrics;

/// How long changes are gathered after a translation.
const GATHER: Duration = Duration::from_millis(10);
/// How long a configuration waits for the Secrets and ConfigMaps that it is the first to refer to.
const REFERENCES: Duration = Duration::from_millis(500);
/// How long a change of an Ingress waits for Services that it is the first to send to.
const SERVICES: Duration = Duration::from_millis(100);
/// How long the first configuration waits for Secrets and ConfigMaps.
const FIRST_REFERENCES: Duration = Duration::from_secs(5);
/// How long the API server may take before what was known in an earlier life is served.
const FALL_BACK: Duration = Duration::from_secs(5);
/// How often what is known is written down, where it changes.
const WRITE: Duration = Duration::from_secs(2);

/// The endpoints of upstreams.
type Lists = BTreeMap<Name, Arc<[EndpointSpec]>>;

/// What is to be served.
pub enum Update {
    /// All of it.
    All(Everything),
    /// Other endpoints of some upstreams.
    Endpoints {
        /// Their lists.
        lists: Lists,
        /// When the oldest of these changes became known.
        since: Instant,
    },
}

/// The whole of what is to be served.
pub struct Everything {
    /// The configuration.
    pub fragment: Arc<Fragment>,
    /// The endpoints of its discovered upstreams.
    pub endpoints: Arc<Lists>,
    /// What is wrong.
    pub problems: Vec<Problem>,
    /// When the oldest of the changes became known; `None` at the beginning.
    pub since: Option<Instant>,
}

/// What a translator works with.
pub struct Parts {
    /// What is known.
    pub store: Store,
    /// Whether that was known in an earlier life.
    pub from_disk: bool,
    /// What must be heard of first.
    pub waited_for: BTreeSet<Scope>,
    /// Whether it is no matter that classes may not be read.
    pub tolerates_no_classes: bool,
    /// What objects mean.
    pub options: Options,
    /// Where it counts.
    pub metrics: Metrics,
    /// Where what is known is kept.
    pub disk: Option<Disk>,
    /// Who is told.
    pub out: Box<dyn FnMut(Update) -> bool + Send>,
    /// Where it says what of Secrets and ConfigMaps it needs.
    pub wanted: watch::Sender<Arc<References>>,
    /// Where it says what became of Ingresses.
    pub outcome: watch::Sender<Outcome>,
}

/// Keeps what is known and says what is served.
pub struct Translator {
    parts: Parts,
    started: Instant,
    spoken: bool,
    effects: Effects,
    /// When the oldest change became known that is not served yet.
    since: Option<Instant>,
    /// When the last translation was done.
    translated: Option<Instant>,
    /// References that were not heard of yet.
    pending: BTreeSet<(Kind, Key)>,
    /// Until when a translation that is done waits for these.
    held_until: Option<Instant>,
    /// Services that Ingresses send to and that were not heard of, and until when that is waited for.
    awaited: (BTreeSet<Key>, Option<Instant>),
    memo: Memo,
    held: Held,
    /// What Secrets and ConfigMaps are known for.
    kept: Option<Arc<References>>,
    ours: Arc<BTreeMap<Key, Arc<Report>>>,
    said: Option<(Arc<Fragment>, Vec<Problem>)>,
    endpoints: Arc<Lists>,
    /// When what is known changed that is not written down.
    unwritten: Option<Instant>,
    alive: bool,
}

impl Translator {
    /// A translator that has said nothing.
    pub fn new(parts: Parts) -> Self {
        Self {
            parts,
            started: Instant::now(),
            spoken: false,
            effects: Effects { configuration: true, ..Effects::default() },
            since: None,
            translated: None,
            pending: BTreeSet::new(),
            held_until: None,
            awaited: Default::default(),
            memo: Memo::default(),
            held: Held::default(),
            kept: None,
            ours: Default::default(),
            said: None,
            endpoints: Default::default(),
            unwritten: None,
            alive: true,
        }
    }

    /// Works until nobody tells anything any more, or nobody listens.
    pub fn run(mut self, news: &Receiver<Change>) {
        while self.alive {
            let first = match self.due() {
                None => news.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(at) => news.recv_timeout(at.saturating_duration_since(Instant::now())),
            };
            match first {
                Ok(change) => {
                    self.take(change);
                    while let Ok(change) = news.try_recv() {
                        self.take(change);
                    }
                    self.count();
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            self.act(Instant::now());
        }
    }

    /// When there is something to do without any news.
    fn due(&self) -> Option<Instant> {
        let fall_back = (!self.spoken && self.parts.from_disk).then(|| self.started + FALL_BACK);
        let translate = (self.effects.configuration && self.may_speak(Instant::now()))
            .then(|| self.translated.map_or(self.started, |at| at + GATHER))
            .map(|at| self.awaited.1.map_or(at, |until| until.max(at)));
        let write = self.unwritten.filter(|_| self.parts.disk.is_some()).map(|at| at + WRITE);
        [fall_back, translate, self.held_until, write].into_iter().flatten().min()
    }

    fn take(&mut self, change: Change) {
        let effects = &mut self.effects;
        let at = match change {
            Change::Set { key, object, at } => {
                if matches!(object, Object::Secret(_) | Object::ConfigMap(_)) {
                    // It may come when nobody refers to it any more.
                    self.kept = None;
                }
                let before = std::mem::take(&mut effects.configuration);
                let ingress = matches!(object, Object::Ingress(_)).then(|| key.clone());
                let mut lacked = Vec::new();
                if let Some(key) = &ingress {
                    self.held.replaces(key, self.parts.store.inputs());
                    lacked = self.parts.store.lacks(key);
                }
                self.parts.store.set(key, object, effects);
                let changed = ingress.filter(|_| effects.configuration);
                effects.configuration |= before;
                if let Some(key) = changed.filter(|_| self.spoken) {
                    // What it lacked before is not on its way.
                    let lacks = self.parts.store.lacks(&key).into_iter();
                    self.awaited.0.extend(lacks.filter(|service| !lacked.contains(service)));
                }
                Some(at)
            }
            Change::Gone { kind, key, at } => {
                self.parts.store.gone(kind, &key, effects);
                Some(at)
            }
            Change::Listed { scope, objects, odd, at } => {
                for (key, _) in objects.iter().filter(|_| scope.kind == Kind::Ingress) {
                    self.held.replaces(key, self.parts.store.inputs());
                }
                self.parts.store.listed(&scope, objects, &odd, effects);
                self.heard(&scope);
                Some(at)
            }
            Change::Forbidden { scope } => {
                let classes = scope.kind == Kind::IngressClass;
                if scope.name.is_some() || (classes && self.parts.tolerates_no_classes) {
                    self.heard(&scope);
                }
                None
            }
        };
        if !self.effects.configuration {
            self.held.nothing_changed();
        }
        if at.is_some() && (self.effects.configuration || !self.effects.services.is_empty()) {
            self.since = [self.since, at].into_iter().flatten().min();
            self.unwritten.get_or_insert_with(Instant::now);
        }
    }

    fn heard(&mut self, scope: &Scope) {
        self.parts.waited_for.remove(scope);
        if let (Some(namespace), Some(name)) = (&scope.namespace, &scope.name) {
            let key = Key::new(namespace.clone(), name.clone());
            // That there is none is news as well, where it was waited for.
            self.effects.configuration |= self.pending.remove(&(scope.kind, key));
        }
    }

    fn count(&self) {
        let kubernetes = self.parts.metrics.kubernetes();
        for (kind, count) in self.parts.store.counts() {
            kubernetes.set_objects(kind.name(), count);
        }
        kubernetes.set_synced(self.parts.waited_for.is_empty());
    }

    /// Whether enough is known to say something.
    fn may_speak(&self, now: Instant) -> bool {
        let waited = now.saturating_duration_since(self.started) >= FALL_BACK;
        self.spoken || self.parts.waited_for.is_empty() || (self.parts.from_disk && waited)
    }

    fn act(&mut self, now: Instant) {
        if !self.may_speak(now) {
            return;
        }
        if self.spoken && !self.effects.services.is_empty() {
            self.tell_endpoints();
        }
        let waits = self.waits_for_services(now);
        let rested = self.translated.is_none_or(|at| now >= at + GATHER);
        let let_go = self.held_until.is_some_and(|at| now >= at);
        if (self.effects.configuration && rested && !waits) || let_go {
            self.tell_all(now);
        } else if self.effects.status && !self.effects.configuration {
            self.effects.status = false;
            self.tell_outcome();
        }
        if self.unwritten.is_some_and(|at| now >= at + WRITE)
            && let Some(disk) = &mut self.parts.disk
        {
            let kept = disk.keep(&self.held.standing_in(self.parts.store.inputs()));
            self.unwritten = if kept { None } else { Some(now) };
        }
    }

    /// Whether a change of an Ingress has to wait for the Services it sends to: a route that refuses
    /// everything for the moment between two watches is worse than one that comes after it.
    fn waits_for_services(&mut self, now: Instant) -> bool {
        let (awaited, until) = &mut self.awaited;
        let store = &self.parts.store;
        awaited.retain(|key| !store.is_whole(key));
        if awaited.is_empty() {
            *until = None;
            return false;
        }
        let waits = now < *until.get_or_insert(now + SERVICES);
        if !waits {
            self.awaited = Default::default();
        }
        waits
    }

    /// The short way: no translation, no compilation.
    fn tell_endpoints(&mut self) {
        let mut lists = Lists::new();
        for service in std::mem::take(&mut self.effects.services) {
            for (name, list) in self.memo.endpoints(self.parts.store.inputs(), &service) {
                if self.endpoints.get(&name) != Some(&list) {
                    Arc::make_mut(&mut self.endpoints).insert(name.clone(), list.clone());
                    lists.insert(name, list);
                }
            }
        }
        let since = self.since.unwrap_or_else(Instant::now);
        if !self.effects.configuration {
            self.since = None;
        }
        if !lists.is_empty() {
            self.say(Update::Endpoints { lists, since });
        }
    }

    fn tell_all(&mut self, now: Instant) {
        let translation = self.translate();
        self.effects = Effects::default();
        self.translated = Some(Instant::now());
        let Some(translation) = translation else {
            self.held_until = None;
            return;
        };
        self.want(&translation.references);
        if self.is_held(now) {
            // What is missing comes as a change.
            return;
        }
        self.held_until = None;
        if !self.kept.as_ref().is_some_and(|kept| Arc::ptr_eq(kept, &translation.references)) {
            let References { secrets, config_maps } = &*translation.references;
            self.parts.store.keep_only(secrets, config_maps);
            self.kept = Some(translation.references);
        }
        let lists = translation.endpoints;
        let mut problems = translation.problems;
        problems.extend(self.held.problems());
        problems.extend(self.doubt());
        let since = self.since.take();
        let same = self.said.as_ref().is_some_and(|(fragment, before)| {
            **fragment == translation.fragment && *before == problems
        });
        // What was said before is large: it is let go of after this was told.
        let mut retired = (std::mem::replace(&mut self.ours, translation.reports), None, None);
        if !same || self.endpoints != lists {
            let fragment = Arc::new(translation.fragment);
            retired.1 = self.said.replace((fragment.clone(), problems.clone()));
            retired.2 = Some(std::mem::replace(&mut self.endpoints, lists.clone()));
            self.say(Update::All(Everything { fragment, endpoints: lists, problems, since }));
        }
        drop(retired);
        if !self.spoken {
            self.spoken = true;
            let took = self.started.elapsed();
            tracing::info!(?took, ingresses = self.ours.len(), "the cluster is known");
        }
        self.tell_outcome();
    }

    /// What is known, translated; `None` where that ends in a panic: an object that finds a bug must
    /// not keep all others from ever changing again.
    fn translate(&mut self) -> Option<Translation> {
        let began = Instant::now();
        let (memo, held) = (&mut self.memo, &mut self.held);
        let (inputs, options) = (self.parts.store.inputs(), &self.parts.options);
        let translation = catch_unwind(AssertUnwindSafe(|| {
            let translation = memo.translate(&held.standing_in(inputs), options);
            match held.judge(&translation, inputs) {
                true => memo.translate(&held.standing_in(inputs), options),
                false => translation,
            }
        }));
        tracing::debug!(took = ?began.elapsed(), "translated");
        translation
            .inspect_err(|_| {
                // Half a translation is no ground for the next.
                self.memo = Memo::default();
                tracing::error!(
                    "an object of the cluster has found a bug: what is served stays as it is until \
                     the object changes"
                );
            })
            .ok()
    }

    /// Says what is needed beside objects that are always followed.
    fn want(&mut self, references: &Arc<References>) {
        let before = self.parts.wanted.borrow().clone();
        // Mostly they are the same in memory.
        if before == *references {
            return;
        }
        let news = |kind, now: &BTreeSet<Key>, before: &BTreeSet<Key>| {
            now.difference(before).map(move |key| (kind, key.clone())).collect::<Vec<_>>()
        };
        self.pending.extend(news(Kind::Secret, &references.secrets, &before.secrets));
        self.pending.extend(news(Kind::ConfigMap, &references.config_maps, &before.config_maps));
        self.pending.retain(|(kind, key)| match kind {
            Kind::Secret => references.secrets.contains(key),
            _ => references.config_maps.contains(key),
        });
        self.parts.wanted.send_replace(references.clone());
    }

    /// Whether a translation that is done must wait for what it refers to.
    fn is_held(&mut self, now: Instant) -> bool {
        if self.pending.is_empty() {
            return false;
        }
        let patience = if self.spoken { REFERENCES } else { FIRST_REFERENCES };
        let until = *self.held_until.get_or_insert(now + patience);
        if now >= until {
            // It is not waited for again; when it comes it is a change like any other.
            self.pending.clear();
        }
        now < until
    }

    /// What is to be said about serving what was known in an earlier life.
    fn doubt(&self) -> Option<Problem> {
        (!self.parts.waited_for.is_empty() && self.parts.from_disk).then(|| {
            let message = "not everything was heard from the API server since the start: what is \
                           served is what an earlier process wrote down";
            Problem::warning(message).hint("it is replaced by what the API server says")
        })
    }

    fn tell_outcome(&self) {
        // Both are in order: thousands of look-ups would take longer than all of a translation.
        let mut ours = self.ours.keys().peekable();
        let mut is_ours = |key: &Key| {
            while ours.next_if(|ours| *ours < key).is_some() {}
            ours.next_if(|ours| *ours == key).is_some()
        };
        let (mut ingresses, mut others) = (Vec::new(), Vec::new());
        for (key, ingress) in &self.parts.store.inputs().ingresses {
            match is_ours(key) {
                true => ingresses.push((key.clone(), ingress.clone())),
                false if has_address(ingress) => others.push((key.clone(), ingress.clone())),
                false => {}
            }
        }
        let problems = self.said.as_ref().map(|(_, problems)| problems.clone());
        let problems = problems.unwrap_or_default();
        self.parts.outcome.send_replace(Outcome { ingresses, others, problems });
    }

    fn say(&mut self, update: Update) {
        self.alive = (self.parts.out)(update);
    }
}

fn has_address(ingress: &Ingress) -> bool {
    let status = ingress.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    status.and_then(|status| status.ingress.as_ref()).is_some_and(|all| !all.is_empty())
}

#[cfg(test)]
mod tests;
