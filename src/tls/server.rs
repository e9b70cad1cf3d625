//! A listener's TLS, compiled.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use rustls::server::NoServerSessionStorage;
use rustls::{HandshakeKind, ServerConfig, ServerConnection};

use super::client_auth::ClientPolicy;
use super::demand::{Asking, ClientDemand, ShownCertificate};
use super::resolver::Resolver;
use super::slot::{self, Slot};
use super::tickets::ScopedTickets;
use super::{CertificateInfo, HandshakeError, PeerCertificate, TlsShared};
use crate::ir::{ListenerTls, Name, Origin, Problem};

/// The TLS side of one listener in one snapshot. Immutable; connections made under it keep it.
pub struct ServerTls {
    /// What to accept connections with.
    pub config: Arc<ServerConfig>,
    /// The certificates in use, in declaration order.
    pub certificates: Vec<Arc<CertificateInfo>>,
    /// Which policy on client certificates holds.
    pub policy_id: PolicyId,
    listener: Box<str>,
    http2: bool,
    spec: ListenerTls,
    slots: Vec<Arc<Slot>>,
    policy: ClientPolicy,
    /// What to accept connections with for hosts with a demand of their own.
    demanding: HashMap<PolicyId, Arc<ServerConfig>>,
    resolver: Arc<Resolver>,
    problems: Vec<Problem>,
}

/// Tells policies on client certificates apart: equal where the same clients are let in.
pub type PolicyId = [u8; 32];

/// Who a client is, as far as its handshake says.
#[derive(Debug, Default)]
pub struct Admitted {
    /// Its verified certificate.
    pub certificate: Option<PeerCertificate>,
    /// What it showed where a host has a demand of its own, good or not.
    pub shown: Option<Box<ShownCertificate>>,
}

impl ServerTls {
    /// Compiles `spec` for `listener`, offering HTTP/2 where `http2`. It cannot fail; the problems
    /// say what is wrong and what serves instead:
    ///
    /// * A certificate that is missing, damaged or not its key's leaves its last good version in
    ///   `previous` in place, or is left out where there is none; with none left a self-signed
    ///   certificate of last resort serves.
    /// * A client CA that is missing or damaged leaves the last good CAs of `previous` in place;
    ///   where there are none every handshake is refused.
    ///
    /// `previous` is what this listener used before. When nothing changed it is returned as it is.
    /// It may read the certificates' text and do public-key arithmetic: not for a worker.
    pub fn build(
        listener: &str,
        spec: &ListenerTls,
        http2: bool,
        shared: &TlsShared,
        previous: Option<&Arc<Self>>,
    ) -> (Arc<Self>, Vec<Problem>) {
        Self::demanding(listener, spec, &[], http2, shared, previous)
    }

    /// The same where some hosts have these demands of their own.
    pub fn demanding(
        listener: &str,
        spec: &ListenerTls,
        demands: &[Arc<ClientDemand>],
        http2: bool,
        shared: &TlsShared,
        previous: Option<&Arc<Self>>,
    ) -> (Arc<Self>, Vec<Problem>) {
        let previous = previous.filter(|previous| *previous.listener == *listener);
        let ids: HashSet<&PolicyId> = demands.iter().map(|demand| &demand.id).collect();
        let same_demands = |p: &Self| {
            p.demanding.len() == ids.len() && p.demanding.keys().all(|id| ids.contains(id))
        };
        let unchanged = |p: &&Arc<Self>| p.http2 == http2 && p.spec == *spec && same_demands(p);
        if let Some(same) = previous.filter(unchanged) {
            return (Arc::clone(same), same.problems.clone());
        }
        let mut problems = Vec::new();
        let before = previous.map(|previous| &*previous.slots).unwrap_or_default();
        let slots = slot::load(&spec.certificates, shared, before, &mut problems);
        let (policy, problem) = ClientPolicy::build(
            listener,
            spec.client_auth.as_ref(),
            previous.map(|previous| &previous.policy),
            &shared.provider,
        );
        problems.extend(problem);
        let resolver = Arc::new(resolver(&slots, &policy, shared));
        let built = Self {
            config: config(listener, spec, http2, shared, Terms::Policy(&policy), resolver.clone()),
            demanding: demanding(listener, spec, demands, http2, shared, &policy, &resolver),
            certificates: infos(&slots, shared),
            policy_id: policy.scope(""),
            listener: listener.into(),
            http2,
            spec: spec.clone(),
            slots,
            policy,
            resolver,
            problems: problems.clone(),
        };
        (Arc::new(built), problems)
    }

    /// What was wrong when it was built.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// Whether every handshake is refused because client certificates cannot be verified.
    pub fn refuses_all(&self) -> bool {
        matches!(self.policy, ClientPolicy::Refuse)
    }

    /// What to accept a connection with whose client asks for a host with this demand.
    pub fn config_for(&self, demand: Option<&ClientDemand>) -> &Arc<ServerConfig> {
        demand.and_then(|demand| self.demanding.get(&demand.id)).unwrap_or(&self.config)
    }

    /// Looks at a finished handshake, once per connection: what the client showed. `demand` is that
    /// of the host it asked for, and tells good from bad; without one the listener's policy holds,
    /// under which only what is good gets this far.
    ///
    /// A resumed session's certificate is verified again, for rustls takes it from the ticket as
    /// it was; an error here means the connection must be closed unused.
    pub fn admit(
        &self,
        connection: &ServerConnection,
        demand: Option<&ClientDemand>,
    ) -> Result<Admitted, HandshakeError> {
        if self.refuses_all() {
            return Err(HandshakeError::Refused);
        }
        let chain = connection.peer_certificates();
        if let Some(demand) = demand {
            let Some(chain) = chain else { return Ok(Admitted::default()) };
            let shown = demand.judge(chain).ok_or(HandshakeError::BadCertificate)?;
            let certificate = shown.verdict.is_ok().then(|| shown.certificate.clone());
            return Ok(Admitted { certificate, shown: Some(Box::new(shown)) });
        }
        if matches!(self.policy, ClientPolicy::Open) {
            return Ok(Admitted::default());
        }
        if !matches!(
            connection.handshake_kind(),
            Some(HandshakeKind::Full | HandshakeKind::FullWithHelloRetryRequest)
        ) {
            self.policy.recheck(chain)?;
        }
        let read = |chain| PeerCertificate::read(chain).ok_or(HandshakeError::BadCertificate);
        Ok(Admitted { certificate: chain.map(read).transpose()?, shown: None })
    }

    /// Whether a connection that was let in under `before`, `None` without TLS, is one that could
    /// be made now. A policy that demands nothing is content with every TLS connection; any other
    /// has to have been there, because what it verified is passed on.
    pub fn still_admits(&self, before: Option<&PolicyId>) -> bool {
        match (&self.policy, before) {
            (_, None) => false,
            (ClientPolicy::Open, Some(_)) => true,
            (_, Some(before)) => *before == self.policy_id,
        }
    }

    /// The class of a handshake that failed on this listener.
    pub fn classify(&self, error: &std::io::Error) -> HandshakeError {
        if self.refuses_all() { HandshakeError::Refused } else { HandshakeError::from(error) }
    }

    /// Whether a request for `host` (without port) belongs on a connection whose client asked for
    /// `sni`; `false` is answered 421 Misdirected Request (RFC 9110 §15.5.20).
    ///
    /// A client may send requests for other hosts over a connection whose certificate is valid for
    /// them too (RFC 9113 §9.1.1), so a different name alone is no fault. Only this is: some
    /// certificate of the listener covers `host`, and the one shown for `sni` does not. Then the
    /// client (or who steers it) picked the wrong connection, and a new one would get the right
    /// certificate, which is the very thing 421 tells it to do. Therefore always `true`:
    ///
    /// * without SNI (access by address, health checks, old clients): nothing was asked for;
    /// * for `host` equal to `sni`: a retry on a fresh connection always gets through;
    /// * for a `host` that no certificate covers: no other connection would be better. The client
    ///   has accepted the certificate it saw, and whether there is a route is the router's matter.
    ///
    /// This is no question of access: whether a connection was made under the demands that hold
    /// for `host` is asked before (`still_admits`, and the demands of single hosts).
    pub fn covers(&self, sni: Option<&str>, host: &str) -> bool {
        sni.is_none_or(|sni| self.resolver.covers(sni, host))
    }
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerTls")
            .field("listener", &self.listener)
            .field("certificates", &self.certificates)
            .field("policy", &self.policy)
            .field("http2", &self.http2)
            .finish_non_exhaustive()
    }
}

/// What clients are asked for.
#[derive(Clone, Copy)]
enum Terms<'a> {
    Policy(&'a ClientPolicy),
    Demand(&'a Arc<ClientDemand>),
}

/// A configuration for each demand. Where everybody is refused there is none: they are, too.
fn demanding(
    listener: &str,
    spec: &ListenerTls,
    demands: &[Arc<ClientDemand>],
    http2: bool,
    shared: &TlsShared,
    policy: &ClientPolicy,
    resolver: &Arc<Resolver>,
) -> HashMap<PolicyId, Arc<ServerConfig>> {
    if matches!(policy, ClientPolicy::Refuse) {
        return HashMap::new();
    }
    let mut configs = HashMap::new();
    for demand in demands {
        configs.entry(demand.id).or_insert_with(|| {
            config(listener, spec, http2, shared, Terms::Demand(demand), Arc::clone(resolver))
        });
    }
    configs
}

fn config(
    listener: &str,
    spec: &ListenerTls,
    http2: bool,
    shared: &TlsShared,
    terms: Terms<'_>,
    resolver: Arc<Resolver>,
) -> Arc<ServerConfig> {
    let builder = shared.server(spec.min_version);
    let (builder, scope) = match terms {
        Terms::Policy(policy @ ClientPolicy::Verify(verify)) => {
            let verifier = Arc::clone(&verify.verifier);
            (builder.with_client_cert_verifier(verifier), Some(policy.scope(listener)))
        }
        Terms::Policy(policy @ ClientPolicy::Open) => {
            (builder.with_no_client_auth(), Some(policy.scope(listener)))
        }
        // A refusing listener's resolver has no certificate, so no handshake gets to this.
        Terms::Policy(ClientPolicy::Refuse) => (builder.with_no_client_auth(), None),
        Terms::Demand(demand) => {
            let asking = Arc::new(Asking(Arc::clone(demand)));
            (builder.with_client_cert_verifier(asking), Some(demand.scope(listener)))
        }
    };
    let mut config = builder.with_cert_resolver(resolver);
    config.alpn_protocols = match http2 {
        true => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        false => vec![b"http/1.1".to_vec()],
    };
    // Tickets alone: they hold for all workers without a lock or memory per session. Only clients
    // of TLS 1.2 without tickets (RFC 5077) lose anything.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    if let Some(scope) = scope {
        config.ticketer = Arc::new(ScopedTickets::new(Arc::clone(&shared.tickets), scope));
    }
    config.max_early_data_size = 0;
    Arc::new(config)
}

fn resolver(slots: &[Arc<Slot>], policy: &ClientPolicy, shared: &TlsShared) -> Resolver {
    if matches!(policy, ClientPolicy::Refuse) {
        return Resolver::refusing();
    }
    let served: Vec<_> = slots.iter().map(|slot| slot.served.clone()).collect();
    Resolver::new(&served, &shared.last_resort)
}

fn infos(slots: &[Arc<Slot>], shared: &TlsShared) -> Vec<Arc<CertificateInfo>> {
    if slots.is_empty() {
        let origin = Origin {
            provider: Name::from("builtin"),
            kind: Name::from("certificate"),
            name: Name::from("last-resort"),
            ..Origin::default()
        };
        return vec![Arc::new(CertificateInfo { origin, ..shared.last_resort.info.clone() })];
    }
    slots.iter().map(|slot| slot.info.clone()).collect()
}
