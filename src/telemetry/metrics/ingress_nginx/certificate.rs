//! Certificates out of Secrets.

use std::collections::BTreeMap;

use super::families::Series;
use crate::ir::Name;
use crate::telemetry::metrics::page::Page;

/// A certificate out of a Secret. Holds nothing secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretCertificate {
    /// The namespace of the Secret.
    pub namespace: Name,
    /// Its name.
    pub secret: Name,
    /// The hosts it is served for; `_` is every one that no other is for.
    pub hosts: Vec<Name>,
    /// Its `notAfter`, Unix seconds.
    pub not_after: i64,
    /// Its serial number, decimal.
    pub serial: String,
    /// The organisation of who signed it.
    pub issuer_organization: String,
    /// The common name of who signed it.
    pub issuer_common_name: String,
    /// `RSA`, `ECDSA` or `Ed25519`.
    pub key_algorithm: &'static str,
}

/// One series for each Secret and host: a listener that serves it, too, adds none.
pub(super) fn collect(certificates: &[SecretCertificate], class: &str, page: &mut Page<Series>) {
    let mut found = BTreeMap::new();
    for certificate in certificates {
        for host in &certificate.hosts {
            let key = (&certificate.namespace, &certificate.secret, host);
            found.entry(key).or_insert(certificate);
        }
    }
    for ((namespace, secret, host), certificate) in found {
        let identifier = format!("{namespace}/{secret}-{}", certificate.serial);
        let labels = [namespace.as_str(), secret.as_str(), host.as_str(), class, &identifier];
        page.gauge(Series::SslExpiry, &labels, certificate.not_after as f64);
        let [namespace, secret, host, class, identifier] = labels;
        let labels = [
            namespace,
            secret,
            host,
            class,
            identifier,
            &certificate.issuer_organization,
            &certificate.issuer_common_name,
            &certificate.serial,
            certificate.key_algorithm,
        ];
        page.gauge(Series::SslCertificate, &labels, 1.0);
    }
}
