//! Who may use a route.

use std::sync::Arc;

use serde::Serialize;

use super::SecretBytes;

/// What a client must show before its request is served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Auth {
    /// A user name and a password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub basic: Option<BasicAuth>,
}

/// HTTP basic authentication (RFC 7617).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BasicAuth {
    /// What the client is told it needs a password for; no control characters.
    pub realm: Arc<str>,
    /// Who may come in.
    pub users: Credentials,
}

/// Users and the hashes of their passwords.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Credentials {
    /// Lines of `user:hash`, as Apache's `htpasswd` writes them.
    Htpasswd(SecretBytes),
    /// There are none to be had, and why. The route answers 503: it must not be open.
    Missing(String),
}
