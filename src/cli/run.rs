//! `portcullis run`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use tokio::sync::{Notify, watch};

use crate::app::{self, Provider};
use crate::control::Feed;
use crate::provider::file;
use crate::telemetry::tracing::{LogOptions, init};

/// Options of `portcullis run`.
#[derive(Debug, clap::Args)]
pub struct RunArgs {
    /// Configuration files, and directories of *.yaml and *.yml
    #[arg(
        long,
        short,
        value_name = "FILE|DIR",
        env = "PORTCULLIS_CONFIG",
        value_delimiter = ',',
        required = true
    )]
    pub config: Vec<PathBuf>,
    /// Level of the operations log, for example `info` or `portcullis=debug`
    #[arg(long, value_name = "FILTER", env = "PORTCULLIS_LOG")]
    pub log: Option<String>,
}

/// Serves what the files say until told to stop.
pub fn run(args: RunArgs) -> ExitCode {
    let options = LogOptions { filter: args.log, ..LogOptions::default() };
    let _log = match init(&options) {
        Ok(guard) => guard,
        Err(error) => {
            eprintln!("portcullis: {error}");
            return ExitCode::from(2);
        }
    };
    let reload = Arc::new(Notify::new());
    let provider = file_provider(args.config, reload.clone());
    app::run(vec![provider], reload, |_| {}).into()
}

/// The file provider as the composition root wants it.
pub fn file_provider(paths: Vec<PathBuf>, reload: Arc<Notify>) -> Provider {
    let (out, updates) = watch::channel(file::Update::default());
    let options = file::Options::new(paths, file::environment());
    let feed = app::watch_provider(
        updates,
        |update| update.loads > 0,
        |update| Feed {
            fragment: update.fragment,
            problems: update.problems,
            accepted: update.accepted,
        },
    );
    Provider {
        start: Box::new(move |index, news| {
            tokio::spawn(file::run(options, reload, out));
            (feed.start)(index, news);
        }),
    }
}
