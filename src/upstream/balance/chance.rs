//! At random, by weight.

use super::shares::Shares;
use super::{Member, Pick};

/// Random picks over one group of endpoints.
#[derive(Debug)]
pub struct Chance {
    shares: Shares,
}

/// How often an endpoint that does not suit is drawn again before whichever suits is taken.
pub(super) const REDRAWS: usize = 16;

impl Chance {
    /// Picks by `weights`.
    pub fn new(weights: &[u32]) -> Self {
        Self { shares: Shares::new(weights) }
    }

    /// A member that was not tried.
    #[inline]
    pub fn pick(&self, members: &[Member], pick: &mut Pick<'_>) -> Option<usize> {
        draw(&self.shares, members, pick, |_| true)
    }
}

/// An untried member that suits, by weight; where chance alone does not find one, the next from
/// a place at random.
#[inline]
pub(super) fn draw(
    shares: &Shares,
    members: &[Member],
    pick: &mut Pick<'_>,
    suits: impl Fn(usize) -> bool,
) -> Option<usize> {
    let suits = |index: usize, pick: &Pick<'_>| {
        suits(index) && members.get(index).is_some_and(|member| !pick.has_tried(member))
    };
    for _ in 0..REDRAWS {
        let index = shares.draw(&mut pick.random);
        if suits(index, pick) {
            return Some(index);
        }
    }
    let start = pick.random.below(members.len());
    (start..members.len()).chain(0..start).find(|index| suits(*index, pick))
}
