//! What of an Ingress has no effect because all of its requests are answered before.

use ir::{Action, Rule, Step};

use super::{Mapping, ToHttps};
use crate::ir;
use crate::provider::kubernetes::annotation::Redirect;
use crate::provider::kubernetes::report::Verdict;

/// What stands behind an answer in the rewrite phase of nginx: who is asked what, and how much.
const BEHIND: [&str; 25] = [
    "allowlist-source-range",
    "auth-always-set-cookie",
    "auth-cache-duration",
    "auth-cache-key",
    "auth-method",
    "auth-realm",
    "auth-request-redirect",
    "auth-response-headers",
    "auth-secret",
    "auth-secret-type",
    "auth-signin",
    "auth-signin-redirect-param",
    "auth-type",
    "auth-url",
    "denylist-source-range",
    "enable-global-auth",
    "limit-allowlist",
    "limit-burst-multiplier",
    "limit-connections",
    "limit-rpm",
    "limit-rps",
    "limit-whitelist",
    "satisfy",
    "whitelist-source-range",
    "force-ssl-redirect",
];

impl Mapping<'_> {
    /// Says of what keeps requests out that it keeps none out: people count on it.
    pub(super) fn overtaken(&mut self, redirect: &Redirect) {
        let Some(first) = self.answering(redirect) else { return };
        let plain = self.policy.to_https != ToHttps::Always;
        for name in BEHIND.into_iter().filter(|name| !plain || *name != "force-ssl-redirect") {
            let text = format!(
                "has no effect: `{first}` answers every request before, as in ingress-nginx"
            );
            self.notes.entry(name).or_insert((Verdict::Differs, text));
        }
    }

    /// The annotation that answers all requests of the Ingress.
    fn answering(&self, redirect: &Redirect) -> Option<&'static str> {
        match &self.policy.answer {
            Some(Action::RedirectTo(_)) if redirect.temporal.is_some() => {
                return Some("temporal-redirect");
            }
            Some(Action::RedirectTo(_)) => return Some("permanent-redirect"),
            Some(_) => return None,
            None if self.policy.rewrite.leads_away() => return Some("rewrite-target"),
            None => {}
        }
        let edits = |rule: &&Rule| rule.then.iter().all(|step| matches!(step, Step::Filter(_)));
        let first = self.policy.rules.iter().find(|rule| !edits(rule))?;
        let answers = |step: &Step| matches!(step, Step::Respond(_) | Step::Redirect(_));
        let always = first.when.is_empty() && first.then.iter().any(answers);
        always.then_some("configuration-snippet")
    }
}
