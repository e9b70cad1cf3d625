//! Small values of balancing and resilience: shares, factors, switches, statuses and the words
//! that stand for a whole policy.

use std::time::Duration;

use ir::Permille;
use schemars::{Schema, json_schema};

use super::{PERIOD, period};
use crate::ir;
use crate::provider::file::decode::suggestion;
use crate::provider::file::field::Scalar;
use crate::telemetry::GrpcCode;

/// A part of a whole: `20%` or `0.2`, at most `100%`.
pub(in crate::provider::file) struct Share(pub Permille);

/// A multiple: `1.5` or `150%`.
pub(in crate::provider::file) struct Factor(pub Permille);

/// `on` or `off`.
pub(in crate::provider::file) struct Switch(pub bool);

/// A length of time in which something is different; `off` is none.
pub(in crate::provider::file) struct Window(pub Duration);

/// One status, or some of them: `200`, `200-299`, `2xx`.
pub(in crate::provider::file) struct StatusRange(pub u16, pub u16);

/// A health check in one word.
pub(in crate::provider::file) enum HealthWord {
    Grpc,
    Http,
    Off,
    /// An HTTP check of this path.
    Path(String),
    Tcp,
}

/// Something that is repeated.
pub(in crate::provider::file) enum RetryCondition {
    GatewayError,
    Grpc(u8),
    Reset,
    Status(u16),
    Timeout,
}

/// When a hedge is sent.
pub(in crate::provider::file) struct HedgeAfter(pub ir::HedgeAfter);

/// Hedging in one word.
pub(in crate::provider::file) enum HedgeWord {
    After(ir::HedgeAfter),
    Off,
    On,
}

const PERCENT: &str = r"^[0-9]+(\.[0-9])?%$";

/// A decimal number of at most `places` decimal places, times ten to that power.
fn decimal(text: &str, places: u32) -> Option<Result<u32, String>> {
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(part) {
        return None;
    }
    let kept = part.trim_end_matches('0');
    if kept.len() > places as usize {
        return Some(Err("is too precise\nthe finest is 0.1%".to_owned()));
    }
    let unit = 10_u32.pow(places);
    let part = format!("{kept:0<width$}", width = places as usize).parse().unwrap_or(0);
    let value =
        whole.parse().ok().and_then(|whole: u32| whole.checked_mul(unit)?.checked_add(part));
    Some(value.ok_or_else(|| "is too large".to_owned()))
}

/// A number or a percentage in thousandths.
fn permille(text: &str) -> Option<Result<Permille, String>> {
    let value = match text.strip_suffix('%') {
        Some(number) => decimal(number, 1)?,
        None => decimal(text, 3)?,
    };
    Some(value.map(Permille))
}

impl Scalar for Share {
    fn parse(text: &str) -> Result<Self, String> {
        const HINT: &str = "write it as in `20%` or `0.2`";
        let Some(value) = permille(text) else {
            return Err(format!("is no share\n{HINT}"));
        };
        match value? {
            // Someone may mean one percent.
            _ if text == "1" => Err("is ambiguous\nwrite `1%` or `100%`".to_owned()),
            value if value <= Permille(1000) => Ok(Self(value)),
            _ if !text.ends_with('%') && !text.contains('.') => {
                Err(format!("is more than the whole\ndid you mean `{text}%`?"))
            }
            _ => Err(format!("is more than the whole\n{HINT}")),
        }
    }

    fn schema() -> Schema {
        json_schema!({
            "anyOf": [
                { "type": "number", "minimum": 0, "exclusiveMaximum": 1 },
                { "type": "string", "pattern": PERCENT },
            ],
            "examples": ["20%"],
        })
    }
}

impl Scalar for Factor {
    fn parse(text: &str) -> Result<Self, String> {
        match permille(text) {
            Some(value) => value.map(Self),
            None => Err("is no factor\nwrite it as in `1.5` or `150%`".to_owned()),
        }
    }

    fn schema() -> Schema {
        json_schema!({
            "anyOf": [{ "type": "number", "minimum": 0 }, { "type": "string", "pattern": PERCENT }],
            "examples": ["1.5", "150%"],
        })
    }
}

impl Scalar for Switch {
    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "on" | "true" => Ok(Self(true)),
            "off" | "false" => Ok(Self(false)),
            _ => Err("is neither `on` nor `off`\nwrite one of them, or a mapping".to_owned()),
        }
    }

    fn schema() -> Schema {
        json_schema!({ "enum": ["on", "off", true, false] })
    }
}

impl Scalar for Window {
    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "off" | "false" => Ok(Self(Duration::ZERO)),
            _ => period(text).map(Self),
        }
    }

    fn schema() -> Schema {
        json_schema!({
            "type": "string",
            "pattern": format!("{PERIOD}|^off$"),
            "examples": ["30s", "off"],
        })
    }
}

impl Scalar for StatusRange {
    fn parse(text: &str) -> Result<Self, String> {
        const HINT: &str = "write it as in `200`, `200-299` or `2xx`";
        let number = |text: &str| text.parse().ok().filter(|code| (200..=599).contains(code));
        let class = text.strip_suffix("xx").and_then(|class| class.parse::<u16>().ok());
        let range = match (class, text.split_once('-')) {
            (Some(class @ 2..=5), _) => Some((class * 100, class * 100 + 99)),
            (_, Some((from, to))) => number(from.trim()).zip(number(to.trim())),
            _ => number(text).map(|code| (code, code)),
        };
        match range {
            Some((from, to)) if from <= to => Ok(Self(from, to)),
            Some(_) => Err("ends before it begins\nturn it round".to_owned()),
            None => Err(format!("is no status of a response\n{HINT}")),
        }
    }

    fn schema() -> Schema {
        json_schema!({
            "anyOf": [
                { "type": "integer", "minimum": 200, "maximum": 599 },
                { "type": "string", "pattern": "^[2-5]([0-9]{2}( *- *[2-5][0-9]{2})?|xx)$" },
            ],
            "examples": [200, "200-299", "2xx"],
        })
    }
}

impl Scalar for HealthWord {
    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "grpc" => Ok(Self::Grpc),
            "http" | "on" | "true" => Ok(Self::Http),
            "off" | "false" => Ok(Self::Off),
            "tcp" => Ok(Self::Tcp),
            path if path.starts_with('/') => Ok(Self::Path(path.to_owned())),
            _ => Err("is no health check\nwrite a path, http, tcp, grpc, off or a mapping".into()),
        }
    }

    fn schema() -> Schema {
        json_schema!({
            "anyOf": [
                { "const": "http", "description": "A request for `/`." },
                { "const": "tcp", "description": "That a connection is accepted." },
                { "const": "grpc", "description": "The gRPC health protocol." },
                { "enum": ["off", false], "description": "No active checks." },
                { "type": "string", "pattern": "^/", "description": "A request for this path." },
            ],
            "examples": ["/healthz", "tcp"],
        })
    }
}

impl Scalar for RetryCondition {
    fn parse(text: &str) -> Result<Self, String> {
        const WORDS: [&str; 3] = ["reset", "timeout", "gateway_error"];
        if let Some(code) = text.strip_prefix("grpc:") {
            return grpc(code);
        }
        match text {
            "gateway_error" => Ok(Self::GatewayError),
            "reset" => Ok(Self::Reset),
            "timeout" => Ok(Self::Timeout),
            "connect_failure" | "connect" | "error" => {
                Err("needs no condition\nleave it out: a failure to connect is always repeated"
                    .to_owned())
            }
            "5xx" | "4xx" | "server_error" => {
                Err("is too much\nname the statuses: `[500, 502, 503, 504]`".to_owned())
            }
            _ => match text.parse() {
                Ok(status @ 400..=599) => Ok(Self::Status(status)),
                Ok(_) => Err("is no status of an error\nuse 400 to 599".to_owned()),
                Err(_) => Err(format!(
                    "is no condition\n{}",
                    match suggestion(text, &WORDS) {
                        hint if hint.starts_with("did") => hint,
                        _ => "use reset, timeout, gateway_error, a status, or `grpc:unavailable`"
                            .to_owned(),
                    }
                )),
            },
        }
    }

    fn schema() -> Schema {
        json_schema!({
            "anyOf": [
                { "const": "reset",
                  "description": "The connection closed before a byte of the response." },
                { "const": "timeout", "description": "No response head in time." },
                { "const": "gateway_error", "description": "502, 503 and 504." },
                { "type": "integer", "minimum": 400, "maximum": 599,
                  "description": "A response with this status." },
                { "type": "string", "pattern": "^(grpc:[a-z0-9_]+|[45][0-9]{2})$",
                  "description": "A gRPC code in a response without messages." },
            ],
            "examples": ["reset", 503, "grpc:unavailable"],
        })
    }
}

fn grpc(code: &str) -> Result<RetryCondition, String> {
    let named = GrpcCode::NAMES.iter().position(|name| *name == code.to_ascii_lowercase());
    match named.or_else(|| code.parse().ok()).and_then(|code| u8::try_from(code).ok()) {
        Some(code @ 1..=16) => Ok(RetryCondition::Grpc(code)),
        Some(0) => Err("is success\nleave it out".to_owned()),
        _ => {
            let hint = suggestion(code, GrpcCode::NAMES.get(1..).unwrap_or_default());
            let hint = hint.replace("did you mean `", "did you mean `grpc:");
            Err(format!("is no gRPC code\n{hint}"))
        }
    }
}

impl Scalar for HedgeAfter {
    fn parse(text: &str) -> Result<Self, String> {
        const HINT: &str = "write a time as `100ms`, or a quantile as `p95`";
        let quantile = text.strip_prefix('p').or_else(|| text.strip_suffix('%'));
        if let Some(value) = quantile.and_then(|number| decimal(number, 1)) {
            return match value? {
                value @ 500..=999 => Ok(Self(ir::HedgeAfter::Quantile(Permille(value)))),
                _ => Err("is no quantile to wait for\nuse p50 to p99.9".to_owned()),
            };
        }
        match period(text) {
            Ok(Duration::ZERO) => Err(format!("would double every request\n{HINT}")),
            Ok(delay) => Ok(Self(ir::HedgeAfter::Delay(delay))),
            Err(_) => Err(format!("is no time to hedge after\n{HINT}")),
        }
    }

    fn schema() -> Schema {
        json_schema!({
            "type": "string",
            "pattern": format!(r"{PERIOD}|^p[5-9][0-9](\.[0-9])?$|{PERCENT}"),
            "examples": ["p95", "100ms"],
        })
    }
}

impl Scalar for HedgeWord {
    fn parse(text: &str) -> Result<Self, String> {
        match Switch::parse(text) {
            Ok(Switch(true)) => Ok(Self::On),
            Ok(Switch(false)) => Ok(Self::Off),
            Err(_) => HedgeAfter::parse(text).map(|HedgeAfter(after)| Self::After(after)),
        }
    }

    fn schema() -> Schema {
        json_schema!({ "anyOf": [Switch::schema(), HedgeAfter::schema()] })
    }
}
