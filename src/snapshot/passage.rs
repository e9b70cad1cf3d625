//! Where TLS connections for a host go that are not terminated here.

use std::sync::Arc;

use crate::ir::{HostPattern, TlsPassthrough};
use crate::upstream::Upstream;

/// The way of TLS connections that name a host.
#[derive(Debug)]
pub struct Passage {
    /// The host.
    pub host: HostPattern,
    /// What was declared.
    pub spec: TlsPassthrough,
    /// Where they go; why nowhere, in which case they are closed.
    pub upstream: Result<Arc<Upstream>, String>,
}
