//! Endpoints by DNS name: looked up again when their records run out, kept when DNS fails.

mod lookup;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use self::lookup::{Failure, Lookup};
use crate::ir::{
    Config, EndpointAddress, EndpointSpec, Name, ResolverOptions, Upstream, is_of_this_machine,
};
use crate::telemetry::{LookupResult, Metrics};
use crate::upstream::Target;

/// The pause after the first failed look-up in a row; it doubles up to the longest.
const AFTER_FAILURE: Duration = Duration::from_secs(1);
const LONGEST_AFTER_FAILURE: Duration = Duration::from_secs(5);
/// How long a new configuration waits for the names it brings.
const FIRST_ANSWER: Duration = Duration::from_secs(2);

/// One thing to look up.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Question {
    /// A name's addresses.
    Addresses(Arc<str>),
    /// A service's SRV records.
    Service(Arc<str>),
}

impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Addresses(name) => f.write_str(name),
            Self::Service(name) => write!(f, "srv:{name}"),
        }
    }
}

/// One server that was found: where, under which name, with which weight.
type Found = (SocketAddr, Arc<str>, u32);

/// What a look-up came to; `None` where it failed.
type Outcome = (Question, Option<BTreeSet<Found>>);

/// Follows the names a configuration mentions.
pub struct Resolver {
    metrics: Metrics,
    options: Option<ResolverOptions>,
    /// The upstreams whose names are followed.
    upstreams: Option<Arc<BTreeMap<Name, Arc<Upstream>>>>,
    followed: HashMap<Question, AbortHandle>,
    answers: HashMap<Question, BTreeSet<Found>>,
    /// Those whose answers may not lead to this machine for all who ask.
    outside: BTreeSet<Question>,
    sender: mpsc::UnboundedSender<Outcome>,
    receiver: mpsc::UnboundedReceiver<Outcome>,
}

impl Resolver {
    /// A resolver that follows nothing yet.
    pub fn new(metrics: Metrics) -> Self {
        let (sender, receiver) = mpsc::unbounded_channel();
        Self {
            metrics,
            options: None,
            upstreams: None,
            followed: HashMap::new(),
            answers: HashMap::new(),
            outside: BTreeSet::new(),
            sender,
            receiver,
        }
    }

    /// Follows exactly the names in `config`, as its settings want it; waits a little for the
    /// first answers of new ones.
    pub async fn follow(&mut self, config: &Config) {
        let known = self.upstreams.replace(config.upstreams.clone());
        let same = known.is_some_and(|known| Arc::ptr_eq(&known, &config.upstreams));
        if same && self.options.as_ref() == Some(&config.settings.resolver) {
            return;
        }
        let wanted: BTreeSet<Question> =
            config.upstreams.values().flat_map(|upstream| questions(upstream)).collect();
        let endpoints = config.upstreams.values().flat_map(|upstream| &upstream.endpoints);
        let outside = |endpoint: &&EndpointSpec| {
            matches!(endpoint.address, EndpointAddress::Dns { outside: true, .. })
        };
        self.outside =
            endpoints.filter(outside).filter_map(|endpoint| question(&endpoint.address)).collect();
        let options = &config.settings.resolver;
        let same_options = self.options.as_ref() == Some(options);
        self.options = Some(options.clone());
        self.followed.retain(|question, task| {
            let keep = same_options && wanted.contains(question);
            if !keep {
                task.abort();
            }
            keep
        });
        self.answers.retain(|question, _| wanted.contains(question));
        self.metrics.control().names().keep(wanted.iter().map(Question::to_string));
        let new: BTreeSet<Question> =
            wanted.into_iter().filter(|question| !self.followed.contains_key(question)).collect();
        if !new.is_empty() {
            self.start(options, &new);
            self.first_answers(new).await;
        }
    }

    fn start(&mut self, options: &ResolverOptions, new: &BTreeSet<Question>) {
        let client = match lookup::client(options) {
            Ok(client) => client,
            Err(error) => {
                tracing::warn!(%error, "no DNS: endpoints by name will not be found");
                // The next configuration tries again.
                self.upstreams = None;
                return;
            }
        };
        for question in new {
            let watch = Watch {
                lookup: Lookup::new(client.clone(), options.family),
                question: question.clone(),
                options: options.clone(),
                metrics: self.metrics.clone(),
                answered: self.answers.contains_key(question),
                failure: None,
                outcomes: self.sender.clone(),
            };
            self.followed.insert(question.clone(), tokio::spawn(watch.run()).abort_handle());
        }
    }

    /// Waits until each of `new` was looked up once, whatever came of it, but not for long.
    async fn first_answers(&mut self, mut new: BTreeSet<Question>) {
        new.retain(|question| self.followed.contains_key(question));
        let until = tokio::time::Instant::now() + FIRST_ANSWER;
        while !new.is_empty() {
            match tokio::time::timeout_at(until, self.receiver.recv()).await {
                Ok(Some(outcome)) => {
                    new.remove(&outcome.0);
                    self.take(outcome);
                }
                Ok(None) | Err(_) => return,
            }
        }
    }

    /// Waits until some answers change and says which.
    pub async fn changed(&mut self) -> Vec<Question> {
        loop {
            match self.receiver.recv().await {
                Some(outcome) => {
                    let question = outcome.0.clone();
                    if self.take(outcome) {
                        return vec![question];
                    }
                }
                None => std::future::pending().await,
            }
        }
    }

    /// Whether any name is followed.
    pub fn follows_any(&self) -> bool {
        !self.followed.is_empty()
    }

    /// Whether an upstream has endpoints by name.
    pub fn follows(upstream: &Upstream) -> bool {
        questions(upstream).next().is_some()
    }

    /// Whether an upstream has endpoints that any of `changed` is about.
    pub fn concerns(&self, upstream: &Upstream, changed: &[Question]) -> bool {
        questions(upstream).any(|question| changed.contains(&question))
    }

    /// The endpoints that were declared, as far as they are known, without doubles.
    pub fn targets(&self, declared: &[EndpointSpec]) -> Vec<Target> {
        let mut targets: Vec<Target> = Vec::new();
        let mut places: BTreeMap<SocketAddr, usize> = BTreeMap::new();
        let mut add = |address, host: Option<Arc<str>>, weight: u32, spec: &EndpointSpec| {
            // An address that is named twice is one endpoint with both weights.
            if let Some(place) = places.get(&address)
                && let Some(target) = targets.get_mut(*place)
            {
                target.weight = target.weight.saturating_add(weight);
                return;
            }
            places.insert(address, targets.len());
            targets.push(Target { weight, ..Target::new(address, host, spec) });
        };
        for endpoint in declared {
            if let EndpointAddress::Socket(address) = endpoint.address {
                add(address, None, endpoint.weight, endpoint);
            }
            let Some(question) = question(&endpoint.address) else { continue };
            for (address, host, weight) in self.answers.get(&question).into_iter().flatten() {
                let address = match &endpoint.address {
                    EndpointAddress::Dns { outside: true, .. }
                        if is_of_this_machine(address.ip()) =>
                    {
                        continue;
                    }
                    EndpointAddress::Dns { port, .. } => SocketAddr::new(address.ip(), *port),
                    _ => *address,
                };
                add(address, Some(host.clone()), endpoint.weight.saturating_mul(*weight), endpoint);
            }
        }
        targets
    }

    /// Takes over what a look-up came to; whether that changed anything.
    fn take(&mut self, (question, found): Outcome) -> bool {
        let Some(found) = found else { return false };
        if !self.followed.contains_key(&question) || self.answers.get(&question) == Some(&found) {
            return false;
        }
        tracing::info!(name = %question, endpoints = found.len(), "DNS answer changed");
        // Here and not where it is left out: that is anew with every change of anything.
        let inside = found.iter().find(|(address, ..)| is_of_this_machine(address.ip()));
        if let Some((address, ..)) = inside.filter(|_| self.outside.contains(&question)) {
            tracing::warn!(
                name = %question, address = %address.ip(),
                "DNS leads to this machine or its link, where this name must not lead"
            );
        }
        self.answers.insert(question, found);
        true
    }
}

impl Drop for Resolver {
    fn drop(&mut self) {
        self.followed.values().for_each(AbortHandle::abort);
    }
}

fn questions(upstream: &Upstream) -> impl Iterator<Item = Question> {
    upstream.endpoints.iter().filter_map(|endpoint| question(&endpoint.address))
}

fn question(address: &EndpointAddress) -> Option<Question> {
    match address {
        EndpointAddress::Dns { name, .. } => Some(Question::Addresses(name.clone())),
        EndpointAddress::Socket(_) => None,
        EndpointAddress::Srv(name) => Some(Question::Service(name.clone())),
    }
}

/// Looks one question up for ever. A failure sends no answer: what was known stays.
struct Watch {
    lookup: Lookup,
    question: Question,
    options: ResolverOptions,
    metrics: Metrics,
    /// Whether there is an answer to fall back on.
    answered: bool,
    /// What the last look-up failed with and how many failed in a row.
    failure: Option<(String, u32)>,
    outcomes: mpsc::UnboundedSender<Outcome>,
}

impl Watch {
    async fn run(mut self) {
        loop {
            let answer = self.lookup.ask(&self.question).await;
            let result = match &answer {
                Ok(_) => LookupResult::Answered,
                Err(Failure::NotFound(_)) => LookupResult::NotFound,
                Err(Failure::Failed(..)) => LookupResult::Failed,
            };
            self.metrics.control().names().looked_up(&self.question.to_string(), result);
            let (found, pause) = match answer {
                Ok((found, until)) => (Some(found), self.succeeded(until)),
                Err(failure) => (None, self.failed(&failure)),
            };
            if self.outcomes.send((self.question.clone(), found)).is_err() {
                return;
            }
            tokio::time::sleep(pause).await;
        }
    }

    fn succeeded(&mut self, until: Instant) -> Duration {
        self.answered = true;
        if self.failure.take().is_some() {
            tracing::info!(name = %self.question, "DNS answers again");
        }
        // Not `clamp`, which panics where the bounds are the wrong way round.
        let good = until.saturating_duration_since(Instant::now());
        good.max(self.options.min_ttl).min(self.options.max_ttl)
    }

    /// Says what is wrong once, not with every look-up.
    fn failed(&mut self, failure: &Failure) -> Duration {
        let error = failure.to_string();
        let (before, times) = self.failure.take().unwrap_or_default();
        let name = &self.question;
        if before == error {
            tracing::debug!(%name, error, times, "DNS look-up failed again");
        } else if self.answered {
            tracing::warn!(%name, error, "DNS look-up failed, the endpoints of the last answer stay");
        } else {
            tracing::warn!(%name, error, "DNS look-up failed, there are no endpoints by this name yet");
        }
        self.failure = Some((error, times.saturating_add(1)));
        AFTER_FAILURE.saturating_mul(1 << times.min(8)).min(LONGEST_AFTER_FAILURE)
    }
}
