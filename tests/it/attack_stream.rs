//! One invariant: what the back end saw is what the proxy answered for. For a stream of valid and
//! spoilt pipelined requests, the requests that reach the back end are those that were answered
//! 2xx, in order, byte for byte; after a refusal nothing more reaches it.

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::harness::{Backend, Broken, Client, Proxy, Seen, pass};

/// How many streams are made up, beside the table.
const STREAMS: usize = 300;

/// A request as it should arrive.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Meant {
    method: String,
    target: String,
    host: String,
    body: Vec<u8>,
}

/// A request as it is written.
#[derive(Clone, Debug)]
struct Written {
    meant: Meant,
    bytes: Vec<u8>,
}

fn body() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        Just(Vec::new()),
        Just(b"GET /smuggled HTTP/1.1\r\nHost: evil\r\n\r\n".to_vec()),
        Just(b"0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: evil\r\n\r\n".to_vec()),
        prop::collection::vec(any::<u8>(), 0..60),
    ]
}

#[derive(Clone, Copy, Debug)]
enum Framing {
    Chunked(usize),
    Length,
}

/// A sound request.
fn sound() -> impl Strategy<Value = Written> {
    let method = prop_oneof![
        Just("GET"),
        Just("POST"),
        Just("PUT"),
        Just("DELETE"),
        Just("OPTIONS"),
        Just("PURGE"),
    ];
    let fields = prop::collection::vec(
        prop_oneof![
            Just("X-A: b\r\n"),
            Just("Connection: keep-alive\r\n"),
            Just("Connection: X-A\r\n"),
            Just("Expect: 100-continue\r\n"),
            Just("TE: trailers\r\n"),
            Just("Upgrade: websocket\r\n"),
            Just("Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AA\r\n"),
            Just("X-Empty:\r\n"),
        ],
        0..3,
    );
    let framing = prop_oneof![Just(Framing::Length), (1usize..20).prop_map(Framing::Chunked)];
    let target = "/[a-z0-9]{1,6}(/[a-z]{1,3})?(\\?[a-z=&%25/.]{0,6})?";
    (method, target, "[a-z]{1,6}\\.example", body(), framing, fields).prop_map(
        |(method, target, host, body, framing, fields)| {
            let mut fields: Vec<_> = fields;
            fields.dedup();
            let expects = fields.iter().filter(|field| field.starts_with("Expect")).count();
            if expects > 1 {
                fields.retain(|field| !field.starts_with("Expect"));
            }
            let mut bytes = format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n").into_bytes();
            bytes.extend(fields.concat().into_bytes());
            match framing {
                Framing::Length => {
                    if !body.is_empty() {
                        bytes.extend(format!("Content-Length: {}\r\n", body.len()).bytes());
                    }
                    bytes.extend(b"\r\n");
                    bytes.extend(&body);
                }
                Framing::Chunked(size) => {
                    bytes.extend(b"Transfer-Encoding: chunked\r\n\r\n");
                    for chunk in body.chunks(size) {
                        bytes.extend(format!("{:x};a=b\r\n", chunk.len()).bytes());
                        bytes.extend(chunk);
                        bytes.extend(b"\r\n");
                    }
                    bytes.extend(b"0\r\nX-Sum: 1\r\n\r\n");
                }
            }
            let (method, host) = (method.to_owned(), host);
            Written { meant: Meant { method, target, host, body }, bytes }
        },
    )
}

/// How a request is spoilt.
#[derive(Clone, Debug)]
enum Spoilt {
    Nothing,
    /// A byte at a place becomes another.
    Byte(prop::sample::Index, u8),
    /// A byte is left out.
    Cut(prop::sample::Index),
    /// This stands where a field line should.
    Line(&'static str),
}

fn spoilt() -> impl Strategy<Value = Spoilt> {
    let byte =
        prop_oneof![any::<u8>(), prop::sample::select(b"\r\n \t:;,/?#\0\x0b\\%_-0".as_slice())];
    prop_oneof![
        6 => Just(Spoilt::Nothing),
        2 => (any::<prop::sample::Index>(), byte).prop_map(|(at, byte)| Spoilt::Byte(at, byte)),
        1 => any::<prop::sample::Index>().prop_map(Spoilt::Cut),
        2 => prop::sample::select(LINES).prop_map(Spoilt::Line),
    ]
}

const LINES: &[&str] = &[
    "Content-Length: 0\r\n",
    "Content-Length: 3\r\n",
    "Content-Length: 5\r\nContent-Length: 6\r\n",
    "Content-Length: +1\r\n",
    "Content-Length : 1\r\n",
    "Content_Length: 9\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Transfer-Encoding: chunked, identity\r\n",
    "Transfer-Encoding: xchunked\r\n",
    "Transfer-Encoding:\x0bchunked\r\n",
    "Transfer_Encoding: chunked\r\n",
    " Transfer-Encoding: chunked\r\n",
    "X: y\nTransfer-Encoding: chunked\r\n",
    "X: y\rTransfer-Encoding: chunked\r\n",
    "Host: other\r\n",
    "Connection: Host\r\n",
    "Connection: Content-Length, Transfer-Encoding\r\n",
    "Upgrade: x\r\nConnection: Upgrade\r\n",
    "\r\nGET /smuggled HTTP/1.1\r\nHost: evil\r\n",
];

/// The bytes of a request, spoilt; and whether they still mean what was meant.
fn spoil(written: &Written, how: &Spoilt) -> (Vec<u8>, bool) {
    let mut bytes = written.bytes.clone();
    match how {
        Spoilt::Nothing => return (bytes, true),
        Spoilt::Byte(at, byte) => {
            let at = at.index(bytes.len());
            bytes[at] = *byte;
        }
        Spoilt::Cut(at) => {
            bytes.remove(at.index(bytes.len()));
        }
        Spoilt::Line(line) => {
            let first = bytes.windows(2).position(|pair| pair == b"\r\n").expect("a line") + 2;
            bytes.splice(first..first, line.bytes());
        }
    }
    (bytes, false)
}

/// The answers of a stream: the status of each, and what its body says was received.
async fn answers(client: &mut Client) -> Vec<(u16, String)> {
    let mut answers = Vec::new();
    loop {
        match client.try_response(false).await {
            Ok(response) => {
                let last = response.headers.joined("connection").contains("close");
                answers.push((response.status, response.text()));
                if last {
                    return answers;
                }
            }
            Err(Broken::Closed) => return answers,
            Err(broken) => panic!("{broken:?} after {answers:?}"),
        }
    }
}

/// Sends `stream` in `pieces` and checks the invariant. `meant` are the sound requests at its
/// beginning, and in a sound stream all there are.
async fn check(
    proxy: &Proxy,
    app: &Backend,
    stream: &[u8],
    pieces: usize,
    meant: &[Meant],
    stream_is_sound: bool,
) {
    let before = app.requests().len();
    let mut client = Client::connect(proxy.web()).await;
    for piece in stream.chunks(stream.len().div_ceil(pieces)) {
        if client.try_send(piece).await.is_err() {
            break; // refused and closed already
        }
        if pieces > 1 {
            tokio::task::yield_now().await;
        }
    }
    // What stands behind everything: a request that asks for the end. Where the stream left the
    // proxy in the middle of a message it is part of that message.
    let last = b"GET /last HTTP/1.1\r\nHost: last\r\nConnection: close\r\n\r\n";
    let _ = client.try_send(last).await;
    let answers = tokio::time::timeout(std::time::Duration::from_millis(400), answers(&mut client));
    let answers = answers.await.ok();
    drop(client);
    let shown = || format!("{}\nanswers: {answers:?}", stream.escape_ascii());
    let seen = settled(app).await.split_off(before);
    let seen: Vec<Meant> = seen
        .into_iter()
        .map(|seen| Meant {
            host: seen.headers.get("host").unwrap_or_default().to_owned(),
            method: seen.method,
            target: seen.target,
            body: seen.body,
        })
        .collect();
    for (index, meant) in meant.iter().enumerate() {
        assert_eq!(seen.get(index), Some(meant), "request {index} of\n{}", shown());
    }
    if stream_is_sound {
        assert_eq!(seen.len(), meant.len() + 1, "{seen:?}\n{}", shown());
    }
    // Without an end in time the proxy waits for the rest of a message: nothing to compare.
    let Some(answers) = &answers else { return };
    let good: Vec<&String> =
        answers.iter().filter(|(status, _)| *status == 200).map(|(_, text)| text).collect();
    let told: Vec<String> = seen.iter().map(Meant::tell).collect();
    // A request that breaks off in its body has begun to reach the back end.
    let begun = answers.iter().filter(|(status, _)| *status != 200).count();
    assert!(told.len() >= good.len() && told.len() <= good.len() + begun, "{told:?}\n{}", shown());
    for (told, good) in told.iter().zip(good) {
        assert_eq!(told, good, "{}", shown());
    }
    let refused = answers.iter().position(|(status, _)| *status != 200);
    assert!(refused.is_none_or(|at| at + 1 == answers.len()), "{}", shown());
}

impl Meant {
    fn tell(&self) -> String {
        let Self { method, target, host, body } = self;
        format!("{method} {target} {host} {}", body.escape_ascii())
    }
}

/// What the back end saw, once nothing more comes.
async fn settled(app: &Backend) -> Vec<Seen> {
    loop {
        let (bytes, requests) = (app.bytes(), app.requests());
        pass(std::time::Duration::from_millis(5)).await;
        if app.bytes() == bytes {
            return requests;
        }
    }
}

/// A back end whose answer says what it understood.
async fn recorder() -> Backend {
    Backend::script(|mut conn| async move {
        while let Some(seen) = conn.request().await {
            let host = seen.headers.get("host").unwrap_or_default().to_owned();
            let meant = Meant { method: seen.method, target: seen.target, host, body: seen.body };
            let text = meant.tell();
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", text.len());
            conn.send(head + &text).await;
        }
    })
    .await
}

#[tokio::test]
async fn the_back_end_sees_exactly_what_is_answered_for() {
    let app = recorder().await;
    let proxy = Proxy::to(app.address()).await;
    let time = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let number = time.map_or(0, |time| u64::from(time.subsec_nanos()));
    let mut seed = [0; 32];
    seed[..8].copy_from_slice(&number.to_le_bytes());
    println!("seed: {number}");
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    // Every line of the table between two sound requests.
    for line in LINES {
        let pair = (sound(), sound()).new_tree(&mut runner).expect("a value").current();
        let (bytes, _) = spoil(&pair.1, &Spoilt::Line(line));
        let stream = [&pair.0.bytes[..], &bytes].concat();
        check(&proxy, &app, &stream, 1, std::slice::from_ref(&pair.0.meant), false).await;
    }
    let streams = (prop::collection::vec((sound(), spoilt()), 1..5), 1usize..6);
    for _ in 0..STREAMS {
        let (requests, pieces) = streams.new_tree(&mut runner).expect("a value").current();
        let mut stream = Vec::new();
        let mut meant = Vec::new();
        let mut sound = true;
        for (written, how) in &requests {
            let (bytes, kept) = spoil(written, how);
            sound &= kept;
            if sound {
                meant.push(written.meant.clone());
            }
            stream.extend(bytes);
        }
        check(&proxy, &app, &stream, pieces, &meant, sound).await;
    }
}
