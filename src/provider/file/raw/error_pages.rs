//! Answers of another upstream in the place of errors, as they are written.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::provider::file::field::{Field, Named, OneOrMany, Text};
use crate::provider::file::scalar::StatusRange;

/// Which responses are replaced by those of another upstream. It is asked for `/` with the request's
/// method, and told the status (`X-Code`), what the client accepts (`X-Format`) and what it asked
/// for (`X-Original-URI`); the client gets its status and its body.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["upstream"]))]
pub(in crate::provider::file) struct ErrorPages {
    /// Fields that the upstream gets beside those; values are templates as in `auth`.
    pub headers: Field<Named<String>>,
    /// Whether it also answers where the route's upstream has no endpoint: then it gets the request
    /// as it is, path and body included. Default: `false`.
    pub no_endpoint: Field<bool>,
    /// The statuses, of the route's upstream or the proxy's own: `503`, `500-504`, `5xx`, or a list.
    pub statuses: Field<OneOrMany<Text<StatusRange>>>,
    /// Who answers instead.
    pub upstream: Field<String>,
}
