//! An HTTP/1 client that controls every byte it sends and reads responses strictly.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use super::{STEP, TlsClient};

/// A byte stream of any kind.
pub trait Io: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// One client connection.
pub struct Client {
    io: Box<dyn Io>,
    buffer: BytesMut,
    /// The address it connected from.
    pub local: SocketAddr,
}

/// Why there is no whole response.
#[derive(Debug)]
#[expect(dead_code, reason = "what is in it is for the message of a failed test")]
pub enum Broken {
    /// The connection ended before the first byte.
    Closed,
    /// The response is not HTTP/1.
    Malformed(String),
    /// Nothing more came in time.
    Timeout,
    /// The connection ended in the middle; what there was of it.
    Truncated(Box<Response>),
}

/// A response with everything that came before and after it.
#[derive(Clone, Debug, Default)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The header section.
    pub headers: Headers,
    /// The decoded body.
    pub body: Vec<u8>,
    /// The trailer section.
    pub trailers: Headers,
    /// Interim (1xx) responses before it: status and headers.
    pub interim: Vec<(u16, Headers)>,
}

impl Response {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        match serde_json::from_slice(&self.body) {
            Ok(value) => value,
            Err(error) => panic!("no JSON ({error}): {self}"),
        }
    }

    /// Fails unless the proxy itself answered with this status and reason, in a body a person
    /// can read that tells the request id.
    #[track_caller]
    pub fn assert_refused(&self, status: u16, reason: &str) {
        assert_eq!(self.status, status, "{self}");
        let text = self.text();
        assert!(text.contains(reason), "no {reason:?} in {text:?}");
        let id = text.lines().find_map(|line| line.strip_prefix("request id: "));
        let id = id.unwrap_or_else(|| panic!("no request id in {text:?}"));
        assert!(!id.is_empty());
        if let Some(sent) = self.headers.get("x-request-id") {
            assert_eq!(sent, id, "one id in header and body");
        }
    }
}

impl fmt::Display for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let body = &self.body[..self.body.len().min(2000)];
        write!(f, "{} {:?} {:?}", self.status, self.headers, String::from_utf8_lossy(body))
    }
}

/// Header fields in the order they came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers(pub Vec<(String, String)>);

impl Headers {
    /// The first field of `name`.
    pub fn get(&self, name: &str) -> Option<&str> {
        let field = self.0.iter().find(|(n, _)| n.eq_ignore_ascii_case(name));
        field.map(|(_, value)| value.as_str())
    }

    /// All fields of `name`.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let fields = self.0.iter().filter(move |(n, _)| n.eq_ignore_ascii_case(name));
        fields.map(|(_, value)| value.as_str())
    }

    /// All fields of `name`, joined with `, `.
    pub fn joined(&self, name: &str) -> String {
        self.all(name).collect::<Vec<_>>().join(", ")
    }

    /// Whether there is a field of `name`.
    pub fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// Parses header lines, each ended by CRLF.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut fields = Vec::new();
        for line in text.split("\r\n").filter(|line| !line.is_empty()) {
            let (name, value) = line.split_once(':').ok_or_else(|| format!("bad line {line:?}"))?;
            if name.is_empty() || name.contains([' ', '\t']) || line.contains(['\n', '\r']) {
                return Err(format!("bad line {line:?}"));
            }
            fields.push((name.to_owned(), value.trim_matches([' ', '\t']).to_owned()));
        }
        Ok(Self(fields))
    }
}

/// One GET on a connection of its own.
#[track_caller]
pub fn get(address: SocketAddr, host: &str, target: &str) -> impl Future<Output = Response> {
    let head = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    async move {
        let mut client = Client::connect(address).await;
        client.send(head).await;
        client.response().await
    }
}

impl Client {
    /// Connects, or fails the test.
    pub async fn connect(address: SocketAddr) -> Self {
        Self::try_connect(address).await.expect("the listener accepts")
    }

    /// Connects.
    pub async fn try_connect(address: SocketAddr) -> io::Result<Self> {
        let stream = tokio::time::timeout(STEP, TcpStream::connect(address)).await??;
        stream.set_nodelay(true)?;
        let local = stream.local_addr()?;
        Ok(Self { io: Box::new(stream), buffer: BytesMut::new(), local })
    }

    /// Connects with a small receive buffer, so that little can be on its way unread.
    pub async fn connect_narrow(address: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(16 * 1024).expect("a small buffer");
        let stream = socket.connect(address).await.expect("the listener accepts");
        let local = stream.local_addr().expect("connected");
        Self { io: Box::new(stream), buffer: BytesMut::new(), local }
    }

    /// Connects from a given loopback address.
    pub async fn connect_from(source: SocketAddr, address: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind(source).expect("an address of this machine");
        let stream = socket.connect(address).await.expect("the listener accepts");
        stream.set_nodelay(true).expect("a TCP socket");
        let local = stream.local_addr().expect("connected");
        Self { io: Box::new(stream), buffer: BytesMut::new(), local }
    }

    /// Connects with TLS, or fails the test.
    pub async fn tls(address: SocketAddr, tls: &TlsClient) -> Self {
        let stream = tls.connect(address).await.expect("the handshake succeeds");
        let local = stream.get_ref().0.local_addr().expect("connected");
        Self { io: Box::new(stream), buffer: BytesMut::new(), local }
    }

    /// Speaks over a stream that is already there.
    pub fn over(io: impl Io + 'static) -> Self {
        let local = SocketAddr::from(([0, 0, 0, 0], 0));
        Self { io: Box::new(io), buffer: BytesMut::new(), local }
    }

    /// Sends these bytes, or fails the test.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).await.expect("the proxy reads");
    }

    /// Sends these bytes.
    pub async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        tokio::time::timeout(STEP, async {
            self.io.write_all(bytes.as_ref()).await?;
            self.io.flush().await
        })
        .await?
    }

    /// Sends a request without a body and reads the response.
    pub async fn request(&mut self, method: &str, host: &str, target: &str) -> Response {
        self.send(format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
        match self.try_response(method == "HEAD").await {
            Ok(response) => response,
            Err(broken) => panic!("{method} {target}: {broken:?}"),
        }
    }

    /// Reads a whole response, or fails the test.
    pub async fn response(&mut self) -> Response {
        match self.try_response(false).await {
            Ok(response) => response,
            Err(broken) => panic!("no whole response: {broken:?}"),
        }
    }

    /// Reads a whole response; `head` when it answers a HEAD.
    pub async fn try_response(&mut self, head: bool) -> Result<Response, Broken> {
        let mut response = self.try_head().await?;
        let bodiless = head || matches!(response.status, 204 | 304 | 101);
        if !bodiless {
            self.body(&mut response).await?;
        }
        Ok(response)
    }

    /// Reads a response head, and the interim ones before it.
    pub async fn try_head(&mut self) -> Result<Response, Broken> {
        let mut interim = Vec::new();
        loop {
            let mut response = self.one_head().await?;
            if (100..200).contains(&response.status) && response.status != 101 {
                interim.push((response.status, response.headers));
                continue;
            }
            response.interim = interim;
            return Ok(response);
        }
    }

    /// Reads a response head, or fails the test.
    pub async fn head(&mut self) -> Response {
        match self.try_head().await {
            Ok(response) => response,
            Err(broken) => panic!("no response head: {broken:?}"),
        }
    }

    /// Reads one head, interim or not.
    pub async fn one_head(&mut self) -> Result<Response, Broken> {
        let end = loop {
            if let Some(end) = find(&self.buffer, b"\r\n\r\n") {
                break end;
            }
            if !self.fill().await? {
                return Err(if self.buffer.is_empty() {
                    Broken::Closed
                } else {
                    Broken::Malformed(String::from_utf8_lossy(&self.buffer).into_owned())
                });
            }
        };
        let head = self.buffer.split_to(end + 4);
        let head = String::from_utf8_lossy(&head).into_owned();
        parse_head(&head).map_err(|why| Broken::Malformed(format!("{why}: {head:?}")))
    }

    /// Reads one chunk of a chunked body, as framed; an empty one is the last.
    pub async fn chunk(&mut self) -> Result<Vec<u8>, Broken> {
        let truncated = || Broken::Truncated(Box::default());
        let line = self.line().await?.ok_or_else(truncated)?;
        let size = usize::from_str_radix(line.split(';').next().unwrap_or_default(), 16)
            .map_err(|_| Broken::Malformed(format!("chunk size {line:?}")))?;
        if size == 0 {
            return Ok(Vec::new());
        }
        let data = self.exactly(size + 2).await?.ok_or_else(truncated)?;
        match data.strip_suffix(b"\r\n") {
            Some(data) => Ok(data.to_vec()),
            None => Err(Broken::Malformed("chunk without CRLF".into())),
        }
    }

    /// The next bytes, whatever they are; empty at the end.
    pub async fn some(&mut self) -> Result<Vec<u8>, Broken> {
        if self.buffer.is_empty() && !self.fill().await? {
            return Ok(Vec::new());
        }
        Ok(self.buffer.split().to_vec())
    }

    /// The next `count` bytes; `None` when the connection ends before.
    pub async fn exactly(&mut self, count: usize) -> Result<Option<Vec<u8>>, Broken> {
        while self.buffer.len() < count {
            if !self.fill().await? {
                return Ok(None);
            }
        }
        Ok(Some(self.buffer.split_to(count).to_vec()))
    }

    /// Fails unless the proxy ends the connection without another byte.
    #[track_caller]
    pub fn closed(&mut self) -> impl Future<Output = ()> {
        let caller = std::panic::Location::caller();
        async move {
            if !self.buffer.is_empty() {
                panic!("unexpected bytes {:?} ({caller})", String::from_utf8_lossy(&self.buffer));
            }
            match self.fill().await {
                Ok(false) => {}
                Ok(true) => {
                    panic!(
                        "unexpected bytes {:?} ({caller})",
                        String::from_utf8_lossy(&self.buffer)
                    )
                }
                Err(broken) => panic!("not closed: {broken:?} ({caller})"),
            }
        }
    }

    /// Whether nothing at all comes, not even the end, for `span`.
    pub async fn silent(&mut self, span: Duration) -> bool {
        self.buffer.is_empty()
            && tokio::time::timeout(span, self.io.read_buf(&mut self.buffer)).await.is_err()
    }

    /// Ends the sending direction.
    pub async fn half_close(&mut self) {
        self.io.shutdown().await.expect("the connection is open");
    }

    /// The stream beneath and what was read ahead of it.
    pub fn into_parts(self) -> (Box<dyn Io>, BytesMut) {
        (self.io, self.buffer)
    }

    async fn body(&mut self, response: &mut Response) -> Result<(), Broken> {
        let coding = response.headers.joined("transfer-encoding");
        let lengths: Vec<_> = response.headers.all("content-length").map(str::to_owned).collect();
        if !coding.is_empty() {
            if !coding.eq_ignore_ascii_case("chunked") || !lengths.is_empty() {
                return Err(Broken::Malformed(format!("framing of {:?}", response.headers)));
            }
            return self.chunked(response).await;
        }
        if let [length] = &lengths[..] {
            let length: usize =
                length.parse().map_err(|_| Broken::Malformed(format!("length {length:?}")))?;
            while response.body.len() < length {
                if self.buffer.is_empty() && !self.fill().await? {
                    return Err(Broken::Truncated(Box::new(response.clone())));
                }
                let take = self.buffer.len().min(length - response.body.len());
                response.body.extend_from_slice(&self.buffer.split_to(take));
            }
            return Ok(());
        }
        if !lengths.is_empty() {
            return Err(Broken::Malformed(format!("lengths {lengths:?}")));
        }
        loop {
            response.body.extend_from_slice(&self.buffer.split());
            if !self.fill().await? {
                return Ok(());
            }
        }
    }

    async fn chunked(&mut self, response: &mut Response) -> Result<(), Broken> {
        loop {
            match self.chunk().await {
                Ok(data) if data.is_empty() => break,
                Ok(data) => response.body.extend_from_slice(&data),
                Err(Broken::Truncated(_)) => {
                    return Err(Broken::Truncated(Box::new(response.clone())));
                }
                Err(other) => return Err(other),
            }
        }
        let mut trailers = String::new();
        loop {
            match self.line().await? {
                Some(line) if line.is_empty() => break,
                Some(line) => {
                    trailers.push_str(&line);
                    trailers.push_str("\r\n");
                }
                None => return Err(Broken::Truncated(Box::new(response.clone()))),
            }
        }
        response.trailers = Headers::parse(&trailers).map_err(Broken::Malformed)?;
        Ok(())
    }

    async fn line(&mut self) -> Result<Option<String>, Broken> {
        loop {
            if let Some(end) = find(&self.buffer, b"\r\n") {
                let line = self.buffer.split_to(end);
                self.buffer.advance(2);
                return Ok(Some(String::from_utf8_lossy(&line).into_owned()));
            }
            if !self.fill().await? {
                return Ok(None);
            }
        }
    }

    /// Reads more; false at the end. A reset is an end as well: which one it was is no business
    /// of HTTP.
    async fn fill(&mut self) -> Result<bool, Broken> {
        self.buffer.reserve(16 * 1024);
        match tokio::time::timeout(STEP, self.io.read_buf(&mut self.buffer)).await {
            Ok(Ok(0)) => Ok(false),
            Ok(Ok(_)) => Ok(true),
            Ok(Err(_)) => Ok(false),
            Err(_) => Err(Broken::Timeout),
        }
    }
}

fn parse_head(head: &str) -> Result<Response, String> {
    let (line, fields) = head.split_once("\r\n").ok_or("no status line")?;
    let rest = line.strip_prefix("HTTP/1.").ok_or("no HTTP/1")?;
    let (version, rest) = rest.split_once(' ').ok_or("no version")?;
    if !matches!(version, "0" | "1") {
        return Err("no version".into());
    }
    let (status, _) = rest.split_once(' ').ok_or("no status")?;
    let status: u16 = status.parse().map_err(|_| "bad status")?;
    Ok(Response { status, headers: Headers::parse(fields)?, ..Response::default() })
}

/// Where `needle` begins in `haystack`.
pub fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}
