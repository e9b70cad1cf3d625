//! The admin listener's socket, its thread, and how long a connection may last.

use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, oneshot};

use super::answer::Admin;
use crate::app::Live;

/// Connections at once; further ones wait to be accepted.
const CONNECTIONS: usize = 64;
/// From accept to the complete head of the first request. Short, or connections that never ask
/// would keep the probes out: all places together are free again this soon.
const FIRST_HEAD: Duration = Duration::from_secs(2);
/// From the end of one request to the complete head of the next.
const HEAD: Duration = Duration::from_secs(15);
/// The age at which a connection is closed after the request it is in.
const AGE: Duration = Duration::from_secs(120);
/// How long that request may still take: someone who does not read must not hold a place for ever.
const LAST_REQUEST: Duration = Duration::from_secs(30);
/// Threads for answers that take long: one for scrapes and one for those who look meanwhile.
const HELPERS: usize = 2;

/// The admin listener, which accepts for as long as this is kept.
pub struct AdminListener {
    socket: std::net::TcpListener,
    _accepts: oneshot::Sender<()>,
}

impl AdminListener {
    /// Its socket, for a successor.
    ///
    /// # Errors
    /// Where the process has no descriptors left.
    pub fn socket(&self) -> io::Result<std::net::TcpListener> {
        self.socket.try_clone()
    }
}

/// Serves the admin listener on `socket`. Its thread goes on until the process ends.
///
/// # Errors
/// If a thread cannot be started.
pub fn start(socket: std::net::TcpListener, live: Live) -> io::Result<AdminListener> {
    socket.set_nonblocking(true)?;
    let address = socket.local_addr()?;
    let (_accepts, stop) = oneshot::channel();
    let listener = AdminListener { socket: socket.try_clone()?, _accepts };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(HELPERS)
        .thread_name("admin-helper")
        .build()?;
    let admin = Arc::new(Admin::new(live, address));
    std::thread::Builder::new().name("admin".to_owned()).spawn(move || {
        runtime.block_on(async move {
            match TcpListener::from_std(socket) {
                Ok(socket) => accept(socket, admin, stop).await,
                Err(error) => tracing::error!(%error, "cannot serve the admin listener"),
            }
            // Those who asked before are answered.
            std::future::pending::<()>().await;
        });
    })?;
    tracing::info!(%address, "admin listening");
    Ok(listener)
}

async fn accept(socket: TcpListener, admin: Arc<Admin>, mut stop: oneshot::Receiver<()>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let accepted = tokio::select! {
            biased;
            _ = &mut stop => return,
            accepted = socket.accept() => accepted,
        };
        match accepted {
            Ok((tcp, _)) => {
                let admin = admin.clone();
                tokio::spawn(async move {
                    serve(tcp, admin).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "the admin listener cannot accept");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn serve(tcp: TcpStream, admin: Arc<Admin>) {
    let asked = Arc::new(AtomicBool::new(false));
    let service = service_fn({
        let asked = asked.clone();
        move |request: Request<Incoming>| {
            asked.store(true, Ordering::Relaxed);
            let admin = admin.clone();
            async move { Ok::<_, Infallible>(admin.answer(&request).await) }
        }
    });
    let mut connection = pin!(
        hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD)
            .serve_connection(TokioIo::new(tcp), service)
    );
    let first = tokio::time::timeout(FIRST_HEAD, connection.as_mut()).await;
    if first.is_ok() || !asked.load(Ordering::Relaxed) {
        return;
    }
    if tokio::time::timeout(AGE, connection.as_mut()).await.is_err() {
        connection.as_mut().graceful_shutdown();
        let _ = tokio::time::timeout(LAST_REQUEST, connection).await;
    }
}
