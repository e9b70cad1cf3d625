//! The tables against plain readings of what they count, and under several threads.

use std::collections::HashMap;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::util::moment::Moment;

/// A second, which is not before the first moment of anything.
const START: u64 = 1_000_000_000;

/// nginx's leaky bucket (`limit_req` with `nodelay`), whose excess is in nanoseconds here: it
/// shrinks with the time, each request adds one, and what would make it too large is refused.
#[derive(Default)]
struct Plain(HashMap<u64, (i128, u64)>);

impl Plain {
    fn take(&mut self, key: u64, turn: Turn, now: u64) -> bool {
        let Some((excess, last)) = self.0.get(&key).copied() else {
            self.0.insert(key, (0, now));
            return true;
        };
        let excess = (excess - i128::from(now - last) + i128::from(turn.interval)).max(0);
        if excess > i128::from(turn.tolerance) {
            return false;
        }
        self.0.insert(key, (excess, now));
        true
    }
}

proptest! {
    #[test]
    fn a_rate_is_limited_as_by_a_leaky_bucket(
        interval in 1_u64..200_000_000,
        burst in 0_u64..12,
        steps in prop::collection::vec((0_u64..6, 0_u64..150_000_000), 1..200),
    ) {
        let turn = Turn { interval, tolerance: interval * burst };
        let (rates, mut plain, mut now) = (Rates::default(), Plain::default(), START);
        for (client, pause) in steps {
            now += pause;
            let key = client.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
            let taken = rates.take(key, turn, Moment(now));
            prop_assert_eq!(taken.is_ok(), plain.take(key, turn, now));
            // What is said about the wait is exact.
            if let Err(wait) = taken {
                prop_assert!(rates.take(key, turn, Moment(now + wait - 1)).is_err());
            }
        }
    }

    #[test]
    fn requests_in_progress_are_counted_as_in_a_map(
        limit in 1_u16..5,
        steps in prop::collection::vec((any::<bool>(), 0_u64..4, any::<prop::sample::Index>()), 1..200),
    ) {
        let seats = Arc::new(Seats::default());
        let (mut held, mut counts) = (Vec::new(), HashMap::<u64, u16>::new());
        for (comes, client, which) in steps {
            // All in one group.
            let key = client + 1;
            if comes {
                let count = counts.entry(key).or_default();
                let taken = seats.take(key, limit);
                prop_assert_eq!(taken.is_err(), *count >= limit);
                if let Ok(seat) = taken {
                    held.push((key, seat.expect("there is room")));
                    *count += 1;
                }
            } else if !held.is_empty() {
                let (key, seat) = held.swap_remove(which.index(held.len()));
                drop(seat);
                *counts.get_mut(&key).unwrap() -= 1;
            }
        }
        prop_assert_eq!(seats.taken(), held.len() as u64);
    }
}

#[test]
fn where_there_is_no_room_the_bucket_that_is_emptiest_is_forgotten() {
    let rates = Rates::default();
    let turn = Turn { interval: 1000, tolerance: 0 };
    let now = |at: u64| Moment(START + at);
    for key in 1..=8 {
        rates.take(key, turn, now(key)).unwrap();
    }
    assert!((1..=8).all(|key| rates.take(key, turn, now(10)).is_err()));
    rates.take(9, turn, now(10)).unwrap();
    assert!((2..=9).all(|key| rates.take(key, turn, now(11)).is_err()));
    assert_eq!(rates.take(1, turn, now(12)), Ok(()));
    assert_eq!(rates.take(3, turn, now(12)), Err(991));
}

#[test]
fn a_request_that_is_given_back_does_not_count() {
    let rates = Rates::default();
    let turn = Turn { interval: 1000, tolerance: 1000 };
    for _ in 0..5 {
        rates.take(7, turn, Moment(START)).unwrap();
        rates.give_back(7, turn);
    }
    rates.give_back(8, turn);
    let taken = [(); 3].map(|()| rates.take(7, turn, Moment(START)).is_ok());
    assert_eq!(taken, [true, true, false]);
}

#[test]
fn threads_share_one_bucket_and_one_count() {
    const BURST: u64 = 200;
    let (rates, seats) = (Arc::new(Rates::default()), Arc::new(Seats::default()));
    let turn = Turn { interval: 1_000_000, tolerance: BURST * 1_000_000 };
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let (rates, seats) = (rates.clone(), seats.clone());
            std::thread::spawn(move || {
                let mut most = 0;
                for _ in 0..200 {
                    let seat = seats.take(5, 3).ok().flatten();
                    most = most.max(seats.taken());
                    drop(seat);
                }
                let taken = (0..1000).filter(|_| rates.take(9, turn, Moment(START)).is_ok());
                (taken.count() as u64, most)
            })
        })
        .collect();
    let (taken, most): (Vec<_>, Vec<_>) =
        threads.into_iter().map(|thread| thread.join().unwrap()).unzip();
    assert_eq!(taken.iter().sum::<u64>(), BURST + 1);
    assert!(most.iter().all(|most| *most <= 3), "{most:?}");
    assert_eq!(seats.taken(), 0, "every seat comes back");
}

#[test]
fn a_full_group_lets_clients_in_uncounted() {
    let seats = Arc::new(Seats::default());
    let held: Vec<_> = (1..=8).map(|key| seats.take(key, 1).unwrap().unwrap()).collect();
    assert!(seats.take(9, 1).unwrap().is_none());
    assert_eq!(seats.take(8, 1).err(), Some(Full));
    drop(held);
    assert_eq!(seats.taken(), 0);
    assert!(seats.take(9, 1).unwrap().is_some());
}

#[test]
fn an_ipv6_client_is_its_network() {
    let key = |text: &str| client_key(text.parse().unwrap());
    assert_eq!(key("2001:db8::1"), key("2001:db8::ffff:1"));
    assert_ne!(key("2001:db8::1"), key("2001:db8:0:1::1"));
    assert_eq!(key("192.0.2.1"), key("::ffff:192.0.2.1"));
    assert_ne!(key("192.0.2.1"), key("192.0.2.2"));
}
