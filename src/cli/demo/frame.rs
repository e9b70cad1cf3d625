//! WebSocket frames (RFC 6455 §5), sans I/O: bytes in, messages out, and frames to send.
//! The server's side only: frames that come must be masked, frames that go are not.

/// What a peer said.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Message {
    Binary(Vec<u8>),
    /// The end, with the peer's code.
    Close(Option<u16>),
    Ping(Vec<u8>),
    Pong,
    Text(String),
}

/// Why a connection cannot go on; the close code of RFC 6455 §7.4.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Violation {
    /// 1007: text that is not UTF-8.
    NotUtf8 = 1007,
    /// 1002: a broken frame.
    Protocol = 1002,
    /// 1009: a message over [`LARGEST`].
    TooBig = 1009,
}

/// The largest message taken, bytes.
pub(super) const LARGEST: usize = 64 * 1024;

const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// Puts frames and messages together from whatever pieces the bytes come in.
#[derive(Default)]
pub(super) struct Decoder {
    input: Vec<u8>,
    /// The message whose last fragment has not come yet: its opcode and content so far.
    partial: Option<(u8, Vec<u8>)>,
}

/// One frame, unmasked.
struct Frame {
    fin: bool,
    opcode: u8,
    payload: Vec<u8>,
}

impl Decoder {
    /// Takes bytes as they came.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
    }

    /// The next message, `None` until more bytes come. After a violation the connection is over.
    pub(super) fn message(&mut self) -> Result<Option<Message>, Violation> {
        while let Some(frame) = self.frame()? {
            if frame.opcode >= CLOSE {
                return control(frame).map(Some);
            }
            let (opcode, mut content) = match (self.partial.take(), frame.opcode) {
                (Some(partial), CONTINUATION) => partial,
                (None, TEXT | BINARY) => (frame.opcode, Vec::new()),
                _ => return Err(Violation::Protocol),
            };
            if content.len() + frame.payload.len() > LARGEST {
                return Err(Violation::TooBig);
            }
            content.extend_from_slice(&frame.payload);
            if !frame.fin {
                self.partial = Some((opcode, content));
            } else if opcode == BINARY {
                return Ok(Some(Message::Binary(content)));
            } else {
                let text = String::from_utf8(content).map_err(|_| Violation::NotUtf8)?;
                return Ok(Some(Message::Text(text)));
            }
        }
        Ok(None)
    }

    fn frame(&mut self) -> Result<Option<Frame>, Violation> {
        let [first, second, rest @ ..] = self.input.as_slice() else { return Ok(None) };
        let (fin, opcode) = (first & 0x80 != 0, first & 0x0f);
        let known = matches!(opcode, CONTINUATION | TEXT | BINARY | CLOSE | PING | PONG);
        if first & 0x70 != 0 || second & 0x80 == 0 || !known {
            return Err(Violation::Protocol);
        }
        let length = second & 0x7f;
        if opcode >= CLOSE && (!fin || length > 125) {
            return Err(Violation::Protocol);
        }
        let (length, rest) = match (length, rest) {
            (126, [a, b, rest @ ..]) => (u64::from(u16::from_be_bytes([*a, *b])), rest),
            (127, [a, b, c, d, e, f, g, h, rest @ ..]) => {
                (u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]), rest)
            }
            (126 | 127, _) => return Ok(None),
            (length, rest) => (u64::from(length), rest),
        };
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if length > LARGEST {
            return Err(Violation::TooBig);
        }
        let [m0, m1, m2, m3, rest @ ..] = rest else { return Ok(None) };
        let Some(payload) = rest.get(..length) else { return Ok(None) };
        let mask = [*m0, *m1, *m2, *m3];
        let payload: Vec<u8> =
            payload.iter().zip(mask.iter().cycle()).map(|(b, m)| b ^ m).collect();
        let used = self.input.len() - (rest.len() - length);
        self.input.drain(..used);
        Ok(Some(Frame { fin, opcode, payload }))
    }
}

fn control(frame: Frame) -> Result<Message, Violation> {
    match (frame.opcode, frame.payload.as_slice()) {
        (PING, _) => Ok(Message::Ping(frame.payload)),
        (PONG, _) => Ok(Message::Pong),
        (_, []) => Ok(Message::Close(None)),
        (_, [a, b, reason @ ..]) => {
            let code = u16::from_be_bytes([*a, *b]);
            // RFC 6455 §7.4: 1004 to 1006 and 1015 never stand in a frame.
            let sendable = matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999);
            match sendable && std::str::from_utf8(reason).is_ok() {
                true => Ok(Message::Close(Some(code))),
                false => Err(Violation::Protocol),
            }
        }
        _ => Err(Violation::Protocol),
    }
}

/// A frame with a text message.
pub(super) fn text(text: &str) -> Vec<u8> {
    encode(TEXT, text.as_bytes())
}

/// A frame with a binary message.
pub(super) fn binary(content: &[u8]) -> Vec<u8> {
    encode(BINARY, content)
}

/// A ping without content.
pub(super) fn ping() -> Vec<u8> {
    encode(PING, &[])
}

/// The answer to a ping.
pub(super) fn pong(content: &[u8]) -> Vec<u8> {
    encode(PONG, content)
}

/// The end, with a code.
pub(super) fn close(code: u16) -> Vec<u8> {
    encode(CLOSE, &code.to_be_bytes())
}

fn encode(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(payload.len() + 10);
    out.push(0x80 | opcode);
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(short @ 0..=125), _) => out.push(short),
        (_, Ok(medium)) => {
            out.push(126);
            out.extend_from_slice(&medium.to_be_bytes());
        }
        _ => {
            out.push(127);
            out.extend_from_slice(&(payload.len() as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(payload);
    out
}
