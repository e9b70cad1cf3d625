//! Well-behaved back ends on hyper: HTTP/1, cleartext HTTP/2, or TLS with what ALPN agrees on;
//! by default they describe the request they got.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::{Body, Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ServerConfig;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

/// A response of a back end.
pub type Answer = Response<UnsyncBoxBody<Bytes, io::Error>>;

/// A hyper back end.
pub struct Server {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    open: Arc<AtomicUsize>,
    requests: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

/// What a back end speaks.
#[derive(Clone)]
enum Protocol {
    Http1,
    Http2,
    Tls(Arc<ServerConfig>),
}

/// A request as the echo back end describes it.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Echoed {
    /// The back end's name.
    pub name: String,
    /// The method.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// `:authority` or `Host`.
    pub host: String,
    /// `HTTP/1.1` or `HTTP/2.0`.
    pub version: String,
    /// Header fields, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Body bytes.
    pub length: u64,
    /// [`fingerprint`] of the body.
    pub fingerprint: u64,
    /// Trailer fields.
    pub trailers: Vec<(String, String)>,
    /// Which connection of the back end, from 0.
    pub connection: usize,
    /// The server name of the TLS handshake.
    pub sni: Option<String>,
    /// Whether the client showed a certificate.
    pub client_certificate: bool,
}

impl Echoed {
    /// Reads the description out of a response body.
    #[track_caller]
    pub fn of(body: &[u8]) -> Self {
        match serde_json::from_slice(body) {
            Ok(echoed) => echoed,
            Err(error) => panic!("no echo ({error}): {:?}", String::from_utf8_lossy(body)),
        }
    }

    /// The first header field of `name`.
    pub fn header(&self, name: &str) -> Option<&str> {
        let field = self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name));
        field.map(|(_, value)| value.as_str())
    }
}

/// What is known of a connection.
#[derive(Clone, Default)]
struct Peer {
    connection: usize,
    sni: Option<String>,
    client_certificate: bool,
}

impl Server {
    /// An HTTP/1 echo.
    pub async fn echo() -> Self {
        Self::named("echo").await
    }

    /// An HTTP/1 echo that says its name.
    pub async fn named(name: &str) -> Self {
        Self::echo_over(Protocol::Http1, name).await
    }

    /// An echo over cleartext HTTP/2.
    pub async fn h2c() -> Self {
        Self::echo_over(Protocol::Http2, "h2c").await
    }

    /// An echo over TLS, speaking what ALPN agrees on.
    pub async fn tls(config: Arc<ServerConfig>) -> Self {
        Self::echo_over(Protocol::Tls(config), "tls").await
    }

    /// A gRPC-like echo over cleartext HTTP/2: every message comes back as it arrives, then
    /// trailers with `grpc-status` and the request's own trailers.
    pub async fn grpc_h2c() -> Self {
        Self::over(Protocol::Http2, |request, _| async move { grpc(request) }).await
    }

    /// The same over TLS.
    pub async fn grpc_tls(config: Arc<ServerConfig>) -> Self {
        Self::over(Protocol::Tls(config), |request, _| async move { grpc(request) }).await
    }

    /// A cleartext HTTP/2 back end that answers with `handler`.
    pub async fn http2<F, Fut>(handler: F) -> Self
    where
        F: Fn(Request<Incoming>) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Answer> + Send + 'static,
    {
        Self::over(Protocol::Http2, move |request, _| handler(request)).await
    }

    async fn echo_over(protocol: Protocol, name: &str) -> Self {
        let name: Arc<str> = name.into();
        Self::over(protocol, move |request, peer| echo(Arc::clone(&name), request, peer)).await
    }

    async fn over<F, Fut>(protocol: Protocol, handler: F) -> Self
    where
        F: Fn(Request<Incoming>, Peer) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Answer> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let connections = Arc::new(AtomicUsize::new(0));
        let open = Arc::new(AtomicUsize::new(0));
        let requests = Arc::new(AtomicUsize::new(0));
        let task = tokio::spawn({
            let connections = Arc::clone(&connections);
            let open = Arc::clone(&open);
            let requests = Arc::clone(&requests);
            async move {
                let mut tasks = JoinSet::new();
                while let Ok((stream, _)) = listener.accept().await {
                    let _ = stream.set_nodelay(true);
                    let peer = Peer {
                        connection: connections.fetch_add(1, Ordering::SeqCst),
                        ..Peer::default()
                    };
                    let requests = Arc::clone(&requests);
                    let handler = handler.clone();
                    let handler = move |request, peer| {
                        requests.fetch_add(1, Ordering::SeqCst);
                        handler(request, peer)
                    };
                    open.fetch_add(1, Ordering::SeqCst);
                    let (open, served) =
                        (Arc::clone(&open), serve(stream, protocol.clone(), peer, handler));
                    tasks.spawn(async move {
                        served.await;
                        open.fetch_sub(1, Ordering::SeqCst);
                    });
                }
            }
        });
        Self { address, connections, open, requests, task }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connections accepted so far.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// Connections open now.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }

    /// Requests received so far.
    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve<F, Fut>(
    stream: tokio::net::TcpStream,
    protocol: Protocol,
    mut peer: Peer,
    handler: F,
) where
    F: Fn(Request<Incoming>, Peer) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Answer> + Send + 'static,
{
    match protocol {
        Protocol::Http1 => serve_http1(stream, peer, handler).await,
        Protocol::Http2 => serve_http2(stream, peer, handler).await,
        Protocol::Tls(config) => {
            let Ok(stream) = TlsAcceptor::from(config).accept(stream).await else { return };
            let session = stream.get_ref().1;
            peer.sni = session.server_name().map(str::to_owned);
            peer.client_certificate = session.peer_certificates().is_some();
            if session.alpn_protocol() == Some(b"h2") {
                serve_http2(stream, peer, handler).await;
            } else {
                serve_http1(stream, peer, handler).await;
            }
        }
    }
}

async fn serve_http1<F, Fut>(io: impl super::Io + 'static, peer: Peer, handler: F)
where
    F: Fn(Request<Incoming>, Peer) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Answer> + Send + 'static,
{
    let service = service_fn(move |request| {
        let answer = handler(request, peer.clone());
        async move { Ok::<_, io::Error>(answer.await) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .half_close(true)
        .serve_connection(TokioIo::new(io), service);
    let _ = connection.with_upgrades().await;
}

async fn serve_http2<F, Fut>(io: impl super::Io + 'static, peer: Peer, handler: F)
where
    F: Fn(Request<Incoming>, Peer) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Answer> + Send + 'static,
{
    let service = service_fn(move |request| {
        let answer = handler(request, peer.clone());
        async move { Ok::<_, io::Error>(answer.await) }
    });
    let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .enable_connect_protocol()
        .serve_connection(TokioIo::new(io), service);
    let _ = connection.await;
}

/// Describes the request. `?status=` sets the status, `?size=` answers with so many bytes of
/// [`body_pattern`] instead, `?delay_ms=` waits before the response.
async fn echo(name: Arc<str>, request: Request<Incoming>, peer: Peer) -> Answer {
    let (head, mut body) = request.into_parts();
    let host = match (head.uri.authority(), head.headers.get("host")) {
        (Some(authority), _) => authority.to_string(),
        (None, Some(host)) => String::from_utf8_lossy(host.as_bytes()).into_owned(),
        (None, None) => String::new(),
    };
    let mut echoed = Echoed {
        name: name.to_string(),
        method: head.method.to_string(),
        target: head.uri.path_and_query().map(ToString::to_string).unwrap_or_default(),
        host,
        version: format!("{:?}", head.version),
        headers: fields(&head.headers),
        connection: peer.connection,
        sni: peer.sni,
        client_certificate: peer.client_certificate,
        fingerprint: FNV_OFFSET,
        ..Echoed::default()
    };
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return answer(500, "the request body broke off") };
        if let Some(data) = frame.data_ref() {
            echoed.length += data.len() as u64;
            echoed.fingerprint = fnv(echoed.fingerprint, data);
        }
        if let Some(trailers) = frame.trailers_ref() {
            echoed.trailers = fields(trailers);
        }
    }
    let query = head.uri.query().unwrap_or_default();
    let parameter = |name: &str| {
        let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.find(|(key, _)| *key == name).and_then(|(_, value)| value.parse::<u64>().ok())
    };
    if let Some(delay) = parameter("delay_ms") {
        super::pass(Duration::from_millis(delay)).await;
    }
    let body = match parameter("size") {
        Some(size) => body_pattern(usize::try_from(size).expect("a size of this machine")),
        None => serde_json::to_vec(&echoed).expect("an echo is JSON"),
    };
    let mut answer = answer(200, body);
    if let Some(status) = parameter("status").and_then(|status| u16::try_from(status).ok()) {
        *answer.status_mut() = StatusCode::from_u16(status).expect("a status");
    }
    answer
}

fn grpc(request: Request<Incoming>) -> Answer {
    let (head, mut body) = request.into_parts();
    let (send, answer_body) = flow();
    tokio::spawn(async move {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", "0".parse().expect("a value"));
        while let Some(Ok(frame)) = body.frame().await {
            match frame.into_data() {
                Ok(data) => {
                    if send.send(Ok(Frame::data(data))).await.is_err() {
                        return;
                    }
                }
                Err(frame) => {
                    if let Ok(sent) = frame.into_trailers() {
                        trailers.extend(sent);
                    }
                }
            }
        }
        let _ = send.send(Ok(Frame::trailers(trailers))).await;
    });
    let te = head.headers.get("te").cloned();
    let mut answer = Response::new(answer_body);
    answer.headers_mut().insert("content-type", "application/grpc".parse().expect("a value"));
    if let Some(te) = te {
        answer.headers_mut().insert("x-te-seen", te);
    }
    answer
}

/// A response with a whole body.
pub fn answer(status: u16, body: impl Into<Bytes>) -> Answer {
    let body = http_body_util::Full::new(body.into()).map_err(|never| match never {});
    let mut answer = Response::new(body.boxed_unsync());
    *answer.status_mut() = StatusCode::from_u16(status).expect("a status");
    answer
}

/// What a body is fed through.
type Feed = mpsc::Sender<Result<Frame<Bytes>, io::Error>>;

/// A body fed from elsewhere.
fn flow() -> (Feed, UnsyncBoxBody<Bytes, io::Error>) {
    let (send, receive) = mpsc::channel(4);
    (send, Flow(receive).boxed_unsync())
}

struct Flow(mpsc::Receiver<Result<Frame<Bytes>, io::Error>>);

impl Body for Flow {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        self.0.poll_recv(context)
    }
}

fn fields(headers: &HeaderMap) -> Vec<(String, String)> {
    let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect()
}

const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;

/// FNV-1a, 64 bits: tells whether a body arrived as it was sent.
pub fn fingerprint(bytes: &[u8]) -> u64 {
    fnv(FNV_OFFSET, bytes)
}

fn fnv(state: u64, bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(state, |state, byte| (state ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

/// A body in which a lost, doubled or moved piece shows.
pub fn body_pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at.wrapping_mul(2_654_435_761) >> 11) as u8).collect()
}
