//! Request heads: empty lines before, the request line, and the limits on all of it.

use super::class::{PATH, QUERY, TOKEN};
use super::cursor::{Cursor, whole};
use super::field::Fields;
use super::message::Message;
use super::{GateLimits, GateReason, target};

/// The longest method: twice the longest registered one.
const METHOD_SIZE: usize = 32;
/// Empty lines before a request line; RFC 9112 §2.2 asks for at least one.
const EMPTY_LINES: u8 = 2;

/// A reader of one head after the other.
#[derive(Default)]
pub(super) struct Head {
    at: At,
    empty_lines: u8,
    /// Bytes since the request line began.
    size: usize,
    /// Bytes of the target so far.
    target_size: usize,
    /// The beginning of a method or target that a read cut in two.
    carry: Vec<u8>,
    message: Message,
    fields: Fields,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum At {
    Fields,
    LineLf,
    Method,
    Path,
    Query,
    #[default]
    Start,
    StartLf,
    /// So many bytes of the version came.
    Version(u8),
}

/// How a request goes on after its head.
pub(super) struct Framing {
    pub(super) body: Body,
    /// It asks for another protocol (RFC 9110 §7.8).
    pub(super) upgrade: bool,
}

/// The body after a head (RFC 9112 §6.3).
pub(super) enum Body {
    Chunked,
    /// Never zero.
    Length(u64),
    None,
}

impl Head {
    /// Whether anything of the request line came.
    pub(super) fn begun(&self) -> bool {
        !matches!(self.at, At::Start | At::StartLf)
    }

    /// Reads on; returns how many bytes were used, and the framing once the head is complete.
    pub(super) fn read(
        &mut self,
        bytes: &[u8],
        limits: &GateLimits,
    ) -> Result<(usize, Option<Framing>), GateReason> {
        let mut cursor = Cursor::new(bytes);
        if !self.begun() && !self.skip_empty_lines(&mut cursor)? {
            return Ok((bytes.len(), None));
        }
        let skipped = bytes.len() - cursor.left();
        let room = limits.head_size.saturating_sub(self.size);
        let window = cursor.take(room);
        let mut within = Cursor::new(window);
        let complete = self.lines(&mut within, limits)?;
        let used = window.len() - within.left();
        if !complete {
            self.size += used;
            // A byte beyond the window is a byte beyond the limit.
            return if cursor.left() == 0 {
                Ok((bytes.len(), None))
            } else {
                Err(GateReason::HeadTooLarge)
            };
        }
        let framing = self.message.framing()?;
        *self = Self::default();
        Ok((skipped + used, Some(framing)))
    }

    /// True when the request line begins.
    fn skip_empty_lines(&mut self, cursor: &mut Cursor<'_>) -> Result<bool, GateReason> {
        loop {
            if self.at == At::StartLf {
                match cursor.next() {
                    None => return Ok(false),
                    Some(b'\n') => self.at = At::Start,
                    Some(_) => return Err(GateReason::BareCr),
                }
            }
            match cursor.peek() {
                None => return Ok(false),
                Some(b'\r') if self.empty_lines >= EMPTY_LINES => {
                    return Err(GateReason::EmptyLines);
                }
                Some(b'\r') => {
                    cursor.next();
                    self.empty_lines += 1;
                    self.at = At::StartLf;
                }
                Some(_) => {
                    self.at = At::Method;
                    return Ok(true);
                }
            }
        }
    }

    /// True when the head is complete.
    fn lines(&mut self, cursor: &mut Cursor<'_>, limits: &GateLimits) -> Result<bool, GateReason> {
        loop {
            let on = match self.at {
                At::Fields => {
                    return self.fields.read(cursor, limits.header_count, &mut self.message);
                }
                At::LineLf => match cursor.next() {
                    None => false,
                    Some(b'\n') => {
                        self.at = At::Fields;
                        true
                    }
                    Some(_) => return Err(GateReason::BareCr),
                },
                At::Method | At::Start | At::StartLf => self.method(cursor)?,
                At::Path | At::Query => self.target(cursor, limits.target_size)?,
                At::Version(seen) => self.version(cursor, seen)?,
            };
            if !on {
                return Ok(false);
            }
        }
    }

    fn method(&mut self, cursor: &mut Cursor<'_>) -> Result<bool, GateReason> {
        let part = cursor.take_run(TOKEN);
        if self.carry.len() + part.len() > METHOD_SIZE {
            return Err(GateReason::MethodTooLong);
        }
        match cursor.next() {
            None => {
                self.carry.extend_from_slice(part);
                return Ok(false);
            }
            Some(b' ') => {}
            Some(b'\n') => return Err(GateReason::BareLf),
            Some(_) => return Err(GateReason::BadMethod),
        }
        self.message.method(whole(&mut self.carry, part))?;
        self.carry.clear();
        self.at = At::Path;
        Ok(true)
    }

    fn target(&mut self, cursor: &mut Cursor<'_>, limit: usize) -> Result<bool, GateReason> {
        let begin = cursor.rest();
        if self.at == At::Path {
            self.target_size += cursor.take_run(PATH).len();
            if cursor.peek() == Some(b'?') {
                self.at = At::Query;
            }
        }
        if self.at == At::Query {
            self.target_size += cursor.take_run(QUERY).len();
        }
        if self.target_size > limit {
            return Err(GateReason::TargetTooLong);
        }
        let part = begin.get(..begin.len() - cursor.left()).unwrap_or_default();
        match cursor.next() {
            None => {
                self.carry.extend_from_slice(part);
                return Ok(false);
            }
            Some(b' ') => {}
            Some(b'\n') => return Err(GateReason::BareLf),
            Some(b'\r') => return Err(GateReason::BadVersion),
            Some(_) => return Err(GateReason::BadTarget),
        }
        let target = whole(&mut self.carry, part);
        self.message.authority = target::check(target, self.message.is_options())?;
        self.carry.clear();
        self.at = At::Version(0);
        Ok(true)
    }

    fn version(&mut self, cursor: &mut Cursor<'_>, seen: u8) -> Result<bool, GateReason> {
        let Some(byte) = cursor.next() else { return Ok(false) };
        match (seen, byte) {
            (0, b'H') | (1 | 2, b'T') | (3, b'P') | (4, b'/') | (5, b'1') | (6, b'.') => {}
            (7, b'1') => {}
            (7, b'0') => self.message.http10 = true,
            (8, b'\r') => {
                self.at = At::LineLf;
                return Ok(true);
            }
            (5 | 7, b'0'..=b'9') => return Err(GateReason::UnsupportedVersion),
            (_, b'\n') => return Err(GateReason::BareLf),
            _ => return Err(GateReason::BadVersion),
        }
        self.at = At::Version(seen + 1);
        Ok(true)
    }
}
