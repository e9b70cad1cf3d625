//! The data path's one error: what went wrong, on whose side, and whether the request may be
//! sent again.

use std::fmt;
use std::time::Duration;

use http::StatusCode;

use crate::telemetry::Reason;

/// Who failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The client, or the connection to it.
    Client,
    /// This proxy or its configuration.
    Proxy,
    /// The endpoint, or the connection to it.
    Upstream,
}

/// Whether the request may be sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replay {
    /// No: part of it was acted upon, or the client is the one who failed.
    Never,
    /// A reused connection closed without a response byte: most likely the endpoint closed it
    /// while it was idle. Says nothing of the endpoint.
    Stale {
        /// Whether anything of the request was written. Safe for idempotent requests then
        /// (RFC 9110 §9.2.2), else for every one.
        written: bool,
    },
    /// It was written, and no response came of it: the endpoint reset it, or its time was up.
    /// Safe for idempotent requests.
    Unanswered,
    /// The endpoint had it and said that it did not act on it: safe for every request, and as
    /// much load as any.
    Refused,
    /// Nothing of it was written: safe for every request.
    Unwritten,
}

/// A failed exchange.
#[derive(Debug)]
pub struct ProxyError {
    /// The flag for logs, metrics and the error body.
    pub reason: Reason,
    /// Who failed.
    pub side: Side,
    /// Whether the request may be sent again.
    pub replay: Replay,
    /// When the client may try again, where that is known.
    pub retry_after: Option<Duration>,
    status: Option<StatusCode>,
    cause: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl ProxyError {
    fn new(reason: Reason, side: Side) -> Self {
        let (replay, retry_after, status, cause) = (Replay::Never, None, None, None);
        Self { reason, side, replay, retry_after, status, cause }
    }

    /// The client failed.
    pub fn client(reason: Reason) -> Self {
        Self::new(reason, Side::Client)
    }

    /// The proxy answers for itself.
    pub fn proxy(reason: Reason) -> Self {
        Self::new(reason, Side::Proxy)
    }

    /// The upstream failed.
    pub fn upstream(reason: Reason) -> Self {
        Self::new(reason, Side::Upstream)
    }

    /// The same with its cause.
    #[must_use]
    pub fn because(mut self, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    /// The same, answered with a status that the route chooses.
    #[must_use]
    pub fn answered(mut self, status: StatusCode) -> Self {
        self.status = Some(status);
        self
    }

    /// The same with what is known about sending the request again.
    #[must_use]
    pub fn replay(mut self, replay: Replay) -> Self {
        self.replay = replay;
        self
    }

    /// Whether the connection was one that its endpoint had closed after earlier exchanges.
    pub fn is_stale(&self) -> bool {
        matches!(self.replay, Replay::Stale { .. })
    }

    /// Whether the endpoint got nothing of the request to work on, as far as can be told.
    pub fn left_no_load(&self) -> bool {
        self.is_stale() || self.replay == Replay::Unwritten
    }

    /// The status a client sees. 499 is nginx's code for a client that went away: it is only
    /// ever logged.
    pub fn status(&self) -> StatusCode {
        if let Some(status) = self.status {
            return status;
        }
        match self.reason {
            Reason::AccessDenied => StatusCode::FORBIDDEN,
            Reason::BadRequest | Reason::ClientCertificate => StatusCode::BAD_REQUEST,
            Reason::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Reason::ClientBodyTimeout => StatusCode::REQUEST_TIMEOUT,
            Reason::ClientClosed | Reason::ClientWriteTimeout => {
                StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST)
            }
            Reason::AuthUnavailable
            | Reason::ConnectFailed
            | Reason::Draining
            | Reason::NoEndpoint
            | Reason::Overloaded
            | Reason::QueueTimeout => StatusCode::SERVICE_UNAVAILABLE,
            Reason::ConnectionLimited | Reason::RateLimited => StatusCode::TOO_MANY_REQUESTS,
            Reason::ConnectTimeout
            | Reason::RequestTimeout
            | Reason::ResponseTimeout
            | Reason::TunnelIdle
            | Reason::UpstreamIdleTimeout => StatusCode::GATEWAY_TIMEOUT,
            Reason::Forbidden => StatusCode::FORBIDDEN,
            Reason::LengthRequired => StatusCode::LENGTH_REQUIRED,
            Reason::Loop => StatusCode::LOOP_DETECTED,
            Reason::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Reason::Misdirected => StatusCode::MISDIRECTED_REQUEST,
            Reason::NoRoute => StatusCode::NOT_FOUND,
            Reason::Unauthorized => StatusCode::UNAUTHORIZED,
            // RFC 9220 §3: not even an endpoint is asked.
            Reason::UpgradeUnsupported if self.side == Side::Client => StatusCode::NOT_IMPLEMENTED,
            Reason::UpgradeUnsupported
            | Reason::UpstreamIncomplete
            | Reason::UpstreamProtocol
            | Reason::UpstreamReset
            | Reason::UpstreamTls => StatusCode::BAD_GATEWAY,
            Reason::AuthFailed
            | Reason::ConfigError
            | Reason::CorsPreflight
            | Reason::Internal
            | Reason::None
            | Reason::Redirect
            | Reason::Respond => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl fmt::Display for ProxyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = match self.side {
            Side::Client => "client",
            Side::Proxy => "proxy",
            Side::Upstream => "upstream",
        };
        write!(f, "{} ({side} side)", self.reason.as_str())
    }
}

impl std::error::Error for ProxyError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.cause.as_deref().map(|cause| cause as _)
    }
}
