//! Who may use a route.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, Method};
use serde::{Serialize, Serializer};

use super::dump;
use super::{
    AuthCache, EndpointAddress, HostPattern, Name, Piece, SecretBytes, Template, TrustAnchors,
    UpstreamTls, Variable,
};

/// What a client must show before its request is served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Auth {
    /// Whether one of these will do.
    #[serde(skip_serializing_if = "dump::is_default")]
    pub satisfy: Satisfy,
    /// A user name and a password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub basic: Option<BasicAuth>,
    /// The word of a service that is asked about every request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external: Option<ExternalAuth>,
}

/// How many of several conditions must hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Satisfy {
    /// All of them.
    #[default]
    All,
    /// One of them; an address that the route's access list names as allowed is one, too.
    Any,
}

/// HTTP basic authentication (RFC 7617).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BasicAuth {
    /// What the client is told it needs a password for; no control characters.
    pub realm: Arc<str>,
    /// Who may come in.
    pub users: Credentials,
}

/// Users and the hashes of their passwords.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Credentials {
    /// Lines of `user:hash`, as Apache's `htpasswd` writes them.
    Htpasswd(SecretBytes),
    /// There are none to be had, and why. The route answers 503: it must not be open.
    Missing(String),
}

/// A service that says of each request whether it may be served: by 2xx that it may, by 401 and
/// 403 that it may not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ExternalAuth {
    /// Who is asked.
    pub service: AuthService,
    /// Path and query of the question.
    pub path: Template,
    /// The method of the question.
    #[serde(serialize_with = "method")]
    pub method: Method,
    /// Fields of the question beside those of the request.
    #[serde(serialize_with = "fields", skip_serializing_if = "Vec::is_empty")]
    pub request_headers: Vec<(HeaderName, Template)>,
    /// The value of `X-Auth-Request-Redirect`; `None` is path and query of the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_redirect: Option<Template>,
    /// Fields that the upstream gets from the answer and never from the client.
    #[serde(serialize_with = "names", skip_serializing_if = "Vec::is_empty")]
    pub response_headers: Vec<HeaderName>,
    /// Where clients are sent that are answered 401; `None` leaves them with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signin: Option<Template>,
    /// Whether the client gets the answer's cookies with every status, and not with 2xx and 3xx
    /// only.
    pub always_set_cookie: bool,
    /// The most an answer may take.
    #[serde(serialize_with = "dump::span")]
    pub timeout: Duration,
    /// Which answers hold for further requests; `None` asks about every one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache: Option<AuthCache>,
}

/// Who is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AuthService {
    /// There is nobody to be asked, and why. The route answers 503: it must not be open.
    Missing(String),
    /// Whatever this proxy serves under the request's own host: another route of it, as where
    /// `https://$host/oauth2/auth` is asked.
    OwnHost,
    /// An upstream.
    Upstream {
        /// Its name.
        name: Name,
        /// The `Host` it gets; `None` is the request's.
        #[serde(skip_serializing_if = "Option::is_none")]
        host: Option<Arc<str>>,
    },
}

/// A URL taken apart that may have variables in its path and query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceUrl {
    /// Where it leads; `None` is the request's own host.
    pub place: Option<ServicePlace>,
    /// Path and query.
    pub path: Template,
}

/// Scheme, host and port of a URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePlace {
    /// Whether the scheme is `https`.
    pub secure: bool,
    /// The address.
    pub address: EndpointAddress,
    /// Host and port as a `Host` field has them.
    pub host: Arc<str>,
}

impl ServicePlace {
    /// A name for an upstream that is just this place.
    pub fn name(&self) -> Name {
        Name::from(format!("{}://{}", if self.secure { "https" } else { "http" }, self.address))
    }

    /// How that upstream is spoken to: verified.
    pub fn tls(&self) -> Option<UpstreamTls> {
        self.secure.then_some(UpstreamTls {
            server_name: None,
            sni: true,
            verify: true,
            trust: TrustAnchors::System,
            client_certificate: None,
        })
    }
}

impl ServiceUrl {
    /// Takes a URL apart. Its host stands there in letters, or is the variable of the request's
    /// own host.
    ///
    /// # Errors
    /// Says what is wrong, as the end of a sentence that begins with the URL.
    pub fn parse(url: &Template) -> Result<Self, String> {
        const NO_URL: &str = "is no URL that begins with http:// or https:// and a host";
        let Some((Piece::Literal(first), rest)) = url.pieces().split_first() else {
            return Err(NO_URL.into());
        };
        let (secure, after) = match (first.strip_prefix("https://"), first.strip_prefix("http://"))
        {
            (Some(after), _) => (true, after),
            (None, Some(after)) => (false, after),
            (None, None) => return Err(NO_URL.into()),
        };
        let own =
            matches!(rest.first(), Some(Piece::Variable(Variable::Host | Variable::HttpHost)));
        let (place, first, rest) = if after.is_empty() && own {
            (None, "", rest.get(1..).unwrap_or_default())
        } else {
            let end = after.find(['/', '?']);
            if end.is_none() && !rest.is_empty() {
                return Err("has a host with variables in it".into());
            }
            let (host, path) = after.split_at(end.unwrap_or(after.len()));
            (Some(place(secure, host).ok_or(NO_URL)?), path, rest)
        };
        let path = [Piece::Literal(first.into())].into_iter().chain(rest.iter().cloned());
        let path = Template::of(path).hidden(url.is_secret());
        let path = match path.pieces().first() {
            Some(Piece::Literal(text)) if text.starts_with('/') => path,
            Some(Piece::Variable(Variable::RequestUri | Variable::Uri)) => path,
            Some(Piece::Literal(text)) if !text.starts_with('?') => {
                return Err("has something between its host and its path".into());
            }
            Some(Piece::Variable(_)) => {
                return Err("has something between its host and its path".into());
            }
            _ => {
                let root = [Piece::Literal("/".into())].into_iter();
                Template::of(root.chain(path.pieces().iter().cloned())).hidden(path.is_secret())
            }
        };
        Ok(Self { place, path })
    }
}

fn place(secure: bool, host: &str) -> Option<ServicePlace> {
    let standard = if secure { 443 } else { 80 };
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => {
            (name, port.parse().ok().filter(|port: &u16| *port > 0)?)
        }
        _ => (host, standard),
    };
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    let address = match bare.parse::<IpAddr>() {
        Ok(ip) => EndpointAddress::Socket(SocketAddr::new(ip, port)),
        Err(_) => match HostPattern::parse(name).ok()? {
            HostPattern::Exact(name) => {
                EndpointAddress::Dns { name: Arc::from(&*name), port, outside: false }
            }
            _ => return None,
        },
    };
    Some(ServicePlace { secure, address, host: host.to_ascii_lowercase().into() })
}

/// The URL that clients are sent to who have to sign in: `url`, with the URL they asked for as its
/// parameter `parameter` where it does not have that.
pub fn signin_url(url: &Template, parameter: &str) -> Template {
    let (first, further) = (format!("?{parameter}="), format!("&{parameter}="));
    let mut texts = url.pieces().iter().filter_map(|piece| match piece {
        Piece::Literal(text) => Some(text),
        Piece::Variable(_) => None,
    });
    if texts.clone().any(|text| text.contains(&first) || text.contains(&further)) {
        return url.clone();
    }
    let lead = if texts.any(|text| text.contains('?')) { further } else { first };
    let more = [
        Piece::Literal(lead.into()),
        Piece::Variable(Variable::PassAccessScheme),
        Piece::Literal("://".into()),
        Piece::Variable(Variable::HttpHost),
        Piece::Variable(Variable::EscapedRequestUri),
    ];
    Template::of(url.pieces().iter().cloned().chain(more)).hidden(url.is_secret())
}

fn method<S: Serializer>(method: &Method, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(method.as_str())
}

fn names<S: Serializer>(names: &[HeaderName], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(names.iter().map(HeaderName::as_str))
}

pub(super) fn fields<S: Serializer>(
    fields: &[(HeaderName, Template)],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(fields.iter().map(|(name, value)| (name.as_str(), value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Result<(Option<String>, String), String> {
        let template = Template::parse(text).expect("a template");
        let url = ServiceUrl::parse(&template)?;
        Ok((
            url.place.map(|place| format!("{} {}", place.name(), place.host)),
            url.path.to_string(),
        ))
    }

    #[test]
    fn a_url_is_taken_apart_and_its_own_host_is_known() {
        let at = |place: &str, path: &str| Ok((Some(place.to_owned()), path.to_owned()));
        assert_eq!(
            url("http://Auth.example/a?b={host}"),
            at("http://auth.example:80 auth.example", "/a?b={host}")
        );
        assert_eq!(url("https://a.example:8443"), at("https://a.example:8443 a.example:8443", "/"));
        assert_eq!(url("https://10.0.0.1?x"), at("https://10.0.0.1:443 10.0.0.1", "/?x"));
        assert_eq!(url("http://[::1]:81/{uri}"), at("http://[::1]:81 [::1]:81", "/{uri}"));
        assert_eq!(url("https://{host}/oauth2/auth"), Ok((None, "/oauth2/auth".into())));
        assert_eq!(url("https://{http_host}{request_uri}"), Ok((None, "{request_uri}".into())));
        for text in [
            "auth.example/a",
            "ftp://a/b",
            "{host}/a",
            "https://",
            "https:///a",
            "https://a.{host}/b",
            "https://{host}:8443/a",
            "https://{host}x",
            "http://a:0/",
            "http://a:x/",
            "http://*.a/",
            "http://user@a/",
            "https://{arg_a}/",
        ] {
            assert!(url(text).is_err(), "{text}: {:?}", url(text));
        }
    }

    #[test]
    fn the_url_asked_for_is_added_where_the_sign_in_page_is_not_told_it() {
        let signin =
            |text: &str| signin_url(&Template::parse(text).expect("a template"), "rd").to_string();
        let asked = "rd={pass_access_scheme}://{http_host}{escaped_request_uri}";
        assert_eq!(signin("https://a/s"), format!("https://a/s?{asked}"));
        assert_eq!(signin("https://a/s?x=1"), format!("https://a/s?x=1&{asked}"));
        for told in ["https://{host}/s?rd={escaped_request_uri}", "https://a/s?x=1&rd=/home"] {
            assert_eq!(signin(told), told);
        }
        assert_eq!(signin("https://a/s?trd=1"), format!("https://a/s?trd=1&{asked}"));
    }
}
