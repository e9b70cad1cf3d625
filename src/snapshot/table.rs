//! The routes of one host: owns the order in which they are tried, and the lookup.
//!
//! Precedence is settled when the table is built, so a lookup is one walk of the path index and a
//! scan of the few routes whose path holds. It never allocates, except where an expression has to
//! see a joined header or a decoded query value of more than 256 bytes, and where the regex engine
//! first works for a thread.
//!
//! Knows nothing of hosts, nor of what a route does.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::ops::Range;
use std::sync::Arc;

use http::{HeaderMap, Method};

use super::explain::{Outcome, PathCondition, Trial};
use super::matcher::{self, Conditions};
use super::path::{PathIndex, Place};
use super::pattern::{Pattern, Patterns};
use super::rank::{Rank, Ranks};
use crate::ir::{PathMatch, RouteMatch};

/// A route: its index in the list that whoever built the table keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouteId(pub u32);

impl RouteId {
    /// The index as such.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// What of a request decides its route.
#[derive(Clone, Copy, Debug)]
pub struct RequestFacts<'a> {
    /// The method, taken literally.
    pub method: &'a Method,
    /// The normalised path, the same bytes that the upstream receives.
    pub path: &'a str,
    /// The query without its question mark, as the client sent it.
    pub query: Option<&'a str>,
    /// The header fields.
    pub headers: &'a HeaderMap,
}

/// The compiled routes of one host.
#[derive(Clone, Debug)]
pub struct HostTable {
    paths: PathIndex,
    /// First those of the path index at its positions, then those of the expressions.
    candidates: Box<[Candidate]>,
    regexes: Box<[RegexPath]>,
    /// Every route by rank, for the account.
    ranked: Box<[Ranked]>,
    broken: Box<[(RouteId, String)]>,
}

impl HostTable {
    /// Compiles `routes`, given in declaration order. It cannot fail: a route with an expression
    /// that does not compile, or a path without its leading slash, is left out and named in the
    /// second value together with what is wrong.
    pub fn build(routes: &[(RouteId, &RouteMatch)]) -> (Self, Vec<(RouteId, String)>) {
        let mut patterns = Patterns::default();
        let mut ranks = Ranks::default();
        let mut broken = Vec::new();
        let mut compiled = Vec::with_capacity(routes.len());
        for &(id, matches) in routes {
            let rank = ranks.next(matches);
            match compile(id, rank, matches, &mut patterns) {
                Ok(route) => compiled.push(route),
                Err(problem) => broken.push((id, problem)),
            }
        }
        compiled.sort_by_key(|route| route.rank);
        (arrange(compiled, broken.clone()), broken)
    }

    /// The route that serves a request, or `None` where no route's conditions hold.
    pub fn lookup(&self, facts: &RequestFacts<'_>) -> Option<RouteId> {
        let method = matcher::bit(facts.method);
        let found = self.paths.walk(facts.path);
        self.first_of(found.exact(), method, facts)
            .or_else(|| {
                self.regexes.iter().find_map(|path| {
                    if !path.pattern.matches(facts.path.as_bytes()) {
                        return None;
                    }
                    self.first_of(path.candidates.clone(), method, facts)
                })
            })
            .or_else(|| {
                let mut prefixes = self.paths.prefixes(found);
                prefixes.find_map(|candidates| self.first_of(candidates, method, facts))
            })
    }

    /// How every route of the host fares with a request: by rank, at the end those that
    /// [`HostTable::build`] had to leave out. What it says is what [`HostTable::lookup`] does.
    pub fn explain(&self, facts: &RequestFacts<'_>) -> Vec<Trial> {
        let method = matcher::bit(facts.method);
        let winner = self.lookup(facts);
        let tried = self.ranked.iter().filter_map(|ranked| {
            let candidate = self.candidates.get(ranked.position as usize)?;
            let unmet = ranked.path.unmet(facts.path).or_else(|| {
                candidate.conditions.unmet(method, facts).map(|unmet| unmet.to_string())
            });
            let outcome = match unmet {
                Some(reason) => Outcome::Lost(reason),
                None if winner == Some(candidate.route) => Outcome::Won,
                None => Outcome::Shadowed,
            };
            Some(Trial { route: candidate.route, outcome })
        });
        let broken = self.broken.iter().map(|(route, problem)| Trial {
            route: *route,
            outcome: Outcome::Lost(problem.clone()),
        });
        tried.chain(broken).collect()
    }

    fn first_of(
        &self,
        positions: Range<usize>,
        method: u16,
        facts: &RequestFacts<'_>,
    ) -> Option<RouteId> {
        let candidates = self.candidates.get(positions)?;
        let won = candidates.iter().find(|candidate| candidate.conditions.hold(method, facts))?;
        Some(won.route)
    }
}

#[derive(Clone, Debug)]
struct Candidate {
    route: RouteId,
    conditions: Conditions,
}

#[derive(Clone, Debug)]
struct RegexPath {
    pattern: Arc<Pattern>,
    candidates: Range<usize>,
}

#[derive(Clone, Debug)]
struct Ranked {
    path: PathCondition,
    position: u32,
}

struct Compiled {
    rank: Rank,
    path: PathCondition,
    candidate: Candidate,
}

fn compile(
    route: RouteId,
    rank: Rank,
    matches: &RouteMatch,
    patterns: &mut Patterns,
) -> Result<Compiled, String> {
    let path = match &matches.path {
        PathMatch::Exact(path) | PathMatch::Prefix(path) if !path.starts_with('/') => {
            return Err(format!("the path \"{path}\" does not begin with a slash"));
        }
        PathMatch::Exact(path) => PathCondition::Exact(path.clone()),
        PathMatch::Prefix(path) => PathCondition::Prefix(path.clone()),
        PathMatch::Regex(text) => PathCondition::Regex(patterns.obtain(text)?),
    };
    let conditions = Conditions::compile(matches, patterns)?;
    Ok(Compiled { rank, path, candidate: Candidate { route, conditions } })
}

/// Puts routes, sorted by rank, where the lookup finds them.
fn arrange(compiled: Vec<Compiled>, broken: Vec<(RouteId, String)>) -> HostTable {
    let mut places = Vec::new();
    let mut regexes: Vec<RegexPath> = Vec::new();
    let mut by_regex = Vec::new();
    for (item, route) in (0u32..).zip(&compiled) {
        match &route.path {
            PathCondition::Exact(path) => places.push((Place::Exact(path), item)),
            PathCondition::Prefix(path) => places.push((Place::Prefix(path), item)),
            PathCondition::Regex(pattern) => by_regex.push((pattern, item)),
        }
    }
    let (paths, mut order) = PathIndex::build(&places);
    for (pattern, item) in by_regex {
        let next = order.len();
        order.push(item);
        match regexes.last_mut() {
            Some(last) if last.pattern.as_str() == pattern.as_str() => {
                last.candidates.end = next + 1;
            }
            _ => regexes.push(RegexPath { pattern: pattern.clone(), candidates: next..next + 1 }),
        }
    }
    let candidates =
        order.iter().filter_map(|&item| Some(compiled.get(item as usize)?.candidate.clone()));
    let candidates = candidates.collect();
    let mut ranked: Vec<Ranked> =
        compiled.into_iter().map(|route| Ranked { path: route.path, position: 0 }).collect();
    for (position, item) in (0u32..).zip(order) {
        if let Some(ranked) = ranked.get_mut(item as usize) {
            ranked.position = position;
        }
    }
    HostTable {
        paths,
        candidates,
        regexes: regexes.into(),
        ranked: ranked.into(),
        broken: broken.into(),
    }
}
