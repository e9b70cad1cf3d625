//! The naive router: tries every route, sorts those that match, takes the first.
//!
//! Slow and obviously right, it is what the property tests, the fuzz target and the bench hold the
//! real one against. They include this file as a module of their own, so it takes what it needs
//! from `super`.

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::HashMap;

use regex::bytes::Regex;

use super::{RequestFacts, RouteId};
use crate::ir::{PathMatch, RouteMatch, ValueMatch};

/// The route that serves a request.
pub fn lookup(routes: &[(RouteId, &RouteMatch)], facts: &RequestFacts<'_>) -> Option<RouteId> {
    let matching = (0..routes.len()).filter(|&n| matches(routes[n].1, facts));
    matching.min_by_key(|&n| precedence(routes, n)).map(|n| routes[n].0)
}

/// Whether every condition of a route holds.
pub fn matches(route: &RouteMatch, facts: &RequestFacts<'_>) -> bool {
    let path = match &route.path {
        PathMatch::Exact(path) => facts.path == &**path,
        PathMatch::Prefix(prefix) => {
            let prefix = prefix.trim_end_matches('/');
            let with_slash = format!("{prefix}/");
            prefix.is_empty() || facts.path == prefix || facts.path.starts_with(&with_slash)
        }
        PathMatch::Regex(text) => full_match(text, facts.path.as_bytes()),
        PathMatch::StartsWith(text) => facts.path.starts_with(&**text),
    };
    path && (route.methods.is_empty() || route.methods.contains(facts.method))
        && route.headers.iter().all(|wanted| {
            let fields: Vec<&[u8]> =
                facts.headers.get_all(&wanted.name).iter().map(|v| v.as_bytes()).collect();
            let separator = if wanted.name == "cookie" { "; " } else { ", " };
            !fields.is_empty() && value(&wanted.value, &fields.join(separator.as_bytes()))
        })
        && route.cookies.iter().all(|wanted| {
            let fields = facts.headers.get_all("cookie").iter();
            let fields: Vec<&[u8]> = fields.map(|field| field.as_bytes()).collect();
            let cookies = cookies(&fields.join(&b';'));
            let found = cookies.iter().find(|(name, _)| name == wanted.name.as_bytes());
            found.is_some_and(|(_, found)| value(&wanted.value, found))
        })
        && route.query.iter().all(|wanted| {
            let parameters = parse(facts.query.unwrap_or(""));
            let found = parameters.iter().find(|(name, _)| name == wanted.name.as_bytes());
            found.is_some_and(|(_, found)| value(&wanted.value, found))
        })
}

fn precedence(routes: &[(RouteId, &RouteMatch)], n: usize) -> impl Ord {
    let route = routes[n].1;
    let (class, path) = match &route.path {
        PathMatch::Exact(_) => (0, 0),
        PathMatch::Regex(_) => {
            let first = routes.iter().position(|(_, other)| other.path == route.path);
            (1, first.unwrap_or(n) as isize)
        }
        PathMatch::Prefix(prefix) => (2, -2 * prefix.trim_end_matches('/').len() as isize),
        PathMatch::StartsWith(text) => (2, 1 - 2 * text.len() as isize),
    };
    let conditions = (
        Reverse(!route.methods.is_empty()),
        Reverse(route.headers.len()),
        Reverse(route.cookies.len()),
        Reverse(route.query.len()),
    );
    (class, path, route.order, conditions, n)
}

fn value(wanted: &ValueMatch, found: &[u8]) -> bool {
    match wanted {
        ValueMatch::Exact(wanted) => wanted.as_bytes() == found,
        ValueMatch::Present => true,
        ValueMatch::Secret(wanted) => wanted.expose() == found,
        ValueMatch::Regex(text) => full_match(text, found),
        ValueMatch::SecretRegex(text) => {
            std::str::from_utf8(text.expose()).is_ok_and(|text| full_match(text, found))
        }
    }
}

fn full_match(text: &str, value: &[u8]) -> bool {
    // Compiling is by far the slowest thing here; without this there would be fewer cases.
    thread_local!(static KNOWN: RefCell<HashMap<String, Option<Regex>>> = RefCell::default());
    KNOWN.with_borrow_mut(|known| {
        let compile = || Regex::new(&format!("^(?:{text})$")).ok();
        let regex = known.entry(text.to_owned()).or_insert_with(compile);
        regex.as_ref().is_some_and(|regex| regex.is_match(value))
    })
}

fn cookies(field: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut cookies = Vec::new();
    for pair in field.split(|&byte| byte == b';') {
        let mut parts = pair.splitn(2, |&byte| byte == b'=');
        if let (Some(name), Some(value)) = (parts.next(), parts.next()) {
            cookies.push((name.trim_ascii().to_vec(), value.trim_ascii().to_vec()));
        }
    }
    cookies
}

fn parse(query: &str) -> Vec<(Vec<u8>, Vec<u8>)> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(name), decode(value))
        })
        .collect()
}

fn decode(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut decoded = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let digits = text.get(at + 1..at + 3).filter(|t| t.bytes().all(|b| b.is_ascii_hexdigit()));
        match (bytes[at], digits) {
            (b'%', Some(digits)) => {
                decoded.push(u8::from_str_radix(digits, 16).unwrap_or_default());
                at += 3;
                continue;
            }
            (b'+', _) => decoded.push(b' '),
            (byte, _) => decoded.push(byte),
        }
        at += 1;
    }
    decoded
}
