//! What earlier translations came to, so that a change costs what hangs together with it and not what
//! the cluster has. What comes out is what a translation from scratch comes to, and what has not
//! changed is the same in memory.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use ir::{
    Certificate, EndpointSpec, Fragment, HostPattern, Listener, ListenerSelector, Name, Problem,
    ServicePlace, Upstream, VirtualHost,
};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};

use super::group::{Mention, groups, mentions};
use super::lists::Lists;
use super::part::Part;
use super::policy::{self, Policy};
use super::seen::{Changed, Seen, Sightings};
use super::shares::Shares;
use super::{Object, References, Translation, listeners, tls};
use crate::ir;
use crate::provider::kubernetes::class::Selected;
use crate::provider::kubernetes::report::{PROVIDER, Report, origin};
use crate::provider::kubernetes::{Ingress, Inputs, Key, Options, class, controller};

/// Translates one state of a cluster after the other.
#[derive(Default)]
pub struct Memo {
    options: Option<Options>,
    /// The controller's ConfigMap as it was last there: the one thing that outlives its object.
    config_map: Option<Arc<ConfigMap>>,
    /// What is wrong with what holds for all Ingresses.
    defaults: Vec<Problem>,
    round: u64,
    /// What of each Ingress decides with which others it is translated.
    reads: ByIngress<Read>,
    /// The wildcards that have TLS, by whichever Ingress.
    wildcards: BTreeSet<HostPattern>,
    /// Groups, by their first members.
    parts: ByIngress<(u64, Box<Part>)>,
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

/// Values by the address of this very version of an Ingress, which lives for as long as they do. (By
/// key, the look-ups of thousands would take longer than all else.)
type ByIngress<T> = HashMap<usize, T, foldhash::fast::RandomState>;

fn address(ingress: &Arc<Ingress>) -> usize {
    Arc::as_ptr(ingress).addr()
}

/// What was read of an Ingress.
struct Read {
    round: u64,
    /// Keeps its address from becoming another's.
    _ingress: Arc<Ingress>,
    seen: Seen,
    mentions: Box<[Mention]>,
    /// Those of its hosts that are wildcards with TLS.
    wildcards: Box<[HostPattern]>,
    /// A place outside that is asked about its requests.
    asked: Option<Box<(Name, ServicePlace)>>,
}

/// What a reading of an Ingress comes to; goes into its object. In a box, for after most changes
/// there is one, and thousands of places for others.
type Reading = Box<(Policy, Report, References)>;

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
    certificates: BTreeMap<Key, BTreeSet<HostPattern>>,
    /// The Secrets of certificates as they were, and what they hold.
    secrets: BTreeMap<Key, (Option<Arc<Secret>>, Certificate)>,
    listeners: BTreeMap<Name, Arc<Listener>>,
    reports: Arc<BTreeMap<Key, Arc<Report>>>,
    problems: BTreeMap<Key, Vec<Problem>>,
    refused: BTreeMap<Key, String>,
    /// Those of parts that have some.
    references: BTreeMap<Key, References>,
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
        self.round += 1;
        let (selected, ignored) = class::select(inputs, options);
        let mut changed = self.sightings.compare(inputs);
        let mut fresh = self.read(&selected, &changed, inputs, options);
        changed.wildcards = self.compare_wildcards();
        self.regroup(&selected, &mut fresh, &changed, inputs, options);
        let mut upstreams = self.whole.upstreams.clone();
        for (key, ingress) in &selected {
            let read = self.reads.get(&address(ingress));
            let asked = read.and_then(|read| read.asked.as_deref());
            if let Some((name, place)) = asked.filter(|(name, _)| !upstreams.contains_key(name)) {
                let upstream = policy::upstream(place, origin("Ingress", key));
                Arc::make_mut(&mut upstreams).insert(name.clone(), Arc::new(upstream));
            }
        }
        let mut references = refers;
        for some in self.whole.references.values() {
            references.secrets.extend(some.secrets.iter().cloned());
            references.config_maps.extend(some.config_maps.iter().cloned());
        }
        references.secrets.extend(options.default_certificate.clone());
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
            ignored,
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

    /// Reads the Ingresses that are not what they were; what comes back is by their place.
    fn read(
        &mut self,
        selected: &[Selected<'_>],
        changed: &Changed,
        inputs: &Inputs,
        options: &Options,
    ) -> Vec<Option<Reading>> {
        let round = self.round;
        let sightings = &mut self.sightings;
        let one = |(key, ingress): &Selected<'_>| {
            let known = self.reads.get_mut(&address(ingress));
            if let Some(read) = known.filter(|read| read.seen.holds(changed)) {
                read.round = round;
                return None;
            }
            let reading = reading(key, ingress, inputs, options);
            let (policy, _, references) = &*reading;
            let asked = policy.asked.as_ref().filter(|_| policy.canary.is_none());
            let read = Read {
                round,
                _ingress: Arc::clone(ingress),
                seen: Seen::of(BTreeSet::new(), references),
                mentions: mentions(key, ingress, policy),
                wildcards: tls::wildcards(ingress, policy),
                asked: asked.map(|place| Box::new((policy::upstream_name(place), place.clone()))),
            };
            sightings.add(&read.seen, inputs);
            if let Some(before) = self.reads.insert(address(ingress), read) {
                sightings.remove(&before.seen);
            }
            Some(reading)
        };
        let fresh = selected.iter().map(one).collect();
        for (_, gone) in self.reads.extract_if(|_, read| read.round != round) {
            sightings.remove(&gone.seen);
        }
        fresh
    }

    /// The wildcards that have got TLS or have it no more.
    fn compare_wildcards(&mut self) -> Vec<HostPattern> {
        let all = self.reads.values().flat_map(|read| read.wildcards.iter());
        let now: BTreeSet<_> = all.cloned().collect();
        let changed = now.symmetric_difference(&self.wildcards).cloned().collect();
        self.wildcards = now;
        changed
    }

    /// Brings the parts up to date: those that hold stay, the others go, and what is missing is
    /// translated.
    fn regroup(
        &mut self,
        selected: &[Selected<'_>],
        fresh: &mut [Option<Reading>],
        changed: &Changed,
        inputs: &Inputs,
        options: &Options,
    ) {
        let read = |ingress: &Arc<Ingress>| self.reads.get(&address(ingress));
        let groups = groups(
            selected
                .iter()
                .map(|(_, ingress)| read(ingress).map(|read| &*read.mentions).unwrap_or_default()),
        );
        let mut missing = Vec::new();
        for group in groups {
            let members: Vec<_> = group.iter().filter_map(|at| selected.get(*at)).collect();
            let Some((_, first)) = members.first() else { continue };
            let known = self.parts.get_mut(&address(first));
            let ingresses = members.iter().map(|(_, ingress)| *ingress);
            match known.filter(|(_, part)| part.holds(ingresses, changed)) {
                Some((round, _)) => *round = self.round,
                None => missing.push(group),
            }
        }
        let going = self.parts.extract_if(|_, (round, _)| *round != self.round);
        let going = going.filter_map(|(_, (_, part))| Some((part.first().cloned()?, part)));
        let gone: HashMap<_, _> = going.collect();
        let none = Part::default();
        let named = selector(options);
        let mut coming = Vec::new();
        for group in missing {
            let members: Vec<_> = group.iter().filter_map(|at| selected.get(*at)).collect();
            let Some((first, ingress)) = members.first() else { continue };
            let (first, place) = ((*first).clone(), address(ingress));
            let mut references = References::default();
            let object = |at: &usize| {
                let (key, ingress) = *selected.get(*at)?;
                let read = fresh.get_mut(*at).and_then(Option::take);
                let read = read.unwrap_or_else(|| reading(key, ingress, inputs, options));
                let (policy, report, refers) = *read;
                references.secrets.extend(refers.secrets);
                references.config_maps.extend(refers.config_maps);
                Some(Object { key, ingress, policy, report })
            };
            let objects = group.iter().filter_map(object).collect();
            let owned = members.iter().map(|(key, ingress)| ((*key).clone(), (*ingress).clone()));
            let members = owned.collect();
            let wildcards = &self.wildcards;
            let mut part =
                Part::new(members, objects, references, &named, wildcards, inputs, options);
            part.keep_once(&mut self.shares);
            part.share(gone.get(&first).map_or(&none, |part| &**part));
            coming.push((first, place, part));
        }
        // First all that goes: a host may pass from one group to another.
        let stays = Stays::with(coming.iter().map(|(_, _, part)| part));
        for (first, part) in &gone {
            self.whole.remove(first, part, &stays, &mut self.lists);
            self.sightings.remove(&part.seen);
        }
        let rest = self.catch_all.take().unwrap_or_default();
        self.whole.remove(&nobody(), &rest, &stays, &mut self.lists);
        self.sightings.remove(&rest.seen);
        for (first, place, part) in coming {
            self.whole.add(&first, &part, &mut self.lists);
            self.sightings.add(&part.seen, inputs);
            self.parts.insert(place, (self.round, Box::new(part)));
        }
        // Hosts that nobody names, unless a rule is for all of them.
        if !self.whole.hosts.contains_key(&HostPattern::Any) {
            let mut part = Part::catch_all(&named, inputs, options);
            part.keep_once(&mut self.shares);
            part.share(&rest);
            self.whole.add(&nobody(), &part, &mut self.lists);
            self.sightings.add(&part.seen, inputs);
            self.catch_all = Some(part);
        }
    }
}

/// No Ingress has this key.
fn nobody() -> Key {
    Key::new("", "")
}

fn reading(key: &Key, ingress: &Ingress, inputs: &Inputs, options: &Options) -> Reading {
    let (mut report, mut references) = (Report::default(), References::default());
    let policy = Policy::read(key, ingress, inputs, options, &mut references, &mut report);
    Box::new((policy, report, references))
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
    fn remove(&mut self, first: &Key, part: &Part, stays: &Stays<'_>, lists: &mut Lists) {
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
            if let Some(hosts) = self.certificates.get_mut(secret) {
                hosts.remove(host);
                if hosts.is_empty() {
                    self.certificates.remove(secret);
                }
            }
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
        self.references.remove(first);
    }

    /// Puts in what `part` brings.
    fn add(&mut self, first: &Key, part: &Part, lists: &mut Lists) {
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
            self.certificates.entry(secret.clone()).or_default().insert(host.clone());
        }
        for (key, report) in &part.reports {
            if self.reports.get(key) != Some(report) {
                Arc::make_mut(&mut self.reports).insert(key.clone(), report.clone());
            }
        }
        self.problems.extend(part.problems.iter().cloned());
        self.refused.extend(part.refused.iter().cloned());
        if part.references != References::default() {
            self.references.insert(first.clone(), part.references.clone());
        }
    }

    /// Makes the listeners, unless they are what they were.
    fn listen(&mut self, inputs: &Inputs, options: &Options) {
        let mut before = std::mem::take(&mut self.secrets);
        let mut certificates = Vec::new();
        let default = options.default_certificate.iter().map(|key| (key, None));
        let others = self.certificates.iter().map(|(key, hosts)| (key, Some(hosts)));
        for (key, only_for) in default.chain(others) {
            let secret = inputs.secrets.get(key);
            let same = |(seen, _): &(Option<Arc<Secret>>, _)| match (seen, secret) {
                (Some(seen), Some(now)) => Arc::ptr_eq(seen, now),
                (seen, now) => seen.is_none() && now.is_none(),
            };
            let known = before.remove(key).filter(same);
            let (_, certificate) = known.unwrap_or_else(|| {
                let found = tls::certificate(key, secret.map(|secret| &**secret), None);
                (secret.cloned(), found)
            });
            certificates.push(Certificate { only_for: only_for.cloned(), ..certificate.clone() });
            self.secrets.insert(key.clone(), (secret.cloned(), certificate));
        }
        let now = listeners(options, certificates);
        self.listeners.retain(|name, _| now.contains_key(name));
        for (name, listener) in now {
            match self.listeners.get_mut(&name) {
                Some(known) if **known == listener => {}
                _ => drop(self.listeners.insert(name, Arc::new(listener))),
            }
        }
    }
}
