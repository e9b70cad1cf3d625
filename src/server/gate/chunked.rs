//! Chunked bodies (RFC 9112 §7.1): sizes, extensions, data, trailers.

use super::GateReason;
use super::class::{self, TOKEN};
use super::cursor::Cursor;
use super::field::{FieldRules, Fields};
use super::message::same_name;

/// Hexadecimal digits of a size: what fits 64 bits. Leading zeros count, so that they end.
const SIZE_DIGITS: u8 = 16;
/// Extension bytes of one chunk, from the byte after its size to its CR.
const LINE_EXTENSION: u32 = 1024;
/// Extension bytes of one body; just below the parser above, which stops at 16 KiB.
const BODY_EXTENSION: u32 = 16 * 1024 - 1;
/// Bytes of the trailer section with its empty line.
const TRAILER_SIZE: usize = 8 * 1024;
/// Lines of the trailer section.
const TRAILER_COUNT: usize = 32;

/// Fields that mean framing, routing, authentication or how to read the content, and so may not
/// come after it (RFC 9110 §6.5.1).
const NO_TRAILERS: [&[u8]; 17] = [
    b"authorization",
    b"connection",
    b"content-encoding",
    b"content-length",
    b"content-range",
    b"content-type",
    b"cookie",
    b"expect",
    b"host",
    b"keep-alive",
    b"max-forwards",
    b"proxy-authorization",
    b"proxy-connection",
    b"te",
    b"trailer",
    b"transfer-encoding",
    b"upgrade",
];

/// A reader of one chunked body.
#[derive(Default)]
pub(super) struct Chunked {
    at: At,
    /// The size of the chunk under way, then what is left of it.
    size: u64,
    digits: u8,
    line_extension: u32,
    body_extension: u32,
    trailer_size: usize,
    fields: Fields,
}

#[derive(Clone, Copy, Default)]
enum At {
    Data,
    DataCr,
    DataLf,
    Extension(Extension),
    #[default]
    Size,
    SizeLf,
    Trailers,
}

/// Where in `*( BWS ";" BWS name [ BWS "=" BWS ( token / quoted-string ) ] )` a line stands.
#[derive(Clone, Copy)]
enum Extension {
    /// White space after the size, a name or a value, where only `;` (or, after a name, `=`)
    /// goes on.
    Gap {
        after_name: bool,
    },
    Name,
    /// After `;`.
    NameStart,
    Quoted,
    /// After a back slash.
    QuotedPair,
    /// After the closing quote.
    QuotedEnd,
    Value,
    /// After `=`.
    ValueStart,
}

impl Chunked {
    /// Reads on; returns how many bytes were used and whether the body is complete.
    pub(super) fn read(&mut self, bytes: &[u8]) -> Result<(usize, bool), GateReason> {
        let mut cursor = Cursor::new(bytes);
        while cursor.left() > 0 {
            match self.at {
                At::Data => {
                    let left = usize::try_from(self.size).unwrap_or(usize::MAX);
                    self.size -= cursor.take(left).len() as u64;
                    if self.size == 0 {
                        self.at = At::DataCr;
                    }
                }
                At::Trailers => {
                    let (used, complete) = self.trailers(cursor.rest())?;
                    return Ok((bytes.len() - cursor.left() + used, complete));
                }
                _ => {
                    let Some(byte) = cursor.next() else { break };
                    self.at = self.step(byte)?;
                }
            }
        }
        Ok((bytes.len(), false))
    }

    fn step(&mut self, byte: u8) -> Result<At, GateReason> {
        match self.at {
            At::Size => return self.size(byte),
            At::Extension(extension) => {
                if byte == b'\r' && extension.may_end() {
                    return Ok(At::SizeLf);
                }
                return self.extension(extension, byte);
            }
            At::SizeLf if byte == b'\n' => {
                self.digits = 0;
                self.line_extension = 0;
                return Ok(if self.size == 0 { At::Trailers } else { At::Data });
            }
            At::DataCr if byte == b'\r' => return Ok(At::DataLf),
            At::DataLf if byte == b'\n' => return Ok(At::Size),
            _ => {}
        }
        Err(GateReason::BadChunk)
    }

    fn size(&mut self, byte: u8) -> Result<At, GateReason> {
        if let Some(digit) = (byte as char).to_digit(16) {
            if self.digits == SIZE_DIGITS {
                return Err(GateReason::BadChunk);
            }
            self.digits += 1;
            self.size = self.size << 4 | u64::from(digit);
            return Ok(At::Size);
        }
        match byte {
            _ if self.digits == 0 => Err(GateReason::BadChunk),
            b'\r' => Ok(At::SizeLf),
            b';' | b' ' | b'\t' => self.extension(Extension::Gap { after_name: false }, byte),
            _ => Err(GateReason::BadChunk),
        }
    }

    fn extension(&mut self, extension: Extension, byte: u8) -> Result<At, GateReason> {
        self.line_extension += 1;
        self.body_extension += 1;
        if self.line_extension > LINE_EXTENSION || self.body_extension > BODY_EXTENSION {
            return Err(GateReason::BadChunkExtension);
        }
        extension.step(byte).map(At::Extension)
    }

    fn trailers(&mut self, bytes: &[u8]) -> Result<(usize, bool), GateReason> {
        let room = TRAILER_SIZE.saturating_sub(self.trailer_size);
        let mut window = Cursor::new(bytes.get(..room).unwrap_or(bytes));
        let given = window.left();
        let complete = self.fields.read(&mut window, TRAILER_COUNT, &mut Trailers)?;
        let used = given - window.left();
        self.trailer_size += used;
        if !complete && given < bytes.len() {
            return Err(GateReason::TrailersTooLarge);
        }
        Ok((used, complete))
    }
}

impl Extension {
    /// Whether the line may end here: not in white space, and not before a name or value.
    fn may_end(self) -> bool {
        matches!(self, Self::Name | Self::Value | Self::QuotedEnd)
    }

    fn step(self, byte: u8) -> Result<Self, GateReason> {
        let token = class::is(byte, TOKEN);
        Ok(match (self, byte) {
            (Self::Quoted, b'"') => Self::QuotedEnd,
            (Self::Quoted, b'\\') => Self::QuotedPair,
            (Self::Quoted | Self::QuotedPair, b'\t' | b' '..=b'~' | 0x80..) => Self::Quoted,
            (Self::NameStart | Self::Name, _) if token => Self::Name,
            (Self::ValueStart | Self::Value, _) if token => Self::Value,
            (Self::ValueStart, b'"') => Self::Quoted,
            (Self::NameStart | Self::ValueStart | Self::Gap { .. }, b' ' | b'\t') => self,
            (Self::Name, b' ' | b'\t') => Self::Gap { after_name: true },
            (Self::Value | Self::QuotedEnd, b' ' | b'\t') => Self::Gap { after_name: false },
            (Self::Name | Self::Gap { after_name: true }, b'=') => Self::ValueStart,
            (Self::Name | Self::Value | Self::QuotedEnd | Self::Gap { .. }, b';') => {
                Self::NameStart
            }
            _ => return Err(GateReason::BadChunkExtension),
        })
    }
}

/// The rules of a trailer section: names only.
struct Trailers;

impl FieldRules for Trailers {
    const TOO_MANY: GateReason = GateReason::TrailersTooLarge;

    fn name(&mut self, name: &[u8]) -> Result<bool, GateReason> {
        if NO_TRAILERS.iter().any(|forbidden| same_name(name, forbidden)) {
            return Err(GateReason::BadTrailer);
        }
        Ok(false)
    }

    fn value(&mut self, _: &[u8]) -> Result<(), GateReason> {
        Ok(())
    }
}
