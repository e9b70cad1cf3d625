//! Classes of bytes, and how far a run of one class goes.

/// A token byte (RFC 9110 §5.6.2): methods, field names, transfer codings.
pub(super) const TOKEN: u8 = 1;
/// A byte that may stand in a target before its first `?`.
pub(super) const PATH: u8 = 2;
/// A byte that may stand in a target from its first `?` on.
pub(super) const QUERY: u8 = 4;
/// A byte of a host name.
pub(super) const NAME: u8 = 8;

/// How many leading bytes of `bytes` are of `class`.
#[inline]
pub(super) fn run(bytes: &[u8], class: u8) -> usize {
    bytes.iter().position(|&byte| !is(byte, class)).unwrap_or(bytes.len())
}

/// Whether `byte` is of `class`.
#[inline]
#[allow(clippy::indexing_slicing, reason = "a byte never exceeds a table of 256")]
pub(super) fn is(byte: u8, class: u8) -> bool {
    CLASSES[usize::from(byte)] & class != 0
}

/// How many leading bytes may stand in a field value: HTAB, SP, VCHAR and obs-text
/// (RFC 9110 §5.5). Eight at a time: values are most of a head.
#[inline]
pub(super) fn value_run(bytes: &[u8]) -> usize {
    const ONES: u64 = u64::from_ne_bytes([0x01; 8]);
    const HIGHS: u64 = u64::from_ne_bytes([0x80; 8]);
    const SPACES: u64 = u64::from_ne_bytes([0x20; 8]);
    const DELS: u64 = u64::from_ne_bytes([0x7f; 8]);
    let mut at = 0;
    while let Some(word) = bytes.get(at..).and_then(<[u8]>::first_chunk::<8>) {
        let word = u64::from_le_bytes(*word);
        // The lowest marked byte is exact (borrows only spoil those above it); marked are
        // bytes below SP, and DEL.
        let controls = word.wrapping_sub(SPACES) & !word & HIGHS;
        let del = word ^ DELS;
        let marks = controls | (del.wrapping_sub(ONES) & !del & HIGHS);
        if marks == 0 {
            at += 8;
            continue;
        }
        at += (marks.trailing_zeros() / 8) as usize;
        if bytes.get(at) != Some(&b'\t') {
            return at;
        }
        at += 1;
    }
    let tail = bytes.get(at..).unwrap_or_default();
    at + tail.iter().position(|&byte| !is_value(byte)).unwrap_or(tail.len())
}

const fn is_value(byte: u8) -> bool {
    matches!(byte, b'\t' | b' '..=b'~' | 0x80..)
}

#[allow(clippy::indexing_slicing, reason = "a constant that would not compile")]
const CLASSES: [u8; 256] = {
    let mut classes = [0; 256];
    let mut byte = 0_u8;
    // Nothing at or above DEL is in any class.
    while byte < 0x7f {
        classes[byte as usize] = classes_of(byte);
        byte += 1;
    }
    classes
};

const fn classes_of(byte: u8) -> u8 {
    let mut class = 0;
    if byte.is_ascii_alphanumeric() {
        return TOKEN | PATH | QUERY | NAME;
    }
    if matches!(
        byte,
        b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`'
    ) || matches!(byte, b'|' | b'~')
    {
        class |= TOKEN;
    }
    // What RFC 3986 forbids but clients send stays (`{ } | ^ "`), as far as the parser above
    // takes it too: it refuses `"` in a query. A fragment, a back slash and angle brackets and the grave accent never pass.
    if byte > b' ' && !matches!(byte, b'#' | b'\\' | b'<' | b'>' | b'`') {
        if byte != b'?' {
            class |= PATH;
        }
        if byte != b'"' {
            class |= QUERY;
        }
    }
    if matches!(byte, b'-' | b'.' | b'_') {
        class |= NAME;
    }
    class
}
