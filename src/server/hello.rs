//! The name that a TLS client asks for, read before it is decided who answers it (RFC 8446 §4.1.2,
//! RFC 6066 §3). Owns how much is read for that; knows nothing of hosts.
//!
//! Nothing is guessed: whoever says something ambiguous is not passed on, and hears from our own TLS
//! what is wrong with it.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::io;

use bytes::BytesMut;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// The most that is read for a ClientHello. Those of today have two kilobytes at most.
const MOST: usize = 16 * 1024;

/// What a client's first words are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hello {
    /// More has to be read.
    Unfinished,
    /// A ClientHello, with the name that it asks for, in lower case.
    Named(Option<Box<str>>),
    /// Something else, or something ambiguous.
    Other,
    /// More than is read.
    TooLong,
}

/// Reads up to the end of the ClientHello into `ahead`, or to where it is known to be none. The
/// caller sets the deadline.
pub async fn read(tcp: &mut TcpStream, ahead: &mut BytesMut) -> io::Result<Hello> {
    loop {
        // No buffer before there is something to put into it.
        tcp.readable().await?;
        ahead.reserve(2048);
        if tcp.read_buf(ahead).await? == 0 {
            return Ok(Hello::Other);
        }
        match parse(ahead) {
            Hello::Unfinished if ahead.len() >= MOST => return Ok(Hello::TooLong),
            Hello::Unfinished => {}
            hello => return Ok(hello),
        }
    }
}

/// What `bytes`, the first of a connection, come to.
pub fn parse(bytes: &[u8]) -> Hello {
    let message = match message(bytes) {
        Some(Some(message)) => message,
        Some(None) => return Hello::Unfinished,
        None => return Hello::Other,
    };
    match name(&message) {
        Some(name) => Hello::Named(name),
        None => Hello::Other,
    }
}

/// The body of the ClientHello, which may be spread over several records; `Some(None)` is that more
/// has to come, `None` that it is none.
fn message(bytes: &[u8]) -> Option<Option<Vec<u8>>> {
    const HANDSHAKE: u8 = 22;
    const CLIENT_HELLO: u8 = 1;
    let mut records = Cursor(bytes);
    let mut message = Vec::new();
    loop {
        let start = records.0;
        let looks_right = |(index, byte): (usize, &u8)| match index {
            0 => *byte == HANDSHAKE,
            1 => *byte == 3,
            _ => true,
        };
        if !start.iter().take(2).enumerate().all(looks_right) {
            return None;
        }
        let Some(header) = records.take(5) else { return Some(None) };
        let length = Cursor(header.get(3..)?).number(2)?;
        // Such records are forbidden to be empty (RFC 8446 §5.1), and bounded.
        if length == 0 || length > 1 << 14 {
            return None;
        }
        let present = length.min(records.0.len());
        message.extend_from_slice(records.take(present)?);
        let mut said = Cursor(&message);
        if message.first().is_some_and(|kind| *kind != CLIENT_HELLO) {
            return None;
        }
        if let (Some(_), Some(size)) = (said.take(1), said.number(3))
            && let Some(body) = said.take(size)
        {
            return Some(Some(body.to_vec()));
        }
        if present < length {
            return Some(None);
        }
    }
}

/// The name in a ClientHello's body; `None` is that it is not sound.
fn name(body: &[u8]) -> Option<Option<Box<str>>> {
    const SERVER_NAME: usize = 0;
    let mut hello = Cursor(body);
    hello.take(2 + 32)?;
    hello.vector(1)?; // session id
    hello.vector(2)?; // cipher suites
    hello.vector(1)?; // compression methods
    if hello.0.is_empty() {
        return Some(None);
    }
    let mut extensions = Cursor(hello.vector(2)?);
    if !hello.0.is_empty() {
        return None;
    }
    let mut found = None;
    while !extensions.0.is_empty() {
        let kind = extensions.number(2)?;
        let data = extensions.vector(2)?;
        if kind == SERVER_NAME && found.replace(host_name(data)?).is_some() {
            return None;
        }
    }
    Some(found)
}

/// The one name of a server name extension.
fn host_name(data: &[u8]) -> Option<Box<str>> {
    const HOST_NAME: usize = 0;
    let mut data = Cursor(data);
    let mut list = Cursor(data.vector(2)?);
    let kind = list.number(1)?;
    let name = list.vector(2)?;
    let sound = data.0.is_empty() && list.0.is_empty() && kind == HOST_NAME && !name.is_empty();
    if !sound || !name.iter().all(u8::is_ascii_graphic) {
        return None;
    }
    Some(std::str::from_utf8(name).ok()?.to_ascii_lowercase().into())
}

/// What is left of bytes that are read from the front.
struct Cursor<'b>(&'b [u8]);

impl<'b> Cursor<'b> {
    fn take(&mut self, count: usize) -> Option<&'b [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    /// A number of so many bytes, the most significant first.
    fn number(&mut self, bytes: usize) -> Option<usize> {
        let taken = self.take(bytes)?;
        Some(taken.iter().fold(0, |number, byte| number << 8 | usize::from(*byte)))
    }

    /// Bytes behind their length, which has so many bytes.
    fn vector(&mut self, bytes: usize) -> Option<&'b [u8]> {
        let length = self.number(bytes)?;
        self.take(length)
    }
}

#[cfg(test)]
mod tests;
