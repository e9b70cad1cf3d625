//! What the integration tests share: the real binary as a child process, scripted back ends,
//! and clients that control every byte. Knows nothing of the crate's inside.

#![allow(dead_code, reason = "a harness offers more than the tests of today take")]

mod api_server;
mod backend;
mod client;
mod cluster;
mod controller;
mod dns;
mod events;
mod h2;
mod h2_backend;
mod load;
mod metrics;
mod namespace;
mod prometheus;
mod proxy;
mod random;
mod server;
mod tls;
mod ws;

use std::future::Future;
use std::time::Duration;

use tokio::time::Instant;

pub use self::api_server::{
    ApiServer, ingress, ingress_class, service, slice, slice_in_state, slice_name,
};
pub use self::backend::{Backend, BlackHole, Conn, Seen};
pub use self::client::{Broken, Client, Headers, Io, Response, find, get};
pub use self::cluster::{Cluster, Network};
pub use self::controller::Controller;
pub use self::dns::{Dns, Kind, Srv, Trouble};
pub use self::events::Events;
pub use self::h2::{
    H2, H2Response, H2Tunnel, authority, collect, get_request, post_request, send_frames,
};
pub use self::h2_backend::H2Backend;
pub use self::load::{Counts, Load};
pub use self::metrics::Metrics;
pub use self::namespace::Namespace;
pub use self::prometheus::{Prometheus, program};
pub use self::proxy::{Proxy, Setup, admin_of, portcullis, reserve};
pub use self::random::Random;
pub use self::server::{Echoed, Server, answer, body_pattern, fingerprint};
pub use self::tls::{Ca, Pair, TlsClient, certificates, server_config};
pub use self::ws::{
    Opcode, WebSocket, accept_websocket, consent, echo_frames, frame, handshake, parse,
};

/// What a single step of a test may take. Generous, because test machines are slow and shared;
/// nothing waits for it unless it fails.
pub const STEP: Duration = Duration::from_secs(20);

/// Awaits `work`, and fails with `what` when it takes longer than `limit`.
#[track_caller]
pub fn within<T>(
    limit: Duration,
    what: &str,
    work: impl Future<Output = T>,
) -> impl Future<Output = T> {
    let caller = std::panic::Location::caller();
    async move {
        match tokio::time::timeout(limit, work).await {
            Ok(value) => value,
            Err(_) => panic!("{what}: not within {limit:?} ({caller})"),
        }
    }
}

/// Waits until `check` holds, and fails with `what` when it does not within `limit`.
#[track_caller]
pub fn eventually<C>(limit: Duration, what: &str, mut check: C) -> impl Future<Output = ()>
where
    C: AsyncFnMut() -> bool,
{
    let caller = std::panic::Location::caller();
    async move {
        let deadline = Instant::now() + limit;
        while !check().await {
            assert!(Instant::now() < deadline, "{what}: not within {limit:?} ({caller})");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// Lets `span` of real time pass: for the tests whose subject is time itself, such as that
/// nothing happens before a deadline.
pub async fn pass(span: Duration) {
    tokio::time::sleep(span).await;
}
