//! Part of a route's requests to another upstream: by a header, a cookie, and by weight.

use std::sync::Arc;

use http::HeaderName;
use ir::{Action, BackendRef, CookieMatch, HeaderMatch, Name, Route, RouteMatch, ValueMatch};

use super::rule::with_canary;
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
        let mut routes: Vec<Route> = Vec::new();
        let mut route = route.clone();
        route.rule = route.rule.as_ref().map(|rule| with_canary(rule, canary));
        let mut when = |suffix: &str, condition: &dyn Fn(&mut RouteMatch), upstream: &Name| {
            let mut other = route.clone();
            other.name = Name::from(format!("{}#{suffix}", route.name));
            let matches = Arc::make_mut(&mut other.matches);
            condition(matches);
            matches.order = i32::try_from(routes.len()).unwrap_or(i32::MAX);
            let share =
                |of: &Name| BackendRef { upstream: of.clone(), weight: u32::from(of == upstream) };
            // Sessions may lead elsewhere than its rule does.
            let shares = [main, canary].map(share);
            let wanted = shares.into_iter().filter(|share| route.sticky || share.weight > 0);
            other.action = Action::Forward(wanted.collect());
            routes.push(other);
        };
        if let Some((name, rule)) = &self.header {
            let is = |value: ValueMatch| {
                move |matches: &mut RouteMatch| {
                    let value = value.clone();
                    matches.headers.push(HeaderMatch { name: name.clone(), value });
                }
            };
            match rule {
                HeaderRule::AlwaysNever => {
                    when("canary-header", &is(ValueMatch::Exact("always".into())), canary);
                    when("main-header", &is(ValueMatch::Exact("never".into())), main);
                }
                HeaderRule::Exact(value) => {
                    when("canary-header", &is(ValueMatch::Exact(value.clone())), canary);
                }
                HeaderRule::Never => when("main-header", &is(ValueMatch::Present), main),
                HeaderRule::Pattern(pattern) => {
                    let anywhere = format!("(?s:.*)(?:{pattern})(?s:.*)");
                    when("canary-header", &is(ValueMatch::Regex(anywhere.into())), canary);
                }
            }
        }
        if let Some(cookie) = &self.cookie {
            let is = |value: &'static str| {
                move |matches: &mut RouteMatch| {
                    let value = ValueMatch::Exact(value.into());
                    matches.cookies.push(CookieMatch { name: cookie.clone(), value });
                }
            };
            when("canary-cookie", &is("always"), canary);
            when("main-cookie", &is("never"), main);
        }
        let mut rest = route;
        Arc::make_mut(&mut rest.matches).order = i32::try_from(routes.len()).unwrap_or(i32::MAX);
        rest.action = Action::Forward(self.shares(main, canary, rest.sticky));
        routes.push(rest);
        routes
    }

    /// Who gets how much; `all` names also who gets nothing.
    fn shares(&self, main: &Name, canary: &Name, all: bool) -> Vec<BackendRef> {
        let weight = self.weight.min(self.total);
        let shares = [(main, self.total - weight), (canary, weight)];
        let given = shares.into_iter().filter(|(_, weight)| all || *weight > 0);
        given.map(|(upstream, weight)| BackendRef { upstream: upstream.clone(), weight }).collect()
    }
}
