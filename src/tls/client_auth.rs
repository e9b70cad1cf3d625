//! Who may connect: a listener's policy on client certificates.
//!
//! It fails closed. A listener that should ask for certificates and has no CA to check them
//! against serves nobody, unless it had a good set of CAs a moment ago: then that one stays.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::digest;
use rustls::crypto::CryptoProvider;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{Error, RootCertStore};
use rustls_pki_types::{CertificateDer, UnixTime};

use super::tickets::Scope;
use super::{CaFault, HandshakeError, pem};
use crate::ir::{ClientAuth, ClientAuthMode, Problem};

/// What a listener demands of its clients.
#[derive(Clone)]
pub(super) enum ClientPolicy {
    /// No certificate is asked for.
    Open,
    /// Certificates should be checked and cannot be: every handshake is refused.
    Refuse,
    /// Certificates are checked.
    Verify(Verify),
}

/// How client certificates are checked.
#[derive(Clone)]
pub(super) struct Verify {
    mode: ClientAuthMode,
    roots: Arc<RootCertStore>,
    /// SHA-256 over the CAs, in no particular order.
    roots_digest: [u8; 32],
    pub(super) verifier: Arc<dyn ClientCertVerifier>,
}

impl ClientPolicy {
    /// The policy that `spec` asks for, or the nearest one that is no weaker, with what is wrong.
    pub(super) fn build(
        listener: &str,
        spec: Option<&ClientAuth>,
        previous: Option<&Self>,
        provider: &Arc<CryptoProvider>,
    ) -> (Self, Option<Problem>) {
        let Some(spec) = spec else { return (Self::Open, None) };
        let fault = match load(spec, provider) {
            Ok(verify) => return (Self::Verify(verify), None),
            Err(fault) => fault,
        };
        let kept = match previous {
            Some(Self::Verify(last)) => verify(spec.mode, Arc::clone(&last.roots), provider).ok(),
            _ => None,
        };
        let (policy, consequence) = match kept {
            Some(kept) => (Self::Verify(kept), "the last good ones stay in use"),
            None => (Self::Refuse, "every handshake is refused"),
        };
        let message = format!(
            "listener '{listener}': client certificates cannot be verified, so {consequence}: {fault}"
        );
        (policy, Some(Problem::error(message).hint(fault.hint())))
    }

    /// What sessions under this policy on `listener` are bound to.
    pub(super) fn scope(&self, listener: &str) -> Scope {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(b"portcullis session ticket\0");
        context.update(&(listener.len() as u64).to_be_bytes());
        context.update(listener.as_bytes());
        match self {
            Self::Open => context.update(b"open"),
            Self::Refuse => context.update(b"refuse"),
            Self::Verify(verify) => {
                context.update(match verify.mode {
                    ClientAuthMode::Optional => b"optional",
                    ClientAuthMode::Required => b"required",
                });
                context.update(&verify.roots_digest);
            }
        }
        sha256(context)
    }

    /// Checks a resumed session's certificate as if it were shown now: rustls takes it out of the
    /// ticket unchecked, and it may have expired since.
    pub(super) fn recheck(
        &self,
        certificates: Option<&[CertificateDer<'_>]>,
    ) -> Result<(), HandshakeError> {
        let Self::Verify(verify) = self else { return Ok(()) };
        match certificates.and_then(<[_]>::split_first) {
            Some((leaf, chain)) => verify
                .verifier
                .verify_client_cert(leaf, chain, UnixTime::now())
                .map(|_| ())
                .map_err(|error| HandshakeError::from(&error)),
            None if verify.mode == ClientAuthMode::Required => Err(HandshakeError::NoCertificate),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for ClientPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open => f.write_str("Open"),
            Self::Refuse => f.write_str("Refuse"),
            Self::Verify(verify) => f
                .debug_struct("Verify")
                .field("mode", &verify.mode)
                .field("roots", &verify.roots.len())
                .finish(),
        }
    }
}

fn load(spec: &ClientAuth, provider: &Arc<CryptoProvider>) -> Result<Verify, CaFault> {
    let text = spec.ca.as_deref().ok_or(CaFault::Unreadable)?;
    let roots = Arc::new(pem::roots(text)?);
    verify(spec.mode, roots, provider).map_err(|_| CaFault::Empty)
}

fn verify(
    mode: ClientAuthMode,
    roots: Arc<RootCertStore>,
    provider: &Arc<CryptoProvider>,
) -> Result<Verify, Error> {
    let builder =
        WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(provider));
    let builder = match mode {
        ClientAuthMode::Optional => builder.allow_unauthenticated(),
        ClientAuthMode::Required => builder,
    };
    let verifier = builder.build().map_err(|error| Error::General(error.to_string()))?;
    let roots_digest = roots_digest(&roots);
    Ok(Verify { mode, roots, roots_digest, verifier })
}

pub(super) fn roots_digest(roots: &RootCertStore) -> [u8; 32] {
    let mut each: Vec<[u8; 32]> = roots
        .roots
        .iter()
        .map(|root| {
            let mut context = digest::Context::new(&digest::SHA256);
            let constraints = root.name_constraints.as_ref().map_or(&[][..], |der| der.as_ref());
            for part in [root.subject.as_ref(), root.subject_public_key_info.as_ref(), constraints]
            {
                context.update(&(part.len() as u64).to_be_bytes());
                context.update(part);
            }
            sha256(context)
        })
        .collect();
    each.sort_unstable();
    each.dedup();
    let mut context = digest::Context::new(&digest::SHA256);
    for digest in &each {
        context.update(digest);
    }
    sha256(context)
}

pub(super) fn sha256(context: digest::Context) -> [u8; 32] {
    let mut out = [0; 32];
    for (to, from) in out.iter_mut().zip(context.finish().as_ref()) {
        *to = *from;
    }
    out
}
