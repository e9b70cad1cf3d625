//! Node trees to the raw structs, through serde.
//!
//! Unlike a plain serde format it does not stop at the first mistake: an unknown key is reported
//! and skipped, and a value that does not fit makes only its own `Field` unusable. One pass finds
//! everything that is wrong with the shape of a document.

mod access;
mod elsewhere;

use std::cell::RefCell;
use std::fmt;

use ir::Problem;
use serde::de::value::StrDeserializer;
use serde::de::{self, DeserializeOwned, Deserializer, IntoDeserializer, Visitor};
use serde::forward_to_deserialize_any;

use self::access::{Entries, Items, Keys, Parts, Shape};
use super::field;
use super::node::{Node, Place, Scalar, Value};
use super::parse::Placed;
use crate::ir;

/// Decodes `node` as a `T`; what does not fit is reported in `problems`.
pub(super) fn decode<T: DeserializeOwned>(node: &Node, problems: &mut Vec<Placed>) -> Option<T> {
    let sink = RefCell::new(Vec::new());
    let decoder = Decoder { node, sink: &sink, key: None, reported: false };
    let result = T::deserialize(decoder);
    let value = match result {
        Ok(value) => Some(value),
        Err(error) => {
            decoder.report(error);
            None
        }
    };
    problems.append(&mut sink.borrow_mut());
    value
}

/// The closest of `known` to `word`, where it is close enough to have been meant.
pub(super) fn closest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(word, candidate), candidate))
        .filter(|(distance, candidate)| {
            *distance <= 1.max(candidate.chars().count().min(word.chars().count()) / 3)
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// A hint that offers the closest of `known`, or all of them where none is close.
pub(super) fn suggestion(word: &str, known: &[&str]) -> String {
    match closest(word, known.iter().copied()) {
        Some(candidate) => format!("did you mean `{candidate}`?"),
        None if known.is_empty() => "nothing is defined".to_owned(),
        None => format!("one of: {}", known.join(", ")),
    }
}

/// Why a value does not fit. A line feed in the message separates what is wrong from the hint.
#[derive(Debug)]
pub(super) struct Error {
    message: String,
    place: Option<Place>,
    /// Reported before.
    silent: bool,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

impl de::Error for Error {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self { message: message.to_string(), place: None, silent: false }
    }
}

#[derive(Clone, Copy)]
struct Decoder<'a> {
    node: &'a Node,
    sink: &'a RefCell<Vec<Placed>>,
    /// The key whose value this is, for messages.
    key: Option<&'a str>,
    /// Whether it was reported already that there is no value.
    reported: bool,
}

impl<'a> Decoder<'a> {
    fn report(self, error: Error) {
        if error.silent {
            return;
        }
        let (what, hint) = match error.message.split_once('\n') {
            Some((what, hint)) => (what, Some(hint)),
            None => (error.message.as_str(), None),
        };
        let message = match self.key {
            Some(key) => format!("{key}: {what}"),
            None => what.to_owned(),
        };
        let mut problem = Problem::error(message);
        problem.hint = hint.map(str::to_owned);
        self.sink.borrow_mut().push((error.place.unwrap_or(self.node.place), problem));
    }

    fn expected(self, what: &str) -> Error {
        Error {
            message: format!("expected {what}, found {}", self.node.describe()),
            place: Some(self.node.place),
            silent: matches!(self.node.value, Value::Broken),
        }
    }

    fn scalar(self, what: &str) -> Result<&'a Scalar, Error> {
        match &self.node.value {
            Value::Scalar(scalar) => Ok(scalar),
            Value::Broken | Value::List(_) | Value::Map(_) | Value::Null => {
                Err(self.expected(what))
            }
        }
    }

    /// A scalar that may be a number or truth value: unquoted, or substituted.
    fn untyped(self, what: &str) -> Result<&'a str, Error> {
        let scalar = self.scalar(what)?;
        if scalar.plain || scalar.substituted {
            Ok(scalar.text.trim())
        } else {
            Err(Error {
                message: format!(
                    "expected {what}, found the text {}\nremove the quotes",
                    self.node.describe()
                ),
                place: Some(self.node.place),
                silent: false,
            })
        }
    }

    /// A parser's message about its value. Hints may repeat the value, so what was substituted
    /// gets another one.
    fn about(self, scalar: &Scalar, message: &str) -> String {
        match message.split_once('\n') {
            Some((what, _)) if scalar.substituted => {
                format!("{} {what}\n{SUBSTITUTED}", scalar.shown())
            }
            _ => format!("{} {message}", scalar.shown()),
        }
    }

    fn unsigned(self) -> Result<u64, Error> {
        let text = self.untyped("a whole number")?;
        text.replace('_', "").parse().map_err(|_| self.expected("a whole number"))
    }

    fn child(self, node: &'a Node, key: Option<&'a str>) -> Self {
        Self { node, key: key.or(self.key), reported: false, ..self }
    }
}

impl<'de> Deserializer<'de> for Decoder<'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match &self.node.value {
            Value::Broken => Err(self.expected("a value")),
            Value::Null => visitor.visit_unit(),
            Value::List(items) => {
                visitor.visit_seq(Items { decoder: self, items: items.iter(), free: true })
            }
            Value::Map(_) => self.deserialize_map(visitor),
            Value::Scalar(scalar) => match Guess::of(scalar) {
                Guess::Bool(value) => visitor.visit_bool(value),
                Guess::Float(value) => visitor.visit_f64(value),
                Guess::Int(value) => visitor.visit_i64(value),
                Guess::Text => visitor.visit_str(&scalar.text),
            },
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.untyped("true or false")? {
            "true" => visitor.visit_bool(true),
            "false" => visitor.visit_bool(false),
            _ => Err(self.expected("true or false")),
        }
    }

    fn deserialize_u16<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let value = self.unsigned()?;
        let value =
            u16::try_from(value).map_err(|_| self.expected("a whole number up to 65535"))?;
        visitor.visit_u16(value)
    }

    fn deserialize_u32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let value = self.unsigned()?;
        let value =
            u32::try_from(value).map_err(|_| self.expected("a whole number up to 4294967295"))?;
        visitor.visit_u32(value)
    }

    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_u64(self.unsigned()?)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let scalar = self.scalar("text")?;
        visitor.visit_str(&scalar.text).map_err(|error: Error| match error.place {
            Some(_) => error,
            // Parsers of small values say only what is wrong; the value itself is shown here,
            // where it is known whether it may be shown.
            None => Error {
                message: self.about(scalar, &error.message),
                place: Some(self.node.place),
                ..error
            },
        })
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.node.value {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        match (name, &self.node.value) {
            (field::FIELD, Value::Null) if self.reported => {
                visitor.visit_seq(Items { decoder: self, items: [].iter(), free: true })
            }
            (field::FIELD, Value::Null) => visitor.visit_unit(),
            (field::LIST, _) => self.deserialize_seq(visitor),
            (field::ONE_OR_MANY, Value::List(_)) => self.deserialize_seq(visitor),
            (field::ONE_OR_MANY, _) => {
                let items = std::slice::from_ref(self.node).iter();
                visitor.visit_seq(Items { decoder: self, items, free: false })
            }
            (field::FIELD, _) => visitor.visit_seq(Parts { decoder: self, next: 0 }),
            _ => visitor.visit_newtype_struct(self),
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match &self.node.value {
            Value::List(items) => {
                visitor.visit_seq(Items { decoder: self, items: items.iter(), free: false })
            }
            Value::Scalar(_) => {
                let mut error = self.expected("a list");
                error.message.push_str("\nput brackets around it");
                Err(error)
            }
            _ => Err(self.expected("a list")),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match &self.node.value {
            Value::Map(entries) => visitor.visit_map(Entries::new(self, entries, None)),
            _ => Err(self.expected("a mapping")),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let keys = Keys { structure: name, fields };
        match &self.node.value {
            Value::Map(entries) => visitor.visit_map(Entries::new(self, entries, Some(keys))),
            _ => {
                let mut error = self.expected("a mapping");
                error.message.push_str(&format!("\nits keys are: {}", fields.join(", ")));
                Err(error)
            }
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        if name == field::ONE_OF {
            return visitor.visit_enum(Shape(self));
        }
        let scalar = self.scalar("text")?;
        let Some(variant) = variants.iter().find(|variant| **variant == scalar.text) else {
            return Err(Error {
                message: format!(
                    "{} is none of: {}{}",
                    scalar.shown(),
                    variants.join(", "),
                    match elsewhere::hint(name, &scalar.text) {
                        _ if scalar.substituted => format!("\n{SUBSTITUTED}"),
                        Some(hint) => format!("\n{hint}"),
                        None => match closest(&scalar.text, variants.iter().copied()) {
                            Some(candidate) => format!("\ndid you mean `{candidate}`?"),
                            None => String::new(),
                        },
                    }
                ),
                place: Some(self.node.place),
                silent: false,
            });
        };
        let variant: StrDeserializer<'_, Error> = (*variant).into_deserializer();
        visitor.visit_enum(variant)
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u8 u128 f32 f64 char bytes byte_buf unit unit_struct tuple
        tuple_struct ignored_any
    }
}

const SUBSTITUTED: &str = "look at what the variable or file holds";

/// What an unquoted scalar is by YAML's core schema, where any type will do.
enum Guess {
    Bool(bool),
    Float(f64),
    Int(i64),
    Text,
}

impl Guess {
    fn of(scalar: &Scalar) -> Self {
        if !scalar.plain || scalar.substituted {
            return Self::Text;
        }
        match scalar.text.as_str() {
            "true" => return Self::Bool(true),
            "false" => return Self::Bool(false),
            _ => {}
        }
        if let Ok(value) = scalar.text.parse() {
            return Self::Int(value);
        }
        // Rust also parses "inf" and "nan", which JSON has no numbers for.
        match scalar.text.parse::<f64>() {
            Ok(value) if scalar.text.starts_with(|c: char| c.is_ascii_digit() || c == '-') => {
                Self::Float(value)
            }
            _ => Self::Text,
        }
    }
}
