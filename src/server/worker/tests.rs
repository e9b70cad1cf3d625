//! What becomes of connections in the moment in which a worker or a listener ends.

use std::io::{Read, Write};

use super::*;
use crate::ir::{Config, Listener, Origin};
use crate::snapshot::{Compiler, Snapshot};
use crate::telemetry::Metrics;
use crate::tls::TlsShared;
use crate::upstream::Registry;
use crate::util::alarm::Alarm;

/// A handle, and the snapshots of a configuration with one listener and of one with none.
fn snapshots(address: SocketAddr) -> (Arc<SnapshotHandle>, Arc<Snapshot>, Arc<Snapshot>) {
    let listener = Listener {
        origin: Origin::default(),
        bind: address,
        public_port: None,
        tls: None,
        proxy_protocol: Vec::new(),
        trusted_proxies: Vec::new(),
        encoded_slashes: Default::default(),
        forwarding: Default::default(),
        protocols: Default::default(),
        http2: Default::default(),
    };
    let metrics = Metrics::new(2);
    let registry =
        Arc::new(Registry::new(metrics.clone(), crate::upstream::Environment::new(2, 0)));
    let mut compiler = Compiler::new(metrics, registry, TlsShared::new().expect("a provider"), 2);
    let config =
        Config { listeners: [("web".into(), Arc::new(listener))].into(), ..Config::default() };
    let with = compiler.compile(Arc::new(config), None, |_, _| Vec::new());
    let none = compiler.compile(Arc::new(Config::default()), Some(&with), |_, _| Vec::new());
    (Arc::new(SnapshotHandle::new()), Arc::new(with), Arc::new(none))
}

fn worker(
    id: usize,
    handle: &Arc<SnapshotHandle>,
    peers: &Arc<Peers>,
) -> WorkerCx<impl Stack + use<>> {
    let access_log = AccessLogger::new(Metrics::new(2));
    WorkerCx {
        proxy: Worker::new(WorkerId(id), handle.clone(), access_log, Arc::default()),
        stack: stack(),
        calls: Calls::new(),
        dates: Rc::new(Dates::new()),
        connections: Connections::new(peers.open[id].clone()),
        peers: peers.clone(),
    }
}

type Receivers = Vec<mpsc::UnboundedReceiver<Command>>;

fn peers() -> (Arc<Peers>, Receivers) {
    let (commands, receivers) = (0..2).map(|_| mpsc::unbounded_channel()).unzip();
    let open = vec![Arc::default(), Arc::default()];
    let (most, verifier) = (AtomicUsize::new(100), Arc::default());
    (Arc::new(Peers { open, commands, most, verifier }), receivers)
}

fn runtime() -> tokio::runtime::LocalRuntime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build_local(Default::default()).expect("a runtime")
}

/// A client that has sent its request, and the listener in whose queue it waits.
fn queued() -> (std::net::TcpStream, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.set_nonblocking(true).expect("a socket");
    let address = listener.local_addr().expect("bound");
    #[expect(clippy::disallowed_methods, reason = "the client of a test may block its thread")]
    let mut client = std::net::TcpStream::connect(address).expect("the queue has room");
    client.set_read_timeout(Some(Duration::from_secs(20))).expect("a socket");
    client.write_all(b"GET / HTTP/1.1\r\nhost: t\r\nconnection: close\r\n\r\n").expect("open");
    (client, listener)
}

fn answer(mut client: std::net::TcpStream) -> String {
    let mut answer = String::new();
    let _ = client.read_to_string(&mut answer);
    answer
}

#[test]
fn a_client_in_the_queue_of_a_listener_that_is_taken_out_is_answered() {
    let (client, listener) = queued();
    let (handle, with, none) = snapshots(listener.local_addr().expect("bound"));
    let id = with.listeners().next().expect("compiled").id;
    let (peers, mut receivers) = peers();
    handle.publish(with);
    runtime().block_on(async {
        let cx = worker(0, &handle, &peers);
        cx.proxy.snapshot();
        handle.publish(none);
        let wheel =
            tokio::task::spawn_local(cx.proxy.wheel.clone().drive(Alarm::new().expect("a timer")));
        peers.commands[0].send(Command::Listen(id, vec![listener])).expect("it runs");
        peers.commands[0].send(Command::Unlisten(id)).expect("it runs");
        tokio::task::spawn_local(obey(cx, receivers.remove(0)));
        let answer = tokio::task::spawn_blocking(move || answer(client)).await.expect("no panic");
        assert!(answer.starts_with("HTTP/1.1 404"), "{answer:?}");
        wheel.abort();
    });
}

#[test]
fn a_connection_handed_to_a_worker_that_ends_stays_with_the_one_that_took_it() {
    let (client, listener) = queued();
    let (handle, with, _) = snapshots(listener.local_addr().expect("bound"));
    let id = with.listeners().next().expect("compiled").id;
    let (peers, mut receivers) = peers();
    handle.publish(with);
    runtime().block_on(async {
        let (busy, ending) = (worker(0, &handle, &peers), worker(1, &handle, &peers));
        let wheel = tokio::task::spawn_local(
            busy.proxy.wheel.clone().drive(Alarm::new().expect("a timer")),
        );
        // The other one was told to close while it still had one connection.
        let last = ending.connections.enter();
        peers.commands[1].send(Command::Close).expect("it runs");
        let ending = tokio::task::spawn_local(obey(ending, receivers.remove(1)));
        while !last.is_closing() {
            tokio::task::yield_now().await;
        }
        // By far the least busy, so that the next connection is meant for it.
        peers.open[0].fetch_add(50, Ordering::Relaxed);
        let socket = tokio::net::TcpListener::from_std(listener).expect("a listener");
        let (tcp, peer) = socket.accept().await.expect("queued");
        admit(&busy, id, tcp, peer);
        drop(last);
        ending.await.expect("it ends");
        let answer = tokio::task::spawn_blocking(move || answer(client)).await.expect("no panic");
        assert!(answer.starts_with("HTTP/1.1 404"), "{answer:?}");
        wheel.abort();
    });
}
