//! What a request must pass before anything is done for it.

use std::net::IpAddr;
use std::time::Duration;

use http::{HeaderMap, StatusCode};

use super::tally::{Full, Seat, Tallies};
use super::{AccessList, ConnectionLimit, RateLimit};
use crate::ir::{self, Name};
use crate::telemetry::Reason;
use crate::util::moment::Moment;

/// The guard of a route, ready to ask.
#[derive(Debug)]
pub struct Guard {
    access: Option<AccessList>,
    /// Whether something else of the client's may stand for its address.
    either: bool,
    rate_limits: Box<[RateLimit]>,
    connection_limit: Option<ConnectionLimit>,
}

/// Why a request may not pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The reason.
    pub reason: Reason,
    /// The status of the answer.
    pub status: StatusCode,
    /// When it may pass, where that is known.
    pub retry_after: Option<Duration>,
}

impl Guard {
    /// Compiles the guard of `route`; `None` where nothing guards it. Where `either`, those whom
    /// the access list does not admit are let in as well: they are to show something else.
    pub fn new(
        guard: &ir::Guard,
        either: bool,
        route: &Name,
        tallies: &Tallies,
    ) -> Option<Box<Self>> {
        if *guard == ir::Guard::default() {
            return None;
        }
        let limits = guard.rate_limits.iter().map(|limit| RateLimit::new(limit, route, tallies));
        let connections = guard.connection_limit.as_ref();
        Some(Box::new(Self {
            access: guard.access.as_ref().map(AccessList::new),
            either,
            rate_limits: limits.collect(),
            connection_limit: connections.map(|limit| ConnectionLimit::new(limit, route, tallies)),
        }))
    }

    /// Whether the address of `client` is enough, where something else would be, too.
    pub fn vouches(&self, client: IpAddr) -> bool {
        self.either && self.access.as_ref().is_some_and(|access| access.names(client))
    }

    fn admits(&self, client: IpAddr) -> bool {
        self.either || self.access.as_ref().is_none_or(|access| access.admits(client))
    }

    /// Lets a request in. It is in progress for as long as its seat is kept, if it has one.
    ///
    /// # Errors
    /// If it may not pass. It is then not counted anywhere.
    pub fn enter(
        &self,
        client: IpAddr,
        headers: &HeaderMap,
        now: Moment,
    ) -> Result<Option<Seat>, Refusal> {
        if !self.admits(client) {
            let (reason, status) = (Reason::AccessDenied, StatusCode::FORBIDDEN);
            return Err(Refusal { reason, status, retry_after: None });
        }
        // First the seat: it goes back by itself.
        let seat = match &self.connection_limit {
            None => None,
            Some(limit) => limit.take(client).map_err(|Full| Refusal {
                reason: Reason::ConnectionLimited,
                status: limit.status,
                retry_after: None,
            })?,
        };
        self.count(client, headers, now)?;
        Ok(seat)
    }

    fn count(&self, client: IpAddr, headers: &HeaderMap, now: Moment) -> Result<(), Refusal> {
        for (index, limit) in self.rate_limits.iter().enumerate() {
            let Err(wait) = limit.take(client, headers, now) else { continue };
            for earlier in self.rate_limits.iter().take(index) {
                earlier.give_back(client, headers);
            }
            return Err(Refusal {
                reason: Reason::RateLimited,
                status: limit.status,
                retry_after: Some(wait),
            });
        }
        Ok(())
    }
}
