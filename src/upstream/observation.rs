//! How an attempt went, as balancing and ejection see it.

use std::time::Duration;

use crate::telemetry::{GrpcCode, Reason};

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
    /// A response with this status; of a gRPC call, the status that corresponds to its code.
    Responded(u16),
}

impl Verdict {
    /// How a gRPC call went that ended with `code`: the HTTP status that says the same, as
    /// google.rpc.Code has it.
    pub fn of_call(code: GrpcCode) -> Self {
        Self::Responded(match code.number() {
            0 => 200,
            1 => 499,
            3 | 9 | 11 => 400,
            4 => 504,
            5 => 404,
            6 | 10 => 409,
            7 => 403,
            8 => 429,
            12 => 501,
            14 => 503,
            16 => 401,
            _ => 500,
        })
    }

    /// Whether it counts as a success of the endpoint: any response below 500 but 429.
    pub fn is_success(self) -> bool {
        matches!(self, Self::Responded(status) if status < 500 && status != 429)
    }

    /// Whether it counts against the endpoint: a server error, or no response.
    pub fn is_failure(self) -> bool {
        matches!(self, Self::Responded(500..) | Self::Failed(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_counts_as_the_status_that_says_the_same() {
        let verdicts = GrpcCode::NAMES.iter().enumerate().map(|(code, name)| {
            let verdict = Verdict::of_call(GrpcCode::of(code.to_string().as_bytes()));
            (*name, verdict.is_success(), verdict.is_failure())
        });
        let (mut failures, mut neither) = (Vec::new(), Vec::new());
        for (name, success, failure) in verdicts {
            match (success, failure) {
                (true, false) => {}
                (false, true) => failures.push(name),
                _ => neither.push(name),
            }
        }
        let expected = [
            "unknown",
            "deadline_exceeded",
            "unimplemented",
            "internal",
            "unavailable",
            "data_loss",
        ];
        assert_eq!(failures, expected);
        assert_eq!(neither, ["resource_exhausted"]);
    }
}
