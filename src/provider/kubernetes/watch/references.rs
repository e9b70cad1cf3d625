//! Secrets and ConfigMaps, each by its name: no more of them is read than something refers to, and
//! a role may name each.
//!
//! A watch costs the API server and us a connection, so a bounded number is watched; those beyond
//! are asked for in turn.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use super::kind::{Kind, Watched, keep};
use super::reflect::{Reflector, Scope};
use super::{Change, Context};
use crate::provider::kubernetes::{Key, References};

/// How many are watched.
const WATCHED: usize = 100;
/// How often one of the others is asked for.
const EVERY: Duration = Duration::from_millis(100);
/// How often each of them is, where there are few.
const EACH: Duration = Duration::from_secs(30);
/// How many are asked for at once.
const AT_ONCE: usize = 16;

type Reference = (Kind, Key);

/// Follows what is `wanted` until nobody wants anything any more.
pub async fn follow(
    context: Arc<Context>,
    mut wanted: watch::Receiver<Arc<References>>,
    changes: Sender<Change>,
) {
    let mut watched: HashMap<Reference, tokio::task::AbortHandle> = HashMap::new();
    let mut tasks = JoinSet::new();
    let mut polled = Polled::default();
    let mut tick = interval(EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            changed = wanted.changed() => {
                if changed.is_err() {
                    return;
                }
                let now = all(&wanted.borrow_and_update());
                watched.retain(|reference, task| {
                    let keep = now.contains(reference);
                    if !keep {
                        task.abort();
                    }
                    keep
                });
                polled.keep_only(&now);
                for reference in now {
                    if watched.contains_key(&reference) || polled.has(&reference) {
                        continue;
                    }
                    if watched.len() < WATCHED {
                        let task = watch_one(&mut tasks, &context, &reference, &changes);
                        watched.insert(reference, task);
                    } else {
                        polled.add(reference);
                    }
                }
            }
            _ = tick.tick(), if !polled.is_empty() => {
                for reference in polled.due(Instant::now()) {
                    tasks.spawn(ask(context.clone(), reference, changes.clone()));
                }
            }
            Some(_) = tasks.join_next() => {}
        }
    }
}

fn all(references: &References) -> BTreeSet<Reference> {
    let secrets = references.secrets.iter().map(|key| (Kind::Secret, key.clone()));
    let maps = references.config_maps.iter().map(|key| (Kind::ConfigMap, key.clone()));
    secrets.chain(maps).collect()
}

fn watch_one(
    tasks: &mut JoinSet<()>,
    context: &Arc<Context>,
    (kind, key): &Reference,
    changes: &Sender<Change>,
) -> tokio::task::AbortHandle {
    let scope = Scope::one(*kind, key);
    let reflector = Reflector::new(context.clone(), scope, HashSet::new(), changes.clone());
    match kind {
        Kind::ConfigMap => tasks.spawn(reflector.run::<ConfigMap>()),
        _ => tasks.spawn(reflector.run::<Secret>()),
    }
}

async fn ask(context: Arc<Context>, (kind, key): Reference, changes: Sender<Change>) {
    match kind {
        Kind::ConfigMap => ask_for::<ConfigMap>(&context, key, &changes).await,
        _ => ask_for::<Secret>(&context, key, &changes).await,
    }
}

async fn ask_for<T: Watched + DeserializeOwned>(
    context: &Context,
    key: Key,
    changes: &Sender<Change>,
) {
    let scope = Scope::one(T::KIND, &key);
    let at = Instant::now();
    let objects = match context.api.get::<T>(&T::KIND.path_of(&key)).await {
        Ok(object) => keep(object).map(|(_, _, object)| (key, object)).into_iter().collect(),
        Err(fault) if fault.status() == 404 => Vec::new(),
        Err(fault) if fault.status() == 403 => {
            context.forbidden("get", &scope, &fault);
            let _ = changes.send(Change::Forbidden { scope });
            return;
        }
        Err(fault) => {
            tracing::debug!("get {} {key}: {fault}", T::KIND);
            return;
        }
    };
    // The whole of a scope in which there is one object at most.
    let _ = changes.send(Change::Listed { scope, objects, odd: HashSet::new(), at });
}

/// Those that are asked for in turn.
#[derive(Default)]
struct Polled {
    /// When each was asked for last.
    asked: HashMap<Reference, Option<Instant>>,
}

impl Polled {
    fn is_empty(&self) -> bool {
        self.asked.is_empty()
    }

    fn has(&self, reference: &Reference) -> bool {
        self.asked.contains_key(reference)
    }

    fn add(&mut self, reference: Reference) {
        self.asked.insert(reference, None);
    }

    fn keep_only(&mut self, wanted: &BTreeSet<Reference>) {
        self.asked.retain(|reference, _| wanted.contains(reference));
    }

    /// Whom to ask for now: those that never were, else the one that was longest ago.
    fn due(&mut self, now: Instant) -> Vec<Reference> {
        let new = self.asked.iter().filter(|(_, at)| at.is_none());
        let mut due: Vec<_> = new.map(|(reference, _)| reference.clone()).take(AT_ONCE).collect();
        if due.is_empty() {
            let oldest = self.asked.iter().min_by_key(|(_, at)| **at);
            let late = |at: Instant| now.saturating_duration_since(at) >= EACH;
            due.extend(oldest.filter(|(_, at)| at.is_none_or(late)).map(|(key, _)| key.clone()));
        }
        for reference in &due {
            self.asked.insert(reference.clone(), Some(now));
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_ones_are_asked_for_at_once_and_the_others_in_turn() {
        let mut polled = Polled::default();
        for number in 0..AT_ONCE + 1 {
            polled.add((Kind::Secret, Key::new("x", number.to_string())));
        }
        let start = Instant::now();
        assert_eq!(polled.due(start).len(), AT_ONCE);
        assert_eq!(polled.due(start + EVERY).len(), 1);
        assert!(polled.due(start + EVERY * 2).is_empty());
        assert_eq!(polled.due(start + EACH).len(), 1);
        polled.keep_only(&BTreeSet::new());
        assert!(polled.is_empty());
    }
}
