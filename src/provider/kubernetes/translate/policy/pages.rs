//! Which errors are replaced.

use super::Mapping;
use crate::provider::kubernetes::annotation::Backend;
use crate::provider::kubernetes::report::Verdict;
use crate::provider::kubernetes::translate::pages::Pages;

impl Mapping<'_> {
    pub(super) fn pages(&mut self, values: &Backend) {
        self.mapped.extend([
            "custom-http-errors",
            "default-backend",
            "disable-proxy-intercept-errors",
        ]);
        let mut all = values.custom_http_errors.as_deref().unwrap_or_default();
        if values.no_error_interception == Some(true) {
            let text = "has no effect: `disable-proxy-intercept-errors` is there as well";
            self.note("custom-http-errors", Verdict::Differs, text);
            all = &[];
        }
        let mut statuses: Vec<u16> = all.iter().map(|status| status.as_u16()).collect();
        statuses.retain(|status| *status >= 400);
        statuses.sort_unstable();
        statuses.dedup();
        if statuses.len() < all.len() && all.iter().any(|status| status.as_u16() < 400) {
            let text = "is honoured but for statuses below 400, which are no errors";
            self.note("custom-http-errors", Verdict::Differs, text);
        }
        let service = values.default_backend.clone();
        if statuses.is_empty() && service.is_none() {
            return;
        }
        if service.is_none() && self.options.default_backend.is_none() {
            let text = "is not honoured: there is no `default-backend` to answer instead";
            self.note("custom-http-errors", Verdict::Omitted, text);
            return;
        }
        self.policy.pages = Some(Pages { statuses, service });
    }
}
