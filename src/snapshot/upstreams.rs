//! The upstreams of a snapshot: taken over from the one before where they can be, their TLS
//! compiled, and left out where it cannot be.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Snapshot;
use crate::ir::{self, Config, Name, Problem, UpstreamProtocol, UpstreamTls};
use crate::tls::{ClientTls, TlsError, TlsShared, TransportKey};
use crate::upstream::{Registry, Target, Transport, Upstream};
use crate::util::moment::Moment;

/// What the upstreams of a configuration come to.
#[derive(Default)]
pub(super) struct Upstreams {
    /// Those that can be used.
    pub usable: BTreeMap<Name, Arc<Upstream>>,
    /// What is wrong with the others.
    pub unusable: BTreeMap<Name, String>,
}

impl Upstreams {
    /// The upstream of that name, or why there is none.
    pub fn find(&self, name: &Name) -> Result<&Arc<Upstream>, String> {
        self.usable.get(name).ok_or_else(|| match self.unusable.get(name) {
            Some(why) => format!("no usable upstream '{name}': {why}"),
            None => format!("no usable upstream '{name}'"),
        })
    }

    /// Compiles the upstreams of `config` with the endpoints that `targets` tells; reports those
    /// whose TLS settings cannot be used.
    pub fn compile(
        config: &Config,
        previous: Option<&Snapshot>,
        registry: &Registry,
        shared: &TlsShared,
        targets: impl Fn(&Name, &ir::Upstream) -> Vec<Target>,
        problems: &mut Vec<Problem>,
    ) -> Self {
        let mut upstreams = Self::default();
        let now = Moment::now();
        for (name, spec) in &config.upstreams {
            let old = previous.and_then(|old| old.upstreams.get(name)).map(|old| &old.transport);
            let transport = match transport(spec, old, shared) {
                Ok(transport) => transport,
                Err(error) => {
                    let message = format!("upstream '{name}': {error}");
                    let problem = Problem::error(message).about(&spec.origin);
                    let Some(old) = old.filter(|old| is_no_weaker(old)) else {
                        problems.push(problem.hint("its requests are refused until it is mended"));
                        upstreams.unusable.insert(name.clone(), error.to_string());
                        continue;
                    };
                    problems.push(problem.hint("the last good TLS settings stay in use"));
                    Transport { pool: spec.pool.clone(), ..old.clone() }
                }
            };
            let upstream = registry.obtain(name, spec, transport, &targets(name, spec), now);
            upstreams.usable.insert(name.clone(), upstream);
        }
        upstreams
    }
}

/// How the endpoints of `spec` are spoken to. TLS settings that are as in `old` are not compiled
/// again: sessions are resumed within one result.
fn transport(
    spec: &ir::Upstream,
    old: Option<&Transport>,
    shared: &TlsShared,
) -> Result<Transport, TlsError> {
    let known = old.and_then(|old| old.tls.as_ref());
    let tls = spec.tls.as_ref().map(|tls| client_tls(tls, spec.protocol, known, shared));
    Ok(Transport { protocol: spec.protocol, tls: tls.transpose()?, pool: spec.pool.clone() })
}

fn client_tls(
    spec: &UpstreamTls,
    protocol: UpstreamProtocol,
    known: Option<&Arc<ClientTls>>,
    shared: &TlsShared,
) -> Result<Arc<ClientTls>, TlsError> {
    let alpn = alpn(protocol);
    // Told by what was compiled and not by what was asked for: an upstream that goes on with its
    // last good settings is not one whose settings are good.
    match known.filter(|known| known.key == TransportKey::of(spec, alpn)) {
        Some(same) => Ok(same.clone()),
        None => ClientTls::build(spec, alpn, shared),
    }
}

/// Whether an upstream that was to get other TLS settings may go on with these: never in plain
/// text, and never with endpoints that nobody verifies.
fn is_no_weaker(transport: &Transport) -> bool {
    transport.tls.as_ref().is_some_and(|tls| tls.verifies)
}

/// The protocols offered by ALPN, most preferred first.
fn alpn(protocol: UpstreamProtocol) -> &'static [&'static [u8]] {
    match protocol {
        UpstreamProtocol::Auto => &[b"h2", b"http/1.1"],
        UpstreamProtocol::Http2 => &[b"h2"],
        UpstreamProtocol::Http1 => &[b"http/1.1"],
    }
}
