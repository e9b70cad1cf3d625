//! The thread that formats and writes; alone in waiting for disks and pipes.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, Thread};
use std::time::Duration;

use super::Shared;
use super::format::Format;
use super::queue::Queues;
use crate::ir::AccessLogTarget;
use crate::telemetry::metrics::Dropped;

/// How long lines wait at most for company; one write for many lines.
const INTERVAL: Duration = Duration::from_millis(50);
/// How much is formatted before it is written.
const BATCH: usize = 64 * 1024;
/// The pause before a target that would block is tried again.
const BLOCKED: Duration = Duration::from_millis(5);

/// Where bytes go.
pub(super) type Output = Box<dyn Write + Send>;

/// Opens `target`, unbuffered: what reaches it are whole batches.
pub(super) fn open(target: &AccessLogTarget) -> io::Result<Output> {
    Ok(Box::new(match target {
        AccessLogTarget::File(path) => open_file(path)?,
        AccessLogTarget::Stdout => File::from(io::stdout().as_fd().try_clone_to_owned()?),
    }))
}

fn open_file(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.append(true).create(true).mode(0o640);
    // Opening a FIFO for writing waits for a reader, unless it is opened for reading too.
    if path.metadata().is_ok_and(|metadata| metadata.file_type().is_fifo()) {
        options.read(true);
    }
    options.open(path)
}

/// A running writer; dropped, it writes what waits by then and ends.
#[derive(Debug)]
pub(super) struct Handle {
    stop: Arc<AtomicBool>,
    thread: Thread,
}

impl Handle {
    /// The thread to wake when much waits.
    pub(super) fn thread(&self) -> &Thread {
        &self.thread
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        self.thread.unpark();
    }
}

/// Starts a writer on its own thread.
pub(super) fn start(
    shared: &Arc<Shared>,
    queues: &Arc<Queues>,
    output: Output,
    format: Format,
) -> io::Result<Handle> {
    let stop = Arc::new(AtomicBool::new(false));
    let mut writer = Writer {
        shared: Arc::clone(shared),
        queues: Arc::clone(queues),
        stop: Arc::clone(&stop),
        output,
        format,
        buffer: Vec::with_capacity(BATCH + BATCH / 4),
        torn: false,
        failing: false,
    };
    let thread = thread::Builder::new().name("access-log".into()).spawn(move || writer.run())?;
    Ok(Handle { stop, thread: thread.thread().clone() })
}

struct Writer {
    shared: Arc<Shared>,
    queues: Arc<Queues>,
    stop: Arc<AtomicBool>,
    output: Output,
    format: Format,
    buffer: Vec<u8>,
    /// The target's last line is not whole.
    torn: bool,
    failing: bool,
}

impl Writer {
    fn run(&mut self) {
        while !self.stop.load(Ordering::Acquire) {
            if !self.batch() {
                thread::park_timeout(INTERVAL);
            }
        }
        let last = self.queues.put_so_far();
        while self.queues.taken_so_far() < last && self.batch() {}
    }

    /// Writes a batch; `false` if nothing waited.
    fn batch(&mut self) -> bool {
        self.buffer.clear();
        if self.torn {
            self.buffer.push(b'\n');
        }
        let (format, buffer) = (&self.format, &mut self.buffer);
        let lines = self.queues.take(|record| {
            format.write(record, buffer);
            buffer.len() < BATCH
        });
        if lines == 0 {
            return false;
        }
        let whole = self.write(lines);
        let control = self.shared.metrics.control();
        control.access_log_written(whole);
        if whole < lines {
            control.access_log_dropped(Dropped::WriteFailed, lines - whole);
        }
        self.shared.done(lines);
        true
    }

    /// Writes the buffer, which holds `lines` lines; returns how many went out whole.
    fn write(&mut self, lines: u64) -> u64 {
        let (written, result) = self.write_out();
        match result {
            Ok(()) => {
                self.torn = false;
                if std::mem::take(&mut self.failing) {
                    tracing::info!("the access log is written again");
                }
                lines
            }
            Err(error) => {
                let whole = self.whole_lines(written);
                if let Some(last) = written.checked_sub(1).and_then(|at| self.buffer.get(at)) {
                    self.torn = *last != b'\n';
                }
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::error!(%error, "the access log cannot be written; lines are lost");
                }
                whole
            }
        }
    }

    /// How many lines are in the first `written` bytes of the buffer. A line that lacks only its
    /// newline counts: the next batch brings one. That one is not a line of its own.
    fn whole_lines(&self, written: usize) -> u64 {
        let (gone, rest) = self.buffer.split_at_checked(written).unwrap_or_default();
        let newlines = gone.iter().filter(|byte| **byte == b'\n').count() as u64;
        let whole = newlines - u64::from(self.torn && written > 0);
        let unended = gone.last().is_some_and(|last| *last != b'\n');
        whole + u64::from(unended && rest.first() == Some(&b'\n'))
    }

    /// Writes the buffer as far as it goes.
    fn write_out(&mut self) -> (usize, io::Result<()>) {
        let mut written = 0;
        while let Some(rest) = self.buffer.get(written..).filter(|rest| !rest.is_empty()) {
            match self.output.write(rest) {
                Ok(0) => return (written, Err(ErrorKind::WriteZero.into())),
                Ok(count) => written += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error)
                    if error.kind() == ErrorKind::WouldBlock
                        && !self.stop.load(Ordering::Acquire) =>
                {
                    thread::park_timeout(BLOCKED);
                }
                Err(error) => return (written, Err(error)),
            }
        }
        (written, Ok(()))
    }
}
