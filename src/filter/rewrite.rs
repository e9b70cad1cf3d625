//! Changes of the path.

use std::sync::Arc;

use super::{RequestTarget, Substitution, TargetError};
use crate::ir::{PathRewrite, Text};

/// A path rewrite ready to apply; the query is kept unless an expression says otherwise.
#[derive(Debug)]
pub enum PathPlan {
    /// The whole path becomes this.
    Full(Arc<str>),
    /// `from` at the start of the path becomes `to`; both without a trailing slash.
    Prefix {
        /// The prefix the route matches.
        from: Box<str>,
        /// What stands in its place.
        to: Box<str>,
    },
    /// What an expression makes of the path.
    Regex(Box<Substitution>),
}

impl PathPlan {
    /// Compiles a rewrite for a route that matches `prefix`.
    pub fn new(rewrite: &PathRewrite, prefix: &str) -> Result<Self, String> {
        let check = |text: &Text| {
            RequestTarget::from_parts(text.expose_str(), None)
                .map_err(|error| format!("'{text}' cannot be a path: {error}"))
        };
        Ok(match rewrite {
            PathRewrite::Full(path) => {
                check(path)?;
                Self::Full(path.expose_str().into())
            }
            PathRewrite::Prefix(to) => {
                check(to)?;
                Self::Prefix {
                    from: prefix.trim_end_matches('/').into(),
                    to: to.expose_str().trim_end_matches('/').into(),
                }
            }
            PathRewrite::Regex(rewrite) => Self::Regex(Box::new(Substitution::new(rewrite)?)),
        })
    }

    /// The target after the rewrite.
    pub fn apply(&self, target: &RequestTarget) -> Result<RequestTarget, TargetError> {
        let query = target.query();
        match self {
            Self::Full(path) => RequestTarget::from_parts(path, query),
            Self::Regex(plan) => plan.apply(target),
            Self::Prefix { from, to } => {
                let rest = target.path().strip_prefix(&**from).unwrap_or(target.path());
                let mut path = String::with_capacity(to.len() + rest.len() + 1);
                path.push_str(to);
                path.push_str(rest);
                if path.is_empty() {
                    path.push('/');
                }
                target.moved(&path, query)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(rewrite: PathRewrite, prefix: &str, target: &str) -> String {
        let plan = PathPlan::new(&rewrite, prefix).expect("a sound rewrite");
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (target, None),
        };
        let target = RequestTarget::from_parts(path, query).expect("a sound target");
        plan.apply(&target).expect("a sound result").as_str().to_owned()
    }

    #[test]
    fn a_prefix_is_replaced_by_whole_segments() {
        let to = |to: &str| PathRewrite::Prefix(to.into());
        assert_eq!(rewritten(to("/v2"), "/api", "/api/x?q=1"), "/v2/x?q=1");
        assert_eq!(rewritten(to("/"), "/api", "/api/x"), "/x");
        assert_eq!(rewritten(to("/"), "/api", "/api"), "/");
        assert_eq!(rewritten(to("/v2/"), "/api/", "/api/"), "/v2/");
        assert_eq!(rewritten(to("/app"), "/", "/x"), "/app/x");
    }

    #[test]
    fn a_full_rewrite_keeps_the_query() {
        assert_eq!(rewritten(PathRewrite::Full("/one".into()), "/", "/a/b?q"), "/one?q");
    }

    #[test]
    fn a_rewrite_that_is_no_path_is_refused() {
        assert!(PathPlan::new(&PathRewrite::Full("one".into()), "/").is_err());
        assert!(PathPlan::new(&PathRewrite::Prefix("/a%2fb".into()), "/").is_err());
    }
}
