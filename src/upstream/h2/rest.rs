//! The end of a stream on which no more of a body is to come.

use std::future::poll_fn;
use std::rc::Rc;
use std::time::Duration;

use http::HeaderMap;

use super::Lease;
use crate::http2::Received;
use crate::util::wheel::timeout;

/// How long the end of a stream may come after the rest of its response.
const END_WAIT: Duration = Duration::from_secs(5);

/// A stream of which only the end is awaited. Letting go of it at once would reset it, and servers
/// count resets against their peers.
pub struct H2Rest {
    received: Received,
    lease: Rc<Lease>,
}

impl H2Rest {
    pub(super) fn new(received: Received, lease: Rc<Lease>) -> Self {
        Self { received, lease }
    }

    /// Waits for the end and returns the trailer section, empty where there is none; `None` where
    /// the stream did not end as it should.
    pub async fn end(mut self) -> Option<HeaderMap> {
        let wheel = self.lease.0.wheel.clone();
        let end = async {
            // The end may stand in an empty frame of its own.
            while let Some(data) = poll_fn(|cx| self.received.poll_data(cx)).await {
                if !data.ok()?.is_empty() {
                    return None;
                }
            }
            let trailers = poll_fn(|cx| self.received.poll_trailers(cx)).await;
            trailers.ok().map(Option::unwrap_or_default)
        };
        timeout(&wheel, Some(END_WAIT), end).await.ok().flatten()
    }
}
