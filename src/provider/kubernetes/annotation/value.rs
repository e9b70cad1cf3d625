//! Small values with a text form, as ingress-nginx and nginx write them.
//!
//! Each parser says of a wrong value what it is not, as the rest of a sentence; a line feed
//! separates that from how to write it.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, Method, StatusCode};
use ipnet::IpNet;
use serde::Serialize;

use super::finding::shown;

/// The longest duration and the most seconds that are taken: ten years.
const LONGEST: Duration = Duration::from_secs(3650 * 86_400);

/// The name of another object, in the same namespace where none is given.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct ObjectRef {
    /// Its namespace; `None` is that of the annotated object.
    pub namespace: Option<Arc<str>>,
    /// Its name.
    pub name: Arc<str>,
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{namespace}/{}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

/// `true` or `false`, in the spellings Go takes.
pub fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
        _ => Err("is neither true nor false\nwrite \"true\" or \"false\"".to_owned()),
    }
}

/// `on` or `off`.
pub(super) fn switch(text: &str) -> Result<bool, String> {
    match text {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err("is neither on nor off\nwrite \"on\" or \"off\"".to_owned()),
    }
}

/// A whole number, not negative.
pub(super) fn number(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| "is no whole number that fits here".to_owned())
}

/// A whole number above zero.
pub(super) fn positive(text: &str) -> Result<u32, String> {
    match number(text)? {
        0 => Err("would allow nothing\nleave the annotation out for no limit".to_owned()),
        value => Ok(value),
    }
}

/// A number of seconds without a unit.
pub(super) fn seconds(text: &str) -> Result<Duration, String> {
    let value = text.parse().map(Duration::from_secs).map_err(|_| match duration(text) {
        Ok(meant) if meant.subsec_nanos() == 0 => {
            format!("is no number of seconds\nwrite \"{}\", without a unit", meant.as_secs())
        }
        _ => "is no number of seconds".to_owned(),
    })?;
    if value > LONGEST { Err("is too long".to_owned()) } else { Ok(value) }
}

/// A number of seconds above zero.
pub(super) fn some_seconds(text: &str) -> Result<Duration, String> {
    match seconds(text)? {
        Duration::ZERO => Err("would end everything at once".to_owned()),
        value => Ok(value),
    }
}

/// A number of bytes as nginx writes it: `512`, `8k`, `1m`, `2g`; case does not matter.
pub(super) fn size(text: &str) -> Result<u64, String> {
    let wrong = || "is no size\nwrite it as in `512`, `8k`, `1m` or `2g`".to_owned();
    let (digits, shift) = match text.as_bytes().last().map(u8::to_ascii_lowercase) {
        Some(b'b') => (text.len() - 1, 0),
        Some(b'k') => (text.len() - 1, 10),
        Some(b'm') => (text.len() - 1, 20),
        Some(b'g') => (text.len() - 1, 30),
        _ => (text.len(), 0),
    };
    let digits = text.get(..digits).ok_or_else(wrong)?;
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(wrong());
    }
    let large = || "is too large".to_owned();
    let value: u64 = digits.parse().map_err(|_| large())?;
    value.checked_mul(1 << shift).filter(|value| *value <= i64::MAX as u64).ok_or_else(large)
}

/// A duration as nginx writes it: numbers with units from the largest to the smallest (`1h 30m`,
/// `5s`, `100ms`); a number alone is seconds. A month has 30 days and a year 365.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    const UNITS: [(&str, u64); 8] = [
        ("y", 365 * 86_400_000),
        ("M", 30 * 86_400_000),
        ("w", 7 * 86_400_000),
        ("d", 86_400_000),
        ("h", 3_600_000),
        ("m", 60_000),
        ("s", 1_000),
        ("ms", 1),
    ];
    let wrong = || "is no duration\nwrite it as in `500ms`, `5s` or `1h 30m`".to_owned();
    let mut rest = text;
    let mut left = UNITS.as_slice();
    let mut total = Duration::ZERO;
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, after) = rest.split_at(digits);
        let number: u64 = number.parse().map_err(|_| wrong())?;
        let letters = after.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, after) = after.split_at(letters);
        let unit = if unit.is_empty() && after.is_empty() { "s" } else { unit };
        let place = left.iter().position(|(known, _)| *known == unit).ok_or_else(wrong)?;
        let millis = number.checked_mul(left[place].1).map(Duration::from_millis);
        total = millis
            .and_then(|part| total.checked_add(part))
            .filter(|total| *total <= LONGEST)
            .ok_or_else(|| "is too long".to_owned())?;
        left = &left[place + 1..];
        let next = after.trim_start_matches(' ');
        if next.is_empty() && !after.is_empty() {
            return Err(wrong());
        }
        rest = next;
    }
    Ok(total)
}

/// The items of a list with commas, without the empty ones.
pub(super) fn items(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|item| !item.is_empty())
}

/// A list with commas, at least one item long, all of which must be good.
pub(super) fn list<'a, T>(
    text: &'a str,
    parse: impl Fn(&'a str) -> Result<T, String>,
) -> Result<Vec<T>, String> {
    let parsed: Vec<T> = items(text)
        .map(|item| {
            parse(item).map_err(|error| format!("is wrong at `{}`, which {error}", shown(item)))
        })
        .collect::<Result<_, _>>()?;
    if parsed.is_empty() { Err("is an empty list".to_owned()) } else { Ok(parsed) }
}

/// Networks and addresses with commas between them.
pub(super) fn networks(text: &str) -> Result<Vec<IpNet>, String> {
    list(text, |item| match item.parse::<IpNet>() {
        Ok(net) => Ok(net.trunc()),
        Err(_) => item.parse::<IpAddr>().map(IpNet::from).map_err(|_| {
            "is no network\nwrite it as in `10.0.0.0/8`, `fd00::/8` or `10.0.0.1`".to_owned()
        }),
    })
}

/// A header field name.
pub(super) fn header_name(text: &str) -> Result<HeaderName, String> {
    text.parse().map_err(|_| "is no header name".to_owned())
}

/// A request method, in any case.
pub(super) fn method(text: &str) -> Result<Method, String> {
    let upper = text.to_ascii_uppercase();
    if upper.bytes().all(|b| b.is_ascii_uppercase() || b == b'-') {
        Method::from_bytes(upper.as_bytes()).map_err(|_| "is no method".to_owned())
    } else {
        Err("is no method\nwrite it as in `GET`".to_owned())
    }
}

/// A status code between `least` and `most`.
pub(super) fn status(text: &str, least: u16, most: u16) -> Result<StatusCode, String> {
    let wrong = || format!("is no status that fits here\nuse {least} to {most}");
    let code: u16 = text.parse().map_err(|_| wrong())?;
    if !(least..=most).contains(&code) {
        return Err(wrong());
    }
    StatusCode::from_u16(code).map_err(|_| wrong())
}

/// The name of a cookie (RFC 6265 §4.1.1).
pub(super) fn cookie_name(text: &str) -> Result<Arc<str>, String> {
    match header_name(text) {
        Ok(_) => Ok(text.into()),
        Err(_) => Err("is no name of a cookie".to_owned()),
    }
}

/// An absolute path.
pub(super) fn path(text: &str) -> Result<Arc<str>, String> {
    let odd = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '"' | '\'' | ';' | '\\');
    if !text.starts_with('/') {
        return Err("is no path\na path begins with `/`".to_owned());
    }
    if text.contains(odd) {
        return Err("has a character in it that no path has".to_owned());
    }
    Ok(text.into())
}

/// The name of an object: letters in lower case, digits, dots and hyphens.
fn object_name(text: &str) -> Result<Arc<str>, String> {
    let fits = !text.is_empty()
        && text.len() <= 253
        && text.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.'))
        && text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
        && text.bytes().next_back().is_some_and(|b| b.is_ascii_alphanumeric());
    if fits { Ok(text.into()) } else { Err("is no name of an object".to_owned()) }
}

/// The name of a Service in the same namespace.
pub(super) fn service(text: &str) -> Result<Arc<str>, String> {
    if text.contains('/') {
        return Err("is no name of a Service\nit must be one in the same namespace".to_owned());
    }
    object_name(text).map_err(|_| "is no name of a Service".to_owned())
}

/// `name` or `namespace/name`.
pub(super) fn object(text: &str) -> Result<ObjectRef, String> {
    match text.split_once('/') {
        None => Ok(ObjectRef { namespace: None, name: object_name(text)? }),
        Some((namespace, name)) => {
            Ok(ObjectRef { namespace: Some(object_name(namespace)?), name: object_name(name)? })
        }
    }
}

/// `namespace/name`.
pub(super) fn full_object(text: &str) -> Result<ObjectRef, String> {
    match object(text)? {
        ObjectRef { namespace: None, .. } => {
            Err(format!("has no namespace\nwrite it as in `default/{text}`"))
        }
        full => Ok(full),
    }
}

/// One of the words in `choices`.
pub(super) fn choice<T: Copy>(text: &str, choices: &[(&str, T)]) -> Result<T, String> {
    match choices.iter().find(|(word, _)| *word == text) {
        Some((_, value)) => Ok(*value),
        None => {
            let words: Vec<_> = choices.iter().map(|(word, _)| *word).collect();
            Err(format!("is unknown here\nuse one of: {}", words.join(", ")))
        }
    }
}

/// Any text that may stand in a header field.
pub(super) fn line(text: &str) -> Result<Arc<str>, String> {
    if text.chars().any(char::is_control) {
        return Err("has a control character in it".to_owned());
    }
    Ok(text.into())
}
