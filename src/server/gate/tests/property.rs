//! The gate against itself under other cuts, and against the reference.

use proptest::prelude::*;

use super::super::{GateLimits, Phase};
use super::generate::{cuts, stream};
use super::reference::{self, Ending, Limits};
use super::{Outcome, judge};

/// What may come after a stream that the gate rejected before its head or body was complete.
const CONTINUATIONS: [&str; 12] = [
    "\n",
    "\r\n",
    "\n\r\n",
    "\r\n\r\n",
    "\n\r\n\r\n",
    ": x\r\n\r\n",
    " / HTTP/1.1\r\nHost: a\r\n\r\n",
    " HTTP/1.1\r\nHost: a\r\n\r\n",
    "\r\nHost: a\r\n\r\n",
    "0\r\n\r\n",
    "\r\n0\r\n\r\n",
    "\r\n\r\n0\r\n\r\n",
];

/// Small enough that generated streams meet all three, large enough that most do not.
const TIGHT: GateLimits = GateLimits { head_size: 180, header_count: 6, target_size: 20 };

fn agrees(bytes: &[u8], limits: GateLimits) -> Result<(), TestCaseError> {
    let shown = bytes.escape_ascii().to_string();
    let limits_of = Limits(limits.head_size, limits.header_count, limits.target_size);
    let (requests, ending) = reference::read(bytes, limits_of);
    let (outcome, passed) = judge(bytes, &[], limits);
    let complete = requests.len() as u64;
    match outcome.end {
        Ok(phase) => {
            prop_assert_ne!(ending, Ending::Bad, "passed though bad: {}", shown);
            let begun = u64::from(phase == Phase::Body);
            prop_assert_eq!(outcome.heads, complete + begun, "{}", shown);
            let idle = matches!(phase, Phase::Idle | Phase::AwaitingUpgrade);
            prop_assert_eq!(idle, ending == Ending::Clean, "{:?}: {}", phase, shown);
            prop_assert_eq!(&passed[..], bytes);
        }
        Err(reason) => {
            prop_assert_ne!(ending, Ending::Clean, "{:?} though good: {}", reason, shown);
            prop_assert_eq!(outcome.heads, complete, "{:?}: {}", reason, shown);
            let end = requests.last().map_or(0, |request| request.end);
            prop_assert_eq!(passed.len(), end, "not just the good ones passed: {}", shown);
            for more in CONTINUATIONS {
                let longer = [bytes, more.as_bytes()].concat();
                let (requests, _) = reference::read(&longer, limits_of);
                let rejected_too_early = requests.len() as u64 > complete;
                prop_assert!(!rejected_too_early, "{:?}: {} then {:?}", reason, shown, more);
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn how_reads_cut_a_stream_changes_no_decision(
        (bytes, cuts) in stream().prop_flat_map(|bytes| {
            let cuts = cuts(bytes.len());
            (Just(bytes), cuts)
        }),
        tight in any::<bool>(),
    ) {
        let limits = if tight { TIGHT } else { GateLimits::default() };
        let (whole, good) = judge(&bytes, &[], limits);
        let (split, passed) = judge(&bytes, &cuts, limits);
        prop_assert_eq!(&whole, &split, "{} at {:?}", bytes.escape_ascii(), cuts);
        let (split, _) = judge(&bytes, &(1..bytes.len()).collect::<Vec<_>>(), limits);
        prop_assert_eq!(&whole, &split, "{} byte by byte", bytes.escape_ascii());
        prop_assert!(bytes.starts_with(&passed));
        prop_assert!(passed.starts_with(&good), "a cut held good requests back");
    }

    #[test]
    fn the_gate_and_the_reference_read_the_same(bytes in stream()) {
        agrees(&bytes, GateLimits::default())?;
    }

    #[test]
    fn the_gate_and_the_reference_agree_on_limits(bytes in stream()) {
        agrees(&bytes, TIGHT)?;
    }
}

#[test]
fn the_generator_makes_good_and_bad_streams() {
    use proptest::strategy::ValueTree;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut ends = std::collections::BTreeMap::new();
    for _ in 0..2000 {
        let bytes = stream().new_tree(&mut runner).unwrap().current();
        let (Outcome { end, .. }, _) = judge(&bytes, &[], GateLimits::default());
        *ends.entry(end.map_or_else(|why| why.as_str(), |_| "good")).or_insert(0) += 1;
    }
    assert!(ends["good"] > 300, "{ends:?}");
    assert!(ends.len() > 20, "{ends:?}");
}
