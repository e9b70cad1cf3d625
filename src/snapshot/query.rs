//! Reading one parameter of a query: owns separators and decoding, and allocates nothing unless an
//! expression has to see a long value that needs decoding.
//!
//! As in HTML forms (WHATWG URL, application/x-www-form-urlencoded): parameters are separated by
//! `&`, the first `=` ends the name, `+` is a space, `%` with two hexadecimal digits is a byte and
//! any other `%` itself.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use smallvec::SmallVec;

/// A parameter's value as it stands in the query.
#[derive(Clone, Copy, Debug)]
pub(super) struct RawValue<'a>(&'a [u8]);

/// The first parameter called `name`; without a `=` its value is empty.
pub(super) fn first<'a>(query: &'a str, name: &str) -> Option<RawValue<'a>> {
    query.as_bytes().split(|&b| b == b'&').filter(|pair| !pair.is_empty()).find_map(|pair| {
        let (raw, value) = match pair.iter().position(|&b| b == b'=') {
            Some(end) => (pair.get(..end)?, pair.get(end + 1..)?),
            None => (pair, &[][..]),
        };
        RawValue(raw).equals(name.as_bytes()).then_some(RawValue(value))
    })
}

impl RawValue<'_> {
    /// Whether it decodes to exactly `wanted`.
    pub(super) fn equals(self, wanted: &[u8]) -> bool {
        decoded(self.0).eq(wanted.iter().copied())
    }

    /// Calls `test` with the decoded value.
    pub(super) fn test(self, test: impl FnOnce(&[u8]) -> bool) -> bool {
        if self.0.iter().any(|b| matches!(b, b'%' | b'+')) {
            test(&decoded(self.0).collect::<SmallVec<[u8; 256]>>())
        } else {
            test(self.0)
        }
    }
}

fn decoded(mut raw: &[u8]) -> impl Iterator<Item = u8> {
    std::iter::from_fn(move || {
        let (&first, rest) = raw.split_first()?;
        raw = rest;
        match first {
            b'+' => Some(b' '),
            b'%' => match rest {
                [high, low, after @ ..] => match (hex(*high), hex(*low)) {
                    (Some(high), Some(low)) => {
                        raw = after;
                        Some(high << 4 | low)
                    }
                    _ => Some(b'%'),
                },
                _ => Some(b'%'),
            },
            byte => Some(byte),
        }
    })
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(query: &str, name: &str) -> Option<String> {
        let raw = first(query, name)?;
        let mut text = String::new();
        raw.test(|bytes| {
            text = String::from_utf8_lossy(bytes).into_owned();
            true
        });
        assert!(raw.equals(text.as_bytes()) || text.contains('\u{fffd}'));
        Some(text)
    }

    #[test]
    fn the_first_occurrence_counts_and_is_decoded() {
        assert_eq!(value("a=1&a=2", "a").as_deref(), Some("1"));
        assert_eq!(value("b=x&%61=y+z%21", "a").as_deref(), Some("y z!"));
        assert_eq!(value("a=b=c", "a").as_deref(), Some("b=c"));
        assert_eq!(value("&&a&", "a").as_deref(), Some(""));
        assert_eq!(value("a+b=1", "a b").as_deref(), Some("1"));
        assert_eq!(value("ab=1", "a"), None);
        assert_eq!(value("", ""), None);
        assert_eq!(value("=x", "").as_deref(), Some("x"));
    }

    #[test]
    fn a_percent_sign_without_two_digits_stands_for_itself() {
        assert_eq!(value("a=%", "a").as_deref(), Some("%"));
        assert_eq!(value("a=%4", "a").as_deref(), Some("%4"));
        assert_eq!(value("a=%zz%41", "a").as_deref(), Some("%zzA"));
        assert_eq!(value("a=%%41", "a").as_deref(), Some("%A"));
    }

    #[test]
    fn bytes_that_are_no_text_still_compare() {
        assert!(first("a=%ff", "a").unwrap().equals(&[0xff]));
    }
}
