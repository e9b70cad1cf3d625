//! What one Ingress asks for beside its rules.

use std::time::Duration;

use http::StatusCode;
use ir::{Action, Filter, HostPattern, Retry, RetryOn, Timeouts};
use k8s_openapi::api::networking::v1::Ingress;

use super::References;
use super::canary::Canary;
use super::service::Settings;
use crate::ir;
use crate::provider::kubernetes::report::{Finding, Report};
use crate::provider::kubernetes::{Inputs, Key, Options};

/// The settings of an Ingress' routes.
#[derive(Clone, Debug)]
pub(super) struct Policy {
    pub timeouts: Timeouts,
    pub retry: Retry,
    pub body_limit: Option<u64>,
    pub access_log: bool,
    pub filters: Vec<Filter>,
    /// What its requests are answered with in place of being forwarded.
    pub answer: Option<Action>,
    /// How its upstreams are spoken to.
    pub upstream: Settings,
    /// The answer to requests for `/` itself, on all of its hosts.
    pub app_root: Option<Action>,
    /// Set where it is the other choice of another Ingress' rules.
    pub canary: Option<Canary>,
    /// Further names of its hosts.
    pub aliases: Vec<HostPattern>,
}

/// What ingress-nginx does where nothing is said, as far as clients and back ends can tell.
impl Default for Policy {
    fn default() -> Self {
        Self {
            timeouts: Timeouts { connect: Some(Duration::from_secs(5)), ..Timeouts::default() },
            retry: Retry {
                attempts: 2,
                on: RetryOn { timeout: true, ..RetryOn::default() },
                ..Retry::default()
            },
            body_limit: Some(1 << 20),
            access_log: true,
            filters: Vec::new(),
            answer: None,
            upstream: Settings::default(),
            app_root: None,
            canary: None,
            aliases: Vec::new(),
        }
    }
}

impl Policy {
    /// Reads the annotations of an Ingress; puts down what becomes of each.
    pub fn read(
        _key: &Key,
        ingress: &Ingress,
        _inputs: &Inputs,
        options: &Options,
        _references: &mut References,
        report: &mut Report,
    ) -> Self {
        let mut policy = Self::default();
        let annotations = ingress.metadata.annotations.iter().flatten();
        for (name, value) in annotations {
            let own = name
                .strip_prefix(&*options.annotation_prefix)
                .and_then(|rest| rest.strip_prefix('/'));
            let Some(own) = own.filter(|_| !value.is_empty()) else { continue };
            let finding = Finding::refused(name.clone(), "not honoured");
            if guards(own) {
                policy.deny(format!("{name} is not honoured, so nobody is let in"));
                report.add(finding.hint("its requests are answered 503"));
            } else {
                report.add(finding);
            }
        }
        policy
    }

    /// Lets nobody in. The first reason stays.
    pub fn deny(&mut self, reason: String) {
        if !matches!(self.answer, Some(Action::Fail { .. })) {
            let status = StatusCode::SERVICE_UNAVAILABLE;
            self.answer = Some(Action::Fail { status, reason });
        }
    }
}

/// Whether an annotation keeps requests out: where it cannot be honoured, nobody gets in.
fn guards(name: &str) -> bool {
    name.starts_with("auth-")
        || matches!(
            name,
            "allowlist-source-range"
                | "whitelist-source-range"
                | "denylist-source-range"
                | "satisfy"
        )
}
