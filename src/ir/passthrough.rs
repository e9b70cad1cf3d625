//! TLS that is not terminated here.

use std::time::Duration;

use serde::Serialize;

use super::{Name, Timeouts, dump};

/// TLS connections whose client names a host are carried to an upstream byte by byte, on listeners
/// with TLS: the certificate, and all that is said, are the upstream's. Nothing that is for requests
/// applies to them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TlsPassthrough {
    /// Where they go. Its `tls` is not for them.
    pub upstream: Name,
    /// How long an endpoint may take to accept the connection. Default 2 s.
    #[serde(serialize_with = "dump::some_span")]
    pub connect: Option<Duration>,
    /// How long nothing may move. Default 1 h.
    #[serde(serialize_with = "dump::some_span")]
    pub idle: Option<Duration>,
}

impl TlsPassthrough {
    /// To `upstream`, with the deadlines of a route's tunnels.
    pub fn new(upstream: Name, timeouts: &Timeouts) -> Self {
        Self { upstream, connect: timeouts.connect, idle: timeouts.tunnel_idle }
    }
}
