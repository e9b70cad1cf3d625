//! The candidates of a pick: a few distinct endpoints at random by weight, or all of a small
//! group, of which the cheapest wins.

use super::chance::draw;
use super::shares::Shares;
use super::{Member, Pick};
use crate::util::random::Random;

/// Which endpoints of one group are compared.
#[derive(Debug)]
pub struct Choices {
    shares: Shares,
    /// How many; as many as there are compares all.
    count: usize,
}

/// The most that are drawn; who wants more compares all.
const MOST: usize = 16;

impl Choices {
    /// `count` distinct endpoints by `weights`, at least 2; all of them up to `full_scan`.
    pub fn new(weights: &[u32], count: usize, full_scan: usize) -> Self {
        let all = weights.len();
        let scan = all <= full_scan || count >= all || count > MOST;
        Self { shares: Shares::new(weights), count: if scan { all } else { count.max(2) } }
    }

    /// How many are compared.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Whether all are compared. Where not, those drawn come by weight already.
    pub fn is_all(&self) -> bool {
        self.count == self.shares.count()
    }

    /// Calls `consider` for each candidate that was not tried.
    #[inline]
    pub fn each<'m>(
        &self,
        members: &'m [Member],
        pick: &mut Pick<'_>,
        mut consider: impl FnMut(usize, &'m Member, &mut Random),
    ) {
        if self.is_all() {
            for (index, member) in members.iter().enumerate() {
                if !pick.has_tried(member) {
                    consider(index, member, &mut pick.random);
                }
            }
            return;
        }
        let mut drawn = [usize::MAX; MOST];
        for place in 0..self.count.min(MOST) {
            let next = draw(&self.shares, members, pick, |index| {
                drawn.iter().take(place).all(|before| *before != index)
            });
            let Some(index) = next else { return };
            if let (Some(slot), Some(member)) = (drawn.get_mut(place), members.get(index)) {
                *slot = index;
                consider(index, member, &mut pick.random);
            }
        }
    }
}

/// The cheapest candidate so far.
#[derive(Clone, Copy, Debug)]
pub struct Cheapest {
    /// Its cost; infinite where there is none.
    pub cost: f32,
    /// Its index.
    pub index: Option<usize>,
    /// The weights of all that cost the same.
    tied: f32,
}

impl Cheapest {
    /// None so far.
    pub const NONE: Self = Self { cost: f32::INFINITY, index: None, tied: 0.0 };

    /// Compares with another candidate. Of those that cost the same one wins at random by
    /// `weight`; at weight 0 the first one does.
    #[inline]
    pub fn offer(&mut self, index: usize, cost: f32, weight: f32, random: &mut Random) {
        if cost < self.cost || self.index.is_none() {
            *self = Self { cost, index: Some(index), tied: weight };
        } else if cost == self.cost && weight > 0.0 {
            self.tied += weight;
            if (random.unit() as f32) * self.tied < weight {
                self.index = Some(index);
            }
        }
    }
}
