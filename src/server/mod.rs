//! The server side: what stands between a client's socket and the request path.
//!
//! Workers are threads that share nothing but what `Server` tells them and the snapshot they all
//! read. Nothing here knows where configuration comes from.

mod accept;
mod calls;
mod connections;
mod dates;
pub mod gate;
mod h1;
mod h2;
pub mod hello;
mod link;
pub mod proxy_protocol;
mod refusal;
pub mod sockets;
mod transport;
mod worker;

pub use transport::Transport;
pub use worker::{Command, WorkerCx};

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use crate::snapshot::{ListenerId, SnapshotHandle};
use crate::telemetry::{AccessLogger, WorkerId};
use worker::Peers;

/// All workers of the process.
pub struct Server {
    peers: Arc<Peers>,
    threads: Vec<JoinHandle<io::Result<()>>>,
}

impl Server {
    /// Starts `workers` threads that serve what `handle` publishes.
    pub fn start(
        workers: usize,
        handle: &Arc<SnapshotHandle>,
        access_log: &AccessLogger,
        most_connections: usize,
    ) -> io::Result<Self> {
        let (commands, receivers): (Vec<_>, Vec<_>) =
            (0..workers.max(1)).map(|_| mpsc::unbounded_channel()).unzip();
        let open = commands.iter().map(|_| Arc::new(AtomicUsize::new(0))).collect();
        let most = AtomicUsize::new(most_connections);
        let peers = Arc::new(Peers { open, commands, most, verifier: Arc::default() });
        let mut threads = Vec::new();
        for (id, commands) in receivers.into_iter().enumerate() {
            let (handle, access_log, peers) = (handle.clone(), access_log.clone(), peers.clone());
            let run = move || worker::run(WorkerId(id), handle, access_log, peers, commands);
            threads.push(std::thread::Builder::new().name(format!("worker-{id}")).spawn(run)?);
        }
        Ok(Self { peers, threads })
    }

    /// How many workers there are.
    pub fn workers(&self) -> usize {
        self.threads.len()
    }

    /// Accepts on `sockets`, which are dealt out to the workers in turn.
    pub fn listen(&self, id: ListenerId, sockets: Vec<TcpListener>) {
        let workers = self.peers.commands.len().max(1);
        let mut shares: Vec<Vec<TcpListener>> = Vec::new();
        shares.resize_with(workers, Vec::new);
        for (index, socket) in sockets.into_iter().enumerate() {
            if let Some(share) = shares.get_mut(index % workers) {
                share.push(socket);
            }
        }
        for (commands, share) in self.peers.commands.iter().zip(shares) {
            let _ = commands.send(Command::Listen(id, share));
        }
    }

    /// Stops accepting; connections go on.
    pub fn unlisten(&self, id: ListenerId) {
        self.tell(|| Command::Unlisten(id));
    }

    /// Stops accepting anywhere; connections go on.
    pub fn unlisten_all(&self) {
        self.tell(|| Command::UnlistenAll);
    }

    /// Changes how many connections are served at once.
    pub fn limit_connections(&self, most: usize) {
        self.peers.most.store(most, Ordering::Relaxed);
    }

    /// Open connections over all workers.
    pub fn connections(&self) -> usize {
        self.peers.open.iter().map(|open| open.load(Ordering::Relaxed)).sum()
    }

    /// Has every response say that its connection closes. Connections are still accepted.
    pub fn drain(&self) {
        self.tell(|| Command::Drain);
    }

    /// Stops accepting, closes idle connections and waits for the others until `deadline`.
    /// Returns whether all of them ended by themselves.
    pub fn close(self, deadline: Duration) -> bool {
        self.tell(|| Command::Close);
        let until = Instant::now() + deadline;
        let poll = Duration::from_millis(5);
        while self.threads.iter().any(|thread| !thread.is_finished()) {
            if Instant::now() >= until {
                return false;
            }
            std::thread::sleep(poll);
        }
        true
    }

    fn tell(&self, command: impl Fn() -> Command) {
        for commands in &self.peers.commands {
            let _ = commands.send(command());
        }
    }
}
