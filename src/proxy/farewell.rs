//! The last moment of a response that breaks off.

use std::task::{Context as TaskContext, Poll};

use super::ClientLink;

/// Holds an error back until what came before it is on its way: an error ends the connection at once,
/// and the client is to see a response that breaks off rather than none.
#[derive(Default)]
pub(super) struct Farewell {
    /// Whether the server had its turn to send.
    turned: bool,
}

impl Farewell {
    /// Ready once the client can be told.
    pub fn poll(&mut self, cx: &mut TaskContext<'_>, link: &dyn ClientLink) -> Poll<()> {
        if !std::mem::replace(&mut self.turned, true) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if link.is_behind() { Poll::Pending } else { Poll::Ready(()) }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Wake, Waker};

    use http::{HeaderMap, StatusCode};

    use super::*;

    struct Link(Cell<bool>);

    impl ClientLink for Link {
        fn poll_closed(&self, _: &mut TaskContext<'_>) -> Poll<()> {
            Poll::Pending
        }

        fn send_interim(&self, _: StatusCode, _: &HeaderMap) {}

        fn is_rejected(&self) -> bool {
            false
        }

        fn is_behind(&self) -> bool {
            self.0.get()
        }
    }

    #[derive(Default)]
    struct Wakes(AtomicUsize);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn an_error_waits_for_the_server_to_have_sent_what_came_before() {
        let wakes = Arc::new(Wakes::default());
        let waker = Waker::from(wakes.clone());
        let mut cx = TaskContext::from_waker(&waker);
        let link = Link(Cell::new(false));
        let mut farewell = Farewell::default();
        assert!(farewell.poll(&mut cx, &link).is_pending(), "nothing was sent yet");
        assert_eq!(wakes.0.load(Ordering::SeqCst), 1, "whoever asked asks again");
        link.0.set(true);
        for _ in 0..3 {
            assert!(farewell.poll(&mut cx, &link).is_pending());
        }
        assert_eq!(wakes.0.load(Ordering::SeqCst), 1, "the link wakes");
        link.0.set(false);
        assert!(farewell.poll(&mut cx, &link).is_ready());
    }
}
