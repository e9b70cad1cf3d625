//! One HTTP/1 connection to an endpoint, between and during exchanges.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::BytesMut;
use tokio::io::AsyncReadExt;

use crate::telemetry::WorkerId;
use crate::upstream::Endpoint;
use crate::upstream::limits::Place;
use crate::upstream::pool::UpstreamIo;
use crate::util::moment::Moment;

/// The least room a read offers.
const MIN_READ: usize = 8 * 1024;
/// The most room a read offers.
const MAX_READ: usize = 256 * 1024;

/// A connection with its buffers.
pub struct H1Conn {
    pub(super) io: UpstreamIo,
    /// Bytes read and not taken yet.
    pub(super) inbox: BytesMut,
    /// Head and framing bytes to write.
    pub(super) outbox: Vec<u8>,
    /// When it was made.
    pub created: Moment,
    /// When its last exchange ended.
    pub idle_since: Moment,
    /// How many exchanges it carried.
    pub exchanges: u32,
    /// The TLS name it was made with, where that is not fixed by the upstream.
    pub server_name: Option<Arc<str>>,
    /// The endpoint at its other end.
    pub endpoint: Arc<Endpoint>,
    worker: WorkerId,
    /// Its place, where connections are limited. The last field: given back after `io` is closed.
    pub place: Option<Place>,
}

impl H1Conn {
    /// A fresh connection.
    pub fn new(
        io: UpstreamIo,
        endpoint: Arc<Endpoint>,
        server_name: Option<Arc<str>>,
        worker: WorkerId,
        place: Option<Place>,
    ) -> Self {
        endpoint.metrics.opened(worker);
        let now = Moment::now();
        Self {
            io,
            inbox: BytesMut::new(),
            outbox: Vec::with_capacity(512),
            created: now,
            idle_since: now,
            exchanges: 0,
            server_name,
            endpoint,
            worker,
            place,
        }
    }

    /// Whether it can carry another exchange; see [`UpstreamIo::is_alive`].
    pub fn is_alive(&mut self, certain: bool) -> bool {
        self.inbox.is_empty() && self.io.is_alive(certain)
    }

    /// Lets go of memory that only the last exchange needed.
    pub fn shrink(&mut self) {
        const KEEP: usize = 4 * 1024;
        if self.inbox.capacity() > MIN_READ {
            self.inbox = BytesMut::new();
        }
        if self.outbox.capacity() > KEEP {
            self.outbox = Vec::with_capacity(512);
        }
    }

    /// The worker it belongs to.
    pub fn worker(&self) -> WorkerId {
        self.worker
    }

    /// Reads more into the inbox; `expected` is how much is known to be on its way.
    pub(super) fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        expected: u64,
    ) -> Poll<io::Result<usize>> {
        let want = usize::try_from(expected).unwrap_or(MAX_READ).clamp(MIN_READ, MAX_READ);
        if self.inbox.capacity() - self.inbox.len() < want.min(MIN_READ / 2).max(want / 2) {
            self.inbox.reserve(want);
        }
        // A future without state of its own: polled once and dropped.
        pin!(self.io.read_buf(&mut self.inbox)).poll(cx)
    }

    /// Takes the connection apart for a tunnel: the stream and what was read beyond the head.
    pub fn into_stream(mut self: Box<Self>) -> (Tunnelled, BytesMut) {
        let inbox = std::mem::take(&mut self.inbox);
        (Tunnelled(self), inbox)
    }
}

impl Drop for H1Conn {
    fn drop(&mut self) {
        self.endpoint.metrics.closed(self.worker);
    }
}

/// The stream of a connection that no longer speaks HTTP; still counted as a connection.
pub struct Tunnelled(Box<H1Conn>);

impl Tunnelled {
    /// The byte stream.
    pub fn io(&mut self) -> &mut UpstreamIo {
        &mut self.0.io
    }
}
