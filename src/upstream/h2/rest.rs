//! The end of a stream on which no more of a body is to come.

use std::rc::Rc;
use std::time::Duration;

use h2::RecvStream;
use http::HeaderMap;

use super::Lease;

/// How long the end of a stream may come after the rest of its response.
const END_WAIT: Duration = Duration::from_secs(5);

/// A stream of which only the end is awaited. Letting go of it at once would reset it, and servers
/// count resets against their peers.
pub struct H2Rest {
    stream: RecvStream,
    _lease: Rc<Lease>,
}

impl H2Rest {
    pub(super) fn new(stream: RecvStream, lease: Rc<Lease>) -> Self {
        Self { stream, _lease: lease }
    }

    /// Waits for the end and returns the trailer section, empty where there is none; `None` where
    /// the stream did not end as it should.
    pub async fn end(mut self) -> Option<HeaderMap> {
        let end = async {
            // The end may stand in an empty frame of its own.
            while let Some(data) = self.stream.data().await {
                if !data.ok()?.is_empty() {
                    return None;
                }
            }
            self.stream.trailers().await.ok().map(Option::unwrap_or_default)
        };
        tokio::time::timeout(END_WAIT, end).await.ok().flatten()
    }
}
