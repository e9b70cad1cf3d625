//! One check of one endpoint: the connection, and what is asked over it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::error::CheckError;
use super::{grpc, http};
use crate::ir::{HealthCheck, Probe, UpstreamProtocol};
use crate::telemetry::CheckResult;
use crate::tls::ClientTls;
use crate::upstream::pool::{UpstreamIo, open};
use crate::upstream::{Endpoint, Transport};

/// What it takes to check an endpoint.
pub(super) struct Prober {
    target: Target,
    probe: Probe,
    timeout: Duration,
}

/// What is checked, and how it is spoken to.
pub(super) struct Target {
    /// Where it is asked.
    pub address: SocketAddr,
    /// Its name or address with the port, as a `Host`; ports that go without saying are left out.
    pub authority: String,
    /// `None` is plain text.
    pub tls: Option<Arc<ClientTls>>,
    /// The name in its certificate, where the settings do not say.
    server_name: String,
    protocol: UpstreamProtocol,
}

impl Prober {
    pub fn new(spec: &HealthCheck, transport: &Transport, endpoint: &Endpoint) -> Self {
        let asked = match &spec.probe {
            Probe::Http(probe) => probe.host.as_deref().map(without_port),
            Probe::Grpc { .. } | Probe::Tcp => None,
        };
        let target = Target::new(transport, endpoint, spec.port, asked);
        Self { target, probe: spec.probe.clone(), timeout: spec.timeout }
    }

    /// Checks once. Says what was found.
    pub async fn check(&self) -> Result<String, CheckError> {
        let limit = self.timeout;
        tokio::time::timeout(limit, self.ask()).await.unwrap_or_else(|_| {
            Err(CheckError::new(CheckResult::Timeout, format!("no answer within {limit:?}")))
        })
    }

    async fn ask(&self) -> Result<String, CheckError> {
        match &self.probe {
            Probe::Grpc { service } => grpc::check(&self.target, service, self.timeout).await,
            Probe::Http(probe) => http::check(&self.target, probe).await,
            Probe::Tcp => self.target.connect().await.map(|_| "connected".to_owned()),
        }
    }
}

impl Target {
    /// `endpoint`, at another `port` where it is given; `asked` is the host it is asked for.
    pub fn new(
        transport: &Transport,
        endpoint: &Endpoint,
        port: Option<u16>,
        asked: Option<&str>,
    ) -> Self {
        let port = port.unwrap_or(endpoint.address.port());
        let address = SocketAddr::new(endpoint.address.ip(), port);
        let tls = transport.tls.clone();
        let usual = if tls.is_some() { 443 } else { 80 };
        let authority = match (&endpoint.host, port == usual) {
            (Some(host), true) => host.to_string(),
            (Some(host), false) => format!("{host}:{port}"),
            (None, true) => address.to_string().trim_end_matches(&format!(":{port}")).to_owned(),
            (None, false) => address.to_string(),
        };
        let server_name = match (&endpoint.host, asked) {
            (Some(host), _) => host.to_string(),
            (None, Some(host)) => host.to_owned(),
            (None, None) => address.ip().to_string(),
        };
        let protocol = transport.protocol;
        Self { address, authority, tls, server_name, protocol }
    }

    /// A connection of the check's own.
    pub async fn connect(&self) -> Result<UpstreamIo, CheckError> {
        Ok(open(self.address, self.tls.as_deref(), &self.server_name, false).await?)
    }

    /// Whether it is spoken to in HTTP/1.0.
    pub fn speaks_http10(&self) -> bool {
        self.protocol == UpstreamProtocol::Http10
    }

    /// Whether HTTP/2 is spoken on `io`.
    pub fn speaks_h2(&self, io: &UpstreamIo) -> Result<bool, CheckError> {
        let h2 = match (&self.tls, self.protocol) {
            (None, protocol) => protocol == UpstreamProtocol::Http2,
            (Some(_), _) => io.negotiated_h2(),
        };
        if !h2 && self.protocol == UpstreamProtocol::Http2 {
            return Err(no_h2());
        }
        Ok(h2)
    }
}

/// The endpoint should speak HTTP/2 and does not.
pub(super) fn no_h2() -> CheckError {
    CheckError::new(CheckResult::Protocol, "the endpoint did not agree on h2 by ALPN")
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    }
}
