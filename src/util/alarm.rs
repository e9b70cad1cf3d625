//! One moment at which a task wants to be woken: a timer descriptor of the kernel, watched like a
//! socket.
//!
//! The runtime's own timers cost every turn of a worker two looks at the clock and a lock, whether
//! or not anything is due; the workers' runtimes have none, and this is what drives their wheel.
//!
//! Knows nothing of what it is set for.

use std::io;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use tokio::net::unix::pipe;

/// An alarm clock; belongs to the runtime that it was made on. To the runtime it is the end of a
/// pipe to read from: eight bytes come each time it goes off.
pub struct Alarm(pipe::Receiver);

impl Alarm {
    /// One that is not set. Must be called on a runtime that watches descriptors.
    ///
    /// # Errors
    /// Those of the system: out of descriptors or memory.
    pub fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        Ok(Self(pipe::Receiver::from_owned_fd_unchecked(timer)?))
    }

    /// Lets it go off once, `after` from now, and not when it was to go off before.
    ///
    /// # Errors
    /// None that are known of for an open descriptor.
    pub fn set(&self, after: Duration) -> io::Result<()> {
        // Nothing at all would stop it.
        let after = after.max(Duration::from_nanos(1));
        let once = Itimerspec { it_interval: timespec(Duration::ZERO), it_value: timespec(after) };
        timerfd_settime(&self.0, TimerfdTimerFlags::empty(), &once)?;
        Ok(())
    }

    /// Ready once it has gone off; the next call waits for the next time.
    ///
    /// # Errors
    /// Those of a runtime that ends.
    pub fn poll_rung(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.0.poll_read_ready(cx))?;
            match self.0.try_read(&mut [0; 8]) {
                Ok(_) => return Poll::Ready(Ok(())),
                // It was set anew since.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

fn timespec(duration: Duration) -> Timespec {
    let seconds = i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
    Timespec { tv_sec: seconds, tv_nsec: duration.subsec_nanos().into() }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::task::Waker;
    use std::time::Instant;

    use super::*;

    #[tokio::test]
    async fn it_goes_off_once_and_when_it_was_last_set_for() {
        let alarm = Alarm::new().expect("a timer");
        alarm.set(Duration::from_secs(3600)).expect("set");
        let began = Instant::now();
        alarm.set(Duration::from_millis(20)).expect("set again");
        poll_fn(|cx| alarm.poll_rung(cx)).await.expect("rung");
        assert!(began.elapsed() >= Duration::from_millis(20));
        let again = alarm.poll_rung(&mut Context::from_waker(Waker::noop()));
        assert!(again.is_pending(), "it went off twice");
        alarm.set(Duration::ZERO).expect("set for now");
        poll_fn(|cx| alarm.poll_rung(cx)).await.expect("rung");
    }
}
