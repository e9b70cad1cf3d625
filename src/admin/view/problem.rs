//! What is wrong with a configuration.

use serde::{Deserialize, Serialize};

use crate::ir::{Location, Problem, Severity};

/// A finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProblemView {
    /// `error`, where what was asked for is not served, or `warning`.
    pub severity: String,
    /// Where it is, for objects that stand in files.
    pub location: Option<Place>,
    /// The object it is about.
    pub origin: Option<String>,
    /// What is wrong.
    pub message: String,
    /// How to mend it.
    pub hint: Option<String>,
    /// The whole of it in a line: `file:line:column: error: what (how to mend it)`.
    pub text: String,
}

/// A place in a file; lines and columns count from 1, and 0 is unknown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The file as the user named it.
    pub file: String,
    /// The line.
    pub line: u32,
    /// The column.
    pub column: u32,
}

impl From<&Problem> for ProblemView {
    fn from(problem: &Problem) -> Self {
        let severity = match problem.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        Self {
            severity: severity.to_owned(),
            location: problem.location.as_ref().map(Place::from),
            origin: problem.origin.as_ref().map(ToString::to_string),
            message: problem.message.clone(),
            hint: problem.hint.clone(),
            text: problem.to_string(),
        }
    }
}

impl From<&Location> for Place {
    fn from(location: &Location) -> Self {
        Self { file: location.file.to_string(), line: location.line, column: location.column }
    }
}
