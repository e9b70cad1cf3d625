//! The leaky buckets of clients.
//!
//! A bucket is one number: when it will have run empty (the "theoretical arrival time" of the
//! generic cell rate algorithm). One that has is worth nothing, so its place can be given away;
//! only where all places of a group are taken by buckets that have not is the one that would be
//! the first to run empty forgotten, and its client starts anew. That is the only thing that is
//! ever forgotten, apart from a request here and there where two clients take one place at the
//! same instant.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::util::moment::Moment;

/// Groups in the table, as a power of two: 131,072 clients in 2 MiB.
const GROUPS: u32 = 14;
const PLACES: usize = 8;

/// How often a place is looked for while others take it away.
const ATTEMPTS: usize = 8;

/// How fast a bucket runs empty, and how full it may be; in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub struct Turn {
    /// What one request adds.
    pub interval: u64,
    /// How full it may be for another request to be let through.
    pub tolerance: u64,
}

/// A group: keys on one cache line, times on the next.
#[derive(Default)]
#[repr(align(128))]
struct Group {
    keys: [AtomicU64; PLACES],
    empty_at: [AtomicU64; PLACES],
}

/// The table.
pub struct Rates {
    groups: Box<[Group]>,
}

impl Default for Rates {
    fn default() -> Self {
        Self { groups: (0..1_usize << GROUPS).map(|_| Group::default()).collect() }
    }
}

impl Rates {
    /// Adds a request to the bucket of `key`.
    ///
    /// # Errors
    /// If it is too full: after how many nanoseconds it is not any more. Nothing is added then.
    pub fn take(&self, key: u64, turn: Turn, now: Moment) -> Result<(), u64> {
        let Some(empty_at) = self.group(key).and_then(|group| group.bucket(key, now)) else {
            return Ok(());
        };
        let mut before = empty_at.load(Ordering::Relaxed);
        loop {
            let from = before.max(now.0);
            let fill = from - now.0;
            if fill > turn.tolerance {
                return Err(fill - turn.tolerance);
            }
            let after = from.saturating_add(turn.interval);
            let (success, failure) = (Ordering::Relaxed, Ordering::Relaxed);
            match empty_at.compare_exchange_weak(before, after, success, failure) {
                Ok(_) => return Ok(()),
                Err(other) => before = other,
            }
        }
    }

    /// Takes a request out again.
    pub fn give_back(&self, key: u64, turn: Turn) {
        let found = self.group(key).and_then(|group| group.find(key));
        if let Some(empty_at) = found {
            let less = |time: u64| Some(time.saturating_sub(turn.interval));
            let _ = empty_at.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        }
    }

    fn group(&self, key: u64) -> Option<&Group> {
        self.groups.get((key >> (u64::BITS - GROUPS)) as usize)
    }
}

impl Group {
    fn find(&self, key: u64) -> Option<&AtomicU64> {
        let mut places = self.keys.iter().zip(&self.empty_at);
        places.find(|(place, _)| place.load(Ordering::Relaxed) == key).map(|(_, time)| time)
    }

    /// The bucket of `key`, empty where it had none; `None` where others were faster every time.
    fn bucket(&self, key: u64, now: Moment) -> Option<&AtomicU64> {
        for _ in 0..ATTEMPTS {
            if let Some(found) = self.find(key) {
                return Some(found);
            }
            let places = self.keys.iter().zip(&self.empty_at);
            let (place, time) = places.min_by_key(|(_, time)| time.load(Ordering::Relaxed))?;
            let (old, full_until) = (place.load(Ordering::Relaxed), time.load(Ordering::Relaxed));
            let (success, failure) = (Ordering::Relaxed, Ordering::Relaxed);
            if place.compare_exchange(old, key, success, failure).is_ok() {
                // Unless somebody has begun to fill it for `key` already.
                if full_until > now.0 {
                    let _ = time.compare_exchange(full_until, now.0, success, failure);
                }
                return Some(time);
            }
        }
        None
    }
}
