//! Snippets: constant edits of headers become filters. Of the rest every line is named, and one
//! that keeps requests out lets nobody in.

use http::{HeaderName, HeaderValue};
use ir::{Filter, HeaderEdit, HeaderText};

use super::{Mapping, auth};
use crate::ir;
use crate::provider::kubernetes::annotation::snippet::{Directive, Kind, Snippet};
use crate::provider::kubernetes::annotation::{Snippets, Template};
use crate::provider::kubernetes::report::Verdict;

impl Mapping<'_> {
    pub(super) fn snippets(&mut self, values: &Snippets) {
        if let Some(snippet) = &values.configuration {
            self.mapped.insert("configuration-snippet");
            self.snippet("configuration-snippet", snippet, filter);
        }
        if let Some(snippet) = &values.server {
            self.snippet("server-snippet", snippet, |_| Err("is not honoured for a whole host"));
        }
    }

    fn snippet(
        &mut self,
        name: &'static str,
        snippet: &Snippet,
        filter: impl Fn(&Kind) -> Result<Filter, &'static str>,
    ) {
        let mut left = Vec::new();
        let mut statuses = false;
        for directive in &snippet.directives {
            match filter(&directive.kind) {
                Ok(filter) => {
                    statuses |=
                        matches!(directive.kind, Kind::AddResponseHeader { always: false, .. });
                    self.policy.filters.push(filter);
                }
                Err(why) => left.push(format!("line {} {why}", directive.line)),
            }
        }
        if let Some(directive) = snippet.directives.iter().find(|directive| keeps_out(directive)) {
            let line = directive.line;
            let text = format!("line {line} answers or refuses requests, which is not honoured");
            self.note(name, Verdict::Refused, format!("{text}; requests are answered 503"));
            self.policy.deny(format!("{name}: {text}"));
        } else if !left.is_empty() {
            let some = left.len() < snippet.directives.len();
            let start = if some { "is honoured in part: " } else { "" };
            self.note(name, Verdict::Omitted, format!("{start}{}", left.join("; ")));
        } else if statuses {
            let text = "is honoured, and add_header without `always` whatever the status";
            self.note(name, Verdict::Differs, text);
        }
    }
}

/// Whether requests are turned away by it, or all of them answered here.
fn keeps_out(directive: &Directive) -> bool {
    fn refuses(directive: &Directive) -> bool {
        match &directive.kind {
            Kind::Return { status, .. } => status.as_u16() >= 400,
            Kind::If { then, .. } => then.iter().any(refuses),
            _ => false,
        }
    }
    matches!(directive.kind, Kind::Return { .. } | Kind::Redirect { .. }) || refuses(directive)
}

/// The edit that a directive is.
fn filter(kind: &Kind) -> Result<Filter, &'static str> {
    let edit = match kind {
        Kind::SetResponseHeader { name, value } => {
            return Ok(Filter::ResponseHeaders(set(name, value)?));
        }
        Kind::AddResponseHeader { name, value, .. } => {
            let add = text(name, value)?.into_iter().collect();
            return Ok(Filter::ResponseHeaders(HeaderEdit { add, ..HeaderEdit::default() }));
        }
        // `*` may stand in a name, and here it stands for more.
        Kind::RemoveResponseHeader { name } if name.contains('*') => {
            return Err("is not honoured: headers are taken away by their whole names");
        }
        Kind::RemoveResponseHeader { name } => {
            let name = name.parse().map_err(|_| "is not honoured: it is no name of a header")?;
            return Ok(Filter::ResponseHeaders(set(&name, &Template::default())?));
        }
        Kind::SetRequestHeader { name, value } if *name == http::header::HOST => {
            let host = value.as_literal().filter(|host| !host.is_empty());
            return host.map(|host| Filter::RewriteHost(host.into())).ok_or(VARIABLES);
        }
        Kind::SetRequestHeader { name, value } => set(name, value)?,
        Kind::Return { .. } | Kind::Redirect { .. } | Kind::Rewrite { .. } | Kind::If { .. } => {
            return Err("is not honoured: only constant edits of headers are");
        }
    };
    Ok(Filter::RequestHeaders(edit))
}

const VARIABLES: &str = "is not honoured: variables are not filled in here";

/// A value in the place of all others; an empty one takes them away.
fn set(name: &HeaderName, value: &Template) -> Result<HeaderEdit, &'static str> {
    Ok(match text(name, value)? {
        Some(field) => HeaderEdit { set: vec![field], ..HeaderEdit::default() },
        None => HeaderEdit { remove: vec![name.clone()], ..HeaderEdit::default() },
    })
}

/// The field; none where its value is empty.
fn text(name: &HeaderName, value: &Template) -> Result<Option<HeaderText>, &'static str> {
    if auth::rules(name) {
        return Err("is not honoured: the header frames messages or rules connections");
    }
    if value.pieces().is_empty() {
        return Ok(None);
    }
    let value = value.as_literal().ok_or(VARIABLES)?;
    let value = HeaderValue::from_str(value).map_err(|_| "is not honoured: it is no value")?;
    Ok(Some(HeaderText { name: name.clone(), value }))
}
