//! What of an Ingress has no effect because all of its requests are answered before.

use ir::{Action, Rule, Step};

use super::{Mapping, ToHttps, access, auth};
use crate::ir;
use crate::provider::kubernetes::annotation::Redirect;
use crate::provider::kubernetes::report::Verdict;

impl Mapping<'_> {
    /// Says of what keeps requests out that it keeps none out: people count on it.
    pub(super) fn overtaken(&mut self, redirect: &Redirect) {
        let Some(first) = self.answering(redirect) else { return };
        // What stands behind an answer in the rewrite phase of nginx: who is asked what, and how much.
        let behind = auth::NAMES.into_iter().chain(access::LISTS).chain(access::LIMITS);
        let to_https = self.policy.to_https == ToHttps::Always;
        for name in behind.chain(to_https.then_some("force-ssl-redirect")) {
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
