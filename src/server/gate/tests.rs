//! What the gate lets through and what it rejects.

mod catalogue;
mod framing;
mod generate;
mod parser;
mod property;
mod reference;
mod targets;

use super::{Gate, GateLimits, GateReason, Phase, Reject, Then};

/// What became of a stream.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// Complete requests before the end or the bad one; a head whose body is still under way
    /// counts too unless it was rejected.
    pub(crate) heads: u64,
    pub(crate) end: Result<Phase, GateReason>,
}

/// Shows `bytes` to a new gate in pieces that end at `cuts`, resuming HTTP after each upgrade.
/// Returns the outcome and the bytes that passed.
pub(crate) fn judge(bytes: &[u8], cuts: &[usize], limits: GateLimits) -> (Outcome, Vec<u8>) {
    let mut gate = Gate::new(limits);
    let mut passed = Vec::new();
    let mut begin = 0;
    for end in cuts.iter().copied().chain([bytes.len()]) {
        while begin <= end {
            let verdict = gate.inspect(&bytes[begin..end]);
            passed.extend_from_slice(&bytes[begin..begin + verdict.pass]);
            begin += verdict.pass;
            match verdict.then {
                Then::More => {
                    assert_eq!(begin, end, "more was asked for before all had passed");
                    break;
                }
                Then::Hold => {
                    assert_eq!(gate.phase(), Phase::AwaitingUpgrade);
                    gate.resume_http();
                    if begin == end {
                        break;
                    }
                }
                Then::Reject(Reject { reason, mid_body }) => {
                    assert_eq!(gate.phase(), Phase::Rejected);
                    let heads = gate.heads() - u64::from(mid_body);
                    return (Outcome { heads, end: Err(reason) }, passed);
                }
            }
        }
    }
    (Outcome { heads: gate.heads(), end: Ok(gate.phase()) }, passed)
}

/// Judges in one piece and byte by byte, which must agree.
fn outcome(bytes: &[u8]) -> Outcome {
    let limits = GateLimits::default();
    let (whole, _) = judge(bytes, &[], limits);
    let (split, _) = judge(bytes, &(1..bytes.len()).collect::<Vec<_>>(), limits);
    assert_eq!(whole, split, "cut into bytes: {}", bytes.escape_ascii());
    whole
}

/// Asserts that nothing of the only request in `bytes` passes, for this reason.
fn rejects(id: &str, bytes: &[u8], reason: GateReason) {
    let shown = bytes[..bytes.len().min(300)].escape_ascii();
    assert_eq!(outcome(bytes), Outcome { heads: 0, end: Err(reason) }, "{id}: {shown}");
    let (_, passed) = judge(bytes, &[], GateLimits::default());
    assert!(passed.is_empty(), "{id}: part of a bad request passed: {shown}");
}

/// Asserts that all of `bytes` passes as so many complete requests.
fn accepts(id: &str, bytes: &[u8], heads: u64) {
    let shown = bytes[..bytes.len().min(300)].escape_ascii();
    let outcome = outcome(bytes);
    assert_eq!(outcome.heads, heads, "{id}: {shown}");
    assert!(
        matches!(outcome.end, Ok(Phase::Idle | Phase::AwaitingUpgrade)),
        "{id}: {outcome:?}: {shown}"
    );
    let (_, passed) = judge(bytes, &[], GateLimits::default());
    assert_eq!(passed, bytes, "{id}: not all passed");
}

/// A POST with these field lines (each with its CRLF) after Host, then this body.
fn post(fields: &[u8], body: &[u8]) -> Vec<u8> {
    [b"POST / HTTP/1.1\r\nHost: t\r\n", fields, b"\r\n", body].concat()
}

/// A chunked POST.
fn chunked(body: &[u8]) -> Vec<u8> {
    post(b"Transfer-Encoding: chunked\r\n", body)
}

/// A GET with these field lines after Host.
fn get(fields: &[u8]) -> Vec<u8> {
    [b"GET / HTTP/1.1\r\nHost: t\r\n", fields, b"\r\n"].concat()
}

/// A GET of this target.
fn get_target(target: &[u8]) -> Vec<u8> {
    [b"GET ", target, b" HTTP/1.1\r\nHost: t\r\n\r\n"].concat()
}
