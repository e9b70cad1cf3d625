//! Who may use a route, from where, and how much of it.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, StatusCode};
use ipnet::IpNet;
use serde::Serialize;

use super::dump;
use super::route::{header_name, status_code};

/// What guards a route. Checked in the order of the fields, before anything of the request is
/// read or forwarded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Guard {
    /// Which client addresses may use it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access: Option<AccessList>,
    /// How many requests of a client there may be at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connection_limit: Option<ConnectionLimit>,
    /// How often clients may use it; all of them must allow a request.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rate_limits: Vec<RateLimit>,
}

/// Client addresses that may use a route. Who is denied is answered 403; where something is
/// allowed, everybody else is denied.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct AccessList {
    /// Those that may; empty is everybody.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<IpNet>,
    /// Those that may not, whatever is allowed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub deny: Vec<IpNet>,
}

/// A limit on how often each client may use a route: a leaky bucket that refuses at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RateLimit {
    /// So many requests, not 0, …
    pub requests: u32,
    /// … in this time, not 0, evenly.
    #[serde(serialize_with = "dump::span")]
    pub per: Duration,
    /// So many more than the rate allows are let through before requests are refused.
    pub burst: u32,
    /// What tells clients apart.
    pub key: RateKey,
    /// Who is counted together; `None` is the route alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<Arc<str>>,
    /// The status of a refusal.
    #[serde(serialize_with = "status_code")]
    pub status: StatusCode,
    /// Client addresses that are not limited.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exempt: Vec<IpNet>,
}

/// What tells clients apart.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RateKey {
    /// The client's IPv4 address, or the /64 its IPv6 address is in.
    #[default]
    ClientIp,
    /// The value of this header field; the address where it is missing.
    #[serde(serialize_with = "header_name")]
    Header(HeaderName),
}

/// A limit on how many requests of one client address are in progress at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ConnectionLimit {
    /// So many, from 1 to 65,535.
    pub per_client: u16,
    /// Who is counted together; `None` is the route alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<Arc<str>>,
    /// The status of a refusal.
    #[serde(serialize_with = "status_code")]
    pub status: StatusCode,
    /// Client addresses that are not limited.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exempt: Vec<IpNet>,
}
