//! How bodies pass: what is read before an endpoint is picked, what is read ahead of a slow client, and
//! how fast a response may go.

use std::num::NonZeroU64;

use serde::Serialize;

/// How the bodies of a route pass. By default both are forwarded as they come, and as fast.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Bodies {
    /// So many bytes of a request's body are read before an endpoint is picked; what is longer is
    /// forwarded as it comes behind that. They stand in memory, and all bodies of a worker share
    /// what it may hold of them: where that is used up, bodies are forwarded as they come. `None`
    /// forwards all of it as it comes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_buffer: Option<u64>,
    /// How much of a response's body is read ahead of a client that is slower than the endpoint.
    /// `None` reads no further than the client does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_buffer: Option<ResponseBuffer>,
    /// How fast each response goes to its client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_rate: Option<ResponseRate>,
}

/// How far the body of a response is read ahead of its client. Nothing waits for that: what is there
/// goes as soon as the client takes it. It stands in memory, of which the responses of a worker have a
/// share; where that is short, less is read ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ResponseBuffer {
    /// Bytes.
    pub size: NonZeroU64,
    /// Whether it is done where the response says nothing. Endpoints can say `yes` or `no` in
    /// `X-Accel-Buffering`, which clients do not get.
    pub by_default: bool,
}

/// A limit on how fast the body of one response goes to its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ResponseRate {
    /// Bytes a second.
    pub bytes: NonZeroU64,
    /// So many bytes go before, as fast as they can.
    pub after: u64,
}
