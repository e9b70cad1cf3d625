//! What is wrong, by who found it: each part is replaced by itself, and what is new is logged.

use std::collections::{BTreeMap, HashSet};
use std::net::SocketAddr;
use std::time::Instant;

use crate::ir::{Name, Problem, Severity};

/// What control knows to be wrong now.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// With what was read last.
    pub(super) reload: Vec<Problem>,
    /// With listeners that cannot be opened.
    pub(super) listeners: Vec<Problem>,
    /// With certificates that run out.
    pub(super) certificates: Vec<Problem>,
    /// When certificates are looked at again, for time alone changes what is to be said of them.
    pub(super) next_look: Option<Instant>,
    /// What was told of `reload` and `certificates` in the log.
    pub(super) told: Vec<Problem>,
    /// Where each listener accepts.
    pub(super) open: BTreeMap<Name, Option<SocketAddr>>,
}

impl Findings {
    /// All of it.
    pub(super) fn all(&self) -> impl Iterator<Item = &Problem> {
        self.reload.iter().chain(&self.listeners).chain(&self.certificates)
    }
}

/// Those of `now` that are not among `before`, in their order.
pub(super) fn new_ones<'a>(before: &[Problem], now: &'a [Problem]) -> Vec<&'a Problem> {
    if before == now {
        return Vec::new();
    }
    let before: HashSet<String> = before.iter().map(text).collect();
    now.iter().filter(|problem| !before.contains(&text(problem))).collect()
}

/// Tells `problem` in the operations log.
pub(super) fn log(problem: &Problem) {
    let text = text(problem);
    match problem.severity {
        Severity::Error => tracing::error!("{text}"),
        Severity::Warning => tracing::warn!("{text}"),
    }
}

/// A problem with the object that it concerns, where it has no place in a file.
fn text(problem: &Problem) -> String {
    match &problem.origin {
        Some(origin) if problem.location.is_none() => format!("{origin}: {problem}"),
        _ => problem.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::Origin;

    #[test]
    fn only_what_is_new_is_told_and_with_its_object() {
        let about = |name: &str| {
            let origin = Origin { name: name.into(), ..Origin::default() };
            Problem::warning("no such Service").about(&origin)
        };
        let (a, b) = (about("a"), about("b"));
        let told = new_ones(std::slice::from_ref(&a), &[a.clone(), b.clone()][..]).len();
        assert_eq!(told, 1);
        assert_ne!(text(&a), text(&b));
        assert!(new_ones(&[a.clone(), b.clone()], &[b, a]).is_empty());
    }
}
