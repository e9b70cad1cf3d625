//! Who may use a location, how often, and which pages of other origins may.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, Method, StatusCode};
use ir::{AccessList, ConnectionLimit, OriginPattern, RateKey, RateLimit};

use super::Mapping;
use crate::ir;
use crate::provider::kubernetes::annotation::{Access, Cors, CorsList, CorsOrigin, Limit};

/// The annotations of address lists.
pub(super) const LISTS: [&str; 3] =
    ["allowlist-source-range", "denylist-source-range", "whitelist-source-range"];

/// The annotations of limits.
pub(super) const LIMITS: [&str; 6] = [
    "limit-allowlist",
    "limit-burst-multiplier",
    "limit-connections",
    "limit-rpm",
    "limit-rps",
    "limit-whitelist",
];

impl Mapping<'_> {
    pub(super) fn access(&mut self, values: &Access) {
        self.mapped.extend(LISTS);
        if values.allow.is_some() || values.deny.is_some() {
            self.policy.guard.access = Some(AccessList {
                allow: values.allow.clone().unwrap_or_default(),
                deny: values.deny.clone().unwrap_or_default(),
            });
        }
    }

    /// Clients are counted over all paths of an Ingress together, and refused with the status that
    /// ingress-nginx has for it.
    pub(super) fn limits(&mut self, values: &Limit) {
        const BURST: u32 = 5;
        self.mapped.extend(LIMITS);
        let scope: Arc<str> = format!("ingress {}", self.key).into();
        let exempt = values.allow.clone().unwrap_or_default();
        let said = &self.options.controller.settings;
        let status = said.limit_req_status.unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
        let multiplier = values.burst_multiplier.unwrap_or(BURST);
        let rates = [(values.rps, 1), (values.rpm, 60)];
        for (requests, seconds) in rates {
            self.policy.guard.rate_limits.extend(requests.map(|requests| RateLimit {
                requests,
                per: Duration::from_secs(seconds),
                burst: requests.saturating_mul(multiplier),
                key: RateKey::ClientIp,
                scope: Some(scope.clone()),
                status,
                exempt: exempt.clone(),
            }));
        }
        self.policy.guard.connection_limit = values.connections.map(|most| ConnectionLimit {
            per_client: u16::try_from(most).unwrap_or(u16::MAX),
            scope: Some(scope),
            status: said.limit_conn_status.unwrap_or(StatusCode::SERVICE_UNAVAILABLE),
            exempt,
        });
    }

    pub(super) fn cors(&mut self, values: &Cors) {
        self.mapped.extend([
            "cors-allow-credentials",
            "cors-allow-headers",
            "cors-allow-methods",
            "cors-allow-origin",
            "cors-expose-headers",
            "cors-max-age",
            "enable-cors",
        ]);
        if values.enabled != Some(true) {
            return;
        }
        let default = ir::Cors::default();
        // `*` is a name like any other to whoever sends it on.
        let any_method = || Method::from_bytes(b"*").into_iter().collect();
        let any_header = || vec![HeaderName::from_static("*")];
        self.policy.cors = Some(ir::Cors {
            origins: match &values.origins {
                None => vec![OriginPattern::Any],
                Some(origins) => origins.iter().filter_map(origin).collect(),
            },
            methods: match &values.methods {
                None => default.methods,
                Some(CorsList::Any) => any_method(),
                Some(CorsList::These(methods)) => methods.clone(),
            },
            headers: match &values.headers {
                None => default.headers,
                Some(CorsList::Any) => any_header(),
                Some(CorsList::These(names)) => names.clone(),
            },
            expose: match &values.expose_headers {
                None => default.expose,
                Some(CorsList::Any) => any_header(),
                Some(CorsList::These(names)) => names.clone(),
            },
            credentials: values.credentials.unwrap_or(true),
            max_age: values.max_age.or(default.max_age),
        });
    }
}

/// An origin; one that is none here lets nobody in by it.
fn origin(origin: &CorsOrigin) -> Option<OriginPattern> {
    match origin {
        CorsOrigin::Any => Some(OriginPattern::Any),
        CorsOrigin::Exact(text) => OriginPattern::parse(text).ok(),
        CorsOrigin::Wildcard { scheme, suffix } => {
            OriginPattern::parse(&format!("{scheme}*{suffix}")).ok()
        }
    }
}
