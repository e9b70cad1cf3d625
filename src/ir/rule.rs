//! Rules: what is done with those requests that meet conditions, one after the other.

use std::sync::Arc;

use http::StatusCode;
use serde::Serialize;

use super::{Filter, Template, Text, route};

/// What is done with requests that meet conditions.
///
/// The rules of a host are gone through before a route is looked for, those of a route before
/// anything else of it: before its redirect to https, its guard and its auth. Within them, all
/// parts of the request are as the client sent them, except that a rewrite changes the path for
/// the rules after it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Rule {
    /// All must hold, and are looked at in order; none is every request.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub when: Vec<Condition>,
    /// What is done, in order.
    pub then: Vec<Step>,
}

/// A condition on a part of the request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Condition {
    /// What is looked at.
    pub value: Template,
    /// What it must be.
    pub test: Test,
}

/// What a text must be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Test {
    /// Neither empty nor `0`.
    True,
    /// Equal, byte for byte.
    Is(Text),
    /// Not equal.
    IsNot(Text),
    /// The regular expression (RE2 syntax) is found in it. What its groups capture is `{1}` and on
    /// from then, until another expression matches.
    Matches(Arc<str>),
    /// It is not found in it.
    MatchesNot(Arc<str>),
}

/// What a rule does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Changes the request on its way to the upstream, or the response; after the route's own
    /// filters. Paths are changed by `Rewrite`.
    Filter(Filter),
    /// Changes path and query.
    Rewrite(Rewrite),
    /// Answers with a response.
    Respond(Reply),
    /// Answers with a redirect.
    Redirect(RedirectTo),
    /// Goes on as after the last rule.
    Stop,
}

/// A change of path and query where an expression is found in the path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Rewrite {
    /// A regular expression (RE2 syntax), not anchored.
    pub pattern: Arc<str>,
    /// The new path. What stands behind a `?` is a query that goes before the client's own, joined
    /// with `&`; a `?` at the very end drops the client's own.
    pub path: Template,
    /// What is done then.
    pub next: Next,
}

/// What is done after a rewrite that took place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Next {
    /// The next step.
    #[default]
    Continue,
    /// No further rule; the upstream gets this path, whatever the route makes of paths.
    Stop,
    /// A route is looked for by the new path.
    Lookup,
}

/// A response made from a template.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reply {
    /// 200 to 599.
    #[serde(serialize_with = "route::status_code")]
    pub status: StatusCode,
    /// The body.
    pub body: Template,
    /// Its media type, where there is a body.
    pub content_type: Arc<str>,
}

/// A redirect to what a template comes to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RedirectTo {
    /// 301, 302, 303, 307 or 308.
    #[serde(serialize_with = "route::status_code")]
    pub status: StatusCode,
    /// A URL, or a path of the same host. Nothing of the request is added to it.
    pub to: Template,
}
