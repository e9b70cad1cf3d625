//! The commands of the binary: arguments to calls. Sees every room; nothing imports it.

pub mod demo;
mod run;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// A reverse proxy that never reloads.
#[derive(Debug, Parser)]
#[command(name = "portcullis", version, about, disable_version_flag = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve an embedded shop through the real proxy
    Demo(demo::DemoArgs),
    /// Serve
    Run(run::RunArgs),
}

/// Parses the arguments and runs the command.
pub fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Demo(args) => demo::run(&args),
        Command::Run(args) => run::run(args),
    }
}
