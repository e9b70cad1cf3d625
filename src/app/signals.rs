//! What the user says with signals.

use std::io;

use tokio::signal::unix::{Signal as Unix, SignalKind, signal};

/// A signal's meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGHUP: look at the configuration again.
    Reload,
    /// SIGUSR1: open log files again.
    Reopen,
    /// SIGTERM or SIGINT: finish and go.
    Stop,
}

/// The signals this process listens to.
pub struct Signals {
    hangup: Unix,
    interrupt: Unix,
    terminate: Unix,
    user: Unix,
}

impl Signals {
    /// Starts listening.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            user: signal(SignalKind::user_defined1())?,
        })
    }

    /// The next signal.
    pub async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.hangup.recv() => Signal::Reload,
            _ = self.interrupt.recv() => Signal::Stop,
            _ = self.terminate.recv() => Signal::Stop,
            _ = self.user.recv() => Signal::Reopen,
        }
    }

    /// Waits for a second demand to stop.
    pub async fn forced(&mut self) {
        while self.next().await != Signal::Stop {}
    }
}
