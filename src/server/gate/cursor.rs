//! A place in the bytes of one call.

use super::class;

/// What of a call's bytes is still to be judged.
pub(super) struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Bytes left.
    #[inline]
    pub(super) fn left(&self) -> usize {
        self.rest.len()
    }

    #[inline]
    pub(super) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    #[inline]
    pub(super) fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    #[inline]
    pub(super) fn next(&mut self) -> Option<u8> {
        let (&byte, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(byte)
    }

    /// Takes `count` bytes, or what there is.
    #[inline]
    pub(super) fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.rest.split_at_checked(count).unwrap_or((self.rest, &[]));
        self.rest = rest;
        taken
    }

    /// Takes the leading bytes of `class`.
    #[inline]
    pub(super) fn take_run(&mut self, class: u8) -> &'a [u8] {
        self.take(class::run(self.rest, class))
    }

    /// Takes the leading bytes of a field value.
    #[inline]
    pub(super) fn take_value(&mut self) -> &'a [u8] {
        self.take(class::value_run(self.rest))
    }
}

/// A token of which the last part is `part`, the earlier ones, if a read cut it, in `carry`.
#[inline]
pub(super) fn whole<'t>(carry: &'t mut Vec<u8>, part: &'t [u8]) -> &'t [u8] {
    if carry.is_empty() {
        return part;
    }
    carry.extend_from_slice(part);
    carry
}

/// Without white space (SP, HTAB) at either end.
pub(super) fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}
