use proptest::prelude::*;

use super::*;

fn closed(path: &str, kind: &str, regex: bool) -> Closed {
    let path = HTTPIngressPath {
        path: Some(path.to_owned()),
        path_type: kind.to_owned(),
        ..HTTPIngressPath::default()
    };
    Closed::of(&path, regex)
}

#[test]
fn an_expression_is_closed_by_what_all_that_it_matches_begins_with() {
    for (path, reach) in [
        ("/admin(?=/|$)(.*)", "/admin"),
        (r"/v1\.0/x(?!y)", "/v1.0/x"),
        ("/adm[il]n(?=/)", "/adm"),
        ("/admin?(?=/)", "/admi"),
        ("/admin*+", "/admi"),
        ("/admin{0,2}(?=/)", "/admi"),
        ("/admin+(?=/)", "/admin"),
        ("/admin.(?=/)", "/admin"),
        ("/a b(?=c)", "/a"),
        ("/a%20b(?=c)", "/a"),
        ("/a//b(?=c)", "/a/"),
        (r"/a\d(?=c)", "/a"),
        (r"/a\Qb\E(?=c)", "/a"),
        ("/é(?=c)", "/"),
        ("/(?!public).*", "/"),
        ("(?=/)", "/"),
        ("^/a(?=b)", "/"),
        // The second is looked for anywhere.
        ("/a(?=b)|/c", "/"),
        ("/a(b|c)(?=b)", "/a"),
        ("/a[|](?=b)", "/a"),
        (r"/a\|(?=b)", "/a"),
        ("/a(b", "/a"),
        ("", "/"),
    ] {
        assert_eq!(closed(path, "ImplementationSpecific", true).reach, reach, "{path}");
    }
}

#[test]
fn a_path_is_closed_where_it_leads() {
    for (path, kind, matches) in [
        ("/a//b", "Prefix", PathMatch::Prefix("/a/b".into())),
        ("/a//b", "Exact", PathMatch::Prefix("/a/b".into())),
        ("/a//b", "", PathMatch::StartsWith("/a/b".into())),
        ("/./admin", "Prefix", PathMatch::Prefix("/admin".into())),
        ("/a/../b", "Prefix", PathMatch::Prefix("/b".into())),
        ("/../..", "Prefix", PathMatch::Prefix("/".into())),
        ("cart", "Prefix", PathMatch::Prefix("/cart".into())),
        ("/a%2Fb", "Exact", PathMatch::StartsWith("/a".into())),
        ("/%61b%2Fc%zz", "Exact", PathMatch::StartsWith("/ab".into())),
        ("/%", "Prefix", PathMatch::StartsWith("/".into())),
        ("/x", "Suffix", PathMatch::StartsWith("/x".into())),
    ] {
        assert_eq!(closed(path, kind, false).matches(), matches, "{path}");
    }
}

proptest! {
    /// The oracle is the expression itself, without what was broken about it.
    #[test]
    fn whatever_an_expression_matches_is_closed(
        text in "/([ab/.]|\\\\\\.|[ab][?*+]|[ab]\\{0,2\\}|\\[ab\\]|\\(a\\|b\\)){0,6}",
        path in "/[abAB./]{0,6}",
        broken in prop::sample::select(vec!["(?=)", "(?!c)", "(?<=)", "*+", ")"]),
    ) {
        let Ok(sound) = regex::Regex::new(&format!("^(?i:{text})")) else { return Ok(()) };
        prop_assume!(!path.contains("//"));
        let closed = closed(&format!("{text}{broken}"), "ImplementationSpecific", true);
        let PathMatch::Regex(matches) = closed.matches() else { unreachable!() };
        let matches = regex::Regex::new(&format!("^(?:{matches})$")).unwrap();
        if sound.is_match(&path) {
            prop_assert!(matches.is_match(&path), "{} {}", text, path);
        }
    }

    #[test]
    fn anything_has_a_place_where_it_is_closed(path in ".{0,20}", regex in any::<bool>()) {
        let closed = closed(&path, "Prefix", regex);
        prop_assert!(closed.reach.starts_with('/'), "{}", closed.reach);
        if let PathMatch::Regex(text) = closed.matches() {
            prop_assert!(regex::Regex::new(&text).is_ok());
        }
    }
}
