//! Edits of headers, beside those of snippets.

use std::sync::Arc;

use serde::Serialize;

use super::finding::Class;
use super::reader::Reader;
use super::value::{self, ObjectRef};
use super::variable::{self, Template};

/// Edits of headers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Headers {
    /// The ConfigMap with response headers to set, as they stand in it. Where it is missing or
    /// has a header that the controller does not allow, requests are answered 503.
    pub custom: Option<ObjectRef>,
    /// The `Connection` field the back end gets.
    pub connection: Option<Arc<str>>,
    /// What becomes of `Location` and `Refresh` of the back end.
    pub redirect: Option<RedirectEdit>,
    /// What becomes of the Domain of its cookies.
    pub cookie_domain: Option<CookieEdit>,
    /// What becomes of their Path.
    pub cookie_path: Option<CookieEdit>,
}

/// An edit of `Location`: what begins with `from` begins with `to`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RedirectEdit {
    /// What it must begin with.
    pub from: Arc<str>,
    /// What that becomes.
    pub to: Template,
}

/// An edit of an attribute of cookies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CookieEdit {
    /// None, even where the ConfigMap has one.
    Off,
    /// An attribute `from` (a path that begins so) becomes `to`.
    Replace {
        /// What it was.
        from: Arc<str>,
        /// What it becomes.
        to: Arc<str>,
    },
}

impl Headers {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let from = reader.value("proxy-redirect-from", plain);
        let to = reader.value("proxy-redirect-to", beginning);
        let off = |text: &str| matches!(text, "off" | "default");
        let redirect = match (from, to) {
            (Some(from), Some(to)) if !off(&from) && !to.as_literal().is_some_and(off) => {
                Some(RedirectEdit { from, to })
            }
            (None, _) => {
                reader.amend(
                    "proxy-redirect-to",
                    Class::Ignored,
                    "has no effect without `proxy-redirect-from`",
                );
                None
            }
            (Some(from), None) if !off(&from) => {
                reader.amend(
                    "proxy-redirect-from",
                    Class::Ignored,
                    "has no effect without `proxy-redirect-to`",
                );
                None
            }
            _ => None,
        };
        Self {
            custom: reader.guard("custom-headers", value::full_object),
            connection: reader.value("connection-proxy-header", value::line),
            redirect,
            cookie_domain: reader.value("proxy-cookie-domain", cookie_edit),
            cookie_path: reader.value("proxy-cookie-path", cookie_edit),
        }
    }
}

/// Text without variables.
fn plain(text: &str) -> Result<Arc<str>, String> {
    if text.contains(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | ';' | '$' | '~')) {
        return Err(
            "has a blank, a quotation mark, a variable or a regular expression in it\nwrite \
                    the beginning of the URL"
                .to_owned(),
        );
    }
    value::line(text)
}

/// The beginning of a URL, which may depend on the request.
fn beginning(text: &str) -> Result<Template, String> {
    if text.contains(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | ';')) {
        return Err(
            "has a blank or a quotation mark in it\nwrite the beginning of the URL".to_owned()
        );
    }
    variable::template(text)
}

fn cookie_edit(text: &str) -> Result<CookieEdit, String> {
    if text == "off" {
        return Ok(CookieEdit::Off);
    }
    let words: Vec<_> = text.split_whitespace().collect();
    match words.as_slice() {
        [from, to] => Ok(CookieEdit::Replace { from: plain(from)?, to: plain(to)? }),
        _ => Err("is not two words\nwrite what it was and what it becomes, or `off`".to_owned()),
    }
}
