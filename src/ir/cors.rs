//! Which pages of other origins may use a route from a browser (CORS, WHATWG Fetch §3.2).

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, Method};
use serde::{Serialize, Serializer};

use super::dump;

/// A CORS policy. The proxy answers for the route: what its upstream says of CORS is replaced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Cors {
    /// The origins that are allowed; [`OriginPattern::Any`] among them makes the others idle.
    pub origins: Vec<OriginPattern>,
    /// The methods they may use.
    #[serde(serialize_with = "methods")]
    pub methods: Vec<Method>,
    /// The request header fields they may send.
    #[serde(serialize_with = "names")]
    pub headers: Vec<HeaderName>,
    /// The response header fields they may read beside the harmless ones.
    #[serde(serialize_with = "names", skip_serializing_if = "Vec::is_empty")]
    pub expose: Vec<HeaderName>,
    /// Whether browsers send credentials along. They refuse it together with any origin.
    pub credentials: bool,
    /// How long browsers may remember the answer to a preflight, in whole seconds; `None` leaves
    /// it to them. Default 20 days.
    #[serde(serialize_with = "dump::some_span")]
    pub max_age: Option<Duration>,
}

/// The methods and header fields that ingress-nginx allows unless told otherwise, without
/// credentials; no origins.
impl Default for Cors {
    fn default() -> Self {
        let headers = [
            "dnt",
            "keep-alive",
            "user-agent",
            "x-requested-with",
            "if-modified-since",
            "cache-control",
            "content-type",
            "range",
            "authorization",
        ];
        Self {
            origins: Vec::new(),
            methods: vec![
                Method::GET,
                Method::PUT,
                Method::POST,
                Method::DELETE,
                Method::PATCH,
                Method::OPTIONS,
            ],
            headers: headers.into_iter().map(HeaderName::from_static).collect(),
            expose: Vec::new(),
            credentials: false,
            max_age: Some(Duration::from_secs(1_728_000)),
        }
    }
}

fn methods<S: Serializer>(methods: &[Method], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(methods.iter().map(Method::as_str))
}

fn names<S: Serializer>(names: &[HeaderName], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(names.iter().map(HeaderName::as_str))
}

/// Origins that are allowed. Everything is in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OriginPattern {
    /// Any, and pages without one.
    Any,
    /// `scheme://host[:port]`, or every host one label below it.
    Host {
        /// The scheme.
        scheme: Arc<str>,
        /// Whether `host` is what follows one label and a dot.
        below: bool,
        /// The host: a name, an IPv4 address or a bracketed IPv6 address.
        host: Arc<str>,
        /// The port; `None` is the scheme's own.
        port: Option<u16>,
    },
}

impl OriginPattern {
    /// Reads `*`, `https://app.example.com`, `https://*.example.com` or `http://host:8080`.
    ///
    /// # Errors
    /// What the text is not, as the end of a sentence, and after a line feed how to mend it.
    pub fn parse(text: &str) -> Result<Self, String> {
        const HINT: &str = "write it as in `https://app.example.com`, `https://*.example.com` \
                            or `http://localhost:8080`";
        if text == "*" {
            return Ok(Self::Any);
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(format!("is no origin\n{HINT}"));
        };
        let is_scheme = scheme.starts_with(|first: char| first.is_ascii_alphabetic())
            && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
        if rest.contains(['/', '?', '#']) {
            return Err("has a path, which no origin has\nleave it out, and the slash".to_owned());
        }
        let (host, port) = match rest.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => {
                let port = port.parse().ok().filter(|port| *port > 0);
                (host, Some(port.ok_or_else(|| format!("has no valid port\n{HINT}"))?))
            }
            _ => (rest, None),
        };
        let (below, host) = match host.strip_prefix("*.") {
            Some(host) => (true, host),
            None => (false, host),
        };
        if host.contains('*') {
            return Err("has a `*` elsewhere than as its first label\n\
                        write it as in `https://*.example.com`"
                .to_owned());
        }
        if !is_scheme || !is_host(host) || (below && host.starts_with('[')) {
            return Err(format!("is no origin\n{HINT}"));
        }
        let (scheme, host) = (scheme.to_ascii_lowercase(), host.to_ascii_lowercase());
        // Browsers leave a scheme's own port out.
        let own = matches!((&*scheme, port), ("https", Some(443)) | ("http", Some(80)));
        let port = port.filter(|_| !own);
        Ok(Self::Host { scheme: scheme.into(), below, host: host.into(), port })
    }
}

fn is_host(host: &str) -> bool {
    if let Some(literal) = host.strip_prefix('[') {
        let literal = literal.strip_suffix(']').unwrap_or_default();
        return literal.parse::<std::net::Ipv6Addr>().is_ok();
    }
    let is_label = |label: &str| {
        let known = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        !label.is_empty() && label.bytes().all(known)
    };
    host.split('.').all(is_label)
}

impl fmt::Display for OriginPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Host { scheme, below, host, port } => {
                write!(f, "{scheme}://{}{host}", if *below { "*." } else { "" })?;
                port.iter().try_for_each(|port| write!(f, ":{port}"))
            }
        }
    }
}

impl Serialize for OriginPattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_read_in_their_one_form() {
        for (text, read) in [
            ("*", "*"),
            ("https://App.Example.com", "https://app.example.com"),
            ("HTTPS://*.example.com:443", "https://*.example.com"),
            ("http://localhost:8080", "http://localhost:8080"),
            ("http://[::1]:3000", "http://[::1]:3000"),
            ("http://[::1]", "http://[::1]"),
            ("chrome-extension://abcdef", "chrome-extension://abcdef"),
        ] {
            assert_eq!(OriginPattern::parse(text).unwrap().to_string(), read, "{text}");
        }
        for text in [
            "",
            "null",
            "example.com",
            "https://",
            "https://a.com/",
            "https://a.com/x",
            "https://*",
            "https://a.*.com",
            "https://*.*.com",
            "https://*a.com",
            "https://a..com",
            "://a.com",
            "https://a.com:0",
            "https://a.com:x",
            "https://a.com:99999",
            "https://*.[::1]",
            "https://a b",
            "https://u@a.com",
            "1a://b",
        ] {
            assert!(OriginPattern::parse(text).is_err(), "{text}");
        }
    }
}
