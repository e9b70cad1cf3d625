//! Ingresses that cannot be taken over as they are: what they were before stays in force.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use ir::Problem;

use crate::ir;
use crate::provider::kubernetes::{Ingress, Inputs, Key, Translation};

/// The last good versions of Ingresses whose present ones are refused.
#[derive(Default)]
pub struct Held {
    /// What changed since the last translation, as it was before.
    before: BTreeMap<Key, Arc<Ingress>>,
    held: BTreeMap<Key, Version>,
}

/// What stands in for an Ingress.
struct Version {
    refused: Arc<Ingress>,
    good: Arc<Ingress>,
    problems: Vec<Problem>,
}

impl Held {
    /// The Ingress `key` is about to become another than it is in `inputs`.
    pub fn replaces(&mut self, key: &Key, inputs: &Inputs) {
        if let Some(ingress) = inputs.ingresses.get(key) {
            self.before.entry(key.clone()).or_insert_with(|| ingress.clone());
        }
    }

    /// What was about to become another is none.
    pub fn nothing_changed(&mut self) {
        self.before.clear();
    }

    /// `inputs` with the good versions of those that are refused.
    pub fn standing_in<'i>(&self, inputs: &'i Inputs) -> Cow<'i, Inputs> {
        let mut now = Cow::Borrowed(inputs);
        for (key, version) in &self.held {
            if is(&version.refused, inputs.ingresses.get(key)) {
                now.to_mut().ingresses.insert(key.clone(), version.good.clone());
            }
        }
        now
    }

    /// Takes note of what a translation refused. Whether another one would come to something else,
    /// because it would be of a good version.
    pub fn judge(&mut self, translation: &Translation, inputs: &Inputs) -> bool {
        let current =
            |key: &Key, version: &Version| is(&version.refused, inputs.ingresses.get(key));
        let outdated = self.held.extract_if(.., |key, version| !current(key, version));
        let outdated: BTreeMap<Key, Version> = outdated.collect();
        let mut anew = false;
        for (key, before) in std::mem::take(&mut self.before) {
            let refused = inputs.ingresses.get(&key);
            let Some(refused) = refused.filter(|_| translation.refused.contains_key(&key)) else {
                continue;
            };
            // Of one bad version after the other, what was good before all of them.
            let good = outdated.get(&key).map_or(before, |version| version.good.clone());
            let about = |problem: &&Problem| {
                problem.origin.as_ref().is_some_and(|origin| {
                    origin.namespace.as_str() == &*key.namespace
                        && origin.name.as_str() == &*key.name
                })
            };
            let problems = translation.problems.iter().filter(about).cloned().collect();
            self.held.insert(key, Version { refused: refused.clone(), good, problems });
            anew = true;
        }
        anew
    }

    /// What is wrong with the versions that are refused.
    pub fn problems(&self) -> impl Iterator<Item = Problem> {
        self.held.values().flat_map(|version| version.problems.iter().cloned())
    }
}

fn is(known: &Arc<Ingress>, now: Option<&Arc<Ingress>>) -> bool {
    now.is_some_and(|now| Arc::ptr_eq(known, now))
}
