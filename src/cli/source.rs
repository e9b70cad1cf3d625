//! Where a command looks: into files, or at a running proxy.

use std::path::PathBuf;

use super::Failure;
use super::ask::AdminUrl;
use super::cluster::MeaningArgs;
use super::offline::Offline;
use crate::snapshot::Snapshot;

/// Files or a running proxy.
#[derive(Debug, clap::Args)]
pub struct Source {
    /// Look into these configuration files or Kubernetes manifests, and directories of *.yaml and
    /// *.yml
    #[arg(long, short, value_name = "FILE|DIR", value_delimiter = ',', conflicts_with = "running")]
    config: Vec<PathBuf>,
    /// Where a running proxy is
    #[command(flatten)]
    pub running: Running,
    // Last: what comes behind it would stand under its heading.
    #[command(flatten, next_help_heading = "Kubernetes manifests among --config")]
    meaning: MeaningArgs,
}

impl Source {
    /// What the files come to; `None` where a running proxy is to be asked.
    ///
    /// # Errors
    /// If they cannot be served at all.
    pub fn snapshot(&self) -> Option<Result<Snapshot, Failure>> {
        let meaning = || self.meaning.in_a_move().for_manifests();
        (!self.config.is_empty()).then(|| Offline::compiled(&self.config, meaning()))
    }
}

/// A running proxy.
#[derive(Debug, clap::Args)]
pub struct Running {
    /// Ask the running proxy whose admin listener is there [default: as PORTCULLIS_ADMIN says,
    /// or http://127.0.0.1:9900]
    #[arg(id = "running", long = "admin", value_name = "URL")]
    admin: Option<AdminUrl>,
}

impl Running {
    /// Its admin listener.
    pub fn admin(&self) -> AdminUrl {
        self.admin.clone().unwrap_or_else(AdminUrl::here)
    }
}
