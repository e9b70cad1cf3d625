//! Response bodies off the wire (RFC 9112 §6-7): a sans-io decoder over the inbox.

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};

/// The longest chunk-size line, extensions included.
const MAX_SIZE_LINE: usize = 4 * 1024;
/// The largest trailer section.
const MAX_TRAILERS: usize = 16 * 1024;

/// Where a body is in its bytes.
#[derive(Debug)]
pub(super) struct Decoder(State);

#[derive(Debug)]
enum State {
    /// Before a chunk-size line.
    ChunkSize,
    /// So much of a chunk is left, then CRLF.
    ChunkData(u64),
    /// Before the CRLF that ends a chunk.
    ChunkEnd,
    Done,
    /// So much is left.
    Length(u64),
    Trailers,
    UntilClose,
}

/// What the decoder found.
#[derive(Debug)]
pub(super) enum Piece {
    /// Body bytes; never empty.
    Data(Bytes),
    /// The body is complete.
    End,
    /// More bytes are needed; so many are known to be on their way.
    More(u64),
    /// The trailer section; the body is complete.
    Trailers(HeaderMap),
}

/// A body that breaks its own framing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// A chunk-size line or the CRLF after a chunk is wrong.
    #[error("malformed chunk in response")]
    Chunk,
    /// The trailer section is wrong or too large.
    #[error("malformed trailers in response")]
    Trailers,
}

impl Decoder {
    pub fn chunked() -> Self {
        Self(State::ChunkSize)
    }

    pub fn done() -> Self {
        Self(State::Done)
    }

    pub fn length(length: u64) -> Self {
        Self(if length == 0 { State::Done } else { State::Length(length) })
    }

    pub fn until_close() -> Self {
        Self(State::UntilClose)
    }

    pub fn is_done(&self) -> bool {
        matches!(self.0, State::Done)
    }

    /// How many bytes the body has left, where that is known.
    pub fn remaining(&self) -> Option<u64> {
        match self.0 {
            State::Done => Some(0),
            State::Length(left) => Some(left),
            _ => None,
        }
    }

    /// Whether the end of the connection is this body's proper end.
    pub fn ends_with_connection(&self) -> bool {
        matches!(self.0, State::UntilClose)
    }

    /// Takes the next piece out of `inbox`.
    pub fn decode(&mut self, inbox: &mut BytesMut) -> Result<Piece, BodyError> {
        loop {
            match &mut self.0 {
                State::Done => return Ok(Piece::End),
                State::UntilClose => {
                    return Ok(match take(inbox, u64::MAX) {
                        Some(data) => Piece::Data(data),
                        None => Piece::More(u64::MAX),
                    });
                }
                State::Length(left) => {
                    let Some(data) = take(inbox, *left) else { return Ok(Piece::More(*left)) };
                    *left -= data.len() as u64;
                    if *left == 0 {
                        self.0 = State::Done;
                    }
                    return Ok(Piece::Data(data));
                }
                State::ChunkData(left) => {
                    let Some(data) = take(inbox, *left) else {
                        return Ok(Piece::More(left.saturating_add(2)));
                    };
                    *left -= data.len() as u64;
                    if *left == 0 {
                        self.0 = State::ChunkEnd;
                    }
                    return Ok(Piece::Data(data));
                }
                State::ChunkEnd => match inbox.get(..2) {
                    Some(b"\r\n") => {
                        let _ = inbox.split_to(2);
                        self.0 = State::ChunkSize;
                    }
                    Some(_) => return Err(BodyError::Chunk),
                    None if inbox.first().is_some_and(|byte| *byte != b'\r') => {
                        return Err(BodyError::Chunk);
                    }
                    None => return Ok(Piece::More(0)),
                },
                State::ChunkSize => match chunk_size(inbox)? {
                    None => return Ok(Piece::More(0)),
                    Some(0) => self.0 = State::Trailers,
                    Some(size) => self.0 = State::ChunkData(size),
                },
                State::Trailers => {
                    let Some(trailers) = trailers(inbox)? else { return Ok(Piece::More(0)) };
                    self.0 = State::Done;
                    return Ok(match trailers.is_empty() {
                        true => Piece::End,
                        false => Piece::Trailers(trailers),
                    });
                }
            }
        }
    }
}

fn take(inbox: &mut BytesMut, most: u64) -> Option<Bytes> {
    if inbox.is_empty() {
        return None;
    }
    let length = usize::try_from(most).unwrap_or(usize::MAX).min(inbox.len());
    Some(inbox.split_to(length).freeze())
}

/// A complete chunk-size line, taken out; `None` wants more bytes.
fn chunk_size(inbox: &mut BytesMut) -> Result<Option<u64>, BodyError> {
    let Some(end) = inbox.iter().take(MAX_SIZE_LINE).position(|byte| *byte == b'\n') else {
        return if inbox.len() >= MAX_SIZE_LINE { Err(BodyError::Chunk) } else { Ok(None) };
    };
    let line = inbox.split_to(end + 1);
    let line = line.strip_suffix(b"\r\n").ok_or(BodyError::Chunk)?;
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let (size, rest) = line.split_at_checked(digits).ok_or(BodyError::Chunk)?;
    // Extensions (RFC 9112 §7.1.1) are dropped, but must look like some: a hidden line break or
    // control character is how framing gets smuggled.
    let extension = rest.trim_ascii_start();
    let sound = extension.is_empty() || extension.first() == Some(&b';');
    if !sound || rest.iter().any(|byte| byte.is_ascii_control() && *byte != b'\t') {
        return Err(BodyError::Chunk);
    }
    if size.is_empty() || size.len() > 16 {
        return Err(BodyError::Chunk);
    }
    let size = std::str::from_utf8(size).ok().and_then(|hex| u64::from_str_radix(hex, 16).ok());
    size.map(Some).ok_or(BodyError::Chunk)
}

/// The trailer section, taken out; `None` wants more bytes.
fn trailers(inbox: &mut BytesMut) -> Result<Option<HeaderMap>, BodyError> {
    if inbox.starts_with(b"\r\n") {
        let _ = inbox.split_to(2);
        return Ok(Some(HeaderMap::new()));
    }
    let mut fields = [httparse::EMPTY_HEADER; 64];
    match httparse::parse_headers(inbox, &mut fields) {
        Ok(httparse::Status::Complete((length, fields))) => {
            let mut trailers = HeaderMap::with_capacity(fields.len());
            for field in fields {
                let name = HeaderName::from_bytes(field.name.as_bytes());
                let value = HeaderValue::from_bytes(field.value);
                match (name, value) {
                    (Ok(name), Ok(value)) => trailers.append(name, value),
                    _ => return Err(BodyError::Trailers),
                };
            }
            let _ = inbox.split_to(length);
            Ok(Some(trailers))
        }
        Ok(httparse::Status::Partial) if inbox.len() <= MAX_TRAILERS => Ok(None),
        Ok(httparse::Status::Partial) | Err(_) => Err(BodyError::Trailers),
    }
}
