//! Portcullis: an HTTP reverse proxy that never reloads.
//!
//! Rooms and the direction of imports (a test reads the `use crate::` lines and keeps it so):
//!
//! ```text
//! util -> ir -> telemetry -> error -> tls -> upstream, and error -> filter
//! upstream, filter -> snapshot -> proxy -> server: each may know all that lead to it
//! http2 knows none; upstream, proxy and server know it
//! provider knows util, ir, telemetry; control knows util, ir, telemetry, error, upstream, snapshot
//! app, admin and cli see all, and one another; nothing else imports them
//! ```

pub mod admin;
pub mod app;
pub mod cli;
pub mod control;
pub mod error;
pub mod filter;
pub mod http2;
pub mod ir;
pub mod provider;
pub mod proxy;
pub mod server;
pub mod snapshot;
pub mod telemetry;
pub mod tls;
pub mod upstream;
pub mod util;
