//! The access log: a line per exchange, written off the workers.
//!
//! A worker puts a [`Record`] into its own bounded queue and is done: no lock, no system call, no
//! formatting. One thread takes from all queues, formats and writes in batches. When the target
//! is too slow the queues run full and lines are dropped and counted; a stuck or full target
//! costs lines, never requests. Everything that came off the network is escaped.

mod clock;
mod field;
mod format;
mod nginx;
mod queue;
mod record;
mod template;
#[cfg(test)]
mod tests;
mod writer;

pub use field::Field;
pub use nginx::NginxFormat;
pub use record::{HedgeOutcome, Record, RecordText};
pub use template::{Template, TemplateError};

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::thread::Thread;
use std::time::Duration;

use arc_swap::ArcSwapOption;

use self::format::Format;
use self::queue::{Outcome, Queues};
use self::writer::{Handle, Output};
use super::metrics::{Dropped, Metrics, WorkerId};
use crate::ir::{AccessLog, AccessLogTarget};

/// Why an access log cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AccessLogError {
    /// Its target cannot be opened.
    #[error("cannot open the access log {}: {source}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Standard output is closed.
    #[error("cannot write the access log to standard output: {source}")]
    Stdout {
        /// What the system says.
        source: io::Error,
    },
    /// Its template is wrong.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// Its thread cannot be started.
    #[error("cannot start the access log's thread: {source}")]
    Thread {
        /// What the system says.
        source: io::Error,
    },
}

/// The access log; a clone is the same one. It starts disabled.
#[derive(Clone, Debug)]
pub struct AccessLogger(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    workers: usize,
    enabled: AtomicBool,
    /// Made when the log is first enabled: a megabyte or two per worker.
    queues: OnceLock<Arc<Queues>>,
    /// The writer's thread, for workers to wake.
    thread: ArcSwapOption<Thread>,
    target: Mutex<Target>,
}

/// What is wanted, and what is written to: something else where that cannot be opened.
#[derive(Debug, Default)]
struct Target {
    wanted: Option<AccessLog>,
    current: Option<Current>,
}

#[derive(Debug)]
struct Current {
    config: AccessLog,
    /// Ends the writer when dropped.
    _writer: Handle,
}

/// What writers report to.
#[derive(Debug)]
struct Shared {
    metrics: Metrics,
    done: Mutex<u64>,
    progress: Condvar,
}

impl Shared {
    /// Counts `lines` records as dealt with.
    fn done(&self, lines: u64) {
        *self.done.lock().unwrap_or_else(PoisonError::into_inner) += lines;
        self.progress.notify_all();
    }
}

impl AccessLogger {
    /// A disabled log that counts what it loses in `metrics`.
    pub fn new(metrics: Metrics) -> Self {
        let workers = metrics.workers();
        let shared = Shared { metrics, done: Mutex::new(0), progress: Condvar::new() };
        Self(Arc::new(Inner {
            shared: Arc::new(shared),
            workers,
            enabled: AtomicBool::new(false),
            queues: OnceLock::new(),
            thread: ArcSwapOption::empty(),
            target: Mutex::default(),
        }))
    }

    /// Whether records are wanted; cheap enough to ask for each request.
    #[inline]
    pub fn enabled(&self) -> bool {
        self.0.enabled.load(Ordering::Relaxed)
    }

    /// Takes over a configuration: one that is in use changes nothing, `None` turns the log off.
    /// Records given before still go where they were meant to.
    ///
    /// # Errors
    /// If the target cannot be opened or the template is wrong; the log goes on as it was. Asked
    /// again, it tries again.
    pub fn configure(&self, config: Option<&AccessLog>) -> Result<(), AccessLogError> {
        let mut target = self.0.target.lock().unwrap_or_else(PoisonError::into_inner);
        target.wanted = config.cloned();
        if target.current.as_ref().map(|current| &current.config) == config {
            return Ok(());
        }
        match config {
            Some(config) => target.current = Some(self.start(config)?),
            None => {
                self.0.enabled.store(false, Ordering::Relaxed);
                self.0.thread.store(None);
                target.current = None;
            }
        }
        Ok(())
    }

    /// Opens the wanted target again, after its file was moved away (SIGUSR1).
    ///
    /// # Errors
    /// If it cannot be opened; lines then go on to where they went.
    pub fn reopen(&self) -> Result<(), AccessLogError> {
        let mut target = self.0.target.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(wanted) = target.wanted.clone() else { return Ok(()) };
        let same = target.current.as_ref().is_some_and(|current| current.config == wanted);
        if !same || matches!(wanted.target, AccessLogTarget::File(_)) {
            target.current = Some(self.start(&wanted)?);
        }
        Ok(())
    }

    /// Hands `record` over; to be called by `worker` only. Never waits: without room the record
    /// is dropped and counted.
    #[inline]
    pub fn record(&self, worker: WorkerId, record: Record) {
        if self.enabled() {
            self.put(worker, record);
        }
    }

    /// Waits until every record given before is written or lost, at most for `limit`; `false` if
    /// that was too short.
    pub fn flush(&self, limit: Duration) -> bool {
        let Some(queues) = self.0.queues.get() else { return true };
        let given = queues.put_so_far();
        self.wake();
        let done = self.0.shared.done.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.0.shared.progress.wait_timeout_while(done, limit, |done| *done < given);
        let (done, _) = waited.unwrap_or_else(PoisonError::into_inner);
        *done >= given
    }

    fn put(&self, worker: WorkerId, record: Record) {
        let Some(queues) = self.0.queues.get() else { return };
        match queues.put(worker, record) {
            Outcome::Queued => {}
            Outcome::QueuedMany => self.wake(),
            Outcome::Full => {
                self.0.shared.metrics.control().access_log_dropped(Dropped::QueueFull, 1);
            }
        }
    }

    fn wake(&self) {
        if let Some(thread) = self.0.thread.load().as_deref() {
            thread.unpark();
        }
    }

    fn start(&self, config: &AccessLog) -> Result<Current, AccessLogError> {
        let format = Format::new(&config.format)?;
        let output = writer::open(&config.target).map_err(|source| match &config.target {
            AccessLogTarget::File(path) => AccessLogError::Open { path: path.clone(), source },
            AccessLogTarget::Stdout => AccessLogError::Stdout { source },
        })?;
        self.start_writer(config.clone(), format, output)
    }

    fn start_writer(
        &self,
        config: AccessLog,
        format: Format,
        output: Output,
    ) -> Result<Current, AccessLogError> {
        let queues = self.0.queues.get_or_init(|| Arc::new(Queues::new(self.0.workers)));
        let handle = writer::start(&self.0.shared, queues, output, format)
            .map_err(|source| AccessLogError::Thread { source })?;
        self.0.thread.store(Some(Arc::new(handle.thread().clone())));
        self.0.enabled.store(true, Ordering::Relaxed);
        Ok(Current { config, _writer: handle })
    }
}
