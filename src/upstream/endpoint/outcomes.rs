//! How attempts at an endpoint ended, as far as ejection wants to know.
//!
//! Workers write it after every attempt, with relaxed atomics: a success costs a few loads and
//! one addition. The control side reads it and begins anew.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use crate::ir::Outlier;
use crate::telemetry::{EjectionCause, Reason};
use crate::upstream::Verdict;

/// The outcomes at one endpoint since they were last looked at.
#[derive(Debug, Default)]
pub struct Outcomes {
    /// Failures in a row, of each kind.
    server_errors: AtomicU32,
    gateway_errors: AtomicU32,
    local_failures: AtomicU32,
    /// Attempts of this interval in the lower half, failures among them in the upper.
    window: AtomicU64,
    /// Which row became too long, and how long it was; 0 where none did.
    suspicion: AtomicU64,
}

/// Attempts of an interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Window {
    /// Attempts that had an outcome.
    pub requests: u32,
    /// Those among them that failed.
    pub failures: u32,
}

/// A row of failures that is too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Suspicion {
    /// Which row.
    pub cause: EjectionCause,
    /// How long it was.
    pub count: u32,
}

/// What a verdict means to ejection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Success,
    ServerError,
    GatewayError,
    LocalFailure,
}

impl Outcome {
    /// `None` says nothing of the endpoint: nobody waited, or it may have been the client's doing.
    fn of(verdict: Verdict) -> Option<Self> {
        Some(match verdict {
            Verdict::Abandoned => return None,
            Verdict::Failed(reason) => match reason {
                Reason::ConnectFailed
                | Reason::ConnectTimeout
                | Reason::RequestTimeout
                | Reason::ResponseTimeout
                | Reason::UpstreamIncomplete
                | Reason::UpstreamProtocol
                | Reason::UpstreamReset
                | Reason::UpstreamTls => Self::LocalFailure,
                // A body that stands still: clients who send slowly must not get endpoints ejected.
                _ => return None,
            },
            Verdict::Responded(502..=504) => Self::GatewayError,
            Verdict::Responded(500..) => Self::ServerError,
            Verdict::Responded(_) => Self::Success,
        })
    }
}

impl Outcomes {
    /// Takes in how an attempt went. Called by workers. Returns whether the endpoint is under
    /// suspicion now.
    #[inline]
    pub fn record(&self, policy: &Outlier, verdict: Verdict) -> bool {
        let Some(outcome) = Outcome::of(verdict) else { return false };
        if policy.success_rate.is_some() || policy.failure_percentage.is_some() {
            let failure = u64::from(outcome != Outcome::Success);
            self.window.fetch_add(1 | failure << 32, Relaxed);
        }
        if outcome == Outcome::Success {
            self.end_rows();
            return false;
        }
        self.lengthen(policy, outcome)
    }

    #[cold]
    fn lengthen(&self, policy: &Outlier, outcome: Outcome) -> bool {
        let longer = |row: &AtomicU32| row.fetch_add(1, Relaxed).saturating_add(1);
        let ended = |row: &AtomicU32| {
            row.store(0, Relaxed);
            0
        };
        let server = longer(&self.server_errors);
        let gateway = match outcome {
            Outcome::ServerError => ended(&self.gateway_errors),
            _ => longer(&self.gateway_errors),
        };
        let local = match outcome {
            Outcome::LocalFailure => longer(&self.local_failures),
            _ => ended(&self.local_failures),
        };
        // The narrowest one says most.
        let rows = [
            (local, policy.consecutive_local, EjectionCause::ConsecutiveLocal),
            (gateway, policy.consecutive_gateway, EjectionCause::ConsecutiveGateway),
            (server, policy.consecutive_5xx, EjectionCause::Consecutive5xx),
        ];
        let too_long = rows.into_iter().find(|(row, limit, _)| *limit > 0 && row >= limit);
        let Some((count, _, cause)) = too_long else { return false };
        let _ = self.suspicion.compare_exchange(0, pack(cause, count), Relaxed, Relaxed);
        true
    }

    fn end_rows(&self) {
        for row in [&self.server_errors, &self.gateway_errors, &self.local_failures] {
            // A store would pull the cache line away from other workers.
            if row.load(Relaxed) != 0 {
                row.store(0, Relaxed);
            }
        }
    }

    /// The suspicion, if there is one.
    pub fn suspicion(&self) -> Option<Suspicion> {
        unpack(self.suspicion.load(Relaxed))
    }

    /// Counts rows anew, without suspicion.
    pub fn clear_rows(&self) {
        self.end_rows();
        self.suspicion.store(0, Relaxed);
    }

    /// The interval's attempts; the next interval begins.
    pub fn take_window(&self) -> Window {
        let both = self.window.swap(0, Relaxed);
        Window { requests: both as u32, failures: (both >> 32) as u32 }
    }

    /// Forgets everything.
    pub fn clear(&self) {
        self.clear_rows();
        self.window.store(0, Relaxed);
    }
}

fn pack(cause: EjectionCause, count: u32) -> u64 {
    let code: u64 = match cause {
        EjectionCause::Consecutive5xx => 1,
        EjectionCause::ConsecutiveGateway => 2,
        _ => 3,
    };
    code << 32 | u64::from(count)
}

fn unpack(packed: u64) -> Option<Suspicion> {
    let cause = match packed >> 32 {
        0 => return None,
        1 => EjectionCause::Consecutive5xx,
        2 => EjectionCause::ConsecutiveGateway,
        _ => EjectionCause::ConsecutiveLocal,
    };
    Some(Suspicion { cause, count: packed as u32 })
}
