//! The precedence of routes inside a host, as one ordered value.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;

use crate::ir::{PathMatch, RouteMatch};

/// A route's rank; the smaller is tried first. The order of the fields is the order of precedence
/// that the documentation of [`super`] promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    path: PathRank,
    order: i32,
    methods: Reverse<bool>,
    headers: Reverse<usize>,
    cookies: Reverse<usize>,
    query: Reverse<usize>,
    declared: usize,
}

/// Two exact paths, like two prefixes of one length, never match the same request. So `order` sets
/// routes of one path condition against each other only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum PathRank {
    Exact,
    /// Where this expression first appears.
    Regex(usize),
    /// Its length; of equally long ones that of whole segments, which matches less, first.
    Prefix(Reverse<usize>, Bounds),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Bounds {
    Segments,
    Bytes,
}

/// Gives out ranks in declaration order.
#[derive(Debug, Default)]
pub(super) struct Ranks {
    regexes: HashMap<Arc<str>, usize>,
    declared: usize,
}

impl Ranks {
    /// The rank of the next declared route.
    pub(super) fn next(&mut self, route: &RouteMatch) -> Rank {
        let declared = self.declared;
        self.declared += 1;
        let path = match &route.path {
            PathMatch::Exact(_) => PathRank::Exact,
            PathMatch::Regex(text) => {
                PathRank::Regex(*self.regexes.entry(text.clone()).or_insert(declared))
            }
            PathMatch::Prefix(path) => {
                PathRank::Prefix(Reverse(path.trim_end_matches('/').len()), Bounds::Segments)
            }
            PathMatch::StartsWith(text) => PathRank::Prefix(Reverse(text.len()), Bounds::Bytes),
        };
        Rank {
            path,
            order: route.order,
            methods: Reverse(!route.methods.is_empty()),
            headers: Reverse(route.headers.len()),
            cookies: Reverse(route.cookies.len()),
            query: Reverse(route.query.len()),
            declared,
        }
    }
}
