//! Upstreams.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;

use ir::{
    ClientCertificate, EndpointAddress, EndpointSpec, HostPattern, Name, PoolOptions, SecretBytes,
    TrustAnchors, Upstream, UpstreamProtocol, UpstreamTls,
};

use super::context::{Context, shown};
use super::range::count;
use super::settings::{period, zone};
use super::{balance, listener, or, resilience};
use crate::ir;
use crate::provider::file::field::{At, Field, OneOf, Text};
use crate::provider::file::node::Place;
use crate::provider::file::raw;
use crate::provider::file::scalar::Endpoint;

type Entry<'d> = (&'d At<String>, Option<&'d raw::Upstream>);

pub(super) fn upstreams(
    context: &mut Context<'_>,
    entries: &[Entry<'_>],
) -> BTreeMap<Name, Upstream> {
    let mut upstreams = BTreeMap::new();
    for (name, raw) in entries {
        let Some(raw) = raw else { continue };
        upstreams.insert(Name::from(&*name.value), upstream(context, name, raw));
    }
    upstreams
}

fn upstream(context: &mut Context<'_>, name: &At<String>, raw: &raw::Upstream) -> Upstream {
    let endpoints = endpoints(context, name, raw);
    let tls = tls(context, raw, &endpoints);
    let protocol = protocol(context, &raw.protocol, tls.is_some());
    Upstream {
        origin: context.origin("upstream", &name.value, name.place),
        endpoints: endpoints.into_iter().map(|endpoint| endpoint.spec).collect(),
        discovered: false,
        balance: balance::policy(context, raw).into(),
        health: resilience::health(context, &raw.health).map(Box::new),
        outlier: resilience::outlier(context, &raw.outlier).map(Arc::new),
        limits: resilience::limits(context, raw).into(),
        protocol,
        tls: tls.map(Box::new),
        pool: raw.pool.get().map(|raw| pool(context, raw)).unwrap_or_default(),
    }
}

/// An endpoint with what its URL scheme says of TLS.
struct Declared {
    spec: EndpointSpec,
    tls: Option<bool>,
    place: Place,
}

fn endpoints(context: &mut Context<'_>, name: &At<String>, raw: &raw::Upstream) -> Vec<Declared> {
    let Some(list) = raw.endpoints.given() else {
        if raw.endpoints.is_absent() {
            let message = format!("the upstream `{}` has no `endpoints`", name.value);
            context.error(name.place, message, Some("for example `endpoints: [\"10.0.0.5:80\"]`"));
        }
        return Vec::new();
    };
    if list.value.0.is_empty() && !list.value.1 {
        let message = format!("the upstream `{}` has no endpoint", name.value);
        context.warning(list.place, message, Some("its requests are answered 503"));
    }
    let mut seen: HashMap<EndpointAddress, Place> = HashMap::new();
    let mut endpoints = Vec::with_capacity(list.value.0.len());
    for at in &list.value.0 {
        let Some((spec, tls)) = endpoint(context, at) else { continue };
        let address = spec.address.clone();
        if let Some(first) = seen.insert(address.clone(), at.place) {
            let message = format!("the endpoint `{address}` is listed twice");
            let hint = format!("it stands in line {}; give it a `weight` instead", first.line);
            context.error(at.place, message, Some(&hint));
            continue;
        }
        endpoints.push(Declared { spec, tls, place: at.place });
    }
    endpoints
}

/// The endpoint and what its URL scheme says of TLS.
fn endpoint(
    context: &mut Context<'_>,
    at: &At<OneOf<Text<Endpoint>, raw::DetailedEndpoint>>,
) -> Option<(EndpointSpec, Option<bool>)> {
    /// More levels are a slip.
    const LAST_PRIORITY: u32 = 127;
    let plain = |endpoint: &Endpoint| EndpointSpec {
        address: endpoint.address.clone(),
        weight: 1,
        priority: 0,
        zone: None,
        draining: false,
    };
    let raw = match &at.value {
        OneOf::Scalar(text) => return Some((plain(&text.0), text.0.tls)),
        OneOf::Map(raw) => raw,
    };
    if raw.address.is_absent() {
        let hint = "for example `{ address: \"10.0.0.5:80\", weight: 3 }`";
        context.error(at.place, "the endpoint has no `address`", Some(hint));
    }
    if let Some(weight) = raw.weight.given().filter(|weight| weight.value == 0) {
        let hint = "write `draining: true`, or leave the endpoint out, to send it nothing";
        context.error(weight.place, "`weight` is 0", Some(hint));
    }
    let mut priority = 0;
    count(context, "priority", &raw.priority, 0..=LAST_PRIORITY, &mut priority);
    let endpoint = &raw.address.get()?.0;
    let spec = EndpointSpec {
        weight: or(&raw.weight, 1),
        priority,
        zone: raw.zone.given().and_then(|at| zone(context, at)),
        draining: or(&raw.draining, false),
        ..plain(endpoint)
    };
    Some((spec, endpoint.tls))
}

fn protocol(
    context: &mut Context<'_>,
    field: &Field<raw::Protocol>,
    tls: bool,
) -> UpstreamProtocol {
    let Some(at) = field.given() else { return UpstreamProtocol::Auto };
    match (at.value, tls) {
        (raw::Protocol::Auto, _) => UpstreamProtocol::Auto,
        (raw::Protocol::Http1, _) => UpstreamProtocol::Http1,
        (raw::Protocol::Http10, _) => UpstreamProtocol::Http10,
        (raw::Protocol::H2, true) | (raw::Protocol::H2c, false) => UpstreamProtocol::Http2,
        (raw::Protocol::H2, false) => {
            let hint = "write `protocol: h2c` for HTTP/2 without TLS, or add `tls: true`";
            context.error(at.place, "`h2` needs TLS", Some(hint));
            UpstreamProtocol::Http2
        }
        (raw::Protocol::H2c, true) => {
            let hint = "write `protocol: h2`, or take `tls` away";
            context.error(at.place, "`h2c` is HTTP/2 without TLS", Some(hint));
            UpstreamProtocol::Http2
        }
    }
}

/// TLS as asked for by `tls` or by the endpoints' URL schemes, which must agree.
fn tls(
    context: &mut Context<'_>,
    raw: &raw::Upstream,
    endpoints: &[Declared],
) -> Option<UpstreamTls> {
    let asked = match raw.tls.get() {
        None => None,
        Some(OneOf::Scalar(on)) => Some(*on),
        Some(OneOf::Map(_)) => Some(true),
    };
    let https = endpoints.iter().any(|endpoint| endpoint.tls == Some(true));
    let on = asked.unwrap_or(https);
    let odd = endpoints.iter().find(|endpoint| match endpoint.tls {
        Some(tls) => tls != on,
        // Where a scheme asks for TLS, an endpoint without one leaves open what it speaks.
        None => asked.is_none() && https,
    });
    if let Some(odd) = odd {
        let hint = "give all of them the same scheme, or none and say `tls: true` or `tls: false`";
        let message = "the endpoints do not agree on TLS";
        context.error(odd.place, message, Some(hint));
    }
    if !on {
        return None;
    }
    let mut tls = match raw.tls.get() {
        Some(OneOf::Map(raw)) => tls_options(context, raw),
        _ => UpstreamTls {
            server_name: None,
            sni: true,
            verify: true,
            trust: TrustAnchors::System,
            client_certificate: None,
        },
    };
    if tls.server_name.is_none() {
        tls.server_name = url_name(endpoints);
    }
    Some(tls)
}

/// The name that all endpoints have in common when they are written as `https://name`: then the
/// certificate is that name's, whatever the request's host.
fn url_name(endpoints: &[Declared]) -> Option<Arc<str>> {
    let names: BTreeSet<_> = endpoints
        .iter()
        .map(|endpoint| match &endpoint.spec.address {
            // In a certificate and in SNI (RFC 6066 §3) a name has no dot at the end.
            EndpointAddress::Dns { name, .. } if endpoint.tls == Some(true) => {
                Some(name.trim_end_matches('.'))
            }
            _ => None,
        })
        .collect();
    match names.len() {
        1 => names.into_iter().next().flatten().map(Arc::from),
        _ => None,
    }
}

fn tls_options(context: &mut Context<'_>, raw: &raw::UpstreamTls) -> UpstreamTls {
    let server_name = raw.server_name.given().and_then(|at| match HostPattern::parse(&at.value) {
        Ok(HostPattern::Exact(name)) => Some(Arc::from(&*name)),
        _ => {
            context.error(at.place, format!("{} is no server name", shown(at)), None);
            None
        }
    });
    let trust = match raw.ca.given() {
        None => TrustAnchors::System,
        // Without its CAs an upstream trusts nobody rather than everybody.
        Some(at) => TrustAnchors::Pem(context.pem("CA", at).0.unwrap_or_default()),
    };
    let verify = or(&raw.verify, true);
    if let Some(ca) = raw.ca.given()
        && !verify
    {
        let hint = "remove `verify: false`, or `ca`";
        context.error(ca.place, "`ca` has no effect without `verify`", Some(hint));
    }
    let client_certificate =
        raw.client_certificate.given().and_then(|pair| client_certificate(context, pair));
    let sni = or(&raw.sni, true);
    UpstreamTls { server_name, sni, verify, trust, client_certificate }
}

fn client_certificate(
    context: &mut Context<'_>,
    pair: &At<raw::KeyPair>,
) -> Option<ClientCertificate> {
    let (cert, key) = listener::key_pair(context, pair)?;
    let (chain, _) = context.pem("client certificate", cert);
    let (bytes, error) = context.read(key.place, Path::new(&key.value));
    if let Some(error) = error {
        context.unreadable("client certificate's key", key, error);
    }
    // What cannot be read becomes one that cannot be loaded: with none at all the upstream would be
    // spoken to as somebody else.
    Some(ClientCertificate {
        chain: chain.unwrap_or_default(),
        key: bytes.cloned().unwrap_or_else(|| SecretBytes::new([])),
    })
}

fn pool(context: &mut Context<'_>, raw: &raw::Pool) -> PoolOptions {
    let mut pool = PoolOptions::default();
    period(context, "idle_timeout", &raw.idle_timeout, &mut pool.idle_timeout);
    period(context, "max_age", &raw.max_age, &mut pool.max_age);
    pool.max_idle = or(&raw.max_idle, pool.max_idle);
    pool
}
