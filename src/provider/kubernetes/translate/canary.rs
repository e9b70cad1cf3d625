//! Part of a route's requests to another upstream: by a header, a cookie, and by weight.

use std::sync::Arc;

use http::HeaderName;
use http::header::COOKIE;
use ir::{Action, BackendRef, HeaderMatch, Name, Route, ValueMatch};

use crate::ir;

/// Who goes to the canary, asked in this order; what decides nothing leaves it to the next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Canary {
    pub header: Option<(HeaderName, HeaderRule)>,
    /// The cookie whose `always` and `never` decide.
    pub cookie: Option<Arc<str>>,
    pub weight: u32,
    /// What `weight` is a share of.
    pub total: u32,
}

/// How a header decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum HeaderRule {
    /// `always` goes there, `never` does not.
    AlwaysNever,
    /// This value goes there.
    Exact(Arc<str>),
    /// No value does.
    Never,
    /// Values in which this expression is found go there.
    Pattern(Arc<str>),
}

impl Canary {
    /// `route`, whose requests go to `main`, and beside it the routes for those that go to
    /// `canary`, the first to be asked first.
    pub fn split(&self, route: &Route, main: &Name, canary: &Name) -> Vec<Route> {
        let mut routes = Vec::new();
        let mut when = |suffix: &str, name: &HeaderName, value: ValueMatch, upstream: &Name| {
            let mut other = route.clone();
            other.name = Name::from(format!("{}#{suffix}", route.name));
            other.matches.headers.push(HeaderMatch { name: name.clone(), value });
            other.action =
                Action::Forward(vec![BackendRef { upstream: upstream.clone(), weight: 1 }]);
            routes.push(other);
        };
        match &self.header {
            Some((name, HeaderRule::AlwaysNever)) => {
                when("canary-header", name, ValueMatch::Exact("always".into()), canary);
                when("main-header", name, ValueMatch::Exact("never".into()), main);
            }
            Some((name, HeaderRule::Exact(value))) => {
                when("canary-header", name, ValueMatch::Exact(value.clone()), canary);
            }
            Some((name, HeaderRule::Never)) => {
                when("main-header", name, ValueMatch::Present, main);
            }
            Some((name, HeaderRule::Pattern(pattern))) => {
                let anywhere = format!("(?s:.*)(?:{pattern})(?s:.*)");
                when("canary-header", name, ValueMatch::Regex(anywhere.into()), canary);
            }
            None => {}
        }
        if let Some(cookie) = &self.cookie {
            let cookie = regex::escape(cookie);
            let is = |value: &str| {
                ValueMatch::Regex(format!(r"(?s:.*;\s*)?{cookie}={value}(?s:;.*)?").into())
            };
            when("canary-cookie", &COOKIE, is("always"), canary);
            when("main-cookie", &COOKIE, is("never"), main);
        }
        let mut rest = route.clone();
        rest.action = Action::Forward(self.shares(main, canary));
        routes.push(rest);
        routes
    }

    fn shares(&self, main: &Name, canary: &Name) -> Vec<BackendRef> {
        let weight = self.weight.min(self.total);
        let shares = [(main, self.total - weight), (canary, weight)];
        let given = shares.into_iter().filter(|(_, weight)| *weight > 0);
        given.map(|(upstream, weight)| BackendRef { upstream: upstream.clone(), weight }).collect()
    }
}
