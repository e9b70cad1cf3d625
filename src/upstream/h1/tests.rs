//! The codec on bytes, and against peers that misbehave.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use http_body::{Body, Frame};
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::body::{Decoder, Piece};
use super::head::{self, HeadError};
use super::{Framing, H1Conn, H1Exchange, HeadEvent, RequestHead, ResponseHead};
use crate::error::{ProxyError, Replay};
use crate::telemetry::{Metrics, Reason, WorkerId};
use crate::upstream::Endpoint;
use crate::upstream::pool::UpstreamIo;
use crate::util::moment::Moment;

fn parse(text: &str, method: &Method) -> Result<Option<(head::Parsed, BytesMut)>, HeadError> {
    let mut inbox = BytesMut::from(text);
    let parsed = head::parse(&mut inbox, method, &mut HeaderMap::new())?;
    Ok(parsed.map(|parsed| (parsed, inbox)))
}

fn whole(text: &str) -> (head::Parsed, BytesMut) {
    parse(text, &Method::GET).expect("a sound head").expect("a whole head")
}

#[test]
fn the_largest_chunk_is_only_a_large_chunk() {
    let mut inbox = BytesMut::from("ffffffffffffffff\r\n");
    assert!(matches!(Decoder::chunked().decode(&mut inbox), Ok(Piece::More(u64::MAX))));
}

fn refused(text: &str) -> HeadError {
    match parse(text, &Method::GET) {
        Err(error) => error,
        Ok(_) => panic!("taken: {text:?}"),
    }
}

#[test]
fn a_head_says_how_its_body_ends() {
    let (parsed, rest) = whole("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-A: b\r\n\r\nhello");
    assert_eq!(parsed.head.status, StatusCode::OK);
    assert_eq!(parsed.head.headers.get("x-a"), Some(&HeaderValue::from_static("b")));
    assert_eq!(parsed.body.remaining(), Some(5));
    assert!(parsed.keep_alive);
    assert_eq!(&rest[..], b"hello");

    let (parsed, _) = whole("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
    assert_eq!(parsed.body.remaining(), None);
    assert!(parsed.keep_alive);
    assert!(parsed.head.headers.is_empty(), "the coding is this connection's business");

    let (parsed, _) = whole("HTTP/1.1 200 OK\r\n\r\n");
    assert!(parsed.body.ends_with_connection());
    assert!(!parsed.keep_alive);

    for bodiless in ["204 No Content", "304 Not Modified", "103 Early Hints"] {
        let (parsed, _) = whole(&format!("HTTP/1.1 {bodiless}\r\nContent-Length: 9\r\n\r\n"));
        assert!(parsed.body.is_done(), "{bodiless}");
    }
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n";
    let (parsed, _) = parse(head, &Method::HEAD).expect("sound").expect("whole");
    assert!(parsed.body.is_done());
    assert_eq!(parsed.head.headers.len(), 1, "a HEAD response keeps its length");
}

#[test]
fn framing_that_has_two_readings_is_refused_or_settled() {
    assert_eq!(
        refused("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n"),
        HeadError::Length
    );
    for bad in ["", "+5", "5,6", "5 5", "0x5", "99999999999999999999", "5, "] {
        let text = format!("HTTP/1.1 200 OK\r\nContent-Length: {bad}\r\n\r\n");
        assert_eq!(refused(&text), HeadError::Length, "{bad:?}");
    }
    for bad in ["gzip, chunked", "chunked, chunked", "identity", "xchunked"] {
        let text = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: {bad}\r\n\r\n");
        assert_eq!(refused(&text), HeadError::Encoding, "{bad:?}");
    }
    assert_eq!(
        refused("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
        HeadError::Encoding
    );
    let (parsed, _) = whole("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n");
    assert_eq!(parsed.head.headers.get_all("content-length").iter().count(), 1);
    let both = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n";
    let (parsed, _) = whole(both);
    assert!(!parsed.keep_alive, "a connection with two framings is not used again");
    assert!(parsed.head.headers.is_empty());
}

#[test]
fn a_connection_stays_open_as_rfc_9112_says() {
    let keeps = |version: &str, connection: &str| {
        let text = format!(
            "HTTP/{version} 200 OK\r\nContent-Length: 0\r\nConnection: {connection}\r\n\r\n"
        );
        whole(&text).0.keep_alive
    };
    assert!(keeps("1.1", "x"));
    assert!(!keeps("1.1", "x, Close"));
    assert!(!keeps("1.0", "x"));
    assert!(keeps("1.0", "Keep-Alive"));
    assert!(!keeps("1.1", "keep-alive, close"));
}

#[test]
fn garbage_and_oversize_are_refused() {
    for text in ["SSH-2.0-x\r\n\r\n", "HTTP/2.0 200 OK\r\n\r\n", "HTTP/1.1 200 OK\r\nX : y\r\n\r\n"]
    {
        assert!(matches!(refused(text), HeadError::Malformed(_)), "{text:?}");
    }
    let many: String = (0..200).map(|i| format!("x{i}: y\r\n")).collect();
    assert_eq!(refused(&format!("HTTP/1.1 200 OK\r\n{many}\r\n")), HeadError::TooLarge);
    let long = "x".repeat(head::MAX_HEAD);
    assert_eq!(refused(&format!("HTTP/1.1 200 OK\r\nx: {long}")), HeadError::TooLarge);
}

/// Decodes `wire` handed over in pieces of these sizes (the last repeated).
fn decode(mut decoder: Decoder, wire: &[u8], cuts: &[usize]) -> Result<(Vec<u8>, usize), String> {
    let mut inbox = BytesMut::new();
    let mut body = Vec::new();
    let mut trailers = 0;
    let mut fed = 0;
    let mut cuts = cuts.iter().copied().cycle();
    loop {
        match decoder.decode(&mut inbox).map_err(|error| error.to_string())? {
            Piece::Data(data) => body.extend_from_slice(&data),
            Piece::Trailers(found) => trailers = found.len(),
            Piece::End => return Ok((body, trailers)),
            Piece::More(_) if fed == wire.len() => return Err("incomplete".into()),
            Piece::More(_) => {
                let next = (fed + cuts.next().unwrap_or(1).max(1)).min(wire.len());
                inbox.extend_from_slice(&wire[fed..next]);
                fed = next;
            }
        }
        if decoder.is_done() {
            return Ok((body, trailers));
        }
    }
}

proptest! {
    #[test]
    fn a_chunked_body_is_what_was_sent_however_it_is_cut(
        chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..6),
        extension in "(;[a-z]{0,5}(=[a-z]{1,4})?)?",
        trailers in prop::collection::vec("[a-z]{1,8}", 0..3),
        cuts in prop::collection::vec(1usize..20, 1..8),
    ) {
        let mut wire = Vec::new();
        for chunk in &chunks {
            wire.extend_from_slice(format!("{:X}{extension}\r\n", chunk.len()).as_bytes());
            wire.extend_from_slice(chunk);
            wire.extend_from_slice(b"\r\n");
        }
        wire.extend_from_slice(b"0\r\n");
        for (number, name) in trailers.iter().enumerate() {
            wire.extend_from_slice(format!("{name}{number}: v\r\n").as_bytes());
        }
        wire.extend_from_slice(b"\r\n");
        let (body, found) = decode(Decoder::chunked(), &wire, &cuts).expect("a sound body");
        prop_assert_eq!(body, chunks.concat());
        prop_assert_eq!(found, trailers.len());
    }

    #[test]
    fn any_cut_of_any_bytes_decodes_alike(
        wire in prop::collection::vec(prop_oneof![
            Just(b'\r'), Just(b'\n'), Just(b'0'), Just(b'5'), Just(b'a'), Just(b';'), any::<u8>()
        ], 0..60),
        cuts in prop::collection::vec(1usize..8, 1..8),
    ) {
        let one = decode(Decoder::chunked(), &wire, &[wire.len().max(1)]);
        let many = decode(Decoder::chunked(), &wire, &cuts);
        // A fault and a lack may be told apart earlier or later, but what is taken is the same.
        prop_assert_eq!(one.is_ok(), many.is_ok());
        if let (Ok(one), Ok(many)) = (one, many) {
            prop_assert_eq!(one, many);
        }
    }

    #[test]
    fn any_bytes_as_a_head_are_survived(wire in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut inbox = BytesMut::from(&wire[..]);
        let _ = head::parse(&mut inbox, &Method::GET, &mut HeaderMap::new());
    }
}

#[test]
fn a_chunk_that_breaks_its_framing_is_refused() {
    for wire in [
        "5\nhello",
        "0x5\r\n",
        "+5\r\n",
        "-0\r\n",
        " 5\r\n",
        "\r\n",
        "10000000000000005\r\n",
        "5\r\nhelloXX",
        "5;\u{0}a\r\n",
        "5 5\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "0\r\nbad line\r\n\r\n",
    ] {
        assert!(decode(Decoder::chunked(), wire.as_bytes(), &[64]).is_err(), "{wire:?}");
    }
}

/// A body of fixed frames.
struct Frames(VecDeque<Frame<Bytes>>);

impl Body for Frames {
    type Data = Bytes;
    type Error = ProxyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ProxyError>>> {
        Poll::Ready(self.0.pop_front().map(Ok))
    }
}

struct Peer {
    conn: Box<H1Conn>,
    socket: TcpStream,
}

async fn connect() -> Peer {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let (ours, theirs) = tokio::join!(TcpStream::connect(address), listener.accept());
    let metrics = Metrics::new(1).endpoint(&"up".into(), "peer");
    let endpoint = Arc::new(Endpoint::new(address, None, metrics, Arc::default(), Moment::now()));
    let io = UpstreamIo::Tcp(ours.expect("connected"));
    let conn = Box::new(H1Conn::new(io, endpoint, None, WorkerId(0), None));
    Peer { conn, socket: theirs.expect("accepted").0 }
}

fn exchange(conn: Box<H1Conn>, framing: Framing, body: Option<Frames>) -> H1Exchange<Frames> {
    let mut headers = HeaderMap::new();
    headers.insert("x-a", HeaderValue::from_static("b"));
    headers.insert("content-length", HeaderValue::from_static("999"));
    let method = if body.is_some() { Method::POST } else { Method::GET };
    let head = RequestHead {
        method: &method,
        target: "/p?q",
        host: b"h",
        headers: &headers,
        framing,
        connection: None,
        http10: false,
    };
    H1Exchange::new(conn, &head, |_| {}, body, false)
}

async fn head_of(exchange: &mut H1Exchange<Frames>) -> Result<ResponseHead, ProxyError> {
    let mut spare = HeaderMap::new();
    loop {
        let event = std::future::poll_fn(|cx| exchange.poll_head(cx, &mut spare)).await?;
        if let HeadEvent::Final(head) = event {
            return Ok(head);
        }
    }
}

async fn body_of(exchange: &mut H1Exchange<Frames>) -> Result<Vec<u8>, ProxyError> {
    let mut body = Vec::new();
    while let Some(frame) = std::future::poll_fn(|cx| exchange.poll_body(cx)).await {
        if let Ok(data) = frame?.into_data() {
            body.extend_from_slice(&data);
        }
    }
    Ok(body)
}

async fn read_request(socket: &mut TcpStream, length: usize) -> String {
    let mut request = vec![0; length];
    socket.read_exact(&mut request).await.expect("the request");
    String::from_utf8(request).expect("text")
}

#[tokio::test]
async fn a_connection_is_reusable_after_a_clean_exchange_only() {
    let mut peer = connect().await;
    let mut conn = peer.conn;
    for (response, reusable) in [
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", true),
        ("HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n", true),
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokEXTRA", false),
    ] {
        let mut exchange = exchange(conn, Framing::None, None);
        let answer = async {
            let expected = "GET /p?q HTTP/1.1\r\nhost: h\r\nx-a: b\r\n\r\n";
            assert_eq!(read_request(&mut peer.socket, expected.len()).await, expected);
            peer.socket.write_all(response.as_bytes()).await.expect("written");
        };
        let (head, ()) = tokio::join!(head_of(&mut exchange), answer);
        head.expect("a head");
        body_of(&mut exchange).await.expect("a body");
        let back = exchange.take_reusable(crate::util::moment::Moment::now());
        assert_eq!(back.is_some(), reusable, "{response:?}");
        match back {
            Some(back) => conn = back,
            None => return,
        }
    }
}

#[tokio::test]
async fn an_upload_is_framed_and_its_trailers_follow() {
    let mut peer = connect().await;
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", HeaderValue::from_static("7"));
    let frames = [
        Frame::data(Bytes::from("hello ")),
        Frame::data(Bytes::from("world!")),
        Frame::trailers(trailers),
    ];
    let mut exchange = exchange(peer.conn, Framing::Chunked, Some(Frames(frames.into())));
    let expected = "POST /p?q HTTP/1.1\r\nhost: h\r\nx-a: b\r\ntransfer-encoding: chunked\r\n\r\n\
                    6\r\nhello \r\n6\r\nworld!\r\n0\r\nx-sum: 7\r\n\r\n";
    let answer = async {
        assert_eq!(read_request(&mut peer.socket, expected.len()).await, expected);
        peer.socket
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
            .await
            .expect("written");
    };
    let (head, ()) = tokio::join!(head_of(&mut exchange), answer);
    assert_eq!(head.expect("a head").status, StatusCode::OK);
    assert!(exchange.take_reusable(crate::util::moment::Moment::now()).is_some());
}

#[tokio::test]
async fn a_closed_connection_says_whether_the_request_may_go_elsewhere() {
    // Closed before a response on a fresh connection: it may have been acted upon.
    let peer = connect().await;
    let mut fresh = exchange(peer.conn, Framing::None, None);
    drop(peer.socket);
    let error = head_of(&mut fresh).await.expect_err("no response");
    assert_eq!((error.reason, error.replay), (Reason::UpstreamReset, Replay::Unanswered));
    // The same on a connection that carried an exchange before: most likely closed while idle.
    let peer = connect().await;
    let mut conn = peer.conn;
    conn.exchanges = 1;
    let mut reused = exchange(conn, Framing::None, None);
    drop(peer.socket);
    let error = head_of(&mut reused).await.expect_err("no response");
    assert_eq!(
        (error.reason, error.replay),
        (Reason::UpstreamReset, Replay::Stale { written: true })
    );
    // Broken off inside the head: never.
    let mut peer = connect().await;
    peer.conn.exchanges = 1;
    let mut cut = exchange(peer.conn, Framing::None, None);
    peer.socket.write_all(b"HTTP/1.1 200 OK\r\nx").await.expect("written");
    drop(peer.socket);
    let error = head_of(&mut cut).await.expect_err("no response");
    assert_eq!((error.reason, error.replay), (Reason::UpstreamIncomplete, Replay::Never));
}

#[tokio::test]
async fn a_body_that_ends_early_is_an_error_unless_its_end_is_the_connections() {
    for (response, sound) in [
        ("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nshort", false),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhel", false),
        ("HTTP/1.1 200 OK\r\n\r\nwhatever", true),
    ] {
        let mut peer = connect().await;
        let mut exchange = exchange(peer.conn, Framing::None, None);
        peer.socket.write_all(response.as_bytes()).await.expect("written");

        peer.socket.shutdown().await.expect("closed");
        head_of(&mut exchange).await.expect("a head");
        assert_eq!(body_of(&mut exchange).await.is_ok(), sound, "{response:?}");
        assert!(exchange.take_reusable(crate::util::moment::Moment::now()).is_none());
    }
}

#[tokio::test]
async fn a_switch_of_protocols_nobody_asked_for_is_refused() {
    let mut peer = connect().await;
    let mut exchange = exchange(peer.conn, Framing::None, None);
    peer.socket.write_all(b"HTTP/1.1 101 Switching Protocols\r\n\r\n").await.expect("written");
    let error = head_of(&mut exchange).await.expect_err("refused");
    assert_eq!(error.reason, Reason::UpstreamProtocol);
}

#[tokio::test]
async fn a_switch_of_protocols_before_the_whole_request_was_sent_is_refused() {
    struct Never;
    impl Body for Never {
        type Data = Bytes;
        type Error = ProxyError;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, ProxyError>>> {
            Poll::Pending
        }
    }
    let mut peer = connect().await;
    let headers = HeaderMap::new();
    let head = RequestHead {
        method: &Method::GET,
        target: "/",
        host: b"h",
        headers: &headers,
        framing: Framing::Length(5),
        connection: Some("upgrade"),
        http10: false,
    };
    let mut exchange = H1Exchange::new(peer.conn, &head, |_| {}, Some(Never), true);
    peer.socket.write_all(b"HTTP/1.1 101 Switching Protocols\r\n\r\n").await.expect("written");
    let mut spare = HeaderMap::new();
    let event = std::future::poll_fn(|cx| exchange.poll_head(cx, &mut spare)).await;
    assert_eq!(event.err().map(|error| error.reason), Some(Reason::UpstreamProtocol));
}

#[tokio::test]
async fn interim_responses_are_capped() {
    let mut peer = connect().await;
    let mut exchange = exchange(peer.conn, Framing::None, None);
    let flood = "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(40);
    peer.socket.write_all(flood.as_bytes()).await.expect("written");
    let error = head_of(&mut exchange).await.expect_err("refused");
    assert_eq!(error.reason, Reason::UpstreamProtocol);
}
