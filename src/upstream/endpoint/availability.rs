//! Whether an endpoint may be picked: what health checks and ejection say of it.
//!
//! Written by the control side and, for ejection, by the worker whose attempt was the last straw;
//! read when a set is built and by status pages.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};

use crate::util::moment::Moment;

/// The availability of one endpoint. Available to begin with.
#[derive(Debug)]
pub struct Availability {
    /// What health checks say.
    health: AtomicU8,
    /// When its ejection ends; 0 where it is not ejected.
    ejected_until: AtomicU64,
    /// Since when it has been available without a break.
    since: AtomicU64,
    /// Whether it was unavailable before.
    recovered: AtomicBool,
}

const HEALTHY: u8 = 0;
const UNHEALTHY: u8 = 1;
const UNPROVEN: u8 = 2;

impl Availability {
    /// Available since `now`.
    pub fn new(now: Moment) -> Self {
        Self {
            health: AtomicU8::new(HEALTHY),
            ejected_until: AtomicU64::new(0),
            since: AtomicU64::new(now.0),
            recovered: AtomicBool::new(false),
        }
    }

    /// Whether it may be picked.
    pub fn is_available(&self) -> bool {
        self.is_healthy() && self.ejected_until().is_none()
    }

    /// Whether health checks, if there are any, find it healthy.
    pub fn is_healthy(&self) -> bool {
        self.health.load(Ordering::Relaxed) == HEALTHY
    }

    /// Whether it is new and waits for its first health check to pass.
    pub fn is_unproven(&self) -> bool {
        self.health.load(Ordering::Relaxed) == UNPROVEN
    }

    /// When its ejection ends.
    pub fn ejected_until(&self) -> Option<Moment> {
        match self.ejected_until.load(Ordering::Relaxed) {
            0 => None,
            until => Some(Moment(until)),
        }
    }

    /// Since when it has been available.
    pub fn since(&self) -> Moment {
        Moment(self.since.load(Ordering::Relaxed))
    }

    /// Whether it comes back from being unavailable, rather than being new.
    pub fn is_recovered(&self) -> bool {
        self.recovered.load(Ordering::Relaxed)
    }

    /// Notes what health checks say. Returns whether that changes anything.
    pub fn set_healthy(&self, healthy: bool, now: Moment) -> bool {
        let after = if healthy { HEALTHY } else { UNHEALTHY };
        let before = self.health.swap(after, Ordering::Relaxed);
        match (before, after) {
            (UNHEALTHY, HEALTHY) => self.came_back(true, now),
            // It is new all the same.
            (UNPROVEN, HEALTHY) => self.since.store(now.0, Ordering::Relaxed),
            _ => {}
        }
        before != after
    }

    /// Says that it is new and has to pass a health check first.
    pub fn set_unproven(&self) {
        self.health.store(UNPROVEN, Ordering::Relaxed);
    }

    /// Ejects it until `until`. Returns whether it was not ejected before.
    pub fn eject(&self, until: Moment) -> bool {
        self.ejected_until.swap(until.0.max(1), Ordering::Relaxed) == 0
    }

    /// Ends its ejection. Returns whether it was ejected.
    pub fn readmit(&self, now: Moment) -> bool {
        let ejected = self.ejected_until.swap(0, Ordering::Relaxed) != 0;
        self.came_back(ejected, now);
        ejected
    }

    fn came_back(&self, back: bool, now: Moment) {
        if back {
            self.since.store(now.0, Ordering::Relaxed);
            self.recovered.store(true, Ordering::Relaxed);
        }
    }
}
