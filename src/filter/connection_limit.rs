//! How many requests of a client address may be in progress at once.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::Arc;

use http::StatusCode;

use super::Networks;
use super::tally::{Full, Seat, Seats, Tallies, client_key};
use crate::ir::{self, Name};

/// A limit ready to ask.
pub struct ConnectionLimit {
    per_client: u16,
    exempt: Networks,
    /// The status of a refusal.
    pub status: StatusCode,
    scope: u64,
    seed: RandomState,
    seats: Arc<Seats>,
}

impl ConnectionLimit {
    /// Compiles a limit of `route`. Requests that are in progress in the same scope count on.
    pub fn new(limit: &ir::ConnectionLimit, route: &Name, tallies: &Tallies) -> Self {
        let scope = match &limit.scope {
            Some(scope) => ("connections of scope", &**scope),
            None => ("connections of route", route.as_str()),
        };
        Self {
            per_client: limit.per_client,
            exempt: Networks::new(&limit.exempt),
            status: limit.status,
            scope: tallies.seed.hash_one(scope),
            seed: tallies.seed.clone(),
            seats: tallies.seats(),
        }
    }

    /// Counts a request for as long as what is returned lives; `None` for one that is not
    /// counted.
    ///
    /// # Errors
    /// If as many as may be are in progress.
    pub fn take(&self, client: IpAddr) -> Result<Option<Seat>, Full> {
        if self.exempt.contains(client) {
            return Ok(None);
        }
        let key = self.seed.hash_one((self.scope, client_key(client)));
        self.seats.take(key, self.per_client)
    }
}

impl std::fmt::Debug for ConnectionLimit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ConnectionLimit({} per client)", self.per_client)
    }
}
