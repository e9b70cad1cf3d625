//! Rules, and edits of what upstreams say of themselves.

use std::sync::Arc;

use http::{HeaderValue, StatusCode};
use ir::{
    Condition, CookieEdit, Filter, LocationEdit, Next, RedirectTo, Reply, Rewrite, Rule, Scope,
    Step, Template, Test, Text,
};

use super::context::{Context, shown};
use super::{header, template};
use crate::ir;
use crate::provider::file::field::{self, At, Field, List};
use crate::provider::file::raw;
use crate::provider::file::scalar::RedirectStatus;

/// The rules of a host or route.
pub(super) fn rules(context: &mut Context<'_>, field: &Field<List<raw::Rule>>) -> Vec<Rule> {
    let list = field.get().map(|list| list.0.as_slice()).unwrap_or_default();
    list.iter().filter_map(|at| rule(context, at)).collect()
}

fn rule(context: &mut Context<'_>, at: &At<raw::Rule>) -> Option<Rule> {
    let raw = &at.value;
    let mut when = Vec::new();
    let mut scope = Scope::default();
    if let Some(list) = raw.when.given() {
        let List(entries, left_out) = &list.value.0;
        if entries.is_empty() && !left_out {
            let hint = "leave `when` out for every request";
            context.error(list.place, "the rule has no condition", Some(hint));
        }
        for entry in entries {
            when.push(condition(context, entry, &mut scope)?);
        }
    }
    let then = steps(context, at, scope);
    if then.is_empty() && context.usable() {
        let hint = "a rule has `host`, `request_headers`, `response_headers`, `rewrite`, `redirect`, \
                    `respond` or `stop`";
        context.error(at.place, "the rule does nothing", Some(hint));
    }
    Some(Rule { when, then })
}

fn groups(pattern: &str) -> u8 {
    // Patterns were parsed before, so there is one.
    let groups = regex::Regex::new(pattern).map_or(0, |regex| regex.captures_len() - 1);
    u8::try_from(groups.min(9)).unwrap_or(9)
}

fn condition(
    context: &mut Context<'_>,
    at: &At<raw::RuleCondition>,
    scope: &mut Scope,
) -> Option<Condition> {
    let raw = &at.value;
    let Some(value) = raw.value.given() else {
        if raw.value.is_absent() {
            let hint = "for example `{ value: \"{http_user_agent}\", matches: \"(?i)bot\" }`";
            context.error(at.place, "the condition has no `value`", Some(hint));
        }
        return None;
    };
    let value = template::of(context, "value", value, *scope)?;
    let given = [&raw.is, &raw.is_not].map(|field| !field.is_absent());
    let patterns = [&raw.matches, &raw.matches_not].map(|field| !field.is_absent());
    if given.iter().chain(&patterns).filter(|given| **given).count() > 1 {
        let hint = "use one of `is`, `is_not`, `matches` and `matches_not`";
        context.error(at.place, "the condition is more than one", Some(hint));
        return None;
    }
    let text = |at: &At<String>| Text::new(&at.value, at.substituted);
    let test = match (raw.is.given(), raw.is_not.given(), raw.matches.get(), raw.matches_not.get())
    {
        (Some(at), ..) => Test::Is(text(at)),
        (_, Some(at), ..) => Test::IsNot(text(at)),
        (_, _, Some(pattern), _) => {
            scope.groups = groups(&pattern.0.0);
            Test::Matches(pattern.0.0.clone())
        }
        (_, _, _, Some(pattern)) => Test::MatchesNot(pattern.0.0.clone()),
        _ if given.into_iter().chain(patterns).any(|given| given) => return None,
        _ => Test::True,
    };
    Some(Condition { value, test })
}

fn steps(context: &mut Context<'_>, at: &At<raw::Rule>, mut scope: Scope) -> Vec<Step> {
    let raw = &at.value;
    let mut steps = Vec::new();
    if let Some(host) = raw.host.given().and_then(|at| template::of(context, "host", at, scope)) {
        steps.push(Step::Filter(Filter::RewriteHostFrom(host)));
    }
    let request = header::edit(context, &raw.request_headers, scope).map(Filter::RequestHeaders);
    let response = header::response_edit(context, &raw.response_headers, scope);
    steps.extend(request.into_iter().chain(response).map(Step::Filter));
    if let Some(at) = raw.rewrite.given() {
        steps.extend(rewrite(context, at, &mut scope).map(Step::Rewrite));
    }
    let ends = [!raw.redirect.is_absent(), !raw.respond.is_absent(), !raw.stop.is_absent()];
    if ends.into_iter().filter(|end| *end).count() > 1 {
        let hint = "use one of `redirect`, `respond` and `stop`";
        context.error(at.place, "the rule ends in more than one way", Some(hint));
    }
    if let Some(at) = raw.redirect.given() {
        let raw::RuleRedirect { status, to } = &at.value;
        steps.extend(redirect(context, at, to, status, scope).map(Step::Redirect));
    }
    if let Some(at) = raw.respond.given() {
        steps.extend(reply(context, at, scope).map(Step::Respond));
    }
    if raw.stop.get() == Some(&true) {
        steps.push(Step::Stop);
    }
    steps
}

fn rewrite(
    context: &mut Context<'_>,
    at: &At<raw::RuleRewrite>,
    scope: &mut Scope,
) -> Option<Rewrite> {
    let raw = &at.value;
    if raw.path.is_absent() || raw.regex.is_absent() {
        let hint = "for example `{ regex: \"^/old/(.*)\", path: \"/new/{1}\" }`";
        context.error(at.place, "the rewrite needs `regex` and `path`", Some(hint));
    }
    let pattern = raw.regex.get()?.0.0.clone();
    scope.groups = groups(&pattern);
    let text = raw.path.given()?;
    let path = template::of(context, "path", text, *scope)?;
    let clean = text.value.bytes().all(|b| b.is_ascii_graphic() && b != b'#');
    if !text.value.starts_with(['/', '{']) || !clean {
        let hint = "it starts with `/` or a group, is percent-encoded, and may have a query";
        context.error(text.place, format!("{} is no path", shown(text)), Some(hint));
        return None;
    }
    let next = match raw.then.get() {
        None | Some(raw::RuleNext::Continue) => Next::Continue,
        Some(raw::RuleNext::Lookup) => Next::Lookup,
        Some(raw::RuleNext::Stop) => Next::Stop,
    };
    Some(Rewrite { pattern, path, next })
}

/// A redirect to what a template comes to.
pub(super) fn redirect<T>(
    context: &mut Context<'_>,
    at: &At<T>,
    to: &Field<String>,
    status: &Field<field::Text<RedirectStatus>>,
    scope: Scope,
) -> Option<RedirectTo> {
    let Some(text) = to.given() else {
        if to.is_absent() {
            let hint = "for example `https://{host}{request_uri}`";
            context.error(at.place, "the redirect does not say where `to`", Some(hint));
        }
        return None;
    };
    let to = template::of(context, "to", text, scope)?;
    let sound = ["/", "http://", "https://", "{"].iter().any(|start| text.value.starts_with(start));
    if !sound || text.value.contains(' ') || text.value.starts_with("//") {
        let hint = "it is a path, or a URL with `http` or `https`";
        context.error(text.place, format!("to: {} is no URL", shown(text)), Some(hint));
        return None;
    }
    Some(RedirectTo { status: status.get().map_or(StatusCode::FOUND, |status| status.0.0), to })
}

fn reply(context: &mut Context<'_>, at: &At<raw::RuleRespond>, scope: Scope) -> Option<Reply> {
    let raw = &at.value;
    let body = match raw.body.given() {
        Some(body) => template::of(context, "body", body, scope)?,
        None => Template::of([]),
    };
    let content_type = match raw.content_type.given() {
        Some(at) if HeaderValue::from_str(&at.value).is_err() || at.value.is_empty() => {
            context.error(at.place, format!("{} is no media type", shown(at)), None);
            return None;
        }
        Some(at) => at.value.as_str().into(),
        None => Arc::from("text/plain; charset=utf-8"),
    };
    let status = raw.status.get().map_or(StatusCode::OK, |status| status.0.0);
    if matches!(status.as_u16(), 204 | 205 | 304) && !body.pieces().is_empty() {
        let message = format!("a {} response has no body", status.as_u16());
        context.error(at.place, message, Some("leave the body out, or use another status"));
    }
    Some(Reply { status, body, content_type })
}

/// Edits of cookies.
pub(super) fn cookies(context: &mut Context<'_>, field: &Field<raw::CookieEdit>) -> Option<Filter> {
    let at = field.given()?;
    let edit = CookieEdit {
        domain: replace(context, "domain", &at.value.domain),
        path: replace(context, "path", &at.value.path),
    };
    if edit == CookieEdit::default() {
        if at.value.domain.is_absent() && at.value.path.is_absent() {
            let hint = "give `domain` or `path`";
            context.error(at.place, "nothing of the cookies is changed", Some(hint));
        }
        return None;
    }
    Some(Filter::ResponseCookies(edit))
}

fn replace(
    context: &mut Context<'_>,
    key: &str,
    field: &Field<raw::Replace>,
) -> Option<ir::Replace> {
    let (from, to) = pair(context, key, field.given()?)?;
    let odd = |c: char| c.is_control() || matches!(c, ';' | ',' | '"' | ' ');
    for at in [from, to] {
        if at.value.contains(odd) || !at.value.is_ascii() {
            let message = format!("{key}: {} cannot stand in a cookie", shown(at));
            context.error(at.place, message, None);
            return None;
        }
    }
    Some(ir::Replace { from: from.value.as_str().into(), to: to.value.as_str().into() })
}

/// Edits of `Location` and `Refresh`.
pub(super) fn location(context: &mut Context<'_>, field: &Field<raw::Replace>) -> Option<Filter> {
    let (from, to) = pair(context, "response_location", field.given()?)?;
    let to = template::of(context, "to", to, Scope::default())?;
    Some(Filter::ResponseLocation(LocationEdit { from: from.value.as_str().into(), to }))
}

fn pair<'r>(
    context: &mut Context<'_>,
    key: &str,
    at: &'r At<raw::Replace>,
) -> Option<(&'r At<String>, &'r At<String>)> {
    let raw::Replace { from, to } = &at.value;
    if from.is_absent() || to.is_absent() {
        let hint = "write `{ from: …, to: … }`";
        context.error(at.place, format!("{key} needs `from` and `to`"), Some(hint));
    }
    from.given().zip(to.given())
}
