//! Names: other names of the host, and what the back end is told.

use serde::{Serialize, Serializer};

use super::finding::{Class, shown};
use super::pattern::Pattern;
use super::reader::Reader;
use super::value;
use super::variable::{self, Template};
use crate::ir::HostPattern;

/// Names of the host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Host {
    /// Other names under which all paths of the host are served; a host that really has such a
    /// name comes first. The first Ingress of a host that has any says them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<Alias>,
    /// The `Host` field the back end gets. Default is the client's.
    pub upstream_vhost: Option<Template>,
    /// The `X-Forwarded-Prefix` the back end gets, where the path is rewritten.
    pub forwarded_prefix: Option<Template>,
}

/// Another name of a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Alias {
    /// A name, or a wildcard.
    Name(#[serde(serialize_with = "host")] HostPattern),
    /// What begins with `~`; it is searched in the host, and case does not matter.
    Regex(Pattern),
}

fn host<S: Serializer>(pattern: &HostPattern, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(pattern)
}

impl Host {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let mut aliases = Vec::new();
        let mut wrong = Vec::new();
        reader.value("server-alias", |text| {
            for item in value::items(text) {
                let regexes = aliases.iter().filter(|a| matches!(a, Alias::Regex(_))).count();
                match alias(item) {
                    Ok(Alias::Regex(_)) if regexes == MOST_REGEXES => {
                        wrong.push(format!("`{}` is one expression too many", shown(item)));
                        break;
                    }
                    Ok(alias) => aliases.push(alias),
                    Err(error) => wrong.push(format!("`{}` {error}", shown(item))),
                }
            }
            Ok(())
        });
        for error in wrong {
            reader.add("server-alias", Class::Ignored, &error);
        }
        Self {
            aliases,
            upstream_vhost: reader.value("upstream-vhost", name),
            forwarded_prefix: reader.value("x-forwarded-prefix", prefix),
        }
    }
}

/// Regular expressions among the aliases of an object, at most.
const MOST_REGEXES: usize = 32;

fn alias(text: &str) -> Result<Alias, String> {
    if let Some(regex) = text.strip_prefix('~') {
        return Pattern::parse(regex).map(Alias::Regex);
    }
    match HostPattern::parse(text) {
        Ok(HostPattern::Any) => Err("would be every host\nname the hosts".to_owned()),
        Ok(pattern) => Ok(Alias::Name(pattern)),
        Err(error) => Err(format!("is no host name: {error}")),
    }
}

fn name(text: &str) -> Result<Template, String> {
    let odd = |c: char| c.is_whitespace() || matches!(c, '/' | '"' | '\'' | ';' | '\\' | '@' | '?');
    if text.contains(odd) {
        return Err("is no host".to_owned());
    }
    variable::template(text)
}

fn prefix(text: &str) -> Result<Template, String> {
    // `true` was the value this annotation had years ago.
    if text == "true" || text == "false" {
        return Err("is no path\nwrite the prefix itself, as in `/shop`".to_owned());
    }
    if text.contains(char::is_whitespace) {
        return Err("has a blank in it".to_owned());
    }
    variable::template(text)
}
