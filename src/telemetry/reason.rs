//! Why the proxy itself answered or broke off: one closed list shared by logs, metrics, error
//! bodies and `explain`.

use serde::{Serialize, Serializer};

/// A reason flag. `None` is an exchange that went as the upstream wanted it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Reason {
    /// Nothing out of the ordinary.
    #[default]
    None,
    /// The client's address may not use the route.
    AccessDenied,
    /// The service that is asked who may use the route did not answer as it should.
    AuthFailed,
    /// What a client has to show cannot be checked: the route stays closed.
    AuthUnavailable,
    /// The request broke a rule of the protocol.
    BadRequest,
    /// The request body exceeds the route's limit.
    BodyTooLarge,
    /// The client sent no body bytes for too long.
    ClientBodyTimeout,
    /// The client did not show the certificate that the host demands.
    ClientCertificate,
    /// The client went away before the end.
    ClientClosed,
    /// The client took no response bytes for too long.
    ClientWriteTimeout,
    /// The route's configuration is wrong.
    ConfigError,
    /// No endpoint accepted a connection.
    ConnectFailed,
    /// No endpoint accepted a connection in time.
    ConnectTimeout,
    /// The client has as many requests in progress as it may have.
    ConnectionLimited,
    /// The proxy answered a preflight of a page of another origin.
    CorsPreflight,
    /// The process is shutting down.
    Draining,
    /// The client may not use the route.
    Forbidden,
    /// The proxy failed; a bug.
    Internal,
    /// The upstream wants to know the length of a body that is too long to be read first.
    LengthRequired,
    /// The request went through this proxy before.
    Loop,
    /// The method is never forwarded (CONNECT, TRACE).
    MethodNotAllowed,
    /// The host does not belong to this connection's certificate.
    Misdirected,
    /// The upstream has no endpoint.
    NoEndpoint,
    /// No route matches.
    NoRoute,
    /// A limit on connections or requests was reached.
    Overloaded,
    /// The request waited for its turn for too long.
    QueueTimeout,
    /// The client sends requests faster than the route allows.
    RateLimited,
    /// The route redirects.
    Redirect,
    /// The request took longer than the route allows.
    RequestTimeout,
    /// The route answers by itself.
    Respond,
    /// The upstream sent no response head in time.
    ResponseTimeout,
    /// The upgraded connection was idle for too long.
    TunnelIdle,
    /// The client did not show what the route asks for.
    Unauthorized,
    /// The upstream speaks a protocol in which this upgrade does not exist, or the proxy never
    /// grants it.
    UpgradeUnsupported,
    /// The upstream sent nothing for too long in the middle of a body.
    UpstreamIdleTimeout,
    /// The upstream ended its response early.
    UpstreamIncomplete,
    /// The upstream broke a rule of the protocol.
    UpstreamProtocol,
    /// The upstream reset the connection or stream.
    UpstreamReset,
    /// TLS with the upstream failed.
    UpstreamTls,
}

impl Reason {
    /// Every reason, in order of its discriminant.
    pub const ALL: [Self; 39] = [
        Self::None,
        Self::AccessDenied,
        Self::AuthFailed,
        Self::AuthUnavailable,
        Self::BadRequest,
        Self::BodyTooLarge,
        Self::ClientBodyTimeout,
        Self::ClientCertificate,
        Self::ClientClosed,
        Self::ClientWriteTimeout,
        Self::ConfigError,
        Self::ConnectFailed,
        Self::ConnectTimeout,
        Self::ConnectionLimited,
        Self::CorsPreflight,
        Self::Draining,
        Self::Forbidden,
        Self::Internal,
        Self::LengthRequired,
        Self::Loop,
        Self::MethodNotAllowed,
        Self::Misdirected,
        Self::NoEndpoint,
        Self::NoRoute,
        Self::Overloaded,
        Self::QueueTimeout,
        Self::RateLimited,
        Self::Redirect,
        Self::RequestTimeout,
        Self::Respond,
        Self::ResponseTimeout,
        Self::TunnelIdle,
        Self::Unauthorized,
        Self::UpgradeUnsupported,
        Self::UpstreamIdleTimeout,
        Self::UpstreamIncomplete,
        Self::UpstreamProtocol,
        Self::UpstreamReset,
        Self::UpstreamTls,
    ];

    /// The flag as it stands in metrics, logs and error bodies; `-` for none.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "-",
            Self::AccessDenied => "access_denied",
            Self::AuthFailed => "auth_failed",
            Self::AuthUnavailable => "auth_unavailable",
            Self::BadRequest => "bad_request",
            Self::BodyTooLarge => "body_too_large",
            Self::ClientBodyTimeout => "client_body_timeout",
            Self::ClientCertificate => "client_certificate",
            Self::ClientClosed => "client_closed",
            Self::ClientWriteTimeout => "client_write_timeout",
            Self::ConfigError => "config_error",
            Self::ConnectFailed => "connect_failed",
            Self::ConnectTimeout => "connect_timeout",
            Self::ConnectionLimited => "connection_limited",
            Self::CorsPreflight => "cors_preflight",
            Self::Draining => "draining",
            Self::Forbidden => "forbidden",
            Self::Internal => "internal",
            Self::LengthRequired => "length_required",
            Self::Loop => "loop",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::Misdirected => "misdirected",
            Self::NoEndpoint => "no_endpoint",
            Self::NoRoute => "no_route",
            Self::Overloaded => "overloaded",
            Self::QueueTimeout => "queue_timeout",
            Self::RateLimited => "rate_limited",
            Self::Redirect => "redirect",
            Self::RequestTimeout => "request_timeout",
            Self::Respond => "respond",
            Self::ResponseTimeout => "response_timeout",
            Self::TunnelIdle => "tunnel_idle",
            Self::Unauthorized => "unauthorized",
            Self::UpgradeUnsupported => "upgrade_unsupported",
            Self::UpstreamIdleTimeout => "upstream_idle_timeout",
            Self::UpstreamIncomplete => "upstream_incomplete",
            Self::UpstreamProtocol => "upstream_protocol",
            Self::UpstreamReset => "upstream_reset",
            Self::UpstreamTls => "upstream_tls",
        }
    }
}

impl Serialize for Reason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}
