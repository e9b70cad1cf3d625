//! Follows all objects of one kind, in one namespace or in all: a list, then watches, and a list
//! again where these can no longer follow.
//!
//! What was told stays until a complete list replaces it. A watch that ends is taken up where it
//! ended; one from which nothing is heard any more is cut off a little after the server should have
//! ended it.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use tokio::time::{sleep, timeout_at};

use super::api::{Api, Fault};
use super::backoff::Backoff;
use super::guard::Guard;
use super::kind::{Kind, Watched};
use super::list::{List, list};
use super::stream::{Event, Events};
use super::{Change, Context};
use crate::provider::kubernetes::Key;

/// The longest pause while nobody answers: trying costs little, and it should be noticed soon that
/// someone does.
const UNREACHABLE: Duration = Duration::from_millis(800);
/// The longest pause after a refusal.
const REFUSED: Duration = Duration::from_secs(15);
/// The longest pause after a refusal that may pass by itself.
const STARTING: Duration = Duration::from_secs(3);
/// How much later than the server we end a watch.
const GRACE: Duration = Duration::from_secs(3);
/// A watch that ends sooner than this, and without a word, is no good.
const TOO_SHORT: Duration = Duration::from_millis(500);
/// As faults are labelled.
const FORBIDDEN: &str = "forbidden";
/// How many watches may fail in a row before the list is asked for again.
const PATIENCE: u32 = 5;

/// What of a kind is followed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Scope {
    /// The kind.
    pub kind: Kind,
    /// The namespace; `None` is all of them.
    pub namespace: Option<Arc<str>>,
    /// The one object, where only one is followed.
    pub name: Option<Arc<str>>,
}

impl Scope {
    /// Everything of `kind`, in `namespace` alone where one is given.
    pub fn all(kind: Kind, namespace: Option<Arc<str>>) -> Self {
        Self { kind, namespace, name: None }
    }

    /// One object.
    pub fn one(kind: Kind, key: &Key) -> Self {
        Self { kind, namespace: Some(key.namespace.clone()), name: Some(key.name.clone()) }
    }

    /// Whether the object `key` is in it.
    pub fn holds(&self, key: &Key) -> bool {
        self.namespace.as_ref().is_none_or(|namespace| *namespace == key.namespace)
            && self.name.as_ref().is_none_or(|name| *name == key.name)
    }

    fn path(&self) -> String {
        self.kind.path(self.namespace.as_deref())
    }

    fn selector(&self) -> String {
        self.name.as_ref().map(|name| format!("metadata.name={name}")).unwrap_or_default()
    }
}

/// Follows a [`Scope`].
pub struct Reflector {
    context: Arc<Context>,
    scope: Scope,
    changes: Sender<Change>,
    backoff: Backoff,
    guard: Guard,
    /// What is there as far as it was told.
    known: HashSet<Key>,
    /// Where the next watch begins; `None` where a list is needed first.
    version: Option<String>,
    /// Why it failed last, so that this is said once.
    told: Option<&'static str>,
    /// Whether it might not be read when that was last known.
    forbidden: bool,
}

impl Reflector {
    /// Follows `scope`; `known` are the objects that are believed to be there.
    pub fn new(
        context: Arc<Context>,
        scope: Scope,
        known: HashSet<Key>,
        changes: Sender<Change>,
    ) -> Self {
        let backoff = Backoff::new(context.seed());
        let guard = Guard::new(context.options.watch_timeout);
        let (version, told, forbidden) = (None, None, false);
        Self { context, scope, changes, backoff, guard, known, version, told, forbidden }
    }

    /// Follows it until it is aborted.
    pub async fn run<T: Watched>(mut self) {
        loop {
            let outcome = match self.version.clone() {
                None => self.list::<T>().await,
                Some(version) => self.watch::<T>(&version).await,
            };
            if let Err((verb, fault)) = outcome {
                sleep(self.failed(verb, &fault)).await;
            }
        }
    }

    async fn list<T: Watched>(&mut self) -> Result<(), (&'static str, Fault)> {
        let (path, selector) = (self.scope.path(), self.scope.selector());
        let listed = list::<T>(self.api(), &path, &selector).await;
        let listed = listed.map_err(|fault| ("list", fault))?;
        let known = self.known.len();
        let now: HashSet<Key> = listed.objects.iter().map(|(key, _)| key.clone()).collect();
        let odd: HashSet<&Key> = listed.odd.iter().filter_map(|(key, _)| key.as_ref()).collect();
        let lost = self.known.iter().filter(|key| !now.contains(key) && !odd.contains(key));
        let lost = lost.count();
        // One object may well be gone, and a scope of one has nothing to compare it with.
        if self.scope.name.is_none() && !self.guard.believes(known, lost, Instant::now()) {
            let message = format!("a list lacks {lost} of {known} objects, which stay for now");
            return Err(("list", Fault::Doubted(message)));
        }
        self.take(listed, now);
        Ok(())
    }

    fn take(&mut self, listed: List, now: HashSet<Key>) {
        for (key, why) in &listed.odd {
            self.tell_odd(&key.as_ref().map_or_else(|| "?".to_owned(), Key::to_string), why);
        }
        // What is there and cannot be understood stays as it was.
        let odd: HashSet<Key> = listed.odd.into_iter().filter_map(|(key, _)| key).collect();
        self.known.retain(|key| odd.contains(key));
        self.known.extend(now);
        self.version = Some(listed.version);
        self.succeeded();
        let (scope, objects) = (self.scope.clone(), listed.objects);
        self.tell(Change::Listed { scope, objects, odd, at: Instant::now() });
    }

    async fn watch<T: Watched>(&mut self, version: &str) -> Result<(), (&'static str, Fault)> {
        let began = Instant::now();
        let span = self.context.watch_span();
        let path = self.watch_path(version, span);
        // From before the request: a server that takes it and never answers is silent, too.
        let end = tokio::time::Instant::now() + span + GRACE;
        let silent = || ("watch", Fault::Unreachable("it went silent".to_owned()));
        let body = match timeout_at(end, self.api().open(&path)).await {
            Err(_) => return Err(silent()),
            Ok(body) => body.map_err(|fault| self.cannot_watch(fault))?,
        };
        // Before there are any news, which may take long.
        self.may_read();
        let mut events = Events::new(body);
        let mut heard = false;
        loop {
            let step = match timeout_at(end, events.next::<T>()).await {
                Err(_) => return Err(silent()),
                Ok(step) => step.map_err(|fault| ("watch", fault))?,
            };
            let Some(step) = step else { break };
            if let Event::Failed(fault) = step.event {
                return Err(self.cannot_watch(fault));
            }
            heard = true;
            self.succeeded();
            if let Some(version) = step.version.filter(|version| !version.is_empty()) {
                self.version = Some(version);
            }
            self.event(step.event);
        }
        if !heard && began.elapsed() < TOO_SHORT.min(span) {
            return Err(("watch", Fault::Unreachable("it ended at once".to_owned())));
        }
        self.succeeded();
        self.metrics().restarted(self.scope.kind.name(), "ended");
        Ok(())
    }

    fn watch_path(&self, version: &str, span: Duration) -> String {
        let mut asked = form_urlencoded::Serializer::new(String::new());
        asked.append_pair("watch", "true").append_pair("allowWatchBookmarks", "true");
        asked.append_pair("resourceVersion", version);
        asked.append_pair("timeoutSeconds", &span.as_secs().max(1).to_string());
        let selector = self.scope.selector();
        if !selector.is_empty() {
            asked.append_pair("fieldSelector", &selector);
        }
        format!("{}?{}", self.scope.path(), asked.finish())
    }

    fn event(&mut self, event: Event) {
        let at = Instant::now();
        let scope = self.scope.clone();
        let change = match event {
            // A server that does not know the selector tells of others, too.
            Event::Set(key, _) | Event::Gone(key) if !scope.holds(&key) => return,
            Event::Set(key, object) => {
                self.known.insert(key.clone());
                Change::Set { key, object, at }
            }
            Event::Gone(key) => {
                self.known.remove(&key);
                Change::Gone { kind: scope.kind, key, at }
            }
            Event::Odd(name, why) => return self.tell_odd(&name, &why),
            Event::Bookmark | Event::Failed(_) => return,
        };
        self.tell(change);
    }

    /// A watch that fails so that only a list helps is followed by one.
    fn cannot_watch(&mut self, fault: Fault) -> (&'static str, Fault) {
        if fault.status() == 410 {
            self.version = None;
        }
        ("watch", fault)
    }

    fn succeeded(&mut self) {
        self.backoff.reset();
        self.metrics().heard();
        self.told = None;
        self.may_read();
    }

    fn may_read(&mut self) {
        if std::mem::take(&mut self.forbidden) && self.context.allowed(&self.scope) {
            tracing::info!("{} can be read again", self.scope.kind.plural());
        }
    }

    /// Says what is wrong, once; how long to wait.
    fn failed(&mut self, verb: &'static str, fault: &Fault) -> Duration {
        self.metrics().restarted(self.scope.kind.name(), fault.label());
        let kind = self.scope.kind;
        let failures = self.backoff.failures();
        let label = fault.label();
        let mut starting = false;
        if label == FORBIDDEN {
            self.forbidden = true;
            starting = self.context.forbidden(verb, &self.scope, fault);
            self.tell(Change::Forbidden { scope: self.scope.clone() });
        } else if self.told != Some(label) && fault.status() != 410 {
            tracing::warn!("{verb} {}: {fault}; what is known stays", kind.plural());
        } else {
            tracing::debug!("{verb} {}: {fault}", kind.plural());
        }
        self.told = Some(label);
        if verb == "watch" && failures >= PATIENCE {
            self.version = None;
        }
        let longest = match fault {
            Fault::Refused { .. } if starting => STARTING,
            Fault::Unreachable(_) => UNREACHABLE,
            Fault::Doubted(_) => REFUSED.min(self.context.options.watch_timeout / 4),
            Fault::Malformed(_) | Fault::Refused { .. } => REFUSED,
        };
        let pause = self.backoff.next(longest);
        match (fault.retry_after(), fault.status()) {
            (Some(after), _) => pause.max(after),
            // A list right after it is what the server wants.
            (None, 410) if failures == 0 => Duration::ZERO,
            (None, _) => pause,
        }
    }

    fn tell_odd(&self, name: &str, why: &str) {
        let kind = self.scope.kind;
        tracing::error!("{kind} {name} cannot be understood, what was known of it stays: {why}");
    }

    /// Where nobody listens any more the process is about to end.
    fn tell(&self, change: Change) {
        let _ = self.changes.send(change);
    }

    fn api(&self) -> &Api {
        &self.context.api
    }

    fn metrics(&self) -> &crate::telemetry::KubernetesMetrics {
        self.context.metrics.kubernetes()
    }
}
