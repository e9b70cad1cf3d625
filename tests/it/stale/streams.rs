//! HTTP/2 connections that come to their end under the streams of requests.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::harness::*;

/// One endpoint gets all requests of a path; what costs a retry would fail.
const CONFIG: &str = r#"
workers: 1
listeners: { web: { bind: "@web@" } }
hosts: { "*": { routes: [ { path: /, upstream: app } ] } }
upstreams:
  app:
    endpoints: ["@one@", "@two@"]
    protocol: h2c
    balance: { hash: path }
    outlier: { consecutive_local: 1 }
    retry_budget: { ratio: 0%, min_per_second: 0 }
"#;

/// A connection of an HTTP/2 endpoint, frame by frame (RFC 9113 §4.1), as far as a script needs it.
struct Frames {
    conn: Conn,
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;

impl Frames {
    async fn open(mut conn: Conn) -> Option<Self> {
        const PREFACE: usize = 24;
        conn.exactly(PREFACE).await?;
        let mut frames = Self { conn };
        frames.send(SETTINGS, 0, 0, b"").await;
        Some(frames)
    }

    async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let length = u32::try_from(payload.len()).expect("short").to_be_bytes();
        let mut frame = length[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        self.conn.send(frame).await;
    }

    /// The stream of the next request, once its head is there.
    async fn request(&mut self) -> Option<u32> {
        loop {
            let head = self.conn.exactly(9).await?;
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let payload = self.conn.exactly(length as usize).await?;
            match (head[3], head[4]) {
                (HEADERS, _) => {
                    return Some(u32::from_be_bytes([head[5], head[6], head[7], head[8]]));
                }
                (kind @ (SETTINGS | PING), 0) => {
                    let echoed = if kind == PING { &payload[..] } else { b"" };
                    self.send(kind, 1, 0, echoed).await;
                }
                _ => {}
            }
        }
    }

    /// Answers 200 with this text.
    async fn answer(&mut self, stream: u32, text: &str) {
        // `:status: 200` is entry 8 of HPACK's static table; END_HEADERS, END_STREAM.
        self.send(HEADERS, 4, stream, &[0x88]).await;
        self.send(DATA, 1, stream, text.as_bytes()).await;
    }

    /// No stream above `last` was looked at.
    async fn go_away(&mut self, last: u32) {
        self.send(GOAWAY, 0, 0, &[last.to_be_bytes(), [0; 4]].concat()).await;
    }
}

async fn start(one: &Backend, two: &Backend) -> Proxy {
    let values: [(&str, &dyn std::fmt::Display); 2] =
        [("one", &one.address()), ("two", &two.address())];
    Proxy::start(CONFIG, &values).await
}

#[tokio::test]
async fn streams_above_the_last_of_a_goaway_go_to_the_same_endpoint_on_one_new_connection() {
    const STREAMS: usize = 20;
    let back_end = |name: &'static str| {
        Backend::script(move |conn| async move {
            let first = conn.index == 0;
            let Some(mut frames) = Frames::open(conn).await else { return };
            let Some(answered) = frames.request().await else { return };
            frames.answer(answered, name).await;
            if first {
                for _ in 0..STREAMS {
                    frames.request().await;
                }
                return frames.go_away(answered).await;
            }
            while let Some(stream) = frames.request().await {
                frames.answer(stream, name).await;
            }
        })
    };
    let (one, two) = (back_end("one").await, back_end("two").await);
    let proxy = start(&one, &two).await;
    let mut h2 = H2::connect(proxy.web()).await;
    let name = h2.request(post_request("t", "/path"), Some(b"hello"), None).await.text();
    let mut streams = Vec::new();
    for _ in 0..STREAMS {
        let (response, mut send) =
            h2.open(post_request("t", "/path"), false).await.expect("a stream");
        send.send_data(bytes::Bytes::from_static(b"hello"), true).expect("open");
        streams.push(response);
    }
    for response in streams {
        let response = within(STEP, "a response", collect(response)).await.expect("no error");
        assert_eq!((response.status, response.text()), (200, name.clone()), "{response:?}");
    }
    assert_eq!(one.connections() + two.connections(), 2);
    let metrics = proxy.metrics().await;
    assert_eq!(metrics.sum("portcullis_upstream_ejections_total", &[]), 0.0);
}

#[tokio::test]
async fn a_connection_that_ends_under_its_only_stream_is_held_against_nobody() {
    let seen = Arc::new(AtomicUsize::new(0));
    let back_end = |name: &'static str| {
        let seen = seen.clone();
        Backend::script(move |conn| {
            let seen = seen.clone();
            async move {
                let Some(mut frames) = Frames::open(conn).await else { return };
                let Some(stream) = frames.request().await else { return };
                seen.fetch_add(1, Ordering::SeqCst);
                frames.answer(stream, name).await;
                if frames.request().await.is_some() {
                    seen.fetch_add(1, Ordering::SeqCst);
                }
            }
        })
    };
    let (one, two) = (back_end("one").await, back_end("two").await);
    let proxy = start(&one, &two).await;
    let name = get(proxy.web(), "t", "/path").await.text();
    for number in 0..10 {
        let response = get(proxy.web(), "t", "/path").await;
        assert_eq!((response.status, response.text()), (200, name.clone()), "{number}");
    }
    let before = seen.load(Ordering::SeqCst);
    assert_eq!(before, 21, "all but the first met an end");
    let mut client = Client::connect(proxy.web()).await;
    client.send("POST /path HTTP/1.1\r\nHost: t\r\nContent-Length: 0\r\n\r\n").await;
    client.response().await.assert_refused(502, "upstream_reset");
    assert_eq!(seen.load(Ordering::SeqCst), before + 1, "what was written may have been read");
    let metrics = proxy.metrics().await;
    assert_eq!(metrics.sum("portcullis_upstream_ejections_total", &[]), 0.0);
}
