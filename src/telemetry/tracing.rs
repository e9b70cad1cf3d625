//! The operations log: what the program says about itself, on standard error.
//!
//! Text for people when standard error is a terminal, JSON lines otherwise. The level comes from
//! a flag, else from `PORTCULLIS_LOG`, else it is `info`. Lines are written by a thread of their
//! own, so that a terminal in flow control or a full pipe stops no worker.

use std::borrow::Cow;
use std::env;
use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::field::MakeExt;
use tracing_subscriber::fmt::{FormatFields, MakeWriter, format};

use super::escape;

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
    let (guard, output) = start(Box::new(io::stderr()), !text)?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(output);
    let result = if text {
        builder.with_ansi(colour).fmt_fields(text_fields()).try_init()
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

/// Fields as `name=value`. The crate's own formatter lets a value's `Display` write control
/// characters and newlines as they come.
fn text_fields() -> impl for<'writer> FormatFields<'writer> + 'static {
    format::debug_fn(|writer, field, value| match field.name() {
        "message" => write!(writer, "{}", escape::text(&format!("{value:?}"))),
        // Where a line of the `log` crate comes from; shown as its target.
        name if name.starts_with("log.") => Ok(()),
        name => write!(writer, "{name}={}", escape::text(&format!("{value:?}"))),
    })
    .delimited(" ")
}

/// A message to the thread that writes.
#[derive(Debug)]
enum Line {
    Text(Vec<u8>),
    /// Everything before is written; tells whoever waits.
    Flush(SyncSender<()>),
}

fn start(mut output: Box<dyn Write + Send>, json: bool) -> Result<(LogGuard, Output), LogError> {
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
    Ok((LogGuard { lines: lines.clone() }, Output { lines, json, lost }))
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
    json: bool,
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
        let mut text = std::mem::take(&mut self.text);
        if self.output.json
            && let Cow::Owned(escaped) = escape::encoded_json(&text)
        {
            text = escaped;
        }
        let line = Line::Text(text);
        if self.output.lines.try_send(line).is_err() {
            self.output.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, PoisonError};

    use super::*;

    /// A target that keeps what it is given, and waits while it is held.
    #[derive(Clone, Default)]
    struct Target(Arc<Mutex<Vec<u8>>>);

    impl Write for Target {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn text(target: &Target) -> String {
        String::from_utf8(target.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn a_wrong_filter_is_explained() {
        let error = filter(Some("portcullis=loud".into())).unwrap_err().to_string();
        assert!(error.starts_with("`portcullis=loud` is no log filter: "), "{error}");
        assert!(error.contains("write a level (error, warn, info, debug)"), "{error}");
        assert_eq!(filter(None).unwrap().to_string(), "info");
        assert_eq!(filter(Some(" ".into())).unwrap().to_string(), "info");
    }

    #[test]
    fn json_lines_are_json_and_the_last_one_is_not_lost() {
        let target = Target::default();
        let (guard, output) = start(Box::new(target.clone()), true).unwrap();
        let subscriber =
            tracing_subscriber::fmt().with_writer(output).with_ansi(false).json().finish();
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(file = "a\"\n\u{1b}[2J\u{9b}2J", "a \u{1b}[31m line");
            tracing::warn!("the last line");
        });
        drop(guard);
        let text = text(&target);
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert_eq!(lines[1]["fields"]["message"], "the last line");
        assert_eq!(lines[0]["fields"]["file"], "a\"\n\u{1b}[2J\u{9b}2J");
        assert!(!text.contains(['\u{1b}', '\u{9b}']), "{text:?}");
    }

    #[test]
    fn text_lines_obey_no_escape_sequence_from_outside() {
        let target = Target::default();
        let (guard, output) = start(Box::new(target.clone()), false).unwrap();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(output)
            .with_ansi(false)
            .fmt_fields(text_fields())
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            let host = "\u{1b}[2J\n";
            tracing::info!(host, display = %host, "for {host}");
        });
        drop(guard);
        let text = text(&target);
        assert!(!text.contains('\u{1b}'), "{text:?}");
        assert!(
            text.ends_with(" for \\u{1b}[2J\\n host=\"\\u{1b}[2J\\n\" display=\\u{1b}[2J\\n\n"),
            "{text:?}"
        );
    }

    #[test]
    fn a_stuck_target_costs_lines_and_no_waiting() {
        let target = Target::default();
        let (guard, output) = start(Box::new(target.clone()), false).unwrap();
        let lost = Arc::clone(&output.lost);
        let subscriber = tracing_subscriber::fmt().with_writer(output).with_ansi(false).finish();
        tracing::subscriber::with_default(subscriber, || {
            let held = target.0.lock().unwrap();
            (0..LINES + 100).for_each(|number| tracing::info!(number, "a line"));
            let lost = lost.load(Ordering::Relaxed);
            assert!((99..=100).contains(&lost), "{lost} lost: all but the queue and one in hand");
            drop(held);
        });
        drop(guard);
        assert!(text(&target).contains("number=0"));
    }
}
