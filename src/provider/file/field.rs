//! The building blocks of the raw structs: values that know their place, and containers that
//! keep what is good when a part of them is not.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{
    Deserialize, Deserializer, EnumAccess, Error, MapAccess, SeqAccess, VariantAccess, Visitor,
};

use super::node::Place;

/// How a `Field` asks the decoder for itself.
pub(super) const FIELD: &str = "$field";
/// How a `OneOf` asks the decoder for itself.
pub(super) const ONE_OF: &str = "$one_of";
/// How a `List` asks the decoder for itself.
pub(super) const LIST: &str = "$list";
/// How a `OneOrMany` asks the decoder for itself.
pub(super) const ONE_OR_MANY: &str = "$one_or_many";
/// The shape of text, numbers and truth values.
pub(super) const SCALAR: &str = "scalar";
/// The shape of mappings.
pub(super) const MAP: &str = "map";
/// The raw struct of a whole document.
pub(super) const DOCUMENT: &str = "Document";

/// A value and where it stands.
pub(super) struct At<T> {
    pub value: T,
    pub place: Place,
    /// Whether a variable or file was substituted in it or below it.
    pub substituted: bool,
}

/// The value of a key.
#[derive(Default)]
pub(super) enum Field<T> {
    /// Not given, or an entry of a mapping of names without a value.
    #[default]
    Absent,
    /// Given, but of no use; reported already.
    Bad,
    Given(At<T>),
}

impl<T> Field<T> {
    /// The value and its place.
    pub fn given(&self) -> Option<&At<T>> {
        match self {
            Self::Absent | Self::Bad => None,
            Self::Given(at) => Some(at),
        }
    }

    /// The value.
    pub fn get(&self) -> Option<&T> {
        self.given().map(|at| &at.value)
    }

    /// Whether nothing was said.
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::Absent)
    }

    /// The place of the value.
    pub fn place(&self) -> Option<Place> {
        self.given().map(|at| at.place)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Field<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_newtype_struct(FIELD, FieldVisitor(PhantomData))
    }
}

struct FieldVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for FieldVisitor<T> {
    type Value = Field<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E: Error>(self) -> Result<Field<T>, E> {
        Ok(Field::Absent)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<Field<T>, A::Error> {
        let Some(value) = parts.next_element()? else { return Ok(Field::Bad) };
        let mut number = || parts.next_element::<u32>().map(Option::unwrap_or_default);
        let place = Place { file: number()?, line: number()?, column: number()? };
        Ok(Field::Given(At { value, place, substituted: number()? != 0 }))
    }
}

/// A list whose bad entries are left out; whether there were any is the second part.
pub(super) struct List<T>(pub Vec<At<T>>, pub bool);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for List<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_newtype_struct(LIST, ListVisitor(PhantomData))
    }
}

struct ListVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ListVisitor<T> {
    type Value = List<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<List<T>, A::Error> {
        let mut list = Vec::with_capacity(items.size_hint().unwrap_or(0).min(1024));
        let mut left_out = false;
        while let Some(item) = items.next_element::<Field<T>>()? {
            match item {
                Field::Given(at) => list.push(at),
                Field::Absent | Field::Bad => left_out = true,
            }
        }
        Ok(List(list, left_out))
    }
}

/// A list, or its only entry without brackets.
pub(super) struct OneOrMany<T>(pub List<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for OneOrMany<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let visitor = ListVisitor(PhantomData);
        deserializer.deserialize_newtype_struct(ONE_OR_MANY, visitor).map(Self)
    }
}

/// A mapping from names to values in its order, whose bad entries are left out.
pub(super) struct Named<T>(pub Vec<Entry<T>>);

/// One entry of a mapping.
pub(super) struct Entry<T> {
    pub name: At<String>,
    pub value: Field<T>,
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Named<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(NamedVisitor(PhantomData))
    }
}

struct NamedVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for NamedVisitor<T> {
    type Value = Named<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a mapping")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Named<T>, A::Error> {
        let mut named = Vec::with_capacity(entries.size_hint().unwrap_or(0).min(1024));
        while let Some(name) = entries.next_key::<Field<String>>()? {
            let value = entries.next_value()?;
            if let Field::Given(name) = name {
                named.push(Entry { name, value });
            }
        }
        Ok(Named(named))
    }
}

/// A short form as a scalar, or the long form as a mapping.
pub(super) enum OneOf<S, M> {
    Map(M),
    Scalar(S),
}

impl<'de, S: Deserialize<'de>, M: Deserialize<'de>> Deserialize<'de> for OneOf<S, M> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_enum(ONE_OF, &[], OneOfVisitor(PhantomData))
    }
}

struct OneOfVisitor<S, M>(PhantomData<(S, M)>);

impl<'de, S: Deserialize<'de>, M: Deserialize<'de>> Visitor<'de> for OneOfVisitor<S, M> {
    type Value = OneOf<S, M>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text or a mapping")
    }

    fn visit_enum<A: EnumAccess<'de>>(self, access: A) -> Result<OneOf<S, M>, A::Error> {
        let (shape, access) = access.variant::<String>()?;
        if shape == MAP {
            access.newtype_variant().map(OneOf::Map)
        } else {
            access.newtype_variant().map(OneOf::Scalar)
        }
    }
}

/// A small value with a text form of its own.
pub(super) trait Scalar: Sized {
    /// Parses it. An error says what the text is or is not, as the end of a sentence that begins
    /// with the text, and after a line feed how to mend it.
    fn parse(text: &str) -> Result<Self, String>;

    /// Its JSON Schema.
    fn schema() -> Schema;
}

/// A `Scalar` as serde sees it.
pub(super) struct Text<T>(pub T);

impl<'de, T: Scalar> Deserialize<'de> for Text<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(TextVisitor(PhantomData))
    }
}

struct TextVisitor<T>(PhantomData<T>);

impl<T: Scalar> Visitor<'_> for TextVisitor<T> {
    type Value = Text<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Text<T>, E> {
        T::parse(text).map(Text).map_err(E::custom)
    }
}

/// Any value at all.
pub(super) struct Any(pub serde_json::Value);

impl<'de> Deserialize<'de> for Any {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        serde_json::Value::deserialize(deserializer).map(Any)
    }
}

// === JSON Schema: every block is invisible in it ===

impl<T: JsonSchema> JsonSchema for Field<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        generator.subschema_for::<T>()
    }
}

impl<T: JsonSchema> JsonSchema for List<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("list of {}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "array", "items": generator.subschema_for::<T>() })
    }
}

impl<T: JsonSchema> JsonSchema for OneOrMany<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("one or more {}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let one = generator.subschema_for::<T>();
        json_schema!({ "anyOf": [one, { "type": "array", "items": one }] })
    }
}

impl<T: JsonSchema> JsonSchema for Named<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("named {}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "additionalProperties": generator.subschema_for::<T>(),
        })
    }
}

impl<S: JsonSchema, M: JsonSchema> JsonSchema for OneOf<S, M> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("{} or {}", S::schema_name(), M::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let short = generator.subschema_for::<S>();
        let long = generator.subschema_for::<M>();
        json_schema!({ "anyOf": [short, long] })
    }
}

impl<T: Scalar> JsonSchema for Text<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "text".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        T::schema()
    }
}

impl JsonSchema for Any {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "any".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!(true)
    }
}
