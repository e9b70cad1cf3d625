//! Keeping clients on https: the redirect there, and the header by which browsers stay.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use serde::Serialize;

use super::dump;
use super::route::status_code;

/// Requests that the client did not send over TLS are answered with a redirect to the same host
/// and target over https. Where a trusted proxy says which scheme the client used
/// (`X-Forwarded-Proto`), that counts.
///
/// It comes before limits, access control, edits and the route's action (a redirect or response of
/// the route's own, too); only a route whose configuration is wrong answers so first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HttpsRedirect {
    /// 301, 302, 303, 307 or 308.
    #[serde(serialize_with = "status_code")]
    pub status: StatusCode,
    /// The port of the URL; `None` is 443, which is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Whether one slash at the very end of path and query is left out.
    pub strip_trailing_slash: bool,
    /// Paths that begin with one of these, byte for byte, are served without TLS.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exempt: Vec<Arc<str>>,
}

impl Default for HttpsRedirect {
    /// 308 to port 443, but for what certificate authorities ask for over plain http (RFC 8555
    /// §8.3).
    fn default() -> Self {
        Self {
            status: StatusCode::PERMANENT_REDIRECT,
            port: None,
            strip_trailing_slash: false,
            exempt: vec!["/.well-known/acme-challenge/".into()],
        }
    }
}

/// `Strict-Transport-Security` (RFC 6797) on every answer to a request that the client sent over
/// TLS, the proxy's own errors included; takes the place of the upstream's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Hsts {
    /// How long browsers remember, in whole seconds; 0 makes them forget.
    #[serde(serialize_with = "dump::span")]
    pub max_age: Duration,
    /// Whether it holds for all names below this one.
    pub include_subdomains: bool,
    /// Whether browsers may have it built in.
    pub preload: bool,
}

impl Default for Hsts {
    /// A year, for the host alone.
    fn default() -> Self {
        let max_age = Duration::from_secs(365 * 86_400);
        Self { max_age, include_subdomains: false, preload: false }
    }
}
