//! TLS: which certificate a client sees, who may connect, and how endpoints are verified.
//!
//! It owns everything that touches certificates, keys and session tickets and hands out finished
//! rustls configurations. It knows the neutral configuration model and nothing of files,
//! Kubernetes, sockets, HTTP or routes.
//!
//! What always holds:
//!
//! * Building a listener's TLS cannot fail. What is broken is reported and hurts only itself: the
//!   last good certificate or client CA stays, and where a client CA is missing altogether every
//!   handshake is refused rather than one let through without verification.
//! * Versions before TLS 1.2, static RSA, CBC and RC4 suites and compression do not exist in
//!   rustls; 0-RTT is never turned on, for a replayed request would be executed twice.
//! * What a host demands beyond that is no reason for a handshake to fail: what the client showed is
//!   told, good or not, and whoever serves the host has to look at it.
//! * A session is resumed only on the listener and under the client-certificate policy it was made
//!   under (see `tickets`).
//! * The crypto provider (aws-lc-rs) is passed explicitly; nothing depends on a process default.
//! * No key material stands in `Debug`, `Serialize` or an error.

#![cfg_attr(
    not(test),
    deny(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)
)]

mod bare_key;
mod certificate;
mod client;
mod client_auth;
mod demand;
mod error;
mod handshake;
mod names;
mod pem;
mod resolver;
mod self_signed;
mod server;
mod shared;
mod slot;
mod tickets;
mod unverified;
mod x509;

pub use certificate::{CertificateDetails, CertificateInfo};
pub use client::{ClientTls, TransportKey, server_name};
pub use demand::{ClientDemand, ShownCertificate};
pub use error::{CaFault, CertificateFault, TlsError};
pub use handshake::{HandshakeError, PeerCertificate, handshake_kind, handshake_version};
pub use self_signed::self_signed;
pub use server::{Admitted, PolicyId, ServerTls};
pub use shared::TlsShared;

#[cfg(test)]
mod tests;
