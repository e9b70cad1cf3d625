//! The router against the naive oracle: any routes, any request.

use std::sync::Arc;

use http::{HeaderName, Method};
use proptest::prelude::*;
use proptest::test_runner::{RngSeed, TestRunner};

use super::*;

#[test]
fn the_router_agrees_with_the_naive_oracle_and_explain_with_the_router() {
    let seed = std::env::var("ROUTER_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(random_seed);
    eprintln!("ROUTER_SEED={seed}");
    let mut runner = TestRunner::new(ProptestConfig {
        cases: 1_000,
        rng_seed: RngSeed::Fixed(seed),
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let input = (
        prop::collection::vec(any_route(), 0..24),
        prop::collection::vec((any_request(), any::<prop::sample::Index>()), 1..12),
    );
    let result = runner.run(&input, |(routes, requests)| {
        let numbered = numbered(&routes);
        let (table, problems) = HostTable::build(&numbered);
        prop_assert_eq!(problems, vec![]);
        for (request, aim) in &requests {
            check(&numbered, &table, &request.facts())?;
            if !routes.is_empty() {
                let aimed = request.clone().aimed_at(aim.get(&routes));
                check(&numbered, &table, &aimed.facts())?;
            }
        }
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
}

fn check(
    routes: &[(RouteId, &RouteMatch)],
    table: &HostTable,
    facts: &RequestFacts<'_>,
) -> Result<(), TestCaseError> {
    let found = table.lookup(facts);
    prop_assert_eq!(found, oracle::lookup(routes, facts), "{:?}", facts);
    let trials = table.explain(facts);
    prop_assert_eq!(trials.len(), routes.len());
    let won = trials.iter().position(|trial| trial.outcome == Outcome::Won);
    prop_assert_eq!(won.map(|n| trials[n].route), found);
    for (n, trial) in trials.iter().enumerate() {
        let lost = matches!(trial.outcome, Outcome::Lost(_));
        prop_assert_eq!(lost, !oracle::matches(routes[trial.route.index()].1, facts));
        prop_assert!(trial.outcome != Outcome::Shadowed || won.is_some_and(|won| won < n));
    }
    Ok(())
}

fn random_seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0)
}

/// Few segments, so that paths collide, and those that a pattern language would trip over.
fn any_path() -> impl Strategy<Value = String> {
    let segment = prop::sample::select(vec![
        "a",
        "b",
        "ab",
        "",
        "a",
        "b",
        "{a}",
        "{*a}",
        "*",
        ":a",
        "%61",
        "%2F",
        "}",
        "é",
        "..",
        "abcdefghijkl",
    ]);
    let wide = (0..30u8).prop_map(|n| format!("/a/{n}"));
    let short =
        prop::collection::vec(segment.clone(), 1..5).prop_map(|s| format!("/{}", s.join("/")));
    let deep = (segment, 5..40usize).prop_map(|(s, n)| format!("/{s}").repeat(n));
    prop_oneof![8 => short, 1 => deep, 2 => wide]
}

fn any_path_match() -> impl Strategy<Value = PathMatch> {
    let regex = prop::sample::select(vec![
        "/.*", "/a|/ab", "/a/.*", "(?i)/A/B", ".*b", "/[ab]/?", "/a", "/\\{a\\}", "", "/a$|/b",
    ]);
    prop_oneof![
        4 => any_path().prop_map(|path| PathMatch::Exact(path.into())),
        8 => any_path().prop_map(|path| PathMatch::Prefix(path.into())),
        6 => any_path().prop_map(|path| PathMatch::StartsWith(path.into())),
        1 => regex.prop_map(|text| PathMatch::Regex(text.into())),
    ]
}

fn any_method() -> impl Strategy<Value = Method> {
    prop::sample::select(vec!["GET", "HEAD", "POST", "PURGE", "BAN"])
        .prop_map(|name| Method::from_bytes(name.as_bytes()).unwrap())
}

fn any_value() -> impl Strategy<Value = ValueMatch> {
    let exact = prop::sample::select(vec!["", "1", "2", "1, 2", "1; 2", "a b", "%", "é"]);
    let regex = prop::sample::select(vec!["1|2", ".*2", "[^,]*", "a.b", "\\s*"]);
    let secret = |text: &str| ValueMatch::Secret(SecretBytes::new(text.as_bytes()));
    prop_oneof![
        4 => exact.clone().prop_map(exactly),
        1 => exact.prop_map(secret),
        1 => regex.prop_map(like),
        2 => Just(ValueMatch::Present),
    ]
}

const HEADERS: [&str; 3] = ["x-a", "x-b", "cookie"];
const PARAMETERS: [&str; 4] = ["p", "q", "a b", ""];
const COOKIES: [&str; 3] = ["a", "b", ""];

fn any_route() -> impl Strategy<Value = RouteMatch> {
    let headers = (prop::sample::select(HEADERS.to_vec()), any_value());
    let cookies = (prop::sample::select(COOKIES.to_vec()), any_value());
    let query = (prop::sample::select(PARAMETERS.to_vec()), any_value());
    (
        any_path_match(),
        prop_oneof![2 => Just(vec![]), 1 => prop::collection::vec(any_method(), 1..3)],
        prop_oneof![2 => Just(vec![]), 1 => prop::collection::vec(headers, 1..3)],
        prop_oneof![3 => Just(vec![]), 1 => prop::collection::vec(cookies, 1..3)],
        prop_oneof![2 => Just(vec![]), 1 => prop::collection::vec(query, 1..3)],
        prop_oneof![4 => Just(0), 1 => -1..2],
    )
        .prop_map(|(path, methods, headers, cookies, query, order)| RouteMatch {
            path,
            methods,
            headers: (headers.into_iter())
                .map(|(name, value)| HeaderMatch { name: HeaderName::from_static(name), value })
                .collect(),
            cookies: (cookies.into_iter())
                .map(|(name, value)| CookieMatch { name: Arc::from(name), value })
                .collect(),
            query: (query.into_iter())
                .map(|(name, value)| QueryMatch { name: Arc::from(name), value })
                .collect(),
            order,
        })
}

fn any_request() -> impl Strategy<Value = Request> {
    let value = prop::sample::select(vec![
        "",
        "1",
        "2",
        "1, 2",
        "a b",
        "3",
        "a=1",
        "a=2; b=1",
        "b ; a = 1 2;b=2",
        "a=1=2;=1",
    ]);
    let field = (prop::sample::select(HEADERS.to_vec()), value);
    let pair = prop::sample::select(vec![
        "p=1",
        "q=2",
        "p",
        "q=%31",
        "a+b=a+b",
        "a%20b=a%20b",
        "=1",
        "",
        "p=%",
        "p=%C3%A9",
        "%70=2",
        "p=%ff",
    ]);
    (
        any_method(),
        prop_oneof![8 => any_path(), 1 => Just("*".to_owned()), 1 => "/[ab/{}*]{0,12}"],
        prop::option::of(prop::collection::vec(pair, 0..4).prop_map(|pairs| pairs.join("&"))),
        prop::collection::vec(field, 0..4),
    )
        .prop_map(|(method, path, query, fields)| Request {
            method,
            query,
            ..get(&path, &fields)
        })
}
