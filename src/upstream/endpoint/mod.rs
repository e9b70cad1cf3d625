//! One endpoint's live state, shared by all workers.

mod availability;
mod awaited;
mod checks;
mod common;
mod ejection;
mod latency;
mod load;
mod outcomes;
mod reported_weight;
mod samples;

pub use availability::Availability;
pub use awaited::Awaited;
pub use checks::LastCheck;
pub use common::Common;
pub use ejection::{Ejection, EjectionReason};
pub use latency::{Latency, LatencyRule};
pub use load::{Load, Reported};
pub use outcomes::{Outcomes, Window};
pub use reported_weight::ReportedWeight;
pub use samples::{Probe, Samples};

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use crate::telemetry::EndpointMetrics;
use crate::util::moment::Moment;

/// An endpoint's identity within this process. An address that goes away and comes back is
/// another endpoint: pooled connections never outlive the endpoint they were made to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EndpointId(u64);

impl EndpointId {
    fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// The number, for hashing.
    pub fn get(self) -> u64 {
        self.0
    }
}

/// A server that requests can be sent to. There are tens of thousands of them: what only few have
/// stands elsewhere.
#[repr(align(64))]
pub struct Endpoint {
    in_flight: AtomicU32,
    /// How long it takes to answer.
    pub latency: Latency,
    retired: AtomicBool,
    /// Its identity.
    pub id: EndpointId,
    /// Where it is.
    pub address: SocketAddr,
    /// The DNS name it was resolved from: the default name for TLS.
    pub host: Option<Arc<str>>,
    /// Its counters.
    pub metrics: Arc<EndpointMetrics>,
    /// The hash of its address and name: the same in every process.
    pub token: u64,
    /// What it shares with the other endpoints of its upstream.
    pub common: Arc<Common>,
    /// The answers it owes.
    pub awaited: Awaited,
    /// Whether it may be picked.
    pub availability: Availability,
    /// How attempts ended.
    pub outcomes: Outcomes,
    /// How busy it says it is.
    pub load: Load,
    /// The weight that follows from what it says.
    pub reported_weight: ReportedWeight,
    ejections: ejection::Ejections,
    checks: checks::Checks,
    samples: OnceLock<Box<Samples>>,
}

impl Endpoint {
    /// A new endpoint with nothing in flight.
    pub fn new(
        address: SocketAddr,
        host: Option<Arc<str>>,
        metrics: Arc<EndpointMetrics>,
        common: Arc<Common>,
        now: Moment,
    ) -> Self {
        let token = token(address, host.as_deref());
        Self {
            in_flight: AtomicU32::new(0),
            latency: Latency::new(),
            retired: AtomicBool::new(false),
            id: EndpointId::next(),
            address,
            host,
            metrics,
            token,
            common,
            awaited: Awaited::default(),
            availability: Availability::new(now),
            outcomes: Outcomes::default(),
            load: Load::default(),
            reported_weight: ReportedWeight::default(),
            ejections: ejection::Ejections::default(),
            checks: checks::Checks::default(),
            samples: OnceLock::new(),
        }
    }

    /// Has attempts remembered one by one from now on.
    pub fn keep_samples(&self) {
        self.samples.get_or_init(Box::default);
    }

    /// Its recent attempts, where [`Endpoint::keep_samples`] wanted them.
    pub fn samples(&self) -> Option<&Samples> {
        self.samples.get().map(|samples| &**samples)
    }

    /// Requests on their way to it, over all workers.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Forgets how it did before it became unavailable: it comes back as another one, and what
    /// made it unavailable would keep it from ever being asked again.
    pub fn forget_before_recovery(&self) {
        if self.availability.is_recovered() {
            let since = self.availability.since();
            self.latency.forget_before(since);
            self.load.forgive_before(since);
            if let Some(samples) = self.samples() {
                samples.forget_before(since);
            }
        }
    }

    /// Whether no configuration names it any more: its connections are closed after use.
    pub fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Relaxed)
    }

    /// Says that no configuration names it any more.
    pub fn retire(&self) {
        self.retired.store(true, Ordering::Relaxed);
    }
}

impl std::fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Endpoint")
            .field("id", &self.id)
            .field("address", &self.address)
            .field("in_flight", &self.in_flight())
            .finish_non_exhaustive()
    }
}

/// Counts one request as in flight to an endpoint for as long as it lives.
pub struct InFlight {
    endpoint: Arc<Endpoint>,
    /// How many there were before it.
    before: u32,
    /// Whether it is counted in the total.
    counted: bool,
    /// Whether its answer is owed.
    awaited: bool,
}

impl InFlight {
    /// Counts a request in.
    pub fn new(endpoint: Arc<Endpoint>, now: Moment) -> Self {
        let before = endpoint.in_flight.fetch_add(1, Ordering::Relaxed);
        let counted = endpoint.common.total.enter();
        endpoint.awaited.begin(now);
        Self { endpoint, before, counted, awaited: true }
    }

    /// Says that its answer came, or that it failed; what follows is not owed any more. Only the
    /// first call counts.
    pub fn answered(&mut self, now: Moment) {
        if std::mem::take(&mut self.awaited) {
            self.endpoint.awaited.answered(now);
        }
    }

    /// Counts a request in where that makes no more than `most`.
    pub fn within(endpoint: Arc<Endpoint>, most: u32, now: Moment) -> Option<Self> {
        let more = |count: u32| (count < most).then_some(count + 1);
        let in_flight = &endpoint.in_flight;
        let before = in_flight.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        let counted = endpoint.common.total.enter();
        endpoint.awaited.begin(now);
        Some(Self { endpoint, before, counted, awaited: true })
    }

    /// Says that it waits for something that is not the endpoint's to give: no answer is owed.
    pub fn hold(&mut self) {
        if std::mem::take(&mut self.awaited) {
            self.endpoint.awaited.dropped();
        }
    }

    /// Says that it goes on, after [`InFlight::hold`].
    pub fn go_on(&mut self, now: Moment) {
        if !std::mem::replace(&mut self.awaited, true) {
            self.endpoint.awaited.begin(now);
        }
    }

    /// How many requests were in flight to the endpoint when this one was counted in.
    pub fn before(&self) -> u32 {
        self.before
    }

    /// The endpoint.
    pub fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.endpoint.in_flight.fetch_sub(1, Ordering::Relaxed);
        if self.awaited {
            self.endpoint.awaited.dropped();
        }
        if self.counted {
            self.endpoint.common.total.leave();
        }
    }
}

/// FNV-1a over what identifies an endpoint to the outside: stable between processes and versions.
fn token(address: SocketAddr, host: Option<&str>) -> u64 {
    let text = format!("{address} {}", host.unwrap_or_default());
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}
