//! The places of one upstream's connections. A connection outlives the configuration that it was
//! made under, so its place belongs to the upstream's name and not to one version of its limits.

use std::sync::{Arc, OnceLock};

use super::Turnstile;
use crate::ir::UpstreamLimits;

/// Places for the connections to the endpoints of one upstream; made when they are first limited.
#[derive(Debug, Default)]
pub struct ConnectionPlaces(OnceLock<Arc<Turnstile>>);

impl ConnectionPlaces {
    /// Puts `limits` in force for `workers` workers; what is taken stays taken. `None` where they
    /// do not limit connections.
    pub fn settle(&self, limits: &UpstreamLimits, workers: usize) -> Option<Arc<Turnstile>> {
        let Some(limit) = limits.connections else {
            if let Some(turnstile) = self.0.get() {
                turnstile.set_limit(Turnstile::UNLIMITED);
            }
            return None;
        };
        let new = || Arc::new(Turnstile::new(limit, limits.pending, workers));
        let turnstile = self.0.get_or_init(new);
        turnstile.set_most_waiting(limits.pending);
        turnstile.set_limit(limit);
        Some(turnstile.clone())
    }

    /// Where connections take their places; `None` where they are not limited now.
    #[inline]
    pub fn limited(&self) -> Option<&Arc<Turnstile>> {
        self.0.get().filter(|turnstile| turnstile.limit() != Turnstile::UNLIMITED)
    }
}
