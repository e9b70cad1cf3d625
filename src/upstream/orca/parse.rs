//! What all forms of a report have in common: their metrics, their bounds, and how they are told
//! apart.
//!
//! A report comes from a server that this proxy's operator runs, and is read strictly all the
//! same: what is out of its bounds is malformed as a whole, and nothing of it counts.

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use thiserror::Error;

use super::{json, proto, text};

/// The longest report that is read, in bytes as it stands in its field.
pub const MAX_LENGTH: usize = 8 * 1024;
/// The most metrics of one report.
pub const MAX_METRICS: usize = 64;
/// The longest name of a named metric, in bytes.
pub const MAX_NAME: usize = 256;

/// A metric of a report; the names are those of the message's fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Metric<'a> {
    /// `application_utilization`: what the application says of itself; may exceed 1.
    Application,
    /// `cpu_utilization`; may exceed 1.
    Cpu,
    /// `eps`: errors a second.
    Eps,
    /// `mem_utilization`, 0 to 1.
    Memory,
    /// An entry of `named_metrics`.
    Named(&'a str),
    /// An entry of `request_cost`.
    RequestCost(&'a str),
    /// `rps_fractional`: requests a second.
    Rps,
    /// `rps`: requests a second as a whole number, the field of old servers.
    RpsWhole,
    /// An entry of `utilization`.
    Utilization(&'a str),
}

/// The maps of the message.
#[derive(Clone, Copy)]
pub(super) enum Map {
    Named,
    RequestCost,
    Utilization,
}

impl Map {
    pub const fn entry(self, key: &str) -> Metric<'_> {
        match self {
            Self::Named => Metric::Named(key),
            Self::RequestCost => Metric::RequestCost(key),
            Self::Utilization => Metric::Utilization(key),
        }
    }
}

impl Metric<'_> {
    /// Whether `name` means this metric: the field's name, `map.key`, or the bare key of an entry
    /// of `named_metrics`.
    pub fn is_called(&self, name: &str) -> bool {
        let entry = |map: &str, key: &str| {
            name.strip_prefix(map).and_then(|rest| rest.strip_prefix('.')) == Some(key)
        };
        match self {
            Self::Application => name == "application_utilization",
            Self::Cpu => name == "cpu_utilization",
            Self::Eps => name == "eps",
            Self::Memory => name == "mem_utilization",
            Self::Named(key) => name == *key || entry("named_metrics", key),
            Self::RequestCost(key) => entry("request_cost", key),
            Self::Rps => name == "rps_fractional",
            Self::RpsWhole => name == "rps",
            Self::Utilization(key) => entry("utilization", key),
        }
    }
}

/// Why a report does not count.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Malformed {
    /// It is not base64.
    #[error("not base64")]
    Base64,
    /// A metric stands in it twice.
    #[error("a metric stands in it twice")]
    Duplicate,
    /// It is not JSON of the message's shape.
    #[error("not a report as JSON")]
    Json,
    /// The name of a metric is empty, too long or unknown.
    #[error("a metric without a usable name")]
    Name,
    /// It is not a message in protobuf.
    #[error("not a report as protobuf")]
    Protobuf,
    /// There is more than one report.
    #[error("more than one report")]
    Several,
    /// It is too long or has too many metrics.
    #[error("too large")]
    TooLarge,
    /// A value is no number, not finite, absurdly great, or below 0 where that has no meaning.
    #[error("a metric without a usable value")]
    Value,
}

/// What is done with the metrics of a report. They come before the whole is known to be sound.
pub type Note<'a> = dyn FnMut(Metric<'_>, f64) + 'a;

/// Hands the metrics on that are within bounds.
pub(super) struct Checked<'a, 'b> {
    note: &'a mut Note<'b>,
    count: usize,
}

impl<'a, 'b> Checked<'a, 'b> {
    fn new(note: &'a mut Note<'b>) -> Self {
        Self { note, count: 0 }
    }

    pub fn take(&mut self, metric: Metric<'_>, value: f64) -> Result<(), Malformed> {
        self.count += 1;
        if self.count > MAX_METRICS {
            return Err(Malformed::TooLarge);
        }
        let signed = match metric {
            Metric::Named(key) | Metric::RequestCost(key) | Metric::Utilization(key) => {
                if key.is_empty() || key.len() > MAX_NAME {
                    return Err(Malformed::Name);
                }
                true
            }
            _ => false,
        };
        if !value.is_finite() || value < 0.0 && !signed {
            return Err(Malformed::Value);
        }
        (self.note)(metric, value);
        Ok(())
    }
}

/// Reads the value of `endpoint-load-metrics`: `TEXT` and pairs, `JSON` and an object, `BIN` and
/// base64; without such a word an object or, as servers wrote it for older proxies, pairs.
pub fn parse(value: &[u8], note: &mut Note<'_>) -> Result<(), Malformed> {
    let value = value.trim_ascii();
    let (word, rest) = match value.iter().position(|byte| *byte == b' ') {
        Some(at) => value.split_at_checked(at).unwrap_or((b"", value)),
        None => (&b""[..], value),
    };
    match (word, value.first()) {
        (b"BIN", _) => parse_binary(rest, note),
        (b"JSON", _) => parse_json(rest, note),
        (_, Some(b'{')) => parse_json(value, note),
        (b"TEXT", _) => parse_text(rest, note),
        _ => parse_text(value, note),
    }
}

fn parse_text(value: &[u8], note: &mut Note<'_>) -> Result<(), Malformed> {
    bounded(value)?;
    text::parse(value, &mut Checked::new(note))
}

/// Reads the message as JSON, its fields in either spelling that protobuf's JSON has; others are
/// passed over.
pub fn parse_json(value: &[u8], note: &mut Note<'_>) -> Result<(), Malformed> {
    bounded(value)?;
    json::parse(value, &mut Checked::new(note))
}

/// Reads the message as protobuf in base64, padded or not.
pub fn parse_binary(value: &[u8], note: &mut Note<'_>) -> Result<(), Malformed> {
    const BASE64: GeneralPurpose = GeneralPurpose::new(
        &STANDARD,
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
    );
    bounded(value)?;
    let message = BASE64.decode(value.trim_ascii()).map_err(|_| Malformed::Base64)?;
    proto::parse(&message, &mut Checked::new(note))
}

fn bounded(value: &[u8]) -> Result<(), Malformed> {
    if value.len() > MAX_LENGTH { Err(Malformed::TooLarge) } else { Ok(()) }
}
