//! What single hosts demand of client certificates, beside the policy of their listener.
//!
//! The handshake asks for a certificate and has the client prove that it has the key, but does not
//! fail for what the certificate says: a host answers by HTTP. What the certificate is worth is
//! settled once the handshake is through, in a resumed session as in a new one.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::digest;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime};
use webpki::{
    CertRevocationList, EndEntityCert, ExpirationPolicy, KeyUsage, OwnedCertRevocationList,
    RevocationCheckDepth, RevocationOptionsBuilder, UnknownStatusPolicy, VerifiedPath,
};

use super::bare_key::BareKey;
use super::client_auth::{roots_digest, sha256};
use super::tickets::Scope;
use super::{CaFault, HandshakeError, PeerCertificate, PolicyId, TlsShared, pem};
use crate::ir::ClientTrust;

/// The certificates a client may show, and how they are verified. Two of the same identity take
/// the same ones.
pub struct ClientDemand {
    /// Tells it from others, and from the policies of listeners.
    pub id: PolicyId,
    roots: RootCertStore,
    subjects: Vec<DistinguishedName>,
    crls: Vec<CertRevocationList<'static>>,
    /// CAs between a certificate and one of the roots.
    depth: Option<usize>,
    provider: Arc<CryptoProvider>,
}

/// A certificate that a client has the key of, and what it is worth.
#[derive(Clone, Debug)]
pub struct ShownCertificate {
    /// What it says.
    pub certificate: PeerCertificate,
    /// Whether it is what was demanded.
    pub verdict: Result<(), HandshakeError>,
    der: CertificateDer<'static>,
}

impl ShownCertificate {
    /// The certificate as PEM, percent-encoded so that it can stand in a header (RFC 3986 §2.1).
    pub fn escaped_pem(&self) -> String {
        use base64::Engine;
        let text = base64::engine::general_purpose::STANDARD.encode(&self.der);
        let mut out = String::with_capacity(text.len() * 5 / 4 + 128);
        out.push_str("-----BEGIN%20CERTIFICATE-----%0A");
        for (index, character) in text.chars().enumerate() {
            if index > 0 && index % 64 == 0 {
                out.push_str("%0A");
            }
            match character {
                '+' => out.push_str("%2B"),
                '/' => out.push_str("%2F"),
                '=' => out.push_str("%3D"),
                other => out.push(other),
            }
        }
        out.push_str("%0A-----END%20CERTIFICATE-----%0A");
        out
    }
}

impl ClientDemand {
    /// Reads CAs and lists of revoked certificates.
    ///
    /// # Errors
    /// If there are none, or any of them is damaged: a part of them is not what was asked for.
    pub fn build(trust: &ClientTrust, shared: &TlsShared) -> Result<Self, CaFault> {
        let ClientTrust::Authorities { ca, crl, depth } = trust else {
            return Err(CaFault::Unreadable);
        };
        let roots = pem::roots(ca)?;
        let lists = crl.as_deref().map(lists).transpose()?.unwrap_or_default();
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(b"portcullis client demand\0");
        context.update(&depth.map_or(u64::MAX, u64::from).to_be_bytes());
        context.update(&roots_digest(&roots));
        let mut crls = Vec::with_capacity(lists.len());
        for der in &lists {
            context.update(&(der.len() as u64).to_be_bytes());
            context.update(der);
            let list = OwnedCertRevocationList::from_der(der).map_err(|_| CaFault::Crl)?;
            crls.push(CertRevocationList::Owned(list));
        }
        Ok(Self {
            id: sha256(context),
            subjects: roots.subjects(),
            roots,
            crls,
            depth: depth.map(|depth| usize::try_from(depth).unwrap_or(usize::MAX)),
            provider: Arc::clone(&shared.provider),
        })
    }

    /// What sessions under it on `listener` are bound to.
    pub(super) fn scope(&self, listener: &str) -> Scope {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(b"portcullis session ticket of a demand\0");
        context.update(&(listener.len() as u64).to_be_bytes());
        context.update(listener.as_bytes());
        context.update(&self.id);
        sha256(context)
    }

    /// What a chain, leaf first, is worth now; `None` where it cannot be read at all.
    pub(super) fn judge(&self, chain: &[CertificateDer<'_>]) -> Option<ShownCertificate> {
        let (leaf, intermediates) = chain.split_first()?;
        Some(ShownCertificate {
            certificate: PeerCertificate::read(chain)?,
            verdict: self.verify(leaf, intermediates).map_err(|error| class(&error)),
            der: leaf.clone().into_owned(),
        })
    }

    fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
    ) -> Result<(), webpki::Error> {
        let lists: Vec<_> = self.crls.iter().collect();
        // As OpenSSL has it: every CA of the chain has to have its list.
        let revocation = RevocationOptionsBuilder::new(&lists).ok().map(|options| {
            options
                .with_depth(RevocationCheckDepth::Chain)
                .with_status_policy(UnknownStatusPolicy::Deny)
                .with_expiration_policy(ExpirationPolicy::Enforce)
                .build()
        });
        let short = |path: &VerifiedPath<'_>| match self.depth {
            Some(depth) if path.intermediate_certificates().count() > depth => {
                Err(webpki::Error::MaximumPathDepthExceeded)
            }
            _ => Ok(()),
        };
        let leaf = EndEntityCert::try_from(leaf)?;
        let verified = leaf.verify_for_usage(
            self.provider.signature_verification_algorithms.all,
            &self.roots.roots,
            intermediates,
            UnixTime::now(),
            KeyUsage::client_auth(),
            revocation,
            Some(&short),
        );
        verified.map(|_| ())
    }
}

impl fmt::Debug for ClientDemand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientDemand")
            .field("roots", &self.roots.len())
            .field("crls", &self.crls.len())
            .field("depth", &self.depth)
            .finish_non_exhaustive()
    }
}

fn lists(pem: &str) -> Result<Vec<CertificateRevocationListDer<'static>>, CaFault> {
    let lists = CertificateRevocationListDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| CaFault::Crl)?;
    if lists.is_empty() { Err(CaFault::Crl) } else { Ok(lists) }
}

fn class(error: &webpki::Error) -> HandshakeError {
    match error {
        webpki::Error::CertExpired { .. } | webpki::Error::CertNotValidYet { .. } => {
            HandshakeError::CertificateExpired
        }
        // What signs itself is a CA of its own, and another CA may have the name of a known one.
        webpki::Error::UnknownIssuer
        | webpki::Error::CaUsedAsEndEntity
        | webpki::Error::InvalidSignatureForPublicKey => HandshakeError::UnknownCa,
        _ => HandshakeError::BadCertificate,
    }
}

/// The handshake's side of a demand.
#[derive(Debug)]
pub(super) struct Asking(pub(super) Arc<ClientDemand>);

impl ClientCertVerifier for Asking {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.0.subjects
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        // Judged once the handshake is through.
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.provider.signature_verification_algorithms;
        match BareKey::of_unreadable(certificate) {
            Some(key) => key.verify_tls12(message, signed, algorithms),
            None => verify_tls12_signature(message, certificate, signed, algorithms),
        }
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.provider.signature_verification_algorithms;
        match BareKey::of_unreadable(certificate) {
            Some(key) => key.verify_tls13(message, signed, algorithms),
            None => verify_tls13_signature(message, certificate, signed, algorithms),
        }
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.provider.signature_verification_algorithms.supported_schemes()
    }
}
