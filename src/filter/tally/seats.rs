//! The requests that clients have in progress.
//!
//! A place is one number: part of the client's key, and how many there are. It is free when there
//! are none. Where all places of a group are taken by others, a request is let in uncounted:
//! better than to refuse clients for what others do.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Groups in the table, as a power of two: 65,536 clients with requests in progress, in 512 KiB.
const GROUPS: u32 = 13;
const PLACES: usize = 8;

/// The bits of a place that count; the others tell the client. The group tells it, too.
const COUNT: u64 = 0xffff;

/// A group on one cache line.
#[derive(Default)]
#[repr(align(64))]
struct Group([AtomicU64; PLACES]);

/// The table.
pub struct Seats {
    groups: Box<[Group]>,
}

/// As many as may be are in progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// A request in progress, until this goes.
pub struct Seat {
    seats: Arc<Seats>,
    group: usize,
    place: usize,
}

/// What a look at a group tells of one client.
#[derive(Default)]
struct Look {
    /// How many it has.
    taken: u64,
    /// A place of its own.
    own: Option<(usize, u64)>,
    /// A free one.
    free: Option<usize>,
}

impl Default for Seats {
    fn default() -> Self {
        Self { groups: (0..1_usize << GROUPS).map(|_| Group::default()).collect() }
    }
}

impl Seats {
    /// Counts a request of the client with this key; `None` where there is no place to count it.
    ///
    /// # Errors
    /// If it has `limit` of them.
    pub fn take(self: &Arc<Self>, key: u64, limit: u16) -> Result<Option<Seat>, Full> {
        let group = (key >> (u64::BITS - GROUPS)) as usize;
        let tag = key << COUNT.count_ones();
        let Some(Group(places)) = self.groups.get(group) else { return Ok(None) };
        loop {
            let look = look(places, tag);
            if look.taken >= u64::from(limit) {
                return Err(Full);
            }
            let (place, before, after) = match (look.own, look.free) {
                (Some((place, word)), _) => (place, word, word + 1),
                (None, Some(place)) => (place, 0, tag | 1),
                (None, None) => return Ok(None),
            };
            let Some(word) = places.get(place) else { return Ok(None) };
            let (success, failure) = (Ordering::Relaxed, Ordering::Relaxed);
            if word.compare_exchange(before, after, success, failure).is_ok() {
                return Ok(Some(Seat { seats: self.clone(), group, place }));
            }
        }
    }

    /// How many requests are counted.
    #[cfg(test)]
    pub fn taken(&self) -> u64 {
        let places = self.groups.iter().flat_map(|group| &group.0);
        places.map(|place| place.load(Ordering::Relaxed) & COUNT).sum()
    }
}

fn look(places: &[AtomicU64; PLACES], tag: u64) -> Look {
    let mut look = Look::default();
    for (index, place) in places.iter().enumerate() {
        let word = place.load(Ordering::Relaxed);
        if word == 0 {
            look.free.get_or_insert(index);
        } else if word & !COUNT == tag {
            // Two that begin at the same instant may find two places.
            look.taken += word & COUNT;
            look.own.get_or_insert((index, word));
        }
    }
    look
}

impl Drop for Seat {
    fn drop(&mut self) {
        let group = self.seats.groups.get(self.group);
        let Some(place) = group.and_then(|group| group.0.get(self.place)) else { return };
        let less = |word: u64| Some(if word & COUNT <= 1 { 0 } else { word - 1 });
        let _ = place.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }
}
