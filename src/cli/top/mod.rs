//! `portcullis top`: the traffic of a running proxy, as figures per second.

mod histogram;
mod sample;
mod scrape;

use std::io::{self, IsTerminal};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use super::ask::{AdminUrl, AskError};
use super::source::Running;
use super::{Failure, output};
use crate::admin::view::{StatusView, UpstreamView};
use sample::Sample;
use scrape::Scrape;

/// The time between two looks.
const EVERY: Duration = Duration::from_secs(1);

/// Options of `portcullis top`.
#[derive(Debug, clap::Args)]
pub struct TopArgs {
    #[command(flatten)]
    running: Running,
    /// Print the figures of one second and end
    #[arg(long)]
    once: bool,
}

/// What is seen at one look.
struct Look {
    at: Instant,
    status: StatusView,
    upstreams: Vec<UpstreamView>,
    metrics: Scrape,
}

/// Shows a table every second until interrupted.
pub fn run(args: &TopArgs) -> Result<ExitCode, Failure> {
    let admin = args.running.admin();
    let mut before = look(&admin).map_err(Failure::runtime)?;
    let in_place = !args.once && io::stdout().is_terminal();
    loop {
        thread::sleep(EVERY);
        let text = match look(&admin) {
            Ok(now) => {
                let text = Sample::between(&before, &now).to_string();
                before = now;
                text
            }
            Err(error) if args.once => return Err(Failure::runtime(error)),
            // It may come back: a restart should not end the watch.
            Err(error) => format!("{error}\n"),
        };
        // Home, the new text, then whatever is left of the old: no flicker.
        let text = match in_place {
            true => format!("\x1b[H{}\x1b[J", text.replace('\n', "\x1b[K\n")),
            false => text + "\n",
        };
        output::print(&text)?;
        if args.once {
            return Ok(ExitCode::SUCCESS);
        }
    }
}

fn look(admin: &AdminUrl) -> Result<Look, AskError> {
    let status = admin.get_json("/api/status")?;
    let upstreams = admin.get_json("/api/upstreams")?;
    let page = admin.get("/metrics")?;
    let metrics = Scrape::parse(&String::from_utf8_lossy(&page));
    Ok(Look { at: Instant::now(), status, upstreams, metrics })
}
