//! One worker's connections to endpoints.
//!
//! HTTP/1 connections wait in a stack (the last used is the most likely to be open), HTTP/2
//! connections are shared. Nothing here is shared between workers.

mod connect;
mod io;
mod room;
mod waitlist;

pub use connect::open;
pub use io::UpstreamIo;
pub use waitlist::{Hope, Waitlist};

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use foldhash::fast::FixedState;
use tokio::sync::{Notify, Semaphore};

use super::h1::H1Conn;
use super::h2::H2Conn;
use super::{Endpoint, EndpointId, Transport};
use crate::ir::{PoolOptions, UpstreamProtocol};
use crate::telemetry::WorkerId;
use crate::util::moment::Moment;
use crate::util::wheel::Wheel;

/// A connection ready for an exchange.
pub enum Connection {
    /// HTTP/1: for one exchange at a time.
    H1(Box<H1Conn>),
    /// HTTP/2: shared.
    H2(H2Conn),
}

/// What a request wants of its connection.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wish {
    /// Not one that was used before.
    pub fresh: bool,
    /// One that was looked at this moment: the request cannot be sent again if it is lost on a
    /// connection that its endpoint closed while it was idle.
    pub certain: bool,
    /// Not one that speaks HTTP/2: the request switches protocols the HTTP/1 way.
    pub h1_only: bool,
}

/// One worker's connections.
pub struct Pools {
    worker: WorkerId,
    wheel: Rc<Wheel>,
    /// Told when others wait for the places of idle connections.
    keeper: Arc<Notify>,
    endpoints: RefCell<HashMap<EndpointId, EndpointPool, FixedState>>,
}

struct EndpointPool {
    endpoint: Arc<Endpoint>,
    options: PoolOptions,
    // Boxed: a connection moves between the pool and its exchanges, and it is large.
    #[expect(clippy::vec_box, reason = "the box is what moves")]
    h1: Vec<Box<H1Conn>>,
    h2: Vec<H2Conn>,
    /// What ALPN chose last, where the protocol is negotiated.
    speaks_h2: bool,
    /// One HTTP/2 dial at a time: those who wait will share the connection.
    dialling: Rc<Semaphore>,
    waitlist: Rc<Waitlist>,
}

impl EndpointPool {
    /// An HTTP/2 connection with room for another stream; where `since` is given, one that was made
    /// later.
    fn share(&mut self, server_name: Option<&str>, since: Option<Moment>) -> Option<H2Conn> {
        if self.h2.is_empty() {
            return None;
        }
        self.h2.retain(|conn| !conn.is_closed());
        let fits = |conn: &&H2Conn| {
            conn.has_room()
                && conn.server_name().map(|name| &**name) == server_name
                && since.is_none_or(|since| conn.created() > since)
        };
        self.h2.iter().find(fits).cloned()
    }
}

impl Pools {
    /// No connections yet.
    pub fn new(worker: WorkerId, wheel: Rc<Wheel>) -> Self {
        Self { worker, wheel, keeper: Arc::default(), endpoints: RefCell::default() }
    }

    /// The worker these connections belong to.
    pub fn worker(&self) -> WorkerId {
        self.worker
    }

    /// An open connection that is free now; none where the wish is for one that nobody has used. `server_name` is the TLS name it must have been made
    /// with.
    pub fn checkout(
        &self,
        endpoint: &Endpoint,
        server_name: Option<&str>,
        wish: Wish,
    ) -> Option<Connection> {
        if wish.fresh {
            return None;
        }
        let mut endpoints = self.endpoints.borrow_mut();
        let pool = endpoints.get_mut(&endpoint.id)?;
        if !wish.h1_only
            && let Some(conn) = pool.share(server_name, None)
        {
            return Some(Connection::H2(conn));
        }
        // Dead ones met on the way are dropped; those with another TLS name are put back.
        let mut others = Vec::new();
        let mut found = None;
        while let Some(mut conn) = pool.h1.pop() {
            if conn.server_name.as_deref() != server_name {
                others.push(conn);
            } else if conn.is_alive(wish.certain) {
                found = Some(Connection::H1(conn));
                break;
            }
        }
        if !others.is_empty() {
            others.reverse();
            pool.h1.append(&mut others);
        }
        found
    }

    /// Takes back a connection after a clean exchange.
    pub fn give_back(&self, mut conn: Box<H1Conn>) {
        if conn.endpoint.is_retired() {
            return;
        }
        let mut endpoints = self.endpoints.borrow_mut();
        let Some(pool) = endpoints.get_mut(&conn.endpoint.id) else { return };
        let old = conn.idle_since.since(conn.created) > pool.options.max_age;
        if !old && pool.h1.len() < pool.options.max_idle as usize {
            conn.shrink();
            match conn.endpoint.common.connections.limited().is_some() {
                false => pool.h1.push(conn),
                true => pool.keep(conn),
            }
        }
    }

    /// Closes what has been idle for too long or leads to endpoints that are gone. Called about
    /// once a second.
    pub fn sweep(&self, now: Moment) {
        let mut short = false;
        let mut endpoints = self.endpoints.borrow_mut();
        endpoints.retain(|_, pool| {
            if pool.endpoint.is_retired() {
                return false; // exchanges in flight keep their connections
            }
            let idle = pool.options.idle_timeout;
            pool.h1.retain(|conn| now.since(conn.idle_since) < idle);
            pool.h2.retain(|conn| {
                let unused = conn.streams() == 0;
                let expired = now.since(conn.idle_since()) >= idle;
                let old = now.since(conn.created()) > pool.options.max_age;
                !(conn.is_closed() || unused && expired || old)
            });
            short |= pool.settle();
            true
        });
        if short {
            self.keeper.notify_one();
        }
    }

    /// Whether the next connection to `endpoint` is expected to be shared.
    fn expects_h2(&self, endpoint: &Endpoint, transport: &Transport) -> bool {
        match transport.protocol {
            UpstreamProtocol::Http1 | UpstreamProtocol::Http10 => false,
            UpstreamProtocol::Http2 => true,
            UpstreamProtocol::Auto => {
                self.endpoints.borrow().get(&endpoint.id).is_some_and(|pool| pool.speaks_h2)
            }
        }
    }

    /// An HTTP/2 connection with room for another stream that was made after `since`.
    fn newer(
        &self,
        endpoint: &Endpoint,
        server_name: Option<&str>,
        since: Moment,
    ) -> Option<Connection> {
        let mut endpoints = self.endpoints.borrow_mut();
        let pool = endpoints.get_mut(&endpoint.id)?;
        pool.share(server_name, Some(since)).map(Connection::H2)
    }

    fn dialling(&self, endpoint: &Arc<Endpoint>, transport: &Transport) -> Rc<Semaphore> {
        self.with_pool(endpoint, transport, |pool| pool.dialling.clone())
    }

    fn with_pool<R>(
        &self,
        endpoint: &Arc<Endpoint>,
        transport: &Transport,
        with: impl FnOnce(&mut EndpointPool) -> R,
    ) -> R {
        let mut endpoints = self.endpoints.borrow_mut();
        let pool = endpoints.entry(endpoint.id).or_insert_with(|| EndpointPool {
            endpoint: endpoint.clone(),
            options: transport.pool.clone(),
            h1: Vec::new(),
            h2: Vec::new(),
            speaks_h2: false,
            dialling: Rc::new(Semaphore::new(1)),
            waitlist: Rc::new(Waitlist::new(self.worker, self.keeper.clone())),
        });
        if pool.options != transport.pool {
            pool.options = transport.pool.clone();
        }
        with(pool)
    }
}
