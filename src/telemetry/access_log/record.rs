//! One exchange as the access log tells it.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::ops::Range;
use std::time::{Duration, SystemTime};

use http::{Method, Version};

use crate::ir::Name;
use crate::telemetry::{GrpcCode, Reason};

/// What of a request is text off the network, as it came. `None` and absent are the same.
#[derive(Clone, Copy, Debug, Default)]
pub struct RecordText<'a> {
    /// The host the request is for, without the port.
    pub host: &'a [u8],
    /// The path, without the query.
    pub path: &'a [u8],
    /// The query, without the `?`.
    pub query: Option<&'a [u8]>,
    /// The request id, given or made.
    pub request_id: &'a [u8],
    /// `User-Agent`.
    pub user_agent: Option<&'a [u8]>,
    /// `Referer`.
    pub referer: Option<&'a [u8]>,
}

/// How a second attempt of a slow request went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HedgeOutcome {
    /// The first attempt was faster, or neither brought a response.
    Lost,
    /// Its response came first.
    Won,
}

impl HedgeOutcome {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Lost => "lost",
            Self::Won => "won",
        }
    }
}

/// One exchange. Begun when the request's head is there, completed when it is over.
///
/// Text is copied into one buffer instead of being held by reference counts: a record that
/// waits for a slow disk must not keep connection buffers from being used again.
#[derive(Clone, Debug)]
pub struct Record {
    text: Texts,
    /// When the request's head was complete.
    pub start: SystemTime,
    /// The client, as far as trusted peers' word goes.
    pub client: IpAddr,
    /// The other end of the connection.
    pub peer: SocketAddr,
    /// The listener the request came to.
    pub listener: Name,
    /// The method; `None` of a connection that passed through.
    pub method: Option<Method>,
    /// `http` or `https`; `tls` of a connection that passed through.
    pub scheme: &'static str,
    /// The protocol's version; `None` of a connection that passed through.
    pub version: Option<Version>,
    /// The status sent to the client; 0 if none was.
    pub status: u16,
    /// The code that a gRPC call ended with, as its client got it.
    pub grpc_status: Option<GrpcCode>,
    /// Why the proxy itself answered or broke off.
    pub reason: Reason,
    /// Which rule a request broke that was refused before it was understood.
    pub detail: Option<&'static str>,
    /// Bytes of the request body received.
    pub request_bytes: u64,
    /// Bytes of the response body sent.
    pub response_bytes: u64,
    /// From the complete request head to the last byte of the response.
    pub duration: Duration,
    /// Who it is from, where the route asked for it and the client showed it.
    pub user: Option<Name>,
    /// The route that won.
    pub route: Option<Name>,
    /// The upstream of the last attempt.
    pub upstream: Option<Name>,
    /// The endpoint of the last attempt.
    pub endpoint: Option<SocketAddr>,
    /// Attempts made to reach an endpoint.
    pub attempts: u32,
    /// How a second, hedged attempt went, if there was one.
    pub hedge: Option<HedgeOutcome>,
    /// How long it waited for a place at its upstream, in microseconds, if it had to.
    pub queued: Option<NonZeroU32>,
    /// Time to a ready connection, if the last attempt made a new one.
    pub connect: Option<Duration>,
    /// From the last attempt's begin to the head of its response.
    pub upstream_head: Option<Duration>,
    /// Milliseconds from that head to the end of the response.
    pub upstream_rest: u32,
    /// The TLS version, `TLSv1.3`; `None` on a plain connection.
    pub tls_version: Option<&'static str>,
    /// The server name the client asked for in TLS.
    pub server_name: Option<Name>,
}

impl Record {
    /// A record of a request from `peer` that has just begun; the client is the peer, the scheme
    /// `http` and everything else empty until the caller sets it.
    pub fn new(
        start: SystemTime,
        peer: SocketAddr,
        listener: Name,
        method: Method,
        version: Version,
        text: &RecordText<'_>,
    ) -> Self {
        let (method, version) = (Some(method), Some(version));
        Self { method, version, ..Self::passing(start, peer, listener, text) }
    }

    /// A record of a TLS connection from `peer` that passes through: there is no request that could be
    /// seen.
    pub fn passing(
        start: SystemTime,
        peer: SocketAddr,
        listener: Name,
        text: &RecordText<'_>,
    ) -> Self {
        Self {
            text: Texts::copy(text),
            start,
            client: peer.ip(),
            peer,
            listener,
            method: None,
            scheme: "http",
            version: None,
            status: 0,
            grpc_status: None,
            reason: Reason::None,
            detail: None,
            request_bytes: 0,
            response_bytes: 0,
            duration: Duration::ZERO,
            user: None,
            route: None,
            upstream: None,
            endpoint: None,
            attempts: 0,
            hedge: None,
            queued: None,
            connect: None,
            upstream_head: None,
            upstream_rest: 0,
            tls_version: None,
            server_name: None,
        }
    }

    /// The text off the network.
    pub(super) fn text(&self) -> &Texts {
        &self.text
    }
}

/// The pieces of a [`RecordText`] one after the other.
#[derive(Clone, Debug)]
pub(super) struct Texts {
    bytes: Box<[u8]>,
    /// Where each piece ends.
    ends: [u32; PIECES],
    /// Which of the optional ones are there: query, user agent, referer.
    query: bool,
    user_agent: bool,
    referer: bool,
}

const PIECES: usize = 6;

impl Texts {
    fn copy(text: &RecordText<'_>) -> Self {
        let pieces: [&[u8]; PIECES] = [
            text.host,
            text.path,
            text.query.unwrap_or_default(),
            text.request_id,
            text.user_agent.unwrap_or_default(),
            text.referer.unwrap_or_default(),
        ];
        let mut bytes = Vec::with_capacity(pieces.iter().map(|piece| piece.len()).sum());
        let ends = pieces.map(|piece| {
            bytes.extend_from_slice(piece);
            u32::try_from(bytes.len()).unwrap_or(u32::MAX)
        });
        Self {
            bytes: bytes.into_boxed_slice(),
            ends,
            query: text.query.is_some(),
            user_agent: text.user_agent.is_some(),
            referer: text.referer.is_some(),
        }
    }

    /// How many bytes of memory the text takes.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn host(&self) -> Option<&[u8]> {
        Some(self.piece(0..self.ends[0])).filter(|host| !host.is_empty())
    }

    pub(super) fn path(&self) -> &[u8] {
        self.piece(self.ends[0]..self.ends[1])
    }

    pub(super) fn query(&self) -> Option<&[u8]> {
        self.query.then(|| self.piece(self.ends[1]..self.ends[2]))
    }

    pub(super) fn request_id(&self) -> Option<&[u8]> {
        Some(self.piece(self.ends[2]..self.ends[3])).filter(|id| !id.is_empty())
    }

    pub(super) fn user_agent(&self) -> Option<&[u8]> {
        self.user_agent.then(|| self.piece(self.ends[3]..self.ends[4]))
    }

    pub(super) fn referer(&self) -> Option<&[u8]> {
        self.referer.then(|| self.piece(self.ends[4]..self.ends[5]))
    }

    fn piece(&self, range: Range<u32>) -> &[u8] {
        self.bytes.get(range.start as usize..range.end as usize).unwrap_or_default()
    }
}
