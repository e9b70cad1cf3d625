//! Templates: text with `{field}` in it; `{{` and `}}` are the braces themselves.

use super::field::{Field, Sink};
use super::record::Record;

/// A parsed template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Field(Field),
    Literal(String),
}

/// What is wrong with a template; offsets are in bytes from its begin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// A character that would break the line or command a terminal.
    #[error("the access log template has a control character at offset {offset}")]
    Control {
        /// Where it stands.
        offset: usize,
    },
    /// A `}` without `{`.
    #[error(
        "the access log template has a `}}` without `{{` at offset {offset}; write `}}}}` for the character itself"
    )]
    Unopened {
        /// Where it stands.
        offset: usize,
    },
    /// A `{` without `}`.
    #[error(
        "the access log template has a `{{` without `}}` at offset {offset}; write `{{{{` for the character itself"
    )]
    Unclosed {
        /// Where it stands.
        offset: usize,
    },
    /// A name that is no field.
    #[error("the access log has no field `{name}`; {}", advice(suggestions))]
    Unknown {
        /// The name.
        name: String,
        /// Where its brace stands.
        offset: usize,
        /// Names that resemble it, the nearest first; empty if none does.
        suggestions: Vec<&'static str>,
    },
}

fn advice(suggestions: &[&str]) -> String {
    if suggestions.is_empty() {
        let names: Vec<_> = Field::ALL.iter().map(|field| field.name()).collect();
        format!("fields are {}", names.join(", "))
    } else {
        format!("did you mean {}?", suggestions.join(" or "))
    }
}

impl Template {
    /// Parses a template.
    ///
    /// # Errors
    /// If a brace has no partner, a name is no field, or the text holds control characters.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        if let Some(offset) = text.find(|c: char| c.is_control() && c != '\t') {
            return Err(TemplateError::Control { offset });
        }
        let mut pieces = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(brace) = rest.find(['{', '}']) {
            let (before, from) = rest.split_at(brace);
            let offset = text.len() - from.len();
            literal.push_str(before);
            if let Some(after) = from.strip_prefix("{{") {
                literal.push('{');
                rest = after;
            } else if let Some(after) = from.strip_prefix("}}") {
                literal.push('}');
                rest = after;
            } else if let Some(inner) = from.strip_prefix('{') {
                let (name, after) =
                    inner.split_once('}').ok_or(TemplateError::Unclosed { offset })?;
                if !literal.is_empty() {
                    pieces.push(Piece::Literal(std::mem::take(&mut literal)));
                }
                pieces.push(Piece::Field(field(name, offset)?));
                rest = after;
            } else {
                return Err(TemplateError::Unopened { offset });
            }
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            pieces.push(Piece::Literal(literal));
        }
        Ok(Self(pieces))
    }

    /// Appends `record`; a field it does not have is `-`.
    pub(super) fn write(&self, record: &Record, out: &mut Vec<u8>) {
        for piece in &self.0 {
            match piece {
                Piece::Field(field) => {
                    if !field.write(record, &mut Sink::Plain(out)) {
                        out.push(b'-');
                    }
                }
                Piece::Literal(text) => out.extend_from_slice(text.as_bytes()),
            }
        }
    }
}

fn field(name: &str, offset: usize) -> Result<Field, TemplateError> {
    if let Some(field) = Field::named(name) {
        return Ok(field);
    }
    let mut near: Vec<(f64, &'static str)> = Field::ALL
        .iter()
        .map(|field| (strsim::jaro_winkler(field.name(), &name.to_lowercase()), field.name()))
        .filter(|(similarity, _)| *similarity > 0.8)
        .collect();
    near.sort_by(|left, right| right.0.total_cmp(&left.0));
    near.truncate(3);
    let suggestions = near.into_iter().map(|(_, name)| name).collect();
    Err(TemplateError::Unknown { name: name.to_owned(), offset, suggestions })
}
