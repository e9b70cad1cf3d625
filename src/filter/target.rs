//! The request target in its one form.
//!
//! The bytes the router matched, the policies saw and the endpoint receives are the same bytes:
//! this type is the only way to hold them, and building one normalises (RFC 3986 §6.2.2):
//! encoded unreserved characters are decoded, other escapes get upper-case digits, dot segments
//! are resolved and repeated slashes merged. What servers disagree about is refused.

use bytes::Bytes;
use http::uri::PathAndQuery;

/// A normalised path and its query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestTarget(PathAndQuery);

/// Why a target was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// A control character, a backslash, a fragment or a byte outside ASCII.
    #[error("a character that may not stand in a request target")]
    Character,
    /// `%2F`, `%5C` or `%00`: some servers see a separator or an end there, others do not.
    #[error("an encoded slash, backslash or NUL in the path")]
    Separator,
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
    pub fn parse(raw: PathAndQuery) -> Result<Self, TargetError> {
        match scan(raw.as_str().as_bytes())? {
            Form::Clean => Ok(Self(raw)),
            Form::Rewrite => Self::rebuild(raw.path(), raw.query()),
        }
    }

    /// Builds a target from text; normalised like any other.
    pub fn from_parts(path: &str, query: Option<&str>) -> Result<Self, TargetError> {
        scan(path.as_bytes())?;
        Self::rebuild(path, query)
    }

    /// The same of a path into which parts of a request were put. They were in their one form, so a
    /// dot segment came about by the way they were put together, and may lead elsewhere than
    /// whoever wrote the rewrite meant.
    pub fn from_rewrite(path: &str, query: Option<&str>) -> Result<Self, TargetError> {
        scan(path.as_bytes())?;
        if decode(path)?.split('/').any(|segment| matches!(segment, "." | "..")) {
            return Err(TargetError::Dots);
        }
        Self::rebuild(path, query)
    }

    /// The path; starts with `/`, or is `*` for `OPTIONS *`.
    pub fn path(&self) -> &str {
        self.0.path()
    }

    /// The query without its `?`.
    pub fn query(&self) -> Option<&str> {
        self.0.query()
    }

    /// Path and query as they go on the wire.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// The same for messages of the `http` crate.
    pub fn as_path_and_query(&self) -> &PathAndQuery {
        &self.0
    }

    fn rebuild(path: &str, query: Option<&str>) -> Result<Self, TargetError> {
        let mut out = normalise(path)?;
        if let Some(query) = query {
            out.push('?');
            out.push_str(query);
        }
        let bytes = Bytes::from(out);
        PathAndQuery::from_maybe_shared(bytes).map(Self).map_err(|_| TargetError::Character)
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

fn normalise(path: &str) -> Result<String, TargetError> {
    let decoded = decode(path)?;
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

/// Decodes escaped unreserved characters and brings other escapes into one form.
fn decode(path: &str) -> Result<String, TargetError> {
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
        let raw = PathAndQuery::try_from(raw).map_err(|_| TargetError::Character)?;
        RequestTarget::parse(raw).map(|target| target.as_str().to_owned())
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
        fn a_normalised_target_stays_as_it_is(raw in "/[a-c./%25e2;~?]{0,24}") {
            if let Ok(once) = parsed(&raw) {
                prop_assert_eq!(parsed(&once), Ok(once.clone()));
                let path = once.split('?').next().unwrap_or_default();
                prop_assert!(!path.contains("//"), "{}", path);
                prop_assert!(path.split('/').all(|s| s != "." && s != ".."), "{}", path);
            }
        }
    }
}
