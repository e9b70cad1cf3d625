//! Which virtual host answers for a host name: owns the order exact, wildcard of one label, longest
//! wildcard, default.
//!
//! Knows nothing of what a virtual host is, nor of ports and listeners.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::collections::HashMap;

use foldhash::fast::RandomState;
use smallvec::SmallVec;

use crate::ir::HostPattern;

/// Values by host pattern. A lookup takes one hash and, where no exact name matches, one more for
/// wildcards of one label, if there are any, and for each wildcard depth in use; it never allocates.
#[derive(Clone, Debug)]
pub struct HostIndex<T> {
    exact: HashMap<Text, T, RandomState>,
    /// By suffix; so is the next.
    one_label: HashMap<Text, T, RandomState>,
    wildcard: HashMap<Text, T, RandomState>,
    /// Labels of the wildcard suffix with the most of them: no longer suffix is worth a hash.
    deepest: usize,
    any: Option<T>,
}

/// A host or a suffix. Nearly all are short enough to stand in the table itself, where comparing
/// one costs no look at yet another place in memory.
type Text = SmallVec<[u8; 40]>;

impl<T> HostIndex<T> {
    /// Builds the index. Of equal patterns the first is kept, so whoever has several virtual
    /// hosts of one pattern merges them before.
    pub fn build(hosts: impl IntoIterator<Item = (HostPattern, T)>) -> Self {
        let mut index = Self::default();
        for (pattern, value) in hosts {
            match pattern {
                HostPattern::Any => {
                    index.any.get_or_insert(value);
                }
                HostPattern::Exact(host) => {
                    index.exact.entry(text(&host)).or_insert(value);
                }
                HostPattern::OneLabel(suffix) => {
                    index.one_label.entry(text(&suffix)).or_insert(value);
                }
                HostPattern::Wildcard(suffix) => {
                    let labels = 1 + suffix.bytes().filter(|&b| b == b'.').count();
                    index.deepest = index.deepest.max(labels);
                    index.wildcard.entry(text(&suffix)).or_insert(value);
                }
            }
        }
        index.exact.shrink_to_fit();
        index.one_label.shrink_to_fit();
        index.wildcard.shrink_to_fit();
        index
    }

    /// The value for `host`, which is in lower case, without port and trailing dot, as the
    /// normalised request has it.
    pub fn lookup(&self, host: &[u8]) -> Option<&T> {
        if let Some(value) = self.exact.get(host) {
            return Some(value);
        }
        if let Some((_, value)) = self.lookup_one_label(host) {
            return Some(value);
        }
        self.lookup_wildcard(host).map(|(_, value)| value).or(self.any.as_ref())
    }

    /// The pattern under which [`HostIndex::lookup`] finds its value.
    pub fn matched(&self, host: &str) -> Option<HostPattern> {
        if self.exact.contains_key(host.as_bytes()) {
            return Some(HostPattern::Exact(host.into()));
        }
        let suffix = |bytes: &[u8]| host.get(host.len() - bytes.len()..).unwrap_or_default();
        if let Some((bytes, _)) = self.lookup_one_label(host.as_bytes()) {
            return Some(HostPattern::OneLabel(suffix(bytes).into()));
        }
        match self.lookup_wildcard(host.as_bytes()) {
            Some((bytes, _)) => Some(HostPattern::Wildcard(suffix(bytes).into())),
            None => self.any.as_ref().map(|_| HostPattern::Any),
        }
    }

    /// All values, in no particular order.
    pub fn values(&self) -> impl Iterator<Item = &T> {
        let wildcards = self.one_label.values().chain(self.wildcard.values());
        self.exact.values().chain(wildcards).chain(&self.any)
    }

    /// How many patterns there are.
    pub fn len(&self) -> usize {
        let wildcards = self.one_label.len() + self.wildcard.len();
        self.exact.len() + wildcards + usize::from(self.any.is_some())
    }

    /// Whether there is no pattern at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lookup_one_label<'h>(&self, host: &'h [u8]) -> Option<(&'h [u8], &T)> {
        if self.one_label.is_empty() {
            return None;
        }
        let suffix = after_dot(host).filter(|_| !host.starts_with(b"."))?;
        Some((suffix, self.one_label.get(suffix)?))
    }

    fn lookup_wildcard<'h>(&self, host: &'h [u8]) -> Option<(&'h [u8], &T)> {
        if self.wildcard.is_empty() {
            return None;
        }
        let mut candidate = last_labels(host, self.deepest);
        loop {
            // Something must stand before the suffix and its dot.
            if candidate.len() + 1 < host.len()
                && let Some(value) = self.wildcard.get(candidate)
            {
                return Some((candidate, value));
            }
            candidate = after_dot(candidate)?;
        }
    }
}

impl<T> Default for HostIndex<T> {
    fn default() -> Self {
        Self {
            exact: HashMap::default(),
            one_label: HashMap::default(),
            wildcard: HashMap::default(),
            deepest: 0,
            any: None,
        }
    }
}

fn text(name: &str) -> Text {
    Text::from_slice(name.as_bytes())
}

/// What follows the first dot.
fn after_dot(host: &[u8]) -> Option<&[u8]> {
    let dot = host.iter().position(|byte| *byte == b'.')?;
    host.get(dot + 1..)
}

/// The last `count` labels of `host`, or all of it where it has fewer.
fn last_labels(host: &[u8], count: usize) -> &[u8] {
    let mut dots = host.iter().enumerate().rev().filter(|(_, byte)| **byte == b'.');
    match dots.nth(count.saturating_sub(1)) {
        Some((dot, _)) => host.get(dot + 1..).unwrap_or(host),
        None => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(patterns: &[&str]) -> HostIndex<String> {
        HostIndex::build(
            patterns.iter().map(|text| (HostPattern::parse(text).unwrap(), (*text).to_owned())),
        )
    }

    fn pick<'a>(index: &'a HostIndex<String>, host: &str) -> &'a str {
        index.lookup(host.as_bytes()).map_or("-", String::as_str)
    }

    #[test]
    fn the_pattern_that_matched_is_told() {
        let index = index(&["*", "*.example.com", "*.b.example.com", "shop.example.com"]);
        for host in ["shop.example.com", "a.example.com", "a.b.example.com", "example.org", ""] {
            let pattern = index.matched(host).map(|pattern| pattern.to_string());
            assert_eq!(
                pattern.as_deref(),
                index.lookup(host.as_bytes()).map(String::as_str),
                "{host}"
            );
        }
    }

    #[test]
    fn an_exact_host_wins_over_a_wildcard_and_a_wildcard_over_the_default() {
        let index = index(&["*", "*.example.com", "shop.example.com"]);
        assert_eq!(pick(&index, "shop.example.com"), "shop.example.com");
        assert_eq!(pick(&index, "other.example.com"), "*.example.com");
        assert_eq!(pick(&index, "example.org"), "*");
    }

    #[test]
    fn the_longest_wildcard_suffix_wins_at_any_depth() {
        let index = index(&["*.com", "*.example.com", "*.a.b.example.com"]);
        assert_eq!(pick(&index, "x.a.b.example.com"), "*.a.b.example.com");
        assert_eq!(pick(&index, "y.x.a.b.example.com"), "*.a.b.example.com");
        assert_eq!(pick(&index, "a.b.example.com"), "*.example.com");
        assert_eq!(pick(&index, "example.com"), "*.com");
    }

    #[test]
    fn a_wildcard_of_one_label_answers_for_that_one_and_comes_before_the_others() {
        let patterns = ["*.example.com", "*.b.example.com"].map(|t| HostPattern::parse(t).unwrap());
        let [broad, narrow] = patterns.clone();
        let hosts = [
            (narrow.one_label(), "one below b"),
            (broad.one_label(), "one"),
            (HostPattern::parse("x.example.com").unwrap(), "exact"),
        ];
        let index = HostIndex::build(hosts.clone());
        for (host, expected) in [
            ("a.example.com", Some("one")),
            ("x.example.com", Some("exact")),
            ("a.b.example.com", Some("one below b")),
            ("a.c.example.com", None),
            ("x.a.b.example.com", None),
            ("example.com", None),
            (".example.com", None),
        ] {
            assert_eq!(index.lookup(host.as_bytes()).copied(), expected, "{host}");
            assert_eq!(index.matched(host).is_some(), expected.is_some(), "{host}");
        }
        assert_eq!(index.len(), 3);
        // Beside wildcards of any depth, with the same suffix too.
        let index = HostIndex::build(hosts.into_iter().chain(patterns.map(|p| (p, "any"))));
        for (host, expected) in
            [("a.example.com", "one"), ("a.c.example.com", "any"), ("x.a.b.example.com", "any")]
        {
            assert_eq!(index.lookup(host.as_bytes()), Some(&expected), "{host}");
        }
    }

    #[test]
    fn a_wildcard_does_not_answer_for_its_bare_suffix_nor_for_half_a_label() {
        let index = index(&["*.example.com"]);
        assert_eq!(pick(&index, "example.com"), "-");
        assert_eq!(pick(&index, ".example.com"), "-");
        assert_eq!(pick(&index, "badexample.com"), "-");
        assert_eq!(pick(&index, "a.badexample.com"), "-");
    }

    #[test]
    fn an_index_without_a_default_misses_unknown_hosts() {
        let index = index(&["shop.example.com", "[::1]", "10.0.0.1"]);
        assert_eq!(pick(&index, "example.org"), "-");
        assert_eq!(pick(&index, ""), "-");
        assert_eq!(pick(&index, "[::1]"), "[::1]");
        assert_eq!(pick(&index, "10.0.0.1"), "10.0.0.1");
    }

    #[test]
    fn a_host_of_thousands_of_dots_is_a_plain_miss() {
        let index = index(&["*.a.b.example.com"]);
        assert_eq!(pick(&index, &".".repeat(8192)), "-");
        assert_eq!(pick(&index, &"a.".repeat(4096)), "-");
        let deep = format!("{}a.b.example.com", "x.".repeat(4096));
        assert_eq!(pick(&index, &deep), "*.a.b.example.com");
    }

    #[test]
    fn of_equal_patterns_the_first_is_kept() {
        let hosts = ["first", "second"].map(|value| (HostPattern::Any, value));
        assert_eq!(HostIndex::build(hosts).lookup(b"any"), Some(&"first"));
    }
}
