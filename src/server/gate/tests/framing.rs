//! How requests are told apart, and what passes of a bad one.

use super::super::{Gate, GateLimits, GateReason, Phase, Reject, Then, Verdict};
use super::{chunked, get, post};

#[test]
fn the_phase_follows_the_request() {
    let mut gate = Gate::new(GateLimits::default());
    assert_eq!(gate.phase(), Phase::Idle);
    gate.inspect(b"\r\n");
    assert_eq!(gate.phase(), Phase::Idle, "an empty line is nothing of a head");
    gate.inspect(b"P");
    assert_eq!(gate.phase(), Phase::Head);
    gate.inspect(b"OST / HTTP/1.1\r\nHost: t\r\nContent-Length: 2\r\n\r\n");
    assert_eq!((gate.phase(), gate.heads()), (Phase::Body, 1));
    gate.inspect(b"x");
    assert_eq!(gate.phase(), Phase::Body);
    gate.inspect(b"x");
    assert_eq!((gate.phase(), gate.heads()), (Phase::Idle, 1));
}

#[test]
fn an_upgrade_answered_before_its_body_ended_holds_nothing() {
    let mut gate = Gate::new(GateLimits::default());
    gate.inspect(b"POST / HTTP/1.1\r\nHost: t\r\nUpgrade: x\r\nConnection: upgrade\r\n");
    gate.inspect(b"Content-Length: 2\r\n\r\na");
    gate.resume_http();
    let rest = b"bGET / HTTP/1.1\r\nHost: t\r\n\r\n";
    assert_eq!(gate.inspect(rest), Verdict { pass: rest.len(), then: Then::More });
}

#[test]
fn a_body_found_bad_later_is_reported_as_begun() {
    let bytes = chunked(b"5\r\nhelloX");
    let (head, body) = bytes.split_at(bytes.len() - 9);
    let mut gate = Gate::new(GateLimits::default());
    assert_eq!(gate.inspect(head).pass, head.len());
    let reject = Reject { reason: GateReason::BadChunk, mid_body: true };
    assert_eq!(gate.inspect(body), Verdict { pass: 0, then: Then::Reject(reject) });
    assert_eq!(gate.heads(), 1);
    // For good.
    assert_eq!(gate.inspect(&get(b"")), Verdict { pass: 0, then: Then::Reject(reject) });
}

#[test]
fn a_body_found_bad_with_its_head_takes_the_head_along() {
    let first = post(b"Content-Length: 1\r\n", b"x");
    let bytes = [&first[..], &chunked(b"5\r\nhelloX")].concat();
    let mut gate = Gate::new(GateLimits::default());
    let reject = Reject { reason: GateReason::BadChunk, mid_body: false };
    assert_eq!(gate.inspect(&bytes), Verdict { pass: first.len(), then: Then::Reject(reject) });
    assert_eq!(gate.heads(), 1);
}

#[test]
fn of_a_head_found_bad_later_nothing_more_passes() {
    let mut gate = Gate::new(GateLimits::default());
    let head = b"GET / HTTP/1.1\r\nHost: t\r\nContent-";
    assert_eq!(gate.inspect(head), Verdict { pass: head.len(), then: Then::More });
    let reject = Reject { reason: GateReason::BadLength, mid_body: false };
    let verdict = gate.inspect(b"Length: x\r\n\r\n");
    assert_eq!(verdict, Verdict { pass: 0, then: Then::Reject(reject) });
    assert_eq!(gate.heads(), 0);
}

#[test]
fn a_large_body_is_counted_and_not_read() {
    let mut gate = Gate::new(GateLimits::default());
    gate.inspect(&post(b"Content-Length: 9999999999999999999\r\n", b""));
    assert_eq!(gate.inspect(&[b'\n'; 4096]).then, Then::More);
    assert_eq!(gate.phase(), Phase::Body);
    let mut gate = Gate::new(GateLimits::default());
    gate.inspect(&chunked(b"ffffffffffffffff\r\n"));
    assert_eq!(gate.inspect(&[b'\n'; 4096]).then, Then::More);
    assert_eq!(gate.phase(), Phase::Body);
}

#[test]
fn a_gate_stays_small_beside_its_connection() {
    assert!(size_of::<Gate>() <= 384, "{} bytes", size_of::<Gate>());
}

#[test]
fn every_reason_has_a_label_of_its_own() {
    let labels: std::collections::BTreeSet<_> =
        GateReason::ALL.iter().map(|reason| reason.as_str()).collect();
    assert_eq!(labels.len(), GateReason::ALL.len());
    for (index, reason) in GateReason::ALL.iter().enumerate() {
        assert_eq!(*reason as usize, index, "{} is out of order", reason.as_str());
    }
}
