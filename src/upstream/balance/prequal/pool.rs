//! The probes one worker keeps, and which of them is used.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::Number;
use super::seen::Seen;
use crate::upstream::{Member, Probe};
use crate::util::moment::Moment;

/// One worker's probes. Only its worker writes.
#[repr(align(128))]
pub(super) struct Pool {
    len: Number,
    /// Whether the next one taken out is the worst, rather than the oldest.
    worst: Number,
    pub(super) seen: Seen,
    pub(super) entries: Box<[Entry]>,
}

/// Latencies that are longer by no more than this part are about as short as the shortest.
const ABOUT: u32 = 2;

/// One probe.
#[derive(Default)]
pub(super) struct Entry {
    pub(super) index: Number,
    in_flight: Number,
    /// What this process had in flight there when it was probed.
    beside: Number,
    latency: Number,
    pub(super) uses: Number,
    at: AtomicU64,
}

impl Entry {
    fn copy_from(&self, other: &Self) {
        self.index.set(other.index.get());
        self.in_flight.set(other.in_flight.get());
        self.beside.set(other.beside.get());
        self.latency.set(other.latency.get());
        self.uses.set(other.uses.get());
        self.at.store(other.at.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    fn at(&self) -> Moment {
        Moment(self.at.load(Ordering::Relaxed))
    }

    fn member<'m>(&self, members: &'m [Member]) -> Option<&'m Member> {
        members.get(self.index.get() as usize)
    }

    /// The requests in flight by now: those of the probe, and what this process has sent there
    /// and seen come back since.
    fn in_flight(&self, members: &[Member]) -> u32 {
        let probed = self.in_flight.get();
        let Some(member) = self.member(members) else { return probed };
        probed.saturating_add(member.endpoint.in_flight()).saturating_sub(self.beside.get())
    }

    /// Lower is better: the cold ones by latency before the hot ones by requests in flight.
    fn rank(&self, members: &[Member], hot_above: u32) -> (bool, u32, u32) {
        let (in_flight, latency) = (self.in_flight(members), self.latency.get());
        match in_flight > hot_above {
            false => (false, latency, in_flight),
            true => (true, in_flight, latency),
        }
    }
}

impl Pool {
    /// Room for `kept` probes.
    pub(super) fn new(kept: usize) -> Self {
        let entries = (0..kept).map(|_| Entry::default()).collect();
        Self { len: Number::default(), worst: Number::default(), seen: Seen::default(), entries }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.len.get() as usize
    }

    /// All that are there, with their places.
    pub(super) fn entries(&self) -> impl Iterator<Item = (usize, &Entry)> {
        (0..).zip(self.entries.iter().take(self.len()))
    }

    /// Takes out those that are too old.
    pub(super) fn expire(&self, max_age: Duration, now: Moment) {
        while let Some((place, _)) =
            self.entries().find(|(_, entry)| now.since(entry.at()) > max_age)
        {
            self.remove(place);
        }
    }

    /// Puts a probe in: over the one of the same endpoint, or over the oldest where it is full.
    /// `beside` is what this process has in flight there.
    pub(super) fn put(&self, index: usize, probe: Probe, beside: u32, uses: u32, now: Moment) {
        let same = self.entries().find(|(_, entry)| entry.index.get() as usize == index);
        let place = match same {
            Some((place, _)) => place,
            None if self.len() < self.entries.len() => {
                self.len.set(self.len.get() + 1);
                self.len() - 1
            }
            None => self.oldest().unwrap_or(0),
        };
        if let Some(entry) = self.entries.get(place) {
            entry.index.set(index as u32);
            entry.in_flight.set(probe.in_flight);
            entry.beside.set(beside);
            entry.latency.set(probe.latency);
            entry.uses.set(uses);
            entry.at.store(now.0, Ordering::Relaxed);
        }
    }

    /// The place of the best probe of an endpoint that suits: of the cold ones that are about as
    /// fast as the fastest the one with the fewest requests in flight; where all are hot that
    /// with the fewest.
    pub(super) fn best(
        &self,
        members: &[Member],
        suits: impl Fn(&Member) -> bool,
    ) -> Option<usize> {
        let hot_above = self.seen.hot_above.get();
        let suiting = || {
            self.entries().filter_map(|(place, entry)| {
                let suits = entry.member(members).is_some_and(&suits);
                suits.then(|| (place, entry.in_flight(members), entry.latency.get()))
            })
        };
        let cold = suiting().filter(|(_, in_flight, _)| *in_flight <= hot_above);
        let fastest = cold.map(|(_, _, latency)| latency).min().unwrap_or(u32::MAX);
        let fast = fastest.saturating_add(fastest / ABOUT);
        let best = suiting().min_by_key(|(_, in_flight, latency)| {
            let hot = *in_flight > hot_above;
            (hot, !hot && *latency > fast, *in_flight, *latency)
        });
        best.map(|(place, _, _)| place)
    }

    /// Uses the probe at `place` for a request and returns its endpoint.
    pub(super) fn use_up(&self, place: usize) -> usize {
        let Some(entry) = self.entries.get(place) else { return 0 };
        let index = entry.index.get() as usize;
        entry.uses.set(entry.uses.get().saturating_sub(1));
        if entry.uses.get() == 0 {
            self.remove(place);
        }
        index
    }

    /// Takes out the oldest one or the worst, in turn.
    pub(super) fn remove_one(&self, members: &[Member]) {
        let worst = self.worst.get() == 1;
        self.worst.set(u32::from(!worst));
        let hot_above = self.seen.hot_above.get();
        let place = match worst {
            true => self.entries().max_by_key(|(_, entry)| entry.rank(members, hot_above)),
            false => self.entries().min_by_key(|(_, entry)| entry.at()),
        };
        if let Some((place, _)) = place {
            self.remove(place);
        }
    }

    fn oldest(&self) -> Option<usize> {
        self.entries().min_by_key(|(_, entry)| entry.at()).map(|(place, _)| place)
    }

    fn remove(&self, place: usize) {
        let last = self.len().saturating_sub(1);
        if let (Some(hole), Some(last)) = (self.entries.get(place), self.entries.get(last)) {
            hole.copy_from(last);
        }
        self.len.set(last as u32);
    }
}
