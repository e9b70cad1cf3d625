//! What became of one annotation.

use std::fmt;

use serde::Serialize;

use crate::ir::{Problem, Severity};

/// What became of an annotation's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// It does what it does in ingress-nginx.
    Honoured,
    /// It is honoured, and something is different.
    Difference,
    /// Its value is wrong or has no effect; the default holds.
    Ignored,
    /// Known, and not honoured.
    NotHonoured,
    /// There is no such annotation.
    NeverExisted,
    /// The object's requests are answered 503 because of it.
    Denied,
    /// Requests to the object's hosts are answered 503 because of it, those for other objects
    /// included.
    Closed,
    /// The object is not taken over because of it.
    Refused,
}

/// What is to be said about one annotation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The annotation's full name as it was written.
    pub annotation: String,
    /// What became of it.
    pub class: Class,
    /// That in words; no trailing period.
    pub message: String,
    /// What to do about it; no trailing period.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

impl Finding {
    /// A finding; a line feed in `text` separates what is the matter from the remedy.
    pub fn new(annotation: impl Into<String>, class: Class, text: &str) -> Self {
        let (message, remedy) = match text.split_once('\n') {
            Some((message, remedy)) => (message, Some(remedy.to_owned())),
            None => (text, None),
        };
        Self { annotation: annotation.into(), class, message: message.to_owned(), remedy }
    }

    /// The problem to report on the object; `None` where there is nothing to mend. An error is
    /// what keeps the object from being served; what ingress-nginx would have ignored as well, or
    /// what is served without, is none.
    pub fn problem(&self) -> Option<Problem> {
        let severity = match self.class {
            Class::Honoured => return None,
            Class::Difference | Class::Ignored | Class::NotHonoured | Class::NeverExisted => {
                Severity::Warning
            }
            Class::Denied | Class::Closed | Class::Refused => Severity::Error,
        };
        let problem = Problem::error(format!("{}: {}", self.annotation, self.message));
        let problem = Problem { severity, ..problem };
        Some(match &self.remedy {
            Some(remedy) => problem.hint(remedy.clone()),
            None => problem,
        })
    }
}

/// A value fit for a message: not long, and without control characters.
pub(super) fn shown(value: &str) -> String {
    const LONGEST: usize = 80;
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    let mut shown: String = value.chars().take(LONGEST).map(plain).collect();
    if value.chars().nth(LONGEST).is_some() {
        shown.push('…');
    }
    shown
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Honoured => "honoured",
            Self::Difference => "honoured with a difference",
            Self::Ignored => "ignored",
            Self::NotHonoured => "not honoured",
            Self::NeverExisted => "never existed",
            Self::Denied => "denied",
            Self::Closed => "closed",
            Self::Refused => "refused",
        })
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.class, self.annotation, self.message)?;
        match &self.remedy {
            Some(remedy) => write!(f, " ({remedy})"),
            None => Ok(()),
        }
    }
}
