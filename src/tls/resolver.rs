//! Which certificate a client sees.
//!
//! Of the certificates that cover the name the client asks for, those come first whose key the
//! client can verify, then those valid now, then those that state the name itself before those
//! with a wildcard, then elliptic curves before RSA, then the later expiry, then declaration order.
//! A client that names no host, or one that nothing covers, is served like the clients of the first
//! certificate that is for everybody.

use std::cmp::Reverse;
use std::fmt;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use rustls::SignatureScheme;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use smallvec::SmallVec;

use super::certificate::LoadedCertificate;
use super::names::{self, CertificateName, NameTable};

/// The certificates of one listener.
pub(super) struct Resolver {
    /// In order of preference within one name. Empty: every handshake is refused.
    certificates: Vec<Arc<LoadedCertificate>>,
    table: NameTable,
    /// Those that serve unknown names.
    default: Vec<u32>,
}

/// A certificate and whom it is for.
#[derive(Clone)]
pub(super) struct Served {
    pub(super) certificate: Arc<LoadedCertificate>,
    /// The names it is served for; `None` for all of its own, and for unknown ones.
    pub(super) only_for: Option<Arc<[CertificateName]>>,
}

impl Resolver {
    /// A resolver over `certificates` in declaration order. Where each of them is only for some
    /// hosts, `last_resort` serves all others.
    pub(super) fn new(certificates: &[Served], last_resort: &Arc<LoadedCertificate>) -> Self {
        let open = |served: &&Served| served.only_for.is_none();
        let first = certificates.iter().find(open).map(|served| served.certificate.clone());
        let mut served = certificates.to_vec();
        // The sort is stable: declaration order settles what is equal.
        served.sort_by_key(|s| (s.certificate.rsa, Reverse(s.certificate.info.not_after)));
        let mut table = NameTable::default();
        let mut default = Vec::new();
        for (index, served) in (0..).zip(&served) {
            let certificate = &served.certificate;
            for name in served.only_for.as_deref().unwrap_or(&certificate.names) {
                table.insert(name, index);
            }
            // The first certificate's twins, with another kind of key, serve with it.
            if served.only_for.is_none()
                && first.as_ref().is_some_and(|first| same_names(first, certificate))
            {
                default.push(index);
            }
        }
        let mut certificates: Vec<_> = served.into_iter().map(|s| s.certificate).collect();
        if default.is_empty() {
            default.extend(u32::try_from(certificates.len()));
            certificates.push(Arc::clone(last_resort));
        }
        Self { certificates, table, default }
    }

    /// A resolver that refuses every handshake.
    pub(super) fn refusing() -> Self {
        Self { certificates: Vec::new(), table: NameTable::default(), default: Vec::new() }
    }

    /// The certificate for a client that asks for `sni` and verifies `schemes`, at `now` in Unix
    /// seconds. One the client cannot verify is named when there is no other, so that the alert
    /// says why; `None` only where everything is refused.
    fn pick(
        &self,
        sni: Option<&str>,
        schemes: &[SignatureScheme],
        now: i64,
    ) -> Option<&Arc<LoadedCertificate>> {
        let ranked = self.ranked(sni);
        let usable =
            || ranked.iter().copied().filter(|c| c.key.key.choose_scheme(schemes).is_some());
        usable()
            .find(|c| c.valid_at(now))
            .or_else(|| usable().next())
            .or_else(|| ranked.first().copied())
    }

    /// See `ServerTls::covers`.
    pub(super) fn covers(&self, sni: &str, host: &str) -> bool {
        if names::same_host(sni, host) {
            return true;
        }
        let host = self.table.lookup(host);
        if host.is_empty() {
            return true;
        }
        let now = unix_now();
        let ranked = self.ranked(Some(sni));
        // What this client was shown depends on the signatures it can verify: the best of either
        // kind of key.
        [false, true].into_iter().any(|rsa| {
            let kind = || ranked.iter().filter(|c| c.rsa == rsa);
            let shown = kind().find(|c| c.valid_at(now)).or_else(|| kind().next());
            shown.is_some_and(|shown| {
                host.iter().filter_map(|index| self.get(index)).any(|c| Arc::ptr_eq(c, shown))
            })
        })
    }

    fn ranked(&self, sni: Option<&str>) -> SmallVec<[&Arc<LoadedCertificate>; 4]> {
        let covering = sni.map(|sni| self.table.lookup(sni)).filter(|found| !found.is_empty());
        match covering {
            Some(covering) => covering.iter().filter_map(|index| self.get(index)).collect(),
            None => self.default.iter().filter_map(|index| self.get(*index)).collect(),
        }
    }

    fn get(&self, index: u32) -> Option<&Arc<LoadedCertificate>> {
        self.certificates.get(index as usize)
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let picked = self.pick(hello.server_name(), hello.signature_schemes(), unix_now())?;
        Some(Arc::clone(&picked.key))
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver").field("certificates", &self.certificates.len()).finish()
    }
}

fn same_names(a: &Arc<LoadedCertificate>, b: &Arc<LoadedCertificate>) -> bool {
    Arc::ptr_eq(a, b)
        || (!a.names.is_empty()
            && a.names.len() == b.names.len()
            && a.names.iter().all(|name| b.names.contains(name)))
}

fn unix_now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_secs()).unwrap_or(i64::MAX)
}
