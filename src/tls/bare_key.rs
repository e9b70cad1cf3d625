//! The key of a client certificate that cannot be verified as one.
//!
//! The verifier reads X.509 version 3 only, and many a certificate that was signed by hand is of
//! version 1. A host that answers bad certificates by HTTP has to get through the handshake with
//! these, too: the client proves that it has the key, and what the certificate says counts for
//! nothing.

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature_with_raw_key};
use rustls::{CertificateError, DigitallySignedStruct, Error};
use rustls_pki_types::{CertificateDer, SubjectPublicKeyInfoDer};
use webpki::{EndEntityCert, RawPublicKeyEntity};

use super::x509;

/// A public key (RFC 5280 §4.1.2.7).
pub(super) struct BareKey(SubjectPublicKeyInfoDer<'static>);

impl BareKey {
    /// The key of a certificate that the verifier does not read; `None` where it does, or where
    /// there is no certificate to see in it.
    pub fn of_unreadable(certificate: &CertificateDer<'_>) -> Option<Self> {
        if EndEntityCert::try_from(certificate).is_ok() {
            return None;
        }
        let key = x509::parse(certificate)?.public_key().raw.to_vec();
        Some(Self(key.into()))
    }

    /// Whether it has signed a TLS 1.2 handshake (RFC 5246 §7.4.8).
    ///
    /// # Errors
    /// If it has not.
    pub fn verify_tls12(
        &self,
        message: &[u8],
        signed: &DigitallySignedStruct,
        algorithms: &WebPkiSupportedAlgorithms,
    ) -> Result<HandshakeSignatureValid, Error> {
        let bad = || Error::from(CertificateError::BadSignature);
        let key = RawPublicKeyEntity::try_from(&self.0).map_err(|_| bad())?;
        let of_scheme = algorithms.mapping.iter().filter(|(scheme, _)| *scheme == signed.scheme);
        // In TLS 1.2 a scheme does not say the curve.
        let mut candidates = of_scheme.flat_map(|(_, candidates)| *candidates);
        match candidates
            .any(|algorithm| key.verify_signature(*algorithm, message, signed.signature()).is_ok())
        {
            true => Ok(HandshakeSignatureValid::assertion()),
            false => Err(bad()),
        }
    }

    /// The same of TLS 1.3 (RFC 8446 §4.4.3).
    ///
    /// # Errors
    /// If it has not.
    pub fn verify_tls13(
        &self,
        message: &[u8],
        signed: &DigitallySignedStruct,
        algorithms: &WebPkiSupportedAlgorithms,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature_with_raw_key(message, &self.0, signed, algorithms)
    }
}
