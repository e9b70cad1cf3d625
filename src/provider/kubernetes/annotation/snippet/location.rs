//! The paths of nginx's `location`.

use std::sync::Arc;

use regex::escape;

use super::super::pattern::Pattern;
use super::super::variable::Variable;
use super::condition::{Condition, Test};

/// What a `location` is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// `=`: this path.
    Exact(Arc<str>),
    /// `^~`: all that begin with it; expressions are not asked.
    First(Arc<str>),
    /// `~` and `~*`: those in which the expression is found.
    Expression(Pattern),
    /// All that begin with it and for which there is no expression.
    Prefix(Arc<str>),
}

impl Location {
    /// Reads the arguments of a `location`.
    pub(super) fn read(arguments: &[String]) -> Result<Self, String> {
        Ok(match arguments {
            [path] | [_, path] if path.starts_with('@') => {
                return Err("named locations are not read".to_owned());
            }
            [path] => Self::Prefix(path.as_str().into()),
            [modifier, path] => match modifier.as_str() {
                "=" => Self::Exact(path.as_str().into()),
                "^~" => Self::First(path.as_str().into()),
                "~" => Self::Expression(Pattern::parse(path)?),
                "~*" => Self::Expression(Pattern::parse(&format!("(?i){path}"))?),
                _ => return Err("its modifier is unknown".to_owned()),
            },
            _ => return Err("it does not name one path".to_owned()),
        })
    }

    /// What holds of its paths.
    pub(super) fn condition(&self) -> Result<Condition, String> {
        let test = match self {
            Self::Exact(path) => Test::Is(path.clone()),
            Self::First(path) | Self::Prefix(path) => {
                Test::Matches(Pattern::parse(&format!("^{}", escape(path)))?)
            }
            Self::Expression(pattern) => Test::Matches(pattern.clone()),
        };
        Ok(Condition { variable: Variable::Uri, test })
    }
}
