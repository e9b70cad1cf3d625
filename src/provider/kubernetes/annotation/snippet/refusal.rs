//! What of a snippet is not kept, why, and what to do instead.

use std::fmt;

use serde::Serialize;

use super::super::finding::{Class, shown};
use super::condition::Condition;
use super::statement::{Statement, statements};

/// A directive that is not kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Refusal {
    /// Its line in the snippet, from 1.
    pub line: u32,
    /// Why it is not.
    pub reason: String,
    /// What to do instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
    /// Whether it restricts access, so that nothing may be served without it.
    pub guards: bool,
    /// For one of a host that does: what must hold of a request for it to count; nothing is every
    /// request to the host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub within: Option<Vec<Condition>>,
}

impl Refusal {
    /// What becomes of the object because of it.
    pub fn class(&self) -> Class {
        match (self.guards, &self.within) {
            (false, _) => Class::NotHonoured,
            (true, None) => Class::Denied,
            (true, Some(_)) => Class::Closed,
        }
    }
}

/// For people: a line feed before the remedy.
impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.reason)?;
        if self.guards {
            f.write_str("; as it restricts access, ")?;
            match self.within.as_deref() {
                None => f.write_str("requests")?,
                Some([]) => f.write_str("all requests to the host")?,
                Some(conditions) => {
                    let conditions: Vec<_> = conditions.iter().map(ToString::to_string).collect();
                    write!(f, "requests to the host with `{}`", conditions.join("`, `"))?;
                }
            }
            f.write_str(" are answered 503")?;
        }
        match &self.remedy {
            Some(remedy) => write!(f, "\n{remedy}"),
            None => Ok(()),
        }
    }
}

/// Directives that keep requests out, or that might.
const GUARDS: [&str; 19] = [
    "allow",
    "auth_basic",
    "auth_basic_user_file",
    "auth_jwt",
    "auth_request",
    "deny",
    // What is in the file is not known here.
    "include",
    "internal",
    "js_access",
    "limit_conn",
    "limit_except",
    "limit_req",
    "modsecurity",
    "modsecurity_rules",
    "modsecurity_rules_file",
    "satisfy",
    "secure_link",
    "ssl_verify_client",
    "valid_referers",
];

/// Beginnings of the names of those that run code before a request goes on.
const CODE: [&str; 4] =
    ["access_by_lua", "content_by_lua", "rewrite_by_lua", "server_rewrite_by_lua"];

/// Directives that answer requests or lead them elsewhere, whatever the status: where the request
/// that a page to sign in at was meant for goes on instead, it is let in.
const TURNS: [&str; 2] = ["return", "rewrite"];

/// Directives people write in snippets, and what does the same here.
const REMEDIES: [(&str, &str); 34] = [
    ("allow", "use the annotation `allowlist-source-range`"),
    ("auth_basic", "use the annotations `auth-type` and `auth-secret`"),
    ("auth_basic_user_file", "use the annotations `auth-type` and `auth-secret`"),
    ("auth_request", "use the annotation `auth-url`"),
    ("client_body_buffer_size", "use the annotation `client-body-buffer-size`"),
    ("client_max_body_size", "use the annotation `proxy-body-size`"),
    ("deny", "use the annotation `denylist-source-range`"),
    ("error_page", "use the annotation `custom-http-errors`"),
    ("expires", "use `more_set_headers \"Cache-Control: …\"`"),
    ("gzip", "compress in the application"),
    ("gzip_types", "compress in the application"),
    ("limit_conn", "use the annotation `limit-connections`"),
    ("limit_req", "use the annotation `limit-rps`"),
    ("location", "write a path of the Ingress for it"),
    ("proxy_buffer_size", "use the annotation `proxy-buffer-size`"),
    ("proxy_buffering", "use the annotation `proxy-buffering`"),
    ("proxy_buffers", "use the annotation `proxy-buffers-number`"),
    ("proxy_connect_timeout", "use the annotation `proxy-connect-timeout`"),
    ("proxy_cookie_domain", "use the annotation `proxy-cookie-domain`"),
    ("proxy_cookie_path", "use the annotation `proxy-cookie-path`"),
    ("proxy_http_version", "use the annotation `proxy-http-version`"),
    ("proxy_next_upstream", "use the annotation `proxy-next-upstream`"),
    (
        "proxy_pass",
        "name the Service as back end of the path; another host is an ExternalName Service",
    ),
    ("proxy_read_timeout", "use the annotation `proxy-read-timeout`"),
    ("proxy_redirect", "use the annotations `proxy-redirect-from` and `proxy-redirect-to`"),
    ("proxy_request_buffering", "use the annotation `proxy-request-buffering`"),
    ("proxy_send_timeout", "use the annotation `proxy-send-timeout`"),
    ("proxy_ssl_name", "use the annotation `proxy-ssl-name`"),
    ("proxy_ssl_server_name", "use the annotation `proxy-ssl-server-name`"),
    ("proxy_ssl_verify", "use the annotation `proxy-ssl-verify`"),
    ("satisfy", "use the annotation `satisfy`"),
    ("ssl_verify_client", "use the annotation `auth-tls-verify-client`"),
    ("sub_filter", "have the application write it; bodies are not changed"),
    ("try_files", "have the application serve its files"),
];

/// That `statement` is not known here.
pub(super) fn unknown(statement: &Statement) -> Refusal {
    refuse(statement, &format!("`{}` is no directive that is read here", shown(&statement.name)))
}

/// That `statement` is not kept, for this reason; a line feed separates it from a remedy.
pub(super) fn refuse(statement: &Statement, reason: &str) -> Refusal {
    let (reason, remedy) = match reason.split_once('\n') {
        Some((reason, remedy)) => (reason, Some(remedy)),
        None => (reason, None),
    };
    let known = REMEDIES.iter().find(|(name, _)| *name == statement.name).map(|(_, text)| *text);
    Refusal {
        line: statement.line,
        reason: reason.to_owned(),
        remedy: remedy.or(known).map(str::to_owned),
        guards: guards(statement),
        within: None,
    }
}

/// Whether leaving `statement` out may let more requests through.
fn guards(statement: &Statement) -> bool {
    // Requests get to a named location only by directives that are refused themselves.
    let named = statement.name == "location"
        && statement.arguments.iter().any(|argument| argument.starts_with('@'));
    let inside = || statement.block.iter().flatten().any(guards);
    keeps_out(&statement.name) || TURNS.contains(&statement.name.as_str()) || !named && inside()
}

/// Whether a snippet that counts for nothing was written to refuse requests. One that redirects or
/// rewrites was not.
pub(super) fn refuses(text: &str) -> bool {
    fn one(statement: &Statement) -> bool {
        let answer = || statement.arguments.first().and_then(|status| status.parse::<u16>().ok());
        // A URL stands for a redirect.
        let error = statement.name == "return" && answer().is_some_and(|status| status >= 400);
        error || keeps_out(&statement.name) || statement.block.iter().flatten().any(one)
    }
    statements(text).map_or_else(|_| may_guard(text), |all| all.iter().any(one))
}

/// Whether directives of this name keep requests out, or might.
fn keeps_out(name: &str) -> bool {
    GUARDS.contains(&name) || CODE.iter().any(|start| name.starts_with(start))
}

/// Whether a text that is no snippet may have been meant to restrict access.
pub(super) fn may_guard(text: &str) -> bool {
    let mut words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.any(|word| keeps_out(word) || TURNS.contains(&word) || word.starts_with("auth_"))
}
