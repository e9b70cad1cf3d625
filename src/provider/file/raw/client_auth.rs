//! What a host demands of client certificates, as it is written.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::provider::file::field::{Field, Text};
use crate::provider::file::scalar::Pattern;

/// What the clients of a host must show in the TLS handshake, in place of what their listener
/// demands. Upstreams are told in `ssl-client-verify`, `ssl-client-subject-dn` and
/// `ssl-client-issuer-dn`. Without TLS nothing can be shown.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["ca"]))]
pub(in crate::provider::file) struct HostClientAuth {
    /// A PEM file of the CAs that may sign certificates. Where it is missing the host answers 503.
    pub ca: Field<String>,
    /// A PEM file with lists of revoked certificates, one of each CA. Where it is missing the host
    /// answers 503. Default: none.
    pub crl: Field<String>,
    /// How many CAs may stand between a certificate and one of `ca`. Default: 6.
    pub depth: Field<u32>,
    /// Where clients without a good certificate are sent (302), a template. Default: they are
    /// answered 400.
    pub error_page: Field<String>,
    /// Passes the certificate itself to upstreams, in `ssl-client-cert`. Default: `false`.
    pub forward: Field<bool>,
    /// Whether one must come. Default: `required`.
    pub mode: Field<HostClientAuthMode>,
    /// An expression that must be found in the subject, for example `CN=(alice|bob)(,|$)`;
    /// answered 403 where it is not.
    pub subject: Field<Text<Pattern>>,
}

/// Whether a certificate must come. `optional_untrusted` takes those that nobody trusted has
/// signed, too: the upstream has to verify them.
#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub(in crate::provider::file) enum HostClientAuthMode {
    Optional,
    OptionalUntrusted,
    Required,
}
