//! The fields of the access log: one list for the JSON form and for templates.

use std::fmt::Display;
use std::io::Write as _;
use std::time::Duration;

use http::Version;

use super::clock;
use super::record::Record;
use crate::telemetry::escape;

/// A field of the access log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// See [`Field::help`], as for all of them.
    Time,
    /// The client.
    Client,
    /// The connection's other end.
    Peer,
    /// The listener.
    Listener,
    /// The request id.
    RequestId,
    /// The method.
    Method,
    /// The scheme.
    Scheme,
    /// The host.
    Host,
    /// The path.
    Path,
    /// The query.
    Query,
    /// The protocol version.
    Version,
    /// The status.
    Status,
    /// The code of a gRPC call.
    GrpcStatus,
    /// The reason flag.
    Reason,
    /// The rule that was broken.
    Detail,
    /// Request body bytes.
    RequestBytes,
    /// Response body bytes.
    ResponseBytes,
    /// The whole duration.
    DurationMs,
    /// The user.
    User,
    /// The route.
    Route,
    /// The upstream.
    Upstream,
    /// The endpoint.
    Endpoint,
    /// Attempts.
    Attempts,
    /// The hedged attempt.
    Hedge,
    /// Time in the queue.
    QueueMs,
    /// Connect time.
    ConnectMs,
    /// Time to the upstream's response head.
    UpstreamMs,
    /// The user agent.
    UserAgent,
    /// The referrer.
    Referer,
    /// The TLS version.
    TlsVersion,
    /// The TLS server name.
    ServerName,
}

impl Field {
    /// Every field, in the order of the JSON form.
    pub const ALL: [Self; 31] = [
        Self::Time,
        Self::Client,
        Self::Peer,
        Self::Listener,
        Self::RequestId,
        Self::Method,
        Self::Scheme,
        Self::Host,
        Self::Path,
        Self::Query,
        Self::Version,
        Self::Status,
        Self::GrpcStatus,
        Self::Reason,
        Self::Detail,
        Self::RequestBytes,
        Self::ResponseBytes,
        Self::DurationMs,
        Self::User,
        Self::Route,
        Self::Upstream,
        Self::Endpoint,
        Self::Attempts,
        Self::Hedge,
        Self::QueueMs,
        Self::ConnectMs,
        Self::UpstreamMs,
        Self::UserAgent,
        Self::Referer,
        Self::TlsVersion,
        Self::ServerName,
    ];

    /// The name in templates, and the key in JSON.
    pub const fn name(self) -> &'static str {
        self.documented().0
    }

    /// What the field tells, for documentation.
    pub const fn help(self) -> &'static str {
        self.documented().1
    }

    /// The field called `name`.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|field| field.name() == name)
    }

    const fn documented(self) -> (&'static str, &'static str) {
        match self {
            Self::Time => ("time", "when the request's head was complete, RFC 3339 in UTC"),
            Self::Client => ("client", "address of the client, as far as trusted peers tell it"),
            Self::Peer => ("peer", "address and port of the connection's other end"),
            Self::Listener => ("listener", "name of the listener"),
            Self::RequestId => {
                ("request_id", "X-Request-ID, received from somebody who is believed or made")
            }
            Self::Method => ("method", "request method"),
            Self::Scheme => ("scheme", "http or https; tls for a connection that passed through"),
            Self::Host => ("host", "host the request is for"),
            Self::Path => ("path", "path of the request target"),
            Self::Query => ("query", "query of the request target, without the question mark"),
            Self::Version => ("version", "protocol version: HTTP/1.0, HTTP/1.1, HTTP/2.0"),
            Self::Status => ("status", "status sent to the client; 0 if none was"),
            Self::GrpcStatus => (
                "grpc_status",
                "code that a gRPC call ended with, in head or trailers: ok, unavailable",
            ),
            Self::Reason => ("reason", "why the proxy itself answered or broke off"),
            Self::Detail => ("detail", "which rule a request broke that never reached a route"),
            Self::RequestBytes => ("request_bytes", "bytes of the request body received"),
            Self::ResponseBytes => ("response_bytes", "bytes of the response body sent"),
            Self::DurationMs => {
                ("duration_ms", "milliseconds from the request's head to the response's last byte")
            }
            Self::User => ("user", "user name that the client proved with a password"),
            Self::Route => ("route", "name of the route"),
            Self::Upstream => ("upstream", "name of the upstream of the last attempt"),
            Self::Endpoint => ("endpoint", "address of the endpoint of the last attempt"),
            Self::Attempts => ("attempts", "attempts made to reach an endpoint"),
            Self::Hedge => (
                "hedge",
                "how a second attempt of a slow request went (won, lost), if one was made",
            ),
            Self::QueueMs => {
                ("queue_ms", "milliseconds the request waited for a place at its upstream")
            }
            Self::ConnectMs => {
                ("connect_ms", "milliseconds to a ready connection, if a new one was made")
            }
            Self::UpstreamMs => {
                ("upstream_ms", "milliseconds from the last attempt to its response head")
            }
            Self::UserAgent => ("user_agent", "User-Agent of the request"),
            Self::Referer => ("referer", "Referer of the request"),
            Self::TlsVersion => ("tls_version", "TLS version of the client's connection"),
            Self::ServerName => ("server_name", "server name the client asked for in TLS (SNI)"),
        }
    }

    /// Hands the field's value in `record` to `sink`, which alone decides how it is escaped;
    /// `false` if the record has none.
    pub(super) fn write(self, record: &Record, sink: &mut Sink<'_>) -> bool {
        let text = record.text();
        match self {
            Self::Time => sink.trusted(|out| clock::rfc3339(record.start, out)),
            Self::Client => sink.word(record.client),
            Self::Peer => sink.word(record.peer),
            Self::Listener => sink.text(record.listener.as_str().as_bytes()),
            Self::RequestId => sink.optional(text.request_id()),
            Self::Method => {
                sink.optional(record.method.as_ref().map(|method| method.as_str().as_bytes()))
            }
            Self::Scheme => sink.text(record.scheme.as_bytes()),
            Self::Host => sink.optional(text.host()),
            Self::Path => sink.optional(record.method.as_ref().map(|_| text.path())),
            Self::Query => sink.optional(text.query()),
            Self::Version => sink.optional(record.version.map(|number| version(number).as_bytes())),
            Self::Status => sink.number(record.status),
            Self::GrpcStatus => {
                sink.optional(record.grpc_status.map(|code| code.as_str().as_bytes()))
            }
            Self::Reason => sink.text(record.reason.as_str().as_bytes()),
            Self::Detail => sink.optional(record.detail.map(str::as_bytes)),
            Self::RequestBytes => sink.number(record.request_bytes),
            Self::ResponseBytes => sink.number(record.response_bytes),
            Self::DurationMs => sink.millis(Some(record.duration)),
            Self::User => sink.optional(record.user.as_ref().map(|name| name.as_str().as_bytes())),
            Self::Route => {
                sink.optional(record.route.as_ref().map(|name| name.as_str().as_bytes()))
            }
            Self::Upstream => {
                sink.optional(record.upstream.as_ref().map(|name| name.as_str().as_bytes()))
            }
            Self::Endpoint => record.endpoint.is_some_and(|endpoint| sink.word(endpoint)),
            Self::Attempts => sink.number(record.attempts),
            Self::Hedge => sink.optional(record.hedge.map(|hedge| hedge.as_str().as_bytes())),
            Self::QueueMs => sink
                .millis(record.queued.map(|micros| Duration::from_micros(u64::from(micros.get())))),
            Self::ConnectMs => sink.millis(record.connect),
            Self::UpstreamMs => sink.millis(record.upstream_head),
            Self::UserAgent => sink.optional(text.user_agent()),
            Self::Referer => sink.optional(text.referer()),
            Self::TlsVersion => sink.optional(record.tls_version.map(str::as_bytes)),
            Self::ServerName => {
                sink.optional(record.server_name.as_ref().map(|name| name.as_str().as_bytes()))
            }
        }
    }
}

/// The version as a status line has it.
pub(super) fn version(version: Version) -> &'static str {
    match version {
        Version::HTTP_09 => "HTTP/0.9",
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2.0",
        Version::HTTP_3 => "HTTP/3.0",
        _ => "HTTP/1.1",
    }
}

/// Where values go.
pub(super) enum Sink<'a> {
    /// As JSON values.
    Json(&'a mut Vec<u8>),
    /// As plain text.
    Plain(&'a mut Vec<u8>),
}

impl Sink<'_> {
    fn text(&mut self, bytes: &[u8]) -> bool {
        match self {
            Self::Json(out) => escape::json(bytes, out),
            Self::Plain(out) => escape::plain(bytes, out),
        }
        true
    }

    fn optional(&mut self, bytes: Option<&[u8]>) -> bool {
        bytes.is_some_and(|bytes| self.text(bytes))
    }

    /// A string of our own making that needs no escaping.
    fn trusted(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> bool {
        match self {
            Self::Json(out) => {
                out.push(b'"');
                write(out);
                out.push(b'"');
            }
            Self::Plain(out) => write(out),
        }
        true
    }

    /// An address.
    fn word(&mut self, word: impl Display) -> bool {
        // Writing to a Vec cannot fail.
        self.trusted(|out| drop(write!(out, "{word}")))
    }

    fn number(&mut self, number: impl itoa::Integer) -> bool {
        let (Self::Json(out) | Self::Plain(out)) = self;
        out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
        true
    }

    /// Milliseconds with three decimals, without floating point.
    fn millis(&mut self, duration: Option<Duration>) -> bool {
        let Some(duration) = duration else { return false };
        let micros = duration.as_micros();
        let (Self::Json(out) | Self::Plain(out)) = self;
        // Writing to a Vec cannot fail.
        let _ = write!(out, "{}.{:03}", micros / 1_000, micros % 1_000);
        true
    }
}
