//! What a route asks of a request besides its path: owns the tests of method, headers, cookies and
//! query.
//!
//! Knows nothing of paths and ranks. One function decides and explains, so the two cannot differ.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::fmt;
use std::sync::Arc;

use http::header::COOKIE;
use http::{HeaderMap, HeaderName, Method};
use smallvec::SmallVec;

use super::RequestFacts;
use super::pattern::{Pattern, Patterns};
use super::{cookie, query};
use crate::ir::{CookieMatch, QueryMatch, RouteMatch, SecretBytes, ValueMatch};

/// The compiled conditions of one route, its path apart.
#[derive(Clone, Debug)]
pub(super) struct Conditions {
    methods: MethodSet,
    more: Option<Arc<More>>,
}

/// A condition that does not hold; says so in words.
#[derive(Clone, Copy, Debug)]
pub(super) enum Unmet<'a> {
    Cookie(&'a CookieCondition),
    Header(&'a HeaderCondition),
    Method(&'a Conditions),
    Query(&'a QueryCondition),
}

impl Conditions {
    /// Compiles the conditions, or says what is wrong with them.
    pub(super) fn compile(matches: &RouteMatch, patterns: &mut Patterns) -> Result<Self, String> {
        let unusual = matches.methods.iter().filter(|method| bit(method) == UNUSUAL);
        let more = More {
            unusual: unusual.cloned().collect(),
            headers: (matches.headers.iter())
                .map(|header| {
                    let value = Value::compile(&header.value, patterns)?;
                    Ok(HeaderCondition { name: header.name.clone(), value })
                })
                .collect::<Result<_, String>>()?,
            cookies: (matches.cookies.iter())
                .map(|CookieMatch { name, value }| {
                    let value = Value::compile(value, patterns)?;
                    Ok(CookieCondition { name: name.clone(), value })
                })
                .collect::<Result<_, String>>()?,
            query: (matches.query.iter())
                .map(|QueryMatch { name, value }| {
                    let value = Value::compile(value, patterns)?;
                    Ok(QueryCondition { name: name.clone(), value })
                })
                .collect::<Result<_, String>>()?,
        };
        let empty = more.unusual.is_empty()
            && more.headers.is_empty()
            && more.cookies.is_empty()
            && more.query.is_empty();
        Ok(Self {
            methods: MethodSet::new(&matches.methods),
            more: (!empty).then(|| Arc::new(more)),
        })
    }

    /// Whether all of them hold. `method` is [`bit`] of the request's method.
    pub(super) fn hold(&self, method: u16, facts: &RequestFacts<'_>) -> bool {
        self.unmet(method, facts).is_none()
    }

    /// The first condition that does not hold.
    pub(super) fn unmet(&self, method: u16, facts: &RequestFacts<'_>) -> Option<Unmet<'_>> {
        if self.methods.0 & method == 0 {
            return Some(Unmet::Method(self));
        }
        let more = self.more.as_deref()?;
        if method == UNUSUAL && self.methods != MethodSet::ANY {
            let known = more.unusual.iter().any(|unusual| unusual == facts.method);
            if !known {
                return Some(Unmet::Method(self));
            }
        }
        if let Some(unmet) = more.headers.iter().find(|header| !header.holds(facts.headers)) {
            return Some(Unmet::Header(unmet));
        }
        if let Some(unmet) = more.cookies.iter().find(|cookie| !cookie.holds(facts.headers)) {
            return Some(Unmet::Cookie(unmet));
        }
        more.query.iter().find(|query| !query.holds(facts.query)).map(Unmet::Query)
    }

    /// Whether there are none, so that they always hold.
    pub(super) fn is_empty(&self) -> bool {
        self.methods == MethodSet::ANY && self.more.is_none()
    }

    fn method_names(&self) -> String {
        let usual = USUAL.iter().filter(|&method| self.methods.0 & bit(method) != 0);
        let unusual = self.more.iter().flat_map(|more| &more.unusual);
        usual.chain(unusual).map(Method::as_str).collect::<Vec<_>>().join(" or ")
    }
}

impl fmt::Display for Unmet<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cookie(cookie) => write!(f, "cookie {} {}", cookie.name, cookie.value),
            Self::Header(header) => write!(f, "header {} {}", header.name, header.value),
            Self::Method(conditions) => {
                write!(f, "the method is not {}", conditions.method_names())
            }
            Self::Query(query) => write!(f, "query parameter {} {}", query.name, query.value),
        }
    }
}

/// The bit of a method in a [`MethodSet`]; all methods without a constant share one.
pub(super) fn bit(method: &Method) -> u16 {
    match *method {
        Method::GET => 1,
        Method::POST => 1 << 1,
        Method::HEAD => 1 << 2,
        Method::PUT => 1 << 3,
        Method::DELETE => 1 << 4,
        Method::OPTIONS => 1 << 5,
        Method::PATCH => 1 << 6,
        Method::CONNECT => 1 << 7,
        Method::TRACE => 1 << 8,
        _ => UNUSUAL,
    }
}

const UNUSUAL: u16 = 1 << 15;

const USUAL: [Method; 9] = [
    Method::GET,
    Method::POST,
    Method::HEAD,
    Method::PUT,
    Method::DELETE,
    Method::OPTIONS,
    Method::PATCH,
    Method::CONNECT,
    Method::TRACE,
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct MethodSet(u16);

impl MethodSet {
    const ANY: Self = Self(u16::MAX);

    fn new(methods: &[Method]) -> Self {
        if methods.is_empty() {
            return Self::ANY;
        }
        Self(methods.iter().fold(0, |set, method| set | bit(method)))
    }
}

/// What few routes have; kept apart so that the others are small.
#[derive(Clone, Debug)]
struct More {
    unusual: Box<[Method]>,
    headers: Box<[HeaderCondition]>,
    cookies: Box<[CookieCondition]>,
    query: Box<[QueryCondition]>,
}

#[derive(Clone, Debug)]
pub(super) struct HeaderCondition {
    name: HeaderName,
    value: Value,
}

impl HeaderCondition {
    fn holds(&self, headers: &HeaderMap) -> bool {
        let mut fields = headers.get_all(&self.name).iter().map(|field| field.as_bytes());
        let Some(first) = fields.next() else {
            return false;
        };
        let rest = fields;
        // Fields of one name count as one list (RFC 9110 §5.3), pieces of a cookie as one cookie
        // (RFC 9113 §8.2.3).
        let separator: &[u8] = if self.name == COOKIE { b"; " } else { b", " };
        match &self.value {
            Value::Exact(wanted) => equals_joined(wanted.as_bytes(), first, rest, separator),
            Value::Secret(wanted) => equals_joined(wanted.expose(), first, rest, separator),
            Value::Pattern(pattern) | Value::SecretPattern(pattern) => {
                let mut rest = rest.peekable();
                if rest.peek().is_none() {
                    return pattern.matches(first);
                }
                let mut joined = SmallVec::<[u8; 256]>::from_slice(first);
                for field in rest {
                    joined.extend_from_slice(separator);
                    joined.extend_from_slice(field);
                }
                pattern.matches(&joined)
            }
            Value::Present => true,
        }
    }
}

fn equals_joined<'a>(
    wanted: &[u8],
    first: &[u8],
    rest: impl Iterator<Item = &'a [u8]>,
    separator: &[u8],
) -> bool {
    let Some(mut wanted) = wanted.strip_prefix(first) else {
        return false;
    };
    for field in rest {
        let after = wanted.strip_prefix(separator).and_then(|after| after.strip_prefix(field));
        let Some(after) = after else {
            return false;
        };
        wanted = after;
    }
    wanted.is_empty()
}

#[derive(Clone, Debug)]
pub(super) struct CookieCondition {
    name: Arc<str>,
    value: Value,
}

impl CookieCondition {
    fn holds(&self, headers: &HeaderMap) -> bool {
        let Some(value) = cookie::first(headers, &self.name) else {
            return false;
        };
        match &self.value {
            Value::Exact(wanted) => value == wanted.as_bytes(),
            Value::Secret(wanted) => value == wanted.expose(),
            Value::Pattern(pattern) | Value::SecretPattern(pattern) => pattern.matches(value),
            Value::Present => true,
        }
    }
}

#[derive(Clone, Debug)]
pub(super) struct QueryCondition {
    name: Arc<str>,
    value: Value,
}

impl QueryCondition {
    fn holds(&self, query: Option<&str>) -> bool {
        let Some(value) = query.and_then(|query| query::first(query, &self.name)) else {
            return false;
        };
        match &self.value {
            Value::Exact(wanted) => value.equals(wanted.as_bytes()),
            Value::Secret(wanted) => value.equals(wanted.expose()),
            Value::Pattern(pattern) | Value::SecretPattern(pattern) => {
                value.test(|value| pattern.matches(value))
            }
            Value::Present => true,
        }
    }
}

#[derive(Clone, Debug)]
enum Value {
    Exact(Arc<str>),
    Pattern(Arc<Pattern>),
    Present,
    Secret(SecretBytes),
    SecretPattern(Arc<Pattern>),
}

impl Value {
    fn compile(value: &ValueMatch, patterns: &mut Patterns) -> Result<Self, String> {
        Ok(match value {
            ValueMatch::Exact(wanted) => Self::Exact(wanted.clone()),
            ValueMatch::Present => Self::Present,
            ValueMatch::Regex(text) => Self::Pattern(patterns.obtain(text)?),
            ValueMatch::Secret(wanted) => Self::Secret(wanted.clone()),
            ValueMatch::SecretRegex(text) => Self::SecretPattern(patterns.obtain_secret(text)?),
        })
    }
}

/// The second half of a sentence that says the value is not this.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(wanted) => write!(f, "is not \"{wanted}\""),
            Self::Pattern(pattern) => write!(f, "does not match \"{}\"", pattern.as_str()),
            Self::Present => f.write_str("is absent"),
            Self::Secret(_) => f.write_str("is not the secret value"),
            Self::SecretPattern(_) => f.write_str("does not match the secret expression"),
        }
    }
}
