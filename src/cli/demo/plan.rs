//! Who sells what, and how fast: the fixed plan of the shop.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A department; each is a service with endpoints of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Department {
    Cart,
    Catalog,
    Orders,
    Reviews,
    Storefront,
    StorefrontNext,
    Support,
}

/// One service of the shop.
pub(super) struct Plan {
    pub(super) department: Department,
    /// The service's and its upstream's name.
    pub(super) name: &'static str,
    /// The path prefixes it answers.
    pub(super) paths: &'static [&'static str],
    pub(super) endpoints: &'static [Speed],
}

/// How an endpoint works: `base` and up to `jitter` milliseconds a request, and its share.
#[derive(Clone, Copy)]
pub(super) struct Speed {
    pub(super) base: u16,
    pub(super) jitter: u16,
    pub(super) weight: u32,
}

const fn speed(base: u16, jitter: u16, weight: u32) -> Speed {
    Speed { base, jitter, weight }
}

/// The shop. `reviews-3` is slow on purpose: a balancer that looks at latency should notice it.
pub(super) const PLANS: [Plan; 7] = [
    Plan {
        department: Department::Storefront,
        name: "storefront",
        paths: &["/"],
        endpoints: &[speed(2, 2, 2), speed(3, 3, 1), speed(5, 5, 1)],
    },
    Plan {
        department: Department::StorefrontNext,
        name: "storefront-next",
        paths: &["/"],
        endpoints: &[speed(2, 2, 1), speed(4, 4, 1)],
    },
    Plan {
        department: Department::Catalog,
        name: "catalog",
        paths: &["/products"],
        endpoints: &[speed(1, 1, 1), speed(3, 3, 1), speed(8, 6, 1)],
    },
    Plan {
        department: Department::Cart,
        name: "cart",
        paths: &["/cart"],
        endpoints: &[speed(2, 2, 2), speed(6, 4, 1)],
    },
    Plan {
        department: Department::Orders,
        name: "orders",
        paths: &["/orders"],
        endpoints: &[speed(10, 5, 1), speed(15, 10, 1), speed(30, 10, 1)],
    },
    Plan {
        department: Department::Reviews,
        name: "reviews",
        paths: &["/reviews"],
        endpoints: &[speed(4, 4, 1), speed(6, 6, 1), speed(120, 60, 1)],
    },
    Plan {
        department: Department::Support,
        name: "support",
        paths: &["/support"],
        endpoints: &[speed(1, 1, 1), speed(2, 2, 1)],
    },
];

/// Draws the working time of one endpoint's requests.
pub(super) struct Pace {
    base: Duration,
    jitter: Duration,
    state: AtomicU64,
}

impl Pace {
    pub(super) fn new(speed: Speed, seed: u64) -> Self {
        Self {
            base: Duration::from_millis(speed.base.into()),
            jitter: Duration::from_millis(speed.jitter.into()),
            state: AtomicU64::new(seed),
        }
    }

    /// The time the next request takes: `base` plus an even draw from `0..=jitter`.
    pub(super) fn draw(&self) -> Duration {
        let random = mix(self.state.fetch_add(GOLDEN, Ordering::Relaxed));
        let part = u32::try_from(random >> 48).unwrap_or(0);
        self.base + self.jitter * part / 0xffff
    }
}

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// SplitMix64's output function (Steele, Lea, Flood 2014).
pub(super) fn mix(state: u64) -> u64 {
    let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
