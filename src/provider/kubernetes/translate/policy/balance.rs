//! Balancing, sessions, canaries.

use std::sync::Arc;

use ir::{Affinity, AffinityCookie, AffinityKey, HashPolicy, HashTable, PeakEwma};

use super::Mapping;
use crate::ir;
use crate::provider::kubernetes::annotation::{
    AffinityCanary, AffinityMode, Balance, Canary, CanaryPattern, LoadBalance,
};
use crate::provider::kubernetes::report::Verdict;
use crate::provider::kubernetes::translate::canary::{self, HeaderRule};

impl Mapping<'_> {
    pub(super) fn balance(&mut self, values: &Balance) {
        self.mapped.extend([
            "affinity",
            "affinity-canary-behavior",
            "affinity-mode",
            "load-balance",
            "session-cookie-domain",
            "session-cookie-expires",
            "session-cookie-max-age",
            "session-cookie-name",
            "session-cookie-path",
            "session-cookie-samesite",
            "session-cookie-secure",
            "upstream-hash-by",
        ]);
        self.policy.canary_sticky = values.affinity_canary != Some(AffinityCanary::Legacy);
        if !self.policy.canary_sticky {
            let text = "is honoured, also for clients with a session of the main Service, whom \
                        ingress-nginx keeps there";
            self.note("affinity-canary-behavior", Verdict::Differs, text);
        }
        let policy = &mut self.policy.upstream.balance;
        match (&values.hash_by, values.algorithm) {
            (Some(on), _) if !values.sticky => {
                policy.algorithm = ir::Balance::Hash(HashPolicy {
                    on: on.clone(),
                    table: HashTable::default(),
                    bounded_load: None,
                });
            }
            (_, Some(LoadBalance::RoundRobin)) => policy.algorithm = ir::Balance::RoundRobin,
            (_, Some(LoadBalance::Ewma)) => {
                policy.algorithm = ir::Balance::PeakEwma(PeakEwma::default());
            }
            (_, None) => {}
        }
        if !values.sticky {
            return;
        }
        let cookie = &values.cookie;
        let default = AffinityCookie::default();
        policy.affinity = Some(Box::new(Affinity {
            by: AffinityKey::Cookie(AffinityCookie {
                name: cookie.name.clone().unwrap_or_else(|| Arc::from("INGRESSCOOKIE")),
                path: cookie.path.clone().unwrap_or_else(|| default.path.clone()),
                domain: cookie.domain.clone(),
                // Either says how long from now.
                max_age: cookie.max_age.or(cookie.expires),
                secure: cookie.secure,
                same_site: cookie.same_site,
                change_on_failure: false,
                ..default
            }),
            mode: match values.affinity_mode {
                Some(AffinityMode::Persistent) => ir::AffinityMode::Persistent,
                Some(AffinityMode::Balanced) | None => ir::AffinityMode::Balanced,
            },
        }));
        self.policy.cookie_by_path = cookie.path.is_none();
    }

    pub(super) fn canary(&mut self, values: &Canary) {
        self.mapped.extend([
            "canary",
            "canary-by-cookie",
            "canary-by-header",
            "canary-by-header-pattern",
            "canary-by-header-value",
            "canary-weight",
            "canary-weight-total",
        ]);
        if values.enabled != Some(true) {
            for name in ["canary-by-cookie", "canary-by-header", "canary-weight"] {
                self.note(name, Verdict::Differs, "has no effect without `canary: \"true\"`");
            }
            return;
        }
        let rule = match (&values.header_value, &values.header_pattern) {
            (Some(value), _) => HeaderRule::Exact(value.clone()),
            (None, Some(CanaryPattern::Regex(pattern))) => {
                HeaderRule::Pattern(pattern.as_str().into())
            }
            (None, Some(CanaryPattern::Broken)) => HeaderRule::Never,
            (None, None) => HeaderRule::AlwaysNever,
        };
        self.policy.canary = Some(canary::Canary {
            header: values.header.clone().map(|header| (header, rule)),
            cookie: values.cookie.clone(),
            weight: values.weight.unwrap_or(0),
            total: values.weight_total.unwrap_or(100).max(100),
        });
    }
}
