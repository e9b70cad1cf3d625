//! The wire gate against itself under another cut, against the reference reading, and against
//! the parsers that read the same bytes after it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis::server::gate::{Gate, GateLimits, Phase, Then};

#[path = "../../src/server/gate/tests/reference.rs"]
mod reference;
use reference::{Ending, Limits, Request};

fuzz_target!(|data: &[u8]| {
    let Some((&seed, bytes)) = data.split_first() else { return };
    let limits = match seed % 2 {
        0 => GateLimits::default(),
        _ => GateLimits { head_size: 180, header_count: 6, target_size: 20 },
    };
    let step = usize::from(seed / 2 % 64) + 1;
    let (whole, heads, passed) = judge(bytes, bytes.len().max(1), limits);
    let (split, split_heads, _) = judge(bytes, step, limits);
    assert_eq!((&whole, heads), (&split, split_heads), "cut every {step} bytes");

    let of = Limits(limits.head_size, limits.header_count, limits.target_size);
    let (requests, ending) = reference::read(bytes, of);
    match whole {
        Ok(phase) => {
            let clean = matches!(phase, Phase::Idle | Phase::AwaitingUpgrade);
            assert_ne!(ending, Ending::Bad);
            assert_eq!(clean, ending == Ending::Clean);
            assert_eq!(heads, requests.len() as u64 + u64::from(phase == Phase::Body));
            assert_eq!(passed, bytes.len());
        }
        Err(reason) => {
            assert_ne!(ending, Ending::Clean, "{reason}");
            assert_eq!(heads, requests.len() as u64, "{reason}");
            assert_eq!(passed, requests.last().map_or(0, |request| request.end), "{reason}");
        }
    }
    let mut begin = 0;
    for request in requests {
        parse(&bytes[begin..request.end], &request);
        begin = request.end;
    }
});

/// The end, the complete heads before it, and how many bytes passed.
fn judge(
    bytes: &[u8],
    step: usize,
    limits: GateLimits,
) -> (Result<Phase, &'static str>, u64, usize) {
    let mut gate = Gate::new(limits);
    let mut passed = 0;
    for piece in bytes.chunks(step) {
        let mut piece = piece;
        loop {
            let verdict = gate.inspect(piece);
            passed += verdict.pass;
            piece = &piece[verdict.pass..];
            match verdict.then {
                Then::Hold => gate.resume_http(),
                Then::More => {
                    assert!(piece.is_empty());
                    break;
                }
                Then::Reject(reject) => {
                    let heads = gate.heads() - u64::from(reject.mid_body);
                    return (Err(reject.reason.as_str()), heads, passed);
                }
            }
        }
    }
    let phase = gate.phase();
    (Ok(phase), gate.heads(), passed)
}

/// The parsers above must read the head that passed as the reference did.
fn parse(bytes: &[u8], expected: &Request) {
    let mut fields = [httparse::EMPTY_HEADER; 100];
    let mut parsed = httparse::Request::new(&mut fields);
    let status = parsed.parse(bytes).expect("what passed parses");
    assert!(status.is_complete());
    assert_eq!(parsed.method, Some(expected.method.as_str()));
    assert_eq!(parsed.path, Some(expected.target.as_str()));
    assert_eq!(parsed.version, Some(u8::from(!expected.http10)));
    assert_eq!(parsed.headers.len(), expected.fields.len());
    http::Method::from_bytes(expected.method.as_bytes()).expect("what passed is a method");
    expected.target.parse::<http::Uri>().expect("what passed is a target");
}
