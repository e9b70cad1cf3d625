//! Regular expressions that were written for PCRE and run on an engine in linear time.

use std::fmt;
use std::sync::Arc;

use serde::{Serialize, Serializer};

/// The most memory a compiled expression may take, in bytes. Whoever may write an object must not
/// keep the controller busy.
const LARGEST: usize = 1 << 20;

/// A regular expression that the engine here takes, and means what it means in PCRE.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pattern {
    text: Arc<str>,
    groups: usize,
}

impl Serialize for Pattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl Pattern {
    /// Checks `text`; the error says what in it only PCRE has.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Some(construct) = foreign(text) {
            return Err(format!(
                "has {construct}, which a regular expression here cannot have: they run in linear \
                 time (RE2 syntax)\nwrite it without"
            ));
        }
        match regex::RegexBuilder::new(text).size_limit(LARGEST).build() {
            Ok(regex) => Ok(Self { text: text.into(), groups: regex.captures_len() - 1 }),
            Err(regex::Error::CompiledTooBig(_)) => {
                Err("is too large a regular expression\nbound its repetitions".to_owned())
            }
            Err(error) => {
                // The last line says what is wrong; those before draw the expression.
                let error = error.to_string();
                let error = error.lines().last().unwrap_or_default();
                let error = error.strip_prefix("error: ").unwrap_or(error);
                Err(format!("is no regular expression: {error}"))
            }
        }
    }

    /// The expression's text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// How many groups it captures.
    pub fn groups(&self) -> usize {
        self.groups
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The first construct that PCRE has and RE2 has not, or that means something else there.
fn foreign(text: &str) -> Option<&'static str> {
    let mut rest = text;
    let mut class = false;
    // Whether what stands before can be repeated, and whether it is a repetition itself.
    let mut repeated = false;
    while let Some(first) = rest.chars().next() {
        if first == '\\' {
            let mut after = rest[1..].chars();
            let next = after.next();
            if let Some(found) = next.and_then(|next| escape(next, class, after.as_str())) {
                return Some(found);
            }
            rest = after.as_str();
            repeated = false;
            continue;
        }
        if class {
            if ["&&", "--", "~~"].iter().any(|operator| rest.starts_with(operator)) {
                return Some("a doubled `&`, `-` or `~` in a class");
            }
            if rest.starts_with('[') && !rest.starts_with("[:") {
                return Some("a `[` in a class without a `\\` before it");
            }
            if rest.starts_with("[:") {
                let end = rest.find(":]").map_or(1, |end| end + 2);
                rest = &rest[end..];
                continue;
            }
            class = first != ']';
        } else {
            match first {
                '[' => {
                    class = true;
                    repeated = false;
                    // A `]` that comes first is an ordinary character.
                    let open = rest[1..].strip_prefix('^').unwrap_or(&rest[1..]);
                    rest = open.strip_prefix(']').unwrap_or(open);
                    continue;
                }
                '(' => {
                    if let Some(found) = group(&rest[1..]) {
                        return Some(found);
                    }
                    repeated = false;
                }
                '+' if repeated => return Some("a possessive repetition"),
                '*' | '+' | '?' | '}' => repeated = !repeated,
                _ => repeated = false,
            }
        }
        rest = &rest[first.len_utf8()..];
    }
    None
}

fn escape(next: char, class: bool, after: &str) -> Option<&'static str> {
    match next {
        '1'..='9' if !class => Some("a back reference"),
        'k' if after.starts_with(['<', '{', '\'']) => Some("a back reference"),
        'g' if after.starts_with(['<', '{', '\'']) => Some("a back reference"),
        'K' | 'G' if !class => Some("`\\K` or `\\G`"),
        'Q' | 'E' => Some("a `\\Q…\\E` quotation"),
        'R' | 'X' | 'h' | 'H' | 'N' => Some("`\\R`, `\\X`, `\\h`, `\\H` or `\\N`"),
        // Word boundaries of this engine, plain characters in PCRE.
        '<' | '>' => Some("a `\\` before `<` or `>`"),
        _ => None,
    }
}

fn group(after: &str) -> Option<&'static str> {
    if after.starts_with('*') {
        return Some("a verb `(*…)`");
    }
    let after = after.strip_prefix('?')?;
    let named = after.strip_prefix('P').unwrap_or(after);
    if ["=", "!", "<=", "<!"].iter().any(|kind| after.starts_with(kind)) {
        return Some("look-around");
    }
    if named.starts_with(['=', '>']) && after.starts_with('P') {
        return Some("a back reference or recursion");
    }
    match after.chars().next()? {
        '>' => Some("an atomic group"),
        '|' => Some("a branch reset"),
        '(' => Some("a condition"),
        '#' => Some("a comment"),
        '\'' => Some("a group named in quotes"),
        'R' | '&' | '0'..='9' | '+' => Some("recursion"),
        _ => None,
    }
}
