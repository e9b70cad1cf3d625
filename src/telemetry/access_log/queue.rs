//! The way from the workers to the writer: one bounded queue per worker.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};

use super::record::Record;
use crate::telemetry::WorkerId;
use crate::telemetry::metrics::Count;

/// Records that wait per worker at most: 40 ms of a worker's utmost.
pub(super) const RECORDS: u64 = 4096;
/// Bytes of text that wait per worker at most, for requests with long heads.
const BYTES: u64 = 4 << 20;
/// With so many waiting, the writer is woken before its interval is over.
const WAKE_RECORDS: u64 = RECORDS / 4;
const WAKE_BYTES: u64 = BYTES / 4;

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It waits; the writer comes by on its own.
    Queued,
    /// It waits, and it is time to wake the writer.
    QueuedMany,
    /// There was no room.
    Full,
}

/// The queues of all workers.
#[derive(Debug)]
pub(super) struct Queues {
    queues: Box<[Queue]>,
    /// Held while taking, never while writing, so that a writer stuck in a write can be
    /// succeeded by another.
    receivers: Mutex<Vec<Receiver<Record>>>,
}

/// Two cache lines apart from the next worker's.
#[derive(Debug)]
#[repr(align(128))]
struct Queue {
    sender: SyncSender<Record>,
    sent: Count,
    sent_bytes: Count,
    taken: AtomicU64,
    taken_bytes: AtomicU64,
}

impl Queues {
    pub(super) fn new(workers: usize) -> Self {
        let (queues, receivers): (Vec<_>, Vec<_>) = (0..workers)
            .map(|_| {
                let (sender, receiver) = sync_channel(RECORDS as usize);
                (Queue::new(sender), receiver)
            })
            .unzip();
        Self { queues: queues.into_boxed_slice(), receivers: Mutex::new(receivers) }
    }

    /// Puts `record` into its worker's queue; never waits and wakes nobody.
    pub(super) fn put(&self, worker: WorkerId, record: Record) -> Outcome {
        match self.queues.get(worker.0) {
            Some(queue) => queue.put(record),
            None => Outcome::Full,
        }
    }

    /// Records ever put.
    pub(super) fn put_so_far(&self) -> u64 {
        self.queues.iter().map(|queue| queue.sent.get()).sum()
    }

    /// Records ever taken.
    pub(super) fn taken_so_far(&self) -> u64 {
        self.queues.iter().map(|queue| queue.taken.load(Ordering::Relaxed)).sum()
    }

    /// Takes records, of each worker in turn, until `accept` says it has had enough or none is
    /// left; returns how many.
    pub(super) fn take(&self, mut accept: impl FnMut(&Record) -> bool) -> u64 {
        let receivers = self.receivers.lock().unwrap_or_else(PoisonError::into_inner);
        let mut total = 0;
        loop {
            let before = total;
            for (queue, receiver) in self.queues.iter().zip(receivers.iter()) {
                let Ok(record) = receiver.try_recv() else { continue };
                queue.taken.fetch_add(1, Ordering::Relaxed);
                queue.taken_bytes.fetch_add(record.text().len() as u64, Ordering::Relaxed);
                total += 1;
                if !accept(&record) {
                    return total;
                }
            }
            if total == before {
                return total;
            }
        }
    }
}

impl Queue {
    fn new(sender: SyncSender<Record>) -> Self {
        Self {
            sender,
            sent: Count::default(),
            sent_bytes: Count::default(),
            taken: AtomicU64::new(0),
            taken_bytes: AtomicU64::new(0),
        }
    }

    fn put(&self, record: Record) -> Outcome {
        let bytes = record.text().len() as u64;
        let waiting_bytes = waiting(&self.sent_bytes, &self.taken_bytes);
        if waiting_bytes + bytes > BYTES || self.sender.try_send(record).is_err() {
            return Outcome::Full;
        }
        self.sent.add(1);
        self.sent_bytes.add(bytes);
        let many = waiting(&self.sent, &self.taken) == WAKE_RECORDS
            || waiting_bytes < WAKE_BYTES && waiting_bytes + bytes >= WAKE_BYTES;
        if many { Outcome::QueuedMany } else { Outcome::Queued }
    }
}

/// A record may be taken before it is counted as sent; then nothing waits.
fn waiting(sent: &Count, taken: &AtomicU64) -> u64 {
    sent.get().saturating_sub(taken.load(Ordering::Relaxed))
}
