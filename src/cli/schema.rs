//! `portcullis schema`.

use std::process::ExitCode;

use super::{Failure, output};
use crate::provider::file;

/// Writes the JSON Schema.
pub fn run() -> Result<ExitCode, Failure> {
    output::print_json(&file::schema())?;
    Ok(ExitCode::SUCCESS)
}
