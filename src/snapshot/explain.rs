//! Why a request took its route: owns the account of every route of a host that was tried.

use std::sync::Arc;

use super::RouteId;
use super::path::below;
use super::pattern::Pattern;

/// What became of one route when a request was looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trial {
    /// The route.
    pub route: RouteId,
    /// How it fared.
    pub outcome: Outcome,
}

/// How a route fared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Its conditions do not hold; the first that does not, in words.
    Lost(String),
    /// Its conditions hold too, but the winner has the higher rank.
    Shadowed,
    /// It serves the request.
    Won,
}

/// A path condition kept for the account, beside the index that serves requests.
#[derive(Clone, Debug)]
pub(super) enum PathCondition {
    Exact(Arc<str>),
    Prefix(Arc<str>),
    Regex(Arc<Pattern>),
    StartsWith(Arc<str>),
}

impl PathCondition {
    /// Why `path` does not satisfy it; `None` where it does.
    pub(super) fn unmet(&self, path: &str) -> Option<String> {
        match self {
            Self::Exact(wanted) => (**wanted != *path).then(|| format!("the path is not {wanted}")),
            Self::Prefix(prefix) => {
                below(prefix, path).is_none().then(|| format!("the path is not below {prefix}"))
            }
            Self::Regex(pattern) => (!pattern.matches(path.as_bytes()))
                .then(|| format!("the path does not match \"{}\"", pattern.as_str())),
            Self::StartsWith(start) => (!path.starts_with(&**start))
                .then(|| format!("the path does not start with {start}")),
        }
    }
}
