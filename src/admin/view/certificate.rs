//! Certificates.

use serde::{Deserialize, Serialize};

use crate::snapshot::Snapshot;

/// A certificate that a listener shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateView {
    /// The listener.
    pub listener: String,
    /// The host names and addresses it is for.
    pub names: Vec<String>,
    /// Its subject (RFC 4514).
    pub subject: String,
    /// Who signed it (RFC 4514).
    pub issuer: String,
    /// Its serial number, hexadecimal.
    pub serial: String,
    /// The start of its validity.
    pub not_before: i64,
    /// The end of its validity.
    pub not_after: i64,
    /// Whether it names itself as its issuer.
    pub self_signed: bool,
    /// SHA-256 over the certificate, hexadecimal.
    pub fingerprint_sha256: String,
    /// Where it was declared.
    pub origin: String,
}

/// The certificates of every listener; the first of each serves clients without SNI.
pub fn certificates(snapshot: &Snapshot) -> Vec<CertificateView> {
    let mut all = Vec::new();
    for listener in snapshot.listeners() {
        let infos = listener.tls.iter().flat_map(|tls| &tls.certificates);
        all.extend(infos.map(|info| CertificateView {
            listener: listener.name.to_string(),
            names: info.names.clone(),
            subject: info.subject.clone(),
            issuer: info.issuer.clone(),
            serial: info.serial.clone(),
            not_before: info.not_before,
            not_after: info.not_after,
            self_signed: info.self_signed,
            fingerprint_sha256: info.fingerprint_sha256.clone(),
            origin: info.origin.to_string(),
        }));
    }
    all
}
