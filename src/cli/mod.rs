//! The commands of the binary: arguments to calls, one file for each. Sees every room; nothing
//! imports it.
//!
//! Exit codes: 0 fine, 1 failed at run time, 2 wrong usage, 3 configuration invalid, 4 drain
//! deadline hit.

mod ask;
mod check;
mod cluster;
mod completions;
pub mod demo;
mod explain;
mod failure;
mod ingress_nginx;
mod ingresses;
mod kubernetes;
mod offline;
mod output;
mod overrides;
mod routes;
mod run;
mod schema;
mod source;
mod status;
mod table;
mod top;
mod version;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Arg, CommandFactory, FromArgMatches, Parser, Subcommand};

use failure::Failure;

/// An HTTP reverse proxy that never reloads
#[derive(Debug, Parser)]
#[command(name = "portcullis", version, after_help = AFTER)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const AFTER: &str = "\
Exit codes: 0 fine, 1 failed at run time, 2 wrong usage, 3 configuration invalid, 4 requests cut
off at the drain deadline. `portcullis COMMAND --help` tells more.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Validate configuration files, or the Ingresses of a cluster, without serving them
    Check(check::CheckArgs),
    /// Write a shell's completions to standard output
    Completions(completions::CompletionsArgs),
    /// Serve an embedded shop through the real proxy
    Demo(demo::DemoArgs),
    /// Tell which route a request takes, and why
    Explain(explain::ExplainArgs),
    /// Serve as the command line of ingress-nginx says
    IngressNginx(ingress_nginx::IngressNginxArgs),
    /// List the routes
    Routes(routes::RoutesArgs),
    /// Serve
    Run(Box<run::RunArgs>),
    /// Write the configuration's JSON Schema to standard output
    Schema,
    /// Tell how a running proxy is doing; exits 0 when it is ready
    Status(status::StatusArgs),
    /// Watch the traffic of a running proxy
    Top(top::TopArgs),
    /// Tell the version
    Version(version::VersionArgs),
}

/// Parses the arguments and runs the command.
pub fn main() -> ExitCode {
    dispatch(parse(std::env::args_os()).command)
}

/// Reads a command line, or ends the process with what is wrong with it.
fn parse(line: impl IntoIterator<Item = impl Into<OsString> + Clone>) -> Cli {
    let command = Cli::command().mut_subcommands(|command| command.mut_args(without_empty));
    let matches = command.get_matches_from(line);
    Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
}

/// Has an option look at no variable that is empty: it says nothing, as if it were not there.
fn without_empty(option: Arg) -> Arg {
    match option.get_env().and_then(std::env::var_os) {
        Some(value) if value.is_empty() => option.env(None::<&'static str>),
        _ => option,
    }
}

fn dispatch(command: Command) -> ExitCode {
    let done = match command {
        Command::Check(args) => check::run(&args),
        Command::Completions(args) => completions::run(&args),
        Command::Demo(args) => return demo::run(&args),
        Command::Explain(args) => explain::run(&args),
        Command::IngressNginx(args) => match ingress_nginx::arguments(&args) {
            Ok(Some(line)) => return dispatch(parse(line).command),
            Ok(None) => Ok(ExitCode::SUCCESS),
            Err(failure) => Err(failure),
        },
        Command::Routes(args) => routes::run(&args),
        Command::Run(args) => run::run(*args),
        Command::Schema => schema::run(),
        Command::Status(args) => status::run(&args),
        Command::Top(args) => top::run(&args),
        Command::Version(args) => version::run(&args),
    };
    done.unwrap_or_else(|failure: Failure| failure.tell())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_arguments_are_consistent() {
        super::Cli::command().debug_assert();
    }
}
