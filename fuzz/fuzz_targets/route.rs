//! The router against the naive oracle: any routes, any request.
//!
//! The input is read as choices from small alphabets, so that routes and requests meet, with the
//! odd free text in between.

#![no_main]

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use libfuzzer_sys::arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use portcullis::ir::{
    self, CookieMatch, HeaderMatch, PathMatch, QueryMatch, RouteMatch, SecretBytes, ValueMatch,
};
use portcullis::snapshot::{HostTable, Outcome, RequestFacts, RouteId};

#[path = "../../src/snapshot/oracle.rs"]
mod oracle;

fuzz_target!(|input: &[u8]| {
    let _ = run(&mut Unstructured::new(input));
});

fn run(input: &mut Unstructured<'_>) -> Result<()> {
    let routes = (0..input.int_in_range(0..=12)?)
        .map(|_| route(input))
        .collect::<Result<Vec<RouteMatch>>>()?;
    let routes: Vec<(RouteId, &RouteMatch)> = (0..).map(RouteId).zip(&routes).collect();
    let (table, problems) = HostTable::build(&routes);
    assert!(problems.is_empty(), "{problems:?}");
    while !input.is_empty() {
        request(input, &routes, &table)?;
    }
    Ok(())
}

fn request(
    input: &mut Unstructured<'_>,
    routes: &[(RouteId, &RouteMatch)],
    table: &HostTable,
) -> Result<()> {
    let mut headers = HeaderMap::new();
    for _ in 0..input.int_in_range(0..=3)? {
        let name = HeaderName::from_static(input.choose(&HEADERS)?);
        let free: Vec<u8> = input.arbitrary()?;
        let value = if free.is_empty() { input.choose(&VALUES)?.as_bytes() } else { &free };
        if let Ok(value) = HeaderValue::from_bytes(value) {
            headers.append(name, value);
        }
    }
    let query = match input.int_in_range(0..=2)? {
        0 => None,
        1 => Some(input.arbitrary::<String>()?),
        _ => Some(some_of(input, &PAIRS, "&")?),
    };
    let method = method(input)?;
    let path = path(input)?;
    let facts =
        RequestFacts { method: &method, path: &path, query: query.as_deref(), headers: &headers };

    let found = table.lookup(&facts);
    assert_eq!(found, oracle::lookup(routes, &facts), "{facts:?} among {routes:?}");
    let trials = table.explain(&facts);
    assert_eq!(trials.len(), routes.len());
    let won = trials.iter().find(|trial| trial.outcome == Outcome::Won);
    assert_eq!(won.map(|trial| trial.route), found);
    for trial in trials {
        let (_, route) = routes[trial.route.index()];
        assert_eq!(matches!(trial.outcome, Outcome::Lost(_)), !oracle::matches(route, &facts));
    }
    Ok(())
}

const SEGMENTS: [&str; 12] =
    ["", "a", "b", "ab", "{a}", "{*a}", "*", ":a", "}", "%61", "é", "abcdefghijklmnop"];
const REGEXES: [&str; 8] = ["", "/.*", "/a|/ab", "[^,]*", ".*2", "(?i)/A/B", "1|2", "\\s*"];
const HEADERS: [&str; 3] = ["x-a", "x-b", "cookie"];
const VALUES: [&str; 11] =
    ["", "1", "2", "1, 2", "1; 2", "a b", "%", "a=1", "a=2; b=1", "b ; a = 1 2;b=2", "a=1=2"];
const COOKIES: [&str; 3] = ["a", "b", ""];
const PAIRS: [&str; 10] =
    ["p=1", "q=2", "p", "q=%31", "a+b=a+b", "a%20b=a%20b", "=1", "", "p=%", "%70=2"];
const PARAMETERS: [&str; 4] = ["p", "q", "a b", ""];
const METHODS: [&str; 5] = ["GET", "HEAD", "POST", "PURGE", "BAN"];

fn route(input: &mut Unstructured<'_>) -> Result<RouteMatch> {
    let path = match input.int_in_range(0..=9)? {
        0..=2 => PathMatch::Exact(path(input)?.into()),
        3 => PathMatch::Regex((*input.choose(&REGEXES)?).into()),
        4..=5 => PathMatch::StartsWith(path(input)?.into()),
        _ => PathMatch::Prefix(path(input)?.into()),
    };
    let mut route = RouteMatch { order: input.int_in_range(-1..=1)?, ..RouteMatch::of(path) };
    for _ in 0..input.int_in_range(0..=3)? {
        match input.int_in_range(0..=3)? {
            0 => route.methods.push(method(input)?),
            1 => {
                let name = HeaderName::from_static(input.choose(&HEADERS)?);
                route.headers.push(HeaderMatch { name, value: value(input)? });
            }
            2 => {
                let name = (*input.choose(&COOKIES)?).into();
                route.cookies.push(CookieMatch { name, value: value(input)? });
            }
            _ => {
                let name = (*input.choose(&PARAMETERS)?).into();
                route.query.push(QueryMatch { name, value: value(input)? });
            }
        }
    }
    Ok(route)
}

fn value(input: &mut Unstructured<'_>) -> Result<ValueMatch> {
    Ok(match input.int_in_range(0..=4)? {
        0 => ValueMatch::Present,
        4 => ValueMatch::Secret(SecretBytes::new(input.choose(&VALUES)?.as_bytes())),
        1 => ValueMatch::Regex((*input.choose(&REGEXES)?).into()),
        2 => ValueMatch::Exact(input.arbitrary::<String>()?.into()),
        _ => ValueMatch::Exact((*input.choose(&VALUES)?).into()),
    })
}

fn method(input: &mut Unstructured<'_>) -> Result<Method> {
    Ok(Method::from_bytes(input.choose(&METHODS)?.as_bytes()).expect("a method"))
}

fn path(input: &mut Unstructured<'_>) -> Result<String> {
    Ok(match input.int_in_range(0..=7)? {
        0 => format!("/{}", input.arbitrary::<String>()?),
        1 => format!("/{}", input.choose(&SEGMENTS)?).repeat(input.int_in_range(1..=64)?),
        2 => format!("/a/{}", input.int_in_range(0..=40)?),
        _ => format!("/{}", some_of(input, &SEGMENTS, "/")?),
    })
}

fn some_of(input: &mut Unstructured<'_>, choices: &[&str], between: &str) -> Result<String> {
    let count = input.int_in_range(0..=5)?;
    let picked = (0..count).map(|_| input.choose(choices).copied());
    Ok(picked.collect::<Result<Vec<_>>>()?.join(between))
}
