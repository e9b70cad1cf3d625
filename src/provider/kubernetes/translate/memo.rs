//! What earlier translations came to, so that a change costs what hangs together with it and not what
//! the cluster has. What comes out is what a translation from scratch comes to, and what has not
//! changed is the same in memory.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use ir::{
    EndpointSpec, Fragment, HostPattern, Listener, ListenerSelector, Name, Problem, Upstream,
    VirtualHost,
};
use k8s_openapi::api::core::v1::ConfigMap;

use super::certificates::Certificates;
use super::counted::Counted;
use super::lists::Lists;
use super::part::Part;
use super::policy::{self, Policy};
use super::roll::{Reading, Roll, reading};
use super::seen::{Changed, Sightings};
use super::shares::Shares;
use super::{Object, References, Translation, listeners};
use crate::ir;
use crate::provider::kubernetes::report::{PROVIDER, Report, origin};
use crate::provider::kubernetes::{Inputs, Key, Options, controller};

/// Translates one state of a cluster after the other.
#[derive(Default)]
pub struct Memo {
    options: Option<Options>,
    /// The controller's ConfigMap as it was last there: the one thing that outlives its object.
    config_map: Option<Arc<ConfigMap>>,
    /// What is wrong with what holds for all Ingresses.
    defaults: Vec<Problem>,
    roll: Roll,
    /// What groups came to, by their first members.
    parts: BTreeMap<Key, Box<Part>>,
    /// What these were made from.
    sightings: Sightings,
    /// What serves hosts that nobody names.
    catch_all: Option<Part>,
    whole: Whole,
    /// What parts have in common.
    shares: Shares,
    /// The endpoints of the upstreams that are made from Services.
    lists: Lists,
}

/// The sum of all parts.
#[derive(Default)]
struct Whole {
    hosts: BTreeMap<HostPattern, Arc<VirtualHost>>,
    /// Copied where it changes and was told, as most changes are none of upstreams.
    upstreams: Arc<BTreeMap<Name, Arc<Upstream>>>,
    /// How many parts have an upstream, where it is more than one.
    shared: HashMap<Name, usize>,
    /// Those whose part went, while one that has them, too, is still to come.
    awaited: BTreeSet<Name>,
    certificates: Certificates,
    listeners: BTreeMap<Name, Arc<Listener>>,
    reports: Arc<BTreeMap<Key, Arc<Report>>>,
    problems: BTreeMap<Key, Vec<Problem>>,
    refused: BTreeMap<Key, String>,
    /// What parts refer to.
    secrets: Counted<Key>,
    config_maps: Counted<Key>,
    /// That, and what else is referred to, as it was last told.
    references: Option<(References, Arc<References>)>,
}

impl Memo {
    /// Translates `inputs`. Never fails: what is wrong is in the reports and problems.
    pub fn translate(&mut self, inputs: &Inputs, options: &Options) -> Translation {
        let (options, said, refers) = controller::complete(inputs, options, &mut self.config_map);
        let options = &*options;
        // Of a part of the objects, each may say something about all others.
        if options.partial || self.options.as_ref() != Some(options) {
            let defaults = Policy::judge_defaults(inputs, options);
            let config_map = self.config_map.take();
            let options = Some(options.clone());
            *self = Self { options, config_map, defaults, ..Self::default() };
        }
        let mut changed = self.sightings.compare(inputs);
        let moved = self.roll.update(inputs, options, &changed, &mut self.sightings);
        changed.wildcards = moved.wildcards;
        self.regroup(moved.readings, moved.groups, &changed, inputs, options);
        let mut upstreams = self.whole.upstreams.clone();
        for (key, name, place) in self.roll.asked() {
            if !upstreams.contains_key(name) {
                let upstream = policy::upstream(place, origin("Ingress", key));
                Arc::make_mut(&mut upstreams).insert(name.clone(), Arc::new(upstream));
            }
        }
        let references = self.whole.refer(refers, options);
        self.whole.listen(inputs, options);
        let whole = &self.whole;
        let fragment = Fragment {
            access_log: options.access_log(),
            provider: Name::from(PROVIDER),
            listeners: whole.listeners.clone(),
            hosts: whole.hosts.values().cloned().collect(),
            upstreams,
            settings: None,
        };
        Translation {
            fragment,
            endpoints: self.lists.all(inputs),
            problems: said
                .into_iter()
                .chain(self.defaults.iter().cloned())
                .chain(whole.problems.values().flatten().cloned())
                .collect(),
            references,
            reports: whole.reports.clone(),
            refused: whole.refused.clone(),
            ignored: self.roll.others().clone(),
        }
    }

    /// The endpoints of `service`'s upstreams as they are now, of those for which they are others
    /// than when this was last asked.
    pub fn endpoints(
        &mut self,
        inputs: &Inputs,
        service: &Key,
    ) -> Vec<(Name, Arc<[EndpointSpec]>)> {
        self.lists.refresh(inputs, service)
    }

    /// Brings the parts up to date: those of `groups` go, and those that do not hold with what
    /// `changed`, and what they had and what was read anew is translated.
    fn regroup(
        &mut self,
        mut readings: BTreeMap<Key, Reading>,
        mut groups: BTreeSet<Key>,
        changed: &Changed,
        inputs: &Inputs,
        options: &Options,
    ) {
        if changed.is_any() {
            let stale = self.parts.iter().filter(|(_, part)| !part.holds(changed));
            groups.extend(stale.map(|(first, _)| first.clone()));
        }
        let gone = groups.iter().filter_map(|first| self.parts.remove_entry(first));
        let mut gone: BTreeMap<Key, Box<Part>> = gone.collect();
        let of_parts = gone.values().flat_map(|part| part.members());
        let open: BTreeSet<Key> = readings.keys().chain(of_parts).cloned().collect();
        let groups = self.groups(open, &mut gone);
        let rest = self.catch_all.take_if(|part| !part.holds(changed));
        gone.extend(rest.map(|part| (nobody(), Box::new(part))));
        let hosts = gone.values().flat_map(|part| &part.hosts);
        let old: HashMap<_, _> = hosts.map(|host| (&host.pattern, host)).collect();
        let named = selector(options);
        let mut coming: Vec<(Key, Part)> = Vec::new();
        for group in groups {
            let Some(first) = group.first().cloned() else { continue };
            let mut part = self.part(&group, &mut readings, &named, inputs, options);
            part.keep_once(&mut self.shares);
            part.share(&old);
            group.iter().for_each(|member| self.roll.set_first(member, &first));
            coming.push((first, part));
        }
        let is_any = |host: &Arc<VirtualHost>| host.pattern == HostPattern::Any;
        let all = coming.iter().any(|(_, part)| part.hosts.iter().any(is_any));
        let displaced = self.catch_all.take_if(|_| all);
        // First all that goes: a host may pass from one group to another.
        let stays = Stays::with(coming.iter().map(|(_, part)| part));
        for part in gone.values().map(|part| &**part).chain(&displaced) {
            self.whole.remove(part, &stays, &mut self.lists);
            self.sightings.remove(&part.seen);
        }
        for (first, part) in coming {
            self.whole.add(&part, &mut self.lists);
            self.sightings.add(&part.seen, inputs);
            self.parts.insert(first, Box::new(part));
        }
        // Hosts that nobody names, unless a rule is for all of them.
        if self.catch_all.is_none() && !self.whole.hosts.contains_key(&HostPattern::Any) {
            let mut part = Part::catch_all(&named, inputs, options);
            part.keep_once(&mut self.shares);
            part.share(&old);
            self.whole.add(&part, &mut self.lists);
            self.sightings.add(&part.seen, inputs);
            self.catch_all = Some(part);
        }
    }

    /// The groups of `open` as they are now. Parts that are to become one with them go, too.
    fn groups(
        &mut self,
        open: BTreeSet<Key>,
        gone: &mut BTreeMap<Key, Box<Part>>,
    ) -> Vec<Vec<Key>> {
        let mut groups = Vec::new();
        let mut done = BTreeSet::new();
        for key in open {
            if done.contains(&key) || self.roll.ours(&key).is_none() {
                continue;
            }
            let group = self.roll.group(&key);
            for member in &group {
                let first = self.roll.first(member);
                gone.extend(first.and_then(|first| self.parts.remove_entry(first)));
            }
            done.extend(group.iter().cloned());
            groups.push(group);
        }
        groups
    }

    /// Translates a group.
    fn part(
        &self,
        group: &[Key],
        readings: &mut BTreeMap<Key, Reading>,
        listeners: &ListenerSelector,
        inputs: &Inputs,
        options: &Options,
    ) -> Part {
        let mut references = References::default();
        let mut objects = Vec::with_capacity(group.len());
        for key in group {
            let Some(ingress) = self.roll.ours(key) else { continue };
            let known = readings.remove(key);
            let (policy, report, refers) =
                *known.unwrap_or_else(|| reading(key, ingress, inputs, options));
            references.secrets.extend(refers.secrets);
            references.config_maps.extend(refers.config_maps);
            objects.push(Object { key, ingress, policy, report });
        }
        let wildcards = self.roll.wildcards();
        Part::new(objects, references, listeners, wildcards, inputs, options)
    }
}

/// No Ingress has this key.
fn nobody() -> Key {
    Key::new("", "")
}

/// The listeners of all hosts.
fn selector(options: &Options) -> ListenerSelector {
    let names: BTreeSet<_> = listeners(options, Vec::new()).into_keys().collect();
    ListenerSelector::Named(names.into())
}

/// What parts that are to come have as well as parts that go: the large maps that were told stay as
/// they are where nothing of that is another.
struct Stays<'p> {
    upstreams: HashSet<&'p Name>,
    services: HashSet<(&'p Key, &'p Name)>,
    reports: HashSet<&'p Key>,
}

impl<'p> Stays<'p> {
    fn with(parts: impl Iterator<Item = &'p Part> + Clone) -> Self {
        Self {
            upstreams: parts
                .clone()
                .flat_map(|part| &part.upstreams)
                .map(|(name, _)| name)
                .collect(),
            services: parts
                .clone()
                .flat_map(|part| &part.services)
                .map(|(service, name, _)| (service, name))
                .collect(),
            reports: parts.flat_map(|part| &part.reports).map(|(key, _)| key).collect(),
        }
    }
}

impl Whole {
    /// Takes out what `part` brought; upstreams that others have, too, stay.
    fn remove(&mut self, part: &Part, stays: &Stays<'_>, lists: &mut Lists) {
        for host in &part.hosts {
            self.hosts.remove(&host.pattern);
        }
        let mut gone = BTreeSet::new();
        for (name, _) in &part.upstreams {
            match self.shared.get_mut(name) {
                Some(others) if *others > 1 => *others -= 1,
                Some(_) => drop(self.shared.remove(name)),
                None => {
                    if stays.upstreams.contains(name) {
                        self.awaited.insert(name.clone());
                    } else {
                        Arc::make_mut(&mut self.upstreams).remove(name);
                    }
                    gone.insert(name);
                }
            }
        }
        for (service, name, _) in part.services.iter().filter(|(_, name, _)| gone.contains(name)) {
            if !stays.services.contains(&(service, name)) {
                lists.remove(service, name);
            }
        }
        for (secret, host) in &part.certificates {
            self.certificates.remove(secret, host);
        }
        for (key, _) in part.reports.iter().filter(|(key, _)| !stays.reports.contains(key)) {
            Arc::make_mut(&mut self.reports).remove(key);
        }
        for (key, _) in &part.problems {
            self.problems.remove(key);
        }
        for (key, _) in &part.refused {
            self.refused.remove(key);
        }
        let References { secrets, config_maps } = &part.references;
        secrets.iter().for_each(|key| self.secrets.remove(key));
        config_maps.iter().for_each(|key| self.config_maps.remove(key));
    }

    /// Puts in what `part` brings.
    fn add(&mut self, part: &Part, lists: &mut Lists) {
        for host in &part.hosts {
            self.hosts.insert(host.pattern.clone(), host.clone());
        }
        for (name, upstream) in &part.upstreams {
            let known = self.upstreams.get(name);
            if known.is_some() && !self.awaited.remove(name) {
                *self.shared.entry(name.clone()).or_insert(0) += 1;
            }
            if known != Some(upstream) {
                Arc::make_mut(&mut self.upstreams).insert(name.clone(), upstream.clone());
            }
        }
        for (service, name, port) in &part.services {
            lists.add(service, name, port);
        }
        for (secret, host) in &part.certificates {
            self.certificates.add(secret, host);
        }
        for (key, report) in &part.reports {
            if self.reports.get(key) != Some(report) {
                Arc::make_mut(&mut self.reports).insert(key.clone(), report.clone());
            }
        }
        self.problems.extend(part.problems.iter().cloned());
        self.refused.extend(part.refused.iter().cloned());
        let References { secrets, config_maps } = &part.references;
        secrets.iter().for_each(|key| self.secrets.add(key));
        config_maps.iter().for_each(|key| self.config_maps.add(key));
    }

    /// All that is referred to: by parts, and what all Ingresses refer to.
    fn refer(&mut self, mut all: References, options: &Options) -> Arc<References> {
        all.secrets.extend(options.default_certificate.clone());
        let changed = (self.secrets.take_changed(), self.config_maps.take_changed());
        if let Some((before, told)) = &self.references
            && changed.0.is_empty()
            && changed.1.is_empty()
            && *before == all
        {
            return told.clone();
        }
        let mut references = all.clone();
        references.secrets.extend(self.secrets.keys().cloned());
        references.config_maps.extend(self.config_maps.keys().cloned());
        let told = Arc::new(references);
        self.references = Some((all, told.clone()));
        told
    }

    /// Makes the listeners, unless they are what they were.
    fn listen(&mut self, inputs: &Inputs, options: &Options) {
        if self.certificates.update(inputs, options) || self.listeners.is_empty() {
            let now = listeners(options, self.certificates.all());
            let now = now.into_iter().map(|(name, listener)| (name, Arc::new(listener)));
            self.listeners = now.collect();
        }
    }
}
