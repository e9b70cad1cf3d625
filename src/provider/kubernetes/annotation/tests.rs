//! Golden files, properties of the small languages, and that the table is complete.

use std::collections::{BTreeMap, BTreeSet};

use super::reader::Reader;
use super::table::Support;
use super::*;

mod golden;
mod properties;

fn annotations(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(name, value)| (format!("{NGINX_PREFIX}/{name}"), (*value).to_owned()))
        .collect()
}

fn parsed(pairs: &[(&str, &str)]) -> Parsed {
    parse(&annotations(pairs), &Options::default())
}

/// The names of ingress-nginx 1.15.1, taken from its sources and not from our table.
const ALL: &str = include_str!("tests/names.txt");

#[test]
fn every_annotation_of_ingress_nginx_is_in_the_table() {
    let known: BTreeSet<_> = ALL.lines().filter(|line| !line.starts_with('#')).collect();
    let aliases = ["limit-whitelist", "whitelist-source-range"];
    assert_eq!(known.len() - aliases.len(), 137);
    assert_eq!(names().collect::<BTreeSet<_>>(), known);
    assert!(names().is_sorted(), "it is searched by halves");
    for name in names() {
        assert!(support(name).is_some(), "{name}");
    }
}

#[test]
fn a_family_reads_every_annotation_that_is_honoured() {
    let mut reader = Reader::over([]);
    Annotations::read(&mut reader);
    for name in names() {
        let honoured = matches!(support(name), Some(Support::Honoured | Support::Differently(_)));
        assert_eq!(reader.names_read().contains(name), honoured, "{name}");
    }
}

#[test]
fn every_annotation_under_a_known_prefix_has_a_finding() {
    for name in names() {
        for value in ["", "1", "on", "true", "\u{7}", "$", "https://example.com/", "a/b"] {
            for prefix in [NGINX_PREFIX, OWN_PREFIX] {
                let key = format!("{prefix}/{name}");
                let annotations = BTreeMap::from([(key.clone(), value.to_owned())]);
                let parsed = parse(&annotations, &Options::default());
                assert!(!parsed.findings.is_empty(), "{key}: {value:?}");
                assert!(parsed.findings.iter().all(|finding| finding.annotation == key));
                let says = |class| parsed.findings.iter().any(|finding| finding.class == class);
                assert_eq!(parsed.denied.is_some(), says(Class::Denied), "{key}: {value:?}");
                assert_eq!(parsed.refused.is_some(), says(Class::Refused), "{key}: {value:?}");
            }
        }
    }
}

#[test]
fn what_restricts_access_never_goes_unnoticed() {
    for (name, value) in [
        ("allowlist-source-range", "10.0.0.0/33"),
        ("whitelist-source-range", "10.0.0.0/8 192.168.0.0/16"),
        ("whitelist-source-range", ","),
        ("denylist-source-range", "everybody"),
        ("auth-type", "digest"),
        ("auth-type", "basic"),
        ("auth-url", "auth.example.com"),
        ("auth-url", "http://"),
        ("auth-url", "http://a b/"),
        ("auth-url", "http://auth/\nx"),
        ("auth-tls-secret", "no-namespace"),
        ("auth-tls-match-cn", "CN=(?!me)"),
        ("auth-snippet", "deny all;"),
        ("configuration-snippet", "auth_basic on;"),
        ("configuration-snippet", "allow 10.0.0.0/8; deny all;"),
        ("configuration-snippet", "location /x { deny all; }"),
        ("configuration-snippet", "if ($uri ~ (?!x)y) { return 403; }"),
        ("configuration-snippet", "if ($x) { return 302 /login; }"),
        ("configuration-snippet", "include /etc/nginx/blocklist.conf;"),
    ] {
        assert!(parsed(&[(name, value)]).denied.is_some(), "{name}: {value}");
    }
    // What holds for a host closes that, and not its own object alone.
    for value in ["if ($x) { return 403", "deny 10.0.0.0/8;", "location /x { include y; }"] {
        let parsed = parsed(&[("server-snippet", value)]);
        assert!(parsed.denied.is_none(), "{value}");
        assert!(parsed.findings.iter().any(|one| one.class == Class::Closed), "{value}");
    }
}

#[test]
fn our_own_prefix_wins_and_the_other_can_be_changed() {
    let both = BTreeMap::from([
        ("portcullis.dev/proxy-body-size".to_owned(), "2m".to_owned()),
        ("nginx.ingress.kubernetes.io/proxy-body-size".to_owned(), "3m".to_owned()),
        ("team.example.com/use-regex".to_owned(), "true".to_owned()),
    ]);
    let parsed = parse(&both, &Options::default());
    assert_eq!(parsed.values.body.limit, Some(2 << 20));
    assert_eq!(parsed.values.rewrite.use_regex, None);
    assert_eq!(parsed.findings[0].class, Class::Ignored);
    let options = Options { prefix: "team.example.com".to_owned(), ..Options::default() };
    let parsed = parse(&both, &options);
    assert_eq!(parsed.values.rewrite.use_regex, Some(true));
    // What was meant for the usual prefix is not passed over in silence.
    assert_eq!(parsed.findings[0].class, Class::NeverExisted);
}

#[test]
fn snippets_can_be_turned_off_but_not_what_they_keep_out() {
    let options = Options { snippets: false, ..Options::default() };
    let off = |text| parse(&annotations(&[("configuration-snippet", text)]), &options);
    let harmless = off("more_set_headers \"X-A: b\";");
    assert_eq!(harmless.values.snippets, Snippets::default());
    assert_eq!((harmless.findings[0].class, harmless.denied), (Class::NotHonoured, None));
    assert!(off("if ($http_x = y) { return 403; }").denied.is_some());
}

#[test]
fn a_finding_becomes_a_problem_unless_all_is_well() {
    let parsed =
        parsed(&[("use-regex", "true"), ("proxy-read-timeout", "20k"), ("rate-limit", "5")]);
    let problems: Vec<_> =
        parsed.findings.iter().filter_map(Finding::problem).map(|p| p.to_string()).collect();
    assert_eq!(
        problems,
        [
            "warning: nginx.ingress.kubernetes.io/proxy-read-timeout: `20k` is no number of seconds; \
             it is ignored",
            "warning: nginx.ingress.kubernetes.io/rate-limit: never existed in ingress-nginx and \
             limits nothing (use `limit-rps`)",
        ]
    );
}

#[test]
fn a_snippet_cannot_grow_without_end() {
    use snippet::{Context, Snippet};
    let mut text = "set $a0 0123456789;\n".to_owned();
    for n in 1..60 {
        text += &format!("set $a{n} $a{m}$a{m};\n", m = n - 1);
    }
    text += "more_set_headers \"X-A: $a59\";\n";
    let snippet = Snippet::parse(&text, Context::Location);
    assert!(snippet.refused.iter().any(|refusal| refusal.reason.contains("too often")));
    let many = Snippet::parse(&"more_set_headers X-A:b;".repeat(1_000), Context::Location);
    assert_eq!((many.directives.len(), many.refused.len()), (256, 744));
    let many = format!("{} return 403;", "break; ".repeat(256));
    assert!(Snippet::parse(&many, Context::Location).refused[0].guards);
    let deep = Snippet::parse(&"if ($host) {".repeat(100_000), Context::Server);
    assert_eq!(deep.refused.len(), 1);
}
