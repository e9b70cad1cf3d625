//! Policies of routes: for each one its compiled data and its logic, one per file.
//!
//! Pure functions over heads, and counts of clients in atomics: no I/O, no clock, no knowledge of
//! connections, routers or upstreams.

mod access;
mod basic_auth;
mod client_auth;
mod connection_limit;
mod cors;
mod guard;
mod headers;
mod htpasswd;
mod https;
mod networks;
mod rate_limit;
mod redirect;
mod rewrite;
mod substitute;
mod tally;
mod target;
mod template;

pub use access::AccessList;
pub use basic_auth::{BasicAuth, Login};
pub use client_auth::{ClientAuth, Objection, Shown};
pub use connection_limit::ConnectionLimit;
pub use cors::Cors;
pub use guard::{Guard, Refusal};
pub use headers::HeaderEdits;
pub use htpasswd::{Fault, Htpasswd, StoredHash};
pub use https::{HttpsPlan, hsts};
pub use networks::Networks;
pub use rate_limit::RateLimit;
pub use redirect::{Location, RedirectPlan};
pub use rewrite::PathPlan;
pub use substitute::Substitution;
pub use tally::{Seat, Tallies};
pub use target::{RequestTarget, TargetError};
pub use template::{Facts, Place, render, render_value};

use http::HeaderValue;

use crate::ir;

/// A route's changes to requests and responses, ready to apply.
#[derive(Debug, Default)]
pub struct FilterChain {
    /// To the request, in order.
    pub request: Box<[RequestFilter]>,
    /// To the response, in order.
    pub response: Box<[HeaderEdits]>,
}

/// A change to a request.
#[derive(Debug)]
pub enum RequestFilter {
    /// Of header fields.
    Headers(HeaderEdits),
    /// Of the `Host` the upstream sees.
    Host(HeaderValue),
    /// Of the path the upstream sees.
    Path(PathPlan),
}

impl FilterChain {
    /// Compiles a route's filters. `prefix` is the path prefix the route matches, for prefix
    /// rewrites. What cannot be compiled is said in words.
    pub fn new(filters: &[ir::Filter], prefix: &str) -> Result<Self, String> {
        let mut request = Vec::new();
        let mut response = Vec::new();
        for filter in filters {
            match filter {
                ir::Filter::RequestHeaders(edit) => {
                    request.push(RequestFilter::Headers(HeaderEdits::new(edit)));
                }
                ir::Filter::ResponseHeaders(edit) => response.push(HeaderEdits::new(edit)),
                ir::Filter::RewriteHost(host) => {
                    let host = HeaderValue::from_str(host)
                        .map_err(|_| format!("'{host}' cannot be a Host"))?;
                    request.push(RequestFilter::Host(host));
                }
                ir::Filter::RewritePath(rewrite) => {
                    request.push(RequestFilter::Path(PathPlan::new(rewrite, prefix)?));
                }
            }
        }
        Ok(Self { request: request.into(), response: response.into() })
    }
}
