//! Providers: each turns one source of configuration into an `ir::Fragment` and its problems.
//!
//! A provider knows `ir` and `telemetry` and nothing of what becomes of its fragments.

pub mod file;
pub mod kubernetes;
