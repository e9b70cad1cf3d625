//! Portcullis: an HTTP reverse proxy that never reloads.
//!
//! Rooms and the direction of imports (a test reads the `use crate::` lines and keeps it so):
//!
//! ```text
//! util, ir -> telemetry, tls, filter, http2, upstream -> snapshot -> proxy -> server
//! provider knows only ir and telemetry; control knows ir, telemetry, snapshot, upstream
//! app, admin and cli see all, and nothing imports them
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
