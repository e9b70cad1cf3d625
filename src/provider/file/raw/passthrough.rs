//! TLS that is not terminated here, as it is written.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::provider::file::field::{Field, Text};
use crate::provider::file::scalar::Deadline;

/// Where TLS connections for a host go, byte by byte.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["upstream"]))]
pub(in crate::provider::file) struct TlsPassthrough {
    /// How long an endpoint may take to accept the connection. Default: `timeouts.connect` of
    /// `defaults`.
    pub connect: Field<Text<Deadline>>,
    /// How long nothing may move. Default: `timeouts.tunnel_idle` of `defaults`.
    pub idle: Field<Text<Deadline>>,
    /// The upstream. Its `tls` is not for them.
    pub upstream: Field<String>,
}
