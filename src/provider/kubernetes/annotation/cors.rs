//! enable-cors and cors-*.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, Method};
use serde::{Serialize, Serializer};

use super::dump;
use super::finding::{Class, shown};
use super::reader::Reader;
use super::value;
use crate::ir::HostPattern;

/// Which other origins browsers let in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Cors {
    /// Whether any of it holds. Default false.
    pub enabled: Option<bool>,
    /// Origins. Default any.
    pub origins: Option<Vec<CorsOrigin>>,
    /// Methods. Default GET, PUT, POST, DELETE, PATCH, OPTIONS.
    pub methods: Option<CorsList<Method>>,
    /// Request headers. Default DNT, Keep-Alive, User-Agent, X-Requested-With,
    /// If-Modified-Since, Cache-Control, Content-Type, Range, Authorization.
    pub headers: Option<CorsList<HeaderName>>,
    /// Response headers scripts may read. Default none.
    pub expose_headers: Option<CorsList<HeaderName>>,
    /// Whether with credentials. Default true.
    pub credentials: Option<bool>,
    /// For how long a browser may remember it. Default 20 days.
    #[serde(serialize_with = "dump::span")]
    pub max_age: Option<Duration>,
}

/// Origins that are let in.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CorsOrigin {
    /// `*`
    Any,
    /// This one: scheme, host in lower case, and port where one is written.
    Exact(Arc<str>),
    /// `https://*.example.com:8443`: one label in place of the star.
    Wildcard {
        /// Before the star, with `://`.
        scheme: Arc<str>,
        /// After it, port included.
        suffix: Arc<str>,
    },
}

/// Methods or headers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CorsList<T> {
    /// `*`
    Any,
    /// These.
    These(Vec<T>),
}

impl<T: ToString> Serialize for CorsList<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Any => serializer.serialize_str("*"),
            Self::These(items) => serializer.collect_seq(items.iter().map(T::to_string)),
        }
    }
}

impl Cors {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let mut wrong = Vec::new();
        let cors = Self {
            enabled: reader.value("enable-cors", value::boolean),
            origins: reader.value("cors-allow-origin", |text| origins(text, &mut wrong)),
            methods: reader.value("cors-allow-methods", |text| list(text, value::method)),
            headers: reader.value("cors-allow-headers", |text| list(text, value::header_name)),
            expose_headers: reader
                .value("cors-expose-headers", |text| list(text, value::header_name)),
            credentials: reader.value("cors-allow-credentials", value::boolean),
            max_age: reader.value("cors-max-age", value::seconds),
        };
        for error in wrong {
            reader.add("cors-allow-origin", Class::Ignored, &error);
        }
        if cors.enabled != Some(true) {
            for name in [
                "cors-allow-credentials",
                "cors-allow-headers",
                "cors-allow-methods",
                "cors-allow-origin",
                "cors-expose-headers",
                "cors-max-age",
            ] {
                reader.amend(name, Class::Ignored, "has no effect without `enable-cors: \"true\"`");
            }
        }
        cors
    }
}

/// Bad entries are skipped. With none left no origin is let in: any would be more than was asked.
fn origins(text: &str, wrong: &mut Vec<String>) -> Result<Vec<CorsOrigin>, String> {
    let mut origins = Vec::new();
    for item in value::items(text) {
        match origin(item) {
            Ok(CorsOrigin::Any) => return Ok(vec![CorsOrigin::Any]),
            Ok(origin) => origins.push(origin),
            Err(error) => wrong.push(format!("`{}` {error}", shown(item))),
        }
    }
    Ok(origins)
}

fn origin(text: &str) -> Result<CorsOrigin, String> {
    const HINT: &str = "write it as in `https://example.com` or `https://*.example.com`";
    if text == "*" {
        return Ok(CorsOrigin::Any);
    }
    let wrong = || format!("is no origin\n{HINT}");
    let (scheme, authority) = text.split_once("://").ok_or_else(wrong)?;
    let letters = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.');
    if scheme.is_empty() || !scheme.bytes().all(letters) {
        return Err(wrong());
    }
    let authority = authority.to_ascii_lowercase();
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (authority.as_str(), None),
    };
    if port.is_some_and(|port| port.parse::<u16>().is_err()) {
        return Err(wrong());
    }
    let scheme = scheme.to_ascii_lowercase();
    match HostPattern::parse(host) {
        Ok(HostPattern::Exact(_)) => {
            Ok(CorsOrigin::Exact(format!("{scheme}://{authority}").into()))
        }
        Ok(HostPattern::Wildcard(_)) => Ok(CorsOrigin::Wildcard {
            scheme: format!("{scheme}://").into(),
            suffix: authority.trim_start_matches('*').into(),
        }),
        _ => Err(wrong()),
    }
}

fn list<T>(text: &str, parse: impl Fn(&str) -> Result<T, String>) -> Result<CorsList<T>, String> {
    if value::items(text).any(|item| item == "*") {
        return Ok(CorsList::Any);
    }
    value::list(text, parse).map(CorsList::These)
}
