//! Redirects.

use std::sync::Arc;

use http::{HeaderValue, StatusCode};

use super::{PathPlan, RequestTarget};
use crate::ir;

/// A redirect ready to answer with.
#[derive(Debug)]
pub struct RedirectPlan {
    /// The status.
    pub status: StatusCode,
    scheme: Option<Arc<str>>,
    host: Option<Arc<str>>,
    port: Option<u16>,
    path: Option<PathPlan>,
}

/// Where the request being redirected was sent.
pub struct Location<'a> {
    /// `http` or `https`.
    pub scheme: &'a str,
    /// The host without a port; IPv6 in brackets.
    pub host: &'a str,
    /// The port the client named, if any.
    pub port: Option<u16>,
    /// Path and query.
    pub target: &'a RequestTarget,
}

impl RedirectPlan {
    /// Compiles a redirect for a route that matches `prefix`.
    pub fn new(redirect: &ir::Redirect, prefix: &str) -> Result<Self, String> {
        Ok(Self {
            status: redirect.status,
            scheme: redirect.scheme.clone(),
            host: redirect.host.clone(),
            port: redirect.port,
            path: redirect.path.as_ref().map(|path| PathPlan::new(path, prefix)).transpose()?,
        })
    }

    /// The `Location` for a request; `None` where the result is no URL.
    pub fn location(&self, from: &Location<'_>) -> Option<HeaderValue> {
        let scheme = self.scheme.as_deref().unwrap_or(from.scheme);
        let host = self.host.as_deref().unwrap_or(from.host);
        // A new scheme has its own port; else the client's own port stays.
        let port = self.port.or(if self.scheme.is_some() { None } else { from.port });
        let standard = if scheme == "https" { 443 } else { 80 };
        let rewritten = self.path.as_ref().map(|path| path.apply(from.target)).transpose().ok()?;
        let target = rewritten.as_ref().unwrap_or(from.target);
        let mut url = String::with_capacity(16 + host.len() + target.as_str().len());
        url.push_str(scheme);
        url.push_str("://");
        url.push_str(host);
        if let Some(port) = port.filter(|port| *port != standard) {
            url.push(':');
            url.push_str(itoa::Buffer::new().format(port));
        }
        url.push_str(target.as_str());
        HeaderValue::try_from(url).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn location(redirect: ir::Redirect, port: Option<u16>) -> String {
        let target = RequestTarget::from_parts("/a/b", Some("q=1")).expect("a sound target");
        let plan = RedirectPlan::new(&redirect, "/a").expect("a sound redirect");
        let from = Location { scheme: "http", host: "shop.example", port, target: &target };
        let location = plan.location(&from).expect("a location");
        location.to_str().expect("text").to_owned()
    }

    fn redirect() -> ir::Redirect {
        ir::Redirect { scheme: None, host: None, port: None, path: None, status: StatusCode::FOUND }
    }

    #[test]
    fn what_is_not_said_stays() {
        assert_eq!(location(redirect(), None), "http://shop.example/a/b?q=1");
        assert_eq!(location(redirect(), Some(8080)), "http://shop.example:8080/a/b?q=1");
        assert_eq!(location(redirect(), Some(80)), "http://shop.example/a/b?q=1");
    }

    #[test]
    fn a_new_scheme_has_its_own_port() {
        let https = ir::Redirect { scheme: Some("https".into()), ..redirect() };
        assert_eq!(location(https.clone(), Some(8080)), "https://shop.example/a/b?q=1");
        let https = ir::Redirect { port: Some(8443), ..https };
        assert_eq!(location(https, Some(8080)), "https://shop.example:8443/a/b?q=1");
    }

    #[test]
    fn host_and_path_change() {
        let moved = ir::Redirect {
            host: Some("new.example".into()),
            path: Some(ir::PathRewrite::Prefix("/z".into())),
            ..redirect()
        };
        assert_eq!(location(moved, None), "http://new.example/z/b?q=1");
    }
}
