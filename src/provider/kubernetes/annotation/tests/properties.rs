//! Sizes and durations against naive readings, words against themselves, and that nothing panics.

use proptest::prelude::*;

use super::super::pattern::Pattern;
use super::super::snippet::{Context, Snippet, TokenKind, tokens};
use super::super::value;
use super::*;

/// A size, digit by digit.
fn naive_size(text: &str) -> Option<u128> {
    let factors = [('b', 1), ('k', 1024), ('m', 1024 * 1024), ('g', 1024 * 1024 * 1024)];
    let mut total: u128 = 0;
    let mut seen = false;
    let mut characters = text.chars().peekable();
    while let Some(digit) = characters.peek().and_then(|c| c.to_digit(10)) {
        characters.next();
        seen = true;
        total = total.checked_mul(10)?.checked_add(u128::from(digit))?;
    }
    let factor = match characters.next() {
        None => 1,
        Some(c) => factors.iter().find(|(unit, _)| c.to_ascii_lowercase() == *unit)?.1,
    };
    let total = total.checked_mul(factor)?;
    (seen && characters.next().is_none() && total <= i64::MAX as u128).then_some(total)
}

/// A duration in milliseconds, by trying all units at the front.
fn naive_duration(text: &str) -> Option<u128> {
    let units = [
        ("y", 31_536_000_000),
        ("M", 2_592_000_000),
        ("w", 604_800_000),
        ("d", 86_400_000),
        ("h", 3_600_000),
        ("m", 60_000),
        ("s", 1_000),
        ("ms", 1),
    ];
    fn part(text: &str, from: usize, units: &[(&str, u128)]) -> Option<u128> {
        let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let number: u128 = text.get(..end)?.parse::<u64>().ok()?.into();
        let rest = &text[end..];
        if rest.is_empty() {
            return (from <= 6).then_some(number * 1_000);
        }
        for (index, (unit, millis)) in units.iter().enumerate().skip(from) {
            let Some(after) = rest.strip_prefix(unit) else { continue };
            if after.is_empty() {
                return Some(number * millis);
            }
            let next = after.trim_start_matches(' ');
            if next.starts_with(|c: char| c.is_ascii_digit()) {
                return Some(number * millis + part(next, index + 1, units)?);
            }
        }
        None
    }
    part(text, 0, &units).filter(|millis| *millis <= 3650 * 86_400_000)
}

fn any_snippet() -> impl Strategy<Value = String> {
    let words = prop::sample::select(vec![
        "more_set_headers",
        "add_header",
        "proxy_set_header",
        "return",
        "rewrite",
        "if",
        "set",
        "location",
        "deny",
        "all",
        "allow",
        "(",
        ")",
        "($host",
        "= a)",
        "~* \"^(a)\")",
        "$http_x",
        "$",
        "${",
        "}",
        "{",
        ";",
        ";",
        "\"",
        "'",
        "\"X-A: b\"",
        "always",
        "301",
        "403",
        "last",
        "https://a/$1",
        "a\\\\",
        "\\\\n",
        "\\",
        "\\n",
        "#",
        "\n",
        " ",
        "é",
        "\u{0}",
        "-s",
        "$x",
        "^/(.*)$",
    ]);
    prop::collection::vec(words, 0..40).prop_map(|words| words.join(" "))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn a_size_is_what_a_naive_reading_says(text in "[0-9]{0,21}[bkmgBKMGx ]{0,2}") {
        prop_assert_eq!(value::size(&text).ok().map(u128::from), naive_size(&text), "{}", text);
    }

    #[test]
    fn a_duration_is_what_a_naive_reading_says(
        text in "([0-9]{0,4}(y|M|w|d|h|m|s|ms|x|) {0,2}){0,4}",
    ) {
        let millis = value::duration(&text).ok().map(|duration| duration.as_millis());
        prop_assert_eq!(millis, naive_duration(&text), "{}", text);
    }

    #[test]
    fn words_that_are_written_again_are_read_the_same(text in any_snippet()) {
        let Ok(read) = tokens(&text) else { return Ok(()) };
        let again: Vec<_> = read.iter().map(|token| token.kind.to_string()).collect();
        let again = tokens(&again.join(" ")).unwrap();
        let kinds = |tokens: &[super::super::snippet::Token]| -> Vec<TokenKind> {
            tokens.iter().map(|token| token.kind.clone()).collect()
        };
        prop_assert_eq!(kinds(&read), kinds(&again));
        let lines = text.lines().count().max(1) as u32 + 1;
        prop_assert!(read.iter().all(|token| (1..=lines).contains(&token.line)));
    }

    #[test]
    fn any_snippet_is_read_or_refused(text in prop_oneof![any_snippet(), ".{0,60}"]) {
        for context in [Context::Location, Context::Server] {
            let snippet = Snippet::parse(&text, context);
            for refusal in &snippet.refused {
                prop_assert!(refusal.line >= 1 && !refusal.reason.contains('\n'));
            }
        }
    }

    #[test]
    fn any_values_are_parsed(
        values in prop::collection::vec((prop::sample::select(names().collect::<Vec<_>>()), ".{0,30}"), 0..8),
    ) {
        let pairs: Vec<_> = values.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let parsed = parsed(&pairs);
        let has = |class| parsed.findings.iter().any(|finding| finding.class == class);
        prop_assert_eq!(parsed.denied.is_some(), has(Class::Denied));
        prop_assert_eq!(parsed.refused.is_some(), has(Class::Refused));
    }

    #[test]
    fn a_pattern_that_is_taken_compiles(text in "[a-z0-9\\\\()\\[\\]{}?*+|^$.,:=!<>#&é\u{feff}-]{0,16}") {
        if let Ok(pattern) = Pattern::parse(&text) {
            prop_assert!(regex::Regex::new(pattern.as_str()).is_ok());
        }
    }

    #[test]
    fn a_template_is_read_again_from_what_it_shows(text in "([a-z/.]|\\$host|\\$\\{http_x_y\\}|\\$1|\\$cookie_a){0,8}") {
        // A variable's name takes all letters after it; the braces in what is shown end it.
        if let Ok(template) = Template::parse(&text) {
            prop_assert_eq!(Template::parse(&template.to_string()).unwrap(), template);
        }
    }
}

#[test]
fn characters_of_several_bytes_are_no_surprise_in_a_pattern() {
    for text in ["\\\u{feff}", "\\é", "[\\é]", "[é&&]", "(é", "é*+", "(?é)", "\\", "[^", "[]é"]
    {
        let _ = Pattern::parse(text);
    }
}

#[test]
fn what_only_pcre_has_is_refused_by_name() {
    for (text, named) in [
        ("(?!a)b", "look-around"),
        ("(?<=a)b", "look-around"),
        (r"(a)\1", "back reference"),
        (r"(?<n>a)\k<n>", "back reference"),
        ("(?>a)b", "atomic"),
        ("a*+", "possessive"),
        ("(?(1)a|b)", "condition"),
        (r"a\Kb", "\\K"),
        ("[a&&b]", "class"),
        ("(*UTF8)a", "verb"),
        ("(?R)", "recursion"),
    ] {
        let error = Pattern::parse(text).unwrap_err();
        assert!(error.contains(named), "{text}: {error}");
    }
    for text in [
        r"^/api(/|$)(.*)",
        r"(?i)\.(js|css)$",
        "[^/]+",
        "a+?",
        "(?:a|b)*",
        r"[]a\]]",
        "[[:alpha:]]+",
        "a{2,3}?",
        "(?P<n>a)",
        "(?<n>a)",
    ] {
        assert!(Pattern::parse(text).is_ok(), "{text}: {:?}", Pattern::parse(text));
    }
}
