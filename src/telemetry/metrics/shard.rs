//! Counters that one worker writes and a scrape adds up.
//!
//! The invariant behind every type here: a shard has one writer, the worker it belongs to.
//! Therefore an increment is a relaxed load and a relaxed store, without a locked instruction
//! and without a cache line that two cores pull at. A second writer would lose counts, never
//! more.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// The number of a worker, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkerId(pub usize);

/// A count with one writer.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    /// Adds `n`; only the owning worker may call this.
    #[inline]
    pub(crate) fn add(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    /// The count now.
    #[inline]
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// One `T` per worker, made when its worker first touches it: a route without traffic costs a
/// pointer per worker.
#[derive(Debug)]
pub(crate) struct Sharded<T>(Box<[OnceLock<Box<Padded<T>>>]>);

/// Two cache lines, because the adjacent-line prefetcher fetches pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Padded<T>(T);

impl<T: Default> Sharded<T> {
    /// Room for `workers` shards.
    pub(crate) fn new(workers: usize) -> Self {
        Self((0..workers).map(|_| OnceLock::new()).collect())
    }

    /// The shard of `worker`; `None` for a number beyond the workers there are.
    #[inline]
    pub(crate) fn of(&self, worker: WorkerId) -> Option<&T> {
        let slot = self.0.get(worker.0);
        debug_assert!(slot.is_some(), "{worker:?} of {}", self.0.len());
        Some(&slot?.get_or_init(Box::default).0)
    }

    /// The shards that were ever touched.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter().filter_map(|slot| slot.get().map(|shard| &shard.0))
    }

    /// The sum of `part` over the shards.
    pub(crate) fn sum(&self, part: impl Fn(&T) -> u64) -> u64 {
        self.iter().map(part).fold(0, u64::wrapping_add)
    }
}

/// Counts by a key out of a closed set of which few ever occur: an append-only list with one
/// writer, read without locks while it grows.
#[derive(Debug)]
pub(crate) struct Sparse<K, T = Count>(OnceLock<Box<Node<K, T>>>);

#[derive(Debug)]
struct Node<K, T> {
    key: K,
    value: T,
    next: Sparse<K, T>,
}

impl<K, T> Default for Sparse<K, T> {
    fn default() -> Self {
        Self(OnceLock::new())
    }
}

impl<K: Copy + Eq, T: Default> Sparse<K, T> {
    /// What is counted of `key`; only the owning worker may call this.
    pub(crate) fn of(&self, key: K) -> &T {
        let mut list = self;
        loop {
            let node = list
                .0
                .get_or_init(|| Box::new(Node { key, value: T::default(), next: Self::default() }));
            if node.key == key {
                return &node.value;
            }
            list = &node.next;
        }
    }

    /// Every key with what is counted of it.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (K, &T)> {
        std::iter::successors(self.0.get(), |node| node.next.0.get())
            .map(|node| (node.key, &node.value))
    }
}

impl<K: Copy + Eq> Sparse<K> {
    /// Adds one to the count of `key`; only the owning worker may call this.
    #[inline]
    pub(crate) fn add(&self, key: K) {
        self.of(key).add(1);
    }

    /// Every key with its count.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (K, u64)> {
        self.entries().map(|(key, count)| (key, count.get()))
    }
}
