//! What is wrong, by who found it: each part is replaced by itself, and what is new is logged.

use std::collections::BTreeMap;
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
    /// Where each listener accepts.
    pub(super) open: BTreeMap<Name, Option<SocketAddr>>,
}

impl Findings {
    /// All of it.
    pub(super) fn all(&self) -> impl Iterator<Item = &Problem> {
        self.reload.iter().chain(&self.listeners).chain(&self.certificates)
    }
}

/// Tells `problem` in the operations log.
pub(super) fn log(problem: &Problem) {
    match problem.severity {
        Severity::Error => tracing::error!("{problem}"),
        Severity::Warning => tracing::warn!("{problem}"),
    }
}
