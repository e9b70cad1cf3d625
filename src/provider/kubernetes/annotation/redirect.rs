//! Redirects: to other places, to another host, to https.

use std::sync::Arc;

use http::StatusCode;
use serde::Serialize;

use super::dump;
use super::finding::Class;
use super::reader::Reader;
use super::value;
use super::variable::{self, Template};

/// Where clients are sent instead of to the back end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Redirect {
    /// Where requests for exactly `/` of the host are sent, with 302.
    pub app_root: Option<Arc<str>>,
    /// Where all requests are sent; without path or query of the request.
    pub permanent: Option<Template>,
    /// The status of `permanent`, 300 to 308. Default 301.
    #[serde(serialize_with = "dump::text")]
    pub permanent_code: Option<StatusCode>,
    /// The same, and it goes before `permanent`.
    pub temporal: Option<Template>,
    /// The status of `temporal`, 300 to 307. Default 302.
    #[serde(serialize_with = "dump::text")]
    pub temporal_code: Option<StatusCode>,
    /// Whether `www.` is added to or taken from the host, with 308. Default false.
    pub from_to_www: Option<bool>,
    /// Whether http is sent to https where the host has a certificate. Default true.
    pub ssl: Option<bool>,
    /// The same without regard to certificates. Default false.
    pub force_ssl: Option<bool>,
    /// Whether the redirect to https keeps a slash at the end of the target. Default false.
    pub preserve_trailing_slash: Option<bool>,
    /// Whether redirects of our own leave out scheme and host. Default false.
    pub relative: Option<bool>,
    /// Whether redirects of our own name the port. Default false.
    pub use_port: Option<bool>,
}

impl Redirect {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let redirect = Self {
            app_root: reader.value("app-root", value::path),
            permanent: reader.essential("permanent-redirect", target),
            permanent_code: reader
                .value("permanent-redirect-code", |text| value::status(text, 300, 308)),
            temporal: reader.essential("temporal-redirect", target),
            temporal_code: reader
                .value("temporal-redirect-code", |text| value::status(text, 300, 307)),
            from_to_www: reader.value("from-to-www-redirect", value::boolean),
            ssl: reader.value("ssl-redirect", value::boolean),
            force_ssl: reader.value("force-ssl-redirect", value::boolean),
            preserve_trailing_slash: reader.value("preserve-trailing-slash", value::boolean),
            relative: reader.value("relative-redirects", value::boolean),
            use_port: reader.value("use-port-in-redirects", value::boolean),
        };
        if redirect.temporal.is_some() && redirect.permanent.is_some() {
            let text = "has no effect: `temporal-redirect` is there as well and goes first";
            reader.amend("permanent-redirect", Class::Ignored, text);
        }
        for (code, target) in [
            ("permanent-redirect-code", "permanent-redirect"),
            ("temporal-redirect-code", "temporal-redirect"),
        ] {
            if reader.has(code) && !reader.has(target) {
                reader.amend(code, Class::Ignored, &format!("has no effect without `{target}`"));
            }
        }
        redirect
    }
}

/// An absolute URL, or a path of the same host.
fn target(text: &str) -> Result<Template, String> {
    if text.starts_with('/') && !text.starts_with("//") {
        value::path(text)?;
        return variable::template(text);
    }
    variable::url(text)
}
