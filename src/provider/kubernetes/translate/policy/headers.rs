//! Edits of headers, beside those of snippets.

use http::{HeaderName, HeaderValue};
use ir::{Filter, HeaderEdit, HeaderText, LocationEdit, Replace, Scope};

use super::{Mapping, auth, within};
use crate::ir;
use crate::provider::kubernetes::annotation::{CookieEdit, Headers, ObjectRef, RedirectEdit};
use crate::provider::kubernetes::report::Verdict;

impl Mapping<'_> {
    pub(super) fn headers(&mut self, values: &Headers) {
        self.mapped.extend([
            "connection-proxy-header",
            "custom-headers",
            "proxy-cookie-domain",
            "proxy-cookie-path",
            "proxy-redirect-from",
            "proxy-redirect-to",
        ]);
        if let Some(value) = &values.connection
            && !value.eq_ignore_ascii_case("keep-alive")
        {
            let text = "is not honoured: connections to back ends are kept for further requests, \
                        and upgrades pass";
            self.note("connection-proxy-header", Verdict::Omitted, text);
        }
        if let Some(map) = &values.custom
            && let Err(why) = self.custom(map)
        {
            self.note(
                "custom-headers",
                Verdict::Refused,
                format!("{why}; requests are answered 503"),
            );
            self.policy.deny(format!("custom-headers: {why}"));
        }
        let replace = |edit: &Option<CookieEdit>| match edit {
            Some(CookieEdit::Replace { from, to }) => {
                Some(Replace { from: from.clone(), to: to.clone() })
            }
            Some(CookieEdit::Off) | None => None,
        };
        let edit = ir::CookieEdit {
            domain: replace(&values.cookie_domain),
            path: replace(&values.cookie_path),
        };
        if edit != ir::CookieEdit::default() {
            self.policy.filters.push(Filter::ResponseCookies(edit));
        }
        if let Some(RedirectEdit { from, to }) = &values.redirect {
            match within(to, self.key, Scope::default()) {
                Ok(to) => {
                    let edit = LocationEdit { from: from.clone(), to };
                    self.policy.filters.push(Filter::ResponseLocation(edit));
                }
                Err(why) => {
                    let text = format!("is not honoured: {why}");
                    self.note("proxy-redirect-to", Verdict::Omitted, text);
                }
            }
        }
    }

    /// The headers of a ConfigMap, all of which an operator must have allowed.
    fn custom(&mut self, map: &ObjectRef) -> Result<(), String> {
        // What is in another namespace has been said.
        let Some(key) = self.refer("custom-headers", map) else { return Ok(()) };
        self.references.config_maps.insert(key.clone());
        let Some(map) = self.inputs.config_maps.get(&key) else {
            // ConfigMaps are not always among manifests.
            return match self.options.may_have_config_map(&key) {
                true => Ok(()),
                false => Err(format!("there is no ConfigMap {key}, or it may not be read")),
            };
        };
        let allowed = &self.options.allowed_response_headers;
        let mut set = Vec::new();
        for (name, value) in map.data.iter().flatten() {
            let known = name.parse::<HeaderName>().ok().filter(|name| !auth::rules(name));
            let field = known.zip(HeaderValue::from_str(value.trim()).ok());
            let Some((name, value)) = field else {
                return Err(format!("the ConfigMap {key} has `{name}`, which is no usable header"));
            };
            if !allowed.contains(&name) {
                let why = match allowed.is_empty() {
                    true => "no header is allowed",
                    false => "it is not among those that are allowed",
                };
                return Err(format!(
                    "the ConfigMap {key} has `{name}`, and {why} (`--allow-response-header`)"
                ));
            }
            set.push(HeaderText { name, value });
        }
        if !set.is_empty() {
            let edit = HeaderEdit { set, ..HeaderEdit::default() };
            self.policy.filters.push(Filter::ResponseHeaders(edit.into()));
        }
        Ok(())
    }
}
