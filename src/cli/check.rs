//! `portcullis check`.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::json;

use super::cluster::ClusterArgs;
use super::ingresses::{self, IngressView};
use super::offline::Offline;
use super::output::counted;
use super::{Failure, output};
use crate::admin::view::ProblemView;
use crate::provider::file;

/// Options of `portcullis check`.
#[derive(Debug, clap::Args)]
pub struct CheckArgs {
    /// Configuration files or Kubernetes manifests, and directories of *.yaml and *.yml; together
    /// they are one configuration
    #[arg(value_name = "FILE|DIR", required_unless_present = "kubernetes")]
    paths: Vec<PathBuf>,
    /// Write JSON
    #[arg(long)]
    json: bool,
    /// Check the Ingresses of a cluster, with manifests as if they had been applied to it. Nothing
    /// is written; those of ingress-nginx count, too, unless another class is named
    #[arg(long, help_heading = "Kubernetes")]
    kubernetes: bool,
    #[command(flatten, next_help_heading = "Kubernetes")]
    cluster: ClusterArgs,
}

/// Checks the files; exits 3 when something is wrong with them.
pub fn run(args: &CheckArgs) -> Result<ExitCode, Failure> {
    let meaning = args.cluster.meaning.in_a_move();
    let offline = match args.kubernetes {
        true => Offline::load_with(&args.paths, meaning, Some(args.cluster.access()))?,
        false => Offline::load_with(&args.paths, meaning.for_manifests(), None)?,
    };
    let valid = offline.is_valid();
    if args.json {
        let problems: Vec<_> = offline.problems.iter().map(ProblemView::from).collect();
        let mut report = json!({ "valid": valid, "problems": problems });
        if let (Some((manifests, translation)), Some(report)) =
            (&offline.manifests, report.as_object_mut())
        {
            let views: Vec<IngressView> =
                ingresses::views(manifests, translation, &offline.problems);
            report.insert("ingresses".to_owned(), json!(views));
        }
        output::print_json(&report)?;
    } else {
        output::print(&offline.report_beside_ingresses(output::colored(&io::stdout())))?;
        if let Some((manifests, translation)) = &offline.manifests {
            let views = ingresses::views(manifests, translation, &offline.problems);
            output::print(&(ingresses::text(&views) + &ingresses::summary(&views)))?;
        }
        output::print(&(verdict(&offline, valid) + "\n"))?;
    }
    Ok(if valid { ExitCode::SUCCESS } else { ExitCode::from(3) })
}

fn verdict(offline: &Offline, valid: bool) -> String {
    let found = file::summary(&offline.problems);
    let Some(snapshot) = &offline.snapshot else { return format!("invalid: {found}") };
    let extent = [
        counted(snapshot.listeners().count() as u64, "listener"),
        counted(snapshot.declared().count() as u64, "route"),
        counted(snapshot.upstreams.len() as u64, "upstream"),
    ];
    let word = if valid { "valid" } else { "invalid" };
    format!("{word}: {}; {found}", extent.join(", "))
}
