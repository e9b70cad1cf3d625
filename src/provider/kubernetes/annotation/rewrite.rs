//! rewrite-target and use-regex.

use serde::Serialize;

use super::reader::Reader;
use super::value;
use super::variable::{self, Template};

/// What the back end gets as path.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Rewrite {
    /// What becomes of the path. One on any Ingress of a host, unless it is equal to the path,
    /// turns all paths of that host into regular expressions.
    pub target: Option<RewriteTarget>,
    /// The same for a host without a rewrite. Default false.
    pub use_regex: Option<bool>,
}

/// What a rewrite leads to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RewriteTarget {
    /// The whole path becomes this; `$1` are the groups of the rule's path.
    Path(Template),
    /// The client is sent there with 302: an absolute URL.
    Redirect(Template),
}

impl Rewrite {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        Self {
            target: reader.essential("rewrite-target", target),
            use_regex: reader.value("use-regex", value::boolean),
        }
    }
}

fn target(text: &str) -> Result<RewriteTarget, String> {
    let lower = text.to_ascii_lowercase();
    if ["http://", "https://", "$scheme://"].iter().any(|scheme| lower.starts_with(scheme)) {
        return variable::url(text).map(RewriteTarget::Redirect);
    }
    let odd = |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | ';' | '\\' | '<' | '>');
    if text.contains(odd) {
        return Err("has a character in it that no path has".to_owned());
    }
    if lower.contains("://") {
        return Err("is neither a path nor an http or https URL".to_owned());
    }
    variable::template(text).map(RewriteTarget::Path)
}
