//! Values that thousands of results have in common, kept once.
//!
//! Most Ingresses ask for the same policies, so a few of them are remembered and what is equal to one
//! of these becomes the same in memory. What is rarer is kept for itself.

use std::sync::Arc;

use ir::{BalancePolicy, Outlier, Retry, Timeouts, Upstream, UpstreamLimits, VirtualHost};

use crate::ir;

/// How many values of a kind are remembered: each new result is compared with them.
const FEW: usize = 16;

/// What may be had in common.
#[derive(Default)]
pub(super) struct Shares {
    balances: Few<BalancePolicy>,
    limits: Few<UpstreamLimits>,
    outliers: Few<Outlier>,
    retries: Few<Retry>,
    timeouts: Few<Timeouts>,
}

impl Shares {
    /// Has `host` share what others have, too.
    pub fn of_host(&mut self, host: &mut VirtualHost) {
        for route in &mut host.routes {
            self.timeouts.share(&mut route.timeouts);
            self.retries.share(&mut route.retry);
        }
    }

    /// The same of `upstream`.
    pub fn of_upstream(&mut self, upstream: &mut Upstream) {
        self.balances.share(&mut upstream.balance);
        self.limits.share(&mut upstream.limits);
        if let Some(outlier) = &mut upstream.outlier {
            self.outliers.share(outlier);
        }
    }
}

/// The values of a kind that were met last.
struct Few<T>(Vec<Arc<T>>);

impl<T> Default for Few<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: PartialEq> Few<T> {
    fn share(&mut self, value: &mut Arc<T>) {
        if let Some(known) = self.0.iter().find(|known| ***known == **value) {
            *value = Arc::clone(known);
            return;
        }
        if self.0.len() >= FEW {
            self.0.remove(0);
        }
        self.0.push(Arc::clone(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_equal_becomes_the_same_and_few_are_remembered() {
        let mut few = Few::default();
        let mut shared = |number: usize| {
            let mut value = Arc::new(number);
            few.share(&mut value);
            assert_eq!(*value, number);
            value
        };
        let first = shared(0);
        assert!(Arc::ptr_eq(&first, &shared(0)));
        (1..=FEW).for_each(|number| drop(shared(number)));
        assert!(!Arc::ptr_eq(&first, &shared(0)), "forgotten");
    }
}
