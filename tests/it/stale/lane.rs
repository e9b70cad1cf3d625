//! A back end of blocking sockets that keeps score, and clients as plain: a hundred thousand
//! requests have to be cheap.

#![expect(clippy::disallowed_methods, reason = "every connection has a thread that may block")]

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;

use super::peer::Peer;
use crate::harness::{Random, STEP, find, pass};

/// A back end whose connections end at the worst moment.
pub struct Lane {
    address: SocketAddr,
    runtime: Handle,
    accepted: AtomicU64,
    /// Connections whose end was begun, and those whose end was out.
    begun: AtomicU64,
    ended: AtomicU64,
    /// Connections that the peer closed.
    left: AtomicU64,
    /// How often each POST was read, to the end of its head at least.
    posts: Mutex<HashMap<u64, u32>>,
    /// How long the next request lets wait for itself: a running mean in microseconds.
    pause: AtomicU64,
    closed: AtomicBool,
}

/// When a connection ends after an answer.
#[derive(Clone, Copy, Debug)]
enum End {
    /// Not after this one.
    NotYet,
    /// So much of the usual pause later, in per cent, whatever has come by then.
    After(u64),
    /// After a part of the next request's head.
    Inside,
    /// After the whole of the next request.
    Behind,
}

impl Lane {
    /// A back end that listens.
    pub fn open(mut random: Random) -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let lane = Arc::new(Self {
            address: listener.local_addr().expect("bound"),
            runtime: Handle::current(),
            accepted: AtomicU64::new(0),
            begun: AtomicU64::new(0),
            ended: AtomicU64::new(0),
            left: AtomicU64::new(0),
            posts: Mutex::default(),
            pause: AtomicU64::new(500),
            closed: AtomicBool::new(false),
        });
        let shared = lane.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if shared.closed.load(Ordering::SeqCst) {
                    return;
                }
                shared.accepted.fetch_add(1, Ordering::SeqCst);
                let (lane, random) = (shared.clone(), Random(random.draw()));
                let served = Served { lane, stream, bytes: Vec::new(), random };
                std::thread::spawn(move || served.run());
            }
        });
        lane
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops listening.
    pub fn shut(&self) {
        self.closed.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
    }

    /// How many connections it has begun to end.
    pub fn begun(&self) -> u64 {
        self.begun.load(Ordering::SeqCst)
    }

    /// How many ends were out: the peer's kernel knew of them.
    pub fn ended(&self) -> u64 {
        self.ended.load(Ordering::SeqCst)
    }

    /// Whether it has no connection that could serve another request.
    pub fn is_alone(&self) -> bool {
        let over = self.ended() + self.left.load(Ordering::SeqCst);
        over == self.accepted.load(Ordering::SeqCst)
    }

    /// How often POST `id` was read.
    pub fn times_read(&self, id: u64) -> u32 {
        self.posts.lock().expect("no holder panics").get(&id).copied().unwrap_or_default()
    }

    /// Counts an end once the kernel of `peer` knows of it. Nothing less will do: a kernel that is
    /// busy delivers late over loopback, and one short of memory may not send the end of a stream
    /// before it repeats the last segment.
    fn told(&self, peer: Option<Peer>) {
        let begun = Instant::now();
        while peer.as_ref().is_some_and(Peer::believes_it_open) {
            assert!(begun.elapsed() < STEP, "the end of a connection never came");
            self.runtime.block_on(pass(Duration::from_micros(50)));
        }
        self.ended.fetch_add(1, Ordering::SeqCst);
    }

    fn note(&self, head: &Head) {
        if head.post {
            *self.posts.lock().expect("no holder panics").entry(head.id).or_default() += 1;
        }
    }

    fn waited(&self, pause: Duration) {
        let (old, new) = (self.pause.load(Ordering::Relaxed), pause.as_micros() as u64);
        // One that slept says nothing of the usual.
        let new = new.min(20 * old + 100);
        self.pause.store((15 * old + new) / 16, Ordering::Relaxed);
    }
}

/// A connection of a lane.
struct Served {
    lane: Arc<Lane>,
    stream: TcpStream,
    /// What was read and belongs to no request yet.
    bytes: Vec<u8>,
    random: Random,
}

/// As much of a request as matters.
pub struct Head {
    pub post: bool,
    pub id: u64,
}

impl Served {
    fn run(mut self) {
        let _ = self.stream.set_nodelay(true);
        if self.serve().is_ok() {
            self.end();
        } else {
            self.lane.left.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Answers requests until the connection is to end; an error where the peer ended it.
    fn serve(&mut self) -> io::Result<()> {
        let mut answered: Option<Instant> = None;
        loop {
            let head = self.request()?;
            if let Some(answered) = answered {
                self.lane.waited(answered.elapsed());
            }
            let (body, mut out) = (head.id.to_string(), Vec::with_capacity(128));
            let _ = write!(out, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            let end = self.plan();
            self.stream.write_all(&out)?;
            answered = Some(Instant::now());
            match end {
                End::NotYet => continue,
                End::After(share) => {
                    let pause = self.lane.pause.load(Ordering::Relaxed) * share / 100;
                    if pause > 0 {
                        self.lane.runtime.block_on(pass(Duration::from_micros(pause)));
                    }
                }
                End::Inside => {
                    let part = 1 + self.random.below(40) as usize;
                    self.read(part)?;
                }
                End::Behind => {
                    self.request()?;
                }
            }
            return Ok(());
        }
    }

    fn plan(&mut self) -> End {
        match self.random.below(16) {
            0..5 => End::NotYet,
            5..7 => End::After(0),
            7..13 => End::After(self.random.below(250)),
            13 => End::Inside,
            _ => End::Behind,
        }
    }

    /// Reads a request, and counts it once its head is there.
    fn request(&mut self) -> io::Result<Head> {
        let mut found: Option<(Head, usize)> = None;
        loop {
            if found.is_none()
                && let Some(end) = find(&self.bytes, b"\r\n\r\n")
            {
                let head = Head::parse(&self.bytes);
                self.lane.note(&head);
                let body = head.body();
                found = Some((head, end + 4 + body.map_or(0, |body| body.len())));
            }
            if let Some((head, length)) = found.take_if(|(_, length)| self.bytes.len() >= *length) {
                self.bytes.drain(..length);
                return Ok(head);
            }
            self.read(1024)?;
        }
    }

    /// Reads up to `most` bytes more; none is an error.
    fn read(&mut self, most: usize) -> io::Result<()> {
        let mut chunk = [0; 1024];
        match self.stream.read(&mut chunk[..most])? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            count => {
                self.bytes.extend_from_slice(&chunk[..count]);
                Ok(())
            }
        }
    }

    /// Ends the connection in one of three ways.
    fn end(mut self) {
        let peer = Peer::of(&self.stream);
        self.lane.begun.fetch_add(1, Ordering::SeqCst);
        let way = self.random.below(3);
        if way == 0 {
            // Only its own direction: what comes late is read, and is not answered.
            let _ = self.stream.shutdown(Shutdown::Write);
            self.lane.told(peer);
            while self.request().is_ok() {}
            return;
        }
        if way == 1 {
            let _ = socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
        }
        let Self { lane, stream, .. } = self;
        drop(stream);
        lane.told(peer);
    }
}

impl Head {
    fn parse(bytes: &[u8]) -> Self {
        let line = bytes.split(|byte| *byte == b'\r').next().unwrap_or_default();
        let line = std::str::from_utf8(line).expect("a request line");
        let target = line.split(' ').nth(1).expect("a target");
        let id = target.rsplit('/').next().and_then(|id| id.parse().ok()).expect("an id");
        Self { post: line.starts_with("POST "), id }
    }

    /// Every other POST has a body.
    fn body(&self) -> Option<String> {
        (self.post && self.id.is_multiple_of(2)).then(|| self.id.to_string())
    }
}

/// What a client got.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub body: String,
    /// Whether the connection ends with it.
    pub last: bool,
}

/// A client's connection.
pub fn client(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("the proxy accepts");
    stream.set_nodelay(true).expect("a TCP socket");
    stream.set_read_timeout(Some(STEP)).expect("a TCP socket");
    stream
}

/// Sends a request of lane `number` and reads the answer.
pub fn exchange(stream: &mut TcpStream, number: usize, head: &Head) -> Answer {
    let mut out = Vec::with_capacity(128);
    let method = if head.post { "POST" } else { "GET" };
    let _ = write!(out, "{method} /{number}/{} HTTP/1.1\r\nHost: t\r\n", head.id);
    let body = head.body().unwrap_or_default();
    let _ = match head.post {
        true => write!(out, "Content-Length: {}\r\n\r\n{body}", body.len()),
        false => write!(out, "\r\n"),
    };
    stream.write_all(&out).expect("the proxy reads");
    let mut bytes = Vec::with_capacity(1024);
    let mut chunk = [0; 4096];
    loop {
        if let Some(answer) = Answer::parse(&bytes) {
            return answer;
        }
        match stream.read(&mut chunk) {
            Ok(count @ 1..) => bytes.extend_from_slice(&chunk[..count]),
            end => panic!("{end:?} after {:?}", String::from_utf8_lossy(&bytes)),
        }
    }
}

impl Answer {
    /// The answer, where it is whole.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let end = find(bytes, b"\r\n\r\n")? + 4;
        let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
        let field =
            |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let length: usize = field("content-length:")?.parse().expect("a length");
        let body = bytes.get(end..end + length)?;
        assert_eq!(bytes.len(), end + length, "bytes behind an answer");
        Some(Self {
            status: head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status"),
            body: String::from_utf8_lossy(body).into_owned(),
            last: field("connection:") == Some("close"),
        })
    }
}
