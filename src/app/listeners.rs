//! Which listeners are open, and their sockets.
//!
//! A socket is kept here by its address as long as any listener wants that address, so that
//! renaming a listener hands the socket over with everything that waits in it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use crate::control::Listeners;
use crate::server::{Server, sockets};
use crate::snapshot::ListenerId;

/// The sockets of a running server.
pub struct ServerListeners {
    server: Arc<Server>,
    open: BTreeMap<ListenerId, SocketAddr>,
    sockets: HashMap<SocketAddr, Vec<TcpListener>>,
    /// Addresses that were bound by this process at some time.
    bound: HashSet<SocketAddr>,
    /// Sockets that the service manager opened for us (systemd's LISTEN_FDS).
    inherited: Vec<TcpListener>,
}

impl ServerListeners {
    /// Nothing open yet.
    pub fn new(server: Arc<Server>) -> Self {
        let mut fds = listenfd::ListenFd::from_env();
        let mut inherited = Vec::new();
        for index in 0..fds.len() {
            match fds.take_tcp_listener(index) {
                Ok(Some(socket)) => inherited.push(socket),
                Ok(None) => {}
                Err(error) => tracing::warn!(%error, index, "an inherited socket is of no use"),
            }
        }
        let (open, sockets, bound) = (BTreeMap::new(), HashMap::new(), HashSet::new());
        Self { server, open, sockets, bound, inherited }
    }

    /// Whether nothing is open.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    fn sockets(&mut self, address: SocketAddr) -> io::Result<Vec<TcpListener>> {
        if let Some(sockets) = self.sockets.get(&address) {
            return sockets.iter().map(TcpListener::try_clone).collect();
        }
        let workers = self.server.workers();
        let same = |socket: &TcpListener| socket.local_addr().is_ok_and(|local| local == address);
        let sockets = match self.inherited.iter().position(same) {
            Some(index) => sockets::share(self.inherited.swap_remove(index), workers)?,
            None => {
                // Only where we cannot be that somebody: a socket that was closed may linger.
                let shared = self.bound.insert(address) && sockets::is_shared(address);
                let sockets = sockets::bind(address, workers)?;
                if shared {
                    tracing::warn!(
                        %address,
                        "another process listens at this address and gets a part of the connections"
                    );
                }
                sockets
            }
        };
        let clones = sockets.iter().map(TcpListener::try_clone).collect();
        if let Some(local) = sockets.first().and_then(|socket| socket.local_addr().ok()) {
            tracing::info!(address = %local, "listening");
        }
        self.sockets.insert(address, sockets);
        clones
    }
}

impl Listeners for ServerListeners {
    fn open(&mut self, id: ListenerId, address: SocketAddr) -> io::Result<()> {
        if self.open.get(&id) == Some(&address) {
            return Ok(());
        }
        let sockets = self.sockets(address)?;
        self.server.listen(id, sockets);
        self.open.insert(id, address);
        Ok(())
    }

    fn address(&self, id: ListenerId) -> Option<SocketAddr> {
        let sockets = self.sockets.get(self.open.get(&id)?)?;
        sockets.first()?.local_addr().ok()
    }

    fn keep_only(&mut self, wanted: &[ListenerId]) {
        let server = &self.server;
        self.open.retain(|id, address| {
            let keep = wanted.contains(id);
            if !keep {
                tracing::info!(%address, "listener closed");
                server.unlisten(*id);
            }
            keep
        });
        let open = &self.open;
        self.sockets.retain(|address, _| open.values().any(|other| other == address));
    }

    fn limit_connections(&mut self, most: Option<usize>) {
        self.server.limit_connections(most.unwrap_or_else(super::default_connections));
    }
}
