//! What to run, from the environment and the arguments.

use std::path::PathBuf;
use std::time::Duration;

use crate::peers::Kind;

/// One line of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    Body1m,
    Body64k,
    H1,
    H1Tls,
    H2Tls,
    Handshakes,
    Idle,
    IdleTls,
}

impl Line {
    /// All lines in the order they run and are shown.
    pub const ALL: [Line; 8] = [
        Line::H1,
        Line::H1Tls,
        Line::H2Tls,
        Line::Handshakes,
        Line::Body64k,
        Line::Body1m,
        Line::Idle,
        Line::IdleTls,
    ];

    /// The name in `PORTCULLIS_BENCH_LINES` and in the JSON.
    pub fn key(self) -> &'static str {
        match self {
            Line::Body1m => "body_1m",
            Line::Body64k => "body_64k",
            Line::H1 => "h1",
            Line::H1Tls => "h1_tls",
            Line::H2Tls => "h2_tls",
            Line::Handshakes => "handshakes",
            Line::Idle => "idle",
            Line::IdleTls => "idle_tls",
        }
    }

    /// A few words for the chart.
    pub fn short(self) -> &'static str {
        match self {
            Line::Body1m => "1 MiB body",
            Line::Body64k => "64 KiB body",
            Line::H1 => "HTTP/1.1",
            Line::H1Tls => "HTTP/1.1, TLS",
            Line::H2Tls => "HTTP/2, TLS",
            Line::Handshakes => "TLS handshake",
            Line::Idle => "idle memory",
            Line::IdleTls => "idle memory, TLS",
        }
    }

    /// Whether the figure is memory per connection, not CPU per request.
    pub fn is_memory(self) -> bool {
        matches!(self, Line::Idle | Line::IdleTls)
    }

    /// The size of the response body, bytes.
    pub fn body(self) -> usize {
        match self {
            Line::Body1m => 1024 * 1024,
            Line::Body64k => 64 * 1024,
            _ => 64,
        }
    }

    /// The ratio to the better of nginx and HAProxy that Portcullis has set itself; `None` is no
    /// target.
    pub fn target(self) -> Option<f64> {
        match self {
            Line::H2Tls => Some(1.15),
            Line::Idle | Line::IdleTls => None,
            _ => Some(1.0),
        }
    }
}

/// Everything a run depends on.
#[derive(Debug)]
pub struct Options {
    pub lines: Vec<Line>,
    pub peers: Vec<Kind>,
    pub rounds: usize,
    pub window: Duration,
    pub warmup: Duration,
    /// Connections held open on the idle lines.
    pub idle_connections: usize,
    /// Whether missing peers may be installed.
    pub install: bool,
    /// Where the JSON goes; the chart goes beside it.
    pub output: PathBuf,
    /// The Portcullis binary under test.
    pub binary: PathBuf,
    /// An older Portcullis binary to run as a column of its own.
    pub baseline: Option<PathBuf>,
    /// Whether nginx and HAProxy are tuned for large bodies instead of running as shipped.
    pub tuned: bool,
    /// Count instructions under callgrind instead of measuring time.
    pub instructions: Option<u64>,
}

impl Options {
    /// Reads `PORTCULLIS_BENCH_*` and the arguments; the error says what is wrong with which.
    pub fn read(arguments: &[String]) -> Result<Self, String> {
        let mut quick = flag("QUICK", false)?;
        let mut instructions = None;
        for argument in arguments {
            match argument.as_str() {
                "--bench" => {}
                "--instructions" => instructions = Some(number("REQUESTS", 2000)?),
                "--quick" => quick = true,
                other => {
                    return Err(format!(
                        "unknown argument {other:?}; there are --quick and --instructions"
                    ));
                }
            }
        }
        let baseline = variable("BASELINE").map(PathBuf::from);
        let mut peers = match variable("PEERS") {
            Some(text) => list(&text, "PEERS", &Kind::ALL, Kind::key)?,
            None => Kind::ALL.iter().copied().filter(|kind| *kind != Kind::Baseline).collect(),
        };
        if baseline.is_some() && !peers.contains(&Kind::Baseline) {
            peers.insert(0, Kind::Baseline);
        }
        let lines = match variable("LINES") {
            Some(text) => list(&text, "LINES", &Line::ALL, Line::key)?,
            None => Line::ALL.to_vec(),
        };
        let default_seconds = if quick { 1.0 } else { 4.0 };
        let seconds: f64 = number("SECONDS", default_seconds)?;
        if !(0.1..=120.0).contains(&seconds) {
            return Err("PORTCULLIS_BENCH_SECONDS must be from 0.1 to 120".into());
        }
        let rounds = number("ROUNDS", if quick { 2 } else { 5 })?;
        if !(1..=100).contains(&rounds) {
            return Err("PORTCULLIS_BENCH_ROUNDS must be from 1 to 100".into());
        }
        Ok(Self {
            lines,
            peers,
            rounds,
            window: Duration::from_secs_f64(seconds),
            warmup: Duration::from_secs_f64((seconds / 4.0).clamp(0.3, 1.0)),
            idle_connections: number("CONNECTIONS", if quick { 1000 } else { 5000 })?,
            install: flag("INSTALL", true)?,
            output: variable("OUT").map_or_else(|| target().join("peers.json"), PathBuf::from),
            binary: variable("BINARY")
                .map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_portcullis")), PathBuf::from),
            baseline,
            tuned: flag("TUNED", false)?,
            instructions,
        })
    }

    /// An upper bound of the whole run, for the watchdog.
    pub fn deadline(&self) -> Duration {
        let turns = self.lines.len() * self.peers.len() * self.rounds;
        let turn = self.window + self.warmup + Duration::from_secs(45);
        Duration::from_secs(900) + turn * u32::try_from(turns).unwrap_or(u32::MAX)
    }
}

/// Where this run keeps its configurations and logs.
pub fn scratch() -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("peers")
}

fn target() -> PathBuf {
    let scratch = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    scratch.parent().map_or(scratch.clone(), PathBuf::from)
}

fn variable(name: &str) -> Option<String> {
    std::env::var(format!("PORTCULLIS_BENCH_{name}")).ok().filter(|value| !value.is_empty())
}

fn flag(name: &str, default: bool) -> Result<bool, String> {
    match variable(name).as_deref() {
        None => Ok(default),
        Some("1" | "true") => Ok(true),
        Some("0" | "false") => Ok(false),
        Some(other) => Err(format!("PORTCULLIS_BENCH_{name} is {other:?}; it takes 0 or 1")),
    }
}

fn number<T: std::str::FromStr>(name: &str, default: T) -> Result<T, String> {
    match variable(name) {
        None => Ok(default),
        Some(text) => {
            text.parse().map_err(|_| format!("PORTCULLIS_BENCH_{name} is {text:?}, no number"))
        }
    }
}

fn list<T: Copy + PartialEq>(
    text: &str,
    name: &str,
    all: &[T],
    key: fn(T) -> &'static str,
) -> Result<Vec<T>, String> {
    let wanted: Vec<&str> =
        text.split(',').map(str::trim).filter(|word| !word.is_empty()).collect();
    for word in &wanted {
        if !all.iter().any(|item| key(*item) == *word) {
            let known: Vec<_> = all.iter().map(|item| key(*item)).collect();
            return Err(format!(
                "PORTCULLIS_BENCH_{name} names {word:?}; there are {}",
                known.join(", ")
            ));
        }
    }
    Ok(all.iter().copied().filter(|item| wanted.contains(&key(*item))).collect())
}
