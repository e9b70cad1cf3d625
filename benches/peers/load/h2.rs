//! The HTTP/2 generator: connections over TLS, each with a fixed number of streams in flight.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::Reason;
use h2::client::SendRequest;
use http::header::{ACCEPT, USER_AGENT};
use http::{HeaderValue, Request, StatusCode, Uri};
use tokio::net::TcpStream;
use tokio::task::{JoinSet, LocalSet};
use tokio_rustls::TlsConnector;

use super::{Counted, Meter, path};
use crate::certificate::{HOST, TlsClient};

/// What to load a proxy with.
#[derive(Clone, Debug)]
pub struct H2Load {
    pub proxy: SocketAddr,
    pub tls: TlsClient,
    /// Connections at once.
    pub connections: usize,
    /// Requests in flight on each.
    pub streams: usize,
    /// The length of the body asked for and expected, bytes.
    pub body: usize,
}

type Shared = Rc<RefCell<Meter>>;

impl H2Load {
    /// Runs until `meter` says that the turn is over.
    pub fn run(&self, meter: Meter) -> io::Result<Counted> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let meter = Rc::new(RefCell::new(meter));
        let tasks = LocalSet::new();
        for _ in 0..self.connections {
            tasks.spawn_local(connections(self.clone(), Rc::clone(&meter)));
        }
        runtime.block_on(tasks.run_until(async {
            while meter.borrow_mut().tick()? {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            Ok::<_, io::Error>(())
        }))?;
        drop(tasks);
        let meter = Rc::into_inner(meter).ok_or_else(|| io::Error::other("a task outlived"))?;
        Ok(meter.into_inner().finish())
    }
}

/// Why a stream can go on no longer on its connection.
enum End {
    /// The proxy wants a new connection; no request was lost.
    Graceful,
    Wrong(String),
}

/// An error of a request in flight.
impl From<h2::Error> for End {
    fn from(error: h2::Error) -> Self {
        match error.reason() {
            // Not processed, so a client may send it again (RFC 9113 §8.7).
            Some(Reason::REFUSED_STREAM) if error.is_remote() => Self::Graceful,
            _ => Self::Wrong(error.to_string()),
        }
    }
}

impl From<io::Error> for End {
    fn from(error: io::Error) -> Self {
        Self::Wrong(error.to_string())
    }
}

/// One connection after another.
async fn connections(load: H2Load, meter: Shared) {
    loop {
        if let Err(End::Wrong(what)) = connection(&load, &meter).await {
            meter.borrow_mut().error(what);
            // A proxy that refuses at once must not keep this thread from its clock.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

async fn connection(load: &H2Load, meter: &Shared) -> Result<(), End> {
    let socket = TcpStream::connect(load.proxy).await?;
    socket.set_nodelay(true)?;
    let connector = TlsConnector::from(load.tls.config.clone());
    let socket = connector.connect(load.tls.name.clone(), socket).await?;
    let (sender, connection) = h2::client::Builder::new()
        .initial_window_size(1 << 20)
        .initial_connection_window_size(1 << 20)
        .handshake::<_, Bytes>(socket)
        .await?;
    // How the connection ends is told by its streams: once they are done, its last frames may find
    // the other side gone.
    let driver = tokio::task::spawn_local(connection);
    let mut streams = JoinSet::new();
    for _ in 0..load.streams {
        streams.spawn_local(stream(sender.clone(), load.body, Rc::clone(meter)));
    }
    drop(sender);
    let mut outcome = Ok(());
    while let Some(end) = streams.join_next().await {
        if let Err(End::Wrong(what)) = end.map_err(|error| End::Wrong(error.to_string()))? {
            outcome = Err(End::Wrong(what));
        }
    }
    driver.abort();
    outcome
}

/// One request after another, until something goes wrong.
async fn stream(sender: SendRequest<Bytes>, body: usize, meter: Shared) -> Result<(), End> {
    let mut sender = sender;
    let uri: Uri = format!("https://{HOST}{}", path(body))
        .parse()
        .map_err(|_| End::Wrong("a bad URI".into()))?;
    loop {
        // Nothing of a request was sent yet: the proxy wants no more on this connection.
        sender = sender.ready().await.map_err(|_| End::Graceful)?;
        let sent = Instant::now();
        let mut request = Request::new(());
        *request.uri_mut() = uri.clone();
        let headers = request.headers_mut();
        headers.insert(USER_AGENT, HeaderValue::from_static("peers/1"));
        headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
        let (response, _) = sender.send_request(request, true)?;
        let response = response.await?;
        if response.status() != StatusCode::OK {
            return Err(End::Wrong(format!("status {}", response.status())));
        }
        let mut stream = response.into_body();
        let mut length = 0;
        while let Some(piece) = stream.data().await {
            let piece = piece?;
            length += piece.len();
            stream.flow_control().release_capacity(piece.len())?;
        }
        if length != body {
            return Err(End::Wrong(format!("a body of {length} bytes")));
        }
        meter.borrow_mut().answered(sent);
        if meter.borrow().is_full() {
            return std::future::pending().await;
        }
    }
}
