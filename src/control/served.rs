//! What metrics are told of a snapshot that is published.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::ir::{Certificate, HostPattern, IngressRule, Name, Origin};
use crate::snapshot::Snapshot;
use crate::telemetry::{CertificateExpiry, Metrics, SecretCertificate};

/// Tells `metrics` what `snapshot` serves.
pub(super) fn tell(snapshot: &Snapshot, metrics: &Metrics) {
    metrics.control().set_generation(snapshot.generation);
    metrics.control().set_certificates(certificates(snapshot));
    if metrics.ingress_nginx().is_enabled() {
        metrics.ingress_nginx().set_served(rules(snapshot), secrets(snapshot));
    }
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
            declared.map(|certificate| (&certificate.origin, certificate)).collect();
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
