//! The upstreams of a snapshot: taken over from the one before where they can be, their TLS
//! compiled, and left out where it cannot be.

use std::cell::RefCell;
use std::collections::HashSet;
use std::collections::btree_map::{self, BTreeMap};
use std::iter::Peekable;
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
    pub usable: Arc<BTreeMap<Name, Arc<Upstream>>>,
    /// What is wrong with the others.
    pub unusable: BTreeMap<Name, String>,
    /// Those that are not what they were before.
    pub changed: HashSet<Name>,
    /// Those that were looked for since somebody wanted to know.
    asked: RefCell<Vec<Name>>,
}

impl Upstreams {
    /// The upstream of that name, or why there is none.
    pub fn find(&self, name: &Name) -> Result<&Arc<Upstream>, String> {
        self.asked.borrow_mut().push(name.clone());
        self.usable.get(name).ok_or_else(|| match self.unusable.get(name) {
            Some(why) => format!("no usable upstream '{name}': {why}"),
            None => format!("no usable upstream '{name}'"),
        })
    }

    /// The names that were looked for since this was last called.
    pub fn asked(&self) -> Vec<Name> {
        let mut asked = self.asked.take();
        asked.sort();
        asked.dedup();
        asked
    }

    /// Compiles the upstreams of `config` with the endpoints that `targets` tells; reports those
    /// whose TLS settings cannot be used. One whose declaration is the same in memory as in
    /// `previous` stays as it is, its endpoints too.
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
        if let Some(previous) = previous {
            upstreams.usable.clone_from(&previous.upstreams);
            upstreams.changed.extend(gone(&previous.config, config));
            for name in &upstreams.changed {
                Arc::make_mut(&mut upstreams.usable).remove(name);
            }
        }
        let mut declared = previous.map(|old| old.config.upstreams.iter().peekable());
        for (name, spec) in &*config.upstreams {
            // With TLS there is more to look at: it may go on with other settings than it wants.
            if let Some(declared) = &mut declared
                && is_next(declared, name, spec)
                && spec.tls.is_none()
            {
                continue;
            }
            let known = previous.and_then(|old| old.upstreams.get(name));
            let old = known.map(|old| &old.transport);
            let transport = match transport(spec, old, shared) {
                Ok(transport) => transport,
                Err(error) => {
                    let message = format!("upstream '{name}': {error}");
                    let problem = Problem::error(message).about(&spec.origin);
                    let Some(old) = old.filter(|old| is_no_weaker(old)) else {
                        problems.push(problem.hint("its requests are refused until it is mended"));
                        Arc::make_mut(&mut upstreams.usable).remove(name);
                        upstreams.unusable.insert(name.clone(), error.to_string());
                        upstreams.changed.insert(name.clone());
                        continue;
                    };
                    problems.push(problem.hint("the last good TLS settings stay in use"));
                    Transport { pool: spec.pool.clone(), ..old.clone() }
                }
            };
            let upstream = registry.obtain(name, spec, transport, &targets(name, spec), now);
            if !known.is_some_and(|known| Arc::ptr_eq(known, &upstream)) {
                upstreams.changed.insert(name.clone());
                Arc::make_mut(&mut upstreams.usable).insert(name.clone(), upstream);
            }
        }
        upstreams
    }
}

/// Upstreams by name, walked through in order: to look up thousands one by one costs more than all
/// else that a small change takes.
type InOrder<'m> = Peekable<btree_map::Iter<'m, Name, Arc<ir::Upstream>>>;

/// Whether this very declaration of `name` is among `declared`, which are gone past up to there.
fn is_next(declared: &mut InOrder<'_>, name: &Name, spec: &Arc<ir::Upstream>) -> bool {
    if declared.next_if(|(_, other)| Arc::ptr_eq(other, spec)).is_some() {
        return true;
    }
    while declared.next_if(|(other, _)| *other < name).is_some() {}
    declared.next_if(|(other, _)| *other == name).is_some_and(|(_, other)| Arc::ptr_eq(other, spec))
}

/// The upstreams that are in `before` and not in `config`.
fn gone(before: &Config, config: &Config) -> Vec<Name> {
    if Arc::ptr_eq(&before.upstreams, &config.upstreams) {
        return Vec::new();
    }
    let mut now = config.upstreams.iter().peekable();
    let mut gone = Vec::new();
    for (name, spec) in &*before.upstreams {
        let same = now.next_if(|(_, other)| Arc::ptr_eq(other, spec)).is_some();
        if !same {
            while now.next_if(|(other, _)| *other < name).is_some() {}
            if now.next_if(|(other, _)| *other == name).is_none() {
                gone.push(name.clone());
            }
        }
    }
    gone
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
        // Who speaks nothing newer knows no ALPN.
        UpstreamProtocol::Http10 => &[],
    }
}
