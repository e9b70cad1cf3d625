//! Self-signed certificates: the demo's, and the one of last resort.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, date_time_ymd,
};

use super::TlsError;
use crate::ir::SecretBytes;

const DAY: Duration = Duration::from_secs(24 * 3600);
/// The longest life browsers accept of a certificate someone adds to their trust store by hand.
const DEMO_LIFE: Duration = Duration::from_secs(397 * 24 * 3600);
/// Nobody trusts it anyway; it must not run out under a process that lives for years.
const LAST_RESORT_LIFE: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// A new self-signed certificate (P-256, valid from yesterday for about thirteen months) for
/// `names`, host names or addresses: the chain and the key as PEM.
pub fn self_signed(names: &[&str]) -> Result<(String, SecretBytes), TlsError> {
    issue(names, names.first().copied().unwrap_or("localhost"), DEMO_LIFE)
}

/// The certificate that serves where no other can: without a name, so that no client takes it for
/// someone's.
pub(super) fn last_resort() -> Result<(String, SecretBytes), TlsError> {
    issue(&[], "Portcullis certificate of last resort", LAST_RESORT_LIFE)
}

fn issue(names: &[&str], subject: &str, life: Duration) -> Result<(String, SecretBytes), TlsError> {
    let crypto = |error: rcgen::Error| TlsError::Crypto(error.to_string());
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).map_err(crypto)?;
    let epoch = date_time_ymd(1970, 1, 1);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    params.not_before = epoch + now.saturating_sub(DAY);
    params.not_after = epoch + (now + life);
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, subject);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(crypto)?;
    let certificate = params.self_signed(&key).map_err(crypto)?;
    Ok((certificate.pem(), SecretBytes::new(key.serialize_pem().into_bytes())))
}
