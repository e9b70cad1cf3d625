//! Streams of requests, most of them good, some broken on purpose.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

/// Bytes that matter to framing, for mutations.
const BYTES: &[u8] = b"\r\n\r\n \t:;,/?#*0159afA\"\\\0\x7f\x80\xff_-.%[]@xX";

fn method() -> impl Strategy<Value = &'static str> {
    let rare = ["get", "CONNECT", "M@", "", "TRACE", "ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEFG"];
    prop_oneof![8 => select(&["GET", "POST", "HEAD", "OPTIONS", "PUT"][..]), 1 => select(rare.to_vec())]
}

fn target() -> impl Strategy<Value = &'static str> {
    let rare = [
        "*",
        "admin",
        "a:80",
        "?x",
        "",
        "/a#b",
        "/a\\b",
        "/\"{}|^",
        "/a?\"",
        "http://b/",
        "https://a:443",
        "http://u@a/",
        "http://a:x/",
        "http://a?x",
        "HTTP://A:80/",
        "//a",
        "/<",
    ];
    prop_oneof![
        8 => select(&["/", "/index.html?q=1&r=%20", "http://a/x", "/a/b/c"][..]),
        1 => select(rare.to_vec()),
    ]
}

fn version() -> impl Strategy<Value = &'static str> {
    let rare = ["HTTP/1.2", "HTTP/2.0", "HTTP/1.11", "http/1.1", "HTTP/1", ""];
    prop_oneof![20 => Just("HTTP/1.1"), 3 => Just("HTTP/1.0"), 1 => select(rare.to_vec())]
}

fn field() -> impl Strategy<Value = &'static str> {
    let common = [
        "Accept: */*",
        "User-Agent: curl/8.5.0",
        "X-Empty:",
        "Cookie: a=b; c=d",
        "Y:\tv\t",
        "X-High: \u{e4}\u{20ac}",
        "Connection: keep-alive",
        "Connection: Upgrade, x",
        "Upgrade: websocket",
        "Expect: 100-continue",
        "connection:upgrade",
    ];
    let rare = [
        "Host: a",
        "Host: b",
        "Host: a:80",
        "Host:",
        "Host: [::1]:8",
        "Host: a,b",
        "Host: a..",
        "Content-Length: 0",
        "Content-Length: 3",
        "Content-Length: 3, 3",
        "Content-Length: +3",
        "content_length: 3",
        "Content-Length: 99999999999999999999",
        "Transfer-Encoding: chunked",
        "Transfer-Encoding: gzip, chunked",
        "Transfer_Encoding: chunked",
        "Transfer-Encoding : chunked",
        "Expect: y",
        " folded: x",
        ": empty",
        "no-colon",
        "X : v",
        "X: a\nY: b",
        "X: \0",
        "X: \r",
    ];
    prop_oneof![12 => select(common.to_vec()), 1 => select(rare.to_vec())]
}

/// Field lines that say how long the body is, and the body.
fn body() -> impl Strategy<Value = (&'static str, Vec<u8>)> {
    let size = select(&["5", "5", "05", "5;a=b", "5 ; a = \"b\\\"\"", "5;", "5 ", "0x5", "6"][..]);
    let trailer =
        select(&["", "", "", "X: y\r\n", "A: b\r\nC: d\r\n", "Host: a\r\n", "X : y\r\n"][..]);
    let data_end = select(&["\r\n", "\r\n", "\r\n", "\r\n", "\n", "", "XX"][..]);
    let chunks = (vec((size, data_end), 0..3), trailer).prop_map(|(chunks, trailer)| {
        let mut body = String::new();
        for (size, end) in chunks {
            body += &format!("{size}\r\nhello{end}");
        }
        ("Transfer-Encoding: chunked\r\n", format!("{body}0\r\n{trailer}\r\n").into_bytes())
    });
    prop_oneof![
        3 => Just(("", Vec::new())),
        2 => Just(("Content-Length: 5\r\n", b"he\r\no".to_vec())),
        1 => Just(("content-length:\t27 \r\n", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec())),
        3 => chunks,
    ]
}

fn request() -> impl Strategy<Value = Vec<u8>> {
    let host = prop_oneof![20 => Just("Host: a\r\n"), 1 => Just(""), 1 => Just("Host: A:80\r\n")];
    let empty = prop_oneof![20 => Just(""), 2 => Just("\r\n"), 1 => Just("\r\n\r\n\r\n")];
    (empty, method(), target(), version(), host, vec(field(), 0..5), body()).prop_map(
        |(empty, method, target, version, host, fields, (framing, body))| {
            let mut head = format!("{empty}{method} {target} {version}\r\n{host}");
            for field in fields {
                head += field;
                head += "\r\n";
            }
            head += framing;
            head += "\r\n";
            [head.into_bytes(), body].concat()
        },
    )
}

/// One to three requests in a row, some with a few bytes changed, some cut short.
pub(super) fn stream() -> impl Strategy<Value = Vec<u8>> {
    let mutation = (any::<prop::sample::Index>(), 0..4_u8, select(BYTES));
    let mutations = prop_oneof![2 => Just(Vec::new()), 3 => vec(mutation, 1..4)];
    (vec(request(), 1..4), mutations, prop::option::weighted(0.2, any::<prop::sample::Index>()))
        .prop_map(|(requests, mutations, cut)| {
            let mut bytes = requests.concat();
            for (index, kind, byte) in mutations {
                let at = index.index(bytes.len());
                match kind {
                    0 => bytes[at] = byte,
                    1 => bytes.insert(at, byte),
                    2 if bytes.len() > 1 => drop(bytes.remove(at)),
                    _ => bytes.insert(at, bytes[at]),
                }
            }
            if let Some(cut) = cut {
                bytes.truncate(cut.index(bytes.len()));
            }
            bytes
        })
}

/// Where reads end within a stream of this length.
pub(super) fn cuts(length: usize) -> impl Strategy<Value = Vec<usize>> {
    vec(0..=length, 0..6).prop_map(|mut cuts| {
        cuts.sort_unstable();
        cuts
    })
}
