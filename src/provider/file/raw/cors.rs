//! CORS, as it is written.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::provider::file::field::{Field, List, OneOrMany, Text};
use crate::provider::file::scalar::{CorsOrigin, Deadline, FieldName, Verb};

/// Which pages of other origins may use a route from a browser. The proxy answers preflights, and
/// replaces what the upstream says of CORS.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["origins"]))]
pub(in crate::provider::file) struct Cors {
    /// Whether browsers send cookies and other credentials along. Default: `false`.
    pub credentials: Field<bool>,
    /// Response headers that pages may read beside the harmless ones. Default: none.
    pub expose: Field<List<Text<FieldName>>>,
    /// Request headers that pages may send; `*` is any. Default: the usual ones, `authorization`
    /// among them.
    pub headers: Field<List<Text<FieldName>>>,
    /// How long browsers may remember the answer to a preflight, or `off`. Default: `20d`.
    pub max_age: Field<Text<Deadline>>,
    /// The methods pages may use; `*` is any. Default: GET, PUT, POST, DELETE, PATCH, OPTIONS.
    pub methods: Field<List<Text<Verb>>>,
    /// The origins: `https://app.example.com`, `https://*.example.com` (one label), with their
    /// port where it is not the scheme's own, or `*` for any.
    pub origins: Field<OneOrMany<Text<CorsOrigin>>>,
}
