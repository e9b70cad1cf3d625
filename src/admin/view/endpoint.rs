//! One endpoint of an upstream, as it is now.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::ir::Span;
use crate::upstream::{Ejection, Endpoint, LastCheck, Member};
use crate::util::moment::Moment;

/// An endpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EndpointView {
    /// Address and port.
    pub address: String,
    /// The DNS name it was resolved from.
    pub host: Option<String>,
    /// Whether it gets requests, and what keeps it from it.
    pub state: EndpointState,
    /// Why it is in that state, where it is not available.
    pub why: Option<String>,
    /// Its ejection, where it is ejected.
    pub ejection: Option<EjectionView>,
    /// Its last health check, where it is checked.
    pub check: Option<CheckView>,
    /// Its share relative to the others, as configured.
    pub weight: u32,
    /// Its weight of this moment, slow start included; of `weighted_by_load` the one it computed,
    /// 1 being the mean. `None` where it is not picked at all.
    pub effective_weight: Option<f64>,
    /// What it gets of new requests by weight, priority and zone alone, of 1; `None` where it is
    /// not picked at all, 0 where it only stands in for others.
    pub share: Option<f64>,
    /// What a request to it costs by the algorithm; the cheapest is picked. In milliseconds for
    /// `peak_ewma`, in requests for `least_request`, as utilisation for `least_utilization`;
    /// `None` where the algorithm goes by something else or nothing is known.
    pub cost: Option<f64>,
    /// Its priority level, 0 first.
    pub priority: u32,
    /// The zone it stands in.
    pub zone: Option<String>,
    /// Whether it is being taken out of service.
    pub draining: bool,
    /// How long it has taken to answer lately, with an eye to peaks; milliseconds.
    pub latency_ms: Option<f64>,
    /// How busy it says it is, of 1, smoothed; `None` where it reports nothing (ORCA).
    pub utilization: Option<f64>,
    /// How long ago it said so last, milliseconds.
    pub reported_ago_ms: Option<u64>,
    /// What `weighted_by_load` makes of its last report, in requests a second when fully busy,
    /// used yet or not; `None` where there was none.
    pub reported_weight: Option<f64>,
    /// Requests on their way to it.
    pub in_flight: u32,
    /// Open connections to it.
    pub connections: u64,
    /// Whether no configuration names it any more; it is closed after use.
    pub retired: bool,
}

/// Whether an endpoint gets requests, and what keeps it from it: the gravest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndpointState {
    /// It gets requests.
    Available,
    /// It is new and its first health check has not passed yet.
    Checking,
    /// It is being taken out of service.
    Draining,
    /// It failed real requests and is left out for a while.
    Ejected,
    /// Its health checks fail.
    Unhealthy,
}

impl EndpointState {
    /// Whether it gets requests.
    pub fn is_available(self) -> bool {
        self == Self::Available
    }

    /// Its name, as in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Available => "available",
            Self::Checking => "checking",
            Self::Draining => "draining",
            Self::Ejected => "ejected",
            Self::Unhealthy => "unhealthy",
        }
    }
}

/// An ejection that lasts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EjectionView {
    /// Why.
    pub reason: String,
    /// Which one in a row it is.
    pub times: u32,
    /// When it ends, Unix seconds.
    pub until: u64,
    /// How much longer it lasts, milliseconds.
    pub left_ms: u64,
}

/// A health check that is over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CheckView {
    /// How it ended: `success`, or what failed.
    pub result: String,
    /// The same in words.
    pub text: String,
    /// How many checks in a row passed, or failed, with this one.
    pub row: u32,
    /// How long it took, milliseconds.
    pub took_ms: f64,
    /// How long ago that was, milliseconds.
    pub ago_ms: u64,
}

impl CheckView {
    fn new(check: &LastCheck, now: Moment) -> Self {
        Self {
            result: check.result.as_str().to_owned(),
            text: check.text.to_string(),
            row: check.row,
            took_ms: check.took.as_secs_f64() * 1000.0,
            ago_ms: milliseconds(now.since(check.at)),
        }
    }
}

impl EndpointView {
    /// What keeps it from getting requests, in a line.
    pub fn trouble(&self) -> String {
        let mut text = self.state.as_str().to_owned();
        if let Some(why) = &self.why {
            text.push_str(&format!(": {why}"));
        }
        if let Some(ejection) = &self.ejection {
            let left = Duration::from_secs(ejection.left_ms.div_ceil(1000));
            text.push_str(&format!(", {} more", Span(left)));
        }
        text
    }

    /// `member` as it is at `now`.
    pub(super) fn new(member: &Member, now: Moment) -> Self {
        let Member { endpoint, weight, priority, zone, draining } = member;
        let ejection = endpoint.ejection().map(|ejection| EjectionView::new(&ejection, now));
        let check = endpoint.last_check().map(|check| CheckView::new(&check, now));
        let reported = endpoint.load.reported();
        let state = state(endpoint, *draining);
        Self {
            address: endpoint.address.to_string(),
            host: endpoint.host.as_ref().map(ToString::to_string),
            state,
            why: why(state, ejection.as_ref(), check.as_ref()),
            ejection,
            check,
            weight: *weight,
            effective_weight: None,
            share: None,
            cost: None,
            latency_ms: endpoint.latency.average().map(|time| time.as_secs_f64() * 1000.0),
            priority: *priority,
            zone: zone.as_ref().map(ToString::to_string),
            draining: *draining,
            utilization: reported.map(|reported| reported.load.utilization),
            reported_ago_ms: reported.map(|reported| milliseconds(now.since(reported.at))),
            reported_weight: endpoint.reported_weight.last(),
            in_flight: endpoint.in_flight(),
            connections: endpoint.metrics.connections(),
            retired: endpoint.is_retired(),
        }
    }
}

fn state(endpoint: &Endpoint, draining: bool) -> EndpointState {
    let availability = &endpoint.availability;
    if availability.is_unproven() {
        EndpointState::Checking
    } else if !availability.is_healthy() {
        EndpointState::Unhealthy
    } else if availability.ejected_until().is_some() {
        EndpointState::Ejected
    } else if draining {
        EndpointState::Draining
    } else {
        EndpointState::Available
    }
}

fn why(
    state: EndpointState,
    ejection: Option<&EjectionView>,
    check: Option<&CheckView>,
) -> Option<String> {
    match state {
        EndpointState::Available => None,
        EndpointState::Checking => Some("its first health check has not passed yet".to_owned()),
        EndpointState::Draining => Some("new requests go to others".to_owned()),
        EndpointState::Ejected => ejection.map(|ejection| ejection.reason.clone()),
        EndpointState::Unhealthy => Some(match check {
            Some(check) => format!("{}, {} in a row", check.text, check.row),
            None => "its health checks fail".to_owned(),
        }),
    }
}

impl EjectionView {
    fn new(ejection: &Ejection, now: Moment) -> Self {
        let left = ejection.until.since(now);
        let end = SystemTime::now() + left;
        let until = end.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
        Self {
            reason: ejection.reason.to_string(),
            times: ejection.times,
            until,
            left_ms: milliseconds(left),
        }
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
