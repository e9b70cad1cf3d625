//! The paths of rules.

use std::fmt::Write;
use std::sync::Arc;

use ir::PathMatch;

use crate::ir;
use crate::provider::kubernetes::annotation::Pattern;

/// How a path is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Kind {
    /// The whole path.
    Exact,
    /// Whole segments.
    Prefix,
    /// As ingress-nginx has it: whatever begins with it.
    Implementation,
}

/// A path of a rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct RulePath {
    pub kind: Kind,
    /// In the form in which requests' paths are matched; an expression as it was written.
    pub text: Arc<str>,
    /// Whether it is an expression: one that paths begin with, in any case.
    pub regex: bool,
}

impl RulePath {
    /// Every path.
    pub fn root() -> Self {
        Self { kind: Kind::Prefix, text: "/".into(), regex: false }
    }

    /// Reads a path and its type as an Ingress has them, of a host whose paths are expressions
    /// where `regex`.
    pub fn read(path: Option<&str>, kind: &str, regex: bool) -> Result<Self, String> {
        let kind = match kind {
            "Exact" => Kind::Exact,
            "Prefix" => Kind::Prefix,
            "" | "ImplementationSpecific" => Kind::Implementation,
            other => return Err(format!("there is no path type `{other}`")),
        };
        let path = path.filter(|path| !path.is_empty()).unwrap_or("/");
        if regex {
            let fault = |error: String| match error.split_once('\n') {
                Some((what, _)) => format!("the path `{path}` {what}"),
                None => format!("the path `{path}` {error}"),
            };
            Pattern::parse(path).map_err(fault)?;
            let read = Self { kind, text: path.into(), regex };
            // Requests are matched by a larger one, which must not turn out too large later.
            Pattern::parse(&format!(r"\A(?:{})\z", read.matches().text())).map_err(fault)?;
            return Ok(read);
        }
        let mut text = normal(path)?;
        if kind == Kind::Prefix && text.len() > 1 && text.ends_with('/') {
            text.pop();
        }
        Ok(Self { kind, text: text.into(), regex })
    }

    /// Whether everything is below it.
    pub fn is_root(&self) -> bool {
        (self.kind != Kind::Exact || self.regex) && &*self.text == "/"
    }

    /// The condition on requests.
    pub fn matches(&self) -> PathMatch {
        if self.regex {
            return PathMatch::Regex(format!("(?i:{})(?s:.*)", self.text).into());
        }
        match self.kind {
            Kind::Exact => PathMatch::Exact(self.text.clone()),
            Kind::Prefix => PathMatch::Prefix(self.text.clone()),
            Kind::Implementation => PathMatch::StartsWith(self.text.clone()),
        }
    }

    /// The path with a mark of its type, for names: `/x`, `=/x` where exact, `~/x` where the type
    /// is the controller's.
    pub fn label(&self) -> String {
        match self.kind {
            Kind::Exact => format!("={}", self.text),
            Kind::Prefix => self.text.to_string(),
            Kind::Implementation => format!("~{}", self.text),
        }
    }
}

/// A path in the form of a normalised request's: what could not be part of one is refused, other
/// characters than a path's own are escaped.
fn normal(path: &str) -> Result<String, String> {
    if !path.starts_with('/') {
        return Err(format!("the path `{path}` does not start with `/`"));
    }
    let segments = path.split('/').skip(1);
    let last = segments.clone().count().saturating_sub(1);
    for (index, segment) in segments.enumerate() {
        if matches!(segment, "." | "..") || (segment.is_empty() && index < last) {
            return Err(format!("the path `{path}` has an empty or dotted segment"));
        }
    }
    let mut out = String::with_capacity(path.len());
    let mut bytes = path.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => {
                let digit = |byte: Option<u8>| char::from(byte.unwrap_or(b' ')).to_digit(16);
                let (Some(high), Some(low)) = (digit(bytes.next()), digit(bytes.next())) else {
                    return Err(format!("the path `{path}` has a broken escape"));
                };
                let value = u8::try_from(high * 16 + low).unwrap_or_default();
                match value {
                    b'/' | b'\\' | 0 => {
                        return Err(format!("the path `{path}` has an escaped separator"));
                    }
                    _ if value.is_ascii_alphanumeric() || b"-._~".contains(&value) => {
                        out.push(char::from(value));
                    }
                    _ => escape(&mut out, value),
                }
            }
            // RFC 3986 §3.3: everything else is no character of a path.
            _ if byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/".contains(&byte) => {
                out.push(char::from(byte));
            }
            // Clients send these as they are, and so they are matched.
            b'|' | b'[' | b']' | b'^' | b'{' | b'}' | b'`' | b'"' | b'<' | b'>' => {
                out.push(char::from(byte));
            }
            _ => escape(&mut out, byte),
        }
    }
    Ok(out)
}

fn escape(out: &mut String, byte: u8) {
    // Writing to a `String` cannot fail.
    let _ = write!(out, "%{byte:02X}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(path: &str, kind: &str) -> Result<String, String> {
        RulePath::read(Some(path), kind, false).map(|path| path.text.to_string())
    }

    #[test]
    fn a_path_is_brought_into_the_form_of_a_request() {
        for (path, kind, normal) in [
            ("", "Prefix", "/"),
            ("/a/", "Prefix", "/a"),
            ("/a/", "Exact", "/a/"),
            ("/a/", "ImplementationSpecific", "/a/"),
            ("/a b", "Prefix", "/a%20b"),
            ("/%61%c3%a9", "Exact", "/a%C3%A9"),
            ("/é", "Exact", "/%C3%A9"),
        ] {
            assert_eq!(text(path, kind).as_deref(), Ok(normal), "{path}");
        }
    }

    #[test]
    fn what_no_request_can_have_is_refused() {
        for path in ["a", "/a//b", "/./a", "/a/..", "/a%2Fb", "/a%", "/a%zz"] {
            assert!(text(path, "Prefix").is_err(), "{path}");
        }
        assert!(text("/", "Regex").is_err());
    }
}
