//! A worker: one thread, one runtime, its own listeners, connections and pools.

use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::mpsc::error::SendError;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::accept;
use super::calls::Calls;
use super::connections::Connections;
use super::dates::Dates;
use super::sockets::BACKLOG;
use crate::proxy::{Stack, Verifier, Worker, stack};
use crate::snapshot::{ListenerId, SnapshotHandle};
use crate::telemetry::{AccessLogger, WorkerId};
use crate::util::alarm::Alarm;
use crate::util::moment::Moment;

/// How long accepting pauses when the process is out of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What a worker is told to do.
pub enum Command {
    /// Serves a connection that another worker accepted.
    Adopt(ListenerId, TcpStream, SocketAddr),
    /// Closes idle connections and ends once none is left.
    Close,
    /// Responses say that their connection will close.
    Drain,
    /// Accepts connections on these sockets, and on no others that the listener may have had.
    Listen(ListenerId, Vec<TcpListener>),
    /// Stops accepting.
    Unlisten(ListenerId),
    /// Stops accepting anywhere.
    UnlistenAll,
}

/// What all workers know of each other.
pub struct Peers {
    /// Open connections by worker.
    pub open: Vec<Arc<AtomicUsize>>,
    /// The commands of each worker.
    pub commands: Vec<mpsc::UnboundedSender<Command>>,
    /// The most connections over all workers.
    pub most: AtomicUsize,
    /// What checks passwords.
    pub verifier: Arc<Verifier>,
}

/// What every connection of a worker needs.
pub struct WorkerCx<S: Stack> {
    /// The request path's share.
    pub proxy: Rc<Worker>,
    /// The request path.
    pub stack: S,
    /// The requests under way.
    pub calls: Rc<Calls<S::Future>>,
    /// The date that responses over HTTP/2 owe.
    pub dates: Rc<Dates>,
    connections: Rc<Connections>,
    peers: Arc<Peers>,
}

impl<S: Stack> Clone for WorkerCx<S> {
    fn clone(&self) -> Self {
        Self {
            proxy: self.proxy.clone(),
            stack: self.stack.clone(),
            calls: self.calls.clone(),
            dates: self.dates.clone(),
            connections: self.connections.clone(),
            peers: self.peers.clone(),
        }
    }
}

/// Runs a worker on this thread until it is told to close and its last connection is gone.
pub fn run(
    id: WorkerId,
    handle: Arc<SnapshotHandle>,
    access_log: AccessLogger,
    peers: Arc<Peers>,
    commands: mpsc::UnboundedReceiver<Command>,
) -> std::io::Result<()> {
    // Without the runtime's timers: see `util::alarm`.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build_local(tokio::runtime::LocalOptions::default())?;
    runtime.block_on(async move {
        let alarm = Alarm::new()?;
        let open = peers.open.get(id.0).cloned().unwrap_or_default();
        let cx = WorkerCx {
            proxy: Worker::new(id, handle, access_log, peers.verifier.clone()),
            stack: stack(),
            calls: Calls::new(),
            dates: Rc::new(Dates::new()),
            connections: Connections::new(open),
            peers,
        };
        tokio::task::spawn_local(tick(cx.proxy.clone(), alarm));
        tokio::task::spawn_local(sweep(cx.proxy.clone()));
        tokio::task::spawn_local(cx.proxy.pools.clone().make_room());
        obey(cx, commands).await;
        Ok(())
    })
}

async fn tick(worker: Rc<Worker>, alarm: Alarm) {
    if let Err(error) = worker.wheel.clone().drive(alarm).await {
        tracing::error!(%error, "a worker's deadlines have stopped");
    }
}

async fn sweep(worker: Rc<Worker>) {
    loop {
        worker.wheel.sleep(Duration::from_secs(1)).await;
        worker.pools.sweep(Moment::now());
        // An idle worker lets go of an old snapshot, too.
        worker.tidy();
    }
}

async fn obey<S: Stack>(cx: WorkerCx<S>, mut commands: mpsc::UnboundedReceiver<Command>) {
    // A listener accepts for as long as its sender is kept.
    let mut listeners: HashMap<ListenerId, Vec<Accepting>> = HashMap::new();
    while let Some(command) = commands.recv().await {
        match command {
            Command::Adopt(listener, socket, peer) => {
                if let Ok(socket) = adopt(socket) {
                    start(&cx, listener, socket, peer);
                }
            }
            Command::Listen(id, sockets) => {
                let accepting = sockets.into_iter().filter_map(|socket| accepting(&cx, id, socket));
                listeners.insert(id, accepting.collect());
            }
            Command::Unlisten(id) => {
                listeners.remove(&id);
            }
            Command::UnlistenAll => listeners.clear(),
            Command::Drain => {
                cx.proxy.drain();
                cx.connections.wake_all();
            }
            Command::Close => break,
        }
    }
    // From here on no hand-over succeeds: whoever tries one keeps the connection. Those that did
    // succeed are served.
    commands.close();
    while let Some(command) = commands.recv().await {
        if let Command::Adopt(listener, socket, peer) = command
            && let Ok(socket) = adopt(socket)
        {
            start(&cx, listener, socket, peer);
        }
    }
    // Accepting ends first: what still waits in a queue is served, too.
    for (stop, ended) in std::mem::take(&mut listeners).into_values().flatten() {
        drop(stop);
        let _ = ended.await;
    }
    cx.connections.close();
    std::future::poll_fn(|task| cx.connections.poll_empty(task)).await;
}

/// A task that accepts, and what it goes on for as long as it is kept.
type Accepting = (oneshot::Sender<()>, JoinHandle<()>);

fn accepting<S: Stack>(cx: &WorkerCx<S>, id: ListenerId, socket: TcpListener) -> Option<Accepting> {
    match tokio::net::TcpListener::from_std(socket) {
        Ok(socket) => {
            let (keep, stop) = oneshot::channel();
            Some((keep, tokio::task::spawn_local(listen(cx.clone(), id, socket, stop))))
        }
        Err(error) => {
            tracing::error!(%error, "a worker cannot use its listener");
            None
        }
    }
}

async fn listen<S: Stack>(
    cx: WorkerCx<S>,
    id: ListenerId,
    socket: tokio::net::TcpListener,
    mut stop: oneshot::Receiver<()>,
) {
    loop {
        let accepted = tokio::select! {
            biased;
            _ = &mut stop => break,
            accepted = socket.accept() => accepted,
        };
        match accepted {
            Ok((tcp, peer)) => admit(&cx, id, tcp, peer),
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                // Out of descriptors or memory: what is being served goes on, and what waits in
                // the queue is accepted when something was closed.
                tracing::warn!(%error, "cannot accept a connection");
                cx.proxy.wheel.sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    // Clients in the queue believe to be connected. The runtime may not have heard of them yet:
    // the socket itself is asked. Not for ever: one that a successor has, too, is never done.
    let Ok(socket) = socket.into_std() else { return };
    for _ in 0..=BACKLOG {
        match socket.accept() {
            Ok((tcp, peer)) => {
                let tcp = tcp.set_nonblocking(true).and_then(|()| adopt(tcp));
                if let Ok(tcp) = tcp {
                    admit(&cx, id, tcp, peer);
                }
            }
            Err(error) if is_of_one_connection(&error) => {}
            Err(_) => return,
        }
    }
}

fn adopt(tcp: TcpStream) -> std::io::Result<tokio::net::TcpStream> {
    tokio::net::TcpStream::from_std(tcp)
}

fn is_of_one_connection(error: &std::io::Error) -> bool {
    use std::io::ErrorKind;
    matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset)
}

fn admit<S: Stack>(cx: &WorkerCx<S>, id: ListenerId, tcp: tokio::net::TcpStream, peer: SocketAddr) {
    let counts = cx.peers.open.iter().map(|open| open.load(Ordering::Relaxed));
    let total: usize = counts.clone().sum();
    if total >= cx.peers.most.load(Ordering::Relaxed) {
        if let Some(snapshot) = cx.proxy.snapshot()
            && let Some(listener) = snapshot.listener(id)
        {
            listener.metrics.rejected(cx.proxy.id, "connections");
        }
        return; // closing the socket is the answer
    }
    // The kernel spreads connections by hash, not by load: on skew the new one goes elsewhere.
    let own = cx.peers.open.get(cx.proxy.id.0).map_or(0, |open| open.load(Ordering::Relaxed));
    let least = counts.enumerate().min_by_key(|(_, count)| *count);
    let other = least.filter(|(_, count)| own > count + count / 4 + 8);
    let Some(commands) = other.and_then(|(least, _)| cx.peers.commands.get(least)) else {
        return start(cx, id, tcp, peer);
    };
    let Ok(socket) = tcp.into_std() else { return };
    // A worker that is about to end takes nothing more.
    if let Err(SendError(Command::Adopt(id, socket, peer))) =
        commands.send(Command::Adopt(id, socket, peer))
        && let Ok(tcp) = adopt(socket)
    {
        start(cx, id, tcp, peer);
    }
}

fn start<S: Stack>(cx: &WorkerCx<S>, id: ListenerId, tcp: tokio::net::TcpStream, peer: SocketAddr) {
    // Looked up before anything is awaited: a listener on its way out is known for a moment only.
    let Some(snapshot) = cx.proxy.snapshot_with(id) else { return };
    let place = cx.connections.enter();
    tokio::task::spawn_local(accept::serve(cx.clone(), snapshot, id, tcp, peer, place));
}

#[cfg(test)]
mod tests;
