//! Consistent hashing: equal requests meet the same endpoint, in every worker, every replica and
//! after every restart.
//!
//! Bounded loads (Mirrokni, Thorup, Zadimoghaddam, arXiv:1608.01350): no endpoint is given a
//! request beyond `factor` times its fair share of those in flight; what it may not take goes on
//! along the table.

mod maglev;
mod ring;

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use maglev::Maglev;
use ring::Ring;

use super::{Member, Pick};
use crate::ir::{HashPolicy, HashTable};

/// A hash that never changes between versions: mixes `salt` into `value` (the finalizer of
/// MurmurHash3 over both).
pub(in crate::upstream) fn stable(value: u64, salt: u64) -> u64 {
    let mut z = value ^ salt.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    z = (z ^ (z >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    z ^ (z >> 33)
}

/// Requests in flight to all endpoints of an upstream together. Counted only where somebody
/// wants to know: the count is a line of memory that all workers write.
#[derive(Debug, Default)]
pub struct Total {
    wanted: AtomicBool,
    count: AtomicU32,
}

impl Total {
    /// From now on requests are counted.
    pub fn want(&self) {
        self.wanted.store(true, Ordering::Relaxed);
    }

    /// Counts a request in, where that is wanted. Returns whether it was: then
    /// [`Total::leave`] must follow.
    pub fn enter(&self) -> bool {
        let wanted = self.wanted.load(Ordering::Relaxed);
        if wanted {
            self.count.fetch_add(1, Ordering::Relaxed);
        }
        wanted
    }

    /// Counts a request out.
    pub fn leave(&self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }

    /// The requests in flight that were counted.
    pub fn count(&self) -> u32 {
        self.count.load(Ordering::Relaxed)
    }
}

/// A consistent hash over one group of endpoints.
#[derive(Debug)]
pub struct ConsistentHash {
    table: Table,
    /// The factor of the bound in thousandths, and the sum of the weights.
    bound: Option<(u64, u64)>,
}

#[derive(Debug)]
enum Table {
    Maglev(Maglev),
    Ring(Ring),
}

impl ConsistentHash {
    /// Lays out the table for `members`, which are those of `among` endpoints that may be picked.
    pub fn new(policy: &HashPolicy, members: &[Member], among: usize) -> Self {
        let placed: Vec<(u64, u32)> =
            members.iter().map(|member| (member.endpoint.token, member.weight)).collect();
        let table = match policy.table {
            HashTable::Maglev(size) => Table::Maglev(Maglev::new(&placed, among, size)),
            HashTable::Ring(points) => Table::Ring(Ring::new(&placed, points)),
        };
        let sum: u64 = placed.iter().map(|(_, weight)| u64::from(*weight)).sum();
        if policy.bounded_load.is_some() {
            members.iter().for_each(|member| member.endpoint.common.total.want());
        }
        let bound = policy.bounded_load.map(|factor| (u64::from(factor.0.max(1000)), sum.max(1)));
        Self { table, bound }
    }

    /// The member for the request's key that was not tried and has room; `None` where the
    /// request has no key, or nothing is left untried.
    pub fn pick(&self, members: &[Member], pick: &Pick<'_>) -> Option<usize> {
        let key = pick.key?;
        let suits = |index: &usize| {
            members
                .get(*index)
                .is_some_and(|member| !pick.has_tried(member) && self.has_room(member))
        };
        let found = match &self.table {
            Table::Maglev(table) => walk(|key| table.find(key), key, suits),
            Table::Ring(table) => walk(|key| table.find(key), key, suits),
        };
        // All are full or tried: whoever was not tried and has the most room.
        found.or_else(|| {
            let untried = (0..).zip(members).filter(|(_, member)| !pick.has_tried(member));
            let load = |member: &Member| {
                f64::from(member.endpoint.in_flight()) / f64::from(member.weight.max(1))
            };
            let least = untried.min_by(|(_, a), (_, b)| load(a).total_cmp(&load(b)));
            least.map(|(index, _)| index)
        })
    }

    /// The member that `key` belongs to when nothing is in its way.
    pub fn owner(&self, key: u64) -> Option<usize> {
        match &self.table {
            Table::Maglev(table) => table.find(key).next(),
            Table::Ring(table) => table.find(key).next(),
        }
    }

    /// Whether one more request keeps the member within its bound. Workers look before they
    /// count, so it may be exceeded by as many requests as there are other workers.
    fn has_room(&self, member: &Member) -> bool {
        let Some((factor, sum)) = self.bound else { return true };
        let total = u128::from(member.endpoint.common.total.count()) + 1;
        let share = u128::from(factor) * total * u128::from(member.weight);
        let room = share.div_ceil(1000 * u128::from(sum));
        u128::from(member.endpoint.in_flight()) < room
    }
}

/// How many places are looked at from one start before another start is drawn: neighbours on a
/// ring fill up together (arXiv:1908.08762).
const STEPS: usize = 4;
const STARTS: u64 = 16;

/// The first member along the table that suits.
fn walk<I: Iterator<Item = usize>>(
    find: impl Fn(u64) -> I,
    key: u64,
    suits: impl Fn(&usize) -> bool,
) -> Option<usize> {
    (0..STARTS).find_map(|start| {
        let from = if start == 0 { key } else { stable(key, start) };
        find(from).take(STEPS).find(|index| suits(index))
    })
}

#[cfg(test)]
mod tests;
