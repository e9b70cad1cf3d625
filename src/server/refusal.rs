//! What is told of requests that never reached the request path.

use std::time::SystemTime;

use http::{Method, Version};

use crate::proxy::{ClientConn, Worker};
use crate::telemetry::{Reason, Record, RecordText};

/// What stands in the access log for a part of a request that was not understood.
const UNKNOWN: &[u8] = b"-";
/// The longest request line that is looked at and logged.
pub const LONGEST_LINE: usize = 8 * 1024;

/// A request that was refused before it was understood.
pub struct Refused<'a> {
    /// The status of the answer.
    pub status: u16,
    /// The rule it broke.
    pub rule: &'static str,
    /// The method, as far as it is known.
    pub method: Method,
    /// The protocol's version.
    pub version: Version,
    /// The target, as far as it is known.
    pub target: &'a [u8],
}

impl<'a> Refused<'a> {
    /// A request of which no more than the first bytes are known, perhaps none.
    pub fn from_line(status: u16, rule: &'static str, bytes: &'a [u8]) -> Self {
        let start = bytes.iter().position(|byte| !b"\r\n".contains(byte)).unwrap_or(bytes.len());
        let line = bytes.get(start..).unwrap_or_default();
        let line = line.get(..line.len().min(LONGEST_LINE)).unwrap_or_default();
        let mut words = line.split(|byte| byte.is_ascii_whitespace());
        let method = words.next().and_then(|word| Method::from_bytes(word).ok());
        let target = words.next().filter(|target| target.starts_with(b"/")).unwrap_or(UNKNOWN);
        let version = match words.next() {
            Some(b"HTTP/1.0") => Version::HTTP_10,
            _ => Version::HTTP_11,
        };
        let method = method.or_else(|| Method::from_bytes(UNKNOWN).ok()).unwrap_or_default();
        Self { status, rule, method, version, target }
    }

    /// Counts it and writes it to the access log.
    pub fn tell(&self, worker: &Worker, conn: &ClientConn) {
        let snapshot = worker.snapshot();
        let listener = snapshot.as_ref().and_then(|snapshot| snapshot.listener(conn.listener));
        if let Some(listener) = listener {
            listener.metrics.rejected(worker.id, self.rule);
        }
        let (status, rule) = (self.status, self.rule);
        tracing::debug!(peer = %conn.peer, status, rule, "request refused");
        if !worker.access_log.enabled() {
            return;
        }
        let mut parts = self.target.splitn(2, |byte| *byte == b'?');
        let text = RecordText {
            path: parts.next().unwrap_or_default(),
            query: parts.next(),
            request_id: &worker.request_id(),
            ..RecordText::default()
        };
        let name = listener.map(|listener| listener.name.clone()).unwrap_or_default();
        let method = self.method.clone();
        let mut record =
            Record::new(SystemTime::now(), conn.peer, name, method, self.version, &text);
        record.scheme = if conn.secure { "https" } else { "http" };
        record.status = self.status;
        record.reason = Reason::BadRequest;
        record.detail = Some(self.rule);
        record.tls_version = conn.tls_version;
        record.server_name = conn.server_name.as_deref().map(Into::into);
        worker.access_log.record(worker.id, record);
    }
}
