//! What endpoints are told about the client: `X-Forwarded-*`, `X-Real-IP`, `X-Request-ID`,
//! `Forwarded` (RFC 7239) and `Via`, and where a listener wants it what ingress-nginx tells beside.
//!
//! These names are ours. What a client sends under them, or under an alias with underscores, is
//! dropped unless the peer is a trusted proxy; ours are added last and always arrive.

use std::cell::Ref;
use std::net::IpAddr;

use http::header::{FORWARDED, VIA};
use http::{HeaderMap, HeaderName, HeaderValue};
use smallvec::SmallVec;

use super::{Context, HttpVersion, Request, RequestId};
use crate::filter::{FilterChain, RequestFilter};
use crate::ir::{ListenerForwarding, Settings};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_SCHEME: HeaderName = HeaderName::from_static("x-forwarded-scheme");
const X_ORIGINAL_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-original-forwarded-for");
const X_ORIGINAL_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-original-forwarded-host");
const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
const X_SCHEME: HeaderName = HeaderName::from_static("x-scheme");
/// The request id's field, in both directions.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

const HTTP: HeaderValue = HeaderValue::from_static("http");
const HTTPS: HeaderValue = HeaderValue::from_static("https");

/// The longest request id taken over, in bytes.
const MAX_REQUEST_ID: usize = 128;

/// Names that tell endpoints about the client or the original request; a client cannot be
/// allowed to say them.
const OWNED: [&str; 27] = [
    "forwarded",
    PROXY,
    "ssl-client-cert",
    "ssl-client-issuer-dn",
    "ssl-client-subject-dn",
    "ssl-client-verify",
    "x-client-cert-fingerprint",
    "x-client-cert-san",
    "x-client-cert-serial",
    "x-client-cert-subject",
    "x-client-verify",
    "x-forwarded-client-cert",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-prefix",
    "x-forwarded-proto",
    "x-forwarded-scheme",
    "x-forwarded-server",
    "x-forwarded-ssl",
    "x-original-forwarded-for",
    "x-original-forwarded-host",
    "x-original-url",
    "x-real-ip",
    "x-request-id",
    "x-rewrite-url",
    "x-scheme",
];

/// No field of HTTP, but applications behind a CGI-like interface find it as `HTTP_PROXY` and send
/// their own requests where it says (CVE-2016-5385). Nobody is trusted with it.
const PROXY: &str = "proxy";

/// Whether a name needs a second look by [`receive`]: most do not.
pub fn is_suspect(name: &HeaderName) -> bool {
    // An underscore becomes a dash in CGI-like environments: an alias of an owned name.
    let text = name.as_str().as_bytes();
    may_be_owned(text) || text.contains(&b'_')
}

fn may_be_owned(name: &[u8]) -> bool {
    matches!(name, [b'x', b'-', ..] | [b'f', b'o', ..] | [b's', b's', ..] | b"proxy")
}

/// Drops what the client must not say, where any of its fields is suspect, and learns from a
/// trusted proxy who the client is. Called before anything relies on the client's address.
pub fn receive(context: &Context, headers: &mut HeaderMap, suspect: bool) {
    if !suspect {
        return;
    }
    let trusted = context.is_from_trusted_proxy();
    if trusted {
        if let Some(listener) = context.listener()
            && let Some(client) = client_behind(headers, |ip| listener.trusts(ip))
        {
            context.client.set(client);
        }
        if let Some(secure) = client_scheme(headers) {
            context.secure.set(secure);
        }
    }
    let told = context.conn.forwarding;
    if (trusted || told.keep_request_id)
        && let Some(id) = headers.get(&X_REQUEST_ID).filter(|id| is_sound_id(id))
    {
        let _ = context.request_id.set(RequestId::Given(id.clone()));
    }
    let original = told.original.then(|| Original::of(headers));
    let mut dropped: SmallVec<[HeaderName; 8]> = SmallVec::new();
    for name in headers.keys() {
        let text = name.as_str();
        // Whose certificate it was is for whoever ends TLS to say, and that is not the proxy before.
        let never =
            || text.starts_with("x-client-") || text.starts_with("ssl-client-") || text == PROXY;
        if text.as_bytes().contains(&b'_')
            || ((!trusted || never()) && may_be_owned(text.as_bytes()) && is_owned(text))
        {
            dropped.push(name.clone());
        }
    }
    for name in dropped {
        headers.remove(name);
    }
    if let Some(original) = original {
        original.put(headers);
    }
}

fn is_sound_id(id: &HeaderValue) -> bool {
    !id.is_empty() && id.len() <= MAX_REQUEST_ID && id.as_bytes().iter().all(u8::is_ascii_graphic)
}

/// What a client said in fields that say something else upstream.
struct Original {
    forwarded_for: Option<HeaderValue>,
    host: Option<HeaderValue>,
}

impl Original {
    fn of(headers: &HeaderMap) -> Self {
        let mut chain = headers.get_all(&X_FORWARDED_FOR).iter();
        let forwarded_for = match (chain.next(), chain.next()) {
            (Some(_), Some(_)) => {
                let all: Vec<_> = headers.get_all(&X_FORWARDED_FOR).iter().collect();
                let all: Vec<&[u8]> = all.into_iter().map(HeaderValue::as_bytes).collect();
                HeaderValue::from_bytes(&all.join(&b", "[..])).ok()
            }
            (one, _) => one.cloned(),
        };
        Self { forwarded_for, host: headers.get(&X_FORWARDED_HOST).cloned() }
    }

    /// In the place of whatever stands under these names, from a trusted proxy, too.
    fn put(self, headers: &mut HeaderMap) {
        for (name, value) in
            [(X_ORIGINAL_FORWARDED_FOR, self.forwarded_for), (X_ORIGINAL_FORWARDED_HOST, self.host)]
        {
            match value {
                Some(value) => drop(headers.insert(name, value)),
                None => drop(headers.remove(name)),
            }
        }
    }
}

/// Whether the client used TLS (`true`) or not, where `X-Forwarded-Proto` says so. Of several
/// schemes the first is the client's, as with `X-Forwarded-For`.
pub fn client_scheme(headers: &HeaderMap) -> Option<bool> {
    let value = headers.get(&X_FORWARDED_PROTO)?.as_bytes();
    let first = value.split(|byte| *byte == b',').next()?.trim_ascii();
    match first {
        first if first.eq_ignore_ascii_case(b"https") => Some(true),
        first if first.eq_ignore_ascii_case(b"http") => Some(false),
        _ => None,
    }
}

/// Whether a name is ours.
pub(super) fn is_owned(name: &str) -> bool {
    OWNED.binary_search(&name).is_ok()
}

/// Adds what the endpoint is told.
pub fn send(request: &mut Request) {
    let context = request.context.clone();
    let conn = &context.conn;
    let headers = &mut request.headers;
    let trusted = context.is_from_trusted_proxy();
    let proto = if conn.secure { HTTPS } else { HTTP };
    if trusted {
        append_forwarded_for(headers, &conn.peer_text);
        headers.entry(X_FORWARDED_PROTO).or_insert(proto);
        headers.entry(X_FORWARDED_HOST).or_insert_with(|| request.host.to_value());
        headers.entry(X_FORWARDED_PORT).or_insert_with(|| conn.local.port().into());
        headers.insert(X_REAL_IP, ip_value(context.client.get()));
    } else {
        headers.insert(X_FORWARDED_FOR, conn.peer_text.clone());
        headers.insert(X_FORWARDED_PROTO, proto);
        headers.insert(X_FORWARDED_HOST, request.host.to_value());
        headers.insert(X_FORWARDED_PORT, conn.local.port().into());
        headers.insert(X_REAL_IP, conn.peer_text.clone());
    }
    headers.insert(X_REQUEST_ID, context.request_id().to_value());
    if conn.forwarding.scheme
        && let Some(scheme) = headers.get(&X_FORWARDED_PROTO).cloned()
    {
        headers.insert(X_FORWARDED_SCHEME, scheme.clone());
        headers.insert(X_SCHEME, scheme);
    }
    if let Some(settings) = context.settings() {
        if settings.forwarding.forwarded {
            append_forwarded(headers, &context, &request.host);
        }
        if settings.forwarding.via {
            headers.append(VIA, via(conn.version));
        }
    }
    send_certificate(&context, headers);
}

/// Whether `send` may be left to [`Lines`]: nothing looks at or changes these fields before they
/// are on the wire, and nothing of the client's stands beside them.
pub fn can_wait(request: &Request, filters: &FilterChain) -> bool {
    let context = &request.context;
    let asked =
        |settings: Ref<'_, Settings>| settings.forwarding.forwarded || settings.forwarding.via;
    !context.is_from_trusted_proxy()
        && !context.settings().is_some_and(asked)
        && !forwards_certificate(context)
        && !filters.request.iter().any(|filter| matches!(filter, RequestFilter::Headers(_)))
}

/// The fields of [`send`] as they stand in an HTTP/1 head, for a request that `can_wait`.
pub struct Lines<'a> {
    connection: &'a [u8],
    host: HeaderValue,
    id: &'a [u8],
}

impl<'a> Lines<'a> {
    /// The lines of `request`.
    pub fn new(request: &'a Request) -> Self {
        let context = &request.context;
        let connection = &context.conn.forwarding_lines;
        Self { connection, host: request.host.to_value(), id: context.request_id().as_bytes() }
    }

    /// Appends them.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.connection);
        out.extend_from_slice(b"x-forwarded-host: ");
        out.extend_from_slice(self.host.as_bytes());
        out.extend_from_slice(b"\r\nx-request-id: ");
        out.extend_from_slice(self.id);
        out.extend_from_slice(b"\r\n");
    }
}

/// The lines that are the same for all requests of a connection.
pub fn connection_lines(
    peer: IpAddr,
    secure: bool,
    port: u16,
    forwarding: ListenerForwarding,
) -> Box<[u8]> {
    let proto = if secure { "https" } else { "http" };
    let mut lines = format!(
        "x-forwarded-for: {peer}\r\nx-real-ip: {peer}\r\nx-forwarded-proto: {proto}\r\n\
         x-forwarded-port: {port}\r\n"
    );
    if forwarding.scheme {
        lines.push_str(&format!("x-scheme: {proto}\r\nx-forwarded-scheme: {proto}\r\n"));
    }
    lines.into_bytes().into()
}

/// The `Via` member for a message received in `version`.
pub fn via(version: HttpVersion) -> HeaderValue {
    match version {
        HttpVersion::H1 => HeaderValue::from_static("1.1 portcullis"),
        HttpVersion::H2 => HeaderValue::from_static("2 portcullis"),
    }
}

/// The right-most address in `X-Forwarded-For` that is not itself a trusted proxy.
fn client_behind(headers: &HeaderMap, trusts: impl Fn(IpAddr) -> bool) -> Option<IpAddr> {
    let mut last = None;
    for value in headers.get_all(&X_FORWARDED_FOR).iter().rev() {
        for hop in value.as_bytes().rsplit(|byte| *byte == b',') {
            let hop = std::str::from_utf8(hop).ok()?.trim();
            let hop = hop.trim_start_matches('[').trim_end_matches(']');
            let address = hop.parse::<IpAddr>().ok()?.to_canonical();
            last = Some(address);
            if !trusts(address) {
                return last;
            }
        }
    }
    last
}

fn append_forwarded_for(headers: &mut HeaderMap, peer: &HeaderValue) {
    let mut hops: Vec<&[u8]> =
        headers.get_all(&X_FORWARDED_FOR).iter().map(HeaderValue::as_bytes).collect();
    hops.push(peer.as_bytes());
    let joined = HeaderValue::from_bytes(&hops.join(&b", "[..]));
    headers.insert(X_FORWARDED_FOR, joined.unwrap_or_else(|_| peer.clone()));
}

fn append_forwarded(headers: &mut HeaderMap, context: &Context, host: &super::Host) {
    let quoted = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("\"[{ip}]\""),
    };
    let host = host.to_value();
    let host = host.to_str().unwrap_or_default();
    // A colon is no token character: a host with a port must be quoted.
    let quote = if host.contains(':') { "\"" } else { "" };
    let proto = if context.conn.secure { "https" } else { "http" };
    let for_ = quoted(context.conn.peer.ip());
    let element = format!("for={for_};host={quote}{host}{quote};proto={proto}");
    if let Ok(element) = HeaderValue::try_from(element) {
        headers.append(FORWARDED, element);
    }
}

/// Tells the endpoint whose certificate was verified.
fn send_certificate(context: &Context, headers: &mut HeaderMap) {
    if !forwards_certificate(context) {
        return;
    }
    let Some(certificate) = &context.conn.peer_certificate else {
        headers.insert("x-client-verify", HeaderValue::from_static("NONE"));
        return;
    };
    headers.insert("x-client-verify", HeaderValue::from_static("SUCCESS"));
    let sans = certificate.sans.join(",");
    for (name, value) in [
        ("x-client-cert-subject", certificate.subject.as_str()),
        ("x-client-cert-serial", certificate.serial.as_str()),
        ("x-client-cert-fingerprint", certificate.fingerprint.as_str()),
        ("x-client-cert-san", sans.as_str()),
    ] {
        if let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) {
            headers.insert(name, value);
        }
    }
}

fn forwards_certificate(context: &Context) -> bool {
    context.listener().is_some_and(|listener| {
        let tls = listener.spec.tls.as_ref();
        tls.and_then(|tls| tls.client_auth.as_ref()).is_some_and(|auth| auth.forward)
    })
}

/// An address as a field value.
pub fn ip_value(ip: IpAddr) -> HeaderValue {
    HeaderValue::try_from(ip.to_string()).unwrap_or(HeaderValue::from_static("unknown"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owned_names_are_sorted_for_the_binary_search() {
        assert!(OWNED.is_sorted());
    }

    #[test]
    fn every_owned_name_and_every_alias_is_suspect() {
        for name in OWNED {
            for name in [name.to_owned(), name.replace('-', "_")] {
                assert!(is_suspect(&HeaderName::try_from(&name).unwrap()), "{name}");
            }
        }
        for name in ["host", "user-agent", "sec-fetch-mode", "from"] {
            assert!(!is_suspect(&HeaderName::from_static(name)), "{name}");
        }
    }

    #[test]
    fn the_client_is_the_last_hop_nobody_vouches_for() {
        let behind = |hops: &'static str| {
            let mut headers = HeaderMap::new();
            headers.append(X_FORWARDED_FOR, HeaderValue::from_static(hops));
            client_behind(&headers, |ip| ip.to_string().starts_with("10."))
        };
        assert_eq!(behind("1.1.1.1, 2.2.2.2, 10.0.0.1"), Some([2, 2, 2, 2].into()));
        assert_eq!(behind("10.0.0.2, 10.0.0.1"), Some([10, 0, 0, 2].into()));
        assert_eq!(behind("1.1.1.1, junk, 10.0.0.1"), None);
    }
}
