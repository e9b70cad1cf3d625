//! Health checks against servers on real sockets.

mod lives;
mod probes;
mod servers;

use std::sync::Arc;
use std::time::Duration;

use crate::ir::{
    self, HealthCheck, HttpProbe, Name, Origin, Permille, Probe, TrustAnchors, UpstreamProtocol,
    UpstreamTls,
};
use crate::telemetry::{CheckResult, Metrics};
use crate::tls::{ClientTls, TlsShared};
use crate::upstream::{Endpoint, Environment, Registry, Target, Transport, Upstream};
use crate::util::moment::Moment;

/// What a step may take on a slow machine.
const LIMIT: Duration = Duration::from_secs(20);

/// Plain text in this protocol.
fn plain(protocol: UpstreamProtocol) -> Transport {
    Transport { protocol, tls: None, pool: ir::PoolOptions::default() }
}

/// TLS that trusts `ca`.
fn trusting(protocol: UpstreamProtocol, ca: &str) -> Transport {
    let spec = UpstreamTls {
        server_name: None,
        sni: true,
        verify: true,
        trust: TrustAnchors::Pem(ca.into()),
        client_certificate: None,
    };
    let alpn: &[&[u8]] = match protocol {
        UpstreamProtocol::Auto => &[b"h2", b"http/1.1"],
        UpstreamProtocol::Http2 => &[b"h2"],
        UpstreamProtocol::Http1 => &[b"http/1.1"],
        UpstreamProtocol::Http10 => &[],
    };
    let tls = ClientTls::build(&spec, alpn, &TlsShared::new().expect("TLS")).expect("settings");
    Transport { tls: Some(tls), ..plain(protocol) }
}

/// A GET for `path`.
fn http(path: &str) -> HttpProbe {
    HttpProbe { path: path.into(), ..HttpProbe::default() }
}
