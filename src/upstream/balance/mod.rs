//! How an endpoint is picked. A pick takes `&self`, no lock and no allocation.

mod sequence;

pub use sequence::Sequence;

use crate::ir::Balance;
use crate::telemetry::WorkerId;

/// An algorithm prepared for one endpoint set.
pub enum Balancer {
    /// Round robin, smooth where weights differ.
    RoundRobin(Sequence),
}

impl Balancer {
    /// Prepares `balance` for endpoints of these weights.
    pub fn new(balance: &Balance, weights: &[u32], workers: usize) -> Self {
        match balance {
            Balance::RoundRobin => Self::RoundRobin(Sequence::new(weights, workers)),
        }
    }

    /// The index of the endpoint whose turn it is; `None` when there is none.
    pub fn pick(&self, worker: WorkerId) -> Option<usize> {
        match self {
            Self::RoundRobin(sequence) => sequence.next(worker),
        }
    }
}
