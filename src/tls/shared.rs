//! What all listeners, workers and snapshots share for the life of the process.

use std::fmt;
use std::sync::{Arc, OnceLock};

use rustls::crypto::CryptoProvider;
use rustls::{
    ClientConfig, ConfigBuilder, RootCertStore, ServerConfig, SupportedProtocolVersion,
    WantsVerifier, version,
};

use super::certificate::LoadedCertificate;
use super::self_signed::last_resort;
use super::tickets::TicketKeys;
use super::{CertificateFault, TlsError};
use crate::ir::TlsVersion;

/// The process's TLS state: crypto provider, ticket keys and the certificate of last resort. Made
/// once; everything in it may be used from any thread.
pub struct TlsShared {
    pub(super) provider: Arc<CryptoProvider>,
    pub(super) tickets: Arc<TicketKeys>,
    pub(super) last_resort: Arc<LoadedCertificate>,
    server_from_1_2: ConfigBuilder<ServerConfig, WantsVerifier>,
    server_from_1_3: ConfigBuilder<ServerConfig, WantsVerifier>,
    client: ConfigBuilder<ClientConfig, WantsVerifier>,
    system_roots: OnceLock<Arc<RootCertStore>>,
}

/// TLS 1.3 alone.
const FROM_1_3: &[&SupportedProtocolVersion] = &[&version::TLS13];
/// TLS 1.3 and 1.2.
const FROM_1_2: &[&SupportedProtocolVersion] = &[&version::TLS13, &version::TLS12];

impl TlsShared {
    /// Sets everything up; fails only when the crypto library cannot make random keys.
    ///
    /// Key exchange prefers X25519MLKEM768 (draft-ietf-tls-ecdhe-mlkem), then X25519, P-256 and
    /// P-384; cipher suites are the ECDHE ones with AES-GCM and ChaCha20-Poly1305.
    pub fn new() -> Result<Arc<Self>, TlsError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let server = |versions| {
            ServerConfig::builder_with_provider(Arc::clone(&provider))
                .with_protocol_versions(versions)
        };
        let (chain, key) = last_resort()?;
        let last_resort = LoadedCertificate::load(&chain, key.expose(), &provider)
            .map_err(|fault: CertificateFault| TlsError::Crypto(fault.to_string()))?;
        Ok(Arc::new(Self {
            tickets: Arc::new(TicketKeys::new()?),
            last_resort: Arc::new(last_resort),
            server_from_1_2: server(FROM_1_2)?,
            server_from_1_3: server(FROM_1_3)?,
            client: ClientConfig::builder_with_provider(Arc::clone(&provider))
                .with_protocol_versions(FROM_1_2)?,
            system_roots: OnceLock::new(),
            provider,
        }))
    }

    /// A server configuration that speaks `oldest` and newer.
    pub(super) fn server(&self, oldest: TlsVersion) -> ConfigBuilder<ServerConfig, WantsVerifier> {
        match oldest {
            TlsVersion::V1_2 => self.server_from_1_2.clone(),
            TlsVersion::V1_3 => self.server_from_1_3.clone(),
        }
    }

    /// A client configuration for TLS 1.2 and 1.3.
    pub(super) fn client(&self) -> ConfigBuilder<ClientConfig, WantsVerifier> {
        self.client.clone()
    }

    /// The system's trust store (`SSL_CERT_FILE` and `SSL_CERT_DIR` are honoured), or Mozilla's
    /// roots where there is none, as in an empty container image. Read from disk once, at first
    /// use, which may take a few hundred milliseconds.
    pub(super) fn system_roots(&self) -> Arc<RootCertStore> {
        Arc::clone(self.system_roots.get_or_init(|| {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if roots.is_empty() {
                roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
            }
            Arc::new(roots)
        }))
    }
}

impl fmt::Debug for TlsShared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsShared").finish_non_exhaustive()
    }
}
