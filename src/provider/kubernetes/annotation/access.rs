//! Who is let in by address, and how that goes together with authentication.

use ipnet::IpNet;
use serde::Serialize;

use super::finding::Class;
use super::reader::Reader;
use super::value;

/// Source ranges. A list that cannot be read lets nobody in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Access {
    /// Who is let in; in place of the ConfigMap's list. Others get 403. Default is everybody.
    pub allow: Option<Vec<IpNet>>,
    /// Who is not let in; looked at before `allow`.
    pub deny: Option<Vec<IpNet>>,
    /// Whether one of source ranges and authentication is enough. Default all.
    pub satisfy: Option<Satisfy>,
}

/// How source ranges and authentication go together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Satisfy {
    /// All must let a request in.
    All,
    /// One is enough.
    Any,
}

impl Access {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let allow = reader.guard("allowlist-source-range", value::networks);
        // The older name. Even where it does not count it must be good.
        let old = reader.guard("whitelist-source-range", value::networks);
        if allow.is_some() && old.is_some() {
            let text = "has no effect: `allowlist-source-range` is there as well and wins";
            reader.amend("whitelist-source-range", Class::Ignored, text);
        }
        Self {
            allow: allow.or(old),
            deny: reader.guard("denylist-source-range", value::networks),
            satisfy: reader.value("satisfy", |text| {
                value::choice(text, &[("all", Satisfy::All), ("any", Satisfy::Any)])
            }),
        }
    }
}
