//! Requests that are sent elsewhere.

use std::sync::Arc;

use http::header::LOCATION;
use http::{HeaderValue, StatusCode};
use ir::{Action, HeaderText, PathRewrite, Respond};

use super::Mapping;
use crate::ir;
use crate::provider::kubernetes::annotation::{Redirect, Template};
use crate::provider::kubernetes::report::Verdict;

impl Mapping<'_> {
    pub(super) fn redirect(&mut self, values: &Redirect) {
        self.mapped.extend([
            "app-root",
            "permanent-redirect",
            "permanent-redirect-code",
            "temporal-redirect",
            "temporal-redirect-code",
        ]);
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
            if values.permanent.is_some() {
                let text = "has no effect beside `temporal-redirect`";
                self.note("permanent-redirect", Verdict::Differs, text);
            }
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
