//! The locations of a `server-snippet` among one another and beside the paths of Ingresses: which of
//! them is for a request, as nginx decides that.
//!
//! One that is exact comes first. Of prefixes the longest counts, those of Ingresses among them;
//! where it is none of `^~`, the first expression that is found in the path comes before it. An
//! Ingress' own path that is no longer than a location's does not come before it, and neither do
//! paths that are expressions: what a location keeps out stays out.

use std::cmp::Reverse;

use ir::{Condition, Piece, Rule, Template, Test, Variable};
use regex::{Regex, escape};

use super::path::{Kind, RulePath};
use crate::ir;
use crate::provider::kubernetes::annotation::snippet::Location;
use crate::util::escape::decoded;

/// How many paths one expression excepts: it must not turn out too large.
const AT_ONCE: usize = 100;

/// The rules of `locations` in the order in which they are to be tried, without the paths that are
/// for others: for longer locations, and for those that Ingresses have.
pub(super) fn rules(locations: &[(Location, Rule)], paths: &[&RulePath]) -> Vec<Rule> {
    let mut ordered: Vec<_> = locations.iter().collect();
    // Stable: of expressions the first counts.
    ordered.sort_by_key(|(location, _)| match location {
        Location::Exact(_) => (0, Reverse(0)),
        Location::First(path) => (1, Reverse(path.len())),
        Location::Expression(_) => (2, Reverse(0)),
        Location::Prefix(path) => (3, Reverse(path.len())),
    });
    let rule = |(location, rule): &(Location, Rule)| {
        let mut others = of_ingresses(location, paths);
        if let Location::First(path) = location {
            others.extend(locations.iter().filter_map(|(other, _)| match other {
                Location::Prefix(longer)
                    if longer.len() > path.len() && longer.starts_with(&**path) =>
                {
                    Some(escape(longer))
                }
                _ => None,
            }));
        }
        let mut rule = rule.clone();
        rule.when.extend(others.chunks(AT_ONCE).map(without));
        rule
    };
    ordered.into_iter().map(rule).collect()
}

/// What is for paths of Ingresses, of what `location` is for.
fn of_ingresses(location: &Location, paths: &[&RulePath]) -> Vec<String> {
    let literal = paths.iter().filter(|path| !path.regex);
    match location {
        Location::Exact(_) => Vec::new(),
        Location::First(prefix) | Location::Prefix(prefix) => {
            let longer = literal.filter(|path| is_longer(&text(path), prefix));
            longer.map(|path| below(path)).collect()
        }
        // Paths of whole segments are exact ones, too.
        Location::Expression(pattern) => {
            let Ok(regex) = Regex::new(pattern.as_str()) else { return Vec::new() };
            let exact = literal.filter(|path| path.kind != Kind::Implementation);
            let found = exact.filter(|path| !path.is_root() && regex.is_match(&text(path)));
            found.map(|path| format!("{}$", escape(&text(path)))).collect()
        }
    }
}

/// Whether `path` begins with `prefix` and goes on.
fn is_longer(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| !rest.trim_end_matches('/').is_empty())
}

/// The paths that are a route's, as an expression behind their beginning.
fn below(path: &RulePath) -> String {
    let text = text(path);
    match path.kind {
        Kind::Exact => format!("{}$", escape(&text)),
        Kind::Prefix => format!("{}(?:/|$)", escape(text.trim_end_matches('/'))),
        Kind::Implementation => escape(&text),
    }
}

/// The path as conditions see it.
fn text(path: &RulePath) -> String {
    String::from_utf8_lossy(&decoded(&path.text)).into_owned()
}

/// That a path is none of these.
fn without(paths: &[String]) -> Condition {
    let value = Template::of([Piece::Variable(Variable::Uri)]);
    Condition { value, test: Test::MatchesNot(format!("^(?:{})", paths.join("|")).into()) }
}

#[cfg(test)]
mod tests;
