//! What stands before a route: whom it lets in, ready to be asked.

use aws_lc_rs::digest::{SHA256, digest};
use http::HeaderValue;

use super::RouteId;
use super::upstreams::Upstreams;
use crate::filter::BasicAuth;
use crate::ir::{self, AuthService, Credentials, Name, Problem, Satisfy};

/// Who may use a route.
#[derive(Debug)]
pub enum Authentication {
    /// Nobody, because what would be asked for cannot be set up; why, for logs and `explain`.
    Closed(String),
    /// Whoever shows this.
    Asks {
        /// Whether one of these will do.
        satisfy: Satisfy,
        /// A user name and a password.
        basic: Option<BasicAuth>,
        /// A service's word.
        external: Option<Box<External>>,
    },
}

/// A service that is asked.
#[derive(Debug)]
pub struct External {
    /// What is asked, and what becomes of the answer.
    pub spec: ir::ExternalAuth,
    /// The way of the question.
    pub way: Way,
    /// Stands for all that answers depend on beside the requests, where they are kept: with another
    /// route, service or setting none of them counts.
    pub identity: Option<[u8; 32]>,
}

/// The way of a question.
#[derive(Debug)]
pub enum Way {
    /// Whatever route the request's own host has for it.
    OwnHost,
    /// A route of its own, with the `Host` the service gets; `None` is the request's.
    Route(RouteId, Option<HeaderValue>),
}

/// Makes the route of questions to an upstream.
pub(super) type MakeWay<'a> = dyn FnMut(&Name, &ir::ExternalAuth) -> RouteId + 'a;

impl Authentication {
    /// The guard of the route `name`. Cannot fail: what cannot be set up lets nobody in, and both
    /// that and users who never come in are reported.
    pub(super) fn new(
        auth: &ir::Auth,
        name: &Name,
        upstreams: &Upstreams,
        make: &mut MakeWay<'_>,
        problems: &mut Vec<Problem>,
    ) -> Self {
        let basic = auth.basic.as_ref().map(|basic| self::basic(basic, name, problems));
        let external =
            auth.external.as_ref().map(|external| self::external(external, name, upstreams, make));
        match basic.transpose().and_then(|basic| Ok((basic, external.transpose()?))) {
            Ok((basic, external)) => {
                Self::Asks { satisfy: auth.satisfy, basic, external: external.map(Box::new) }
            }
            Err(reason) => {
                let message = format!("route '{name}': {reason}");
                let hint = "its requests are answered 503 until it is mended";
                problems.push(Problem::error(message).hint(hint));
                Self::Closed(reason)
            }
        }
    }
}

fn basic(
    basic: &ir::BasicAuth,
    name: &Name,
    problems: &mut Vec<Problem>,
) -> Result<BasicAuth, String> {
    let htpasswd = match &basic.users {
        Credentials::Htpasswd(text) => text.expose(),
        Credentials::Missing(why) => return Err(format!("there are no users: {why}")),
    };
    let (auth, faults) = BasicAuth::new(&basic.realm, htpasswd)?;
    for fault in faults {
        let message = format!("route '{name}': line {} of its users: {}", fault.line, fault.what);
        let hint = "make the line with `htpasswd -B`; nobody comes in by it as it is";
        problems.push(Problem::error(message).hint(hint));
    }
    if auth.users.is_empty() {
        let message = format!("route '{name}': there is no user, so nobody comes in");
        problems.push(Problem::error(message).hint("add a line of the form user:hash"));
    }
    Ok(auth)
}

fn external(
    external: &ir::ExternalAuth,
    route: &Name,
    upstreams: &Upstreams,
    make: &mut MakeWay<'_>,
) -> Result<External, String> {
    let way = match &external.service {
        AuthService::Missing(why) => return Err(format!("there is nobody to be asked: {why}")),
        AuthService::OwnHost => Way::OwnHost,
        AuthService::Upstream { name, host } => {
            upstreams.find(name)?;
            let host = host.as_ref().map(|host| HeaderValue::from_str(host)).transpose();
            let host = host.map_err(|_| "the service's host cannot be a Host".to_owned())?;
            Way::Route(make(name, external), host)
        }
    };
    let identity = external.cache.as_ref().map(|_| identity(external, route, upstreams));
    Ok(External { spec: external.clone(), way, identity })
}

/// A digest of the route, the service and how it is asked. Literals of templates are taken as they
/// are, also where they are hidden in what people are shown.
fn identity(external: &ir::ExternalAuth, route: &Name, upstreams: &Upstreams) -> [u8; 32] {
    let ir::ExternalAuth { service, path, method, request_headers, request_redirect, .. } =
        external;
    let upstream = match service {
        AuthService::Upstream { name, .. } => upstreams.find(name).ok().map(|found| &found.spec),
        AuthService::Missing(_) | AuthService::OwnHost => None,
    };
    let fields: Vec<_> = request_headers.iter().map(|(name, of)| (name, of.pieces())).collect();
    let redirect = request_redirect.as_ref().map(|template| template.pieces());
    let key = external.cache.as_ref().map(|cache| (cache.key.pieces(), &cache.valid));
    let asked = (service, upstream, path.pieces(), method, fields, redirect);
    let text = format!("{:?}", (route, asked, &external.response_headers, key));
    digest(&SHA256, text.as_bytes()).as_ref().try_into().unwrap_or_default()
}
