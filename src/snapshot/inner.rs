//! Routes that no client gets to: those of requests of the proxy's own, which go the same way
//! through balancing, pools, retries and deadlines as everything else.

use std::collections::HashMap;
use std::time::Duration;

use http::HeaderName;

use super::RouteId;
use super::route::{Action, CompiledRoute, Targets};
use crate::filter::FilterChain;
use crate::ir::{
    Filter, HeaderEdit, HostPattern, Name, Origin, PathMatch, Retry, RouteMatch, Timeouts,
};

/// What is collected of them while a snapshot is compiled.
pub(super) struct InnerRoutes {
    /// How many routes there are before them.
    before: usize,
    routes: Vec<CompiledRoute>,
    /// By what they are for, upstream and time limit: requests of many routes share one.
    known: HashMap<(Purpose, Name, Option<Duration>), RouteId>,
}

/// What a request of the proxy's own is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Purpose {
    /// A page in the place of an error.
    Page,
    /// Whether a request may be served.
    Question,
}

impl InnerRoutes {
    /// None yet; their numbers begin after those of `before` others.
    pub fn after(before: usize) -> Self {
        Self { before, routes: Vec::new(), known: HashMap::new() }
    }

    /// The route of such requests to the upstream `name` that may take `timeout`.
    pub fn obtain(
        &mut self,
        purpose: Purpose,
        name: &Name,
        timeout: Option<Duration>,
        targets: &mut impl FnMut(&Name) -> Targets,
    ) -> RouteId {
        let key = (purpose, name.clone(), timeout);
        if let Some(known) = self.known.get(&key) {
            return *known;
        }
        let number = self.before + self.routes.len();
        let id = RouteId(u32::try_from(number).unwrap_or(u32::MAX));
        // The service learns the scheme from X-Original-URL; by this field some would redirect.
        let edit = HeaderEdit {
            remove: vec![HeaderName::from_static("x-forwarded-proto")],
            ..HeaderEdit::default()
        };
        let filters: &[Filter] = match purpose {
            Purpose::Page => &[],
            Purpose::Question => &[Filter::RequestHeaders(edit)],
        };
        self.routes.push(CompiledRoute {
            id,
            name: name.clone(),
            origin: Origin::default(),
            host: HostPattern::Any,
            matches: RouteMatch::of(PathMatch::Prefix("/".into())),
            action: Action::Forward(targets(name)),
            guard: None,
            cors: None,
            auth: None,
            error_pages: None,
            rules: None,
            https_redirect: None,
            hsts: None,
            // Cannot fail: there is no rewrite in it.
            filters: FilterChain::new(filters, "/").unwrap_or_default(),
            timeouts: Timeouts { request: timeout, ..Timeouts::default() },
            retry: Retry::default(),
            hedge: None,
            body_limit: None,
            access_log: false,
        });
        self.known.insert(key, id);
        id
    }

    /// All of them.
    pub fn finish(self) -> Box<[CompiledRoute]> {
        self.routes.into()
    }
}
