//! Which endpoint a request would be sent to now, and why that one.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::admin::view::policy;
use crate::ir::{AffinityKey, Balance, HashInput, HashPolicy};
use crate::proxy::{Selection, Sight};
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

/// Picks for a request that looks like that as a worker would at `now`, in a copy in which
/// nothing moves on.
pub fn forecast(upstream: &Upstream, sight: &Sight<'_>, now: Moment) -> Forecast {
    let set = upstream.rehearsal(now);
    let mut random = Random::new(now.0);
    let selection = Selection::at_sight(upstream, sight, || random.draw());
    let (key, session) = (selection.key, selection.session);
    let mut pick = Pick { worker: WorkerId(0), now, tried: &[], key, session, random };
    let by_session = set.of_session(&pick).is_some();
    let Some(endpoint) = set.pick(&mut pick).cloned() else {
        let why = match set.members().is_empty() {
            true => "there is no endpoint: answered 503",
            false => "none is available: answered 503",
        };
        return Forecast { endpoint: None, certain: true, why: why.to_owned() };
    };
    let (certain, why) = match by_session {
        true => session_reason(upstream, selection.shown),
        false => {
            let has = |group: &&Group| group.members.iter().any(|m| m.endpoint.id == endpoint.id);
            let group = set.groups().iter().find(has);
            let why = |group| balance(upstream, sight, &set, group, &pick);
            group.map_or((false, String::new()), why)
        }
    };
    Forecast { endpoint: Some(endpoint.address.to_string()), certain, why }
}

fn session_reason(upstream: &Upstream, shown: bool) -> (bool, String) {
    let name = match upstream.spec.balance.affinity.as_ref().map(|affinity| &affinity.by) {
        Some(AffinityKey::Cookie(cookie)) => format!("the cookie {}", cookie.name),
        Some(AffinityKey::Header(name)) => format!("the header {name}"),
        None => String::new(),
    };
    match shown {
        true => (true, format!("the session in {name} is there")),
        false => (false, format!("a session begins there, by {name}; at random")),
    }
}

/// Why one of `group`, and whether it must be that one.
fn balance(
    upstream: &Upstream,
    sight: &Sight<'_>,
    set: &EndpointSet,
    group: &Group,
    pick: &Pick<'_>,
) -> (bool, String) {
    let key = pick.key;
    let (mut certain, mut why) = match (&upstream.spec.balance.algorithm, key) {
        _ if group.members.len() == 1 => (true, "the only one".to_owned()),
        (Balance::Hash(policy), Some(_)) => (true, format!("the hash of {}", inputs(policy))),
        (Balance::Hash(policy), None) => {
            let unknown = sight.client.is_none() && policy.on.contains(&HashInput::ClientIp);
            let hint = if unknown { " (say --from IP)" } else { "" };
            (false, format!("there is no {} to hash{hint}, so by the load", inputs(policy)))
        }
        (algorithm, _) => cost(algorithm, group, pick.now),
    };
    if group.panic {
        why.push_str("; so few are available that availability is ignored");
    }
    if set.groups().iter().filter(|group| group.share > 0.0).count() > 1 {
        let share = (group.share * 100.0).round();
        why.push_str(&format!("; its priority and zone get {share} % of the requests"));
        certain &= key.is_some();
    }
    (certain, why)
}

fn inputs(policy: &HashPolicy) -> String {
    policy.on.iter().map(policy::input).collect::<Vec<_>>().join(" and ")
}

fn cost(algorithm: &Balance, group: &Group, now: Moment) -> (bool, String) {
    let count = group.members.len();
    let quantity = match algorithm {
        Balance::Random => return (false, format!("one of {count} at random, by weight")),
        Balance::RoundRobin => {
            return (false, format!("one of {count} in turn, by weight; each worker has its own"));
        }
        Balance::WeightedByLoad(_) => {
            return (false, format!("one of {count} in turn, by the load they report"));
        }
        Balance::Prequal(_) => {
            let why = "the best of its probes: cold ones by latency, else the fewest in flight";
            return (false, why.to_owned());
        }
        Balance::LeastUtilization(_) => "reported utilisation",
        Balance::PeakEwma(_) => "latency times requests in flight",
        _ => "number of requests in flight",
    };
    let (Some(costs), Some(compared)) = (group.costs(now), group.compared()) else {
        return (false, format!("one of {count}"));
    };
    if compared < count {
        return (false, format!("the lowest {quantity} of {compared} drawn from {count}"));
    }
    if costs.iter().any(|cost| cost.is_infinite()) {
        return (
            false,
            format!("the less busy of 2 drawn from {count}; not all report their load"),
        );
    }
    let idle = group.members.iter().filter(|member| member.endpoint.in_flight() == 0).count();
    if matches!(algorithm, Balance::LeastRequest(_) | Balance::Hash(_)) && idle > 1 {
        return (false, format!("one of {idle} without a request in flight, at random by weight"));
    }
    let least = costs.iter().copied().fold(f64::INFINITY, f64::min);
    match costs.iter().filter(|cost| **cost <= least).count() {
        0 | 1 => (true, format!("the lowest {quantity} of {count}")),
        tied => (false, format!("one of {tied} with the lowest {quantity}")),
    }
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
