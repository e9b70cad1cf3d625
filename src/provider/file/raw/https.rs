//! Keeping clients on https, as it is written.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::provider::file::field::{Field, List, Text};
use crate::provider::file::scalar::{Period, RedirectStatus};

/// A redirect of requests that did not come over TLS.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::provider::file) struct HttpsRedirect {
    /// Paths that begin with one of these are served without TLS. Default:
    /// `[/.well-known/acme-challenge/]`.
    pub exempt: Field<List<String>>,
    /// The port of the URL. Default: 443, which is left out.
    pub port: Field<u16>,
    /// 301, 302, 303, 307 or 308. Default: 308.
    pub status: Field<Text<RedirectStatus>>,
    /// Leaves one slash at the very end of path and query out. Default: `false`.
    pub strip_trailing_slash: Field<bool>,
}

/// `Strict-Transport-Security` on answers over TLS, in place of the upstream's.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::provider::file) struct Hsts {
    /// Whether it holds for all names below the host. Default: `false`.
    pub include_subdomains: Field<bool>,
    /// How long browsers remember; 0 makes them forget. Default: `365d`.
    pub max_age: Field<Text<Period>>,
    /// Whether browsers may have it built in. Default: `false`.
    pub preload: Field<bool>,
}
