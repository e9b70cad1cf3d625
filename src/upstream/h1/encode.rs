//! Request heads on the wire (RFC 9112 §3).

use http::header::{CONNECTION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::{HeaderMap, Method};

/// How a request body is delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// `Transfer-Encoding: chunked`.
    Chunked,
    /// `Content-Length`.
    Length(u64),
    /// No body, and no header that announces one.
    None,
}

/// What goes into a request head beside the header fields themselves.
pub struct RequestHead<'a> {
    /// The method.
    pub method: &'a Method,
    /// Path and query, exactly as they go out.
    pub target: &'a str,
    /// The `Host` field's value.
    pub host: &'a [u8],
    /// All other fields; `Host`, `Connection` and framing fields among them are left out.
    pub headers: &'a HeaderMap,
    /// How the body is delimited.
    pub framing: Framing,
    /// The value of `Connection`, where one is sent.
    pub connection: Option<&'static str>,
    /// Whether the endpoint is spoken to in HTTP/1.0, which keeps no connection and knows no chunks.
    pub http10: bool,
}

impl RequestHead<'_> {
    /// Appends the head to `out`; `own` appends further field lines.
    pub fn encode(&self, out: &mut Vec<u8>, own: impl FnOnce(&mut Vec<u8>)) {
        out.extend_from_slice(self.method.as_str().as_bytes());
        out.push(b' ');
        out.extend_from_slice(self.target.as_bytes());
        let version: &[u8] = if self.http10 { b"0" } else { b"1" };
        out.extend_from_slice(b" HTTP/1.");
        out.extend_from_slice(version);
        out.extend_from_slice(b"\r\nhost: ");
        out.extend_from_slice(self.host);
        out.extend_from_slice(b"\r\n");
        for (name, value) in self.headers {
            if name == HOST
                || name == CONNECTION
                || name == CONTENT_LENGTH
                || name == TRANSFER_ENCODING
            {
                continue;
            }
            field(out, name.as_str().as_bytes(), value.as_bytes());
        }
        own(out);
        if let Some(connection) = self.connection {
            field(out, b"connection", connection.as_bytes());
        }
        match self.framing {
            Framing::Chunked => field(out, b"transfer-encoding", b"chunked"),
            Framing::Length(length) => {
                field(out, b"content-length", itoa::Buffer::new().format(length).as_bytes());
            }
            Framing::None => {}
        }
        out.extend_from_slice(b"\r\n");
    }
}

/// Appends one field line.
pub(super) fn field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.reserve(name.len() + value.len() + 4);
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}
