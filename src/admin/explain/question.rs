//! A request to be explained, out of what a person writes.

use std::net::IpAddr;

use http::uri::{Authority, PathAndQuery};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};

use super::Asked;
use crate::filter::{RequestTarget, TargetError};
use crate::ir::EncodedSlashes;
use crate::proxy::Host;

/// A request, as far as it decides the route.
#[derive(Clone, Debug)]
pub struct Question {
    /// The method.
    pub method: Method,
    /// Whether it comes over TLS.
    pub secure: bool,
    /// The port of the URL, where it has one.
    pub port: Option<u16>,
    /// The host asked for.
    pub host: Host,
    /// The header fields beside `Host`.
    pub headers: HeaderMap,
    /// The client's address, where one is assumed.
    pub client: Option<IpAddr>,
    target: PathAndQuery,
}

/// Why a question makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuestionError {
    /// A header without a colon, or with characters none may have.
    #[error("`{0}` is no header; write `name: value`")]
    Header(String),
    /// A host no request can have.
    #[error("`{0}` is no host name or address")]
    Host(String),
    /// A method no request can have.
    #[error("`{0}` is no method")]
    Method(String),
    /// A scheme this proxy does not serve.
    #[error("the scheme `{0}` is not served; write http:// or https://")]
    Scheme(String),
    /// Not a URL.
    #[error("`{0}` is no URL; write it as http://host/path, special characters as %XX")]
    Url(String),
}

impl Question {
    /// Reads a URL (without a scheme it is `http`), a method and headers as `name: value`. A
    /// `Host` header takes the place of the URL's host, as with curl.
    ///
    /// # Errors
    /// If one of them is none.
    pub fn new(
        url: &str,
        method: &str,
        headers: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> Result<Self, QuestionError> {
        let wrong = || QuestionError::Url(url.to_owned());
        let full = match url.contains("://") {
            true => url.to_owned(),
            false => format!("http://{url}"),
        };
        let uri = full.parse::<Uri>().map_err(|_| wrong())?;
        let secure = match uri.scheme_str() {
            Some("http" | "ws") => false,
            Some("https" | "wss") => true,
            other => return Err(QuestionError::Scheme(other.unwrap_or_default().to_owned())),
        };
        let authority = uri.authority().ok_or_else(wrong)?;
        let mut host = host(authority)?;
        let mut fields = HeaderMap::new();
        for header in headers {
            let header = header.as_ref();
            let (name, value) =
                field(header).ok_or_else(|| QuestionError::Header(header.to_owned()))?;
            if name == http::header::HOST {
                let no_host = || QuestionError::Host(value.to_str().unwrap_or_default().to_owned());
                host = Host::parse(&value).ok_or_else(no_host)?;
            } else {
                fields.append(name, value);
            }
        }
        let no_method = |_| QuestionError::Method(method.to_owned());
        Ok(Self {
            method: Method::from_bytes(method.as_bytes()).map_err(no_method)?,
            secure,
            port: authority.port_u16(),
            host,
            headers: fields,
            client: None,
            target: uri.into_parts().path_and_query.unwrap_or(PathAndQuery::from_static("/")),
        })
    }

    /// The same question from this address.
    #[must_use]
    pub fn from(self, client: Option<IpAddr>) -> Self {
        Self { client, ..self }
    }

    /// `http` or `https`.
    pub fn scheme(&self) -> &'static str {
        if self.secure { "https" } else { "http" }
    }

    /// The port it is sent to.
    pub fn effective_port(&self) -> u16 {
        self.port.unwrap_or(if self.secure { 443 } else { 80 })
    }

    /// The target in the form in which it is looked up.
    pub(super) fn target(&self, slashes: EncodedSlashes) -> Result<RequestTarget, TargetError> {
        RequestTarget::parse(self.target.clone(), slashes)
    }

    /// The request as it was asked.
    pub(super) fn asked(&self) -> Asked {
        Asked {
            method: self.method.to_string(),
            scheme: self.scheme().to_owned(),
            host: self.host.name().to_owned(),
            path: self.target.path().to_owned(),
            query: self.target.query().map(str::to_owned),
        }
    }
}

fn host(authority: &Authority) -> Result<Host, QuestionError> {
    Host::from_authority(authority).ok_or_else(|| QuestionError::Host(authority.to_string()))
}

fn field(text: &str) -> Option<(HeaderName, HeaderValue)> {
    let (name, value) = text.split_once(':')?;
    let name = name.trim().parse().ok()?;
    Some((name, HeaderValue::from_bytes(value.trim().as_bytes()).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(url: &str, headers: &[&str]) -> Result<Question, QuestionError> {
        Question::new(url, "GET", headers)
    }

    #[test]
    fn a_url_is_taken_apart() {
        let question = ask("HTTPS://Shop.Example:8443/a?b=c#d", &["X-A: 1"]).unwrap();
        assert!(question.secure);
        assert_eq!((question.effective_port(), question.host.name()), (8443, "shop.example"));
        assert_eq!(question.target(EncodedSlashes::Refuse).unwrap().as_str(), "/a?b=c");
        assert_eq!(question.headers["x-a"], "1");
        let question = ask("shop.example", &[]).unwrap();
        assert_eq!((question.scheme(), question.effective_port()), ("http", 80));
        assert_eq!(question.target(EncodedSlashes::Refuse).unwrap().as_str(), "/");
    }

    #[test]
    fn a_host_header_takes_the_place_of_the_urls_host() {
        let question = ask("http://127.0.0.1:8080/x", &["Host: shop.example"]).unwrap();
        assert_eq!((question.host.name(), question.port), ("shop.example", Some(8080)));
        assert!(question.headers.is_empty());
    }

    #[test]
    fn what_cannot_be_asked_is_said() {
        assert!(matches!(ask("/cart", &[]), Err(QuestionError::Url(_))));
        assert!(matches!(ask("ftp://x/", &[]), Err(QuestionError::Scheme(_))));
        assert!(matches!(ask("http://u@x/", &[]), Err(QuestionError::Host(_))));
        assert!(matches!(ask("http://x/", &["no colon"]), Err(QuestionError::Header(_))));
        assert!(matches!(ask("http://x/", &["Host: a b"]), Err(QuestionError::Host(_))));
        let method = Question::new("http://x/", "GE T", Vec::<String>::new());
        assert!(matches!(method, Err(QuestionError::Method(_))));
    }
}
