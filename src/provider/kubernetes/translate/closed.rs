//! Paths that cannot be read: which requests they would have been for, at the most. Where their
//! Ingress restricts access these are answered 503 and never get to another Ingress.
//!
//! Knows nothing of why a path cannot be read.

use std::collections::hash_map::Entry;
use std::sync::Arc;

use http::StatusCode;
use ir::{Action, HostPattern, Name, Origin, PathMatch};
use k8s_openapi::api::networking::v1::HTTPIngressPath;

use super::Object;
use super::backend::unreached;
use super::draft::Placed;
use super::host::{Place, route};
use super::path::{Kind, RulePath};
use super::rule::rule;
use crate::ir;
use crate::provider::kubernetes::report::{Finding, origin};

impl Place<'_, '_> {
    /// A path that cannot be read. Whom its Ingress lets in is not said by any other, so where it
    /// restricts access nobody gets past it. One that restricts nothing takes no requests from
    /// others, as they open nothing by serving them: it is just left out.
    pub(super) fn refused(
        &mut self,
        index: usize,
        object: &mut Object<'_>,
        pattern: &HostPattern,
        path: &HTTPIngressPath,
        why: String,
        subject: &str,
    ) {
        let (backend, subject) = (subject, format!("{subject}.path"));
        let closed = Closed::of(path, self.traits.regex.contains(pattern));
        let Some(host) = self.hosts.get_mut(pattern).filter(|_| object.policy.restricts()) else {
            object.report.add(Finding::refused(subject, why));
            return;
        };
        object.report.add(Finding::refused(subject, format!("{why}; {}", closed.consequence())));
        let Entry::Vacant(free) = self.taken.entry((pattern.clone(), closed.path.clone())) else {
            return;
        };
        free.insert((object.key.clone(), host.routes.len()));
        let label = format!("{pattern}{}", closed.path.label());
        let name = Name::from(format!("{}/{label}", object.key));
        let origin = Origin { rule: Name::from(label), ..origin("Ingress", object.key) };
        unreached(object, &path.backend, backend, self.upstreams);
        let action = Action::Fail { status: StatusCode::SERVICE_UNAVAILABLE, reason: why };
        let mut route = route(&object.policy, name, origin, closed.matches(), action);
        let options = self.traits.options;
        route.https_redirect = self.traits.https(&object.policy, pattern);
        route.hsts.clone_from(&options.hsts);
        route.rule = rule(object.key, &closed.path, &path.backend, None, self.upstreams, options);
        let path = closed.path;
        host.routes.push(Placed { path, owner: index, route, main: None, canary: None });
    }
}

/// A path that cannot be read, and what is closed for it.
struct Closed {
    /// As it was written: among expressions this says its turn. No request is matched by it.
    path: RulePath,
    /// What it would have been for begins so.
    reach: String,
    /// Whether `reach` ends with a whole segment and nothing else begins so.
    whole: bool,
}

impl Closed {
    /// What is closed for `path` of a host whose paths are expressions where `regex`.
    fn of(path: &HTTPIngressPath, regex: bool) -> Self {
        let text = path.path.as_deref().filter(|text| !text.is_empty()).unwrap_or("/");
        let kind = match path.path_type.as_str() {
            "Exact" => Kind::Exact,
            "Prefix" => Kind::Prefix,
            _ => Kind::Implementation,
        };
        let (reach, whole) = match regex {
            true => (literal(text), false),
            false => resolved(text, kind),
        };
        Self { path: RulePath { kind, text: text.into(), regex }, reach, whole }
    }

    /// What becomes of requests, as the end of a sentence.
    fn consequence(&self) -> String {
        let case = if self.path.regex && self.reach.len() > 1 { ", in any case," } else { "" };
        let reach = &self.reach;
        format!(
            "as its Ingress restricts access, requests to paths that begin with `{reach}`{case} are \
             answered 503"
        )
    }

    fn matches(&self) -> PathMatch {
        let reach: Arc<str> = self.reach.as_str().into();
        match (self.path.regex, self.whole) {
            (true, _) => PathMatch::Regex(format!("(?i:{})(?s:.*)", regex::escape(&reach)).into()),
            (false, true) => PathMatch::Prefix(reach),
            (false, false) => PathMatch::StartsWith(reach),
        }
    }
}

/// The longest text that everything begins with that the expression `text` may match where paths
/// begin with it; `/` where there is none. `text` need not be an expression.
fn literal(text: &str) -> String {
    let mut found = String::new();
    let mut rest = text.chars();
    while let Some(next) = rest.next() {
        let plain = match next {
            '\\' => rest.next().filter(|escaped| "-_.~!$&'()*+,;=:@/".contains(*escaped)),
            _ => Some(next)
                .filter(|next| next.is_ascii_alphanumeric() || "-_~!&',;=:@/".contains(*next)),
        };
        // No request has two slashes in a row; what was meant by them is unknown.
        let plain = plain.filter(|plain| *plain != '/' || !found.ends_with('/'));
        match plain {
            Some(plain) => found.push(plain),
            None => {
                // What may be repeated may also be absent.
                if matches!(next, '?' | '*' | '{') {
                    found.pop();
                }
                break;
            }
        }
    }
    // Each of several alternatives begins in its own way.
    if !found.starts_with('/') || has_alternatives(text) {
        return "/".to_owned();
    }
    found
}

/// Whether the expression `text` has alternatives outside of all groups.
fn has_alternatives(text: &str) -> bool {
    let (mut depth, mut class, mut escaped) = (0_usize, false, false);
    for next in text.chars() {
        match next {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '[' => class = true,
            ']' => class = false,
            _ if class => {}
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            '|' if depth == 0 => return true,
            _ => {}
        }
    }
    false
}

/// Where a path that is no expression leads once its empty and dotted segments are gone, as far as
/// it can be read, and whether that is all of it.
fn resolved(text: &str, kind: Kind) -> (String, bool) {
    let mut segments = Vec::new();
    for segment in text.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(segments.pop()),
            segment => segments.push(segment),
        }
    }
    let text = format!("/{}", segments.join("/"));
    let read = |text: &str| RulePath::read(Some(text), "ImplementationSpecific", false).ok();
    if let Some(read) = read(&text) {
        return (read.text.to_string(), kind != Kind::Implementation);
    }
    let escapes = text.match_indices('%').rev();
    let before = escapes.filter_map(|(at, _)| read(text.get(..at)?)).next();
    (before.map_or_else(|| "/".to_owned(), |before| before.text.to_string()), false)
}

#[cfg(test)]
mod tests;
