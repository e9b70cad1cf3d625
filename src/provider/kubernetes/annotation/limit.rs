//! limit-*: how much one client gets.

use ipnet::IpNet;
use serde::Serialize;

use super::finding::Class;
use super::reader::Reader;
use super::value;

/// Limits for each client and Ingress, counted in each replica.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Limit {
    /// Requests a second.
    pub rps: Option<u32>,
    /// Requests a minute.
    pub rpm: Option<u32>,
    /// How many times the rate may come at once. Default 5.
    pub burst_multiplier: Option<u32>,
    /// Connections; over HTTP/2 requests at a time.
    pub connections: Option<u32>,
    /// Bytes a second of a response; zero is no limit.
    pub rate: Option<u64>,
    /// The bytes of a response before `rate` holds.
    pub rate_after: Option<u64>,
    /// Clients without limits.
    pub allow: Option<Vec<IpNet>>,
}

impl Limit {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        // Zero is no limit.
        let limit = |text: &str| value::number(text).map(|number| (number > 0).then_some(number));
        let allow = reader.value("limit-allowlist", value::networks);
        let old = reader.value("limit-whitelist", value::networks);
        if allow.is_some() && old.is_some() {
            let text = "has no effect: `limit-allowlist` is there as well and wins";
            reader.amend("limit-whitelist", Class::Ignored, text);
        }
        Self {
            rps: reader.essential("limit-rps", limit).flatten(),
            rpm: reader.essential("limit-rpm", limit).flatten(),
            burst_multiplier: reader.value("limit-burst-multiplier", value::positive),
            connections: reader.essential("limit-connections", limit).flatten(),
            rate: reader.value("limit-rate", kibibytes),
            rate_after: reader.value("limit-rate-after", kibibytes),
            allow: allow.or(old),
        }
    }
}

fn kibibytes(text: &str) -> Result<u64, String> {
    value::number(text).map(|number| u64::from(number) << 10)
}
