//! Which endpoint a request would be sent to now, and why that one.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ir::Balance;
use crate::telemetry::WorkerId;
use crate::upstream::balance::Pick;
use crate::upstream::{EndpointSet, Group, Upstream};
use crate::util::moment::Moment;
use crate::util::random::Random;

/// Which endpoint a request would be sent to now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forecast {
    /// The endpoint; `None` where there is none.
    pub endpoint: Option<String>,
    /// Whether another try at this moment would end there, too; if not it is an example.
    pub certain: bool,
    /// Why.
    pub why: String,
}

/// Picks as a worker would at `now`, in a copy in which nothing moves on.
pub fn forecast(upstream: &Upstream, now: Moment) -> Forecast {
    let set = upstream.rehearsal(now);
    let mut pick = Pick {
        worker: WorkerId(0),
        now,
        tried: &[],
        key: None,
        session: None,
        random: Random::new(now.0),
    };
    let picked = set.pick(&mut pick).map(|endpoint| (endpoint.id, endpoint.address));
    let Some((id, address)) = picked else {
        let why = match set.members().is_empty() {
            true => "there is no endpoint: answered 503",
            false => "none is available: answered 503",
        };
        return Forecast { endpoint: None, certain: true, why: why.to_owned() };
    };
    let group = set
        .groups()
        .iter()
        .find(|group| group.members.iter().any(|member| member.endpoint.id == id));
    let (certain, mut why) = match group {
        Some(group) => reason(&upstream.spec.balance.algorithm, group, now),
        None => (false, "by its session".to_owned()),
    };
    if let Some(narrowed) = narrowed(&set, group) {
        why = format!("{why}; {narrowed}");
    }
    let certain = certain && group.is_none_or(|group| group.share > 1.0 - 1e-9);
    Forecast { endpoint: Some(address.to_string()), certain, why }
}

/// Why one of `group`, and whether it must be that one.
fn reason(algorithm: &Balance, group: &Group, now: Moment) -> (bool, String) {
    let count = group.members.len();
    if count == 1 {
        return (true, "the only one".to_owned());
    }
    let quantity = match algorithm {
        Balance::Random => return (false, format!("one of {count} at random, by weight")),
        Balance::RoundRobin => {
            return (false, format!("one of {count} in turn, by weight; each worker has its own"));
        }
        Balance::PeakEwma(_) => "latency times requests in flight",
        _ => "requests in flight per weight",
    };
    let (Some(costs), Some(compared)) = (group.costs(now), group.compared()) else {
        return (false, format!("one of {count}"));
    };
    if compared < count {
        return (
            false,
            format!("the lowest {quantity} of {compared} drawn from {count} by weight"),
        );
    }
    let least = costs.iter().copied().fold(f64::INFINITY, f64::min);
    let tied = costs.iter().filter(|cost| **cost <= least).count();
    match tied {
        0 | 1 => (true, format!("the lowest {quantity} of {count}")),
        tied => (false, format!("one of {tied} with the lowest {quantity} of {count}, at random")),
    }
}

/// What else has a say.
fn narrowed(set: &EndpointSet, group: Option<&Group>) -> Option<String> {
    let group = group?;
    if group.panic {
        return Some("so few are available that availability is ignored".to_owned());
    }
    let share = (group.share * 100.0).round();
    let others = set.groups().iter().filter(|group| group.share > 0.0).count();
    (others > 1).then(|| format!("its priority and zone get {share} % of the requests"))
}

impl fmt::Display for Forecast {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.endpoint, self.certain) {
            (None, _) => f.write_str(&self.why),
            (Some(endpoint), true) => write!(f, "{endpoint}: {}", self.why),
            (Some(endpoint), false) => write!(f, "for example {endpoint}: {}", self.why),
        }
    }
}
