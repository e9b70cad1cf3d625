//! `portcullis routes`.

use std::process::ExitCode;

use super::source::Source;
use super::table::Table;
use super::{Failure, output};
use crate::admin::view::{RouteView, routes};

/// Options of `portcullis routes`.
#[derive(Debug, clap::Args)]
pub struct RoutesArgs {
    /// Write JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    source: Source,
}

/// Lists the routes of files or of a running proxy.
pub fn run(args: &RoutesArgs) -> Result<ExitCode, Failure> {
    let routes: Vec<RouteView> = match args.source.snapshot() {
        None => args.source.running.admin().get_json("/api/routes").map_err(Failure::runtime)?,
        Some(snapshot) => routes(&snapshot?),
    };
    match args.json {
        true => output::print_json(&routes)?,
        false => output::print(&table(&routes))?,
    }
    Ok(ExitCode::SUCCESS)
}

fn table(routes: &[RouteView]) -> String {
    let mut table = Table::new(&["HOST", "PATH", "MATCH", "ROUTE", "LISTENERS", "ACTION", "FROM"]);
    for route in routes {
        let failed = route.errors.first().map(|error| format!("error: {error}"));
        table.row([
            route.host.clone(),
            route.path.clone(),
            conditions(route),
            route.name.clone(),
            route.listeners.join(","),
            failed.unwrap_or_else(|| route.action.to_string()),
            route.location.clone().unwrap_or_else(|| route.origin.clone()),
        ]);
    }
    table.to_string()
}

fn conditions(route: &RouteView) -> String {
    let mut all = vec![route.path_match.clone()];
    if !route.methods.is_empty() {
        all.push(route.methods.join("|"));
    }
    all.extend(route.headers.iter().map(|condition| format!("{condition}")));
    all.extend(route.cookies.iter().map(|condition| format!("cookie:{condition}")));
    all.extend(route.query.iter().map(|condition| format!("?{condition}")));
    all.join(" ")
}
