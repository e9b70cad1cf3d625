//! Sizes and durations against naive readings, words against themselves, and that nothing panics.

use proptest::prelude::*;

use super::super::pattern::Pattern;
use super::super::snippet::{self, Context, Snippet, TokenKind, tokens};
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

/// A line that keeps some requests from a back end.
fn turning() -> impl Strategy<Value = String> {
    let deed = prop::sample::select(vec![
        "return 403;",
        "return 302 /login;",
        "return 302 https://login.example/?h=$ssl_server_name;",
        "return 503;",
        "return 200 $nothing;",
        "return 301;",
        "rewrite ^ /blocked.html last;",
        "rewrite ^/(?!x) /blocked.html last;",
        "rewrite ^ https://login.example/ redirect;",
        "more_set_headers \"X-A: b\"; return 403;",
        "deny 10.0.0.0/8;",
        "include /etc/nginx/blocked.conf;",
        "access_by_lua_file /etc/nginx/a.lua;",
        "rewrite_by_lua \"return\";",
        "content_by_lua_file /etc/nginx/a.lua;",
    ]);
    let when = prop::sample::select(vec![
        "",
        "if ($http_x)",
        "if ($geoip2_country != DE)",
        "if ($host ~ (?!x)y)",
        "if (-f /x)",
        "limit_except GET",
        "location /x",
        "location ~ ^/(?!x)",
    ]);
    (when, deed).prop_map(|(when, deed)| match when {
        "" => deed.to_owned(),
        when => format!("{when} {{ {deed} }}"),
    })
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

    /// What turns requests away in one line, in whatever way the line is wrong.
    #[test]
    fn what_turns_requests_away_is_kept_or_closed(
        lines in prop::collection::vec(turning(), 1..6),
    ) {
        for context in [Context::Location, Context::Server] {
            let snippet = Snippet::parse(&lines.join("\n"), context);
            for line in 1..=lines.len() as u32 {
                let kept = snippet.directives.iter().chain(snippet.located());
                let mut kept = kept.filter(|one| one.line == line);
                let closed = |one: &snippet::Refusal| one.guards && one.line == line;
                prop_assert!(
                    kept.any(snippet::Directive::turns_away) || snippet.refused.iter().any(closed),
                    "line {} of {:?}: {:?}", line, lines, snippet
                );
            }
            for refusal in &snippet.refused {
                let expected = refusal.guards && context == Context::Server;
                prop_assert_eq!(refusal.within.is_some(), expected, "{:?}", refusal);
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

/// A statement of a small language: names `a` and `b`, flags of the request `x`, `y` and `z`.
#[derive(Clone, Debug)]
enum Simple {
    Set(char, String),
    When(String, Vec<(char, String)>),
}

fn simple() -> impl Strategy<Value = Simple> {
    let value = prop::sample::select(vec!["0", "1", "", "${a}1", "$b", "${b}0"]);
    let set = (prop::sample::select(vec!['a', 'b']), value.prop_map(str::to_owned));
    let conditions =
        ["$a = 1", "$b", "$a != 11", "$b ~ 0", "$http_x", "$http_y = 1", "$http_z !~ 1"];
    let condition = prop::sample::select(conditions.to_vec()).prop_map(str::to_owned);
    let when = (condition, prop::collection::vec(set.clone(), 1..3));
    prop_oneof![
        set.prop_map(|(name, value)| Simple::Set(name, value)),
        when.prop_map(|(condition, sets)| Simple::When(condition, sets)),
    ]
}

/// Runs such a program as nginx would.
fn run(program: &[Simple], flags: [bool; 3]) -> String {
    let mut names = std::collections::BTreeMap::from([('a', String::new()), ('b', String::new())]);
    let fill = |names: &std::collections::BTreeMap<char, String>, text: &str| {
        let text = text.replace("${a}", &names[&'a']).replace("${b}", &names[&'b']);
        text.replace("$b", &names[&'b'])
    };
    for statement in program {
        let sets = match statement {
            Simple::Set(name, value) => vec![(*name, value.clone())],
            Simple::When(condition, sets) => {
                let (a, b) = (names[&'a'].as_str(), names[&'b'].as_str());
                let holds = match condition.as_str() {
                    "$a = 1" => a == "1",
                    "$b" => !b.is_empty() && b != "0",
                    "$a != 11" => a != "11",
                    "$b ~ 0" => b.contains('0'),
                    "$http_x" => flags[0],
                    "$http_y = 1" => flags[1],
                    _ => !flags[2],
                };
                if holds { sets.clone() } else { Vec::new() }
            }
        };
        for (name, value) in sets {
            let value = fill(&names, &value);
            names.insert(name, value);
        }
    }
    format!("{}-{}", names[&'a'], names[&'b'])
}

/// Whether the conditions of a directive hold.
fn holds(condition: &snippet::Condition, flags: [bool; 3]) -> bool {
    let name = condition.variable.to_string();
    let set = flags[["$http_x", "$http_y", "$http_z"].iter().position(|n| *n == name).unwrap()];
    let text = if set { "1" } else { "" };
    let found = |pattern: &str| regex::Regex::new(pattern).unwrap().is_match(text);
    match &condition.test {
        snippet::Test::True => set,
        snippet::Test::Is(other) => text == &**other,
        snippet::Test::IsNot(other) => text != &**other,
        snippet::Test::Matches(pattern) => found(pattern.as_str()),
        snippet::Test::MatchesNot(pattern) => !found(pattern.as_str()),
    }
}

proptest! {
    #[test]
    fn names_that_are_set_have_the_values_that_nginx_would_give_them(
        program in prop::collection::vec(simple(), 0..7),
    ) {
        let block = |sets: &[(char, String)]| -> String {
            sets.iter().map(|(name, value)| format!("set ${name} \"{value}\"; ")).collect()
        };
        let mut text = "set $a \"\"; set $b \"\"; ".to_owned();
        for statement in &program {
            text += &match statement {
                Simple::Set(name, value) => block(&[(*name, value.clone())]),
                Simple::When(condition, sets) => format!("if ({condition}) {{ {}}} ", block(sets)),
            };
        }
        text += "more_set_headers \"X: $a-$b\";";
        let snippet = Snippet::parse(&text, Context::Location);
        // What is beyond the bounds is refused, and said.
        prop_assume!(snippet.refused.is_empty());
        for number in 0..8 {
            let flags = [number & 1 > 0, number & 2 > 0, number & 4 > 0];
            let mut values = Vec::new();
            for directive in &snippet.directives {
                let (met, then) = match &directive.kind {
                    snippet::Kind::If { given, condition, then } => {
                        let mut all = given.iter().chain([condition]);
                        (all.all(|one| holds(one, flags)), then.iter().collect())
                    }
                    _ => (true, vec![directive]),
                };
                for directive in then.into_iter().filter(|_| met) {
                    match &directive.kind {
                        snippet::Kind::SetResponseHeader { value, .. } => {
                            values.push(value.as_literal().unwrap().to_owned());
                        }
                        other => prop_assert!(false, "{other:?}"),
                    }
                }
            }
            prop_assert_eq!(values, [run(&program, flags)], "{} with {:?}", text, flags);
        }
    }
}
