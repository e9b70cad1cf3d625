//! How fast a response's body goes to its client.

use std::rc::Rc;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use bytes::Bytes;

use super::Context;
use crate::error::ProxyError;
use crate::ir::ResponseRate;
use crate::telemetry::Reason;
use crate::util::moment::Moment;
use crate::util::wheel::Timer;

/// The least that is sent at a time.
const LEAST: u64 = 1024;

/// Holds a body back to a rate: what has gone beyond the free part has to be paid for in time
/// before more goes.
pub(super) struct Pace {
    rate: u64,
    /// What may still go for nothing.
    free: u64,
    /// When what has gone is paid for.
    next: Moment,
    /// What was read and is more than may go at a time.
    rest: Bytes,
    timer: Timer,
    context: Rc<Context>,
}

impl Pace {
    pub fn new(rate: ResponseRate, context: &Rc<Context>) -> Self {
        Self {
            rate: rate.bytes.get(),
            free: rate.after,
            next: Moment::now(),
            rest: Bytes::new(),
            timer: context.worker.wheel.timer(),
            context: context.clone(),
        }
    }

    /// Ready once more may go. A client that leaves meanwhile is noticed.
    pub fn poll_turn(&mut self, cx: &mut TaskContext<'_>) -> Poll<Result<(), ProxyError>> {
        if Moment::now() >= self.next {
            self.timer.disarm();
            return Poll::Ready(Ok(()));
        }
        if self.context.link.poll_closed(cx).is_ready() {
            return Poll::Ready(Err(ProxyError::client(Reason::ClientClosed)));
        }
        if !self.timer.is_armed() {
            self.timer.arm_at(self.next);
        }
        self.timer.poll_due(cx).map(Ok)
    }

    /// What of `data` may go now; the rest goes at its next turns.
    pub fn part(&mut self, mut data: Bytes) -> Bytes {
        // An eighth of a second's worth at a time.
        let most = (self.rate / 8).max(LEAST).saturating_add(self.free);
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        if data.len() > most {
            self.rest = data.split_off(most);
        }
        let size = data.len() as u64;
        let paid = size.saturating_sub(self.free);
        self.free = self.free.saturating_sub(size);
        if paid > 0 {
            let nanos = u128::from(paid) * 1_000_000_000 / u128::from(self.rate);
            let cost = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
            self.next = Moment::now().max(self.next).after(cost);
        }
        data
    }

    /// What waits for its turn.
    pub fn take_rest(&mut self) -> Bytes {
        std::mem::take(&mut self.rest)
    }

    /// How many bytes of what was read have not gone.
    pub fn held(&self) -> u64 {
        self.rest.len() as u64
    }
}
