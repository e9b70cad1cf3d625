//! Who may use a route.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use ipnet::IpNet;
use ir::{AccessList, ConnectionLimit, Guard, RateKey, RateLimit};

use super::context::Context;
use super::range;
use crate::ir;
use crate::provider::file::field::{At, Field, List, OneOf, OneOrMany, Text};
use crate::provider::file::raw;
use crate::provider::file::scalar::{Network, Off, RefusalStatus};

/// The access list; that of the defaults where nothing is said.
fn access(
    context: &mut Context<'_>,
    field: &Field<OneOf<Text<Off>, raw::Access>>,
    default: &Option<AccessList>,
) -> Option<AccessList> {
    let Some(at) = field.given() else { return default.clone() };
    let OneOf::Map(raw) = &at.value else { return None };
    if raw.allow.is_absent() && raw.deny.is_absent() {
        let hint = "add `allow`, `deny` or both";
        context.error(at.place, "the access list names nobody", Some(hint));
    }
    if let Some(allow) = raw.allow.given()
        && allow.value.0.is_empty()
        && !allow.value.1
    {
        let hint = "leave it out to allow everybody; `deny: [0.0.0.0/0, ::/0]` denies everybody";
        context.error(allow.place, "`allow` is empty", Some(hint));
    }
    Some(AccessList { allow: networks(&raw.allow), deny: networks(&raw.deny) })
}

/// The rate limits; those of the defaults where nothing is said.
fn rate_limits(
    context: &mut Context<'_>,
    field: &Field<OneOrMany<OneOf<Text<Off>, raw::RateLimit>>>,
    default: &[RateLimit],
) -> Vec<RateLimit> {
    let Some(OneOrMany(list)) = field.get() else { return default.to_vec() };
    list.0.iter().filter_map(|at| rate_limit(context, at)).collect()
}

fn rate_limit(
    context: &mut Context<'_>,
    at: &At<OneOf<Text<Off>, raw::RateLimit>>,
) -> Option<RateLimit> {
    let OneOf::Map(raw) = &at.value else { return None };
    let mut requests = 0;
    range::count(context, "requests", &raw.requests, 1..=u32::MAX, &mut requests);
    if raw.requests.is_absent() {
        let hint = "for example `rate_limit: { requests: 10, per: 1s, burst: 50 }`";
        context.error(at.place, "the rate limit has no `requests`", Some(hint));
    }
    let mut per = Duration::from_secs(1);
    range::at_least(context, "per", &raw.per, Duration::from_millis(1), &mut per);
    Some(RateLimit {
        requests,
        per,
        burst: raw.burst.get().copied().unwrap_or(requests),
        key: key(context, &raw.key),
        scope: scope(context, &raw.scope),
        status: status(&raw.status),
        exempt: networks(&raw.exempt),
    })
}

fn key(
    context: &mut Context<'_>,
    field: &Field<OneOf<raw::RateKeyWord, raw::RateKeyPart>>,
) -> RateKey {
    let Some(at) = field.given() else { return RateKey::ClientIp };
    match &at.value {
        OneOf::Scalar(raw::RateKeyWord::ClientIp) => RateKey::ClientIp,
        OneOf::Map(part) => {
            if part.header.is_absent() {
                let hint = "write `client_ip` or `{ header: x-api-key }`";
                context.error(at.place, "the key names nothing", Some(hint));
            }
            let header = part.header.get().map(|name| RateKey::Header(name.0.0.clone()));
            header.unwrap_or_default()
        }
    }
}

/// The limit on requests at once; that of the defaults where nothing is said.
fn connection_limit(
    context: &mut Context<'_>,
    field: &Field<OneOf<Text<Off>, raw::ConnectionLimit>>,
    default: &Option<ConnectionLimit>,
) -> Option<ConnectionLimit> {
    let Some(at) = field.given() else { return default.clone() };
    let OneOf::Map(raw) = &at.value else { return None };
    let mut per_client = 1;
    range::count(context, "per_client", &raw.per_client, 1..=65_535, &mut per_client);
    if raw.per_client.is_absent() {
        let hint = "for example `connection_limit: { per_client: 20 }`";
        context.error(at.place, "the connection limit has no `per_client`", Some(hint));
    }
    Some(ConnectionLimit {
        per_client: u16::try_from(per_client).unwrap_or(u16::MAX),
        scope: scope(context, &raw.scope),
        status: status(&raw.status),
        exempt: networks(&raw.exempt),
    })
}

/// What is said in a route or in the defaults, and what stands for nothing said.
pub(super) fn guard(
    context: &mut Context<'_>,
    access: &Field<OneOf<Text<Off>, raw::Access>>,
    rate_limits: &Field<OneOrMany<OneOf<Text<Off>, raw::RateLimit>>>,
    connections: &Field<OneOf<Text<Off>, raw::ConnectionLimit>>,
    default: &Guard,
) -> Guard {
    Guard {
        access: self::access(context, access, &default.access),
        rate_limits: self::rate_limits(context, rate_limits, &default.rate_limits),
        connection_limit: connection_limit(context, connections, &default.connection_limit),
    }
}

fn scope(context: &mut Context<'_>, field: &Field<String>) -> Option<Arc<str>> {
    let at = field.given()?;
    if at.value.is_empty() {
        context.error(at.place, "`scope` is empty", Some("leave it out: each route is its own"));
    }
    Some(Arc::from(&*at.value))
}

fn status(field: &Field<Text<RefusalStatus>>) -> StatusCode {
    field.get().map_or(StatusCode::TOO_MANY_REQUESTS, |status| status.0.0)
}

fn networks(field: &Field<List<Text<Network>>>) -> Vec<IpNet> {
    let list = field.get().map(|list| list.0.as_slice()).unwrap_or_default();
    list.iter().map(|at| at.value.0.0).collect()
}
