//! The routes of one host: owns the order in which they are tried, and the lookup.
//!
//! Precedence is settled when the table is built, so a lookup is one walk of the path index and a
//! scan of the few routes whose path holds. It never allocates, except where an expression has to
//! see a joined header or a decoded query value of more than 256 bytes, and where the regex engine
//! first works for a thread.
//!
//! Knows nothing of hosts, nor of what a route does.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::collections::BTreeMap;
use std::sync::Arc;

use http::{HeaderMap, Method};

use super::explain::{Outcome, PathCondition, Trial};
use super::matcher::{self, Conditions};
use super::path::{self, PathIndex, Place};
use super::pattern::{Pattern, Patterns};
use super::rank::{Rank, Ranks};
use super::{ClientGate, Passage};
use crate::filter::{RequestTarget, Rules, TargetError};
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
    /// Its values are [`Slot`]s.
    paths: PathIndex,
    /// Those of one path stand side by side, by rank.
    candidates: Box<[Candidate]>,
    /// By rank.
    regexes: Box<[(Arc<Pattern>, Slot)]>,
    account: Box<Account>,
    /// What is done with requests before a route is looked for.
    pub rules: Option<Arc<Rules>>,
    /// What it demands of client certificates.
    pub client_gate: Option<Arc<ClientGate>>,
    /// Where TLS connections that name it go, where they are not terminated here.
    pub passage: Option<Arc<Passage>>,
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
        if found.exact != path::NONE
            && let Some(route) = self.first_of(Slot(found.exact), method, facts)
        {
            return Some(route);
        }
        for (pattern, slot) in &self.regexes {
            if pattern.matches(facts.path.as_bytes())
                && let Some(route) = self.first_of(*slot, method, facts)
            {
                return Some(route);
            }
        }
        self.paths.longest(found, facts.path, |slot| self.first_of(Slot(slot), method, facts))
    }

    /// Refuses a request for `target`, whose route is `found`, where it would meet another with a
    /// slash in the place of an encoded one: who takes these for slashes must not see what that
    /// other guards.
    pub fn check_slashes(
        &self,
        target: &RequestTarget,
        facts: &RequestFacts<'_>,
        found: RouteId,
    ) -> Result<(), TargetError> {
        let Some(decoded) = target.with_decoded_slashes().transpose()? else { return Ok(()) };
        match self.lookup(&RequestFacts { path: decoded.path(), ..*facts }) == Some(found) {
            true => Ok(()),
            false => Err(TargetError::Elsewhere),
        }
    }

    /// How every route of the host fares with a request: by rank, at the end those that
    /// [`HostTable::build`] had to leave out. What it says is what [`HostTable::lookup`] does.
    pub fn explain(&self, facts: &RequestFacts<'_>) -> Vec<Trial> {
        let method = matcher::bit(facts.method);
        let winner = self.lookup(facts);
        let tried = self.account.ranked.iter().map(|(path, candidate)| {
            let unmet = path.unmet(facts.path).or_else(|| {
                candidate.conditions.unmet(method, facts).map(|unmet| unmet.to_string())
            });
            let outcome = match unmet {
                Some(reason) => Outcome::Lost(reason),
                None if winner == Some(candidate.route) => Outcome::Won,
                None => Outcome::Shadowed,
            };
            Trial { route: candidate.route, outcome }
        });
        let broken = self.account.broken.iter().map(|(route, problem)| Trial {
            route: *route,
            outcome: Outcome::Lost(problem.clone()),
        });
        tried.chain(broken).collect()
    }

    fn first_of(&self, slot: Slot, method: u16, facts: &RequestFacts<'_>) -> Option<RouteId> {
        if slot.0 >= Slot::ALONE {
            return Some(RouteId(slot.0 - Slot::ALONE));
        }
        for candidate in self.candidates.get(slot.0 as usize..)? {
            if candidate.conditions.hold(method, facts) {
                return Some(candidate.route);
            }
            if candidate.last {
                break;
            }
        }
        None
    }
}

/// The candidates of one path: the position of the first or, where there is but one and it has no
/// further condition, the route itself. Most paths are of that kind, and theirs is one cache miss
/// less.
#[derive(Clone, Copy, Debug)]
struct Slot(u32);

impl Slot {
    /// From here on a slot is a route.
    const ALONE: u32 = 1 << 31;

    /// Appends `group` to `candidates` unless it needs no place there.
    fn put(group: &[Candidate], candidates: &mut Vec<Candidate>) -> Self {
        if let [first, ..] = group
            && first.conditions.is_empty()
            && first.route.0 < path::NONE - Self::ALONE
        {
            // Whatever ranks below it never gets a turn.
            return Self(Self::ALONE + first.route.0);
        }
        let position = candidates.len();
        candidates.extend_from_slice(group);
        if let Some(last) = candidates.last_mut() {
            last.last = true;
        }
        Self(u32::try_from(position).unwrap_or(path::NONE))
    }
}

#[derive(Clone, Debug)]
struct Candidate {
    route: RouteId,
    /// No other candidate of its path stands behind it.
    last: bool,
    conditions: Conditions,
}

/// What only [`HostTable::explain`] reads.
#[derive(Clone, Debug)]
struct Account {
    /// Every route that compiled, by rank.
    ranked: Box<[(PathCondition, Candidate)]>,
    broken: Box<[(RouteId, String)]>,
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
        PathMatch::Exact(path) | PathMatch::Prefix(path) | PathMatch::StartsWith(path)
            if !path.starts_with('/') =>
        {
            return Err(format!("the path \"{path}\" does not begin with a slash"));
        }
        PathMatch::Exact(path) => PathCondition::Exact(path.clone()),
        PathMatch::Prefix(path) => PathCondition::Prefix(path.clone()),
        PathMatch::Regex(text) => PathCondition::Regex(patterns.obtain(text)?),
        PathMatch::StartsWith(path) => PathCondition::StartsWith(path.clone()),
    };
    let conditions = Conditions::compile(matches, patterns)?;
    Ok(Compiled { rank, path, candidate: Candidate { route, last: false, conditions } })
}

/// Puts routes, sorted by rank, where the lookup finds them.
fn arrange(compiled: Vec<Compiled>, broken: Vec<(RouteId, String)>) -> HostTable {
    let mut by_place: BTreeMap<Place<'_>, Vec<Candidate>> = BTreeMap::new();
    let mut by_regex: Vec<(&Arc<Pattern>, Vec<Candidate>)> = Vec::new();
    for Compiled { path, candidate, .. } in &compiled {
        let place = match path {
            PathCondition::Exact(path) => Place::Exact(path),
            PathCondition::Prefix(path) => Place::Prefix(path),
            PathCondition::StartsWith(path) => Place::Start(path),
            PathCondition::Regex(pattern) => {
                match by_regex.last_mut() {
                    Some((last, group)) if last.as_str() == pattern.as_str() => {
                        group.push(candidate.clone());
                    }
                    _ => by_regex.push((pattern, vec![candidate.clone()])),
                }
                continue;
            }
        };
        by_place.entry(place.normal()).or_default().push(candidate.clone());
    }
    let mut candidates = Vec::new();
    let paths = PathIndex::build(
        by_place.iter().map(|(&place, group)| (place, Slot::put(group, &mut candidates).0)),
    );
    let regexes = by_regex
        .iter()
        .map(|(pattern, group)| (Arc::clone(pattern), Slot::put(group, &mut candidates)))
        .collect();
    let ranked = compiled.into_iter().map(|route| (route.path, route.candidate)).collect();
    HostTable {
        paths,
        candidates: candidates.into(),
        regexes,
        account: Box::new(Account { ranked, broken: broken.into() }),
        rules: None,
        client_gate: None,
        passage: None,
    }
}
