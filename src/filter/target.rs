//! The request target in its one form.
//!
//! The bytes the router matched, the policies saw and the endpoint receives are the same bytes:
//! this type is the only way to hold them, and building one normalises (RFC 3986 §6.2.2):
//! encoded unreserved characters are decoded, other escapes get upper-case digits, dot segments
//! are resolved and repeated slashes merged. What servers disagree about is refused; an encoded
//! slash may be kept instead, as part of its segment.

use bytes::Bytes;
use http::uri::PathAndQuery;

use crate::ir::EncodedSlashes;

/// An encoded slash in its one form.
const SLASH: &str = "%2F";

/// A normalised path and its query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestTarget {
    whole: PathAndQuery,
    /// Whether there is an encoded slash in the path.
    slashes: EncodedSlashes,
}

/// Why a target was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// A control character, a backslash, a fragment or a byte outside ASCII.
    #[error("a character that may not stand in a request target")]
    Character,
    /// `%2F`, `%5C` or `%00`: some servers see a separator or an end there, others do not.
    #[error("an encoded slash, backslash or NUL in the path")]
    Separator,
    /// An encoded slash that is kept, in a path that meets another route with a slash in its place.
    #[error("an encoded slash that leads to another route as a slash")]
    Elsewhere,
    /// A `%` without two hexadecimal digits.
    #[error("a broken percent escape in the path")]
    Escape,
    /// A segment `.` or `..` where a rewrite put parts of a request.
    #[error("a dot segment in a rewritten path")]
    Dots,
    /// Not a path that starts with `/`.
    #[error("not a path")]
    Form,
}

impl RequestTarget {
    /// Normalises a path and query as received. Without a copy where there is nothing to change.
    pub fn parse(raw: PathAndQuery, slashes: EncodedSlashes) -> Result<Self, TargetError> {
        match scan(raw.as_str().as_bytes())? {
            Form::Clean => Ok(Self { whole: raw, slashes: EncodedSlashes::Refuse }),
            Form::Rewrite => Self::rebuild(raw.path(), raw.query(), slashes),
        }
    }

    /// Builds a target from text; normalised like any other.
    pub fn from_parts(path: &str, query: Option<&str>) -> Result<Self, TargetError> {
        scan(path.as_bytes())?;
        Self::rebuild(path, query, EncodedSlashes::Refuse)
    }

    /// The same of a path with parts of this one's. Has an encoded slash only where this one has.
    pub fn moved(&self, path: &str, query: Option<&str>) -> Result<Self, TargetError> {
        scan(path.as_bytes())?;
        Self::rebuild(path, query, self.slashes)
    }

    /// The same where a rewrite put the parts of this one's path. They were in their one
    /// form, so a dot segment came about by the way they were put together, and may lead elsewhere
    /// than whoever wrote the rewrite meant.
    pub fn rewritten(&self, path: &str, query: Option<&str>) -> Result<Self, TargetError> {
        scan(path.as_bytes())?;
        if decode(path, self.slashes)?.split('/').any(|segment| matches!(segment, "." | "..")) {
            return Err(TargetError::Dots);
        }
        Self::rebuild(path, query, self.slashes)
    }

    /// The path; starts with `/`, or is `*` for `OPTIONS *`.
    pub fn path(&self) -> &str {
        self.whole.path()
    }

    /// The query without its `?`.
    pub fn query(&self) -> Option<&str> {
        self.whole.query()
    }

    /// Path and query as they go on the wire.
    pub fn as_str(&self) -> &str {
        self.whole.as_str()
    }

    /// The same for messages of the `http` crate.
    pub fn as_path_and_query(&self) -> &PathAndQuery {
        &self.whole
    }

    /// The path as servers see it that take an encoded slash for a slash; `None` where there is
    /// none.
    pub fn with_decoded_slashes(&self) -> Option<Result<Self, TargetError>> {
        let decoded = || Self::from_parts(&self.path().replace(SLASH, "/"), self.query());
        (self.slashes == EncodedSlashes::Keep).then(decoded)
    }

    fn rebuild(
        path: &str,
        query: Option<&str>,
        slashes: EncodedSlashes,
    ) -> Result<Self, TargetError> {
        let mut out = normalise(path, slashes)?;
        let kept = slashes == EncodedSlashes::Keep && out.contains(SLASH);
        let slashes = if kept { EncodedSlashes::Keep } else { EncodedSlashes::Refuse };
        if let Some(query) = query {
            out.push('?');
            out.push_str(query);
        }
        let whole = PathAndQuery::from_maybe_shared(Bytes::from(out));
        Ok(Self { whole: whole.map_err(|_| TargetError::Character)?, slashes })
    }
}

enum Form {
    Clean,
    Rewrite,
}

/// One look at every byte: is anything refused, is anything to be rewritten?
fn scan(raw: &[u8]) -> Result<Form, TargetError> {
    if raw == b"*" {
        return Ok(Form::Clean);
    }
    if raw.first() != Some(&b'/') {
        return Err(TargetError::Form);
    }
    let mut form = Form::Clean;
    let mut previous = 0u8;
    let mut in_query = false;
    for byte in raw.iter().copied() {
        match byte {
            b'?' => in_query = true,
            b'%' | b'.' | b'/' if in_query => {}
            b'%' => form = Form::Rewrite,
            b'.' | b'/' if previous == b'/' => form = Form::Rewrite,
            0..=b' ' | b'\\' | b'#' | 0x7f.. => return Err(TargetError::Character),
            _ => {}
        }
        previous = byte;
    }
    Ok(form)
}

fn normalise(path: &str, slashes: EncodedSlashes) -> Result<String, TargetError> {
    let decoded = decode(path, slashes)?;
    let mut out = String::with_capacity(decoded.len());
    let mut segments = decoded.split('/').peekable();
    segments.next(); // before the first slash
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            "" | "." => {}
            ".." => {
                let parent = out.rfind('/').unwrap_or(0);
                out.truncate(parent);
            }
            _ if climbs(segment) => return Err(TargetError::Separator),
            _ => {
                out.push('/');
                out.push_str(segment);
                continue;
            }
        }
        // A trailing slash or dot segment leaves a directory.
        if last {
            out.push('/');
        }
    }
    if out.is_empty() {
        out.push('/');
    }
    Ok(out)
}

/// Whether a segment has dot segments in it for who takes an encoded slash for a slash: what
/// leads out of a route must not depend on who looks.
fn climbs(segment: &str) -> bool {
    segment.contains(SLASH) && segment.split(SLASH).any(|part| matches!(part, "." | ".."))
}

/// Decodes escaped unreserved characters and brings other escapes into one form.
fn decode(path: &str, slashes: EncodedSlashes) -> Result<String, TargetError> {
    let mut out = String::with_capacity(path.len());
    let mut bytes = path.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(char::from(byte));
            continue;
        }
        let digit = |byte: Option<u8>| char::from(byte.unwrap_or(b' ')).to_digit(16);
        let (Some(high), Some(low)) = (digit(bytes.next()), digit(bytes.next())) else {
            return Err(TargetError::Escape);
        };
        let value = (high * 16 + low) as u8;
        match value {
            b'/' if slashes == EncodedSlashes::Keep => out.push_str(SLASH),
            b'/' | b'\\' | 0 => return Err(TargetError::Separator),
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(char::from(value));
            }
            _ => {
                out.push('%');
                for nibble in [high, low] {
                    out.extend(char::from_digit(nibble, 16).map(|c| c.to_ascii_uppercase()));
                }
            }
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parsed(raw: &str) -> Result<String, TargetError> {
        with(raw, EncodedSlashes::Refuse)
    }

    fn with(raw: &str, slashes: EncodedSlashes) -> Result<String, TargetError> {
        let raw = PathAndQuery::try_from(raw).map_err(|_| TargetError::Character)?;
        RequestTarget::parse(raw, slashes).map(|target| target.as_str().to_owned())
    }

    #[test]
    fn an_encoded_slash_is_kept_where_that_is_wanted_and_leads_nowhere_else() {
        let kept = |raw| with(raw, EncodedSlashes::Keep);
        for (raw, path) in [
            ("/api/queues/%2f/q", "/api/queues/%2F/q"),
            ("/@scope%2Fpkg?a=%2f", "/@scope%2Fpkg?a=%2f"),
            ("//a/./b%2f%2fc/../d%2F", "/a/d%2F"),
            ("/a%252fb", "/a%252fb"),
        ] {
            assert_eq!(kept(raw).as_deref(), Ok(path), "{raw}");
        }
        for raw in ["/x%2f..%2Fadmin", "/x%2f%2e%2e", "/..%2fx", "/a%2f.%2fb", "/a%5Cb", "/a%00"] {
            assert_eq!(kept(raw), Err(TargetError::Separator), "{raw}");
        }
        let raw = PathAndQuery::from_static("/a%2fb");
        let target = RequestTarget::parse(raw, EncodedSlashes::Keep).unwrap();
        let decoded = target.with_decoded_slashes().map(|target| target.unwrap());
        assert_eq!(decoded.map(|target| target.path().to_owned()).as_deref(), Some("/a/b"));
        assert_eq!(target.rewritten("/v1/a%2Fb", None).unwrap().path(), "/v1/a%2Fb");
        let plain = RequestTarget::from_parts("/a", None).unwrap();
        assert!(plain.with_decoded_slashes().is_none());
        assert_eq!(plain.rewritten("/v1/a%2Fb", None), Err(TargetError::Separator));
    }

    #[test]
    fn every_spelling_of_a_path_becomes_one() {
        for raw in [
            "/admin",
            "//admin",
            "/./admin",
            "/x/../admin",
            "/%2e%2e/admin",
            "/x/%2E%2e/admin",
            "/%61dmin",
            "/../../admin",
            "/x//..///admin",
        ] {
            assert_eq!(parsed(raw).as_deref(), Ok("/admin"), "{raw}");
        }
        assert_eq!(parsed("/a/.").as_deref(), Ok("/a/"));
        assert_eq!(parsed("/a/..").as_deref(), Ok("/"));
        assert_eq!(parsed("/a/b/../").as_deref(), Ok("/a/"));
        assert_eq!(parsed("/caf%c3%a9?x=%2f..//").as_deref(), Ok("/caf%C3%A9?x=%2f..//"));
        assert_eq!(parsed("/%252e%252e/x").as_deref(), Ok("/%252e%252e/x"));
        assert_eq!(parsed("/x/..;/admin").as_deref(), Ok("/x/..;/admin"));
        assert_eq!(parsed("/.hidden/...").as_deref(), Ok("/.hidden/..."));
        assert_eq!(parsed("*").as_deref(), Ok("*"));
    }

    #[test]
    fn what_servers_disagree_about_is_refused() {
        for (raw, error) in [
            ("/admin%2f", TargetError::Separator),
            ("/x%2f..%2Fadmin", TargetError::Separator),
            ("/x%5c..%5Cadmin", TargetError::Separator),
            ("/admin%00", TargetError::Separator),
            ("/\\admin", TargetError::Character),
            ("/a%zz", TargetError::Escape),
            ("/a%4", TargetError::Escape),
        ] {
            assert_eq!(parsed(raw), Err(error), "{raw}");
        }
    }

    proptest! {
        #[test]
        fn a_normalised_target_stays_as_it_is(raw in "/([a-c./%25e2;~?]|%2f|%2e){0,24}") {
            for slashes in [EncodedSlashes::Refuse, EncodedSlashes::Keep] {
                let Ok(once) = with(&raw, slashes) else { continue };
                prop_assert_eq!(with(&once, slashes), Ok(once.clone()));
                let path = once.split('?').next().unwrap_or_default();
                prop_assert!(!path.contains("//"), "{}", path);
                prop_assert!(path.split('/').all(|s| s != "." && s != ".."), "{}", path);
            }
        }
    }
}
