//! TLS towards endpoints.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::digest;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::ServerName;

use super::certificate::LoadedCertificate;
use super::unverified::AnyCertificate;
use super::{TlsError, TlsShared, pem, x509};
use crate::ir::{ClientCertificate, TrustAnchors, UpstreamTls};

/// The TLS settings of one upstream, compiled. Verified unless it says otherwise in so many words.
pub struct ClientTls {
    /// What to connect with.
    pub config: Arc<ClientConfig>,
    /// The same for a connection that must speak HTTP/1, because its request switches protocols.
    pub h1_config: Arc<ClientConfig>,
    /// Which connections may be shared.
    pub key: TransportKey,
    /// Whether the endpoints' certificates are verified.
    pub verifies: bool,
    server_name: Option<ServerName<'static>>,
}

impl ClientTls {
    /// Compiles `spec`, offering the protocols `alpn`, most preferred first (empty: no ALPN).
    /// Errors say which part cannot be used; there is no weaker fallback. With the system's trust
    /// store the first call reads it from disk: not for a worker.
    ///
    /// Sessions are resumed per result: while the [`TransportKey`] stays equal, keep the old one.
    pub fn build(
        spec: &UpstreamTls,
        alpn: &[&[u8]],
        shared: &TlsShared,
    ) -> Result<Arc<Self>, TlsError> {
        let server_name = spec.server_name.as_deref().map(server_name).transpose()?;
        let builder = shared.client();
        let builder = if spec.verify {
            builder.with_root_certificates(roots(&spec.trust, shared)?)
        } else {
            let verifier = AnyCertificate(Arc::clone(&shared.provider));
            builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier))
        };
        let mut config = match &spec.client_certificate {
            Some(certificate) => {
                // Checked as a pair first: rustls would report a stranger's key in other words.
                let (chain, key) = (&certificate.chain, certificate.key.expose());
                LoadedCertificate::load(chain, key, &shared.provider)?;
                builder.with_client_auth_cert(pem::chain(chain)?, pem::key(key)?)?
            }
            None => builder.with_no_client_auth(),
        };
        config.enable_sni = spec.sni;
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        let key = TransportKey::of(spec, alpn);
        let mut h1_config = config.clone();
        h1_config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let (config, h1_config) = (Arc::new(config), Arc::new(h1_config));
        Ok(Arc::new(Self { config, h1_config, key, verifies: spec.verify, server_name }))
    }

    /// The name to verify, and to send as SNI unless that is turned off, on a connection for `host` (without port): the
    /// configured one, else `host`.
    pub fn server_name(&self, host: &str) -> Result<ServerName<'static>, TlsError> {
        match &self.server_name {
            Some(name) => Ok(name.clone()),
            None => server_name(host),
        }
    }

    /// Whether the name depends on the request's host, so that a connection may only be shared by
    /// requests of one host.
    pub fn per_host(&self) -> bool {
        self.server_name.is_none()
    }
}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientTls")
            .field("server_name", &self.server_name)
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

/// Reads a host name or an address (IPv6 with or without brackets), without port.
pub fn server_name(host: &str) -> Result<ServerName<'static>, TlsError> {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    ServerName::try_from(bare)
        .map(|name| name.to_owned())
        .map_err(|_| TlsError::ServerName(host.chars().take(253).collect()))
}

/// Identifies TLS settings: a connection may serve another request only under an equal key (and,
/// where [`ClientTls::per_host`], for the same host). The same settings have the same key in every
/// snapshot and process. A digest; shows nothing of what went into it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TransportKey([u8; 32]);

impl TransportKey {
    /// The key of `spec` with the protocols `alpn`.
    pub fn of(spec: &UpstreamTls, alpn: &[&[u8]]) -> Self {
        let mut fields = Fields(digest::Context::new(&digest::SHA256));
        fields.add(b"portcullis upstream tls");
        // Taken apart so that a new setting cannot be forgotten here.
        let UpstreamTls { server_name, sni, verify, trust, client_certificate } = spec;
        fields.add_optional(server_name.as_deref().map(str::as_bytes));
        fields.add(&[u8::from(*verify), u8::from(*sni)]);
        fields.add_optional(match trust {
            TrustAnchors::Pem(pem) => Some(pem.as_bytes()),
            TrustAnchors::System => None,
        });
        let (chain, key) = match client_certificate {
            Some(ClientCertificate { chain, key }) => (Some(chain.as_bytes()), Some(key.expose())),
            None => (None, None),
        };
        fields.add_optional(chain);
        fields.add_optional(key);
        for protocol in alpn {
            fields.add(protocol);
        }
        let mut out = [0; 32];
        for (to, from) in out.iter_mut().zip(fields.0.finish().as_ref()) {
            *to = *from;
        }
        Self(out)
    }
}

impl fmt::Debug for TransportKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let short = self.0.split_at_checked(4).map_or(&self.0[..], |(short, _)| short);
        write!(f, "TransportKey({})", x509::hex(short))
    }
}

/// Fields with their lengths, so that no two different lists digest alike.
struct Fields(digest::Context);

impl Fields {
    fn add(&mut self, field: &[u8]) {
        self.0.update(&(field.len() as u64).to_be_bytes());
        self.0.update(field);
    }

    fn add_optional(&mut self, field: Option<&[u8]>) {
        self.add(&[u8::from(field.is_some())]);
        self.add(field.unwrap_or_default());
    }
}

fn roots(trust: &TrustAnchors, shared: &TlsShared) -> Result<Arc<RootCertStore>, TlsError> {
    match trust {
        TrustAnchors::Pem(pem) => Ok(Arc::new(pem::roots(pem)?)),
        TrustAnchors::System => Ok(shared.system_roots()),
    }
}
