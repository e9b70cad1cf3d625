//! Reports as protobuf, decoded by hand: the message has nine fields.
//!
//! As the wire format has it, fields come in any order, the last of a name counts, and unknown
//! ones are passed over. Groups, which no current encoder writes, and known fields of another
//! wire type are malformed.

use super::parse::{Checked, Malformed, Map, Metric};

const BAD: Malformed = Malformed::Protobuf;

pub(super) fn parse(message: &[u8], note: &mut Checked<'_, '_>) -> Result<(), Malformed> {
    let mut reader = Reader(message);
    while let Some((number, value)) = reader.field()? {
        match number {
            1 => note.take(Metric::Cpu, value.double()?)?,
            2 => note.take(Metric::Memory, value.double()?)?,
            3 => note.take(Metric::RpsWhole, value.integer()? as f64)?,
            4 => entry(Map::RequestCost, value.bytes()?, note)?,
            5 => entry(Map::Utilization, value.bytes()?, note)?,
            6 => note.take(Metric::Rps, value.double()?)?,
            7 => note.take(Metric::Eps, value.double()?)?,
            8 => entry(Map::Named, value.bytes()?, note)?,
            9 => note.take(Metric::Application, value.double()?)?,
            _ => {}
        }
    }
    Ok(())
}

/// An entry of a map is a message of a key and a value; what is left out is empty or 0.
fn entry(map: Map, message: &[u8], note: &mut Checked<'_, '_>) -> Result<(), Malformed> {
    let (mut key, mut number) = ("", 0.0);
    let mut reader = Reader(message);
    while let Some((field, value)) = reader.field()? {
        match field {
            1 => key = std::str::from_utf8(value.bytes()?).map_err(|_| BAD)?,
            2 => number = value.double()?,
            _ => {}
        }
    }
    note.take(map.entry(key), number)
}

enum Value<'a> {
    Bytes(&'a [u8]),
    Fixed32,
    Fixed64([u8; 8]),
    Integer(u64),
}

impl<'a> Value<'a> {
    fn double(&self) -> Result<f64, Malformed> {
        match self {
            Self::Fixed64(bytes) => Ok(f64::from_le_bytes(*bytes)),
            _ => Err(BAD),
        }
    }

    fn integer(&self) -> Result<u64, Malformed> {
        match self {
            Self::Integer(integer) => Ok(*integer),
            _ => Err(BAD),
        }
    }

    fn bytes(&self) -> Result<&'a [u8], Malformed> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            _ => Err(BAD),
        }
    }
}

/// What is left of a message.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// The next field's number and value; `None` at the end.
    fn field(&mut self) -> Result<Option<(u64, Value<'a>)>, Malformed> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let number = tag >> 3;
        if number == 0 || number >= 1 << 29 {
            return Err(BAD);
        }
        let value = match tag & 7 {
            0 => Value::Integer(self.varint()?),
            1 => Value::Fixed64(self.array()?),
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| BAD)?;
                let (bytes, rest) = self.0.split_at_checked(length).ok_or(BAD)?;
                self.0 = rest;
                Value::Bytes(bytes)
            }
            5 => {
                self.array::<4>()?;
                Value::Fixed32
            }
            _ => return Err(BAD),
        };
        Ok(Some((number, value)))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (array, rest) = self.0.split_first_chunk::<N>().ok_or(BAD)?;
        self.0 = rest;
        Ok(*array)
    }

    fn varint(&mut self) -> Result<u64, Malformed> {
        let mut integer = 0u64;
        for shift in (0..64).step_by(7) {
            let [byte] = self.array::<1>()?;
            // The tenth byte has room for one bit.
            if shift == 63 && byte > 1 {
                return Err(BAD);
            }
            integer |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(integer);
            }
        }
        Err(BAD)
    }
}
