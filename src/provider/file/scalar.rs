//! Small values with a text form: durations, sizes, addresses, patterns.

mod guard;
mod policy;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, Method, StatusCode};
use ipnet::IpNet;
use ir::EndpointAddress;
use schemars::{Schema, json_schema};

use super::field::Scalar;
use crate::ir;
pub(super) use guard::*;
pub(super) use policy::*;

/// A length of time: `5s`, `500ms`, `1m30s`, `1h`.
pub(super) struct Period(pub Duration);

/// A length of time, or `off`.
pub(super) struct Deadline(pub Option<Duration>);

/// A number of bytes: `64KiB`, `10MB`, `512`.
pub(super) struct Size(pub u64);

/// A number of bytes, or `off`.
pub(super) struct SizeLimit(pub Option<u64>);

/// An address to listen on.
pub(super) struct Bind(pub SocketAddr);

/// The address of a name server.
pub(super) struct Nameserver(pub SocketAddr);

/// A network in CIDR notation, or one address.
pub(super) struct Network(pub IpNet);

/// A regular expression.
pub(super) struct Pattern(pub Arc<str>);

/// A status code a fixed response may have.
pub(super) struct Status(pub StatusCode);

/// A status code a redirect may have.
pub(super) struct RedirectStatus(pub StatusCode);

/// A request method.
pub(super) struct Verb(pub Method);

/// A header field name.
pub(super) struct FieldName(pub HeaderName);

/// A header field name, or all that begin as one: `x-internal-*`.
pub(super) enum FieldNames {
    One(HeaderName),
    /// In lower case.
    Starting(Arc<str>),
}

/// Where an endpoint is.
pub(super) struct Endpoint {
    pub address: EndpointAddress,
    /// Whether a URL scheme asked for TLS (`https`) or against it (`http`).
    pub tls: Option<bool>,
}

const PERIOD: &str = r"^([0-9]+(ms|s|m|h|d))+$|^0$";
const SIZE: &str = r"^[0-9]+ *([kKmMgGtT]?[iI]?[bB])?$";

impl Scalar for Period {
    fn parse(text: &str) -> Result<Self, String> {
        period(text).map(Self)
    }

    fn schema() -> Schema {
        json_schema!({ "type": "string", "pattern": PERIOD, "examples": ["5s", "1m30s"] })
    }
}

fn period(text: &str) -> Result<Duration, String> {
    const HINT: &str = "write it as in `500ms`, `5s`, `1m30s` or `1h`";
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let wrong = || format!("is no duration\n{HINT}");
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(format!("has no unit\ndid you mean `{text}s`?"));
    }
    let mut total = Duration::ZERO;
    let mut rest = text;
    let mut smallest = u64::MAX;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, after) = rest.split_at(digits);
        let letters = after.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, after) = after.split_at(letters);
        let number: u64 = number.parse().map_err(|_| wrong())?;
        let millis: u64 = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(wrong()),
        };
        // `30s1m` and `1s1s` are slips rather than sums.
        if millis >= smallest {
            return Err(wrong());
        }
        smallest = millis;
        let part = number.checked_mul(millis).map(Duration::from_millis);
        total = part
            .and_then(|part| total.checked_add(part))
            .ok_or_else(|| "is too long\nthe longest duration is 3650d".to_owned())?;
        rest = after;
    }
    if text.is_empty() {
        return Err(wrong());
    }
    // Timers cannot count further than some hundred years; ten are plenty.
    if total > Duration::from_secs(3650 * 86_400) {
        return Err("is too long\nthe longest duration is 3650d".to_owned());
    }
    Ok(total)
}

impl Scalar for Deadline {
    fn parse(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self(None));
        }
        let value = period(text)?;
        if value.is_zero() {
            return Err("would end everything at once\nwrite `off` for no deadline".to_owned());
        }
        Ok(Self(Some(value)))
    }

    fn schema() -> Schema {
        json_schema!({ "type": "string", "pattern": format!("{PERIOD}|^off$"), "examples": ["5s", "off"] })
    }
}

impl Scalar for Size {
    fn parse(text: &str) -> Result<Self, String> {
        size(text).map(Self)
    }

    fn schema() -> Schema {
        json_schema!({
            "anyOf": [{ "type": "integer", "minimum": 0 }, { "type": "string", "pattern": SIZE }],
            "examples": ["64KiB", "10MB"],
        })
    }
}

fn size(text: &str) -> Result<u64, String> {
    const HINT: &str = "write it as in `64KiB`, `10MB` or `512`";
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| format!("is no size\n{HINT}"))?;
    let factor: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        "tib" => 1 << 40,
        unit @ ("k" | "m" | "g") => {
            let unit = unit.to_ascii_uppercase();
            return Err(format!("is ambiguous\nwrite `{number}{unit}iB` or `{number}{unit}B`"));
        }
        _ => return Err(format!("is no size\n{HINT}")),
    };
    number.checked_mul(factor).ok_or_else(|| "is too large".to_owned())
}

impl Scalar for SizeLimit {
    fn parse(text: &str) -> Result<Self, String> {
        if text == "off" { Ok(Self(None)) } else { size(text).map(|size| Self(Some(size))) }
    }

    fn schema() -> Schema {
        json_schema!({
            "anyOf": [
                { "type": "integer", "minimum": 0 },
                { "type": "string", "pattern": format!("{SIZE}|^off$") },
            ],
            "examples": ["10MiB", "off"],
        })
    }
}

impl Scalar for Bind {
    fn parse(text: &str) -> Result<Self, String> {
        const HINT: &str = "write it as in `0.0.0.0:8080`, `[::]:8080` or `:8080`";
        if let Ok(address) = text.parse() {
            return Ok(Self(address));
        }
        let bare = text.strip_prefix(':').unwrap_or(text);
        let (host, port) = match bare.rsplit_once(':') {
            None => (Ipv4Addr::UNSPECIFIED, bare),
            Some(("localhost", port)) => (Ipv4Addr::LOCALHOST, port),
            Some(("*", port)) => (Ipv4Addr::UNSPECIFIED, port),
            Some(_) => return Err(format!("is no address to listen on\n{HINT}")),
        };
        if text.parse::<std::net::IpAddr>().is_ok() {
            return Err(format!("has no port\n{HINT}"));
        }
        match port.parse() {
            Ok(port) => Ok(Self(SocketAddr::from((host, port)))),
            Err(_) => Err(format!("is no address to listen on\n{HINT}")),
        }
    }

    fn schema() -> Schema {
        json_schema!({
            "anyOf": [
                { "type": "integer", "minimum": 0, "maximum": 65535 },
                { "type": "string" },
            ],
            "examples": ["0.0.0.0:8080", "[::]:8080", ":8080"],
        })
    }
}

impl Scalar for Nameserver {
    fn parse(text: &str) -> Result<Self, String> {
        const HINT: &str = "write its IP address, as in `10.0.0.2` or `10.0.0.2:5353`";
        let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
        let address = match bare.parse::<std::net::IpAddr>() {
            Ok(ip) => SocketAddr::new(ip, 53),
            Err(_) => {
                text.parse().map_err(|_| format!("is no address of a name server\n{HINT}"))?
            }
        };
        if address.port() == 0 || address.ip().is_unspecified() {
            return Err(format!("is no address of a name server\n{HINT}"));
        }
        Ok(Self(address))
    }

    fn schema() -> Schema {
        json_schema!({ "type": "string", "examples": ["10.0.0.2", "10.0.0.2:5353", "[fd00::2]:53"] })
    }
}

impl Scalar for Network {
    fn parse(text: &str) -> Result<Self, String> {
        if let Ok(net) = text.parse::<IpNet>() {
            return Ok(Self(net.trunc()));
        }
        match text.parse::<std::net::IpAddr>() {
            Ok(address) => Ok(Self(IpNet::from(address))),
            Err(_) => {
                Err("is no network\nwrite it as in `10.0.0.0/8`, `fd00::/8` or `10.0.0.1`".into())
            }
        }
    }

    fn schema() -> Schema {
        json_schema!({ "type": "string", "examples": ["10.0.0.0/8"] })
    }
}

impl Scalar for Pattern {
    fn parse(text: &str) -> Result<Self, String> {
        match regex::Regex::new(text) {
            Ok(_) => Ok(Self(text.into())),
            Err(regex::Error::CompiledTooBig(_)) => {
                Err("is too large a regular expression\nbound its repetitions".to_owned())
            }
            Err(error) => {
                // The last line says what is wrong; those before draw the expression.
                let error = error.to_string();
                let error = error.lines().last().unwrap_or_default();
                let error = error.strip_prefix("error: ").unwrap_or(error);
                Err(format!(
                    "is no regular expression: {error}\nthe syntax is that of RE2: no look-around \
                     and no back-references"
                ))
            }
        }
    }

    fn schema() -> Schema {
        json_schema!({ "type": "string", "format": "regex" })
    }
}

impl Scalar for Status {
    fn parse(text: &str) -> Result<Self, String> {
        match text.parse::<u16>() {
            Ok(code @ 200..=599) => match StatusCode::from_u16(code) {
                Ok(status) => Ok(Self(status)),
                Err(_) => Err("is no status code".to_owned()),
            },
            _ => Err("is no status a response can have\nuse 200 to 599".to_owned()),
        }
    }

    fn schema() -> Schema {
        json_schema!({ "type": "integer", "minimum": 200, "maximum": 599 })
    }
}

impl Scalar for RedirectStatus {
    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "301" => Ok(Self(StatusCode::MOVED_PERMANENTLY)),
            "302" => Ok(Self(StatusCode::FOUND)),
            "303" => Ok(Self(StatusCode::SEE_OTHER)),
            "307" => Ok(Self(StatusCode::TEMPORARY_REDIRECT)),
            "308" => Ok(Self(StatusCode::PERMANENT_REDIRECT)),
            _ => Err("is no redirect status\nuse 301, 302, 303, 307 or 308".to_owned()),
        }
    }

    fn schema() -> Schema {
        json_schema!({ "type": "integer", "enum": [301, 302, 303, 307, 308] })
    }
}

impl Scalar for Verb {
    fn parse(text: &str) -> Result<Self, String> {
        let method = Method::from_bytes(text.as_bytes())
            .map_err(|_| "is no method\nwrite it as in `GET`".to_owned())?;
        if text.bytes().any(|b| b.is_ascii_lowercase()) {
            let upper = text.to_ascii_uppercase();
            return Err(format!("is not upper case, as methods are\ndid you mean `{upper}`?"));
        }
        if matches!(text, "CONNECT" | "TRACE") {
            return Err("is never forwarded\nleave it out".to_owned());
        }
        Ok(Self(method))
    }

    fn schema() -> Schema {
        json_schema!({ "type": "string", "examples": ["GET", "POST"] })
    }
}

impl Scalar for FieldName {
    fn parse(text: &str) -> Result<Self, String> {
        text.parse().map(Self).map_err(|_| "is no header name".to_owned())
    }

    fn schema() -> Schema {
        json_schema!({ "type": "string" })
    }
}

impl Scalar for FieldNames {
    fn parse(text: &str) -> Result<Self, String> {
        let name = |text: &str| FieldName::parse(text).map(|name| name.0);
        match text.strip_suffix('*') {
            Some("") => Err("is every header\nname the beginning of some".to_owned()),
            Some(start) => name(start).map(|start| Self::Starting(start.as_str().into())),
            None => name(text).map(Self::One),
        }
    }

    fn schema() -> Schema {
        json_schema!({ "type": "string" })
    }
}

impl Scalar for Endpoint {
    fn parse(text: &str) -> Result<Self, String> {
        if let Some(service) = text.strip_prefix("srv:") {
            let address = EndpointAddress::Srv(dns_name(service)?);
            return Ok(Self { address, tls: None });
        }
        let (rest, tls) = match text.split_once("://") {
            Some(("http", rest)) => (rest, Some(false)),
            Some(("https", rest)) => (rest, Some(true)),
            Some(_) => {
                return Err("has a scheme no endpoint has\nuse http:// or https://, or none".into());
            }
            None => (text, None),
        };
        let rest = if tls.is_some() { rest.strip_suffix('/').unwrap_or(rest) } else { rest };
        if rest.contains('/') {
            let hint = "an endpoint has no path; use the route's `rewrite` for it";
            return Err(format!("has a path\n{hint}"));
        }
        let default = tls.map(|tls| if tls { 443 } else { 80 });
        Ok(Self { address: socket_or_name(rest, default)?, tls })
    }

    fn schema() -> Schema {
        json_schema!({
            "type": "string",
            "examples": ["10.0.0.5:80", "name:80", "srv:_http._tcp.name", "https://name"],
        })
    }
}

fn socket_or_name(text: &str, default_port: Option<u16>) -> Result<EndpointAddress, String> {
    if let Ok(address) = text.parse() {
        return Ok(EndpointAddress::Socket(address));
    }
    let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
    if let Ok(ip) = bare.parse::<std::net::IpAddr>() {
        let port = default_port.ok_or_else(|| no_port(&SocketAddr::from((ip, 80)).to_string()))?;
        return Ok(EndpointAddress::Socket(SocketAddr::from((ip, port))));
    }
    let (name, port) = match text.rsplit_once(':') {
        Some((name, port)) => {
            let port = port
                .parse()
                .map_err(|_| "has no valid port\na port is a number up to 65535".to_owned())?;
            (name, port)
        }
        None => (text, default_port.ok_or_else(|| no_port(&format!("{text}:80")))?),
    };
    Ok(EndpointAddress::Dns { name: dns_name(name)?, port, outside: false })
}

fn no_port(example: &str) -> String {
    format!("has no port\nwrite it as in `{example}`")
}

fn dns_name(name: &str) -> Result<Arc<str>, String> {
    let last = name.trim_end_matches('.').rsplit('.').next().unwrap_or_default();
    if !last.is_empty() && last.bytes().all(|b| b.is_ascii_digit()) {
        return Err("is no IP address".to_owned());
    }
    match ir::HostPattern::parse(name) {
        // A dot at the end keeps the name from being tried in the search list's domains.
        Ok(ir::HostPattern::Exact(exact)) if name.ends_with('.') => Ok(format!("{exact}.").into()),
        Ok(ir::HostPattern::Exact(exact)) => Ok(Arc::from(&*exact)),
        Ok(_) => Err("is no single name\na wildcard cannot be connected to".to_owned()),
        Err(error) => Err(format!("is no address: {error}")),
    }
}
