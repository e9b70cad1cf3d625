//! What a request sees: the compiled, immutable form of the configuration.
//!
//! # How a request finds its route
//!
//! [`HostIndex`] picks the virtual host: an exact name, else a wildcard of one label, else the
//! longest wildcard suffix, else the default. That choice is final: a host whose routes do not match is a miss, never a reason to
//! try the wildcard host.
//!
//! Inside the host, [`HostTable`] picks the route of the highest rank all of whose conditions hold:
//!
//! 1. exact paths;
//! 2. regular expressions, in the order in which each expression first appears;
//! 3. prefixes of whole segments and of bytes, the longest first; of two that are equally long
//!    the one of whole segments.
//!
//! Among routes with the same path condition the higher rank has, in this order, the lower `order`
//! (which only some providers set), a method condition, more header conditions, more conditions on
//! cookies, more query conditions, the earlier declaration. Whoever has an order of their own to
//! keep declares regular expressions in it, and sets `order` where expressions or paths are equal.
//!
//! A prefix counts in whole segments (`/cart` holds for `/cart`, `/cart/` and `/cart/x`, not for
//! `/cartoon`), slashes at its end do not count, and `/` holds for everything. A prefix of bytes
//! (`PathMatch::StartsWith`) holds for whatever begins with it, and its slash at the end counts.
//! Every character of
//! a configured path stands for itself. Methods are taken literally, as in the Gateway API: `GET`
//! does not include `HEAD`.

mod authentication;
mod client_gate;
mod compile;
mod cookie;
mod explain;
mod host;
mod hosts;
mod inner;
mod listener;
mod matcher;
#[cfg(test)]
mod oracle;
mod passage;
mod path;
mod pattern;
mod query;
mod rank;
mod route;
mod rule;
mod serving;
mod table;
#[cfg(test)]
mod tests;
mod upstreams;

pub use authentication::{Authentication, External, Way};
pub use client_gate::ClientGate;
pub use compile::Compiler;
pub use explain::{Outcome, Trial};
pub use host::HostIndex;
pub use hosts::CompiledHost;
pub use listener::{CompiledListener, ListenerId};
pub use passage::Passage;
pub use path::below;
pub use route::{Action, CompiledRoute, ErrorPages, FixedResponse, Targets};
pub use rule::CountedRule;
pub use table::{HostTable, RequestFacts, RouteId};

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwapOption;

use crate::ir::{Config, Name, Problem, Route};
use crate::upstream::Upstream;

/// Everything requests are served by, at one moment; immutable.
pub struct Snapshot {
    /// Counts up from 1.
    pub generation: u64,
    /// What it was compiled from.
    pub config: Arc<Config>,
    listeners: Box<[Option<Arc<CompiledListener>>]>,
    /// All hosts, in the order of the configuration.
    pub hosts: Box<[Arc<CompiledHost>]>,
    /// Their routes by number, and among them those of requests of our own, to which no client
    /// gets. Some numbers are free.
    routes: Box<[Option<Arc<CompiledRoute>>]>,
    /// All upstreams, by name.
    pub upstreams: Arc<BTreeMap<Name, Arc<Upstream>>>,
    /// What was found wrong while compiling.
    pub problems: Vec<Problem>,
}

impl Snapshot {
    /// The listener of that number, if it is still configured.
    pub fn listener(&self, id: ListenerId) -> Option<&Arc<CompiledListener>> {
        self.listeners.get(id.0 as usize)?.as_ref()
    }

    /// All listeners.
    pub fn listeners(&self) -> impl Iterator<Item = &Arc<CompiledListener>> {
        self.listeners.iter().flatten()
    }

    /// What there is to say of the certificates' validity at `now` (Unix seconds).
    pub fn validity(&self, now: i64) -> Vec<Problem> {
        let tls = self.listeners().filter_map(|listener| listener.tls.as_ref());
        let mut found = Vec::new();
        for problem in tls.flat_map(|tls| &tls.certificates).filter_map(|c| c.validity(now)) {
            // Listeners may share a certificate.
            if !found.contains(&problem) {
                found.push(problem);
            }
        }
        found
    }

    /// The route of that number.
    pub fn route(&self, id: RouteId) -> Option<&CompiledRoute> {
        self.routes.get(id.index())?.as_deref()
    }

    /// The routes of all hosts in the order of their declaration, and what was declared.
    pub fn declared(&self) -> impl Iterator<Item = (&CompiledRoute, &Route)> {
        self.hosts.iter().flat_map(|host| host.declared())
    }
}

/// Where the current snapshot is published.
#[derive(Default)]
pub struct SnapshotHandle {
    current: ArcSwapOption<Snapshot>,
    generation: AtomicU64,
}

impl SnapshotHandle {
    /// Nothing published yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes `snapshot` the current one and returns the one before, which the caller should
    /// keep until no worker uses it: freeing a large one is work for the control side.
    pub fn publish(&self, snapshot: Arc<Snapshot>) -> Option<Arc<Snapshot>> {
        let generation = snapshot.generation;
        let before = self.current.swap(Some(snapshot));
        self.generation.store(generation, Ordering::Release);
        before
    }

    /// The current generation; 0 before the first. A worker compares it with its own.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// The current snapshot.
    pub fn load(&self) -> Option<Arc<Snapshot>> {
        self.current.load_full()
    }
}
