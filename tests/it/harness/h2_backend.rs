//! Scripted HTTP/2 back ends on the `h2` crate: a closure per stream that sends frames of its
//! choice, when it likes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use h2::server::{Connection, SendResponse};
use h2::{RecvStream, SendStream};
use http::{Request, Response};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::h2::SMALL_FRAMES;

/// A back end whose every stream follows a script.
pub struct H2Backend {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    calls: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

/// A request on a stream of its own.
pub struct H2Call {
    /// The request; its body is read by hand.
    pub request: Request<RecvStream>,
    /// The way back.
    pub respond: SendResponse<Bytes>,
    leaving: Arc<Leaving>,
}

#[derive(Default)]
struct Leaving {
    wanted: Notify,
    announced: Notify,
}

impl H2Backend {
    /// Runs `script` for each stream.
    pub async fn script<F, Fut>(script: F) -> Self
    where
        F: Fn(H2Call) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let connections = Arc::new(AtomicUsize::new(0));
        let calls = Arc::new(AtomicUsize::new(0));
        let task = tokio::spawn({
            let (connections, calls) = (Arc::clone(&connections), Arc::clone(&calls));
            async move {
                let mut tasks = tokio::task::JoinSet::new();
                while let Ok((stream, _)) = listener.accept().await {
                    let _ = stream.set_nodelay(true);
                    connections.fetch_add(1, Ordering::SeqCst);
                    tasks.spawn(serve(stream, Arc::clone(&calls), script.clone()));
                }
            }
        });
        Self { address, connections, calls, task }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connections accepted so far.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// Streams opened so far.
    pub fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }
}

impl Drop for H2Backend {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve<F, Fut>(stream: TcpStream, calls: Arc<AtomicUsize>, script: F)
where
    F: Fn(H2Call) -> Fut,
    Fut: Future<Output = ()> + Send + 'static,
{
    let mut builder = h2::server::Builder::new();
    builder.enable_connect_protocol().data_frame_budget(SMALL_FRAMES);
    let Ok(mut connection) = builder.handshake(stream).await else { return };
    let connection: &mut Connection<TcpStream, Bytes> = &mut connection;
    let leaving = Arc::new(Leaving::default());
    let mut tasks = tokio::task::JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = connection.accept() => accepted,
            () = leaving.wanted.notified() => {
                connection.graceful_shutdown();
                leaving.announced.notify_one();
                continue;
            }
        };
        let Some(Ok((request, respond))) = accepted else { return };
        calls.fetch_add(1, Ordering::SeqCst);
        tasks.spawn(script(H2Call { request, respond, leaving: Arc::clone(&leaving) }));
    }
}

impl H2Call {
    /// The target's path.
    pub fn path(&self) -> &str {
        self.request.uri().path()
    }

    /// Sends a response head; the body follows.
    pub fn begin(&mut self, status: u16) -> SendStream<Bytes> {
        let head = Response::builder().status(status).body(()).expect("a response");
        self.respond.send_response(head, false).expect("the stream is open")
    }

    /// Sends a whole response.
    pub fn say(&mut self, text: &'static str) {
        let _ = self.begin(200).send_data(Bytes::from_static(text.as_bytes()), true);
    }

    /// Sends an interim response with one field.
    pub fn interim(&mut self, status: u16, name: &str, value: &str) {
        let head = Response::builder().status(status).header(name, value).body(());
        let _ = self.respond.send_informational(head.expect("a response"));
    }

    /// Takes no more streams on this connection (GOAWAY) and serves those there are.
    pub async fn leave(&self) {
        self.leaving.wanted.notify_one();
        self.leaving.announced.notified().await;
    }
}
