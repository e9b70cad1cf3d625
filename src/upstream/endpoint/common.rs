//! What the endpoints of one upstream share, whatever configuration names them.

use crate::upstream::balance::Total;
use crate::upstream::limits::ConnectionPlaces;

/// Shared by the endpoints of one upstream; lives for as long as one of them does. Alone on its
/// cache line, because a total that is wanted is written by every request.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct Common {
    /// Requests in flight to all of them.
    pub total: Total,
    /// The places of the connections to all of them.
    pub connections: ConnectionPlaces,
}
