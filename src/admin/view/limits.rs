//! An upstream's limits and how much of them is used.

use serde::{Deserialize, Serialize};

use super::policy;
use crate::upstream::limits::{Limits, Turnstile};
use crate::util::moment::Moment;

/// An upstream's limits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitsView {
    /// Those that are set, in words.
    pub rules: Option<String>,
    /// Requests in flight.
    pub requests: Option<Occupancy>,
    /// Open connections.
    pub connections: Option<Occupancy>,
    /// Retries in flight.
    pub retries: Option<Occupancy>,
    /// Requests that wait for a place.
    pub pending: u32,
    /// How many may wait.
    pub pending_limit: u32,
    /// Retries and hedges of the last ten seconds.
    pub retries_spent: u64,
    /// How many more the retry budget allows now.
    pub retries_left: u64,
}

/// Places of a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Occupancy {
    /// Those taken.
    pub taken: u32,
    /// How many there are at this moment.
    pub limit: u32,
}

impl LimitsView {
    /// `limits` as they are at `now`.
    pub(super) fn new(limits: &Limits, now: Moment) -> Self {
        let (retries_spent, retries_left) = limits.budget.spent_and_left(now);
        let places = |turnstile: &Turnstile| Occupancy {
            taken: turnstile.taken(),
            limit: turnstile.limit(),
        };
        Self {
            rules: policy::limits(&limits.spec),
            requests: limits.requests.as_deref().map(places),
            connections: limits.connections.as_deref().map(places),
            retries: limits.retries().map(|(taken, limit)| Occupancy { taken, limit }),
            pending: limits.pending(),
            pending_limit: limits.spec.pending,
            retries_spent,
            retries_left,
        }
    }

    /// Whether failed attempts are not repeated now, because the budget is used up.
    pub fn is_spent(&self) -> bool {
        self.retries_spent > 0 && self.retries_left == 0
    }

    /// What is used of them, in words; `None` where there is nothing to tell.
    pub fn usage(&self) -> Option<String> {
        let places = [
            (self.requests, "requests"),
            (self.connections, "connections"),
            (self.retries, "retries"),
        ];
        let places = places.iter().filter_map(|(places, what)| Some(((*places)?, what)));
        // Before there is an endpoint to send to, there is no limit either.
        let places = places.filter(|(places, _)| places.limit < u32::MAX);
        let mut texts: Vec<_> = places
            .map(|(Occupancy { taken, limit }, what)| format!("{taken} of {limit} {what}"))
            .collect();
        if self.pending > 0 {
            texts.push(format!("{} of {} WAITING", self.pending, self.pending_limit));
        }
        if self.is_spent() {
            texts.push("retry budget USED UP".to_owned());
        }
        (!texts.is_empty()).then(|| texts.join(", "))
    }
}
