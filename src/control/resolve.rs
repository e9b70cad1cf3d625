//! Endpoints by DNS name: looked up again when their records run out, kept when DNS fails.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::LookupIpStrategy;
use hickory_resolver::net::NetError;
use hickory_resolver::proto::rr::{RData, RecordType};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use crate::ir::{Config, EndpointAddress, EndpointSpec, Upstream};
use crate::upstream::Target;

/// The shortest and longest time between two look-ups of a name, whatever its records say.
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(300);
/// The pause after a failed look-up.
const AFTER_FAILURE: Duration = Duration::from_secs(5);
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

/// One server that was found: where, under which name, with which weight.
type Found = (SocketAddr, Arc<str>, u32);

/// Follows the names a configuration mentions.
pub struct Resolver {
    lookup: Option<TokioResolver>,
    followed: HashMap<Question, AbortHandle>,
    answers: HashMap<Question, BTreeSet<Found>>,
    sender: mpsc::UnboundedSender<(Question, BTreeSet<Found>)>,
    receiver: mpsc::UnboundedReceiver<(Question, BTreeSet<Found>)>,
}

impl Default for Resolver {
    fn default() -> Self {
        Self::new()
    }
}

impl Resolver {
    /// A resolver as `/etc/resolv.conf` and `/etc/hosts` want it.
    pub fn new() -> Self {
        let lookup = TokioResolver::builder_tokio().and_then(|mut builder| {
            // "localhost" has two addresses and mostly one server: AAAA only where there is no A.
            builder.options_mut().ip_strategy = LookupIpStrategy::Ipv4thenIpv6;
            builder.build()
        });
        if let Err(error) = &lookup {
            tracing::warn!(%error, "no DNS: endpoints by name will not be found");
        }
        let (sender, receiver) = mpsc::unbounded_channel();
        let (followed, answers) = (HashMap::new(), HashMap::new());
        Self { lookup: lookup.ok(), followed, answers, sender, receiver }
    }

    /// Follows exactly the names in `config`; waits a little for the first answers of new ones.
    pub async fn follow(&mut self, config: &Config) {
        let wanted: BTreeSet<Question> = config.upstreams.values().flat_map(questions).collect();
        self.followed.retain(|question, task| {
            let keep = wanted.contains(question);
            if !keep {
                task.abort();
            }
            keep
        });
        self.answers.retain(|question, _| wanted.contains(question));
        let Some(lookup) = &self.lookup else { return };
        for question in &wanted {
            if !self.followed.contains_key(question) {
                let watch = watch(lookup.clone(), question.clone(), self.sender.clone());
                let task = tokio::spawn(watch).abort_handle();
                self.followed.insert(question.clone(), task);
            }
        }
        let until = tokio::time::Instant::now() + FIRST_ANSWER;
        while wanted.iter().any(|question| !self.answers.contains_key(question)) {
            match tokio::time::timeout_at(until, self.receiver.recv()).await {
                Ok(Some((question, found))) => self.take(question, found),
                Ok(None) | Err(_) => return,
            }
        }
    }

    /// Waits until some answers change and says which.
    pub async fn changed(&mut self) -> Vec<Question> {
        loop {
            match self.receiver.recv().await {
                Some((question, found)) => {
                    let changed = self.answers.get(&question) != Some(&found);
                    self.take(question.clone(), found);
                    if changed {
                        return vec![question];
                    }
                }
                None => std::future::pending().await,
            }
        }
    }

    /// Whether an upstream has endpoints that any of `changed` is about.
    pub fn concerns(&self, upstream: &Upstream, changed: &[Question]) -> bool {
        questions(upstream).any(|question| changed.contains(&question))
    }

    /// The endpoints of an upstream as far as they are known, without doubles.
    pub fn targets(&self, upstream: &Upstream) -> Vec<Target> {
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
        for endpoint in &upstream.endpoints {
            if let EndpointAddress::Socket(address) = endpoint.address {
                add(address, None, endpoint.weight, endpoint);
            }
            let Some(question) = question(&endpoint.address) else { continue };
            for (address, host, weight) in self.answers.get(&question).into_iter().flatten() {
                let address = match &endpoint.address {
                    EndpointAddress::Dns { port, .. } => SocketAddr::new(address.ip(), *port),
                    _ => *address,
                };
                add(address, Some(host.clone()), endpoint.weight.saturating_mul(*weight), endpoint);
            }
        }
        targets
    }

    fn take(&mut self, question: Question, found: BTreeSet<Found>) {
        if self.followed.contains_key(&question) {
            self.answers.insert(question, found);
        }
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

/// Looks `question` up for ever and sends every answer. A failure sends nothing: what was known
/// stays.
async fn watch(
    lookup: TokioResolver,
    question: Question,
    answers: mpsc::UnboundedSender<(Question, BTreeSet<Found>)>,
) {
    loop {
        let answer = match &question {
            Question::Addresses(name) => addresses(&lookup, name).await,
            Question::Service(name) => service(&lookup, name).await,
        };
        let pause = match answer {
            Ok((found, until)) => {
                if answers.send((question.clone(), found)).is_err() {
                    return;
                }
                until.saturating_duration_since(Instant::now()).clamp(SHORTEST, LONGEST)
            }
            Err(error) => {
                tracing::warn!(?question, %error, "DNS look-up failed, the last answer stays");
                AFTER_FAILURE
            }
        };
        tokio::time::sleep(pause).await;
    }
}

async fn addresses(
    lookup: &TokioResolver,
    name: &Arc<str>,
) -> Result<(BTreeSet<Found>, Instant), NetError> {
    let answer = lookup.lookup_ip(&**name).await?;
    let host: Arc<str> = name.trim_end_matches('.').into();
    let found = answer.iter().map(|ip| (SocketAddr::new(ip, 0), host.clone(), 1)).collect();
    Ok((found, answer.valid_until()))
}

/// The servers of the lowest priority; weight 0 counts as 1 (RFC 2782 gives it a small chance).
async fn service(
    lookup: &TokioResolver,
    name: &Arc<str>,
) -> Result<(BTreeSet<Found>, Instant), NetError> {
    let answer = lookup.lookup(&**name, RecordType::SRV).await?;
    let mut until = answer.valid_until();
    let records: Vec<_> = answer
        .answers()
        .iter()
        .filter_map(|record| match &record.data {
            RData::SRV(srv) => Some(srv.clone()),
            _ => None,
        })
        .collect();
    let first = records.iter().map(|srv| srv.priority).min();
    let mut found = BTreeSet::new();
    for srv in records.iter().filter(|srv| Some(srv.priority) == first) {
        let target = srv.target.to_string();
        if target == "." {
            continue; // "decidedly not available" (RFC 2782)
        }
        let addresses = lookup.lookup_ip(target.as_str()).await?;
        until = until.min(addresses.valid_until());
        let host: Arc<str> = target.trim_end_matches('.').into();
        let weight = u32::from(srv.weight).max(1);
        let place = |ip: IpAddr| (SocketAddr::new(ip, srv.port), host.clone(), weight);
        found.extend(addresses.iter().map(place));
    }
    Ok((found, until))
}
