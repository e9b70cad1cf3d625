//! Requests that are sent elsewhere.

use std::sync::Arc;

use http::header::LOCATION;
use http::{HeaderValue, StatusCode};
use ir::{Action, HeaderText, PathRewrite, Respond};

use super::{Mapping, ToHttps};
use crate::ir;
use crate::provider::kubernetes::annotation::{Redirect, Template};

impl Mapping<'_> {
    pub(super) fn redirect(&mut self, values: &Redirect) {
        self.mapped.extend([
            "app-root",
            "force-ssl-redirect",
            "from-to-www-redirect",
            "permanent-redirect",
            "permanent-redirect-code",
            "preserve-trailing-slash",
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
            self.policy.https.port = self.options.https.map(|bind| bind.port());
        }
        if let Some(path) = &values.app_root {
            self.policy.app_root = Some(Action::Redirect(ir::Redirect {
                scheme: None,
                host: None,
                port: None,
                path: Some(PathRewrite::Full(path.as_ref().into())),
                status: StatusCode::FOUND,
            }));
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
        let Some(to) = self.literal(name, to) else { return };
        let Ok(value) = HeaderValue::try_from(to) else { return };
        let headers = vec![HeaderText { name: LOCATION, value }];
        let body = ir::Text::Plain(Arc::from(""));
        self.policy.answer = Some(Action::Respond(Respond { status, headers, body }));
    }
}
