//! What becomes of a matching request.

use std::path::Path;
use std::sync::Arc;

use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode};
use ir::{Action, BackendRef, HeaderText, Name, Redirect, RedirectTo, Respond, Scope, Text};

use super::context::{Context, shown};
use super::host::Names;
use super::{header, or, route, rule};
use crate::ir;
use crate::provider::file::field::{At, List};
use crate::provider::file::raw;

const CHOICES: &str = "a route has one of `upstream`, `upstreams`, `redirect` and `respond`";

pub(super) fn action(
    context: &mut Context<'_>,
    at: &At<raw::Route>,
    names: &Names<'_>,
) -> Option<Action> {
    let raw = &at.value;
    let given = [
        !raw.upstream.is_absent(),
        !raw.upstreams.is_absent(),
        !raw.redirect.is_absent(),
        !raw.respond.is_absent(),
    ];
    match given.into_iter().filter(|given| *given).count() {
        1 => {}
        0 => {
            context.error(at.place, "the route does nothing", Some(CHOICES));
            return None;
        }
        _ => {
            context.error(at.place, "the route has more than one action", Some(CHOICES));
            return None;
        }
    }
    if let Some(name) = raw.upstream.given() {
        names.check(context, "upstream", name);
        let upstream = Name::from(&*name.value);
        return Some(Action::Forward(vec![BackendRef { upstream, weight: 1 }]));
    }
    if let Some(list) = raw.upstreams.given() {
        return backends(context, list, names);
    }
    if let Some(redirect) = raw.redirect.given() {
        if !redirect.value.to.is_absent() {
            return redirect_to(context, redirect).map(Action::RedirectTo);
        }
        return self::redirect(context, raw, redirect).map(Action::Redirect);
    }
    raw.respond.given().and_then(|at| respond(context, at)).map(Action::Respond)
}

fn backends(
    context: &mut Context<'_>,
    list: &At<List<raw::Backend>>,
    names: &Names<'_>,
) -> Option<Action> {
    let mut backends: Vec<BackendRef> = Vec::with_capacity(list.value.0.len());
    for at in &list.value.0 {
        let Some(name) = at.value.name.given() else {
            if at.value.name.is_absent() {
                let hint = "for example `{ name: cart, weight: 9 }`";
                context.error(at.place, "the upstream has no `name`", Some(hint));
            }
            continue;
        };
        names.check(context, "upstream", name);
        if backends.iter().any(|backend| backend.upstream.as_str() == name.value) {
            let message = format!("the upstream {} is listed twice", shown(name));
            context.error(name.place, message, Some("give it one entry with a `weight`"));
        }
        let upstream = Name::from(&*name.value);
        backends.push(BackendRef { upstream, weight: or(&at.value.weight, 1) });
    }
    if backends.iter().all(|backend| backend.weight == 0) && !list.value.1 {
        let hint = "at least one upstream needs a `weight` above 0";
        context.error(list.place, "the route leads to no upstream", Some(hint));
        return None;
    }
    Some(Action::Forward(backends))
}

fn redirect_to(context: &mut Context<'_>, at: &At<raw::Redirect>) -> Option<RedirectTo> {
    let raw::Redirect { host, path, port, prefix, regex, scheme, status, to } = &at.value;
    let others = [host, path, prefix].iter().any(|field| !field.is_absent());
    if others || !port.is_absent() || !regex.is_absent() || !scheme.is_absent() {
        let hint = "write it into `to`";
        context.error(at.place, "`to` is the whole URL, and there is more", Some(hint));
    }
    rule::redirect(context, at, to, status, Scope::default())
}

fn redirect(
    context: &mut Context<'_>,
    route: &raw::Route,
    at: &At<raw::Redirect>,
) -> Option<Redirect> {
    let raw = &at.value;
    let same = raw.scheme.is_absent()
        && raw.host.is_absent()
        && raw.port.is_absent()
        && raw.path.is_absent()
        && raw.prefix.is_absent()
        && raw.regex.is_absent();
    if same {
        let hint = "add `scheme`, `host`, `port`, `path`, `prefix` or `to`";
        context.error(at.place, "the redirect leads back to where it came from", Some(hint));
        return None;
    }
    if let Some(port) = raw.port.given().filter(|port| port.value == 0) {
        context.error(port.place, "port: there is no port 0", None);
    }
    Some(Redirect {
        scheme: raw.scheme.get().map(|scheme| match scheme {
            raw::Scheme::Http => Arc::from("http"),
            raw::Scheme::Https => Arc::from("https"),
        }),
        host: raw.host.given().and_then(|at| route::host_name(context, at, false)),
        port: raw.port.get().copied(),
        path: route::path_rewrite(context, route, &raw.path, &raw.prefix, &raw.regex),
        status: raw.status.get().map_or(StatusCode::FOUND, |status| status.0.0),
    })
}

fn respond(context: &mut Context<'_>, at: &At<raw::Respond>) -> Option<Respond> {
    let raw = &at.value;
    let given = [!raw.body.is_absent(), !raw.body_file.is_absent(), !raw.json.is_absent()];
    if given.into_iter().filter(|given| *given).count() > 1 {
        let hint = "use one of `body`, `body_file` and `json`";
        context.error(at.place, "the response has more than one body", Some(hint));
        return None;
    }
    let (body, kind) = if let Some(text) = raw.body.given() {
        (Text::new(&text.value, text.substituted), "text/plain; charset=utf-8")
    } else if let Some(path) = raw.body_file.given() {
        (body_file(context, path)?, content_type(&path.value))
    } else if let Some(json) = raw.json.given() {
        (Text::new(&json.value.0.to_string(), json.substituted), "application/json")
    } else {
        (Text::from(""), "")
    };
    let status = raw.status.get().map_or(StatusCode::OK, |status| status.0.0);
    if matches!(status.as_u16(), 204 | 205 | 304) && !body.is_empty() {
        let message = format!("a {} response has no body", status.as_u16());
        context.error(at.place, message, Some("leave the body out, or use another status"));
    }
    let mut headers = header::fields(context, &raw.headers);
    if !body.is_empty() && headers.iter().all(|field| field.name != CONTENT_TYPE) {
        let value = HeaderValue::from_static(kind);
        headers.push(HeaderText { name: CONTENT_TYPE, value });
    }
    Some(Respond { status, headers, body })
}

/// The text of a response's file. Without it there is nothing to answer, so this error concerns
/// the whole configuration.
fn body_file(context: &mut Context<'_>, path: &At<String>) -> Option<Text> {
    let (bytes, error) = context.read(path.place, Path::new(&path.value));
    if let Some(error) = error {
        let message = format!("cannot read the body from {}: {error}", shown(path));
        let hint = "a relative path starts at the directory of this file";
        context.error(path.place, message, Some(hint));
        return None;
    }
    match std::str::from_utf8(bytes?.expose()) {
        Ok(text) => Some(text.into()),
        Err(_) => {
            let message = format!("the body in {} is not UTF-8 text", shown(path));
            context.error(path.place, message, Some("serve other files from an upstream"));
            None
        }
    }
}

fn content_type(path: &str) -> &'static str {
    match Path::new(path).extension().and_then(|extension| extension.to_str()) {
        Some("css") => "text/css; charset=utf-8",
        Some("html" | "htm") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("json") => "application/json",
        Some("svg") => "image/svg+xml",
        Some("xml") => "application/xml",
        _ => "text/plain; charset=utf-8",
    }
}
