//! Declared certificates, loaded, and what serves in the place of those that cannot be.
//!
//! There may be thousands, of which an edit changes one: what was declared is known by its address, and
//! what it came to is taken over.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::certificate::LoadedCertificate;
use super::names::CertificateName;
use super::resolver::Served;
use super::{CertificateFault, CertificateInfo, TlsShared};
use crate::ir::{Certificate, Name, Origin, Problem, SecretBytes};

/// A declared certificate and what serves in its place: itself, or its last good version.
pub(super) struct Slot {
    declared: Arc<Certificate>,
    /// Which of several of its origin it is.
    number: usize,
    chain: Arc<str>,
    key: SecretBytes,
    loaded: Arc<LoadedCertificate>,
    /// What is to be said of it.
    pub info: Arc<CertificateInfo>,
    /// Whom it serves: no host that the certificate is not valid for.
    pub served: Served,
    /// The hosts that it is declared for and not valid for.
    uncovered: Box<[CertificateName]>,
    problems: Vec<Problem>,
}

/// What makes a certificate the same one after an edit: its origin, wherever that stands in the
/// file by now, and for several of one origin which of them.
type Identity<'o> = ([&'o Name; 5], usize);

fn place(origin: &Origin) -> [&Name; 5] {
    let Origin { provider, kind, namespace, name, rule, location: _ } = origin;
    [provider, kind, namespace, name, rule]
}

impl Slot {
    fn new(
        declared: &Arc<Certificate>,
        number: usize,
        (chain, key): (&Arc<str>, &SecretBytes),
        loaded: Arc<LoadedCertificate>,
    ) -> Self {
        let origin = declared.origin.clone();
        let info = CertificateInfo { origin, ..loaded.info.clone() };
        let hosts = declared.only_for.iter().flatten();
        let names = hosts.filter_map(|host| CertificateName::parse(&host.to_string()));
        let (valid, uncovered): (Vec<_>, Vec<_>) =
            names.partition(|host| loaded.names.iter().any(|own| own.covers(host)));
        let only_for = declared.only_for.is_some().then(|| valid.into());
        Self {
            declared: declared.clone(),
            number,
            chain: chain.clone(),
            key: key.clone(),
            info: info.into(),
            served: Served { certificate: loaded.clone(), only_for },
            uncovered: uncovered.into(),
            problems: warnings(&declared.origin, &loaded),
            loaded,
        }
    }
}

/// Loads `certificates`, of which those that are as in `previous` stay.
pub(super) fn load(
    certificates: &[Arc<Certificate>],
    shared: &TlsShared,
    previous: &[Arc<Slot>],
    problems: &mut Vec<Problem>,
) -> Vec<Arc<Slot>> {
    let address = |declared: &Arc<Certificate>| Arc::as_ptr(declared).addr();
    let same: HashMap<usize, &Arc<Slot>, foldhash::fast::RandomState> =
        previous.iter().map(|slot| (address(&slot.declared), slot)).collect();
    // Only where one is another.
    let mut known: Option<HashMap<Identity<'_>, &Arc<Slot>>> = None;
    let mut seen: HashMap<[&Name; 5], usize, foldhash::fast::RandomState> = HashMap::default();
    let mut slots = Vec::with_capacity(certificates.len());
    for declared in certificates {
        let place = place(&declared.origin);
        let count = seen.entry(place).or_default();
        let number = *count;
        *count += 1;
        let stays = same.get(&address(declared)).filter(|slot| slot.number == number);
        let slot = stays.map(|slot| Arc::clone(slot)).or_else(|| {
            let known = known.get_or_insert_with(|| by_identity(previous));
            let last = known.get(&(place, number)).map(|slot| &***slot);
            one(declared, number, last, shared, problems).map(Arc::new)
        });
        if let Some(slot) = slot {
            problems.extend(slot.problems.iter().cloned());
            slots.push(slot);
        }
    }
    problems.extend(uncovered(&slots));
    slots
}

fn by_identity(slots: &[Arc<Slot>]) -> HashMap<Identity<'_>, &Arc<Slot>> {
    slots.iter().map(|slot| ((place(&slot.declared.origin), slot.number), slot)).collect()
}

/// What comes of one; what is wrong is put down in it, or in `problems` where nothing comes of it.
fn one(
    declared: &Arc<Certificate>,
    number: usize,
    last: Option<&Slot>,
    shared: &TlsShared,
    problems: &mut Vec<Problem>,
) -> Option<Slot> {
    let fault = match fresh(declared, number, last, shared) {
        Ok(slot) => return Some(slot),
        Err(fault) => fault,
    };
    let consequence = match last {
        Some(_) => "the last good certificate stays in use",
        None => "it is left out",
    };
    let name = &declared.origin.name;
    let message = format!("the certificate '{name}' cannot be used, so {consequence}: {fault}");
    let problem = Problem::error(message).hint(fault.hint()).about(&declared.origin);
    let Some(last) = last else {
        problems.push(problem);
        return None;
    };
    let pair = (&last.chain, &last.key);
    let slot = Slot::new(declared, number, pair, Arc::clone(&last.loaded));
    Some(Slot { problems: vec![problem], ..slot })
}

fn fresh(
    declared: &Arc<Certificate>,
    number: usize,
    last: Option<&Slot>,
    shared: &TlsShared,
) -> Result<Slot, CertificateFault> {
    let chain = declared.chain.as_ref().ok_or(CertificateFault::ChainUnreadable)?;
    let key = declared.key.as_ref().ok_or(CertificateFault::KeyUnreadable)?;
    let loaded = match last {
        Some(last) if last.chain == *chain && last.key == *key => Arc::clone(&last.loaded),
        _ => Arc::new(LoadedCertificate::load(chain, key.expose(), &shared.provider)?),
    };
    Ok(Slot::new(declared, number, (chain, key), loaded))
}

/// The hosts for which certificates are declared of which none is valid for them.
fn uncovered(slots: &[Arc<Slot>]) -> Vec<Problem> {
    let mut found: Vec<(&CertificateName, &Origin)> = Vec::new();
    for slot in slots {
        for host in &slot.uncovered {
            if !found.iter().any(|(known, _)| *known == host) {
                found.push((host, &slot.declared.origin));
            }
        }
    }
    if !found.is_empty() {
        let served =
            slots.iter().flat_map(|slot| slot.served.only_for.iter().flat_map(|all| &**all));
        let served: HashSet<&CertificateName> = served.collect();
        found.retain(|(host, _)| !served.contains(host));
    }
    let problem = |(host, origin): (&CertificateName, &Origin)| {
        let problem = Problem::warning(format!("the certificate is not valid for {host}"));
        problem.hint("the default certificate is used for it").about(origin)
    };
    found.into_iter().map(problem).collect()
}

/// What is odd about a certificate that serves nevertheless. (Whether it is valid depends on the
/// time: [`CertificateInfo::validity`].)
fn warnings(origin: &Origin, loaded: &LoadedCertificate) -> Vec<Problem> {
    let mut found = Vec::new();
    if !loaded.chain_in_order {
        let problem = Problem::warning("a certificate of the chain is not signed by the next one");
        found.push(problem.hint("put the server's certificate first, then each one's issuer"));
    }
    if loaded.names.is_empty() {
        let problem = Problem::warning("the certificate is for no host name");
        found.push(problem.hint("get one with the host names as subject alternative names"));
    }
    found.into_iter().map(|problem| problem.about(origin)).collect()
}
