//! Regular expressions that must match a whole value: owns their anchoring and their size limits.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::collections::HashMap;
use std::sync::Arc;

use regex::bytes::{Regex, RegexBuilder};

use crate::ir::SecretBytes;

/// The largest compiled expression in bytes. The crate's own 10 MiB would let one configuration of
/// a few hundred expressions take gigabytes.
const SIZE_LIMIT: usize = 1 << 20;

/// An expression that matches a value only as a whole.
pub(super) struct Pattern {
    text: Box<str>,
    regex: Regex,
}

impl std::fmt::Debug for Pattern {
    /// Without the expression, which may be secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pattern").finish_non_exhaustive()
    }
}

impl Pattern {
    /// Whether the whole of `value` matches.
    pub(super) fn matches(&self, value: &[u8]) -> bool {
        self.regex.is_match(value)
    }

    /// The expression as it was written.
    pub(super) fn as_str(&self) -> &str {
        &self.text
    }

    fn compile(text: &str) -> Result<Self, String> {
        // By itself first: `a)(b` is no expression, though it would be one between parentheses,
        // and the error shows what the user wrote.
        build(text)?;
        // A comment of an extended expression runs to the end of its line, our parenthesis
        // included; there, and only there, the line break is no part of the expression.
        let regex = build(&format!(r"\A(?:{text})\z"))
            .or_else(|_| build(&format!("\\A(?:{text}\n)\\z")))?;
        Ok(Self { text: text.into(), regex })
    }
}

fn build(text: &str) -> Result<Regex, String> {
    RegexBuilder::new(text)
        .size_limit(SIZE_LIMIT)
        .dfa_size_limit(SIZE_LIMIT)
        .build()
        .map_err(|error| format!("the regular expression \"{text}\" is not usable: {error}"))
}

/// The expressions of one host while it is compiled: equal texts share one automaton.
#[derive(Default)]
pub(super) struct Patterns(HashMap<Box<str>, Result<Arc<Pattern>, String>>);

impl Patterns {
    /// The pattern for `text`, or what is wrong with it.
    pub(super) fn obtain(&mut self, text: &str) -> Result<Arc<Pattern>, String> {
        if let Some(known) = self.0.get(text) {
            return known.clone();
        }
        let pattern = Pattern::compile(text).map(Arc::new);
        self.0.insert(text.into(), pattern.clone());
        pattern
    }

    /// The same for an expression that neither an error nor `Debug` may show.
    pub(super) fn obtain_secret(&mut self, text: &SecretBytes) -> Result<Arc<Pattern>, String> {
        let unusable = || "the secret regular expression is not usable".to_owned();
        let text = std::str::from_utf8(text.expose()).map_err(|_| unusable())?;
        let pattern = self.obtain(text).map_err(|_| unusable())?;
        Ok(pattern)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, value: &str) -> bool {
        Pattern::compile(pattern).unwrap().matches(value.as_bytes())
    }

    #[test]
    fn an_expression_matches_the_whole_value_or_not_at_all() {
        assert!(matches("/a|/ab", "/ab"));
        assert!(matches("/a.*", "/a/b"));
        assert!(!matches("/a", "/ab"));
        assert!(!matches("b", "/ab"));
        assert!(!matches("/a", "/a\n"));
        assert!(!matches("(?m)/a$", "/a\nb"));
        assert!(matches("(?i)/CART", "/cart"));
    }

    #[test]
    fn a_comment_at_the_end_of_an_extended_expression_does_not_swallow_the_anchor() {
        assert!(matches("(?x)/a b # the b", "/ab"));
        assert!(!matches("(?x)/a b # the b", "/abc"));
    }

    #[test]
    fn a_broken_expression_is_refused_and_quoted_as_it_was_written() {
        for text in ["a)(b", "[", "(?P<x", r"(\w{50}){50}{50}"] {
            let error = Pattern::compile(text).unwrap_err();
            assert!(error.contains(&format!("\"{text}\"")), "{error}");
        }
    }
}
