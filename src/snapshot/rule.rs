//! The counters of the Ingress rule behind a route.

use std::sync::Arc;

use crate::ir::{HostPattern, IngressRule, Name};
use crate::telemetry::{Metrics, RuleLabels, RuleMetrics};

/// What the requests of a route are counted by beside its name.
#[derive(Debug)]
pub struct CountedRule {
    /// What the configuration says of the rule.
    pub spec: Arc<IngressRule>,
    main: Arc<RuleMetrics>,
    canary: Option<(Name, Arc<RuleMetrics>)>,
}

impl CountedRule {
    pub(super) fn new(spec: &Arc<IngressRule>, host: &HostPattern, metrics: &Metrics) -> Self {
        let counters = |canary: Name| {
            metrics.rule(RuleLabels {
                host: match host {
                    HostPattern::Any => Name::from("_"),
                    other => Name::from(other.to_string()),
                },
                path: Name::new(spec.path.clone()),
                namespace: spec.namespace.clone(),
                ingress: spec.ingress.clone(),
                service: spec.service.clone(),
                canary,
            })
        };
        let canary = spec.canary.as_ref().map(|name| (name.clone(), counters(canary_label(name))));
        Self { spec: spec.clone(), main: counters(Name::default()), canary }
    }

    /// The counters of a request that was given to `upstream`, if to any.
    pub fn counters(&self, upstream: Option<&Name>) -> &RuleMetrics {
        match &self.canary {
            Some((canary, counters)) if upstream == Some(canary) => counters,
            _ => &self.main,
        }
    }
}

/// What ingress-nginx calls the upstream `namespace/service:port@ingress`.
fn canary_label(upstream: &Name) -> Name {
    let (plain, _) = upstream.as_str().split_once('@').unwrap_or((upstream.as_str(), ""));
    Name::from(plain.replace(['/', ':'], "-"))
}
