//! A number that threads share.

use std::sync::atomic::{AtomicU64, Ordering};

/// An `f64` that any thread may read and write. Every access is relaxed: a number says nothing
/// about another.
#[derive(Debug, Default)]
pub struct SharedFloat(AtomicU64);

impl SharedFloat {
    /// The number.
    #[inline]
    pub fn get(&self) -> f64 {
        f64::from_bits(self.0.load(Ordering::Relaxed))
    }

    /// Replaces it.
    #[inline]
    pub fn set(&self, value: f64) {
        self.0.store(value.to_bits(), Ordering::Relaxed);
    }
}
