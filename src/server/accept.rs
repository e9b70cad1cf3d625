//! From an accepted socket to a served connection: PROXY protocol, TLS, and what is spoken.
//!
//! One deadline runs from accept to the first complete head and covers every step here, so no
//! side path is without one.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use rustls::server::Acceptor;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use tokio_rustls::{LazyConfigAcceptor, StartHandshake, TlsAcceptor};

use super::connections::Place;
use super::hello::{self, Hello};
use super::link::ClientTimeouts;
use super::{Transport, WorkerCx, h1, h2, proxy_protocol};
use crate::ir::{EncodedSlashes, ListenerForwarding};
use crate::proxy::{ClientConn, HttpVersion, Passing, Stack, WorkerSnapshot};
use crate::snapshot::{CompiledListener, ListenerId};
use crate::tls::{Admitted, ClientDemand, PolicyId, ServerTls, handshake_kind, handshake_version};
use crate::util::moment::Moment;
use crate::util::wheel::timeout;

/// What an HTTP/2 client sends first (RFC 9113 §3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Serves one accepted socket to its end; `snapshot` is one that knows the listener.
pub async fn serve<S: Stack>(
    worker: WorkerCx<S>,
    snapshot: WorkerSnapshot,
    listener: ListenerId,
    tcp: TcpStream,
    peer: SocketAddr,
    place: Place,
) {
    let Some(listener) = snapshot.listener(listener).cloned() else { return };
    let limits = snapshot.config.settings.limits.clone();
    drop(snapshot); // a long connection must not keep an old snapshot
    let metrics = listener.metrics.clone();
    metrics.accepted(worker.proxy.id);
    let _closed = OnDrop(|| metrics.closed(worker.proxy.id));
    let first_head = Moment::now().after(limits.head_timeout);
    let ready = prepare(&worker, &listener, tcp, peer, limits.head_timeout).await;
    let Ready { transport, conn } = match ready {
        None => return,
        Some(Way::Here(ready)) => ready,
        Some(Way::Through(through)) => {
            drop(listener);
            let Through { mut tcp, ahead, passing } = *through;
            // Boxed: other connections hold no space for this.
            return Box::pin(passing.run(&worker.proxy, &mut tcp, ahead)).await;
        }
    };
    let timeouts =
        ClientTimeouts { first_head, head: limits.head_timeout, keep_alive: limits.keep_alive };
    match conn.version {
        HttpVersion::H1 => {
            metrics.protocol(worker.proxy.id, "http/1.1");
            drop(listener);
            h1::serve(&worker, conn, transport, timeouts, &limits, &place).await;
        }
        HttpVersion::H2 => {
            metrics.protocol(worker.proxy.id, "h2");
            let options = listener.spec.http2.clone();
            drop(listener);
            let serve = h2::serve(&worker, conn, transport, first_head, &options, &limits, &place);
            // Boxed: an HTTP/1 connection holds no space for what HTTP/2 needs.
            Box::pin(serve).await;
        }
    }
}

/// Where a connection goes.
enum Way {
    /// It is served here.
    Here(Ready),
    /// Its TLS is not terminated here.
    Through(Box<Through>),
}

struct Ready {
    transport: Transport,
    conn: Rc<ClientConn>,
}

struct Through {
    tcp: TcpStream,
    /// What was read of it.
    ahead: BytesMut,
    passing: Passing,
}

/// Everything before the first head, within `limit`.
async fn prepare<S: Stack>(
    worker: &WorkerCx<S>,
    listener: &CompiledListener,
    tcp: TcpStream,
    peer: SocketAddr,
    limit: Duration,
) -> Option<Way> {
    let steps = steps(worker, listener, tcp, peer);
    // Boxed: the space of a handshake goes with it.
    match Box::pin(timeout(&worker.proxy.wheel, Some(limit), steps)).await {
        Ok(ready) => ready,
        Err(_) => {
            let what = if listener.tls.is_some() { "handshake_timeout" } else { "head_timeout" };
            listener.metrics.rejected(worker.proxy.id, what);
            None
        }
    }
}

async fn steps<S: Stack>(
    worker: &WorkerCx<S>,
    listener: &CompiledListener,
    mut tcp: TcpStream,
    peer: SocketAddr,
) -> Option<Way> {
    let _ = tcp.set_nodelay(true);
    // An IPv4 client of a dual-stack socket is the client it would be on an IPv4 one.
    let peer = canonical(peer);
    let mut local = tcp.local_addr().unwrap_or(listener.spec.bind);
    if let Some(port) = listener.spec.public_port {
        local.set_port(port);
    }
    let mut client = peer;
    if !listener.spec.proxy_protocol.is_empty() {
        let reject = |reason| listener.metrics.rejected(worker.proxy.id, reason);
        if !listener.spec.proxy_protocol.iter().any(|net| net.contains(&peer.ip())) {
            reject("proxy_protocol_untrusted");
            return None;
        }
        match proxy_protocol::read(&mut tcp).await {
            Ok(Some(addresses)) => (client, local) = (addresses.source, addresses.destination),
            Ok(None) => {}
            Err(error) => {
                reject("proxy_protocol_malformed");
                tracing::debug!(%peer, %error, "PROXY header refused");
                return None;
            }
        }
    }
    let (peer, local) = (canonical(client), canonical(local));
    let (forwarding, encoded_slashes) = (listener.spec.forwarding, listener.spec.encoded_slashes);
    let mut facts = Facts { peer, local, forwarding, encoded_slashes, ..Facts::new(listener.id) };
    let mut ahead = BytesMut::new();
    if listener.passes_by_name() {
        match hello::read(&mut tcp, &mut ahead).await {
            Ok(Hello::Named(name)) => {
                if let Some(passage) = listener.passage(name.as_deref().unwrap_or_default()) {
                    let passing = Passing {
                        listener: listener.name.clone(),
                        metrics: listener.metrics.clone(),
                        passage: passage.clone(),
                        peer,
                        server_name: name.map(Arc::from),
                    };
                    return Some(Way::Through(Box::new(Through { tcp, ahead, passing })));
                }
            }
            Ok(Hello::TooLong) => {
                listener.metrics.rejected(worker.proxy.id, "client_hello_too_long");
                return None;
            }
            // Our own TLS says, and counts, what is wrong.
            Ok(Hello::Other | Hello::Unfinished) | Err(_) => {}
        }
    }
    let transport = match &listener.tls {
        Some(tls) => secure(worker, listener, tls, (tcp, ahead), &mut facts).await?,
        None => sniff(listener, tcp, &mut facts).await?,
    };
    Some(Way::Here(Ready { transport, conn: Rc::new(facts.into_conn()) }))
}

/// The address with an IPv4-mapped IPv6 address (RFC 4291 §2.5.5.2) as what it stands for.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// What is known about a connection before its first request.
struct Facts {
    listener: ListenerId,
    peer: SocketAddr,
    local: SocketAddr,
    forwarding: ListenerForwarding,
    encoded_slashes: EncodedSlashes,
    secure: bool,
    version: HttpVersion,
    server_name: Option<std::sync::Arc<str>>,
    tls_version: Option<&'static str>,
    admitted: Admitted,
    policy: Option<PolicyId>,
}

impl Facts {
    fn new(listener: ListenerId) -> Self {
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        Self {
            listener,
            peer: nowhere,
            local: nowhere,
            forwarding: ListenerForwarding::default(),
            encoded_slashes: EncodedSlashes::default(),
            secure: false,
            version: HttpVersion::H1,
            server_name: None,
            tls_version: None,
            admitted: Admitted::default(),
            policy: None,
        }
    }

    fn into_conn(self) -> ClientConn {
        ClientConn {
            listener: self.listener,
            peer: self.peer,
            local: self.local,
            secure: self.secure,
            version: self.version,
            server_name: self.server_name,
            tls_version: self.tls_version,
            peer_certificate: self.admitted.certificate,
            shown_certificate: self.admitted.shown,
            policy: self.policy,
            leaving: Default::default(),
            peer_text: crate::proxy::ip_value(self.peer.ip()),
            forwarding_lines: crate::proxy::connection_lines(
                self.peer.ip(),
                self.secure,
                self.local.port(),
                self.forwarding,
            ),
            forwarding: self.forwarding,
            encoded_slashes: self.encoded_slashes,
            tunnel: Default::default(),
        }
    }
}

async fn secure<S: Stack>(
    worker: &WorkerCx<S>,
    listener: &CompiledListener,
    tls: &ServerTls,
    stream: (TcpStream, BytesMut),
    facts: &mut Facts,
) -> Option<Transport> {
    let id = worker.proxy.id;
    let failed = |result: &'static str| listener.metrics.handshake(id, result, "-", false);
    let (stream, demand) = match handshake(listener, tls, stream).await {
        Ok(done) => done,
        Err(error) => {
            failed(tls.classify(&error).as_str());
            tracing::debug!(peer = %facts.peer, %error, "TLS handshake failed");
            return None;
        }
    };
    let connection = stream.get_ref().1;
    match tls.admit(connection, demand.as_deref()) {
        Ok(admitted) => facts.admitted = admitted,
        Err(error) => {
            failed(error.as_str());
            return None;
        }
    }
    let version = handshake_version(connection);
    let resumed = handshake_kind(connection) == "resumed";
    listener.metrics.handshake(id, "ok", version, resumed);
    facts.secure = true;
    facts.policy = Some(demand.map_or(tls.policy_id, |demand| demand.id));
    facts.tls_version = Some(version);
    facts.server_name = connection.server_name().map(str::to_ascii_lowercase).map(Into::into);
    // What ALPN agreed on is what is spoken: no guessing from the bytes.
    if connection.alpn_protocol() == Some(b"h2") {
        facts.version = HttpVersion::H2;
    }
    Some(Transport::tls(stream))
}

/// The handshake, and what the host that the client names demands in it. Only where hosts have
/// demands of their own the name is looked at before.
async fn handshake(
    listener: &CompiledListener,
    tls: &ServerTls,
    (tcp, ahead): (TcpStream, BytesMut),
) -> io::Result<(TlsStream<TcpStream>, Option<Arc<ClientDemand>>)> {
    if !listener.asks_by_name() && ahead.is_empty() {
        return Ok((TlsAcceptor::from(tls.config.clone()).accept(tcp).await?, None));
    }
    let hello = begin(tcp, &ahead).await?;
    let name = hello.client_hello().server_name().unwrap_or_default().to_ascii_lowercase();
    let demand = listener.demand(&name).cloned();
    let config = tls.config_for(demand.as_deref()).clone();
    Ok((hello.into_stream(config).await?, demand))
}

/// The handshake up to the client's first message, of which `ahead` was read already.
async fn begin(mut tcp: TcpStream, mut ahead: &[u8]) -> io::Result<StartHandshake<TcpStream>> {
    let mut acceptor = Acceptor::default();
    while !ahead.is_empty() && acceptor.read_tls(&mut ahead)? > 0 {}
    match acceptor.accept() {
        Ok(Some(hello)) => Ok(StartHandshake::from_parts(hello, tcp)),
        Ok(None) => LazyConfigAcceptor::new(acceptor, tcp).await,
        Err((error, mut alert)) => {
            let mut text = Vec::new();
            alert.write_all(&mut text)?;
            let _ = tcp.write_all(&text).await;
            Err(io::Error::new(io::ErrorKind::InvalidData, error))
        }
    }
}

/// Tells HTTP/2 with prior knowledge from HTTP/1 by its preface.
async fn sniff(
    listener: &CompiledListener,
    mut tcp: TcpStream,
    facts: &mut Facts,
) -> Option<Transport> {
    if !listener.spec.protocols.http2 {
        return Some(Transport::tcp(tcp));
    }
    let mut ahead = BytesMut::new();
    while PREFACE.starts_with(&ahead) && ahead.len() < PREFACE.len() {
        // No buffer before there is something to put into it.
        tcp.readable().await.ok()?;
        ahead.reserve(4096);
        if tcp.read_buf(&mut ahead).await.ok()? == 0 {
            return None;
        }
        if ahead.starts_with(PREFACE) {
            break;
        }
    }
    if ahead.starts_with(PREFACE) {
        facts.version = HttpVersion::H2;
    }
    Some(Transport::tcp(tcp).with_ahead(ahead.freeze()))
}

struct OnDrop<F: Fn()>(F);

impl<F: Fn()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}
