//! What is counted of clients: in tables of a fixed size, shared by all workers, all routes and
//! all configurations.
//!
//! A table is an array of small groups of atomics. The hash of a client and of what it is counted
//! in picks the group, and inside it everything is found by looking at all of its places: no
//! lock, no allocation, and no more memory however many clients come. The hash is seeded, so that
//! nobody can choose which clients share a group.

mod rates;
mod seats;
#[cfg(test)]
mod tests;

pub use rates::{Rates, Turn};
pub use seats::{Full, Seat, Seats};

use std::hash::RandomState;
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

/// The tables of a process; each is made when the first limit needs it.
#[derive(Clone, Default)]
pub struct Tallies {
    /// Of the hashes of clients and scopes.
    pub seed: RandomState,
    rates: Arc<OnceLock<Arc<Rates>>>,
    seats: Arc<OnceLock<Arc<Seats>>>,
}

impl Tallies {
    /// The buckets of rate limits.
    pub fn rates(&self) -> Arc<Rates> {
        self.rates.get_or_init(Arc::default).clone()
    }

    /// The requests in progress.
    pub fn seats(&self) -> Arc<Seats> {
        self.seats.get_or_init(Arc::default).clone()
    }
}

/// What is taken for one client: an IPv4 address, or the /64 that an IPv6 address is in, since
/// every host has a whole one to itself.
pub fn client_key(client: IpAddr) -> u128 {
    match client.to_canonical() {
        IpAddr::V4(client) => u128::from(client.to_ipv6_mapped()),
        IpAddr::V6(client) => u128::from(client) & !u128::from(u64::MAX),
    }
}
