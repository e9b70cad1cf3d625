//! Where a command looks: into files, or at a running proxy.

use std::path::PathBuf;

use super::ask::AdminUrl;

/// Files or a running proxy.
#[derive(Debug, clap::Args)]
pub struct Source {
    /// Look into these configuration files, and directories of *.yaml and *.yml
    #[arg(long, short, value_name = "FILE|DIR", value_delimiter = ',', conflicts_with = "running")]
    pub config: Vec<PathBuf>,
    /// Where a running proxy is
    #[command(flatten)]
    pub running: Running,
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
