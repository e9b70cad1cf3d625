//! configuration-snippet and server-snippet: what people wrote for nginx, as typed values.
//!
//! A snippet is read by a grammar of its own and never executed or passed on as text. A directive
//! that is not known is refused with its line, and the others are kept; but one that restricts
//! access is never just left out.

mod block;
mod cases;
mod condition;
mod directive;
mod location;
mod refusal;
mod statement;
mod token;

pub use condition::{Condition, Test};
pub use directive::{Directive, Kind, Located, Only, RewriteFlag};
pub use location::Location;
pub use refusal::Refusal;
pub use token::{SyntaxError, Token, TokenKind, tokens};

use serde::Serialize;

use super::finding::Class;
use super::reader::Reader;
use directive::Translator;
use statement::statements;

/// The snippets of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Snippets {
    /// For the paths of the object.
    pub configuration: Option<Snippet>,
    /// For the whole host, before any path is looked for. The first Ingress of a host that has one
    /// says it.
    pub server: Option<Snippet>,
}

/// What a snippet says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Snippet {
    /// What is kept, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub directives: Vec<Directive>,
    /// What is kept of locations of a host, in order: wherever they stand, they are looked at once
    /// everything else is done, by the path that came of it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub locations: Vec<Located>,
    /// What is not, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<Refusal>,
}

/// Where a snippet stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Context {
    /// Among the directives of a path.
    Location,
    /// Among those of a host.
    Server,
}

impl Snippet {
    /// Reads `text`. Never fails: what cannot be read is refused, all of it where its braces and
    /// quotation marks do not go together.
    pub fn parse(text: &str, context: Context) -> Self {
        match statements(text) {
            Ok(statements) => Translator::new(context).translate(&statements),
            Err(error) => {
                let guards = refusal::may_guard(text);
                let reason = format!("{}, so nothing of the snippet is read", error.message);
                let within = (guards && context == Context::Server).then(Vec::new);
                let refusal = Refusal { line: error.line, reason, remedy: None, guards, within };
                let refused = vec![refusal];
                Self { refused, ..Self::default() }
            }
        }
    }
}

impl Snippet {
    /// What is kept of locations.
    pub fn located(&self) -> impl Iterator<Item = &Directive> {
        self.locations.iter().map(|located| &located.directive)
    }
}

impl Snippets {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        Self {
            configuration: read(reader, "configuration-snippet", Context::Location),
            server: read(reader, "server-snippet", Context::Server),
        }
    }
}

/// What becomes of snippets where they are turned off. ingress-nginx leaves all of them out, also
/// those that refuse requests: whoever moves from there did not have them, but whoever wrote one
/// believes in it, and had it here as long as they were on.
const LEFT_OUT: &str = "is left out, as in ingress-nginx: snippets are turned off here\nuse \
                        annotations, or set `allow-snippet-annotations`";
const REFUSES: &str = "is not honoured: snippets are turned off here, and this one refuses requests, so \
                       they are answered 503; ingress-nginx leaves it out and serves them\nuse \
                       annotations, remove it, or set `allow-snippet-annotations`";

fn read(reader: &mut Reader<'_>, name: &'static str, context: Context) -> Option<Snippet> {
    if !reader.takes_snippets() {
        let refuses = reader.value(name, |text| Ok(refusal::refuses(text)))?;
        let (class, text) = match refuses {
            true => (Class::Denied, REFUSES),
            false => (Class::NotHonoured, LEFT_OUT),
        };
        reader.amend(name, class, text);
        return None;
    }
    let snippet = reader.value(name, |text| Ok(Snippet::parse(text, context)))?;
    let nothing = snippet.directives.is_empty() && snippet.locations.is_empty();
    if nothing && !snippet.refused.is_empty() {
        reader.amend(name, Class::NotHonoured, "has nothing in it that is honoured");
    } else if !snippet.refused.is_empty() {
        reader.amend(name, Class::Difference, "is honoured but for the lines that are refused");
    }
    for refusal in &snippet.refused {
        reader.add(name, refusal.class(), &refusal.to_string());
    }
    Some(snippet)
}
