//! How an attempt went, as balancing and ejection see it.

use std::time::Duration;

use crate::telemetry::Reason;

/// What became of one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Observation {
    /// Requests in flight to the endpoint when the attempt began, itself not counted.
    pub in_flight: u32,
    /// From the attempt's start to the response head, or to its failure.
    pub latency: Duration,
    /// How it went.
    pub verdict: Verdict,
}

/// How an attempt went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nobody waits for it any more: the client went away, or another attempt was faster.
    Abandoned,
    /// There was no response: the reason is on the upstream's side.
    Failed(Reason),
    /// A response with this status; of a gRPC response that is headers only, the status that
    /// corresponds to its code.
    Responded(u16),
}

impl Verdict {
    /// Whether it counts as a success of the endpoint: any response below 500 but 429.
    pub fn is_success(self) -> bool {
        matches!(self, Self::Responded(status) if status < 500 && status != 429)
    }

    /// Whether it counts against the endpoint: a server error, or no response.
    pub fn is_failure(self) -> bool {
        matches!(self, Self::Responded(500..) | Self::Failed(_))
    }
}
