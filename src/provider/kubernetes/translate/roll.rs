//! Which Ingresses there are, and what of each decides with which others it is translated: kept from one
//! translation to the next, so that a change is looked for where it is.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::BuildHasherDefault;
use std::sync::Arc;

use ir::{HostPattern, Name, ServicePlace};
use k8s_openapi::api::networking::v1::IngressClass;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use smallvec::SmallVec;

use super::group::{AsItIs, Mention, mentions};
use super::policy::{self, Policy};
use super::seen::{Changed, Seen, Sightings};
use super::tls::Wildcards;
use super::{References, tls};
use crate::ir;
use crate::provider::kubernetes::class::Selection;
use crate::provider::kubernetes::report::Report;
use crate::provider::kubernetes::{Ingress, Inputs, Key, Options};

/// All Ingresses, as they were when this was last brought up to date.
#[derive(Default)]
pub(super) struct Roll {
    known: BTreeMap<Key, Known>,
    /// The classes by which they were told apart.
    classes: BTreeMap<Arc<str>, Arc<IngressClass>>,
    /// Why those that are not ours are not.
    others: Arc<BTreeMap<Key, String>>,
    /// Who mentions what.
    mentions: HashMap<Mention, SmallVec<[Key; 1]>, BuildHasherDefault<AsItIs>>,
    /// The wildcards that have TLS, and by how many Ingresses.
    wildcards: Wildcards,
    /// Places outside that are asked about requests, by whom, the oldest first.
    asked: BTreeMap<Age, (Name, ServicePlace)>,
}

/// The order in which Ingresses count, by which conflicts are settled: the oldest first, and those of
/// one age, or of none as in manifests, by name.
type Age = (Option<Time>, Key);

struct Known {
    ingress: Arc<Ingress>,
    /// Where it is ours.
    read: Option<Box<Read>>,
}

/// What was read of an Ingress.
struct Read {
    seen: Seen,
    mentions: Box<[Mention]>,
    /// Those of its hosts that are wildcards with TLS.
    wildcards: Box<[HostPattern]>,
    /// The first of those with which it was translated.
    first: Key,
}

/// What a reading of an Ingress comes to; goes into its object.
pub(super) type Reading = Box<(Policy, Report, References)>;

/// What is not as it was.
#[derive(Default)]
pub(super) struct Moved {
    /// The Ingresses that came, or have to be translated anew.
    pub readings: BTreeMap<Key, Reading>,
    /// The first members of the groups from which some went or were read anew.
    pub groups: BTreeSet<Key>,
    /// The wildcards that have got TLS or have it no more.
    pub wildcards: Vec<HostPattern>,
}

impl Roll {
    /// Brings it up to date with `inputs`, of which `changed` is another beside the Ingresses.
    pub fn update(
        &mut self,
        inputs: &Inputs,
        options: &Options,
        changed: &Changed,
        sightings: &mut Sightings,
    ) -> Moved {
        let selection = Selection::new(inputs, options);
        let mut other = self.compare(inputs);
        if !is_same(&self.classes, &inputs.classes) {
            self.classes.clone_from(&inputs.classes);
            self.select_anew(inputs, &selection, &mut other);
        }
        if changed.has_references() {
            let stale =
                |known: &&Known| known.read.as_ref().is_some_and(|r| !r.seen.holds(changed));
            let stale = self.known.iter().filter(|(_, known)| stale(known));
            other.extend(stale.map(|(key, _)| (key.clone(), inputs.ingresses.get(key).cloned())));
        }
        let mut moved = Moved::default();
        for (key, now) in other {
            self.forget(&key, &mut moved, sightings);
            let Some(ingress) = now else { continue };
            let read = match selection.refusal(&key, &ingress) {
                Some(why) => {
                    Arc::make_mut(&mut self.others).insert(key.clone(), why);
                    None
                }
                None => {
                    let reading = reading(&key, &ingress, inputs, options);
                    let read = self.read(&key, &ingress, &reading);
                    sightings.add(&read.seen, inputs);
                    moved.readings.insert(key.clone(), reading);
                    Some(Box::new(read))
                }
            };
            self.known.insert(key, Known { ingress, read });
        }
        moved.wildcards = self.wildcards.take_changed();
        moved
    }

    /// The Ingresses that are not what they were, as they are now.
    fn compare(&self, inputs: &Inputs) -> BTreeMap<Key, Option<Arc<Ingress>>> {
        let mut other = BTreeMap::new();
        let mut now = inputs.ingresses.iter().peekable();
        // Both are in order, and what is the same is so in memory.
        for (key, known) in &self.known {
            let is = |(other, ingress): &(&Key, &Arc<Ingress>)| {
                key.is(other) && Arc::ptr_eq(&known.ingress, ingress)
            };
            if now.next_if(is).is_some() {
                continue;
            }
            while let Some((key, ingress)) = now.next_if(|(other, _)| *other < key) {
                other.insert(key.clone(), Some(ingress.clone()));
            }
            match now.next_if(|(other, _)| *other == key) {
                Some((_, ingress)) if Arc::ptr_eq(&known.ingress, ingress) => {}
                found => {
                    other.insert(key.clone(), found.map(|(_, ingress)| ingress.clone()));
                }
            }
        }
        other.extend(now.map(|(key, ingress)| (key.clone(), Some(ingress.clone()))));
        other
    }

    /// Adds the Ingresses that have become ours or are no more, and those of others, of which
    /// something else may be said.
    fn select_anew(
        &self,
        inputs: &Inputs,
        selection: &Selection<'_>,
        other: &mut BTreeMap<Key, Option<Arc<Ingress>>>,
    ) {
        for (key, ingress) in &inputs.ingresses {
            let ours = self.known.get(key).is_some_and(|known| known.read.is_some());
            if !ours || selection.refusal(key, ingress).is_some() {
                other.insert(key.clone(), Some(ingress.clone()));
            }
        }
    }

    /// Takes an Ingress out.
    fn forget(&mut self, key: &Key, moved: &mut Moved, sightings: &mut Sightings) {
        let Some(known) = self.known.remove(key) else { return };
        let Some(read) = known.read else {
            Arc::make_mut(&mut self.others).remove(key);
            return;
        };
        for mention in &read.mentions {
            if let Some(all) = self.mentions.get_mut(mention) {
                all.retain(|other| other != key);
                if all.is_empty() {
                    self.mentions.remove(mention);
                }
            }
        }
        read.wildcards.iter().for_each(|pattern| self.wildcards.remove(pattern));
        self.asked.remove(&age(key, &known.ingress));
        sightings.remove(&read.seen);
        moved.groups.insert(read.first);
    }

    /// What is kept of a reading.
    fn read(&mut self, key: &Key, ingress: &Ingress, reading: &Reading) -> Read {
        let (policy, _, references) = &**reading;
        let read = Read {
            seen: Seen::of(BTreeSet::new(), references),
            mentions: mentions(key, ingress, policy),
            wildcards: tls::wildcards(ingress, policy),
            first: key.clone(),
        };
        for mention in &read.mentions {
            self.mentions.entry(*mention).or_default().push(key.clone());
        }
        read.wildcards.iter().for_each(|pattern| self.wildcards.add(pattern));
        if let Some(place) = policy.asked.as_ref().filter(|_| policy.canary.is_none()) {
            let asked = (policy::upstream_name(place), place.clone());
            self.asked.insert(age(key, ingress), asked);
        }
        read
    }

    /// An Ingress of ours.
    pub fn ours(&self, key: &Key) -> Option<&Arc<Ingress>> {
        self.known.get(key).filter(|known| known.read.is_some()).map(|known| &known.ingress)
    }

    /// Why the other Ingresses are not ours.
    pub fn others(&self) -> &Arc<BTreeMap<Key, String>> {
        &self.others
    }

    /// All that hang together with an Ingress of ours, and it, the oldest first: those that mention
    /// what it mentions, and what they mention.
    pub fn group(&self, of: &Key) -> Vec<Key> {
        let mut found = BTreeMap::new();
        let mut open = vec![of];
        while let Some(key) = open.pop() {
            let Some(known) = self.known.get(key) else { continue };
            let Some(read) = &known.read else { continue };
            if found.insert(key, &known.ingress.created).is_some() {
                continue;
            }
            let all = read.mentions.iter().filter_map(|mention| self.mentions.get(mention));
            open.extend(all.flatten().filter(|key| !found.contains_key(key)));
        }
        let mut group: Vec<_> = found.into_iter().collect();
        // The sort is stable: those of one age stay in order of names.
        group.sort_by_key(|(_, created)| created.as_ref().map(|time| &time.0));
        group.into_iter().map(|(key, _)| key.clone()).collect()
    }

    /// The first of those with which an Ingress was translated.
    pub fn first(&self, of: &Key) -> Option<&Key> {
        Some(&self.known.get(of)?.read.as_ref()?.first)
    }

    /// An Ingress was translated with others.
    pub fn set_first(&mut self, of: &Key, first: &Key) {
        if let Some(read) = self.known.get_mut(of).and_then(|known| known.read.as_mut()) {
            read.first = first.clone();
        }
    }

    /// The wildcards that have TLS, by whichever Ingress.
    pub fn wildcards(&self) -> &Wildcards {
        &self.wildcards
    }

    /// The places outside that are asked about requests, the names of their upstreams, and who asks,
    /// the oldest first.
    pub fn asked(&self) -> impl Iterator<Item = (&Key, &Name, &ServicePlace)> {
        self.asked.iter().map(|((_, key), (name, place))| (key, name, place))
    }
}

fn age(key: &Key, ingress: &Ingress) -> Age {
    (ingress.created.clone(), key.clone())
}

/// Whether these are the very same classes.
fn is_same(
    a: &BTreeMap<Arc<str>, Arc<IngressClass>>,
    b: &BTreeMap<Arc<str>, Arc<IngressClass>>,
) -> bool {
    let mut both = a.iter().zip(b);
    a.len() == b.len() && both.all(|((a, one), (b, other))| a == b && Arc::ptr_eq(one, other))
}

/// Reads an Ingress.
pub(super) fn reading(key: &Key, ingress: &Ingress, inputs: &Inputs, options: &Options) -> Reading {
    let (mut report, mut references) = (Report::default(), References::default());
    let policy = Policy::read(key, ingress, inputs, options, &mut references, &mut report);
    Box::new((policy, report, references))
}

#[cfg(test)]
mod tests;
