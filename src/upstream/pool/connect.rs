//! Making a connection: TCP, TLS, and the choice of protocol.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::{Connection, Pools, UpstreamIo, Wish};
use crate::error::{ProxyError, Replay};
use crate::ir::UpstreamProtocol;
use crate::telemetry::Reason;
use crate::tls::ClientTls;
use crate::upstream::h1::H1Conn;
use crate::upstream::h2::H2Conn;
use crate::upstream::limits::Place;
use crate::upstream::{Endpoint, Transport};
use crate::util::moment::Moment;

/// How long data may stay unacknowledged before the kernel gives a connection up (RFC 5482).
const USER_TIMEOUT: Duration = Duration::from_secs(20);

impl Pools {
    /// A free connection to `endpoint`.
    pub fn reuse(
        &self,
        endpoint: &Endpoint,
        server_name: Option<&Arc<str>>,
        wish: Wish,
    ) -> Option<Connection> {
        let connection = self.checkout(endpoint, server_name.map(|name| &**name), wish)?;
        endpoint.metrics.reused(self.worker);
        Some(connection)
    }

    /// A new connection to `endpoint`, or one that another request made meanwhile. Where
    /// connections are limited it has `place`, or one that is to be had at once; `None` is that
    /// there is none. Nothing of a request is written here, so every failure leaves the request
    /// free to go elsewhere.
    pub async fn connect(
        &self,
        endpoint: &Arc<Endpoint>,
        transport: &Transport,
        server_name: Option<&Arc<str>>,
        wish: Wish,
        mut place: Option<Place>,
    ) -> Result<Option<Connection>, ProxyError> {
        let asked = Moment::now();
        let turn = (!wish.h1_only && self.expects_h2(endpoint, transport))
            .then(|| self.dialling(endpoint, transport));
        let _turn = match &turn {
            None => None,
            Some(turn) => {
                let turn = turn.acquire().await;
                // Whoever had the turn before may have left a connection to share.
                let name = server_name.map(|name| &**name);
                let left = match wish.fresh {
                    true => self.newer(endpoint, name, asked),
                    false => self.checkout(endpoint, name, wish),
                };
                if let Some(connection) = left {
                    return Ok(Some(connection));
                }
                Some(turn)
            }
        };
        if place.is_none()
            && let Some(turnstile) = endpoint.common.connections.limited()
        {
            place = self.place(turnstile).await;
            if place.is_none() {
                return Ok(None);
            }
        }
        let dialled = self.dial(endpoint, transport, server_name, wish, place).await;
        dialled.map(Some).map_err(|error| error.replay(Replay::Unwritten))
    }

    async fn dial(
        &self,
        endpoint: &Arc<Endpoint>,
        transport: &Transport,
        server_name: Option<&Arc<str>>,
        wish: Wish,
        place: Option<Place>,
    ) -> Result<Connection, ProxyError> {
        let started = Moment::now();
        let name = server_name.map_or("", |name| name);
        let io = open(endpoint.address, transport.tls.as_deref(), name, wish.h1_only).await?;
        endpoint.metrics.connected(self.worker, started.elapsed());
        let by_prior_knowledge =
            transport.protocol == UpstreamProtocol::Http2 && transport.tls.is_none();
        let speaks_h2 = by_prior_knowledge || io.negotiated_h2();
        if transport.protocol == UpstreamProtocol::Http2 && !speaks_h2 {
            return Err(ProxyError::upstream(Reason::UpstreamProtocol)
                .because("the endpoint did not agree on h2 by ALPN"));
        }
        self.with_pool(endpoint, transport, |pool| {
            pool.speaks_h2 = speaks_h2 || wish.h1_only && pool.speaks_h2
        });
        let server_name = server_name.cloned();
        if !speaks_h2 {
            let conn = H1Conn::new(io, endpoint.clone(), server_name, self.worker, place);
            return Ok(Connection::H1(Box::new(conn)));
        }
        let waitlist = self.with_pool(endpoint, transport, |pool| pool.waitlist.clone());
        let (name, list) = (server_name.clone(), waitlist.clone());
        let wheel = self.wheel.clone();
        let conn = H2Conn::handshake(io, endpoint.clone(), name, self.worker, place, list, wheel);
        let conn = conn.await?;
        self.with_pool(endpoint, transport, |pool| pool.h2.push(conn.clone()));
        waitlist.call_all(server_name.as_ref());
        Ok(Connection::H2(conn))
    }
}

/// A byte stream to `address`: TLS for `server_name` where `tls` is given and names no other,
/// agreeing on HTTP/1 alone where that is wanted. Belongs to nobody's pool.
pub async fn open(
    address: SocketAddr,
    tls: Option<&ClientTls>,
    server_name: &str,
    h1_only: bool,
) -> Result<UpstreamIo, ProxyError> {
    let tcp = TcpStream::connect(address)
        .await
        .map_err(|error| ProxyError::upstream(Reason::ConnectFailed).because(error))?;
    tune(&tcp);
    let Some(tls) = tls else { return Ok(UpstreamIo::Tcp(tcp)) };
    let config = if h1_only { &tls.h1_config } else { &tls.config };
    let name = tls.server_name(server_name).map_err(tls_failed)?;
    let stream = TlsConnector::from(config.clone()).connect(name, tcp).await;
    Ok(UpstreamIo::Tls(Box::new(stream.map_err(tls_failed)?)))
}

fn tls_failed(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> ProxyError {
    ProxyError::upstream(Reason::UpstreamTls).because(error)
}

/// Options a proxy wants; a kernel that refuses one still gives a working connection.
fn tune(tcp: &TcpStream) {
    let socket = socket2::SockRef::from(tcp);
    let _ = socket.set_tcp_nodelay(true);
    let _ = socket.set_tcp_user_timeout(Some(USER_TIMEOUT));
}
