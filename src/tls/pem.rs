//! PEM text to DER. Errors never quote the input: a mangled key file must not end up in a log.

use rustls::RootCertStore;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::{CaFault, CertificateFault};

/// A real chain has a few certificates of about 2 KiB.
const MAX_CHAIN: usize = 256 * 1024;
const MAX_CHAIN_CERTIFICATES: usize = 16;
/// Mozilla's whole set is about 200 KiB.
const MAX_CAS: usize = 4 * 1024 * 1024;

/// The certificates of `pem` in order.
pub(super) fn chain(pem: &str) -> Result<Vec<CertificateDer<'static>>, CertificateFault> {
    if pem.len() > MAX_CHAIN {
        return Err(CertificateFault::ChainTooLarge);
    }
    let chain = CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| CertificateFault::ChainPem)?;
    match chain.len() {
        0 => Err(CertificateFault::ChainEmpty),
        n if n > MAX_CHAIN_CERTIFICATES => Err(CertificateFault::ChainTooLarge),
        _ => Ok(chain),
    }
}

/// The first private key of `pem`.
pub(super) fn key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, CertificateFault> {
    if pem.len() > MAX_CHAIN {
        return Err(CertificateFault::KeyUnsupported);
    }
    match PrivateKeyDer::from_pem_slice(pem) {
        Ok(key) => Ok(key),
        Err(_) if contains(pem, b"ENCRYPTED") => Err(CertificateFault::KeyEncrypted),
        Err(rustls_pki_types::pem::Error::NoItemsFound) => Err(CertificateFault::KeyMissing),
        Err(_) => Err(CertificateFault::KeyPem),
    }
}

/// The CAs of `pem` as trust anchors. All must be sound: a set of which a part silently does not
/// count is not what was asked for.
pub(super) fn roots(pem: &str) -> Result<RootCertStore, CaFault> {
    if pem.len() > MAX_CAS {
        return Err(CaFault::TooLarge);
    }
    let mut roots = RootCertStore::empty();
    for (index, der) in CertificateDer::pem_slice_iter(pem.as_bytes()).enumerate() {
        let der = der.map_err(|_| CaFault::Pem)?;
        roots.add(der).map_err(|_| CaFault::Damaged(index + 1))?;
    }
    if roots.is_empty() { Err(CaFault::Empty) } else { Ok(roots) }
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}
