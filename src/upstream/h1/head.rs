//! Response heads off the wire (RFC 9112 §4-6), strictly: what is ambiguous is an error.

use std::mem::MaybeUninit;
use std::ops::Range;

use bytes::BytesMut;
use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use smallvec::SmallVec;

use super::body::Decoder;

/// The most header fields an endpoint may send.
const MAX_HEADERS: usize = 128;
/// The largest response head in bytes.
pub(super) const MAX_HEAD: usize = 64 * 1024;

/// A response head.
#[derive(Debug)]
pub struct ResponseHead {
    /// The status.
    pub status: StatusCode,
    /// The fields as sent, less framing fields that do not apply.
    pub headers: HeaderMap,
}

/// A head together with what it says about the rest of the connection.
pub(super) struct Parsed {
    pub head: ResponseHead,
    pub body: Decoder,
    pub keep_alive: bool,
}

/// Why an endpoint's head was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    /// Not a response head at all, or a broken field line.
    #[error("malformed response head: {0}")]
    Malformed(httparse::Error),
    /// A field value that is no field value.
    #[error("malformed header field in response")]
    Field,
    /// Content-Length fields that are no number or differ.
    #[error("bad content-length in response")]
    Length,
    /// A transfer coding other than a single `chunked`, or one in HTTP/1.0.
    #[error("bad transfer-encoding in response")]
    Encoding,
    /// More than a head may be.
    #[error("response head too large")]
    TooLarge,
}

/// Parses a head at the start of `inbox` and takes it out; `Ok(None)` wants more bytes.
/// `headers` is an empty map to reuse.
pub(super) fn parse(
    inbox: &mut BytesMut,
    method: &Method,
    headers: &mut HeaderMap,
) -> Result<Option<Parsed>, HeadError> {
    let mut fields = [const { MaybeUninit::<httparse::Header<'_>>::uninit() }; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut []);
    let parsed = httparse::ParserConfig::default()
        .parse_response_with_uninit_headers(&mut response, inbox, &mut fields)
        .map_err(|error| match error {
            httparse::Error::TooManyHeaders => HeadError::TooLarge,
            other => HeadError::Malformed(other),
        })?;
    let httparse::Status::Complete(length) = parsed else {
        return if inbox.len() > MAX_HEAD { Err(HeadError::TooLarge) } else { Ok(None) };
    };
    let minor = response.version.unwrap_or(1);
    let status = response.code.and_then(|code| StatusCode::from_u16(code).ok());
    let status = status.ok_or(HeadError::Malformed(httparse::Error::Status))?;
    let places = response.headers.iter();
    let places =
        places.map(|field| (within(inbox, field.name.as_bytes()), within(inbox, field.value)));
    let places: SmallVec<[_; 24]> = places.collect();
    let bytes = inbox.split_to(length).freeze();
    headers.clear();
    headers.reserve(places.len());
    let mut seen = Seen::default();
    for (name, value) in &places {
        let name = bytes.get(range(name)).and_then(|name| HeaderName::from_bytes(name).ok());
        // Slices within bounds by construction: httparse took them out of these bytes.
        let value = HeaderValue::from_maybe_shared(bytes.slice(range(value)));
        match (name, value) {
            (Some(name), Ok(value)) => {
                seen.note(&name);
                headers.append(name, value);
            }
            _ => return Err(HeadError::Field),
        }
    }
    let (body, framed) = framing(headers, &seen, status, method, minor)?;
    let keep_alive = framed && if seen.connection { persists(headers, minor) } else { minor >= 1 };
    let head = ResponseHead { status, headers: std::mem::take(headers) };
    Ok(Some(Parsed { head, body, keep_alive }))
}

/// Which of the fields that frame a message it has.
#[derive(Default)]
struct Seen {
    connection: bool,
    length: bool,
    coding: bool,
}

impl Seen {
    fn note(&mut self, name: &HeaderName) {
        match name.as_str().len() {
            10 => self.connection |= name == CONNECTION,
            14 => self.length |= name == CONTENT_LENGTH,
            17 => self.coding |= name == TRANSFER_ENCODING,
            _ => {}
        }
    }
}

fn within(whole: &[u8], part: &[u8]) -> Range<u32> {
    let start = (part.as_ptr() as usize).saturating_sub(whole.as_ptr() as usize) as u32;
    start..start + part.len() as u32
}

fn range(range: &Range<u32>) -> Range<usize> {
    range.start as usize..range.end as usize
}

/// The body's delimiter (RFC 9112 §6.3), and whether the connection survives it.
fn framing(
    headers: &mut HeaderMap,
    seen: &Seen,
    status: StatusCode,
    method: &Method,
    minor: u8,
) -> Result<(Decoder, bool), HeadError> {
    let coding = if seen.coding { headers.get(TRANSFER_ENCODING) } else { None };
    let chunked = match coding {
        Some(coding) => {
            let single = headers.get_all(TRANSFER_ENCODING).iter().count() == 1;
            if !single || minor == 0 || !coding.as_bytes().eq_ignore_ascii_case(b"chunked") {
                return Err(HeadError::Encoding);
            }
            true
        }
        None => false,
    };
    let length = if seen.length { content_length(headers)? } else { None };
    // Both: the coding wins, and the connection is not trusted with another exchange.
    let both = chunked && length.is_some();
    if chunked {
        headers.remove(TRANSFER_ENCODING);
    }
    if both {
        headers.remove(CONTENT_LENGTH);
    }
    if status.is_informational()
        || status == StatusCode::NO_CONTENT
        || status == StatusCode::NOT_MODIFIED
        || method == Method::HEAD
    {
        return Ok((Decoder::done(), !both));
    }
    Ok(match (chunked, length) {
        (true, _) => (Decoder::chunked(), !both),
        (false, Some(length)) => (Decoder::length(length), true),
        (false, None) => (Decoder::until_close(), false),
    })
}

/// The one Content-Length; equal repetitions (RFC 9110 §8.6) are folded into one.
fn content_length(headers: &mut HeaderMap) -> Result<Option<u64>, HeadError> {
    let mut all = headers.get_all(CONTENT_LENGTH).iter();
    let Some(first) = all.next() else { return Ok(None) };
    let mut length = None;
    let mut count = 0;
    for value in std::iter::once(first).chain(all) {
        for part in value.as_bytes().split(|byte| *byte == b',') {
            let part = part.trim_ascii();
            let digits = !part.is_empty() && part.iter().all(u8::is_ascii_digit);
            let number = std::str::from_utf8(part).ok().and_then(|text| text.parse::<u64>().ok());
            let number = number.filter(|_| digits).ok_or(HeadError::Length)?;
            if length.is_some_and(|length| length != number) {
                return Err(HeadError::Length);
            }
            length = Some(number);
            count += 1;
        }
    }
    if count > 1
        && let Some(length) = length
    {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    Ok(length)
}

/// Whether the connection stays open (RFC 9112 §9.3).
fn persists(headers: &HeaderMap, minor: u8) -> bool {
    let mut keep_alive = minor >= 1;
    for value in headers.get_all(CONNECTION) {
        for token in value.as_bytes().split(|byte| *byte == b',') {
            let token = token.trim_ascii();
            if token.eq_ignore_ascii_case(b"close") {
                return false;
            }
            if token.eq_ignore_ascii_case(b"keep-alive") {
                keep_alive = true;
            }
        }
    }
    keep_alive
}
