//! Why a check failed.

use std::error::Error;

use crate::error::ProxyError;
use crate::telemetry::{CheckResult, Reason};

/// A check that failed: the class for metrics, the words for logs and status pages. The words
/// never hold anything of what was sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub(super) struct CheckError {
    pub result: CheckResult,
    pub text: String,
}

impl CheckError {
    pub fn new(result: CheckResult, text: impl Into<String>) -> Self {
        Self { result, text: text.into() }
    }

    /// An exchange that broke off or was never one.
    pub fn protocol(error: impl Error) -> Self {
        Self::new(CheckResult::Protocol, in_full(&error))
    }
}

impl From<ProxyError> for CheckError {
    /// A connection that could not be had.
    fn from(error: ProxyError) -> Self {
        let result = match error.reason {
            Reason::UpstreamTls => CheckResult::Tls,
            _ => CheckResult::Connect,
        };
        let cause = error.source().map_or_else(|| error.to_string(), in_full);
        let what = if result == CheckResult::Tls { "TLS" } else { "connect" };
        Self::new(result, format!("{what}: {cause}"))
    }
}

/// The error and what caused it, each said once.
fn in_full(error: &(impl Error + ?Sized)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text
}
