//! canary-*: an Ingress that takes a part of another's requests.

use std::sync::Arc;

use http::HeaderName;
use serde::Serialize;

use super::dump;
use super::finding::Class;
use super::pattern::Pattern;
use super::reader::Reader;
use super::value;

/// Which requests a canary gets. Looked at in this order: header, cookie, weight.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Canary {
    /// Whether this is one. Default false.
    pub enabled: Option<bool>,
    /// The header that decides: `always`, `never`, unless a value or pattern is given.
    #[serde(serialize_with = "dump::text")]
    pub header: Option<HeaderName>,
    /// The value with which the canary gets the request; with another, cookie and weight decide.
    pub header_value: Option<Arc<str>>,
    /// The same by a regular expression; not looked at where `header_value` is given.
    pub header_pattern: Option<CanaryPattern>,
    /// The cookie that decides: `always`, `never`.
    pub cookie: Option<Arc<str>>,
    /// The share of the canary, of `weight_total`. Default 0.
    pub weight: Option<u32>,
    /// Above 100; smaller ones count as 100, which is the default.
    pub weight_total: Option<u32>,
}

/// A pattern for the header's value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CanaryPattern {
    /// Searched in the value.
    Regex(Pattern),
    /// No regular expression: a request with the header goes to the main back end.
    Broken,
}

impl Canary {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let mut broken = None;
        let mut canary = Self {
            enabled: reader.value("canary", value::boolean),
            header: reader.value("canary-by-header", value::header_name),
            header_value: reader.value("canary-by-header-value", value::line),
            header_pattern: reader.value("canary-by-header-pattern", |text| {
                Ok(match Pattern::parse(text) {
                    Ok(pattern) => CanaryPattern::Regex(pattern),
                    Err(error) => {
                        broken = Some(error);
                        CanaryPattern::Broken
                    }
                })
            }),
            cookie: reader.value("canary-by-cookie", value::cookie_name),
            weight: reader.value("canary-weight", value::number),
            weight_total: reader.value("canary-weight-total", value::number),
        };
        if let Some(error) = broken {
            let (what, remedy) = error.split_once('\n').unwrap_or((&error, ""));
            let text = format!("{what}; requests with the header go to the main Ingress\n{remedy}");
            reader.amend("canary-by-header-pattern", Class::Ignored, text.trim_end_matches('\n'));
        }
        if canary.weight_total.is_some_and(|total| total <= 100) {
            let text = "counts only above 100; the total is 100";
            reader.amend("canary-weight-total", Class::Ignored, text);
            canary.weight_total = None;
        }
        let total = canary.weight_total.unwrap_or(100);
        if canary.weight.is_some_and(|weight| weight > total) {
            let text = format!("is more than all, which is {total}; all requests go to the canary");
            reader.amend("canary-weight", Class::Difference, &text);
            canary.weight = Some(total);
        }
        canary.say_what_is_idle(reader);
        canary
    }

    fn say_what_is_idle(&self, reader: &mut Reader<'_>) {
        const RULES: [&str; 6] = [
            "canary-by-cookie",
            "canary-by-header",
            "canary-by-header-pattern",
            "canary-by-header-value",
            "canary-weight",
            "canary-weight-total",
        ];
        if self.enabled != Some(true) {
            for name in RULES {
                reader.amend(name, Class::Ignored, "has no effect without `canary: \"true\"`");
            }
            return;
        }
        if self.header.is_none() {
            for name in ["canary-by-header-pattern", "canary-by-header-value"] {
                reader.amend(name, Class::Ignored, "has no effect without `canary-by-header`");
            }
        } else if self.header_value.is_some() {
            let text = "has no effect: `canary-by-header-value` is there as well and goes first";
            reader.amend("canary-by-header-pattern", Class::Ignored, text);
        }
    }
}
