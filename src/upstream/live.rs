//! One upstream as the data path sees it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};

use super::attention::Watched;
use super::balance::Pick;
use super::limits::Limits;
use super::outlier::{Change, Detector};
use super::registry::Environment;
use super::{
    Affinity, Circumstances, Common, Endpoint, EndpointSet, LatencyRule, Member, Observation,
    Verdict,
};
use crate::ir::{self, Balance, Name, PeakEwma, PoolOptions, UpstreamProtocol};
use crate::telemetry::{Reason, UpstreamMetrics};
use crate::tls::ClientTls;
use crate::util::moment::Moment;

/// A named group of endpoints.
pub struct Upstream {
    /// Its name: the `upstream` label.
    pub name: Name,
    /// What its configuration wants.
    pub spec: Arc<ir::Upstream>,
    /// How connections to its endpoints are made.
    pub transport: Transport,
    /// Its counters.
    pub metrics: Arc<UpstreamMetrics>,
    /// How its clients show their sessions.
    pub affinity: Option<Affinity>,
    /// What it bears.
    pub limits: Arc<Limits>,
    environment: Arc<Environment>,
    /// Kept also while there is no endpoint.
    _common: Arc<Common>,
    /// What samples of latency count for.
    latency: LatencyRule,
    set: ArcSwap<EndpointSet>,
    outliers: Detector,
    /// Held while a set is built and put in place, so that none overtakes another. Control side
    /// only. What it holds is when it was last found touched.
    building: Mutex<Option<Moment>>,
    /// Something changed that the set was built from.
    stale: AtomicBool,
    /// Whether it is looked at.
    watched: Watched,
}

/// How long nothing has to go on before an upstream is not looked at any more, at least. With
/// ejection, rates have to be looked at once more, too.
const QUIET: Duration = Duration::from_secs(1);

/// How connections to the endpoints of an upstream are made and kept.
#[derive(Clone)]
pub struct Transport {
    /// The protocol spoken.
    pub protocol: UpstreamProtocol,
    /// TLS settings; `None` is plain text.
    pub tls: Option<Arc<ClientTls>>,
    /// Connection reuse.
    pub pool: PoolOptions,
}

impl Transport {
    /// Whether endpoints are spoken to in HTTP/1.0.
    pub fn speaks_http10(&self) -> bool {
        self.protocol == UpstreamProtocol::Http10
    }

    /// Whether a connection may turn out to speak HTTP/2.
    pub fn may_speak_h2(&self) -> bool {
        match self.protocol {
            UpstreamProtocol::Auto => self.tls.is_some(),
            UpstreamProtocol::Http1 | UpstreamProtocol::Http10 => false,
            UpstreamProtocol::Http2 => true,
        }
    }
}

impl Upstream {
    /// An upstream that picks from `members`, which share `common`.
    #[expect(clippy::too_many_arguments, reason = "one caller; a struct would only rename them")]
    pub fn new(
        name: Name,
        spec: Arc<ir::Upstream>,
        transport: Transport,
        metrics: Arc<UpstreamMetrics>,
        environment: Arc<Environment>,
        common: Arc<Common>,
        members: Vec<Member>,
        now: Moment,
    ) -> Self {
        let limits = Limits::new(&spec.limits, environment.workers, &common.connections);
        let limits = Arc::new(limits);
        settle(&members, now);
        limits.set_endpoints(available(&members));
        let around = environment.circumstances(now);
        let set = Arc::new(EndpointSet::build(&spec.balance, members, around));
        let latency = latency_rule(&spec.balance.algorithm);
        let (set, building, stale) = (ArcSwap::new(set), Mutex::default(), AtomicBool::new(false));
        let affinity = spec.balance.affinity.as_deref();
        let affinity = affinity.map(|affinity| Affinity::new(affinity, &name));
        let outliers = Detector::new(spec.outlier.as_deref(), now);
        let watched = Watched::default();
        Self {
            name,
            spec,
            transport,
            metrics,
            affinity,
            limits,
            environment,
            _common: common,
            latency,
            set,
            outliers,
            building,
            stale,
            watched,
        }
    }

    /// The same with the limits of `before` where they are no others: what is on its way and what
    /// was spent counts on.
    #[must_use]
    pub fn keep_limits(mut self, before: &Self) -> Self {
        if before.limits.spec == self.limits.spec {
            self.limits = before.limits.clone();
            self.limits.set_endpoints(available(self.endpoints().members()));
        }
        self
    }

    /// The endpoints of this moment.
    pub fn endpoints(&self) -> Guard<Arc<EndpointSet>> {
        self.set.load()
    }

    /// Picks an endpoint that the request has not been to. Called by workers: no lock, no
    /// allocation, but for the first pick after a rest.
    pub fn pick(&self, pick: &mut Pick<'_>) -> Option<Arc<Endpoint>> {
        self.touch();
        self.set.load().pick(pick).cloned()
    }

    /// A set as one would pick from now, in which picks move nothing on: for explanations.
    pub fn rehearsal(&self, now: Moment) -> EndpointSet {
        let members = self.set.load().members().to_vec();
        EndpointSet::build(&self.spec.balance, members, self.environment.circumstances(now))
    }

    /// Takes in how an attempt went. Called by workers.
    pub fn observe(&self, endpoint: &Endpoint, observation: Observation, now: Moment) {
        endpoint.latency.observe(&self.latency, observation, now);
        self.limits.observe(observation, now);
        self.note_load(endpoint, observation, now);
        self.note_outcome(endpoint, observation.verdict);
    }

    /// Takes in that an attempt brought a response head that says that it goes well: that is how
    /// long the endpoint takes to answer, however long the response is. [`Upstream::observe_end`]
    /// follows. Called by workers.
    pub fn observe_head(&self, endpoint: &Endpoint, seen: Observation, now: Moment) {
        endpoint.latency.observe(&self.latency, seen, now);
        self.limits.observe(seen, now);
        self.note_load_at_head(endpoint, seen, now);
    }

    /// Takes in how such an attempt ended; the latency is still that of its head. Called by
    /// workers.
    pub fn observe_end(&self, endpoint: &Endpoint, seen: Observation, now: Moment) {
        if !seen.verdict.is_success() {
            endpoint.latency.observe(&self.latency, seen, now);
        }
        self.note_load_at_end(endpoint, seen, now);
        // Streams end so where a route limits the time of a request: it was answering.
        if seen.verdict != Verdict::Failed(Reason::RequestTimeout) {
            self.note_outcome(endpoint, seen.verdict);
        }
    }

    #[inline]
    fn note_outcome(&self, endpoint: &Endpoint, verdict: Verdict) {
        if let Some(policy) = &self.spec.outlier {
            let urgent = self.outliers.observe(policy, endpoint, verdict);
            self.touch();
            if urgent {
                self.environment.attention.urge(&self.name);
            }
        }
    }

    /// Something is going on here that the control side has to look at, now or later.
    #[inline]
    pub(super) fn touch(&self) {
        if self.watched.touch() {
            self.environment.attention.ask(&self.name);
        }
    }

    /// Replaces the endpoints. Requests already on their way are not touched.
    pub fn replace_members(&self, members: Vec<Member>, now: Moment) {
        let _building = self.building.lock().unwrap_or_else(PoisonError::into_inner);
        self.outliers.attend();
        self.judge(&members, now);
        self.rebuild(members, now);
        self.touch();
    }

    /// Says that something changed that the set was built from.
    pub fn mark_stale(&self) {
        if !self.stale.swap(true, Ordering::AcqRel) {
            self.touch();
            self.environment.attention.urge(&self.name);
        }
    }

    /// What has to be done now and then, about ten times a second and when it is urgent. Returns
    /// whether it has to be done again though nobody touches it. Control side only.
    pub fn upkeep(&self, now: Moment) -> bool {
        self.metrics.set_queue(self.limits.concurrency(), self.limits.pending());
        self.metrics.set_connections(self.limits.connections());
        let mut touched = self.building.lock().unwrap_or_else(PoisonError::into_inner);
        if self.watched.look() {
            *touched = Some(now);
        }
        let stale = self.stale.swap(false, Ordering::AcqRel);
        if stale {
            self.outliers.attend();
        }
        let set = self.set.load_full();
        let due = set.refresh_at().is_some_and(|at| at <= now);
        if self.judge(set.members(), now) || stale || due {
            self.rebuild(set.members().to_vec(), now);
        }
        let quiet = touched.is_none_or(|at| now.since(at) >= self.quiet());
        !(quiet && self.is_at_rest() && self.watched.rest())
    }

    /// How long nothing has to go on here before it is not looked at any more.
    fn quiet(&self) -> Duration {
        let policy = self.spec.outlier.as_ref();
        policy.map_or(QUIET, |policy| (policy.interval * 2).max(QUIET))
    }

    /// Whether there is nothing here that changes by itself.
    fn is_at_rest(&self) -> bool {
        self.set.load().refresh_at().is_none()
            && self.outliers.is_at_rest()
            && self.limits.pending() == 0
            && self.limits.connections().is_none_or(|(open, _)| open == 0)
    }

    /// Ejects and readmits outliers. Returns whether any of them changed.
    fn judge(&self, members: &[Member], now: Moment) -> bool {
        let policy = self.spec.outlier.as_deref();
        let panic = self.spec.balance.panic_threshold;
        let Some(findings) = self.outliers.upkeep(policy, panic, members, now) else {
            return false;
        };
        self.metrics.set_ejected(findings.ejected);
        for change in &findings.changes {
            let upstream = &self.name;
            match change {
                Change::Ejected(endpoint, ejection) => {
                    let (reason, length) = (ejection.reason, ejection.length());
                    self.metrics.ejection(reason.cause());
                    let endpoint = endpoint.address;
                    tracing::warn!(%upstream, %endpoint, "ejected for {length:?}: {reason}");
                }
                Change::Readmitted(endpoint) => {
                    let endpoint = endpoint.address;
                    tracing::info!(%upstream, %endpoint, "no longer ejected");
                }
            }
        }
        !findings.changes.is_empty()
    }

    fn rebuild(&self, members: Vec<Member>, now: Moment) {
        settle(&members, now);
        self.limits.set_endpoints(available(&members));
        let around: Circumstances<'_> = self.environment.circumstances(now);
        members.iter().for_each(|member| member.endpoint.forget_before_recovery());
        self.set.store(Arc::new(EndpointSet::build(&self.spec.balance, members, around)));
    }
}

/// Latencies are kept whatever the algorithm: they are shown, and another algorithm may come.
fn latency_rule(algorithm: &Balance) -> LatencyRule {
    match algorithm {
        Balance::PeakEwma(policy) => LatencyRule::new(policy),
        _ => LatencyRule::new(&PeakEwma::default()),
    }
}

/// How many of `members` may be picked.
fn available(members: &[Member]) -> usize {
    members.iter().filter(|member| member.endpoint.availability.is_available()).count()
}

/// Says of every endpoint whether it may be picked. Those that wait for their first health check
/// do not wait where nobody else can be picked.
fn settle(members: &[Member], now: Moment) {
    let none = !members.iter().any(|member| member.endpoint.availability.is_available());
    for Member { endpoint, .. } in members {
        if none && endpoint.availability.is_unproven() {
            endpoint.availability.set_healthy(true, now);
        }
        endpoint.metrics.set_up(endpoint.availability.is_available());
    }
}

impl std::fmt::Debug for Upstream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Upstream").field("name", &self.name).finish_non_exhaustive()
    }
}
