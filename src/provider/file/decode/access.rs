//! How the decoder hands out lists, mappings, the parts of a `Field` and the shape of a `OneOf`.

use ir::Problem;
use serde::de::value::StrDeserializer;
use serde::de::{
    self, DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer, MapAccess, SeqAccess,
    VariantAccess, Visitor,
};

use super::{Decoder, Error, elsewhere, suggestion};
use crate::ir;
use crate::provider::file::field;
use crate::provider::file::node::{Node, Place, Value};

pub(super) struct Items<'a> {
    pub decoder: Decoder<'a>,
    pub items: std::slice::Iter<'a, Node>,
    /// Whether entries may be empty, as in a free value.
    pub free: bool,
}

impl<'de> SeqAccess<'de> for Items<'de> {
    type Error = Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Error> {
        match self.items.next() {
            None => Ok(None),
            Some(node) => {
                if matches!(node.value, Value::Null) && !self.free {
                    let error = de::Error::custom("a list entry is empty");
                    self.decoder.child(node, None).report(error);
                }
                seed.deserialize(self.decoder.child(node, None)).map(Some)
            }
        }
    }
}

/// What a `Field` is made of: its value (absent where it did not fit), its place, and whether
/// something was substituted in it.
pub(super) struct Parts<'a> {
    pub decoder: Decoder<'a>,
    pub next: u8,
}

impl<'de> SeqAccess<'de> for Parts<'de> {
    type Error = Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Error> {
        let Place { file, line, column } = self.decoder.node.place;
        self.next += 1;
        let number = match self.next {
            1 => {
                return Ok(match seed.deserialize(self.decoder) {
                    Ok(value) => Some(value),
                    Err(error) => {
                        self.decoder.report(error);
                        None
                    }
                });
            }
            2 => file,
            3 => line,
            4 => column,
            _ => u32::from(self.decoder.node.is_substituted()),
        };
        seed.deserialize(number.into_deserializer()).map(Some)
    }
}

/// The struct whose keys are being read.
#[derive(Clone, Copy)]
pub(super) struct Keys {
    pub structure: &'static str,
    pub fields: &'static [&'static str],
}

pub(super) struct Entries<'a> {
    decoder: Decoder<'a>,
    entries: std::slice::Iter<'a, (Node, Node)>,
    value: Option<(&'a Node, &'a Node)>,
    keys: Option<Keys>,
}

impl<'a> Entries<'a> {
    pub fn new(decoder: Decoder<'a>, entries: &'a [(Node, Node)], keys: Option<Keys>) -> Self {
        Self { decoder, entries: entries.iter(), value: None, keys }
    }

    /// Whether the struct has this key; reports it where not.
    fn known(&self, keys: Keys, key: &Node) -> bool {
        let Value::Scalar(scalar) = &key.value else { return false };
        let text = scalar.text.as_str();
        if keys.fields.contains(&text) {
            return true;
        }
        if keys.structure == field::DOCUMENT && text.starts_with("x-") {
            return false;
        }
        let hint = match elsewhere::hint(keys.structure, text) {
            Some(hint) => hint.to_owned(),
            None => suggestion(text, keys.fields),
        };
        let problem = Problem::error(format!("unknown key {}", scalar.shown())).hint(hint);
        self.decoder.sink.borrow_mut().push((key.place, problem));
        false
    }
}

impl<'de> MapAccess<'de> for Entries<'de> {
    type Error = Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Error> {
        for (key, value) in self.entries.by_ref() {
            let keep = match self.keys {
                Some(keys) => Self { entries: [].iter(), ..*self }.known(keys, key),
                None => true,
            };
            if !keep {
                continue;
            }
            self.value = Some((key, value));
            return seed.deserialize(self.decoder.child(key, None)).map(Some);
        }
        Ok(None)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Error> {
        let Some((key, value)) = self.value.take() else {
            return Err(de::Error::custom("a value was read before its key"));
        };
        let name = match &key.value {
            Value::Scalar(scalar) if !scalar.substituted => Some(scalar.text.as_str()),
            _ => None,
        };
        // Without `client_auth`, `methods` or `ca` more is let in than with them, so a key that
        // lost what stood below it is no key left out.
        let empty = self.keys.is_some() && matches!(value.value, Value::Null);
        if let (true, Value::Scalar(key_text)) = (empty, &key.value) {
            let problem = Problem::error(format!("{} has no value", key_text.shown()))
                .hint("write what belongs behind it, or leave the key out");
            self.decoder.sink.borrow_mut().push((key.place, problem));
        }
        seed.deserialize(Decoder { reported: empty, ..self.decoder.child(value, name) })
    }
}

/// Tells a `OneOf` which shape its node has.
pub(super) struct Shape<'a>(pub Decoder<'a>);

impl<'de> EnumAccess<'de> for Shape<'de> {
    type Error = Error;
    type Variant = Self;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self), Error> {
        let shape = match self.0.node.value {
            Value::Broken => return Err(self.0.expected("a value")),
            Value::Map(_) => field::MAP,
            Value::List(_) | Value::Null | Value::Scalar(_) => field::SCALAR,
        };
        let shape: StrDeserializer<'_, Error> = shape.into_deserializer();
        Ok((seed.deserialize(shape)?, self))
    }
}

impl<'de> VariantAccess<'de> for Shape<'de> {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        Err(self.0.expected("text or a mapping"))
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Error> {
        seed.deserialize(self.0)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Error> {
        self.0.deserialize_seq(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.0.deserialize_map(visitor)
    }
}
