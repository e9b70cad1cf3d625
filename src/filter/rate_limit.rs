//! How often a client may use a route: a leaky bucket for each client, in the form of the generic
//! cell rate algorithm (ITU-T I.371, its virtual scheduling form).
//!
//! A client that was quiet may send `burst` + 1 requests at once, and then one each `per` /
//! `requests`. What is beyond that is refused and does not count.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, StatusCode};

use super::Networks;
use super::tally::{Rates, Tallies, Turn, client_key};
use crate::ir::{self, Name, RateKey};
use crate::util::moment::Moment;

/// A rate limit ready to ask.
pub struct RateLimit {
    turn: Turn,
    key: RateKey,
    exempt: Networks,
    /// The status of a refusal.
    pub status: StatusCode,
    scope: u64,
    seed: RandomState,
    rates: Arc<Rates>,
}

impl RateLimit {
    /// Compiles a limit of `route`. Clients go on where they were with the limits of the same
    /// scope and rate before.
    pub fn new(limit: &ir::RateLimit, route: &Name, tallies: &Tallies) -> Self {
        let nanos = limit.per.as_nanos() / u128::from(limit.requests.max(1));
        let interval = u64::try_from(nanos).unwrap_or(u64::MAX).max(1);
        let tolerance = interval.saturating_mul(u64::from(limit.burst));
        let key = match &limit.key {
            RateKey::ClientIp => "",
            RateKey::Header(name) => name.as_str(),
        };
        let scope = match &limit.scope {
            Some(scope) => ("rate of scope", &**scope),
            None => ("rate of route", route.as_str()),
        };
        // With another rate the times in a bucket mean something else.
        let scope = tallies.seed.hash_one((scope, key, interval, limit.burst));
        Self {
            turn: Turn { interval, tolerance },
            key: limit.key.clone(),
            exempt: Networks::new(&limit.exempt),
            status: limit.status,
            scope,
            seed: tallies.seed.clone(),
            rates: tallies.rates(),
        }
    }

    /// Counts a request; where it is one too many, how long to wait until one is allowed again.
    pub fn take(&self, client: IpAddr, headers: &HeaderMap, now: Moment) -> Result<(), Duration> {
        if self.exempt.contains(client) {
            return Ok(());
        }
        let key = self.key(client, headers);
        self.rates.take(key, self.turn, now).map_err(Duration::from_nanos)
    }

    /// Takes back that a request was counted.
    pub fn give_back(&self, client: IpAddr, headers: &HeaderMap) {
        if !self.exempt.contains(client) {
            self.rates.give_back(self.key(client, headers), self.turn);
        }
    }

    fn key(&self, client: IpAddr, headers: &HeaderMap) -> u64 {
        let mut hasher = self.seed.build_hasher();
        hasher.write_u64(self.scope);
        if let RateKey::Header(name) = &self.key {
            let mut found = false;
            for value in headers.get_all(name) {
                hasher.write_usize(value.len());
                hasher.write(value.as_bytes());
                found = true;
            }
            if found {
                return hasher.finish();
            }
        }
        hasher.write_u128(client_key(client));
        hasher.finish()
    }
}

impl std::fmt::Debug for RateLimit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Turn { interval, tolerance } = self.turn;
        write!(f, "RateLimit(one each {interval} ns, {tolerance} ns early)")
    }
}
