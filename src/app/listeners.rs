//! Which listeners are open, and their sockets.
//!
//! A socket is kept here by its address as long as any listener wants that address, so that
//! renaming a listener hands the socket over with everything that waits in it.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;

use super::inherited::Inherited;
use super::successor::Estate;
use crate::control::Listeners;
use crate::server::{Server, sockets};
use crate::snapshot::ListenerId;

/// The listeners of a running server.
pub struct ServerListeners {
    server: Arc<Server>,
    open: BTreeMap<ListenerId, SocketAddr>,
    sockets: Rc<RefCell<Sockets>>,
}

/// Listening sockets by their addresses, as many as there are workers. Shared with whoever hands
/// them on to a successor.
pub struct Sockets {
    open: HashMap<SocketAddr, Vec<TcpListener>>,
    /// Addresses that were bound by this process at some time.
    bound: HashSet<SocketAddr>,
    inherited: Inherited,
}

impl Sockets {
    /// None open yet.
    pub fn new(inherited: Inherited) -> Self {
        Self { open: HashMap::new(), bound: HashSet::new(), inherited }
    }

    /// All of them, for a successor.
    ///
    /// # Errors
    /// Where the process has no descriptors left.
    pub fn estate(&self) -> io::Result<Estate> {
        let clones = |sockets: &mut dyn Iterator<Item = &TcpListener>| {
            sockets.map(TcpListener::try_clone).collect::<io::Result<Vec<_>>>()
        };
        Ok(Estate {
            listening: clones(&mut self.open.values().flatten())?,
            unused: clones(&mut self.inherited.iter())?,
        })
    }

    /// Closes those of a predecessor that no listener wanted.
    pub fn close_unwanted(&mut self) {
        self.inherited.close_unwanted();
    }

    /// Closes all of them.
    pub fn close(&mut self) {
        self.open.clear();
        self.inherited = Inherited::default();
    }

    /// One socket or more for each of `workers` that listens at `address`.
    fn get(&mut self, address: SocketAddr, workers: usize) -> io::Result<Vec<TcpListener>> {
        if let Some(sockets) = self.open.get(&address) {
            return sockets.iter().map(TcpListener::try_clone).collect();
        }
        let inherited = self.inherited.take(address);
        let sockets = if inherited.is_empty() {
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
        } else {
            sockets::share(inherited, workers)?
        };
        let clones = sockets.iter().map(TcpListener::try_clone).collect();
        if let Some(local) = sockets.first().and_then(|socket| socket.local_addr().ok()) {
            tracing::info!(address = %local, "listening");
        }
        self.open.insert(address, sockets);
        clones
    }
}

impl ServerListeners {
    /// Nothing open yet.
    pub fn new(server: Arc<Server>, sockets: Rc<RefCell<Sockets>>) -> Self {
        Self { server, open: BTreeMap::new(), sockets }
    }

    /// Whether nothing is open.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }
}

impl Listeners for ServerListeners {
    fn open(&mut self, id: ListenerId, address: SocketAddr) -> io::Result<()> {
        if self.open.get(&id) == Some(&address) {
            return Ok(());
        }
        let sockets = self.sockets.borrow_mut().get(address, self.server.workers())?;
        self.server.listen(id, sockets);
        self.open.insert(id, address);
        Ok(())
    }

    fn address(&self, id: ListenerId) -> Option<SocketAddr> {
        let sockets = self.sockets.borrow();
        sockets.open.get(self.open.get(&id)?)?.first()?.local_addr().ok()
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
        let wanted = |address: &SocketAddr| open.values().any(|other| other == address);
        self.sockets.borrow_mut().open.retain(|address, _| wanted(address));
    }

    fn limit_connections(&mut self, most: Option<usize>) {
        self.server.limit_connections(most.unwrap_or_else(super::default_connections));
    }
}
