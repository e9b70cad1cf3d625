//! A route as the request path sees it: everything one request needs, resolved.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode};

use super::{Authentication, ClientGate, CountedRule, RouteId};
use crate::filter::{Cors, FilterChain, Guard, HttpsPlan, RedirectPlan, Rules};
use crate::ir::{self, HostPattern, Name, Origin};
use crate::telemetry::WorkerId;
use crate::upstream::balance::Stride;
use crate::upstream::{Hedging, Upstream};

/// A compiled route.
#[derive(Debug)]
pub struct CompiledRoute {
    /// Its index in the snapshot.
    pub id: RouteId,
    /// Its name: the `route` label.
    pub name: Name,
    /// Where it was declared.
    pub origin: Arc<Origin>,
    /// The hosts it belongs to.
    pub host: HostPattern,
    /// What it matches, for `explain` and the route table.
    pub matches: Arc<ir::RouteMatch>,
    /// What a request must pass first.
    pub guard: Option<Box<Guard>>,
    /// Which pages of other origins may use it.
    pub cors: Option<Box<Cors>>,
    /// What becomes of a request.
    pub action: Action,
    /// Whom it lets in; `None` is anybody.
    pub auth: Option<Box<Authentication>>,
    /// What its host demands of client certificates.
    pub client_auth: Option<Arc<ClientGate>>,
    /// Whose answers stand in the place of errors.
    pub error_pages: Option<Box<ErrorPages>>,
    /// What is done with some of its requests before anything else.
    pub rules: Option<Box<Rules>>,
    /// Its changes to heads.
    pub filters: FilterChain,
    /// How requests without TLS are redirected to https.
    pub https_redirect: Option<HttpsPlan>,
    /// The value of `Strict-Transport-Security` on answers over TLS.
    pub hsts: Option<HeaderValue>,
    /// Its deadlines.
    pub timeouts: Arc<ir::Timeouts>,
    /// When an attempt is repeated.
    pub retry: Arc<ir::Retry>,
    /// Whether a slow request is sent a second time.
    pub hedge: Option<Arc<Hedging>>,
    /// The largest request body in bytes.
    pub body_limit: Option<u64>,
    /// What of bodies is read ahead, and how fast responses go.
    pub bodies: ir::Bodies,
    /// Whether clients stay with the upstream of their session.
    pub sticky: bool,
    /// Whether its requests are logged.
    pub access_log: bool,
    /// By which rule its requests are counted, too.
    pub rule: Option<Arc<CountedRule>>,
}

impl CompiledRoute {
    /// Whether it has any of the policies that requests pass before all others.
    #[inline]
    pub fn has_policies(&self) -> bool {
        self.guard.is_some()
            || self.cors.is_some()
            || self.auth.is_some()
            || self.client_auth.is_some()
            || self.error_pages.is_some()
            || self.https_redirect.is_some()
    }
}

/// Whose answers stand in the place of errors.
#[derive(Debug)]
pub struct ErrorPages {
    /// What was asked for.
    pub spec: ir::ErrorPages,
    /// The way to who answers.
    pub route: RouteId,
}

impl ErrorPages {
    /// Whether they stand in the place of a response of this status.
    pub fn are_for(&self, status: StatusCode) -> bool {
        let status = status.as_u16();
        self.spec.statuses.iter().any(|(from, to)| (*from..=*to).contains(&status))
    }
}

/// What becomes of a request.
#[derive(Debug)]
pub enum Action {
    /// The configuration is wrong.
    Fail {
        /// The status of the answer.
        status: StatusCode,
        /// What is wrong, for logs and `explain`.
        reason: String,
    },
    /// To an upstream.
    Forward(Targets),
    /// A redirect.
    Redirect(Box<RedirectPlan>),
    /// A redirect to what a template comes to.
    RedirectTo(ir::RedirectTo),
    /// A fixed response.
    Respond(Box<FixedResponse>),
}

/// The upstreams of a route and their shares.
pub struct Targets {
    upstreams: Box<[Arc<Upstream>]>,
    weights: Box<[u32]>,
    /// Where there are several.
    turns: Option<Arc<Stride>>,
}

impl Targets {
    /// Upstreams by weight, which take their `turns`.
    pub fn new(backends: Vec<(Arc<Upstream>, u32)>, turns: Option<Arc<Stride>>) -> Self {
        let (upstreams, weights): (Vec<_>, Vec<_>) = backends.into_iter().unzip();
        Self { upstreams: upstreams.into(), weights: weights.into(), turns }
    }

    /// The upstream whose turn it is; `None` when every weight is 0.
    pub fn pick(&self, worker: WorkerId) -> Option<&Arc<Upstream>> {
        if let [only] = &*self.upstreams
            && self.weights.first().is_some_and(|weight| *weight > 0)
        {
            return Some(only);
        }
        self.upstreams.get(self.turns.as_ref()?.next(worker)?)
    }

    /// The upstream that the client has a session with, whatever its weight; `None` where it has
    /// none, or its upstream has no endpoint at all.
    pub fn of_session(&self, headers: &HeaderMap) -> Option<&Arc<Upstream>> {
        self.upstreams.iter().find(|upstream| {
            let affinity = upstream.affinity.as_ref();
            affinity.is_some_and(|affinity| affinity.began_here(headers))
                && !upstream.endpoints().members().is_empty()
        })
    }

    /// The upstreams and their weights.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<Upstream>, u32)> {
        self.upstreams.iter().zip(self.weights.iter().copied())
    }
}

impl std::fmt::Debug for Targets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter().map(|(up, weight)| (&up.name, weight))).finish()
    }
}

/// A fixed response.
pub struct FixedResponse {
    /// The status.
    pub status: StatusCode,
    /// The header fields.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl std::fmt::Debug for FixedResponse {
    /// Without the body, which may be secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FixedResponse")
            .field("status", &self.status)
            .field("headers", &self.headers)
            .field("body_bytes", &self.body.len())
            .finish()
    }
}

impl FixedResponse {
    /// Compiles a response; a body without a type is plain text.
    pub fn new(respond: &ir::Respond) -> Self {
        let mut headers = HeaderMap::new();
        for field in &respond.headers {
            headers.append(&field.name, field.value.clone());
        }
        if !respond.body.is_empty() && !headers.contains_key(http::header::CONTENT_TYPE) {
            let text = HeaderValue::from_static("text/plain; charset=utf-8");
            headers.insert(http::header::CONTENT_TYPE, text);
        }
        let body = Bytes::copy_from_slice(respond.body.expose());
        Self { status: respond.status, headers, body }
    }
}
