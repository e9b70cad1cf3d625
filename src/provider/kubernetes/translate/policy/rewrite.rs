//! Paths as expressions, and what back ends get in their place.

use std::sync::Arc;

use http::{HeaderName, StatusCode};
use ir::{
    Action, Filter, HeaderEdit, HeaderTemplate, Next, PathRewrite, RegexRewrite, Rule, Scope, Step,
    Text,
};

use super::snippet::away;
use super::{Mapping, within};
use crate::ir;
use crate::provider::kubernetes::annotation::{
    Piece, Rewrite as Values, RewriteTarget, Template, Variable,
};
use crate::provider::kubernetes::report::Verdict;

/// What becomes of the path of a rule.
#[derive(Clone, Debug, Default)]
pub(in crate::provider::kubernetes::translate) struct Rewrite {
    /// What the path becomes, with groups as `$1`.
    target: Option<Target>,
    /// Whether the paths of its hosts are expressions in any case.
    use_regex: bool,
    /// The `X-Forwarded-Prefix` that goes with a rewritten path.
    prefix: Option<ir::Template>,
}

#[derive(Clone, Debug)]
enum Target {
    Path(Arc<str>),
    Redirect {
        scheme: Arc<str>,
        host: Arc<str>,
        port: Option<u16>,
        path: Arc<str>,
    },
    /// A path with more of the request in it than groups.
    Open(ir::Template),
    /// A URL of that kind.
    OpenRedirect(ir::Template),
}

impl Rewrite {
    /// Whether a rule with `path` turns all paths of its host into expressions.
    pub fn wants_regex(&self, path: &str) -> bool {
        self.use_regex || self.changes(path)
    }

    /// Whether `path` becomes something else.
    fn changes(&self, path: &str) -> bool {
        match &self.target {
            Some(Target::Path(target)) => **target != *path,
            Some(Target::Redirect { .. } | Target::Open(_) | Target::OpenRedirect(_)) => true,
            None => false,
        }
    }

    /// Whether requests are sent to another URL, whatever their path is.
    pub fn leads_away(&self) -> bool {
        matches!(self.target, Some(Target::Redirect { .. } | Target::OpenRedirect(_)))
    }

    /// The edits of requests for a rule with `path`.
    pub fn filters(&self, path: &str) -> Vec<Filter> {
        let mut filters = Vec::new();
        match self.target.as_ref().filter(|_| self.changes(path)) {
            Some(Target::Path(target)) => {
                filters.push(Filter::RewritePath(PathRewrite::Regex(replace(path, target))));
            }
            Some(Target::Open(_)) => {}
            Some(Target::Redirect { .. } | Target::OpenRedirect(_)) | None => return filters,
        }
        if let Some(template) = self.prefix.clone() {
            let name = HeaderName::from_static("x-forwarded-prefix");
            let set_from = vec![HeaderTemplate { name, template }];
            filters.push(Filter::RequestHeaders(HeaderEdit { set_from, ..HeaderEdit::default() }));
        }
        filters
    }

    /// The rules for a rule with `path`, where filters cannot say it.
    pub fn rules(&self, path: &str) -> Vec<Rule> {
        let pattern = format!("(?i){path}");
        match &self.target {
            Some(Target::Open(target)) => {
                let (pattern, path) = (pattern.into(), target.clone());
                let rewrite = Step::Rewrite(ir::Rewrite { pattern, path, next: Next::Stop });
                vec![Rule { when: Vec::new(), then: vec![rewrite] }]
            }
            Some(Target::OpenRedirect(to)) => away(Vec::new(), &pattern, to, StatusCode::FOUND),
            Some(Target::Path(_) | Target::Redirect { .. }) | None => Vec::new(),
        }
    }

    /// The answer to requests for a rule with `path`, where they are sent to another URL.
    pub fn answer(&self, path: &str) -> Option<Action> {
        let Some(Target::Redirect { scheme, host, port, path: to }) = &self.target else {
            return None;
        };
        Some(Action::Redirect(ir::Redirect {
            scheme: Some(scheme.clone()),
            host: Some(host.clone()),
            port: *port,
            path: Some(PathRewrite::Regex(replace(path, to))),
            status: StatusCode::FOUND,
        }))
    }
}

/// As the `rewrite` of nginx: found anywhere, whatever the case, and all of the path goes.
fn replace(path: &str, target: &Arc<str>) -> RegexRewrite {
    RegexRewrite { pattern: format!("(?i){path}").into(), replacement: Text::Plain(target.clone()) }
}

impl Mapping<'_> {
    pub(super) fn rewrite(&mut self, values: &Values, prefix: Option<&Template>) {
        self.mapped.extend(["rewrite-target", "use-regex", "x-forwarded-prefix"]);
        self.policy.rewrite.use_regex = values.use_regex == Some(true);
        let prefix = prefix.map(|prefix| within(prefix, self.key, Scope::default()));
        match (&values.target, prefix) {
            (_, None) => {}
            (None, Some(_)) => {
                let text = "has no effect without `rewrite-target`";
                self.note("x-forwarded-prefix", Verdict::Differs, text);
            }
            (_, Some(Ok(prefix))) => self.policy.rewrite.prefix = Some(prefix),
            (_, Some(Err(why))) => {
                let text = format!("is not honoured: {why}");
                self.note("x-forwarded-prefix", Verdict::Omitted, text);
            }
        }
        let scope = Scope { groups: 9, response: false };
        let target = match &values.target {
            None => return,
            Some(RewriteTarget::Path(template)) => match replacement(template) {
                Some(path) => Ok(Target::Path(path)),
                None => within(template, self.key, scope).map(Target::Open),
            },
            Some(RewriteTarget::Redirect(template)) => {
                match replacement(template).and_then(|text| redirect(&text)) {
                    Some(target) => Ok(target),
                    None => within(template, self.key, scope).map(Target::OpenRedirect),
                }
            }
        };
        match target {
            Ok(target) => self.policy.rewrite.target = Some(target),
            Err(why) => {
                let text = format!("is not honoured: {why}; requests are answered 503");
                self.note("rewrite-target", Verdict::Refused, text);
                self.policy.deny(format!("rewrite-target: {why}"));
            }
        }
    }
}

/// The text with its groups; `None` where other variables or a bare `$` are in it.
fn replacement(template: &Template) -> Option<Arc<str>> {
    let mut out = String::new();
    for piece in template.pieces() {
        match piece {
            Piece::Literal(text) if text.contains('$') => return None,
            Piece::Literal(text) => out.push_str(text),
            Piece::Variable(Variable::Capture(number)) => out.push_str(&format!("${{{number}}}")),
            Piece::Variable(_) => return None,
        }
    }
    Some(out.into())
}

fn redirect(url: &str) -> Option<Target> {
    let (scheme, rest) = url.split_once("://")?;
    let at = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at_checked(at)?;
    if authority.contains(['$', '@']) {
        return None;
    }
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port.parse().ok()?)),
        _ => (authority, None),
    };
    Some(Target::Redirect {
        scheme: scheme.to_ascii_lowercase().into(),
        host: host.into(),
        port,
        path: if path.is_empty() { "/".into() } else { path.into() },
    })
}
