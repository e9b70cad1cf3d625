//! The load side: a back end and the generators, all on one core.

pub mod backend;
mod h1;
mod h2;
mod histogram;
mod idle;
mod response;

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

pub use h1::H1Load;
pub use h2::H2Load;
pub use histogram::Histogram;
pub use idle::IdleConnections;

use crate::certificate::HOST;

/// The path of a request for a body of `body` bytes, under the route that Portcullis has among
/// its thousand.
pub fn path(body: usize) -> String {
    format!("/r/57/{body}")
}

/// A request head as a small HTTP client sends it.
pub fn request(body: usize, close: bool) -> Vec<u8> {
    let close = if close { "Connection: close\r\n" } else { "" };
    format!(
        "GET {} HTTP/1.1\r\nHost: {HOST}\r\nUser-Agent: peers/1\r\nAccept: */*\r\n{close}\r\n",
        path(body)
    )
    .into_bytes()
}

/// When a generator stops.
#[derive(Clone, Copy, Debug)]
pub enum Extent {
    /// After this many requests.
    Requests(u64),
    /// After a warm-up that is not counted and a window that is.
    Window { warmup: Duration, window: Duration },
}

/// What one turn of a generator counted.
#[derive(Debug)]
pub struct Counted {
    /// Requests answered as they should be.
    pub requests: u64,
    /// The window's true length.
    pub elapsed: Duration,
    /// CPU time the proxy spent in the window.
    pub cpu: Duration,
    /// From a request's first byte to its response's last; for handshakes from the connect.
    pub latency: Histogram,
    /// Everything that went wrong, warm-up included.
    pub errors: u64,
    /// The first thing that went wrong.
    pub first_error: Option<String>,
}

/// Reads a proxy's CPU time.
pub type Probe = Box<dyn Fn() -> io::Result<Duration>>;

/// Keeps the count and the time of one turn; generators tell it what happens.
pub struct Meter {
    extent: Extent,
    probe: Probe,
    started: Instant,
    window: Option<(Instant, Duration)>,
    done: Option<(Duration, Duration)>,
    answered: u64,
    requests: u64,
    latency: Histogram,
    errors: u64,
    first_error: Option<String>,
}

impl Meter {
    /// A meter that starts now.
    pub fn new(extent: Extent, probe: Probe) -> Self {
        Self {
            extent,
            probe,
            started: Instant::now(),
            window: None,
            done: None,
            answered: 0,
            requests: 0,
            latency: Histogram::new(),
            errors: 0,
            first_error: None,
        }
    }

    /// Moves on with the clock; false says the turn is over.
    pub fn tick(&mut self) -> io::Result<bool> {
        let now = Instant::now();
        match (self.extent, self.window) {
            _ if self.done.is_some() => return Ok(false),
            (Extent::Requests(_), None) => self.window = Some((now, (self.probe)()?)),
            (Extent::Requests(limit), Some((start, cpu))) => {
                if self.answered >= limit || now - start > Duration::from_secs(120) {
                    self.done = Some((now - start, (self.probe)()?.saturating_sub(cpu)));
                }
            }
            (Extent::Window { warmup, .. }, None) => {
                if now - self.started >= warmup {
                    self.window = Some((now, (self.probe)()?));
                }
            }
            (Extent::Window { window, .. }, Some((start, cpu))) => {
                if now - start >= window {
                    self.done = Some((now - start, (self.probe)()?.saturating_sub(cpu)));
                }
            }
        }
        // A proxy that answers nothing right is not worth waiting for.
        Ok(self.done.is_none() && self.errors < 1000)
    }

    /// A request begun at `sent` was answered in full and right.
    pub fn answered(&mut self, sent: Instant) {
        self.answered += 1;
        if self.window.is_some() && self.done.is_none() {
            self.requests += 1;
            self.latency.record(sent.elapsed());
        }
    }

    /// Whether all requests of a fixed number are answered, so that none may be added.
    pub fn is_full(&self) -> bool {
        matches!(self.extent, Extent::Requests(limit) if self.answered >= limit)
    }

    /// Something went wrong.
    pub fn error(&mut self, what: impl Into<String>) {
        self.errors += 1;
        if self.first_error.is_none() {
            self.first_error = Some(what.into());
        }
    }

    /// What was counted.
    pub fn finish(self) -> Counted {
        let (elapsed, cpu) = self.done.unwrap_or_default();
        Counted {
            requests: self.requests,
            elapsed,
            cpu,
            latency: self.latency,
            errors: self.errors,
            first_error: self.first_error,
        }
    }
}

/// Fetches `target` once over a new plain connection and returns the response body; for the
/// checks before a turn, not for load.
pub fn fetch(proxy: SocketAddr, target: &str) -> io::Result<Vec<u8>> {
    use std::io::{Read, Write};
    let mut socket = std::net::TcpStream::connect_timeout(&proxy, Duration::from_secs(1))?;
    socket.set_read_timeout(Some(Duration::from_secs(2)))?;
    let request = format!(
        "GET {target} HTTP/1.1\r\nHost: {HOST}\r\nUser-Agent: peers/1\r\nConnection: close\r\n\r\n"
    );
    socket.write_all(request.as_bytes())?;
    let mut all = Vec::new();
    let mut reader = response::Reader::new();
    let mut chunk = [0; 16 * 1024];
    loop {
        let count = socket.read(&mut chunk)?;
        if count == 0 {
            return Err(io::Error::other("the connection ended within the response"));
        }
        all.extend_from_slice(&chunk[..count]);
        if reader.feed(&chunk[..count]).map_err(io::Error::other)?.is_some() {
            let start = all.windows(4).position(|four| four == b"\r\n\r\n").map_or(0, |at| at + 4);
            return Ok(all.split_off(start));
        }
    }
}
