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
    /// SIGUSR2: hand over to a new process.
    Succeed,
}

/// The signals this process listens to.
pub struct Signals {
    hangup: Unix,
    interrupt: Unix,
    terminate: Unix,
    first_user: Unix,
    second_user: Unix,
}

impl Signals {
    /// Starts listening.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            first_user: signal(SignalKind::user_defined1())?,
            second_user: signal(SignalKind::user_defined2())?,
        })
    }

    /// The next signal.
    pub async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.hangup.recv() => Signal::Reload,
            _ = self.interrupt.recv() => Signal::Stop,
            _ = self.terminate.recv() => Signal::Stop,
            _ = self.first_user.recv() => Signal::Reopen,
            _ = self.second_user.recv() => Signal::Succeed,
        }
    }

    /// Waits for a second demand to stop.
    pub async fn forced(&mut self) {
        while self.next().await != Signal::Stop {}
    }
}
