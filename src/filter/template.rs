//! Fills templates in.
//!
//! Nothing that comes out ends a header line or leaves its part of a URL: parts of a request are
//! bytes of fields or of a target in its one form, literals have no control characters, and what
//! still cannot be a value is none.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};

use http::header::COOKIE;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

use super::RequestTarget;
use crate::ir::{Name, Piece, Template, Variable};
use crate::util::escape::decoded;

/// What of a request templates may take.
#[derive(Clone)]
pub struct Facts<'a> {
    /// `http` or `https`, as the client's connection is.
    pub scheme: &'static str,
    /// The host without its port.
    pub host: &'a str,
    /// The host with the port that the client named.
    pub http_host: HeaderValue,
    /// The port the request came to.
    pub port: u16,
    /// `HTTP/1.1` or `HTTP/2.0`.
    pub protocol: &'static str,
    /// Path and query in their one form, after what has rewritten them so far.
    pub target: &'a RequestTarget,
    /// The same as the client asked for them.
    pub asked: &'a RequestTarget,
    /// The method.
    pub method: &'a Method,
    /// The header fields.
    pub headers: &'a HeaderMap,
    /// The client's address as far as it is believed.
    pub client: IpAddr,
    /// The other end of the connection.
    pub peer: SocketAddr,
    /// Who it is from, where that was asked for and shown.
    pub user: Option<Name>,
    /// The client's certificate, where it showed one that was verified.
    pub certificate: Option<ClientCertificate<'a>>,
    /// The request's id.
    pub request_id: &'a [u8],
    /// What the groups of the last expression that matched captured.
    pub captures: &'a [Box<[u8]>],
}

/// What templates may take of a client's certificate.
#[derive(Clone, Copy, Debug)]
pub struct ClientCertificate<'a> {
    /// Its subject (RFC 4514).
    pub subject: &'a str,
    /// Who signed it.
    pub issuer: &'a str,
    /// Its serial number, hexadecimal.
    pub serial: &'a str,
    /// SHA-256 over it, hexadecimal.
    pub fingerprint: &'a str,
}

/// Where the text will stand.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In a header field. What cannot stand there makes no field.
    Header,
    /// In a URL. What a client may choose freely (fields, cookies) is percent-encoded, so that it
    /// stays the part of the URL that it was meant to be; the rest has a URL's characters already.
    Url,
    /// In a condition, which judges paths as they are when they are decoded.
    Condition,
}

/// The text for one request. Variables without a value are empty.
pub fn render(template: &Template, facts: &Facts<'_>, place: Place) -> Vec<u8> {
    let mut out = Vec::new();
    for piece in template.pieces() {
        match piece {
            Piece::Literal(text) => put(text.as_bytes(), place, &mut out),
            Piece::Variable(variable) => fill(variable, facts, place, &mut out),
        }
    }
    out
}

/// The text as a field value; `None` where it cannot be one.
pub fn render_value(template: &Template, facts: &Facts<'_>, place: Place) -> Option<HeaderValue> {
    HeaderValue::from_bytes(&render(template, facts, place)).ok()
}

/// What each variable comes to for one request, one by one.
pub fn values<'t>(
    template: &'t Template,
    facts: &'t Facts<'_>,
) -> impl Iterator<Item = Vec<u8>> + use<'t> {
    template.pieces().iter().filter_map(|piece| {
        let Piece::Variable(variable) = piece else { return None };
        let mut value = Vec::new();
        fill(variable, facts, Place::Header, &mut value);
        Some(value)
    })
}

/// A field value as far as the request says it: what is of the response comes later.
#[derive(Debug)]
pub struct Draft {
    /// Text, and before each but the first a part of the response.
    texts: Vec<Vec<u8>>,
    parts: Vec<Part>,
    secret: bool,
}

/// A part of a response.
#[derive(Clone, Debug)]
enum Part {
    Field(HeaderName),
    Status,
}

impl Draft {
    /// The value of `template` for one request.
    pub fn new(template: &Template, facts: &Facts<'_>, place: Place) -> Self {
        let mut draft = Self { texts: Vec::new(), parts: Vec::new(), secret: template.is_secret() };
        let mut text = Vec::new();
        for piece in template.pieces() {
            let part = match piece {
                Piece::Literal(literal) => {
                    put(literal.as_bytes(), place, &mut text);
                    continue;
                }
                Piece::Variable(Variable::ResponseHeader(name)) => Part::Field(name.clone()),
                Piece::Variable(Variable::Status) => Part::Status,
                Piece::Variable(variable) => {
                    fill(variable, facts, place, &mut text);
                    continue;
                }
            };
            draft.parts.push(part);
            draft.texts.push(std::mem::take(&mut text));
        }
        draft.texts.push(text);
        draft
    }

    /// The whole value, with a response; `None` where it is empty or cannot stand in a header.
    pub fn finish(&self, response: Option<(StatusCode, &HeaderMap)>) -> Option<HeaderValue> {
        let mut out = Vec::new();
        let parts = self.parts.iter().map(Some).chain([None]);
        for (text, part) in self.texts.iter().zip(parts) {
            out.extend_from_slice(text);
            match (part, response) {
                (Some(Part::Field(name)), Some((_, headers))) => {
                    out.extend_from_slice(&field(headers, name));
                }
                (Some(Part::Status), Some((status, _))) => {
                    out.extend_from_slice(status.as_str().as_bytes());
                }
                _ => {}
            }
        }
        let mut value = HeaderValue::from_bytes(&out).ok().filter(|value| !value.is_empty())?;
        value.set_sensitive(self.secret);
        Some(value)
    }
}

fn fill(variable: &Variable, facts: &Facts<'_>, place: Place, out: &mut Vec<u8>) {
    let query = facts.target.query().unwrap_or_default();
    let certificate = |part: for<'c> fn(&ClientCertificate<'c>) -> &'c str, out: &mut Vec<u8>| {
        if let Some(certificate) = &facts.certificate {
            free(part(certificate).as_bytes(), place, out);
        }
    };
    match variable {
        Variable::Arg(name) => put(argument(query, name).as_bytes(), place, out),
        Variable::Args => put(query.as_bytes(), place, out),
        Variable::Capture(number) => {
            let group = usize::from(*number).checked_sub(1).and_then(|n| facts.captures.get(n));
            put(group.map(|group| &**group).unwrap_or_default(), place, out);
        }
        Variable::ClientFingerprint => certificate(|c| c.fingerprint, out),
        Variable::ClientIssuer => certificate(|c| c.issuer, out),
        Variable::ClientSerial => certificate(|c| c.serial, out),
        Variable::ClientSubject => certificate(|c| c.subject, out),
        Variable::ClientVerify => {
            let shown = facts.certificate.is_some();
            out.extend_from_slice(if shown { b"SUCCESS" } else { b"NONE" });
        }
        Variable::Cookie(name) => free(cookie(facts.headers, name), place, out),
        Variable::EscapedRequestUri => escape(facts.asked.as_str().as_bytes(), out),
        Variable::Header(name) => free(&field(facts.headers, name), place, out),
        Variable::Host => put(facts.host.as_bytes(), place, out),
        Variable::HttpHost => put(facts.http_host.as_bytes(), place, out),
        Variable::IsArgs => out.extend_from_slice(if query.is_empty() { b"" } else { b"?" }),
        Variable::PassAccessScheme => out.extend_from_slice(told_scheme(facts).as_bytes()),
        Variable::ProxyAddXForwardedFor => {
            for value in facts.headers.get_all("x-forwarded-for") {
                free(value.as_bytes(), place, out);
                free(b", ", place, out);
            }
            put(facts.peer.ip().to_string().as_bytes(), place, out);
        }
        Variable::RemoteAddr => put(facts.client.to_string().as_bytes(), place, out),
        Variable::RemotePort => {
            out.extend_from_slice(itoa::Buffer::new().format(facts.peer.port()).as_bytes());
        }
        Variable::RemoteUser => {
            let user = facts.user.as_ref().map(Name::as_str);
            free(user.unwrap_or_default().as_bytes(), place, out);
        }
        Variable::RequestId => put(facts.request_id, place, out),
        Variable::RequestMethod => put(facts.method.as_str().as_bytes(), place, out),
        Variable::RequestUri => put(facts.asked.as_str().as_bytes(), place, out),
        Variable::Scheme => out.extend_from_slice(facts.scheme.as_bytes()),
        Variable::ServerPort => {
            out.extend_from_slice(itoa::Buffer::new().format(facts.port).as_bytes());
        }
        Variable::ServerProtocol => out.extend_from_slice(facts.protocol.as_bytes()),
        Variable::Uri if place == Place::Condition => out.extend(decoded(facts.target.path())),
        Variable::Uri => put(facts.target.path().as_bytes(), place, out),
        // There is no response yet, and providers have put in what is of the route.
        Variable::ResponseHeader(_) | Variable::Status | Variable::Site(_) => {}
    }
}

/// All fields of that name as one (RFC 9110 §5.3): a second one must not hide behind the first.
fn field<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Cow<'h, [u8]> {
    let mut values = headers.get_all(name).iter().map(HeaderValue::as_bytes);
    let first = values.next().unwrap_or_default();
    let mut joined = Cow::Borrowed(first);
    for value in values {
        // RFC 9113 §8.2.3: a client may take its cookies apart.
        joined.to_mut().extend_from_slice(if *name == COOKIE { b"; " } else { b", " });
        joined.to_mut().extend_from_slice(value);
    }
    joined
}

/// Only a trusted proxy's word has got this far.
fn told_scheme(facts: &Facts<'_>) -> &'static str {
    let told = facts.headers.get("x-forwarded-proto").map(HeaderValue::as_bytes);
    match told {
        Some(b"https") => "https",
        Some(b"http") => "http",
        _ => facts.scheme,
    }
}

/// The first parameter of that name, as it came.
fn argument<'q>(query: &'q str, name: &str) -> &'q str {
    let mut pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs.find(|(known, _)| *known == name).map_or("", |(_, value)| value)
}

fn cookie<'h>(headers: &'h HeaderMap, name: &str) -> &'h [u8] {
    let fields = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes);
    let mut values =
        fields.flat_map(|field| field.split(|byte| *byte == b';')).filter_map(|pair| {
            let rest = pair.trim_ascii().strip_prefix(name.as_bytes())?;
            rest.strip_prefix(b"=")
        });
    values.next().unwrap_or_default()
}

/// What a client may choose freely.
fn free(bytes: &[u8], place: Place, out: &mut Vec<u8>) {
    match place {
        Place::Header | Place::Condition => put(bytes, place, out),
        Place::Url => escape(bytes, out),
    }
}

fn put(bytes: &[u8], place: Place, out: &mut Vec<u8>) {
    for byte in bytes.iter().copied() {
        let stays = match place {
            Place::Header | Place::Condition => true,
            Place::Url => byte.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&byte),
        };
        if stays { out.push(byte) } else { percent(byte, out) }
    }
}

/// Everything but unreserved characters (RFC 3986 §2.3) percent-encoded.
fn escape(bytes: &[u8], out: &mut Vec<u8>) {
    for byte in bytes.iter().copied() {
        let stays = byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        if stays { out.push(byte) } else { percent(byte, out) }
    }
}

fn percent(byte: u8, out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let digit = |nibble: u8| DIGITS.get(usize::from(nibble & 15)).copied().unwrap_or(b'0');
    out.extend_from_slice(&[b'%', digit(byte >> 4), digit(byte)]);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ir::Scope;

    fn rendered(
        text: &str,
        headers: &[(&'static str, &[u8])],
        target: &str,
        place: Place,
    ) -> Vec<u8> {
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (target, None),
        };
        let target = RequestTarget::from_parts(path, query).expect("a target");
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_bytes(value).expect("a value"));
        }
        let facts = Facts {
            scheme: "http",
            host: "shop.example",
            http_host: HeaderValue::from_static("shop.example:8080"),
            port: 8080,
            protocol: "HTTP/1.1",
            target: &target,
            asked: &target,
            method: &Method::POST,
            headers: &map,
            client: [10, 0, 0, 1].into(),
            peer: ([10, 0, 0, 2], 4711).into(),
            user: Some("ann".into()),
            certificate: Some(ClientCertificate {
                subject: "CN=a",
                issuer: "CN=ca",
                serial: "0A",
                fingerprint: "ff",
            }),
            request_id: b"id-1",
            captures: &[Box::from(*b"one")],
        };
        let everywhere = Scope { groups: 9, response: true };
        let template = Template::parse_in(text, everywhere).expect("a template");
        let text = render(&template, &facts, place);
        let draft = Draft::new(&template, &facts, place).finish(None);
        assert_eq!(draft.map(|value| value.as_bytes().to_vec()).unwrap_or_default(), text);
        text
    }

    #[test]
    fn every_variable_has_its_value() {
        let headers = [
            ("x-user", &b"a&b"[..]),
            ("x-two", b"1"),
            ("x-two", b"2"),
            ("cookie", b"x=1; sid=s p"),
            ("cookie", b"other=2"),
            ("x-forwarded-proto", b"https"),
            ("x-forwarded-for", b"1.2.3.4"),
        ];
        let cases = [
            ("{host} {http_host}", "shop.example shop.example:8080"),
            ("{scheme} {pass_access_scheme}", "http https"),
            ("{remote_addr} {request_id} {request_method}", "10.0.0.1 id-1 POST"),
            ("{uri} {args} {request_uri}", "/a%20b c=d&e=f%26&c=g /a%20b?c=d&e=f%26&c=g"),
            ("{escaped_request_uri}", "%2Fa%2520b%3Fc%3Dd%26e%3Df%2526%26c%3Dg"),
            ("{arg_c}|{arg_e}|{arg_z}|{server_port}", "d|f%26||8080"),
            ("{is_args}{server_protocol} {remote_port} {remote_user}", "?HTTP/1.1 4711 ann"),
            ("{proxy_add_x_forwarded_for}", "1.2.3.4, 10.0.0.2"),
            ("{http_x_two}|{http_cookie}", "1, 2|x=1; sid=s p; other=2"),
            ("{ssl_client_verify} {ssl_client_s_dn} {ssl_client_i_dn}", "SUCCESS CN=a CN=ca"),
            ("{ssl_client_serial} {ssl_client_fingerprint} {1}|{2}|{status}", "0A ff one||"),
            ("{http_x_user}|{cookie_sid}|{cookie_other}|{cookie_z}|{http_z}", "a&b|s p|2||"),
        ];
        for (text, expected) in cases {
            let text = rendered(text, &headers, "/a%20b?c=d&e=f%26&c=g", Place::Header);
            assert_eq!(String::from_utf8_lossy(&text), expected);
        }
        let url = rendered("/x y?u={http_x_user}&s={cookie_sid}", &headers, "/", Place::Url);
        assert_eq!(String::from_utf8_lossy(&url), "/x%20y?u=a%26b&s=s%20p");
    }

    proptest! {
        #[test]
        fn nothing_a_client_sends_ends_a_line_or_leaves_its_part_of_a_url(
            value in prop::collection::vec(prop_oneof![0x20..0x7f_u8, 0x80..=0xff_u8], 0..40),
            query in "[a-z&=%!'()*,;:@/.+]{0,20}",
        ) {
            let target = format!("/?{query}");
            let headers = [("x-a", &value[..])];
            let url = rendered("{http_x_a}|{args}", &headers, &target, Place::Url);
            prop_assert!(url.iter().all(|byte| byte.is_ascii_graphic()), "{:?}", url);
            let value = rendered("{http_x_a}", &headers, &target, Place::Url);
            prop_assert!(!value.iter().any(|byte| b"&?#/=:".contains(byte)), "{:?}", value);
            let text = rendered("{http_x_a}{args}", &headers, &target, Place::Header);
            prop_assert!(HeaderValue::from_bytes(&text).is_ok());
        }
    }
}
