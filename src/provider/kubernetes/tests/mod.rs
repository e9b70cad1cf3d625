//! The translation as a whole: recorded cases, and random objects against a naive reading.

mod golden;
mod memo;
mod properties;

use std::path::PathBuf;

use super::*;

fn repository(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path)
}
