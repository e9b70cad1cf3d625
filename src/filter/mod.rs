//! Policies of routes: for each one its compiled data and its logic, one per file.
//!
//! Pure functions over heads, and counts of clients in atomics: no I/O, no clock, no knowledge of
//! connections, routers or upstreams.

mod access;
mod basic_auth;
mod client_auth;
mod connection_limit;
mod cookies;
mod cors;
mod freshness;
mod guard;
mod headers;
mod htpasswd;
mod https;
mod networks;
mod rate_limit;
mod redirect;
mod rewrite;
mod rules;
mod substitute;
mod tally;
mod target;
mod template;

pub use access::AccessList;
pub use basic_auth::{BasicAuth, Login};
pub use client_auth::{ClientAuth, Objection, Shown};
pub use connection_limit::ConnectionLimit;
pub use cookies::{CookieEdits, LocationEdits};
pub use cors::Cors;
pub use freshness::lifetime;
pub use guard::{Guard, Refusal};
pub use headers::{HeaderEdits, ResponseEdits};
pub use htpasswd::{Fault, Htpasswd, StoredHash};
pub use https::{HttpsPlan, hsts};
pub use networks::Networks;
pub use rate_limit::RateLimit;
pub use redirect::{Location, RedirectPlan};
pub use rewrite::PathPlan;
pub use rules::{Answer, Rules, Ruling, Verdict};
pub use substitute::Substitution;
pub use tally::{Seat, Tallies};
pub use target::{RequestTarget, TargetError};
pub use template::{ClientCertificate, Draft, Facts, Place, render, render_value, values};

use http::{HeaderMap, HeaderValue, StatusCode};

use crate::ir;

/// A route's changes to requests and responses, ready to apply.
#[derive(Debug, Default)]
pub struct FilterChain {
    /// To the request, in order.
    pub request: Box<[RequestFilter]>,
    /// To the response, in order.
    pub response: Box<[ResponseFilter]>,
    /// Whether values of the request's depend on it.
    pub opens_request: bool,
    /// The same of the response's.
    pub opens_response: bool,
}

/// A change to a request.
#[derive(Debug)]
pub enum RequestFilter {
    /// Of header fields.
    Headers(HeaderEdits),
    /// Of the `Host` the upstream sees.
    Host(HeaderValue),
    /// The same, to what a template comes to.
    HostFrom(ir::Template),
    /// Of the path the upstream sees.
    Path(PathPlan),
}

/// A change to a response.
#[derive(Debug)]
pub enum ResponseFilter {
    /// Of header fields.
    Headers(ResponseEdits),
    /// Of attributes of cookies.
    Cookies(CookieEdits),
    /// Of the URLs to which clients are sent.
    Location(LocationEdits),
}

impl FilterChain {
    /// Compiles a route's filters. `prefix` is the path prefix the route matches, for prefix
    /// rewrites. What cannot be compiled is said in words.
    pub fn new(filters: &[ir::Filter], prefix: &str) -> Result<Self, String> {
        let mut request = Vec::new();
        let mut response = Vec::new();
        let (mut opens_request, mut opens_response) = (false, false);
        for filter in filters {
            match filter {
                ir::Filter::RequestHeaders(edit) => {
                    let edits = HeaderEdits::new(edit);
                    opens_request |= edits.is_open();
                    request.push(RequestFilter::Headers(edits));
                }
                ir::Filter::ResponseHeaders(edit) => {
                    let edits = ResponseEdits::new(edit);
                    opens_response |= edits.edits().is_open();
                    response.push(ResponseFilter::Headers(edits));
                }
                ir::Filter::ResponseCookies(edit) => {
                    response.push(ResponseFilter::Cookies(CookieEdits::new(edit)));
                }
                ir::Filter::ResponseLocation(edit) => {
                    opens_response = true;
                    response.push(ResponseFilter::Location(LocationEdits::new(edit)));
                }
                ir::Filter::RewriteHost(host) => {
                    let host = HeaderValue::from_str(host)
                        .map_err(|_| format!("'{host}' cannot be a Host"))?;
                    request.push(RequestFilter::Host(host));
                }
                ir::Filter::RewriteHostFrom(template) if template.as_literal().is_some() => {
                    let host = HeaderValue::from_str(template.as_literal().unwrap_or_default())
                        .map_err(|_| format!("'{template}' cannot be a Host"))?;
                    request.push(RequestFilter::Host(host));
                }
                ir::Filter::RewriteHostFrom(template) => {
                    opens_request = true;
                    request.push(RequestFilter::HostFrom(template.clone()));
                }
                ir::Filter::RewritePath(rewrite) => {
                    request.push(RequestFilter::Path(PathPlan::new(rewrite, prefix)?));
                }
            }
        }
        Ok(Self {
            request: request.into(),
            response: response.into(),
            opens_request,
            opens_response,
        })
    }

    /// The values of the request's filters that depend on it, in their order.
    pub fn request_values(&self, facts: &Facts<'_>) -> Vec<Option<HeaderValue>> {
        let mut drafts = Vec::new();
        for filter in &self.request {
            match filter {
                RequestFilter::Headers(edits) => edits.drafts(facts, &mut drafts),
                RequestFilter::HostFrom(template) => {
                    drafts.push(Draft::new(template, facts, Place::Header));
                }
                RequestFilter::Host(_) | RequestFilter::Path(_) => {}
            }
        }
        drafts.iter().map(|draft| draft.finish(None)).collect()
    }

    /// What the values of the response's filters take of the request.
    pub fn response_drafts(&self, facts: &Facts<'_>) -> Vec<Draft> {
        let mut drafts = Vec::new();
        for filter in &self.response {
            match filter {
                ResponseFilter::Headers(edits) => edits.edits().drafts(facts, &mut drafts),
                ResponseFilter::Location(edits) => {
                    drafts.push(Draft::new(&edits.to, facts, Place::Url));
                }
                ResponseFilter::Cookies(_) => {}
            }
        }
        drafts
    }

    /// Applies the response's filters, with what their values take of the request.
    pub fn on_response(&self, status: StatusCode, headers: &mut HeaderMap, drafts: &[Draft]) {
        self.edit_response(status, headers, drafts, true);
    }

    /// The same to a response of our own, whose cookies and URLs are as they are meant.
    pub fn on_own_response(&self, status: StatusCode, headers: &mut HeaderMap, drafts: &[Draft]) {
        self.edit_response(status, headers, drafts, false);
    }

    fn edit_response(
        &self,
        status: StatusCode,
        headers: &mut HeaderMap,
        drafts: &[Draft],
        proxied: bool,
    ) {
        // All values are of the response as it came.
        let values: Vec<_> =
            drafts.iter().map(|draft| draft.finish(Some((status, headers)))).collect();
        let mut values = values.into_iter();
        for filter in &self.response {
            match filter {
                ResponseFilter::Headers(edits) => edits.apply(status, headers, &mut values),
                ResponseFilter::Cookies(edits) if proxied => edits.apply(headers),
                ResponseFilter::Cookies(_) => {}
                ResponseFilter::Location(edits) => {
                    let to = values.next().flatten();
                    if proxied {
                        edits.apply(headers, to.as_ref());
                    }
                }
            }
        }
    }
}
