//! What became of each Ingress: for its status, its events and `check`.

use std::sync::LazyLock;

use ir::{Location, Name, Origin, Problem};

use super::Key;
use crate::ir;

/// The provider's name in origins.
pub(super) const PROVIDER: &str = "kubernetes";

/// What became of one thing that an object asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// It does what it says.
    Honoured,
    /// It is served, but not in all as it would be elsewhere.
    Differs,
    /// It is left out; the rest is served.
    Omitted,
    /// It is not served.
    Refused,
}

/// One thing that an object asks for, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What became of it.
    pub verdict: Verdict,
    /// Where in the object it stands: an annotation's name, or a path such as `spec.tls[0]`.
    pub subject: String,
    /// What is to be said of it; empty for what is simply honoured. No trailing period.
    pub message: String,
    /// How to mend it; no trailing period.
    pub hint: Option<String>,
}

impl Finding {
    /// `subject` is honoured.
    pub fn honoured(subject: impl Into<String>) -> Self {
        Self::new(Verdict::Honoured, subject, String::new())
    }

    /// `subject` is honoured with a difference.
    pub fn differs(subject: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(Verdict::Differs, subject, message)
    }

    /// `subject` is left out.
    pub fn omitted(subject: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(Verdict::Omitted, subject, message)
    }

    /// `subject` is not served.
    pub fn refused(subject: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(Verdict::Refused, subject, message)
    }

    fn new(verdict: Verdict, subject: impl Into<String>, message: impl Into<String>) -> Self {
        Self { verdict, subject: subject.into(), message: message.into(), hint: None }
    }

    /// The same with the way to mend it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// What became of one Ingress.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Everything worth saying, in the order in which it stands in the object.
    pub findings: Vec<Finding>,
}

impl Report {
    /// Puts a finding down, once.
    pub(super) fn add(&mut self, finding: Finding) {
        if !self.findings.contains(&finding) {
            self.findings.push(finding);
        }
    }

    /// The worst that became of anything in it.
    pub fn verdict(&self) -> Verdict {
        let worst = self.findings.iter().map(|finding| finding.verdict).max();
        worst.unwrap_or(Verdict::Honoured)
    }
}

/// The problems in the `report` on the Ingress `key`, about that.
pub(super) fn problems(key: &Key, report: &Report) -> Vec<Problem> {
    let worth_it = |finding: &&Finding| finding.verdict != Verdict::Honoured;
    let problem = |finding: &Finding| {
        let message = format!("{}: {}", finding.subject, finding.message);
        let problem = match finding.verdict {
            Verdict::Honoured | Verdict::Differs | Verdict::Omitted => Problem::warning(message),
            Verdict::Refused => Problem::error(message),
        };
        let problem = Problem { hint: finding.hint.clone(), ..problem };
        problem.about(&origin("Ingress", key))
    };
    report.findings.iter().filter(worth_it).map(problem).collect()
}

/// A name that thousands of origins have, kept once.
fn common(name: &str) -> Name {
    static COMMON: LazyLock<[Name; 4]> =
        LazyLock::new(|| [PROVIDER, "Ingress", "Service", "Secret"].map(Name::from));
    let known = COMMON.iter().find(|known| known.as_str() == name);
    known.cloned().unwrap_or_else(|| Name::from(name))
}

/// The origin of what was made from the object `key`.
pub(super) fn origin(kind: &str, key: &Key) -> Origin {
    Origin {
        provider: common(PROVIDER),
        kind: common(kind),
        namespace: Name::new(key.namespace.clone()),
        name: Name::new(key.name.clone()),
        rule: Name::default(),
        location: None::<Location>,
    }
}
