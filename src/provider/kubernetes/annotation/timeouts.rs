//! How long is waited for a back end, and when another endpoint is tried.

use std::time::Duration;

use serde::Serialize;

use super::dump;
use super::reader::Reader;
use super::value;

/// Timeouts and repeated attempts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Timeouts {
    /// For a connection. Default 5 s.
    #[serde(serialize_with = "dump::span")]
    pub connect: Option<Duration>,
    /// Between two reads from the back end, not for all of the response. Default 60 s.
    #[serde(serialize_with = "dump::span")]
    pub read: Option<Duration>,
    /// Between two writes to the back end. Default 60 s.
    #[serde(serialize_with = "dump::span")]
    pub send: Option<Duration>,
    /// When another endpoint is tried; empty is never. Default `error timeout`.
    pub next_upstream: Option<Vec<NextUpstream>>,
    /// For how long; zero is without a limit, which is the default.
    #[serde(serialize_with = "dump::span")]
    pub next_upstream_timeout: Option<Duration>,
    /// How often at most, the first attempt included; zero is without a limit. Default 3.
    pub next_upstream_tries: Option<u32>,
}

/// A reason to try another endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NextUpstream {
    /// A connection failed or broke.
    Error,
    /// A timeout.
    Timeout,
    /// A response that is none.
    InvalidHeader,
    /// A status: 403, 404, 429, 500, 502, 503 or 504.
    Status(u16),
    /// Also where the request may not be idempotent.
    NonIdempotent,
}

impl Timeouts {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        Self {
            connect: reader.value("proxy-connect-timeout", value::some_seconds),
            read: reader.value("proxy-read-timeout", value::some_seconds),
            send: reader.value("proxy-send-timeout", value::some_seconds),
            next_upstream: reader.value("proxy-next-upstream", next_upstream),
            next_upstream_timeout: reader.value("proxy-next-upstream-timeout", value::seconds),
            next_upstream_tries: reader.value("proxy-next-upstream-tries", value::number),
        }
    }
}

fn next_upstream(text: &str) -> Result<Vec<NextUpstream>, String> {
    const WORDS: [(&str, NextUpstream); 11] = [
        ("error", NextUpstream::Error),
        ("timeout", NextUpstream::Timeout),
        ("invalid_header", NextUpstream::InvalidHeader),
        ("http_403", NextUpstream::Status(403)),
        ("http_404", NextUpstream::Status(404)),
        ("http_429", NextUpstream::Status(429)),
        ("http_500", NextUpstream::Status(500)),
        ("http_502", NextUpstream::Status(502)),
        ("http_503", NextUpstream::Status(503)),
        ("http_504", NextUpstream::Status(504)),
        ("non_idempotent", NextUpstream::NonIdempotent),
    ];
    let words: Vec<_> = text.split_whitespace().collect();
    // As in nginx, `off` beside others turns all of them off.
    if words.contains(&"off") {
        return Ok(Vec::new());
    }
    let mut conditions = Vec::new();
    for word in words {
        let condition = value::choice(word, &WORDS)
            .map_err(|error| format!("is wrong at `{word}`, which {error}"))?;
        if !conditions.contains(&condition) {
            conditions.push(condition);
        }
    }
    Ok(conditions)
}
