//! What a host demands of client certificates.

use std::sync::Arc;

use serde::Serialize;

use super::{Location, Template, dump};

/// What the clients of a host must show in the TLS handshake. It goes by the name the client asks
/// for there, and takes the place of what the listener demands. Requests for the host on
/// connections that were made under another demand are answered 421.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HostClientAuth {
    /// Whether one must come.
    pub mode: HostClientAuthMode,
    /// By what certificates are verified.
    pub trust: ClientTrust,
    /// An expression (RE2 syntax, linear time) that must be found in the subject (RFC 4514) of a
    /// verified certificate; answered 403 where it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<Arc<str>>,
    /// Where clients without a good certificate are sent (302) in place of being answered 400.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_page: Option<Template>,
    /// Whether upstreams get the certificate itself, in `ssl-client-cert` (PEM, percent-encoded),
    /// beside `ssl-client-verify`, `ssl-client-subject-dn` and `ssl-client-issuer-dn`, which they
    /// always get. None of the four is taken from clients.
    #[serde(skip_serializing_if = "dump::is_default")]
    pub forward: bool,
    /// Where the CAs were named, for what is said of them.
    #[serde(skip)]
    pub ca_at: Option<Location>,
    /// Where the lists of revoked certificates were.
    #[serde(skip)]
    pub crl_at: Option<Location>,
}

/// Whether a client of a host must show a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HostClientAuthMode {
    /// A bad one is answered 400, none is fine.
    Optional,
    /// One that nobody trusted has signed is fine, too: the upstream has to verify it.
    OptionalUntrusted,
    /// None and a bad one are answered 400.
    #[default]
    Required,
}

/// By what the certificates of clients are verified.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientTrust {
    /// There is nothing to verify them by, and why. The host answers 503: it must not be open.
    Missing(String),
    /// By authorities.
    Authorities {
        /// The CAs that may sign them, as PEM.
        ca: Arc<str>,
        /// Lists of revoked certificates, as PEM. Where there are any, one of every CA of a chain
        /// must be among them, and be valid still.
        #[serde(skip_serializing_if = "Option::is_none")]
        crl: Option<Arc<str>>,
        /// How many CAs may stand between a certificate and one of `ca`; `None` is as many as
        /// are verified at all.
        #[serde(skip_serializing_if = "Option::is_none")]
        depth: Option<u32>,
    },
}
