//! A request in its one form, after everything ambiguous was refused.

use std::rc::Rc;
use std::sync::Arc;

use http::uri::Authority;
use http::{HeaderMap, HeaderValue, Method};

use super::selection::Selection;
use super::{Context, HttpVersion, RequestBody};
use crate::filter::{ClientCertificate, Facts, RequestTarget, Ruling};
use crate::upstream::{EndpointId, Upstream};

/// A request as the server hands it over: parsed, not judged.
pub struct Inbound {
    /// The head.
    pub parts: http::request::Parts,
    /// The body.
    pub body: super::IncomingBody,
    /// Its story.
    pub context: Rc<Context>,
}

/// A request on its way through the stack.
pub struct Request {
    /// The method sent to the endpoint.
    pub method: Method,
    /// The host the client asked for; the router's key.
    pub host: Host,
    /// The `Host` the endpoint sees.
    pub upstream_host: HeaderValue,
    /// Path and query.
    pub target: RequestTarget,
    /// The same as the client asked for them, where they were rewritten.
    pub asked: Option<RequestTarget>,
    /// What rules have come to for it, until that is applied.
    pub ruling: Option<Box<Ruling>>,
    /// The other fields, free of hop-by-hop ones.
    pub headers: HeaderMap,
    /// The body; `None` when there is none.
    pub body: Option<RequestBody>,
    /// What the client wants to switch to.
    pub upgrade: Option<Upgrade>,
    /// Whether the client takes trailers.
    pub takes_trailers: bool,
    /// Its story.
    pub context: Rc<Context>,
    /// Where it has been.
    pub tried: Tried,
    /// The upstream drawn by the first attempt.
    pub upstream: Option<Arc<Upstream>>,
    /// What decides its endpoint; settled by the first attempt.
    pub selection: Option<Selection>,
    /// Whether the next attempt must not use a pooled connection.
    pub fresh: bool,
    /// Whether the fields of `forwarding` are still to be added: straight into the bytes of an
    /// HTTP/1 head, which is cheaper than through the map.
    pub owes_forwarding: bool,
}

impl Request {
    /// What templates may take of it.
    pub fn facts(&self) -> Facts<'_> {
        let conn = &self.context.conn;
        let certificate = conn.peer_certificate.as_ref().map(|certificate| ClientCertificate {
            subject: &certificate.subject,
            issuer: &certificate.issuer,
            serial: &certificate.serial,
            fingerprint: &certificate.fingerprint,
        });
        Facts {
            scheme: if conn.secure { "https" } else { "http" },
            protocol: match conn.version {
                HttpVersion::H1 => "HTTP/1.1",
                HttpVersion::H2 => "HTTP/2.0",
            },
            host: self.host.name(),
            http_host: self.host.to_value(),
            port: conn.local.port(),
            target: &self.target,
            asked: self.asked(),
            method: &self.method,
            headers: &self.headers,
            client: self.context.client.get(),
            peer: conn.peer,
            user: self.context.user.borrow().clone(),
            certificate,
            request_id: self.context.request_id().as_bytes(),
            captures: &[],
        }
    }

    /// Path and query as the client asked for them.
    pub fn asked(&self) -> &RequestTarget {
        self.asked.as_ref().unwrap_or(&self.target)
    }

    /// Puts `target` in the place of path and query.
    pub fn rewrite(&mut self, target: RequestTarget) {
        let before = std::mem::replace(&mut self.target, target);
        self.asked.get_or_insert(before);
    }
}

/// The endpoints that a request has been to without success.
#[derive(Debug, Default)]
pub struct Tried {
    ids: Vec<EndpointId>,
    /// How many of them, from the first on, took no connection.
    refused: usize,
}

impl Tried {
    /// Adds one that took no connection.
    pub fn refused(&mut self, id: EndpointId) {
        self.ids.insert(self.refused.min(self.ids.len()), id);
        self.refused += 1;
    }

    /// Adds one that took the request and did not answer it well.
    pub fn disappointed(&mut self, id: EndpointId) {
        self.ids.push(id);
    }

    /// All of them.
    pub fn all(&self) -> &[EndpointId] {
        &self.ids
    }

    /// Those that took no connection: where no other endpoint is left, the others may be asked
    /// once more.
    pub fn hopeless(&self) -> &[EndpointId] {
        self.ids.get(..self.refused).unwrap_or_default()
    }
}

/// A wish to switch protocols.
#[derive(Clone, Debug)]
pub struct Upgrade {
    /// The value of `Upgrade`.
    pub protocol: HeaderValue,
    /// Whether it came as an extended CONNECT (RFC 8441), to be answered with 200 and not 101.
    pub extended_connect: bool,
}

/// A host and port as a client wrote it, valid, in lower case and without a trailing dot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    text: HeaderValue,
    name_length: usize,
    port: Option<u16>,
}

impl Host {
    /// Parses `host[:port]`. Without a copy where the text is in its normal form.
    pub fn parse(value: &HeaderValue) -> Option<Self> {
        Self::parse_normal(value).or_else(|| Self::parse_any(value))
    }

    /// The same for what nearly every request has, in one pass: a name or IPv4 address in its normal
    /// form. Whatever is not plainly that is left to [`Host::parse_any`].
    fn parse_normal(value: &HeaderValue) -> Option<Self> {
        let text = value.as_bytes();
        let mut before = b'.';
        let mut length = text.len();
        for (position, &byte) in text.iter().enumerate() {
            match byte {
                b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' => {}
                b'.' if before != b'.' => {}
                b':' => {
                    length = position;
                    break;
                }
                _ => return None,
            }
            before = byte;
        }
        // Neither empty nor with a dot at its end.
        if before == b'.' || length > MAX_NAME {
            return None;
        }
        let port = match text.get(length + 1..) {
            Some(digits) => Some(port_of(digits)?),
            None => None,
        };
        Some(Self { text: value.clone(), name_length: length, port })
    }

    fn parse_any(value: &HeaderValue) -> Option<Self> {
        let text = std::str::from_utf8(value.as_bytes()).ok()?;
        if text.is_empty() || text.contains('@') {
            return None;
        }
        let (name, port) = match text.rsplit_once(':') {
            Some((name, port)) if !port.contains(']') => (name, Some(port)),
            _ => (text, None),
        };
        let port = match port {
            None => None,
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                Some(digits.parse::<u16>().ok().filter(|port| *port > 0)?)
            }
            Some(_) => return None,
        };
        if !is_name(name) {
            return None;
        }
        if name.starts_with('[') {
            return Self::from_ipv6(name, port);
        }
        let normal = !name.ends_with('.') && !name.bytes().any(|byte| byte.is_ascii_uppercase());
        let text = if normal {
            value.clone()
        } else {
            let mut text = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
            if let Some(port) = port {
                text.push(':');
                text.push_str(itoa::Buffer::new().format(port));
            }
            HeaderValue::try_from(text).ok()?
        };
        let name_length = match port {
            Some(_) => text.as_bytes().iter().rposition(|byte| *byte == b':')?,
            None => text.len(),
        };
        (name_length > 0).then_some(Self { text, name_length, port })
    }

    /// An IPv6 address has many spellings; this is the one of RFC 5952.
    fn from_ipv6(literal: &str, port: Option<u16>) -> Option<Self> {
        let digits = literal.trim_start_matches('[').trim_end_matches(']');
        let name = format!("[{}]", digits.parse::<std::net::Ipv6Addr>().ok()?);
        let name_length = name.len();
        let text = match port {
            Some(port) => format!("{name}:{port}"),
            None => name,
        };
        Some(Self { text: HeaderValue::try_from(text).ok()?, name_length, port })
    }

    /// Parses an authority (RFC 3986 §3.2) without user information.
    pub fn from_authority(authority: &Authority) -> Option<Self> {
        Self::parse(&HeaderValue::from_str(authority.as_str()).ok()?)
    }

    /// The name.
    pub fn name(&self) -> &str {
        std::str::from_utf8(self.key()).unwrap_or_default()
    }

    /// The name as the router's key: the same without a look at every byte of it.
    pub fn key(&self) -> &[u8] {
        self.text.as_bytes().get(..self.name_length).unwrap_or_default()
    }

    /// The port the client named.
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// Name and port.
    pub fn to_value(&self) -> HeaderValue {
        self.text.clone()
    }

    /// Whether both name the same place; a scheme's own port may be left out.
    pub fn same_place(&self, other: &Self, secure: bool) -> bool {
        let standard = if secure { 443 } else { 80 };
        self.name() == other.name()
            && self.port.unwrap_or(standard) == other.port.unwrap_or(standard)
    }
}

/// The longest name (RFC 1035 §2.3.4, without the length bytes), in bytes.
const MAX_NAME: usize = 253;

/// A port written the one usual way.
fn port_of(digits: &[u8]) -> Option<u16> {
    if digits.is_empty() || digits.len() > 5 || digits.first() == Some(&b'0') {
        return None;
    }
    digits.iter().try_fold(0u16, |port, byte| {
        let digit = byte.is_ascii_digit().then(|| u16::from(byte - b'0'))?;
        port.checked_mul(10)?.checked_add(digit)
    })
}

/// A host name, IPv4 address or bracketed IPv6 address.
fn is_name(name: &str) -> bool {
    if let Some(literal) = name.strip_prefix('[') {
        let literal = literal.strip_suffix(']').unwrap_or_default();
        return literal.parse::<std::net::Ipv6Addr>().is_ok();
    }
    let name = name.strip_suffix('.').unwrap_or(name);
    !name.is_empty()
        && name.len() <= MAX_NAME
        && !name.starts_with('.')
        && !name.contains("..")
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Option<(String, Option<u16>)> {
        let host = Host::parse(&HeaderValue::from_str(text).ok()?)?;
        Some((host.name().to_owned(), host.port()))
    }

    #[test]
    fn a_host_is_brought_into_one_form() {
        assert_eq!(parse("a.example"), Some(("a.example".into(), None)));
        assert_eq!(parse("A.Example.:8080"), Some(("a.example".into(), Some(8080))));
        assert_eq!(parse("[::1]:80"), Some(("[::1]".into(), Some(80))));
        assert_eq!(parse("[::1]"), Some(("[::1]".into(), None)));
        assert_eq!(parse("[0:0::1]:80"), Some(("[::1]".into(), Some(80))));
        assert_eq!(parse("127.0.0.1:1"), Some(("127.0.0.1".into(), Some(1))));
    }

    #[test]
    fn what_is_no_host_is_refused() {
        for text in [
            "", "a b", "a,b", "a/b", "u@a", "a:0", "a:99999", "[::1", "a..b", ".a", ":80", "a:",
            "a:b",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    proptest! {
        /// The short way may leave a host to the long one, and may not judge it otherwise.
        #[test]
        fn the_short_way_finds_what_the_long_one_does(
            text in "[a-cA1._-]{0,6}(:[0-9a]{0,6})?|[a1.:@\\[\\]-]{0,10}|[a.]{250,256}(:80)?"
        ) {
            let value = HeaderValue::from_str(&text).unwrap();
            if let Some(short) = Host::parse_normal(&value) {
                prop_assert_eq!(Some(short), Host::parse_any(&value));
            }
        }
    }

    #[test]
    fn usual_hosts_take_the_short_way() {
        for text in ["shop.example.com", "a", "10.0.0.1:8080", "x-1.y_2:443"] {
            let value = HeaderValue::from_static(text);
            assert!(Host::parse_normal(&value).is_some(), "{text}");
        }
    }
}
