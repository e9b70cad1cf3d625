//! Fills templates in.

use std::net::IpAddr;

use http::header::COOKIE;
use http::{HeaderMap, HeaderValue, Method};

use super::RequestTarget;
use crate::ir::{Piece, Template, Variable};

/// What of a request templates may take.
pub struct Facts<'a> {
    /// `http` or `https`, as the client's connection is.
    pub scheme: &'static str,
    /// The host without its port.
    pub host: &'a str,
    /// The host with the port that the client named.
    pub http_host: HeaderValue,
    /// The port the request came to.
    pub port: u16,
    /// Path and query in their one form.
    pub target: &'a RequestTarget,
    /// The method.
    pub method: &'a Method,
    /// The header fields.
    pub headers: &'a HeaderMap,
    /// The client's address as far as it is believed.
    pub client: IpAddr,
    /// The request's id.
    pub request_id: &'a [u8],
}

/// Where the text will stand.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In a header field. What cannot stand there makes no field.
    Header,
    /// In a URL. What a client may choose freely (fields, cookies) is percent-encoded, so that it
    /// stays the part of the URL that it was meant to be; the rest has a URL's characters already.
    Url,
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

fn fill(variable: &Variable, facts: &Facts<'_>, place: Place, out: &mut Vec<u8>) {
    let query = facts.target.query().unwrap_or_default();
    match variable {
        Variable::Arg(name) => put(argument(query, name).as_bytes(), place, out),
        Variable::Args => put(query.as_bytes(), place, out),
        Variable::Cookie(name) => free(cookie(facts.headers, name), place, out),
        Variable::EscapedRequestUri => escape(facts.target.as_str().as_bytes(), out),
        Variable::Header(name) => {
            let value = facts.headers.get(name).map(HeaderValue::as_bytes);
            free(value.unwrap_or_default(), place, out);
        }
        Variable::Host => put(facts.host.as_bytes(), place, out),
        Variable::HttpHost => put(facts.http_host.as_bytes(), place, out),
        Variable::PassAccessScheme => out.extend_from_slice(told_scheme(facts).as_bytes()),
        Variable::RemoteAddr => put(facts.client.to_string().as_bytes(), place, out),
        Variable::RequestId => put(facts.request_id, place, out),
        Variable::RequestMethod => put(facts.method.as_str().as_bytes(), place, out),
        Variable::RequestUri => put(facts.target.as_str().as_bytes(), place, out),
        Variable::Scheme => out.extend_from_slice(facts.scheme.as_bytes()),
        Variable::ServerPort => {
            out.extend_from_slice(itoa::Buffer::new().format(facts.port).as_bytes());
        }
        Variable::Uri => put(facts.target.path().as_bytes(), place, out),
    }
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
        Place::Header => put(bytes, place, out),
        Place::Url => escape(bytes, out),
    }
}

fn put(bytes: &[u8], place: Place, out: &mut Vec<u8>) {
    for byte in bytes.iter().copied() {
        let stays = match place {
            Place::Header => true,
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
            target: &target,
            method: &Method::POST,
            headers: &map,
            client: [10, 0, 0, 1].into(),
            request_id: b"id-1",
        };
        render(&Template::parse(text).expect("a template"), &facts, place)
    }

    #[test]
    fn every_variable_has_its_value() {
        let headers = [
            ("x-user", &b"a&b"[..]),
            ("cookie", b"x=1; sid=s p"),
            ("cookie", b"other=2"),
            ("x-forwarded-proto", b"https"),
        ];
        let cases = [
            ("{host} {http_host}", "shop.example shop.example:8080"),
            ("{scheme} {pass_access_scheme}", "http https"),
            ("{remote_addr} {request_id} {request_method}", "10.0.0.1 id-1 POST"),
            ("{uri} {args} {request_uri}", "/a%20b c=d&e=f%26&c=g /a%20b?c=d&e=f%26&c=g"),
            ("{escaped_request_uri}", "%2Fa%2520b%3Fc%3Dd%26e%3Df%2526%26c%3Dg"),
            ("{arg_c}|{arg_e}|{arg_z}|{server_port}", "d|f%26||8080"),
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
