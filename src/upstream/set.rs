//! The endpoints of an upstream at one moment, with everything a pick needs precomputed.

use std::sync::Arc;

use super::balance::Balancer;
use super::{Endpoint, EndpointId};
use crate::ir::Balance;
use crate::telemetry::WorkerId;

/// An immutable set of weighted endpoints and the balancer over it.
pub struct EndpointSet {
    endpoints: Box<[Arc<Endpoint>]>,
    weights: Box<[u32]>,
    balancer: Balancer,
}

impl EndpointSet {
    /// A set over `members` for `workers` workers.
    pub fn new(balance: &Balance, members: Vec<(Arc<Endpoint>, u32)>, workers: usize) -> Self {
        let (endpoints, weights): (Vec<_>, Vec<_>) = members.into_iter().unzip();
        let balancer = Balancer::new(balance, &weights, workers);
        Self { endpoints: endpoints.into(), weights: weights.into(), balancer }
    }

    /// Picks an endpoint that is not among `tried`.
    pub fn pick(&self, worker: WorkerId, tried: &[EndpointId]) -> Option<&Arc<Endpoint>> {
        // As many turns as there are endpoints, then whichever is left: a weighted sequence may
        // come back to a tried endpoint several times in a row.
        for _ in 0..=tried.len() {
            let endpoint = self.endpoints.get(self.balancer.pick(worker)?)?;
            if !tried.contains(&endpoint.id) {
                return Some(endpoint);
            }
        }
        self.endpoints.iter().find(|endpoint| !tried.contains(&endpoint.id))
    }

    /// The endpoints and their weights in declaration order.
    pub fn members(&self) -> impl ExactSizeIterator<Item = (&Arc<Endpoint>, u32)> {
        self.endpoints.iter().zip(self.weights.iter().copied())
    }
}
