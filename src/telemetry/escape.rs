//! Text off the network made harmless: whatever the bytes, one line comes out of one record and
//! a terminal that shows it obeys nothing in it.

use std::borrow::Cow;

/// Appends `bytes` with everything but printable ASCII, and `"` and `\`, as `\xHH`.
pub(super) fn plain(bytes: &[u8], out: &mut Vec<u8>) {
    for byte in bytes {
        match byte {
            b'"' | b'\\' => hex(*byte, out),
            b' '..=b'~' => out.push(*byte),
            _ => hex(*byte, out),
        }
    }
}

/// Appends `bytes` as a JSON string with its quotes (RFC 8259 §7). Control characters of every
/// kind, and those that reorder or hide text, are escaped; bytes that are not UTF-8 appear as
/// the text `\xHH`.
pub(super) fn json(bytes: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    if bytes.iter().all(|byte| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\')) {
        out.extend_from_slice(bytes);
    } else {
        for chunk in bytes.utf8_chunks() {
            chunk.valid().chars().for_each(|c| json_char(c, out));
            for byte in chunk.invalid() {
                out.push(b'\\');
                hex(*byte, out);
            }
        }
    }
    out.push(b'"');
}

/// Escapes what a JSON encoder may leave as it is although a terminal would obey it. Such
/// characters stand in strings only, so the document around them need not be known.
pub(super) fn encoded_json(document: &[u8]) -> Cow<'_, [u8]> {
    if document.iter().all(|byte| matches!(byte, b'\n' | b' '..=b'~')) {
        return Cow::Borrowed(document);
    }
    let mut out = Vec::with_capacity(document.len() + 16);
    for c in String::from_utf8_lossy(document).chars() {
        if c != '\n' && is_unsafe(c) {
            unit(c, &mut out);
        } else {
            out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
        }
    }
    Cow::Owned(out)
}

/// `text` with unsafe characters, newlines among them, as `\u{…}`.
pub(super) fn text(text: &str) -> Cow<'_, str> {
    escaped(text, is_unsafe)
}

/// As [`text`], with backslashes doubled: distinct texts stay distinct.
pub(super) fn distinct(text: &str) -> Cow<'_, str> {
    escaped(text, |c| c == '\\' || is_unsafe(c))
}

fn escaped(text: &str, wanted: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&wanted) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if wanted(c) { out.extend(c.escape_default()) } else { out.push(c) }
    }
    Cow::Owned(out)
}

fn json_char(c: char, out: &mut Vec<u8>) {
    match c {
        '"' => out.extend_from_slice(b"\\\""),
        '\\' => out.extend_from_slice(b"\\\\"),
        '\n' => out.extend_from_slice(b"\\n"),
        '\r' => out.extend_from_slice(b"\\r"),
        '\t' => out.extend_from_slice(b"\\t"),
        _ if is_unsafe(c) => unit(c, out),
        _ => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
    }
}

/// Controls (C0, DEL, C1), line and paragraph separators, marks that change direction, the byte
/// order mark.
fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}')
        || matches!(c, '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// Appends `\uHHHH`; everything unsafe lies in the basic plane, one UTF-16 unit.
fn unit(c: char, out: &mut Vec<u8>) {
    let [high, low] = (c as u32 as u16).to_be_bytes();
    out.extend_from_slice(b"\\u");
    digits(high, out);
    digits(low, out);
}

fn hex(byte: u8, out: &mut Vec<u8>) {
    out.extend_from_slice(b"\\x");
    digits(byte, out);
}

fn digits(byte: u8, out: &mut Vec<u8>) {
    for nibble in [byte >> 4, byte & 15] {
        out.push(if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 });
    }
}
