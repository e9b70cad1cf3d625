//! Hop-by-hop fields (RFC 9110 §7.6.1): what belongs to one connection does not cross the proxy.
//! Nor do reports of load, which are meant for whoever balances: the client is told about one of
//! many servers, and how busy they are is nobody's business outside.

use bytes::Bytes;
use http::header::{
    ACCEPT, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HOST, PROXY_AUTHORIZATION, TE,
    TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::Frame;
use smallvec::SmallVec;

use crate::upstream::orca;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");

/// What the hop-by-hop fields of a request said.
#[derive(Default)]
pub struct RequestHop {
    /// The value of `Upgrade`, where `Connection` nominates it and it may be granted.
    pub upgrade: Option<HeaderValue>,
    /// Whether the client takes trailers (`TE: trailers`).
    pub takes_trailers: bool,
}

/// Takes the hop-by-hop fields and the framing out of a request with the fields `present`.
pub fn strip_request(headers: &mut HeaderMap, present: &Present) -> RequestHop {
    let mut hop = RequestHop::default();
    if present.te {
        hop.takes_trailers = headers
            .get_all(TE)
            .iter()
            .flat_map(tokens)
            .any(|token| token.eq_ignore_ascii_case(b"trailers"));
        headers.remove(TE);
    }
    if present.upgrade {
        let nominated = headers
            .get_all(CONNECTION)
            .iter()
            .flat_map(tokens)
            .any(|token| token.eq_ignore_ascii_case(b"upgrade"));
        let several = headers.get_all(UPGRADE).iter().count() > 1;
        hop.upgrade = headers
            .remove(UPGRADE)
            .filter(|protocols| nominated && !several && may_upgrade(protocols));
    }
    if present.connection {
        remove_nominated(headers);
    }
    if present.rare {
        for name in [KEEP_ALIVE, PROXY_CONNECTION, HTTP2_SETTINGS, EXPECT, PROXY_AUTHORIZATION] {
            headers.remove(name);
        }
    }
    if present.framing {
        headers.remove(CONTENT_LENGTH);
        headers.remove(TRANSFER_ENCODING);
    }
    hop
}

/// Whether every protocol of an `Upgrade` field may be switched to: a list with one that may not,
/// or that is no list (RFC 9110 §7.8), is as none.
fn may_upgrade(protocols: &HeaderValue) -> bool {
    let mut count = 0;
    let sound = tokens(protocols).all(|protocol| {
        count += 1;
        let mut parts = protocol.splitn(2, |byte| *byte == b'/');
        parts.all(is_token) && !carries_http(protocol)
    });
    sound && count > 0
}

/// Whether a switch to this protocol would carry requests past the proxy's rules: HTTP in another
/// version or over TLS (`h2c`, `HTTP/2.0`, `TLS/1.0`). The upgrade to HTTP/2 is gone from the
/// standard (RFC 9113 §3.1), and TLS is the listener's business.
pub fn carries_http(protocol: &[u8]) -> bool {
    let begins = |with: &[u8]| {
        protocol.get(..with.len()).is_some_and(|start| start.eq_ignore_ascii_case(with))
    };
    [&b"h2"[..], b"h3", b"http", b"tls"].into_iter().any(begins)
}

/// Whether this is a token (RFC 9110 §5.6.2).
pub fn is_token(text: &[u8]) -> bool {
    let sound = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !text.is_empty() && text.iter().all(sound)
}

/// Takes the hop-by-hop fields and reports of load out of a response. `upgraded` keeps `Upgrade`,
/// which then is part of the answer. `Trailer` stays: it announces what follows the body.
pub fn strip_response(headers: &mut HeaderMap, upgraded: bool) {
    let mut present = Present::default();
    for name in headers.keys() {
        present.note(name);
    }
    if present.connection {
        let upgrade = if upgraded { headers.get(UPGRADE).cloned() } else { None };
        remove_nominated(headers);
        if let Some(upgrade) = upgrade {
            headers.insert(UPGRADE, upgrade);
        }
    }
    if present.rare {
        for name in [KEEP_ALIVE, PROXY_CONNECTION, HTTP2_SETTINGS] {
            headers.remove(name);
        }
    }
    if present.upgrade && !upgraded {
        headers.remove(UPGRADE);
    }
    if present.framing {
        headers.remove(TRANSFER_ENCODING);
    }
    if present.report {
        orca::strip(headers);
    }
    if present.trailer {
        orca::forget_announcement(headers);
    }
}

/// The same for an interim response, which has no body to speak of (RFC 9110 §8.6, RFC 9112 §6.1).
pub fn strip_interim(headers: &mut HeaderMap) {
    strip_response(headers, false);
    headers.remove(CONTENT_LENGTH);
}

/// Takes out of a trailer section what only a head may say (RFC 9110 §6.5.1): framing, routing,
/// authentication, how to read the content. `of_request` takes out what a client must not say,
/// too: the names that are ours, and aliases with underscores; else reports of load go.
fn strip_trailers(trailers: &mut HeaderMap, of_request: bool) {
    let ours = |name: &str| name.contains('_') || super::forwarding::is_owned(name);
    let forbidden = |name: &&HeaderName| {
        let name = name.as_str();
        HEAD_ONLY.binary_search(&name).is_ok() || of_request && ours(name)
    };
    let forbidden: SmallVec<[HeaderName; 4]> = trailers.keys().filter(forbidden).cloned().collect();
    for name in forbidden {
        trailers.remove(name);
    }
    if !of_request {
        orca::strip(trailers);
    }
}

/// The same frame of a body; trailers without what they may not say.
pub fn sound_trailers(frame: Frame<Bytes>, of_request: bool) -> Frame<Bytes> {
    match frame.into_trailers() {
        Ok(mut trailers) => {
            strip_trailers(&mut trailers, of_request);
            Frame::trailers(trailers)
        }
        Err(frame) => frame,
    }
}

/// In order, for a binary search.
const HEAD_ONLY: [&str; 21] = [
    "authorization",
    "cache-control",
    "connection",
    "content-encoding",
    "content-length",
    "content-range",
    "content-type",
    "cookie",
    "expect",
    "host",
    "keep-alive",
    "location",
    "max-forwards",
    "proxy-authorization",
    "proxy-connection",
    "set-cookie",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "www-authenticate",
];

/// Which fields a head has, found in one pass: most have none of these.
#[derive(Default)]
pub struct Present {
    /// `Accept`.
    pub accept: bool,
    /// `Content-Type`.
    pub content_type: bool,
    /// How many fields `Host` there are.
    pub hosts: usize,
    connection: bool,
    framing: bool,
    rare: bool,
    report: bool,
    te: bool,
    trailer: bool,
    upgrade: bool,
}

impl Present {
    /// Takes in one field.
    pub fn note(&mut self, name: &HeaderName) {
        match name.as_str().len() {
            2 => self.te |= name == TE,
            4 => self.hosts += usize::from(name == HOST),
            6 => {
                self.accept |= name == ACCEPT;
                self.rare |= name == EXPECT;
            }
            7 => {
                self.trailer |= name == TRAILER;
                self.upgrade |= name == UPGRADE;
            }
            10 => {
                self.connection |= name == CONNECTION;
                self.rare |= name == KEEP_ALIVE;
            }
            12 => self.content_type |= name == CONTENT_TYPE,
            14 => {
                self.framing |= name == CONTENT_LENGTH;
                self.rare |= name == HTTP2_SETTINGS;
            }
            16 => self.rare |= name == PROXY_CONNECTION,
            17 => self.framing |= name == TRANSFER_ENCODING,
            19 => self.rare |= name == PROXY_AUTHORIZATION,
            21.. => self.report |= orca::is_report(name),
            _ => {}
        }
    }
}

/// Removes `Connection` and what it nominates. Fields that frame or address the message cannot
/// be nominated away: a client must not be able to strip what a policy or an endpoint relies on.
fn remove_nominated(headers: &mut HeaderMap) {
    let mut nominated: SmallVec<[HeaderName; 4]> = SmallVec::new();
    for token in headers.get_all(CONNECTION).iter().flat_map(tokens) {
        if let Ok(name) = HeaderName::from_bytes(token)
            && !is_end_to_end(&name)
        {
            nominated.push(name);
        }
    }
    headers.remove(CONNECTION);
    for name in nominated {
        headers.remove(name);
    }
}

fn is_end_to_end(name: &HeaderName) -> bool {
    [HOST, CONTENT_LENGTH, TRANSFER_ENCODING, TRAILER].contains(name)
        || matches!(name.as_str(), "authorization" | "cookie" | "set-cookie" | "cache-control")
}

/// The tokens of a comma-separated list.
pub fn tokens(value: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    let pieces = value.as_bytes().split(|byte| *byte == b',');
    pieces.map(<[u8]>::trim_ascii).filter(|token| !token.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    fn strip_request(headers: &mut HeaderMap) -> RequestHop {
        let mut present = Present::default();
        headers.keys().for_each(|name| present.note(name));
        super::strip_request(headers, &present)
    }

    fn names(headers: &HeaderMap) -> Vec<&str> {
        let mut names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn hop_by_hop_and_nominated_fields_go() {
        let mut headers = headers(&[
            ("connection", "close, X-Secret"),
            ("connection", "keep-alive"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "keep-alive"),
            ("te", "trailers, deflate"),
            ("transfer-encoding", "chunked"),
            ("x-secret", "1"),
            ("x-kept", "1"),
        ]);
        let hop = strip_request(&mut headers);
        assert_eq!(names(&headers), ["x-kept"]);
        assert!(hop.takes_trailers);
        assert!(hop.upgrade.is_none());
    }

    #[test]
    fn what_addresses_or_authorises_cannot_be_nominated_away() {
        let mut headers = headers(&[
            ("connection", "host, authorization, cookie, trailer"),
            ("authorization", "Basic x"),
            ("cookie", "a=b"),
            ("trailer", "x-sum"),
        ]);
        strip_request(&mut headers);
        assert_eq!(names(&headers), ["authorization", "cookie", "trailer"]);
    }

    #[test]
    fn reports_of_load_do_not_cross() {
        let mut head = headers(&[
            ("endpoint-load-metrics", "TEXT eps=1"),
            ("endpoint-load-metrics-bin", "CQ=="),
            ("endpoint-load-metrics-json", "{}"),
            ("endpoint-load-metrics-new", "1"),
            ("trailer", "X-Sum, Endpoint-Load-Metrics"),
            ("x-kept", "1"),
        ]);
        let mut trailers = head.clone();
        strip_response(&mut head, false);
        assert_eq!(names(&head), ["endpoint-load-metrics-new", "trailer", "x-kept"]);
        assert_eq!(head["trailer"], "X-Sum");
        strip_trailers(&mut trailers, false);
        assert_eq!(names(&trailers), ["endpoint-load-metrics-new", "x-kept"]);
    }

    #[test]
    fn an_upgrade_is_wanted_only_if_nominated_and_never_to_another_http() {
        let wanted = |connection, protocol| {
            let fields = [("connection", connection), ("upgrade", protocol)];
            strip_request(&mut headers(&fields)).upgrade.is_some()
        };
        assert!(wanted("keep-alive, Upgrade", "websocket"));
        assert!(!wanted("keep-alive", "websocket"));
        assert!(wanted("upgrade", "line-echo/1.2, websocket"));
        for refused in ["h2c", "websocket, h2C", "HTTP/2.0", "tls/1.0, http/1.1", "", ", ,"] {
            assert!(!wanted("upgrade, http2-settings", refused), "{refused:?}");
        }
        for no_list in ["web socket", "websocket;h2c", "\"websocket\"", "a/b/c", "a/", "/1"] {
            assert!(!wanted("upgrade", no_list), "{no_list:?}");
        }
        let mut twice = headers(&[
            ("connection", "upgrade"),
            ("upgrade", "websocket"),
            ("upgrade", "line-echo"),
        ]);
        assert_eq!(strip_request(&mut twice).upgrade, None);
        assert!(twice.is_empty(), "{twice:?}");
    }
}
