//! Maglev's table (Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer",
//! NSDI 2016, §3.4): every member claims places of a table of prime size in turns, each along a
//! permutation of its own; a key looks at one place. Even within a few percent, and when a member
//! goes few keys but its own move.
//!
//! What moves besides is claimed late: when hardly a place is free, a turn more or less decides
//! who finds it. So with many members only the first half of the places is claimed; a ring, where
//! nothing moves besides, says whose the others are.

use super::ring::Ring;
use super::stable;

/// Sizes by default: a hundred places for each member, as the paper wants for an imbalance of at
/// most one percent, and four times the square of the members. Measured, what moves besides the
/// keys of a member that goes grows with members² / size: with that square at most one n-th moves
/// on top (1.15/n of the keys in all at 10 members, 1.5/n at 50 and 200); with the hundred places
/// alone 4.5/n moved at 200.
const SIZES: [u32; 8] = [4_099, 8_209, 16_411, 32_771, 65_537, 131_101, 262_147, LARGEST];
const LARGEST: u32 = 655_373;
const PLACES_PER_MEMBER: usize = 100;
/// With more members the square is no longer affordable, and 4.3/n moved at 1,000, 8.6/n at 5,000.
/// With half of the places left to a ring of so many points a member it is 1.6/n and 1.7/n; the
/// price is evenness: the fullest of 1,000 has 1.2 times its share.
const MANY: usize = 400;
const POINTS: u32 = 160;

/// The table.
#[derive(Debug)]
pub(super) struct Maglev {
    /// A member in each place.
    places: Box<[u32]>,
}

/// A place that is nobody's yet.
const FREE: u32 = u32::MAX;

impl Maglev {
    /// A table of `size` places, a prime; `None` fits it to `among` members, of which `members`
    /// are those that get places: in a table of another size nearly all keys are somewhere else,
    /// so it must not depend on who is available. `members` are stable tokens and weights;
    /// weight 0 gets no place.
    pub(super) fn new(members: &[(u64, u32)], among: usize, size: Option<u32>) -> Self {
        let square = among.saturating_mul(among).saturating_mul(4);
        let wanted = among.saturating_mul(PLACES_PER_MEMBER).max(square);
        let fitting = SIZES.iter().copied().find(|size| *size as usize >= wanted);
        let left = size.is_none() && among > MANY;
        let size = size.unwrap_or(fitting.unwrap_or(LARGEST)).max(2);
        let mut claims: Vec<Claim> = (0..)
            .zip(members)
            .filter(|(_, (_, weight))| *weight > 0)
            .map(|(member, (token, weight))| Claim::new(member, *token, *weight, size))
            .collect();
        if claims.is_empty() {
            return Self { places: Box::default() };
        }
        let mut places = vec![FREE; size as usize];
        claim(&mut claims, &mut places, if left { size / 2 } else { size });
        if left {
            leave(&mut places, &Ring::new(members, POINTS));
        }
        Self { places: places.into() }
    }

    /// The member of `key`, then those that follow in the table.
    pub(super) fn find(&self, key: u64) -> impl Iterator<Item = usize> + '_ {
        let start = ((u128::from(key) * self.places.len() as u128) >> 64) as usize;
        let (before, from) = self.places.split_at_checked(start).unwrap_or_default();
        from.iter().chain(before).map(|member| *member as usize)
    }
}

/// One member's way through the table.
struct Claim {
    member: u32,
    weight: u64,
    /// What its weight must have come to before it may claim again.
    target: u64,
    next: u64,
    skip: u64,
}

impl Claim {
    fn new(member: u32, token: u64, weight: u32, size: u32) -> Self {
        let size = u64::from(size);
        let next = stable(token, 1) % size;
        let skip = stable(token, 2) % (size - 1) + 1;
        Self { member, weight: u64::from(weight), target: 0, next, skip }
    }
}

/// Has `claims` take `count` of `places` in turns.
fn claim(claims: &mut [Claim], places: &mut [u32], count: u32) {
    let size = places.len() as u64;
    let heaviest = claims.iter().map(|claim| claim.weight).max().unwrap_or_default();
    let mut left = count;
    let mut turn: u64 = 0;
    while left > 0 {
        turn += 1;
        for claim in claims.iter_mut() {
            // A lighter member sits out its turns until its weight has added up to the
            // heaviest's.
            if turn * claim.weight < claim.target {
                continue;
            }
            if left == 0 {
                return;
            }
            claim.target += heaviest;
            loop {
                let at = claim.next;
                claim.next = (at + claim.skip) % size;
                if let Some(place) = places.get_mut(at as usize)
                    && *place == FREE
                {
                    *place = claim.member;
                    break;
                }
            }
            left -= 1;
        }
    }
}

/// Gives the free places to whom `ring` says.
fn leave(places: &mut [u32], ring: &Ring) {
    for (at, place) in (0..).zip(places).filter(|(_, place)| **place == FREE) {
        let owner = ring.find(stable(at, 3)).next();
        *place = owner.and_then(|owner| u32::try_from(owner).ok()).unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tokens(count: u64) -> Vec<(u64, u32)> {
        (0..count).map(|n| (stable(n, 0), 1)).collect()
    }

    fn shares(table: &Maglev, members: usize) -> Vec<f64> {
        let mut counts = vec![0.0; members];
        table.places.iter().for_each(|member| counts[*member as usize] += 1.0);
        counts.iter().map(|count| count / table.places.len() as f64).collect()
    }

    #[test]
    fn every_member_has_its_share_of_the_table() {
        for share in shares(&Maglev::new(&tokens(40), 40, None), 40) {
            assert!((share * 40.0 - 1.0).abs() < 0.02, "{share}");
        }
    }

    #[test]
    fn many_members_have_about_their_share() {
        for share in shares(&Maglev::new(&tokens(1000), 1000, None), 1000) {
            assert!((0.75..1.25).contains(&(share * 1000.0)), "{share}");
        }
    }

    #[test]
    fn when_a_member_goes_at_most_two_nths_of_the_keys_move() {
        // 33 is the least number of members for the second size, 401 for leaving places to a ring.
        for count in [3, 10, 33, 50, 200, 401, 1000] {
            let all = tokens(count as u64);
            let before = Maglev::new(&all, count, None);
            for gone in [0, count / 2] {
                let mut rest = all.clone();
                rest.remove(gone);
                let after = Maglev::new(&rest, count, None);
                let owner = |table: &Maglev, members: &[(u64, u32)], key| {
                    table.find(key).next().map(|index| members[index].0)
                };
                let keys = 100_000;
                let moved = (0..keys)
                    .map(|key| stable(key, 3))
                    .filter(|key| owner(&before, &all, *key) != owner(&after, &rest, *key));
                let moved = moved.count() as f64 / keys as f64;
                assert!(moved <= 2.0 / count as f64, "{moved} of {count} members' keys moved");
            }
        }
    }

    proptest! {
        #[test]
        fn shares_follow_weights(weights in prop::collection::vec(0u32..50, 1..20)) {
            let sum: u32 = weights.iter().sum();
            prop_assume!(sum > 0);
            let members: Vec<_> =
                (0..).zip(&weights).map(|(n, weight)| (stable(n, 0), *weight)).collect();
            let table = Maglev::new(&members, weights.len(), None);
            for (share, weight) in shares(&table, weights.len()).iter().zip(&weights) {
                let wanted = f64::from(*weight) / f64::from(sum);
                prop_assert!((share - wanted).abs() < 0.01 + wanted * 0.05, "{share} for {wanted}");
            }
        }
    }
}
