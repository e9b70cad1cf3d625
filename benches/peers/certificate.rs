//! One P-256 certificate, made at start, that every proxy serves and the generator trusts.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, ServerName};

/// The host every request and every handshake names.
pub const HOST: &str = "h5.bench.test";

/// The certificate as files, and what a client needs to verify it.
#[derive(Debug)]
pub struct Certificate {
    pub chain: PathBuf,
    pub key: PathBuf,
    /// Chain and key in one file, as HAProxy wants it.
    pub both: PathBuf,
    der: CertificateDer<'static>,
}

impl Certificate {
    /// Makes a certificate and writes it to `dir`.
    pub fn make(dir: &Path) -> io::Result<Self> {
        // rcgen's default key is ECDSA on P-256.
        let made =
            rcgen::generate_simple_self_signed(vec![HOST.to_owned()]).map_err(io::Error::other)?;
        let (chain, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        let paths = ["bench.crt", "bench.key", "bench.pem"].map(|name| dir.join(name));
        std::fs::write(&paths[0], &chain)?;
        std::fs::write(&paths[1], &key)?;
        std::fs::write(&paths[2], format!("{chain}{key}"))?;
        let [chain, key, both] = paths;
        Ok(Self { chain, key, both, der: made.cert.der().clone() })
    }

    /// A client that trusts only this certificate, resumes nothing, and offers exactly one group
    /// and one suite, so that every proxy does the same cryptography.
    pub fn client(&self, alpn: &[u8]) -> io::Result<TlsClient> {
        let provider = rustls::crypto::CryptoProvider {
            cipher_suites: vec![aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256],
            kx_groups: vec![aws_lc_rs::kx_group::X25519],
            ..aws_lc_rs::default_provider()
        };
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.der.clone()).map_err(io::Error::other)?;
        let mut config = rustls::ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(io::Error::other)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![alpn.to_vec()];
        config.resumption = Resumption::disabled();
        let name = ServerName::try_from(HOST).map_err(io::Error::other)?;
        Ok(TlsClient { config: Arc::new(config), name })
    }
}

/// A TLS client configuration and the name it asks for.
#[derive(Clone, Debug)]
pub struct TlsClient {
    pub config: Arc<rustls::ClientConfig>,
    pub name: ServerName<'static>,
}

impl TlsClient {
    /// A new connection that has sent nothing yet.
    pub fn connection(&self) -> io::Result<rustls::ClientConnection> {
        rustls::ClientConnection::new(Arc::clone(&self.config), self.name.clone())
            .map_err(io::Error::other)
    }
}
