//! A ring of points (Karger et al. 1997; "ketama"): a member has a number of points by its
//! weight, a key belongs to the next point clockwise. Uneven by about one over the root of the
//! points; when a member goes only its own keys move.

use super::stable;

/// All points together: a build takes some ten milliseconds at most.
const MOST_POINTS: usize = 1 << 20;

/// The ring.
#[derive(Debug)]
pub(super) struct Ring {
    /// Points in order, each with its member.
    points: Box<[(u64, u32)]>,
}

impl Ring {
    /// A ring of `points` points for each member of weight 1. `members` are stable tokens and
    /// weights; weight 0 gets no point. Where that came to more than a million points, all have
    /// fewer in proportion, and at least one.
    pub(super) fn new(members: &[(u64, u32)], points: u32) -> Self {
        let sum: u64 = members.iter().map(|(_, weight)| u64::from(*weight)).sum();
        let wanted = u128::from(sum) * u128::from(points.max(1));
        let scale = (MOST_POINTS as f64 / wanted.max(1) as f64).min(1.0);
        let mut all = Vec::new();
        for (member, (token, weight)) in (0u32..).zip(members) {
            if *weight == 0 {
                continue;
            }
            let count = f64::from(*weight) * f64::from(points.max(1)) * scale;
            let count = (count.round() as u64).max(1);
            all.extend((0..count).map(|n| (stable(*token, n), member)));
        }
        all.sort_unstable();
        Self { points: all.into() }
    }

    /// The member of `key`, then those that follow clockwise.
    pub(super) fn find(&self, key: u64) -> impl Iterator<Item = usize> + '_ {
        let start = self.points.partition_point(|(point, _)| *point < key);
        let (before, from) = self.points.split_at_checked(start).unwrap_or_default();
        from.iter().chain(before).map(|(_, member)| *member as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn when_a_member_goes_only_its_own_keys_move() {
        let all: Vec<_> = (0..20).map(|n| (stable(n, 0), 1)).collect();
        let mut rest = all.clone();
        rest[7].1 = 0;
        let (before, after) = (Ring::new(&all, 160), Ring::new(&rest, 160));
        for key in (0..20_000).map(|key| stable(key, 3)) {
            let (was, is) = (before.find(key).next(), after.find(key).next());
            assert!(was == is || was == Some(7));
            assert_ne!(is, Some(7));
        }
    }

    #[test]
    fn a_key_belongs_to_the_next_point_of_a_linear_search() {
        let members: Vec<_> = (0..5).map(|n| (stable(n, 0), 1 + n as u32)).collect();
        let ring = Ring::new(&members, 40);
        for key in (0..2_000).map(|key| stable(key, 9)) {
            let clockwise = |point: u64| point.wrapping_sub(key);
            let naive = (0..5u64)
                .flat_map(|n| (0..40 * (n + 1)).map(move |k| (stable(stable(n, 0), k), n)))
                .min_by_key(|(point, _)| clockwise(*point));
            assert_eq!(ring.find(key).next(), naive.map(|(_, member)| member as usize));
        }
    }

    #[test]
    fn huge_weights_do_not_make_a_huge_ring() {
        let ring = Ring::new(&[(1, u32::MAX), (2, 1)], 1000);
        assert!(ring.points.len() <= MOST_POINTS + 2);
        assert!(ring.points.iter().any(|(_, member)| *member == 1));
    }
}
