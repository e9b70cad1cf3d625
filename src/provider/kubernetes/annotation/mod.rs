//! The annotations of ingress-nginx, under its prefix or under ours: from text to typed values.
//!
//! `parse` is a pure function of one object's annotations; it owns what each annotation may say
//! and what becomes of a value that says something else. One family of annotations a file. It
//! knows nothing of routes: what the values mean there is for whoever translates the object. And
//! nothing is ever passed on as text that something else would interpret.
//!
//! `table` says of every name whether it is honoured. A name that is not is reported and its
//! value is never read, so that one line there turns an annotation off.

mod access;
mod auth;
mod auth_tls;
mod backend;
mod balance;
mod body;
mod canary;
mod config_map;
mod cors;
mod dump;
mod finding;
mod flags;
mod headers;
mod host;
mod keys;
mod limit;
mod log;
mod pattern;
mod proxy_ssl;
mod reader;
mod redirect;
mod rewrite;
pub mod snippet;
mod table;
mod timeouts;
mod unknown;
mod value;
mod variable;

#[cfg(test)]
mod tests;

pub use access::{Access, Satisfy};
pub use auth::{Auth, AuthType, BasicAuth, ExternalAuth, SecretType};
pub use auth_tls::{AuthTls, VerifyClient};
pub use backend::{Backend, BackendProtocol, HttpVersion};
pub use balance::{AffinityCanary, AffinityMode, Balance, LoadBalance, SessionCookie};
pub use body::Body;
pub use canary::{Canary, CanaryPattern};
pub use config_map::{ConfigMapSettings, ParsedConfigMap, parse_config_map};
pub use cors::{Cors, CorsList, CorsOrigin};
pub use finding::{Class, Finding};
pub use flags::{Flags, ParsedFlags, parse_flags};
pub use headers::{CookieEdit, Headers, RedirectEdit};
pub use host::{Alias, Host};
pub use limit::Limit;
pub use log::Log;
pub use pattern::Pattern;
pub use proxy_ssl::ProxySsl;
pub use redirect::Redirect;
pub use rewrite::{Rewrite, RewriteTarget};
pub use snippet::Snippets;
pub use table::{Support, names, support};
pub use timeouts::{NextUpstream, Timeouts};
pub use value::{ObjectRef, boolean};
pub use variable::{Piece, Template, Variable};

use std::collections::BTreeMap;

use serde::Serialize;

use reader::Reader;

/// The prefix that ingress-nginx has unless told otherwise.
pub const NGINX_PREFIX: &str = "nginx.ingress.kubernetes.io";

/// Our own prefix: the same names, and it wins where both are there.
pub const OWN_PREFIX: &str = "portcullis.dev";

/// How annotations are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The prefix beside our own, without the slash.
    pub prefix: String,
    /// Whether snippets are read at all. They are never executed, so that there is no risk in it;
    /// a cluster may still not want them.
    pub snippets: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { prefix: NGINX_PREFIX.to_owned(), snippets: true }
    }
}

/// What the annotations of one object say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Parsed {
    /// The values. Those that are wrong are not here.
    pub values: Annotations,
    /// Why the object must not be served otherwise than with 503: access to it would be less
    /// restricted than its annotations ask for.
    pub denied: Option<String>,
    /// Why the object as a whole is not taken over: its last good version stays in force.
    pub refused: Option<String>,
    /// One for each annotation under a known prefix, and for every refused line of a snippet.
    pub findings: Vec<Finding>,
}

/// The values of one object, by family. `None` is what is not said: the ConfigMap's default or
/// ingress-nginx's holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Annotations {
    /// rewrite-target, use-regex.
    pub rewrite: Rewrite,
    /// Redirects.
    pub redirect: Redirect,
    /// server-alias, upstream-vhost, x-forwarded-prefix.
    pub host: Host,
    /// Protocol and substitutes of the back end.
    pub backend: Backend,
    /// TLS towards the back end.
    pub proxy_ssl: ProxySsl,
    /// Timeouts and repeated attempts.
    pub timeouts: Timeouts,
    /// Bodies: limits and buffers.
    pub body: Body,
    /// Balancing and sessions.
    pub balance: Balance,
    /// canary-*.
    pub canary: Canary,
    /// Source ranges, satisfy.
    pub access: Access,
    /// limit-*.
    pub limit: Limit,
    /// enable-cors, cors-*.
    pub cors: Cors,
    /// auth-*, but auth-tls-*.
    pub auth: Auth,
    /// auth-tls-*.
    pub auth_tls: AuthTls,
    /// enable-access-log.
    pub log: Log,
    /// Header edits.
    pub headers: Headers,
    /// configuration-snippet, server-snippet.
    pub snippets: Snippets,
}

impl Annotations {
    fn read(reader: &mut Reader<'_>) -> Self {
        Self {
            rewrite: Rewrite::read(reader),
            redirect: Redirect::read(reader),
            host: Host::read(reader),
            backend: Backend::read(reader),
            proxy_ssl: ProxySsl::read(reader),
            timeouts: Timeouts::read(reader),
            body: Body::read(reader),
            balance: Balance::read(reader),
            canary: Canary::read(reader),
            access: Access::read(reader),
            limit: Limit::read(reader),
            cors: Cors::read(reader),
            auth: Auth::read(reader),
            auth_tls: AuthTls::read(reader),
            log: Log::read(reader),
            headers: Headers::read(reader),
            snippets: Snippets::read(reader),
        }
    }
}

/// Reads what `annotations` say. Never fails: what is wrong is among the findings, and where it
/// must not be passed over, in `denied` or `refused`.
pub fn parse(annotations: &BTreeMap<String, String>, options: &Options) -> Parsed {
    let mut reader = Reader::new(annotations, options);
    let values = Annotations::read(&mut reader);
    if values.canary.enabled == Some(true) {
        reader.only_for_canary();
    }
    reader.finish(values)
}
