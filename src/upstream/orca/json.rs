//! Reports as JSON, read in one pass without building a tree.
//!
//! As protobuf's JSON has it: names in either spelling, numbers also as strings, `null` for what
//! is left out. Names nobody knows are passed over.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, Visitor};

use super::parse::{Checked, Malformed, Map, Metric};

pub(super) fn parse(value: &[u8], note: &mut Checked<'_, '_>) -> Result<(), Malformed> {
    let mut json = serde_json::Deserializer::from_slice(value);
    let mut sink = Sink { note, malformed: None };
    let read = Report(&mut sink).deserialize(&mut json).and_then(|()| json.end());
    read.map_err(|_| sink.malformed.unwrap_or(Malformed::Json))
}

/// Where metrics go, and the reason why not, for which serde has no room.
struct Sink<'a, 'b, 'c> {
    note: &'a mut Checked<'b, 'c>,
    malformed: Option<Malformed>,
}

impl Sink<'_, '_, '_> {
    fn take<E: Error>(&mut self, metric: Metric<'_>, value: Option<f64>) -> Result<(), E> {
        let Some(value) = value else { return Ok(()) };
        self.note.take(metric, value).map_err(|malformed| {
            self.malformed = Some(malformed);
            E::custom(malformed)
        })
    }
}

/// The message.
struct Report<'s, 'a, 'b, 'c>(&'s mut Sink<'a, 'b, 'c>);

impl<'de> DeserializeSeed<'de> for Report<'_, '_, '_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Report<'_, '_, '_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a report of load")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<(), A::Error> {
        while let Some(name) = fields.next_key_seed(Text)? {
            let plain = match &*name {
                "application_utilization" | "applicationUtilization" => Some(Metric::Application),
                "cpu_utilization" | "cpuUtilization" => Some(Metric::Cpu),
                "eps" => Some(Metric::Eps),
                "mem_utilization" | "memUtilization" => Some(Metric::Memory),
                "rps" => Some(Metric::RpsWhole),
                "rps_fractional" | "rpsFractional" => Some(Metric::Rps),
                _ => None,
            };
            let map = match &*name {
                "named_metrics" | "namedMetrics" => Some(Map::Named),
                "request_cost" | "requestCost" => Some(Map::RequestCost),
                "utilization" => Some(Map::Utilization),
                _ => None,
            };
            match (plain, map) {
                (Some(metric), _) => self.0.take(metric, fields.next_value_seed(Number)?)?,
                (None, Some(map)) => fields.next_value_seed(Entries(map, self.0))?,
                (None, None) => {
                    fields.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }
}

/// One of the message's maps.
struct Entries<'s, 'a, 'b, 'c>(Map, &'s mut Sink<'a, 'b, 'c>);

impl<'de> DeserializeSeed<'de> for Entries<'_, '_, '_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Entries<'_, '_, '_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map of metrics")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        while let Some(key) = entries.next_key_seed(Text)? {
            let value = entries.next_value_seed(Number)?;
            self.1.take(self.0.entry(&key), value)?;
        }
        Ok(())
    }
}

/// A name, borrowed where it has no escapes.
struct Text;

impl<'de> DeserializeSeed<'de> for Text {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Text {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(text))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(text.to_owned()))
    }
}

/// A number, or a string with one; `None` for `null`.
struct Number;

impl<'de> DeserializeSeed<'de> for Number {
    type Value = Option<f64>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_any(self)
    }
}

impl Visitor<'_> for Number {
    type Value = Option<f64>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number")
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Self::Value, E> {
        Ok(Some(number))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Self::Value, E> {
        Ok(Some(number as f64))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Self::Value, E> {
        Ok(Some(number as f64))
    }

    fn visit_str<E: Error>(self, number: &str) -> Result<Self::Value, E> {
        number.parse().map(Some).map_err(E::custom)
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }
}
