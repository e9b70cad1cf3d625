//! One endpoint of the shop: accepts connections, reads requests within limits, takes its time
//! and lets its department answer.

use std::convert::Infallible;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use http::header::{ALLOW, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use super::ask::{Ask, Body, full};
use super::plan::{Department, Pace};
use super::{cart, catalog, orders, reviews, storefront, support};

/// Everything the shop remembers; all endpoints share it, so that it does not matter which of
/// them answers.
#[derive(Default)]
pub(super) struct Store {
    pub(super) carts: cart::Carts,
    pub(super) orders: orders::Orders,
    pub(super) reviews: reviews::Reviews,
    pub(super) support: support::Room,
}

/// One endpoint.
pub(super) struct Counter {
    name: Arc<str>,
    department: Department,
    pace: Pace,
    store: Arc<Store>,
}

impl Counter {
    pub(super) fn new(name: &str, department: Department, pace: Pace, store: Arc<Store>) -> Self {
        Self { name: name.into(), department, pace, store }
    }

    /// Accepts and serves until the runtime ends.
    pub(super) async fn serve(self, listener: TcpListener) {
        let listener = match tokio::net::TcpListener::from_std(listener) {
            Ok(listener) => listener,
            Err(error) => return tracing::error!(endpoint = %self.name, %error, "shop: no socket"),
        };
        let counter = Arc::new(self);
        let room = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Out of descriptors or memory: others must finish first.
                    tracing::warn!(endpoint = %counter.name, %error, "shop: cannot accept");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let counter = Arc::clone(&counter);
            tokio::spawn(async move {
                counter.connection(stream).await;
                drop(permit);
            });
        }
    }

    async fn connection(self: Arc<Self>, stream: TcpStream) {
        let _ = stream.set_nodelay(true);
        let service = service_fn(move |request| {
            let counter = Arc::clone(&self);
            async move { Ok::<_, Infallible>(counter.exchange(request).await) }
        });
        let served = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(IDLE)
            .max_buf_size(HEAD_SIZE)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades()
            .await;
        if let Err(error) = served {
            tracing::debug!(%error, "shop: connection ended");
        }
    }

    async fn exchange(&self, request: Request<Incoming>) -> Response<Body> {
        let mut response = match Ask::read(Arc::clone(&self.name), request).await {
            Ok(ask) if ask.path == "/healthz" => health(),
            Ok(ask) => {
                tokio::time::sleep(self.pace.draw()).await;
                self.answer(ask)
            }
            Err(refusal) => refusal,
        };
        if let Ok(name) = HeaderValue::from_str(&self.name) {
            response.headers_mut().insert(X_ENDPOINT, name);
        }
        response
    }

    fn answer(&self, ask: Ask) -> Response<Body> {
        let methods = self.methods();
        if ask.method == Method::OPTIONS {
            let mut response = Response::new(full(""));
            *response.status_mut() = StatusCode::NO_CONTENT;
            response.headers_mut().insert(ALLOW, HeaderValue::from_static(methods));
            return response;
        }
        if !methods.split(", ").any(|method| method == ask.method.as_str()) {
            return ask.not_allowed(methods);
        }
        match self.department {
            Department::Cart => cart::answer(&self.store, &ask),
            Department::Catalog => catalog::answer(&ask),
            Department::Orders => orders::answer(&self.store, &ask),
            Department::Reviews => reviews::answer(&self.store, &ask),
            Department::Storefront => storefront::answer(&self.store, &ask, false),
            Department::StorefrontNext => storefront::answer(&self.store, &ask, true),
            Department::Support => support::answer(&self.store, ask),
        }
    }

    /// The methods of the department; a resource may know fewer.
    fn methods(&self) -> &'static str {
        match self.department {
            Department::Cart => "GET, HEAD, POST, DELETE, OPTIONS",
            Department::Orders | Department::Reviews => "GET, HEAD, POST, OPTIONS",
            _ => "GET, HEAD, OPTIONS",
        }
    }
}

fn health() -> Response<Body> {
    let mut response = Response::new(full("ok\n"));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    response
}

const X_ENDPOINT: HeaderName = HeaderName::from_static("x-endpoint");
const CONNECTIONS: usize = 4096;
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Longer than a proxy keeps an unused connection, so that the proxy is the one to close it.
const IDLE: Duration = Duration::from_secs(75);
const HEAD_SIZE: usize = 64 * 1024;
