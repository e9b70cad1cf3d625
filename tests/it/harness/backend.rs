//! Scripted back ends: a closure per connection that says what goes over the wire, byte by byte,
//! while every byte received is kept.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinHandle;

use super::client::{Headers, find};

/// How many received bytes are kept.
const KEPT: usize = 4 << 20;

/// A back end whose every connection follows a script.
pub struct Backend {
    address: SocketAddr,
    record: Arc<Record>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Record {
    connections: AtomicUsize,
    open: AtomicUsize,
    bytes: AtomicUsize,
    received: Mutex<Vec<u8>>,
    requests: Mutex<Vec<Seen>>,
}

/// A request as a back end saw it.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// The method.
    pub method: String,
    /// The request target.
    pub target: String,
    /// The minor HTTP/1 version.
    pub version: String,
    /// The header section.
    pub headers: Headers,
    /// The decoded body.
    pub body: Vec<u8>,
    /// The trailer section.
    pub trailers: Headers,
    /// Which connection, from 0.
    pub connection: usize,
}

impl Backend {
    /// A back end that runs `script` on each connection.
    pub async fn script<F, Fut>(script: F) -> Self
    where
        F: Fn(Conn) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        Self::script_on(listener, script)
    }

    /// The same on a listener that is already there.
    pub fn script_on<F, Fut>(listener: TcpListener, script: F) -> Self
    where
        F: Fn(Conn) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let address = listener.local_addr().expect("bound");
        let record = Arc::new(Record::default());
        let task = tokio::spawn({
            let record = Arc::clone(&record);
            async move {
                let mut tasks = tokio::task::JoinSet::new();
                while let Ok((stream, _)) = listener.accept().await {
                    let _ = stream.set_nodelay(true);
                    let index = record.connections.fetch_add(1, Ordering::SeqCst);
                    record.open.fetch_add(1, Ordering::SeqCst);
                    let conn = Conn {
                        stream,
                        index,
                        buffer: BytesMut::new(),
                        record: Open(Arc::clone(&record)),
                    };
                    tasks.spawn(script(conn));
                }
            }
        });
        Self { address, record, task }
    }

    /// A back end that reads whole requests and answers each with these bytes.
    pub async fn answering(bytes: impl Into<Vec<u8>>) -> Self {
        let bytes = Arc::new(bytes.into());
        Self::script(move |mut conn| {
            let bytes = Arc::clone(&bytes);
            async move {
                while conn.request().await.is_some() {
                    conn.send(&*bytes).await;
                }
            }
        })
        .await
    }

    /// A back end that answers 200 with this text.
    pub async fn saying(text: &str) -> Self {
        let length = text.len();
        Self::answering(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{text}")).await
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connections accepted so far.
    pub fn connections(&self) -> usize {
        self.record.connections.load(Ordering::SeqCst)
    }

    /// Connections open now.
    pub fn open(&self) -> usize {
        self.record.open.load(Ordering::SeqCst)
    }

    /// Bytes received so far.
    pub fn bytes(&self) -> usize {
        self.record.bytes.load(Ordering::SeqCst)
    }

    /// The received bytes of all connections, in the order they came.
    pub fn received(&self) -> Vec<u8> {
        self.record.received.lock().expect("no holder panics").clone()
    }

    /// The requests that were read whole, or whose head was.
    pub fn requests(&self) -> Vec<Seen> {
        self.record.requests.lock().expect("no holder panics").clone()
    }

    /// The last request.
    #[track_caller]
    pub fn last(&self) -> Seen {
        self.requests().pop().expect("the back end saw a request")
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A listener whose queue is full: an attempt to connect gets no answer at all.
pub struct BlackHole {
    listener: TcpListener,
    _held: Vec<TcpStream>,
}

impl BlackHole {
    /// One that swallows everything.
    pub async fn open() -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind("127.0.0.1:0".parse().expect("an address")).expect("a free port");
        let listener = socket.listen(1).expect("it listens");
        let address = listener.local_addr().expect("bound");
        let mut held = Vec::new();
        loop {
            let attempt = TcpStream::connect(address);
            match tokio::time::timeout(Duration::from_millis(200), attempt).await {
                Ok(stream) => held.push(stream.expect("connected")),
                Err(_) => return Self { listener, _held: held },
            }
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.listener.local_addr().expect("bound")
    }
}

struct Open(Arc<Record>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A connection of a scripted back end.
pub struct Conn {
    stream: TcpStream,
    /// Which connection of the back end it is, from 0.
    pub index: usize,
    buffer: BytesMut,
    record: Open,
}

impl Conn {
    /// Reads a request head; `None` at the end of the connection.
    pub async fn head(&mut self) -> Option<Seen> {
        let end = loop {
            if let Some(end) = find(&self.buffer, b"\r\n\r\n") {
                break end;
            }
            if !self.fill().await {
                return None;
            }
        };
        let head = self.buffer.split_to(end + 4);
        let head = String::from_utf8_lossy(&head).into_owned();
        let (line, fields) = head.split_once("\r\n").expect("a CRLF was found");
        let mut parts = line.split(' ');
        let seen = Seen {
            method: parts.next().unwrap_or_default().into(),
            target: parts.next().unwrap_or_default().into(),
            version: parts.next().unwrap_or_default().into(),
            headers: Headers::parse(fields).expect("the proxy sends well-formed fields"),
            connection: self.index,
            ..Seen::default()
        };
        self.record.0.requests.lock().expect("no holder panics").push(seen.clone());
        Some(seen)
    }

    /// Reads a whole request; `None` when the connection ends before.
    pub async fn request(&mut self) -> Option<Seen> {
        let mut seen = self.head().await?;
        if seen.headers.joined("transfer-encoding").eq_ignore_ascii_case("chunked") {
            loop {
                let line = self.line().await?;
                let size = usize::from_str_radix(line.split(';').next()?, 16).expect("a size");
                if size == 0 {
                    break;
                }
                let data = self.exactly(size + 2).await?;
                seen.body.extend_from_slice(&data[..size]);
            }
            let mut trailers = String::new();
            loop {
                let line = self.line().await?;
                if line.is_empty() {
                    break;
                }
                trailers.push_str(&line);
                trailers.push_str("\r\n");
            }
            seen.trailers = Headers::parse(&trailers).expect("well-formed trailers");
        } else if let Some(length) = seen.headers.get("content-length") {
            let length = length.parse().expect("a length");
            seen.body = self.exactly(length).await?;
        }
        let mut requests = self.record.0.requests.lock().expect("no holder panics");
        let index = self.index;
        if let Some(last) = requests.iter_mut().rev().find(|seen| seen.connection == index) {
            *last = seen.clone();
        }
        drop(requests);
        Some(seen)
    }

    /// The next bytes; empty at the end.
    pub async fn some(&mut self) -> Vec<u8> {
        if self.buffer.is_empty() {
            self.fill().await;
        }
        self.buffer.split().to_vec()
    }

    /// The next `count` bytes; `None` when the connection ends before.
    pub async fn exactly(&mut self, count: usize) -> Option<Vec<u8>> {
        while self.buffer.len() < count {
            if !self.fill().await {
                return None;
            }
        }
        Some(self.buffer.split_to(count).to_vec())
    }

    /// A line without its CRLF.
    pub async fn line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = find(&self.buffer, b"\r\n") {
                let line = self.buffer.split_to(end + 2);
                return Some(String::from_utf8_lossy(&line[..end]).into_owned());
            }
            if !self.fill().await {
                return None;
            }
        }
    }

    /// Sends these bytes; that the peer is gone is no concern of a script.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.stream.write_all(bytes.as_ref()).await;
    }

    /// Sends these bytes; whether the peer took them.
    pub async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).await.is_ok()
    }

    /// Sends these bytes one at a time, `pause` apart.
    pub async fn trickle(&mut self, bytes: impl AsRef<[u8]>, pause: Duration) {
        for byte in bytes.as_ref() {
            self.send([*byte]).await;
            super::pass(pause).await;
        }
    }

    /// Does nothing until the peer ends the connection.
    pub async fn stall(&mut self) {
        while self.fill().await {
            self.buffer.clear();
        }
    }

    /// Ends the sending direction.
    pub async fn half_close(&mut self) {
        let _ = self.stream.shutdown().await;
    }

    /// Resets the connection.
    pub fn reset(self) {
        let _ = self.stream.set_zero_linger();
    }

    async fn fill(&mut self) -> bool {
        self.buffer.reserve(16 * 1024);
        let before = self.buffer.len();
        match self.stream.read_buf(&mut self.buffer).await {
            Ok(0) | Err(_) => false,
            Ok(count) => {
                self.record.0.bytes.fetch_add(count, Ordering::SeqCst);
                let mut received = self.record.0.received.lock().expect("no holder panics");
                if received.len() < KEPT {
                    received.extend_from_slice(&self.buffer[before..]);
                }
                true
            }
        }
    }
}
