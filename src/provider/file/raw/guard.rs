//! Who may use a route, as it is written.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::provider::file::field::{Field, List, OneOf, Text};
use crate::provider::file::scalar::{FieldName, Network, Period, RefusalStatus};

/// Client addresses that may use a route: `deny` comes first, and with `allow` nobody else may.
/// Others are answered 403.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::provider::file) struct Access {
    /// Networks that may. Default: everybody.
    pub allow: Field<List<Text<Network>>>,
    /// Networks that may not, whatever is allowed. Default: none.
    pub deny: Field<List<Text<Network>>>,
}

/// How often each client may use a route; what is beyond that is refused at once.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["requests"]))]
pub(in crate::provider::file) struct RateLimit {
    /// So many more than the rate allows are let through before requests are refused. Default: as
    /// many as `requests`.
    pub burst: Field<u32>,
    /// Networks whose clients are not limited. Default: none.
    pub exempt: Field<List<Text<Network>>>,
    /// What tells clients apart: `client_ip`, or `{ header: NAME }`. Default: `client_ip`.
    pub key: Field<OneOf<RateKeyWord, RateKeyPart>>,
    /// The time in which `requests` are allowed, evenly. Default: `1s`.
    pub per: Field<Text<Period>>,
    /// So many requests.
    pub requests: Field<u32>,
    /// Routes that name the same scope count together. Default: each route counts on its own.
    pub scope: Field<String>,
    /// The status of a refusal. Default: 429.
    pub status: Field<Text<RefusalStatus>>,
}

/// What tells clients apart.
#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub(in crate::provider::file) enum RateKeyWord {
    /// The IPv4 address, or the /64 of the IPv6 address.
    ClientIp,
}

/// A part of the request that tells clients apart.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["header"]))]
pub(in crate::provider::file) struct RateKeyPart {
    /// The value of this header; the address where it is missing.
    pub header: Field<Text<FieldName>>,
}

/// How many requests of one client address may be in progress at once.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["per_client"]))]
pub(in crate::provider::file) struct ConnectionLimit {
    /// Networks whose clients are not limited. Default: none.
    pub exempt: Field<List<Text<Network>>>,
    /// So many for each address, up to 65535. An IPv6 client is its /64.
    pub per_client: Field<u32>,
    /// Routes that name the same scope count together. Default: each route counts on its own.
    pub scope: Field<String>,
    /// The status of a refusal. Default: 429.
    pub status: Field<Text<RefusalStatus>>,
}
