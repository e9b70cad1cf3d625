//! Routes that no client gets to: those of requests of the proxy's own, which go the same way
//! through balancing, pools, retries and deadlines as everything else.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;

use super::RouteId;
use super::hosts::Places;
use super::route::{Action, CompiledRoute, Targets};
use crate::filter::FilterChain;
use crate::ir::{Filter, HeaderEdit, HostPattern, Name, PathMatch, RouteMatch, Timeouts};

/// What they are collected in while a snapshot is compiled.
#[derive(Default)]
pub(super) struct InnerRoutes {
    /// Requests of many routes share one.
    known: HashMap<InnerKey, Arc<CompiledRoute>>,
    /// Those that were asked for since somebody looked.
    asked: Vec<Inner>,
}

/// What such a route is for: its purpose, upstream and time limit.
type InnerKey = (Purpose, Name, Option<Duration>);

/// Such a route, and what it is for.
pub(super) type Inner = (InnerKey, Arc<CompiledRoute>);

/// What a request of the proxy's own is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Purpose {
    /// A page in the place of an error.
    Page,
    /// Whether a request may be served.
    Question,
}

impl InnerRoutes {
    /// Goes on with those that a host which goes on needs.
    pub fn keep(&mut self, inner: &[Inner], places: &mut Places) {
        for (key, route) in inner {
            places.put(route);
            self.known.insert(key.clone(), route.clone());
        }
    }

    /// The route of such requests to the upstream `name` that may take `timeout`.
    pub fn obtain(
        &mut self,
        purpose: Purpose,
        name: &Name,
        timeout: Option<Duration>,
        places: &mut Places,
        targets: &mut impl FnMut(&Name) -> Targets,
    ) -> RouteId {
        let key = (purpose, name.clone(), timeout);
        let route = self.known.entry(key.clone()).or_insert_with(|| {
            let route = route(places.number(), purpose, name, timeout, targets(name));
            let route = Arc::new(route);
            places.put(&route);
            route
        });
        self.asked.push((key, route.clone()));
        route.id
    }

    /// Those that were asked for since this was last called.
    pub fn asked(&mut self) -> Vec<Inner> {
        std::mem::take(&mut self.asked)
    }
}

fn route(
    id: RouteId,
    purpose: Purpose,
    name: &Name,
    timeout: Option<Duration>,
    targets: Targets,
) -> CompiledRoute {
    // The service learns the scheme from X-Original-URL; by these fields some would redirect.
    let schemes = ["x-forwarded-proto", "x-forwarded-scheme", "x-scheme"];
    let edit =
        HeaderEdit { remove: schemes.map(HeaderName::from_static).into(), ..HeaderEdit::default() };
    let filters: &[Filter] = match purpose {
        Purpose::Page => &[],
        Purpose::Question => &[Filter::RequestHeaders(edit)],
    };
    CompiledRoute {
        id,
        name: name.clone(),
        origin: Arc::default(),
        host: HostPattern::Any,
        matches: RouteMatch::of(PathMatch::Prefix("/".into())).into(),
        action: Action::Forward(targets),
        guard: None,
        cors: None,
        auth: None,
        client_auth: None,
        error_pages: None,
        rules: None,
        https_redirect: None,
        hsts: None,
        // Cannot fail: there is no rewrite in it.
        filters: FilterChain::new(filters, "/").unwrap_or_default(),
        timeouts: Timeouts { request: timeout, ..Timeouts::default() }.into(),
        retry: Arc::default(),
        hedge: None,
        body_limit: None,
        bodies: Default::default(),
        sticky: false,
        access_log: false,
        rule: None,
    }
}
