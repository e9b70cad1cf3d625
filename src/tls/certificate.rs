//! One server certificate: loaded, checked against its key, and what there is to say about it.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use rustls::SignatureAlgorithm;
use rustls::crypto::CryptoProvider;
use rustls::sign::CertifiedKey;
use serde::Serialize;
use x509_parser::prelude::{GeneralName, X509Certificate};
use x509_parser::public_key::PublicKey;
use x509_parser::x509::AttributeTypeAndValue;

use super::names::CertificateName;
use super::{CertificateFault, pem, x509};
use crate::ir::{Origin, Problem};

/// What metrics and the admin API show of a certificate. Holds nothing secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CertificateInfo {
    /// Host names and addresses it is for, as it states them; printable ASCII.
    pub names: Vec<String>,
    /// Its subject (RFC 4514).
    pub subject: String,
    /// Who signed it (RFC 4514).
    pub issuer: String,
    /// Its serial number, upper-case hexadecimal.
    pub serial: String,
    /// What metrics under ingress-nginx's names tell of it beside that.
    #[serde(skip)]
    pub details: CertificateDetails,
    /// The start of its validity, Unix seconds.
    pub not_before: i64,
    /// The end of its validity, Unix seconds.
    pub not_after: i64,
    /// Where it was declared.
    pub origin: Origin,
    /// Whether it names itself as its issuer.
    pub self_signed: bool,
    /// SHA-256 over the certificate, lower-case hexadecimal.
    pub fingerprint_sha256: String,
}

/// Parts of a certificate, each by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateDetails {
    /// Its serial number, decimal.
    pub serial: String,
    /// The organisation of its issuer; empty where it has none.
    pub issuer_organization: String,
    /// The common name of its issuer; empty where it has none.
    pub issuer_common_name: String,
    /// `RSA`, `ECDSA` or `Ed25519`.
    pub key_algorithm: &'static str,
}

/// How long before its end a certificate is worth a warning: time to find out why it was not
/// renewed, which is usually tried with a month to go.
const RUNS_OUT: i64 = 21 * DAY;
/// Certificates that live for days are renewed later; nothing is wrong with a third to go.
const LAST_PART: i64 = 3;
const DAY: i64 = 24 * 60 * 60;

impl CertificateInfo {
    /// What there is to say of its validity at `now` (Unix seconds): that it ended, ends soon or
    /// has not begun. It is served all the same.
    pub fn validity(&self, now: i64) -> Option<Problem> {
        let lifetime = self.not_after.saturating_sub(self.not_before);
        let left = self.not_after.saturating_sub(now);
        let (message, hint) = if left < 0 {
            let message = format!("the certificate expired on {}", date(self.not_after));
            (message, "renew it; it is served until then")
        } else if self.not_before > now {
            let message = format!("the certificate is valid only from {}", date(self.not_before));
            (message, "check the clock, or give one valid now")
        } else if left < RUNS_OUT.min(lifetime / LAST_PART) {
            (format!("the certificate expires on {}", date(self.not_after)), "renew it")
        } else {
            return None;
        };
        Some(Problem::warning(message).hint(hint).about(&self.origin))
    }
}

fn date(unix: i64) -> String {
    let since = Duration::from_secs(u64::try_from(unix).unwrap_or_default());
    UNIX_EPOCH.checked_add(since).map(httpdate::fmt_http_date).unwrap_or_default()
}

/// A chain and key that belong together, ready to serve.
pub(super) struct LoadedCertificate {
    /// Chain and key in one piece, so that no handshake mixes those of two versions.
    pub(super) key: Arc<CertifiedKey>,
    /// What it may be served for.
    pub(super) names: Vec<CertificateName>,
    /// Whether its signatures are RSA: several times the CPU of an elliptic curve.
    pub(super) rsa: bool,
    /// What there is to say, but for the origin.
    pub(super) info: CertificateInfo,
    /// Whether each certificate is signed by the one after it, going by the names.
    pub(super) chain_in_order: bool,
}

impl LoadedCertificate {
    /// Loads `chain` (PEM, leaf first) and its private `key` (PEM).
    pub(super) fn load(
        chain: &str,
        key: &[u8],
        provider: &CryptoProvider,
    ) -> Result<Self, CertificateFault> {
        let chain = pem::chain(chain)?;
        let leaf = chain.first().ok_or(CertificateFault::ChainEmpty)?;
        let certificate = x509::parse(leaf).ok_or(CertificateFault::Leaf)?;
        if rsa_bits(&certificate) > MAX_RSA_BITS {
            return Err(CertificateFault::KeyTooLarge);
        }
        let info = describe(&certificate, leaf);
        let names = info.names.iter().filter_map(|name| CertificateName::parse(name)).collect();
        let chain_in_order = chain.windows(2).all(|pair| match pair {
            [lower, upper] => match (x509::parse(lower), x509::parse(upper)) {
                (Some(lower), Some(upper)) => lower.issuer().as_raw() == upper.subject().as_raw(),
                _ => false,
            },
            _ => true,
        });
        let signer = provider
            .key_provider
            .load_private_key(pem::key(key)?)
            .map_err(|_| CertificateFault::KeyUnsupported)?;
        let rsa = signer.algorithm() == SignatureAlgorithm::RSA;
        drop(certificate);
        let key = CertifiedKey::new(chain, signer);
        key.keys_match().map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => CertificateFault::Mismatch,
            _ => CertificateFault::Leaf,
        })?;
        Ok(Self { key: Arc::new(key), names, rsa, info, chain_in_order })
    }

    /// Whether its validity covers `now`, Unix seconds.
    pub(super) fn valid_at(&self, now: i64) -> bool {
        (self.info.not_before..=self.info.not_after).contains(&now)
    }
}

impl fmt::Debug for LoadedCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoadedCertificate").field("info", &self.info).finish_non_exhaustive()
    }
}

/// One signature with 8192 bits takes tens of milliseconds, during which its worker serves nobody.
const MAX_RSA_BITS: usize = 4096;

fn rsa_bits(certificate: &X509Certificate<'_>) -> usize {
    match certificate.public_key().parsed() {
        Ok(PublicKey::RSA(key)) => key.key_size(),
        _ => 0,
    }
}

fn describe(certificate: &X509Certificate<'_>, der: &[u8]) -> CertificateInfo {
    CertificateInfo {
        names: host_names(certificate),
        subject: x509::distinguished_name(certificate.subject()),
        issuer: x509::distinguished_name(certificate.issuer()),
        serial: x509::serial(certificate),
        details: details(certificate),
        not_before: certificate.validity().not_before.timestamp(),
        not_after: certificate.validity().not_after.timestamp(),
        origin: Origin::default(),
        self_signed: certificate.subject().as_raw() == certificate.issuer().as_raw(),
        fingerprint_sha256: x509::fingerprint(der),
    }
}

fn details(certificate: &X509Certificate<'_>) -> CertificateDetails {
    let issuer = certificate.issuer();
    let text = |part: Option<&AttributeTypeAndValue<'_>>| {
        part.and_then(|part| part.as_str().ok()).map(x509::printable).unwrap_or_default()
    };
    CertificateDetails {
        serial: certificate.serial.to_string(),
        issuer_organization: text(issuer.iter_organization().next()),
        issuer_common_name: text(issuer.iter_common_name().next()),
        key_algorithm: match certificate.public_key().parsed() {
            Ok(PublicKey::RSA(_)) => "RSA",
            Ok(PublicKey::EC(_)) => "ECDSA",
            _ => "Ed25519",
        },
    }
}

/// The subject alternative names; the common name only where there are none (RFC 9525 §6.4.4 has
/// clients ignore it, but a resolver that ignored it would serve old certificates to nobody).
fn host_names(certificate: &X509Certificate<'_>) -> Vec<String> {
    match x509::alternative_names(certificate) {
        Some(names) => names
            .iter()
            .filter_map(|name| match name {
                GeneralName::DNSName(name) => Some(x509::printable(name)),
                GeneralName::IPAddress(bytes) => Some(x509::address(bytes)?.to_string()),
                _ => None,
            })
            .collect(),
        None => certificate
            .subject()
            .iter_common_name()
            .filter_map(|name| name.as_str().ok())
            .filter(|name| CertificateName::parse(name).is_some())
            .map(str::to_owned)
            .collect(),
    }
}
