//! Why endpoints are ejected and how their health checks end, as labels and logs say it.

/// What made an endpoint an outlier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EjectionCause {
    /// 5xx responses and local failures in a row.
    Consecutive5xx,
    /// 502, 503, 504 and local failures in a row.
    ConsecutiveGateway,
    /// Connect failures, timeouts and resets in a row.
    ConsecutiveLocal,
    /// Too large a share of failures.
    FailurePercentage,
    /// A success rate far below that of the others.
    SuccessRate,
}

impl EjectionCause {
    /// The cause as it stands in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Consecutive5xx => "consecutive_5xx",
            Self::ConsecutiveGateway => "consecutive_gateway",
            Self::ConsecutiveLocal => "consecutive_local",
            Self::FailurePercentage => "failure_percentage",
            Self::SuccessRate => "success_rate",
        }
    }
}

/// How a health check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CheckResult {
    /// The body did not contain what it should.
    Body,
    /// No connection.
    Connect,
    /// A gRPC service that says it does not serve, or does not know.
    NotServing,
    /// An answer that breaks the rules of its protocol, or none.
    Protocol,
    /// A status that does not mean healthy.
    Status,
    /// Passed.
    Success,
    /// Not in time.
    Timeout,
    /// No agreement on TLS.
    Tls,
}

impl CheckResult {
    /// The result as it stands in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Body => "body",
            Self::Connect => "connect",
            Self::NotServing => "not_serving",
            Self::Protocol => "protocol",
            Self::Status => "status",
            Self::Success => "success",
            Self::Timeout => "timeout",
            Self::Tls => "tls",
        }
    }
}
