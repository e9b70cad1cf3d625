//! Rules, and edits of what upstreams say of themselves, as they are written.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{HeaderEdit, ResponseEdit};
use crate::provider::file::field::{Field, OneOrMany, Text};
use crate::provider::file::scalar::{Pattern, RedirectStatus, Status};

/// What is done with requests that meet conditions. Rules are gone through in order, before anything
/// else of the route: before its redirect to https, its access list and its `auth`. Texts are
/// templates as in `auth`, with `{1}` to `{9}` for what the groups of the rule's last `matches`
/// captured.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::provider::file) struct Rule {
    /// The `Host` for the upstream, a template.
    pub host: Field<String>,
    /// Answers with a redirect.
    pub redirect: Field<RuleRedirect>,
    /// Changes to the request's headers, after the route's own.
    pub request_headers: Field<HeaderEdit>,
    /// Answers with a response.
    pub respond: Field<RuleRespond>,
    /// Changes to the response's headers, after the route's own.
    pub response_headers: Field<ResponseEdit>,
    /// Changes path and query for the rules after it and for the upstream.
    pub rewrite: Field<RuleRewrite>,
    /// `true`: no further rule. Default: `false`.
    pub stop: Field<bool>,
    /// A condition, or several that must all hold. Default: none, which is every request.
    pub when: Field<OneOrMany<RuleCondition>>,
}

/// A condition on a part of the request. With `value` alone it must be neither empty nor `0`.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["value"]))]
pub(in crate::provider::file) struct RuleCondition {
    /// It must be this.
    pub is: Field<String>,
    /// It must not be this.
    pub is_not: Field<String>,
    /// A regular expression that must be found in it.
    pub matches: Field<Text<Pattern>>,
    /// A regular expression that must not be found in it.
    pub matches_not: Field<Text<Pattern>>,
    /// What is looked at, a template: `{http_user_agent}`.
    pub value: Field<String>,
}

/// A change of the path where an expression is found in it.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["path", "regex"]))]
pub(in crate::provider::file) struct RuleRewrite {
    /// The whole path, a template with `{1}` to `{9}` for what the groups matched. A query behind a
    /// `?` goes before the client's own; a `?` at its end drops that.
    pub path: Field<String>,
    /// What must be found in the path.
    pub regex: Field<Text<Pattern>>,
    /// What is done then. Default: `continue`.
    pub then: Field<RuleNext>,
}

/// What is done after a rewrite.
#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub(in crate::provider::file) enum RuleNext {
    /// The next rule.
    Continue,
    /// A route is looked for by the new path.
    Lookup,
    /// No further rule; `rewrite` of the route is passed over.
    Stop,
}

/// A response made from a template.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::provider::file) struct RuleRespond {
    /// The body, a template. Default: empty.
    pub body: Field<String>,
    /// The media type of a body. Default: `text/plain; charset=utf-8`.
    pub content_type: Field<String>,
    /// The status. Default: 200.
    pub status: Field<Text<Status>>,
}

/// A redirect made from a template.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["to"]))]
pub(in crate::provider::file) struct RuleRedirect {
    /// 301, 302, 303, 307 or 308. Default: 302.
    pub status: Field<Text<RedirectStatus>>,
    /// The URL or path, a template: `https://{host}{request_uri}`.
    pub to: Field<String>,
}

/// Changes to attributes of the cookies that the upstream sets.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::provider::file) struct CookieEdit {
    /// What a Domain becomes; case and a dot before it do not matter.
    pub domain: Field<Replace>,
    /// What the beginning of a Path becomes.
    pub path: Field<Replace>,
}

/// A text, and what it becomes.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["from", "to"]))]
pub(in crate::provider::file) struct Replace {
    /// What it was.
    pub from: Field<String>,
    /// What it becomes.
    pub to: Field<String>,
}
