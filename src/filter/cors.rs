//! Which pages of other origins may use a route from a browser (CORS, WHATWG Fetch §3.2).

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ORIGIN,
    VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::ir::{self, OriginPattern};

/// What a response says of CORS beside the origin.
const OTHERS: [HeaderName; 5] = [
    ACCESS_CONTROL_ALLOW_CREDENTIALS,
    ACCESS_CONTROL_ALLOW_HEADERS,
    ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_EXPOSE_HEADERS,
    ACCESS_CONTROL_MAX_AGE,
];

/// A policy ready to apply.
#[derive(Debug)]
pub struct Cors {
    /// Whether every origin is allowed.
    any: bool,
    origins: Box<[OriginPattern]>,
    /// What an allowed origin is told beside that it is.
    fields: Box<[(HeaderName, HeaderValue)]>,
}

impl Cors {
    /// Compiles a policy.
    pub fn new(cors: &ir::Cors) -> Self {
        let list = |texts: Vec<&str>| HeaderValue::from_str(&texts.join(", ")).ok();
        let names = |names: &[HeaderName]| list(names.iter().map(HeaderName::as_str).collect());
        let methods = list(cors.methods.iter().map(http::Method::as_str).collect());
        let credentials = cors.credentials.then_some(HeaderValue::from_static("true"));
        let max_age = cors.max_age.map(|age| HeaderValue::from(age.as_secs()));
        let [expose, headers] = [names(&cors.expose), names(&cors.headers)];
        let values = [credentials, headers, methods, expose, max_age];
        let fields = OTHERS.into_iter().zip(values);
        let fields = fields.filter_map(|(name, value)| Some((name, value?)));
        Self {
            any: cors.origins.contains(&OriginPattern::Any),
            origins: cors.origins.as_slice().into(),
            fields: fields.filter(|(_, value)| !value.is_empty()).collect(),
        }
    }

    /// The origin that the response to a request with these fields allows; `None` where it is not
    /// to be read by the page that asks.
    pub fn allowed(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        if self.any {
            return Some(HeaderValue::from_static("*"));
        }
        let mut origins = headers.get_all(ORIGIN).iter();
        let origin = origins.next().filter(|_| origins.next().is_none())?;
        self.allows(origin.as_bytes()).then(|| origin.clone())
    }

    /// Puts what the policy says in place of what the upstream says.
    pub fn apply(&self, allowed: Option<HeaderValue>, headers: &mut HeaderMap) {
        headers.remove(ACCESS_CONTROL_ALLOW_ORIGIN);
        for name in OTHERS {
            headers.remove(name);
        }
        if let Some(origin) = allowed {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            for (name, value) in &self.fields {
                headers.insert(name, value.clone());
            }
        }
        // A cache must not give one origin the response for another, nor for none.
        if !self.any && !varies_by_origin(headers) {
            headers.append(VARY, HeaderValue::from_static("Origin"));
        }
    }

    fn allows(&self, origin: &[u8]) -> bool {
        let Ok(origin) = std::str::from_utf8(origin) else { return false };
        let Some((scheme, rest)) = origin.split_once("://") else { return false };
        let (host, port) = match rest.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
            _ => (rest, None),
        };
        self.origins.iter().any(|pattern| matches(pattern, scheme, host, port))
    }
}

fn matches(pattern: &OriginPattern, scheme: &str, host: &str, port: Option<&str>) -> bool {
    let OriginPattern::Host { scheme: wanted, below, host: name, port: number } = pattern else {
        return true;
    };
    let same_port = match (port, number) {
        (None, None) => true,
        // As browsers write it: `080` is not `80`.
        (Some(port), Some(number)) => port == itoa::Buffer::new().format(*number),
        _ => false,
    };
    if !same_port || !scheme.eq_ignore_ascii_case(wanted) {
        return false;
    }
    if !below {
        return host.eq_ignore_ascii_case(name);
    }
    let is_label = |label: &str| {
        !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    let parts = host.split_once('.');
    parts.is_some_and(|(label, rest)| is_label(label) && rest.eq_ignore_ascii_case(name))
}

fn varies_by_origin(headers: &HeaderMap) -> bool {
    let names =
        headers.get_all(VARY).iter().flat_map(|value| value.as_bytes().split(|b| *b == b','));
    names.map(<[u8]>::trim_ascii).any(|name| name == b"*" || name.eq_ignore_ascii_case(b"origin"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn policy(origins: &[String]) -> Cors {
        let origins = origins.iter().map(|text| OriginPattern::parse(text).unwrap()).collect();
        Cors::new(&ir::Cors { origins, ..ir::Cors::default() })
    }

    /// The same as an expression, as nginx configurations have it.
    fn expression(origin: &str) -> regex::Regex {
        let text = regex::escape(origin).replace(r"\*\.", r"[a-z0-9-]+\.");
        regex::Regex::new(&format!("^(?i:{text})$")).unwrap()
    }

    fn origin(wildcards: bool) -> impl Strategy<Value = String> {
        let labels = ["example.com", "a.example.com", "b.a.example.com", "xexample.com", "com"];
        let scheme = prop::sample::select(vec!["http", "https", "HTTPS"]);
        let star = prop::bool::weighted(if wildcards { 0.5 } else { 0.0 });
        let port = prop::sample::select(vec!["", ":8443", ":8444", ":1"]);
        (scheme, star, prop::sample::select(labels.to_vec()), port).prop_map(
            |(scheme, star, host, port)| {
                format!("{scheme}://{}{host}{port}", if star { "*." } else { "" })
            },
        )
    }

    fn seen() -> impl Strategy<Value = String> {
        let odd = ["null", "", "https://", "https://.example.com", "https://a_b.example.com"];
        let more =
            ["https://a.example.com.", "https://example.com/", "https://a.example.com:08443"];
        let odd: Vec<_> = odd.into_iter().chain(more).map(str::to_owned).collect();
        prop_oneof![4 => origin(false), 1 => prop::sample::select(odd)]
    }

    proptest! {
        #[test]
        fn origins_match_as_expressions_do(
            allowed in prop::collection::vec(origin(true), 1..4),
            seen in prop::collection::vec(seen(), 1..20),
        ) {
            let policy = policy(&allowed);
            for origin in seen {
                let expected = allowed.iter().any(|text| expression(text).is_match(&origin));
                let mut headers = HeaderMap::new();
                headers.insert(ORIGIN, HeaderValue::from_str(&origin).unwrap());
                let got = policy.allowed(&headers);
                let echoed = got.as_ref().is_some_and(|got| got.as_bytes() == origin.as_bytes());
                prop_assert_eq!(got.is_some(), expected, "{} in {:?}", origin, allowed);
                prop_assert_eq!(echoed, expected);
            }
        }
    }

    #[test]
    fn fields_of_the_upstream_are_replaced_and_vary_is_said_once() {
        let own = policy(&["https://a.com".to_owned()]);
        let any = policy(&["https://a.com".to_owned(), "*".to_owned()]);
        let mut none = HeaderMap::new();
        assert_eq!((own.allowed(&none), any.allowed(&none).unwrap()), (None, "*".parse().unwrap()));
        none.append(ORIGIN, HeaderValue::from_static("https://a.com"));
        none.append(ORIGIN, HeaderValue::from_static("https://a.com"));
        assert_eq!(own.allowed(&none), None, "two are none");
        for (policy, vary, expected) in [
            (&own, None, "Origin"),
            (&own, Some("Accept"), "Accept,Origin"),
            (&own, Some("accept , ORIGIN"), "accept , ORIGIN"),
            (&own, Some("*"), "*"),
            (&any, Some("Accept"), "Accept"),
        ] {
            for allowed in [None, Some(HeaderValue::from_static("https://a.com"))] {
                let mut headers = HeaderMap::new();
                headers.append(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("theirs"));
                headers.append(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("theirs"));
                headers.extend(vary.map(|vary| (VARY, HeaderValue::from_static(vary))));
                let expects = allowed.clone();
                policy.apply(allowed, &mut headers);
                assert_eq!(headers.get(ACCESS_CONTROL_ALLOW_ORIGIN), expects.as_ref());
                assert_eq!(headers.get(ACCESS_CONTROL_EXPOSE_HEADERS), None);
                assert_eq!(headers.get(ACCESS_CONTROL_MAX_AGE).is_some(), expects.is_some());
                let all: Vec<_> =
                    headers.get_all(VARY).iter().map(|v| v.to_str().unwrap()).collect();
                assert_eq!(all.join(","), expected);
            }
        }
    }
}
