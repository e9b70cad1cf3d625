//! Keeping clients on https.

use std::sync::Arc;

use http::{HeaderValue, StatusCode};

use super::RequestTarget;
use crate::ir::{Hsts, HttpsRedirect};

/// A redirect to https ready to answer with.
#[derive(Debug)]
pub struct HttpsPlan {
    /// The status.
    pub status: StatusCode,
    port: Option<u16>,
    strip_trailing_slash: bool,
    exempt: Box<[Arc<str>]>,
}

impl HttpsPlan {
    /// Compiles the policy.
    pub fn new(redirect: &HttpsRedirect) -> Self {
        Self {
            status: redirect.status,
            port: redirect.port.filter(|port| *port != 443),
            strip_trailing_slash: redirect.strip_trailing_slash,
            exempt: redirect.exempt.as_slice().into(),
        }
    }

    /// Whether a request for `target` that came without TLS is redirected. `OPTIONS *` is not:
    /// there is no URL for it.
    pub fn concerns(&self, target: &RequestTarget) -> bool {
        let path = target.path();
        path != "*" && !self.exempt.iter().any(|prefix| path.starts_with(&**prefix))
    }

    /// The URL, for a request to `host` (IPv6 in brackets, no port); `None` where it is none.
    pub fn location(&self, host: &str, target: &RequestTarget) -> Option<HeaderValue> {
        let target = match target.as_str().strip_suffix('/') {
            Some(shorter) if self.strip_trailing_slash => shorter,
            _ => target.as_str(),
        };
        let mut url = String::with_capacity(16 + host.len() + target.len());
        url.push_str("https://");
        url.push_str(host);
        if let Some(port) = self.port {
            url.push(':');
            url.push_str(itoa::Buffer::new().format(port));
        }
        url.push_str(target);
        HeaderValue::try_from(url).ok()
    }
}

/// The value of `Strict-Transport-Security` (RFC 6797 §6.1).
pub fn hsts(policy: &Hsts) -> Option<HeaderValue> {
    let subdomains = if policy.include_subdomains { "; includeSubDomains" } else { "" };
    let preload = if policy.preload { "; preload" } else { "" };
    let value = format!("max-age={}{subdomains}{preload}", policy.max_age.as_secs());
    HeaderValue::try_from(value).ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn target(text: &str) -> RequestTarget {
        let (path, query) = text.split_once('?').map_or((text, None), |(p, q)| (p, Some(q)));
        RequestTarget::from_parts(path, query).expect("a sound target")
    }

    fn location(policy: &HttpsRedirect, text: &str) -> String {
        let location = HttpsPlan::new(policy).location("shop.example", &target(text));
        location.expect("a URL").to_str().expect("text").to_owned()
    }

    #[test]
    fn host_path_and_query_stay_and_the_port_is_that_of_https() {
        let usual = HttpsRedirect::default();
        assert_eq!(location(&usual, "/a/?q=1"), "https://shop.example/a/?q=1");
        assert_eq!(location(&usual, "/"), "https://shop.example/");
        let port = |port| HttpsRedirect { port: Some(port), ..HttpsRedirect::default() };
        assert_eq!(location(&port(8443), "/a"), "https://shop.example:8443/a");
        assert_eq!(location(&port(443), "/a"), "https://shop.example/a");
    }

    #[test]
    fn one_slash_at_the_very_end_is_left_out_where_that_is_wanted() {
        let strip = HttpsRedirect { strip_trailing_slash: true, ..HttpsRedirect::default() };
        assert_eq!(location(&strip, "/"), "https://shop.example");
        assert_eq!(location(&strip, "/a/"), "https://shop.example/a");
        assert_eq!(location(&strip, "/a/?q"), "https://shop.example/a/?q");
        assert_eq!(location(&strip, "/a?q=/"), "https://shop.example/a?q=");
    }

    #[test]
    fn exempt_paths_are_compared_in_their_one_form() {
        let plan = HttpsPlan::new(&HttpsRedirect::default());
        assert!(!plan.concerns(&target("/.well-known/acme-challenge/x")));
        assert!(plan.concerns(&target("/.well-known/acme-challenge/../../x")));
        assert!(plan.concerns(&target("/.well-known/acme-challenge")));
        let asterisk = http::uri::PathAndQuery::from_static("*");
        assert!(
            !plan.concerns(&RequestTarget::parse(asterisk, Default::default()).expect("a target"))
        );
    }

    #[test]
    fn the_header_says_what_was_asked_for() {
        let usual = Hsts::default();
        assert_eq!(hsts(&usual).expect("a value"), "max-age=31536000");
        let all = Hsts { include_subdomains: true, preload: true, ..usual.clone() };
        assert_eq!(hsts(&all).expect("a value"), "max-age=31536000; includeSubDomains; preload");
        let forget = Hsts { max_age: Duration::ZERO, ..usual };
        assert_eq!(hsts(&forget).expect("a value"), "max-age=0");
    }
}
