//! `portcullis version`.

use std::process::ExitCode;

use serde_json::json;

use super::{Failure, output};

/// Options of `portcullis version`.
#[derive(Debug, clap::Args)]
pub struct VersionArgs {
    /// Write JSON
    #[arg(long)]
    json: bool,
}

/// Tells the version, the compiler and the target.
pub fn run(args: &VersionArgs) -> Result<ExitCode, Failure> {
    let version = env!("CARGO_PKG_VERSION");
    let (rustc, target) = (env!("PORTCULLIS_RUSTC"), env!("PORTCULLIS_TARGET"));
    if args.json {
        let known = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        output::print_json(&json!({
            "name": "portcullis",
            "version": version,
            "rustc": known(rustc),
            "target": known(target),
            "profile": if cfg!(debug_assertions) { "debug" } else { "release" },
        }))?;
    } else {
        output::print(&format!("portcullis {version} ({target}, {rustc})\n"))?;
    }
    Ok(ExitCode::SUCCESS)
}
