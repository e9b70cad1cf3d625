//! What the proxy tells its operators: reason flags, metrics, access log, operations log.

mod reason;

pub use reason::Reason;
