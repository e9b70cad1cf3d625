//! Field lines of heads and trailer sections: their bytes, not their meaning.

use super::GateReason;
use super::class::TOKEN;
use super::cursor::{Cursor, trim, whole};

/// What the lines of one section mean.
pub(super) trait FieldRules {
    /// The reason when there are more lines than allowed.
    const TOO_MANY: GateReason;

    /// A name is complete. Returns whether the value matters.
    fn name(&mut self, name: &[u8]) -> Result<bool, GateReason>;

    /// The value of the last name, if it mattered, without white space around it.
    fn value(&mut self, value: &[u8]) -> Result<(), GateReason>;
}

/// A reader of field lines up to and including the empty line (RFC 9112 §5), CRLF only.
#[derive(Default)]
pub(super) struct Fields {
    at: At,
    wanted: bool,
    count: usize,
    /// The beginning of a name or wanted value that a read cut in two.
    carry: Vec<u8>,
}

#[derive(Clone, Copy, Default)]
enum At {
    EndLf,
    #[default]
    LineStart,
    Name,
    Value,
    ValueLf,
}

impl Fields {
    /// Reads on; true when the section is complete.
    pub(super) fn read<R: FieldRules>(
        &mut self,
        cursor: &mut Cursor<'_>,
        max_count: usize,
        rules: &mut R,
    ) -> Result<bool, GateReason> {
        loop {
            match self.at {
                At::LineStart => match cursor.peek() {
                    None => return Ok(false),
                    Some(b'\r') => {
                        cursor.next();
                        self.at = At::EndLf;
                    }
                    Some(b' ' | b'\t') => return Err(GateReason::ObsFold),
                    Some(_) if self.count >= max_count => return Err(R::TOO_MANY),
                    Some(_) => {
                        self.count += 1;
                        self.at = At::Name;
                    }
                },
                At::Name => {
                    if !self.name(cursor, rules)? {
                        return Ok(false);
                    }
                }
                At::Value => {
                    if !self.value(cursor, rules)? {
                        return Ok(false);
                    }
                }
                At::ValueLf => match cursor.next() {
                    None => return Ok(false),
                    Some(b'\n') => self.at = At::LineStart,
                    Some(_) => return Err(GateReason::BareCr),
                },
                At::EndLf => match cursor.next() {
                    None => return Ok(false),
                    Some(b'\n') => return Ok(true),
                    Some(_) => return Err(GateReason::BareCr),
                },
            }
        }
    }

    #[inline]
    fn name<R: FieldRules>(
        &mut self,
        cursor: &mut Cursor<'_>,
        rules: &mut R,
    ) -> Result<bool, GateReason> {
        let part = cursor.take_run(TOKEN);
        match cursor.next() {
            None => {
                self.carry.extend_from_slice(part);
                return Ok(false);
            }
            Some(b':') => {}
            Some(b' ' | b'\t') => return Err(GateReason::SpaceBeforeColon),
            Some(b'\n') => return Err(GateReason::BareLf),
            Some(_) => return Err(GateReason::BadHeaderName),
        }
        let name = whole(&mut self.carry, part);
        if name.is_empty() {
            return Err(GateReason::BadHeaderName);
        }
        self.wanted = rules.name(name)?;
        self.carry.clear();
        self.at = At::Value;
        Ok(true)
    }

    #[inline]
    fn value<R: FieldRules>(
        &mut self,
        cursor: &mut Cursor<'_>,
        rules: &mut R,
    ) -> Result<bool, GateReason> {
        let part = cursor.take_value();
        match cursor.next() {
            None => {
                if self.wanted {
                    self.carry.extend_from_slice(part);
                }
                return Ok(false);
            }
            Some(b'\r') => {}
            Some(b'\n') => return Err(GateReason::BareLf),
            Some(_) => return Err(GateReason::BadHeaderValue),
        }
        if self.wanted {
            rules.value(trim(whole(&mut self.carry, part)))?;
            self.carry.clear();
        }
        self.at = At::ValueLf;
        Ok(true)
    }
}
