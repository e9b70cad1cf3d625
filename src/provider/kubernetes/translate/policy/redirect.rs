//! Requests that are sent elsewhere.

use http::StatusCode;
use ir::{Action, PathRewrite, RedirectTo, Scope};

use super::{Mapping, ToHttps, within};
use crate::ir;
use crate::provider::kubernetes::annotation::{Redirect, Template};
use crate::provider::kubernetes::report::Verdict;

impl Mapping<'_> {
    pub(super) fn redirect(&mut self, values: &Redirect) {
        self.mapped.extend([
            "app-root",
            "force-ssl-redirect",
            "from-to-www-redirect",
            "permanent-redirect",
            "permanent-redirect-code",
            "preserve-trailing-slash",
            "relative-redirects",
            "ssl-redirect",
            "temporal-redirect",
            "temporal-redirect-code",
            "use-port-in-redirects",
        ]);
        self.policy.www = values.from_to_www == Some(true);
        self.policy.to_https = match (values.force_ssl, values.ssl) {
            (Some(true), _) => ToHttps::Always,
            (_, Some(false)) => ToHttps::Never,
            (_, Some(true) | None) => ToHttps::WithTls,
        };
        self.policy.https.strip_trailing_slash = values.preserve_trailing_slash != Some(true);
        if values.use_port == Some(true) {
            self.policy.https.port = Some(self.options.https_port);
        }
        if let Some(path) = &values.app_root {
            let status = StatusCode::FOUND;
            self.policy.app_root = Some(match values.relative {
                Some(true) => {
                    let to = ir::Template::literal(path);
                    Action::RedirectTo(RedirectTo { status, to })
                }
                Some(false) | None => Action::Redirect(ir::Redirect {
                    scheme: None,
                    host: None,
                    port: None,
                    path: Some(PathRewrite::Full(path.as_ref().into())),
                    status,
                }),
            });
        }
        if let Some(to) = &values.temporal {
            let status = values.temporal_code.unwrap_or(StatusCode::FOUND);
            self.elsewhere("temporal-redirect", to, status);
        } else if let Some(to) = &values.permanent {
            let status = values.permanent_code.unwrap_or(StatusCode::MOVED_PERMANENTLY);
            self.elsewhere("permanent-redirect", to, status);
        }
    }

    /// Neither path nor query of the request is added to `to`.
    fn elsewhere(&mut self, name: &'static str, to: &Template, status: StatusCode) {
        match within(to, self.key, Scope::default()) {
            Ok(to) => {
                self.policy.answer = Some(Action::RedirectTo(RedirectTo { status, to }));
            }
            // To serve what should be elsewhere would be worse.
            Err(why) => {
                let text = format!("is not honoured: {why}; requests are answered 503");
                self.note(name, Verdict::Refused, text);
                self.policy.deny(format!("{name}: {why}"));
            }
        }
    }
}
