//! What the expression of a path captures, for a snippet outside of its own expressions.

use ir::{Condition, Filter, Piece, Route, Rule, Step, Template, Test, Variable};

use crate::ir;
use crate::provider::kubernetes::annotation;
use crate::provider::kubernetes::annotation::snippet::{Directive, Kind};

/// Whether `directive` takes what an expression before it captured.
pub(super) fn takes(directive: &Directive) -> bool {
    let text = match &directive.kind {
        Kind::SetResponseHeader { value, .. }
        | Kind::AddResponseHeader { value, .. }
        | Kind::SetRequestHeader { value, .. } => value,
        Kind::Return { body, .. } => body,
        Kind::Redirect { target, .. } => target,
        Kind::If { condition, then, .. } => {
            return condition.groups().is_none() && then.iter().any(takes);
        }
        // Its groups are its own.
        Kind::RemoveResponseHeader { .. } | Kind::Rewrite { .. } => return false,
    };
    text.variables().any(|variable| matches!(variable, annotation::Variable::Capture(_)))
}

/// Whether `directive` has an expression itself.
pub(super) fn matches(directive: &Directive) -> bool {
    match &directive.kind {
        Kind::Rewrite { .. } => true,
        Kind::If { condition, then, .. } => {
            condition.groups().is_some() || then.iter().any(matches)
        }
        _ => false,
    }
}

/// Lets the edits and rules of `route` have what the expression `path` captures, for which the
/// route is. Edits go by what was captured only as rules; they hold whatever that is.
pub(in crate::provider::kubernetes::translate) fn capture(path: &str, route: &mut Route) {
    let of_rules = |filter: &Filter| {
        matches!(
            filter,
            Filter::RequestHeaders(_)
                | Filter::ResponseHeaders(_)
                | Filter::RewriteHost(_)
                | Filter::RewriteHostFrom(_)
        )
    };
    let (edits, kept) = std::mem::take(&mut route.filters).into_iter().partition(of_rules);
    route.filters = kept;
    let edits: Vec<Filter> = edits;
    let found = Condition {
        value: Template::of([Piece::Variable(Variable::Uri)]),
        test: Test::Matches(format!("(?i)^(?:{path})").into()),
    };
    let first = Rule { when: vec![found], then: Vec::new() };
    let edits = Rule { when: Vec::new(), then: edits.into_iter().map(Step::Filter).collect() };
    let rules = [first, edits].into_iter().chain(std::mem::take(&mut route.rules));
    route.rules = rules.collect();
}
