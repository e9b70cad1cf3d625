//! The operations log: what the program says about itself, on standard error.
//!
//! Text for people when standard error is a terminal, JSON lines otherwise. The level comes from
//! a flag, else from `PORTCULLIS_LOG`, else it is `info`. Lines are written by a thread of their
//! own, so that a terminal in flow control or a full pipe stops no worker.

use std::env;
use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// The environment variable with the level or filter.
pub const LEVEL_VARIABLE: &str = "PORTCULLIS_LOG";

/// Lines that wait at most; beyond that they are dropped.
const LINES: usize = 4096;
/// How long the last lines may take when the program ends.
const LAST_LINES: Duration = Duration::from_secs(1);

/// How the operations log looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, JSON otherwise.
    #[default]
    Auto,
    /// One JSON object a line.
    Json,
    /// Text, coloured on a terminal unless `NO_COLOR` is set.
    Text,
}

/// What the command line says about the operations log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogOptions {
    /// A level (`debug`) or filter (`info,portcullis::proxy=debug`); `None` takes
    /// `PORTCULLIS_LOG`, or `info`.
    pub filter: Option<String>,
    /// How it looks.
    pub format: LogFormat,
}

/// Why the operations log cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter does not parse.
    #[error(
        "`{filter}` is no log filter: {reason}; write a level (error, warn, info, debug) or \
         `module=level` pairs separated by commas"
    )]
    Filter {
        /// The filter as given.
        filter: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A subscriber is there already.
    #[error("the operations log was set up before")]
    Again,
    /// The thread cannot be started.
    #[error("cannot start the operations log's thread")]
    Thread {
        /// What the system says.
        source: io::Error,
    },
}

/// Keeps the log alive; dropped, it waits a moment for the last lines. Hold it until
/// the end and drop it before `std::process::exit`, which drops nothing.
#[derive(Debug)]
#[must_use = "the last lines are lost without it"]
pub struct LogGuard {
    lines: SyncSender<Line>,
}

/// Sets up the operations log of the process, once.
///
/// # Errors
/// If the filter does not parse, or the log was set up before.
pub fn init(options: &LogOptions) -> Result<LogGuard, LogError> {
    let filter = filter(options.filter.clone().or_else(|| env::var(LEVEL_VARIABLE).ok()))?;
    let terminal = io::stderr().is_terminal();
    let text = match options.format {
        LogFormat::Auto => terminal,
        LogFormat::Json => false,
        LogFormat::Text => true,
    };
    let colour = terminal && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let (guard, output) = start(Box::new(io::stderr()))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(output);
    let result = if text {
        builder.with_ansi(colour).try_init()
    } else {
        builder.with_ansi(false).json().flatten_event(true).try_init()
    };
    result.map(|()| guard).map_err(|_| LogError::Again)
}

fn filter(text: Option<String>) -> Result<EnvFilter, LogError> {
    let text = text.filter(|text| !text.trim().is_empty()).unwrap_or_else(|| "info".to_owned());
    EnvFilter::builder()
        .parse(&text)
        .map_err(|error| LogError::Filter { reason: error.to_string(), filter: text })
}

/// A message to the thread that writes.
#[derive(Debug)]
enum Line {
    Text(Vec<u8>),
    /// Everything before is written; tells whoever waits.
    Flush(SyncSender<()>),
}

fn start(mut output: Box<dyn Write + Send>) -> Result<(LogGuard, Output), LogError> {
    let (lines, receiver): (_, Receiver<Line>) = sync_channel(LINES);
    let lost = Arc::new(AtomicU64::new(0));
    let dropped = Arc::clone(&lost);
    thread::Builder::new()
        .name("log".into())
        .spawn(move || {
            for line in receiver {
                match line {
                    // Nobody is left to tell that standard error is gone.
                    Line::Text(text) => drop(output.write_all(&text)),
                    Line::Flush(done) => {
                        let _ = done.try_send(());
                    }
                }
                let lost = dropped.swap(0, Ordering::Relaxed);
                if lost > 0 {
                    tracing::warn!(lost, "the operations log was too slow; lines are lost");
                }
            }
        })
        .map_err(|source| LogError::Thread { source })?;
    Ok((LogGuard { lines: lines.clone() }, Output { lines, lost }))
}

impl Drop for LogGuard {
    fn drop(&mut self) {
        let deadline = Instant::now() + LAST_LINES;
        let (done, flushed) = sync_channel(1);
        let mut message = Line::Flush(done);
        // A full queue is worth waiting for, a stuck one is not.
        while let Err(TrySendError::Full(back)) = self.lines.try_send(message) {
            if Instant::now() >= deadline {
                return;
            }
            message = back;
            thread::park_timeout(Duration::from_millis(5));
        }
        let left = deadline.saturating_duration_since(Instant::now());
        match flushed.recv_timeout(left) {
            Ok(()) | Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
        }
    }
}

/// Makes a buffer per event.
#[derive(Clone, Debug)]
struct Output {
    lines: SyncSender<Line>,
    /// Lines dropped since the thread last told.
    lost: Arc<AtomicU64>,
}

impl<'a> MakeWriter<'a> for Output {
    type Writer = Event<'a>;

    fn make_writer(&'a self) -> Event<'a> {
        Event { text: Vec::new(), output: self }
    }
}

/// The text of one event, handed over when it is whole.
struct Event<'a> {
    text: Vec<u8>,
    output: &'a Output,
}

impl Write for Event<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Event<'_> {
    fn drop(&mut self) {
        let line = Line::Text(std::mem::take(&mut self.text));
        if self.output.lines.try_send(line).is_err() {
            self.output.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}
