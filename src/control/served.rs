//! What metrics are told of a snapshot that is published.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::ir::{Certificate, HostPattern, IngressRule, Name, Origin};
use crate::snapshot::{CompiledListener, Snapshot};
use crate::telemetry::{CertificateExpiry, Metrics, SecretCertificate};

/// Tells `metrics` what `snapshot` serves, as far as that is not what `before` served.
pub(super) fn tell(snapshot: &Snapshot, before: Option<&Snapshot>, metrics: &Metrics) {
    metrics.control().set_generation(snapshot.generation);
    if !before.is_some_and(|before| have_same_certificates(snapshot, before)) {
        metrics.control().set_certificates(certificates(snapshot));
    }
    if metrics.ingress_nginx().is_enabled() {
        metrics.ingress_nginx().set_served(rules(snapshot), secrets(snapshot));
    }
}

fn have_same_certificates(a: &Snapshot, b: &Snapshot) -> bool {
    let of = |snapshot: &Snapshot| {
        let one = |listener: &Arc<CompiledListener>| {
            (listener.name.clone(), listener.tls.as_ref().map(Arc::as_ptr))
        };
        snapshot.listeners().map(one).collect::<Vec<_>>()
    };
    of(a) == of(b)
}

fn certificates(snapshot: &Snapshot) -> Vec<CertificateExpiry> {
    let mut all = Vec::new();
    for listener in snapshot.listeners() {
        for certificate in listener.tls.iter().flat_map(|tls| &tls.certificates) {
            let name = certificate.names.first().map_or("-", |name| name.as_str());
            all.push(CertificateExpiry {
                listener: listener.name.clone(),
                name: name.into(),
                not_after: certificate.not_after,
            });
        }
    }
    all
}

fn rules(snapshot: &Snapshot) -> Vec<Arc<IngressRule>> {
    let rules = snapshot.declared().filter_map(|(route, _)| route.rule.as_ref());
    rules.map(|rule| rule.spec.clone()).collect()
}

/// The certificates out of Secrets, and for which hosts.
fn secrets(snapshot: &Snapshot) -> Vec<SecretCertificate> {
    let mut all = Vec::new();
    for listener in snapshot.listeners() {
        let declared = listener.spec.tls.iter().flat_map(|tls| &tls.certificates);
        let declared: BTreeMap<&Origin, &Certificate> =
            declared.map(|certificate| (&certificate.origin, &**certificate)).collect();
        for info in listener.tls.iter().flat_map(|tls| &tls.certificates) {
            let Some(certificate) = declared.get(&info.origin) else { continue };
            if info.origin.kind.as_str() != "Secret" {
                continue;
            }
            let host = |host: &HostPattern| Name::from(host.to_string());
            all.push(SecretCertificate {
                namespace: info.origin.namespace.clone(),
                secret: info.origin.name.clone(),
                hosts: match &certificate.only_for {
                    Some(hosts) => hosts.iter().map(host).collect(),
                    None => vec![Name::from("_")],
                },
                not_after: info.not_after,
                serial: info.details.serial.clone(),
                issuer_organization: info.details.issuer_organization.clone(),
                issuer_common_name: info.details.issuer_common_name.clone(),
                key_algorithm: info.details.key_algorithm,
            });
        }
    }
    all
}
