//! The router as a whole: every rule of precedence by example; in `property` all of them against the
//! naive oracle.

mod property;

use http::header::COOKIE;
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::*;
use crate::ir::{
    CookieMatch, HeaderMatch, PathMatch, QueryMatch, RouteMatch, SecretBytes, ValueMatch,
};

/// `/x` is a prefix, `=/x` an exact path, `~x` an expression, `^/x` a prefix of bytes.
fn route(path: &str) -> RouteMatch {
    let (kind, rest) = path.split_at(1);
    RouteMatch::of(match kind {
        "=" => PathMatch::Exact(rest.into()),
        "~" => PathMatch::Regex(rest.into()),
        "^" => PathMatch::StartsWith(rest.into()),
        _ => PathMatch::Prefix(path.into()),
    })
}

fn cookie(mut route: RouteMatch, name: &str, value: ValueMatch) -> RouteMatch {
    route.cookies.push(CookieMatch { name: name.into(), value });
    route
}

fn methods(mut route: RouteMatch, methods: &[Method]) -> RouteMatch {
    route.methods = methods.to_vec();
    route
}

fn header(mut route: RouteMatch, name: &'static str, value: ValueMatch) -> RouteMatch {
    route.headers.push(HeaderMatch { name: HeaderName::from_static(name), value });
    route
}

fn query(mut route: RouteMatch, name: &str, value: ValueMatch) -> RouteMatch {
    route.query.push(QueryMatch { name: name.into(), value });
    route
}

fn exactly(text: &str) -> ValueMatch {
    ValueMatch::Exact(text.into())
}

fn like(text: &str) -> ValueMatch {
    ValueMatch::Regex(text.into())
}

#[derive(Clone, Debug)]
struct Request {
    method: Method,
    path: String,
    query: Option<String>,
    headers: HeaderMap,
}

impl Request {
    fn facts(&self) -> RequestFacts<'_> {
        RequestFacts {
            method: &self.method,
            path: &self.path,
            query: self.query.as_deref(),
            headers: &self.headers,
        }
    }
}

impl Request {
    /// The same request with whatever `route` asks for put in front, so that routes with many
    /// conditions win too.
    fn aimed_at(mut self, route: &RouteMatch) -> Self {
        match &route.path {
            PathMatch::Exact(path) | PathMatch::Prefix(path) => self.path = path.to_string(),
            PathMatch::StartsWith(path) if !self.path.starts_with(&**path) => {
                self.path = format!("{path}{}", self.path.trim_start_matches('/'));
            }
            _ => {}
        }
        if let Some(method) = route.methods.first() {
            self.method = method.clone();
        }
        for HeaderMatch { name, value } in &route.headers {
            if let Ok(value) = HeaderValue::from_bytes(sample(value)) {
                self.headers.insert(name, value);
            }
        }
        for CookieMatch { name, value } in &route.cookies {
            let pair = [name.as_bytes(), b"=", sample(value)].concat();
            if let Ok(pair) = HeaderValue::from_bytes(&pair) {
                self.headers.append(COOKIE, pair);
            }
        }
        let asked = route.query.iter().map(|QueryMatch { name, value }| {
            format!("{name}={}", String::from_utf8_lossy(sample(value))).replace(' ', "+")
        });
        let query: Vec<String> = asked.chain(self.query).collect();
        self.query = (!query.is_empty()).then(|| query.join("&"));
        self
    }
}

/// A value that satisfies most of what the generated routes ask for.
fn sample(value: &ValueMatch) -> &[u8] {
    match value {
        ValueMatch::Exact(text) => text.as_bytes(),
        ValueMatch::Present | ValueMatch::Regex(_) | ValueMatch::SecretRegex(_) => b"2",
        ValueMatch::Secret(secret) => secret.expose(),
    }
}

/// A GET of `target` with these header fields.
fn get(target: &str, fields: &[(&'static str, &str)]) -> Request {
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query.to_owned())),
        None => (target, None),
    };
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        headers.append(*name, HeaderValue::from_str(value).unwrap());
    }
    Request { method: Method::GET, path: path.to_owned(), query, headers }
}

fn numbered(routes: &[RouteMatch]) -> Vec<(RouteId, &RouteMatch)> {
    (0..).map(RouteId).zip(routes).collect()
}

fn build(routes: &[RouteMatch]) -> HostTable {
    let (table, problems) = HostTable::build(&numbered(routes));
    assert_eq!(problems, []);
    table
}

/// Which of `routes` serves `request`.
fn winner(routes: &[RouteMatch], request: &Request) -> Option<u32> {
    build(routes).lookup(&request.facts()).map(|id| id.0)
}

#[test]
fn an_exact_path_wins_over_an_expression_and_an_expression_over_a_prefix() {
    let routes = [route("/a/b"), route("~/a/.*"), route("=/a/b")];
    assert_eq!(winner(&routes, &get("/a/b", &[])), Some(2));
    assert_eq!(winner(&routes, &get("/a/c", &[])), Some(1));
    assert_eq!(winner(&routes[..1], &get("/a/b", &[])), Some(0));
}

#[test]
fn the_longest_prefix_wins_whatever_the_order_of_declaration() {
    let routes = [route("/"), route("/a/b"), route("/a")];
    assert_eq!(winner(&routes, &get("/a/b/c", &[])), Some(1));
    assert_eq!(winner(&routes, &get("/a/x", &[])), Some(2));
    assert_eq!(winner(&routes, &get("/x", &[])), Some(0));
    assert_eq!(winner(&routes[1..], &get("/x", &[])), None);
}

#[test]
fn a_prefix_holds_for_whole_segments_only() {
    for prefix in ["/cart", "/cart/"] {
        let routes = [route(prefix)];
        for path in ["/cart", "/cart/", "/cart/x", "/cart//"] {
            assert_eq!(winner(&routes, &get(path, &[])), Some(0), "{prefix} {path}");
        }
        for path in ["/cartoon", "/car", "/", "/Cart", "/x/cart"] {
            assert_eq!(winner(&routes, &get(path, &[])), None, "{prefix} {path}");
        }
    }
}

#[test]
fn an_exact_path_minds_the_trailing_slash() {
    let routes = [route("=/cart"), route("=/")];
    assert_eq!(winner(&routes, &get("/cart", &[])), Some(0));
    assert_eq!(winner(&routes, &get("/cart/", &[])), None);
    assert_eq!(winner(&routes, &get("/", &[])), Some(1));
    assert_eq!(winner(&routes, &get("//", &[])), None);
}

#[test]
fn the_root_prefix_holds_for_everything_even_for_the_asterisk_form() {
    for path in ["/", "//", "/a/b", "*"] {
        assert_eq!(winner(&[route("/")], &get(path, &[])), Some(0), "{path}");
    }
}

#[test]
fn braces_stars_and_colons_in_configured_paths_are_literal() {
    for path in ["/{id}", "/{*rest}", "/:id", "/*", "/a{b", "/}", "/{{x}}"] {
        for kind in ["", "="] {
            let routes = [route(&format!("{kind}{path}"))];
            assert_eq!(winner(&routes, &get(path, &[])), Some(0), "{kind}{path}");
            assert_eq!(winner(&routes, &get("/anything", &[])), None, "{kind}{path}");
        }
    }
}

#[test]
fn expressions_are_tried_in_the_order_in_which_they_first_appear() {
    let routes = [route("~/.*"), route("~/a.*"), methods(route("~/.*"), &[Method::GET])];
    assert_eq!(winner(&routes, &get("/ab", &[])), Some(2));
    assert_eq!(winner(&routes[1..], &get("/ab", &[])), Some(0));
}

#[test]
fn within_a_path_order_method_headers_cookies_query_and_declaration_decide() {
    let plain = route("/a");
    let one_query = query(plain.clone(), "q", ValueMatch::Present);
    let one_cookie = cookie(plain.clone(), "c", ValueMatch::Present);
    let one_header = header(plain.clone(), "x-a", ValueMatch::Present);
    let two_headers = header(one_header.clone(), "x-b", ValueMatch::Present);
    let method = methods(plain.clone(), &[Method::GET]);
    let first = RouteMatch { order: -1, ..plain.clone() };
    let ascending =
        [plain.clone(), plain, one_query, one_cookie, one_header, two_headers, method, first];
    let request = get("/a?q", &[("x-a", ""), ("x-b", ""), ("cookie", "c=")]);
    for last in 1..ascending.len() {
        let expected = if last == 1 { 0 } else { last };
        assert_eq!(winner(&ascending[..=last], &request), Some(expected as u32));
    }
}

#[test]
fn order_says_nothing_about_other_paths() {
    let late = RouteMatch { order: 1, ..route("/a/b") };
    let routes = [late, RouteMatch { order: -1, ..route("/a") }];
    assert_eq!(winner(&routes, &get("/a/b", &[])), Some(0));
}

#[test]
fn a_prefix_of_bytes_ends_anywhere_and_the_longest_prefix_of_either_kind_wins() {
    let routes = [route("^/aaa"), route("/aaa"), route("^/aaa/"), route("^/aaacc"), route("^/")];
    for (path, expected) in [
        ("/aaa", Some(1)),
        ("/aaa/", Some(2)),
        ("/aaa/x", Some(2)),
        ("/aaab", Some(0)),
        ("/aaacccc/x", Some(3)),
        ("/aab", Some(4)),
        ("*", None),
    ] {
        assert_eq!(winner(&routes, &get(path, &[])), expected, "{path}");
    }
    assert_eq!(winner(&routes[2..3], &get("/aaa", &[])), None);
    let gated = [route("^/a"), header(route("^/ab"), "x-a", ValueMatch::Present)];
    assert_eq!(winner(&gated, &get("/abc", &[])), Some(0));
    assert_eq!(winner(&gated, &get("/abc", &[("x-a", "")])), Some(1));
}

#[test]
fn a_cookie_condition_sees_the_first_cookie_of_its_name_in_all_fields() {
    let exact = [cookie(route("/"), "canary", exactly("always"))];
    let with = |fields: &[&str]| {
        let fields: Vec<_> = fields.iter().map(|field| ("cookie", *field)).collect();
        winner(&exact, &get("/", &fields))
    };
    assert_eq!(with(&["a=1; canary=always"]), Some(0));
    assert_eq!(with(&["a=1", "canary=always"]), Some(0));
    assert_eq!(with(&["canary=never; canary=always"]), None);
    assert_eq!(with(&["Canary=always", "xcanary=always"]), None);
    assert_eq!(with(&[]), None);
    let regex = [cookie(route("/"), "v", like("[0-9]+"))];
    assert_eq!(winner(&regex, &get("/", &[("cookie", "v=12")])), Some(0));
    assert_eq!(winner(&regex, &get("/", &[("cookie", "v=12a")])), None);
    let present = [cookie(route("/"), "v", ValueMatch::Present)];
    assert_eq!(winner(&present, &get("/", &[("cookie", "v=")])), Some(0));
    assert_eq!(winner(&present, &get("/", &[("cookie", "v")])), None);
}

#[test]
fn a_longer_prefix_whose_conditions_fail_falls_back_to_the_shorter_ones() {
    let routes = [
        route("/"),
        methods(route("/a"), &[Method::GET]),
        header(route("/a/b"), "x-a", exactly("1")),
        methods(route("=/a/b/c"), &[Method::POST]),
    ];
    assert_eq!(winner(&routes, &get("/a/b/c", &[("x-a", "1")])), Some(2));
    assert_eq!(winner(&routes, &get("/a/b/c", &[])), Some(1));
    let mut request = get("/a/b/c", &[]);
    request.method = Method::PUT;
    assert_eq!(winner(&routes, &request), Some(0));
}

#[test]
fn methods_are_literal_and_may_be_unusual() {
    let purge = Method::from_bytes(b"PURGE").unwrap();
    let routes = [methods(route("/"), &[Method::GET, purge.clone()])];
    for (method, expected) in [
        (Method::GET, Some(0)),
        (purge, Some(0)),
        (Method::HEAD, None),
        (Method::from_bytes(b"BAN").unwrap(), None),
        (Method::from_bytes(b"get").unwrap(), None),
    ] {
        let request = Request { method, ..get("/", &[]) };
        assert_eq!(winner(&routes, &request), expected, "{}", request.method);
    }
    let request = Request { method: Method::from_bytes(b"BAN").unwrap(), ..get("/", &[]) };
    assert_eq!(winner(&[header(route("/"), "x-a", ValueMatch::Present)], &request), None);
    assert_eq!(winner(&[route("/")], &request), Some(0));
}

#[test]
fn several_fields_of_a_header_count_as_one() {
    let exact = [header(route("/"), "x-a", exactly("1, 2"))];
    assert_eq!(winner(&exact, &get("/", &[("x-a", "1, 2")])), Some(0));
    assert_eq!(winner(&exact, &get("/", &[("x-a", "1"), ("x-a", "2")])), Some(0));
    assert_eq!(winner(&exact, &get("/", &[("x-a", "1")])), None);
    assert_eq!(winner(&exact, &get("/", &[("x-a", "1"), ("x-a", "2"), ("x-a", "")])), None);
    assert_eq!(winner(&exact, &get("/", &[("x-b", "1, 2")])), None);
    let regex = [header(route("/"), "x-a", like("1.*3"))];
    assert_eq!(winner(&regex, &get("/", &[("x-a", "1"), ("x-a", "3")])), Some(0));
    assert_eq!(winner(&regex, &get("/", &[("x-a", "1")])), None);
    let cookie = [header(route("/"), "cookie", exactly("a=1; b=2"))];
    assert_eq!(winner(&cookie, &get("/", &[("cookie", "a=1"), ("cookie", "b=2")])), Some(0));
}

#[test]
fn a_header_that_must_be_present_may_be_empty() {
    let routes = [header(route("/"), "x-a", ValueMatch::Present)];
    assert_eq!(winner(&routes, &get("/", &[("x-a", "")])), Some(0));
    assert_eq!(winner(&routes, &get("/", &[])), None);
}

#[test]
fn query_conditions_see_the_first_occurrence_decoded() {
    let exact = [query(route("/"), "a b", exactly("c d"))];
    assert_eq!(winner(&exact, &get("/?a+b=c%20d&a+b=x", &[])), Some(0));
    assert_eq!(winner(&exact, &get("/?a+b=x&a+b=c+d", &[])), None);
    assert_eq!(winner(&exact, &get("/", &[])), None);
    let regex = [query(route("/"), "v", like("[0-9]+"))];
    assert_eq!(winner(&regex, &get("/?v=%31%32", &[])), Some(0));
    assert_eq!(winner(&regex, &get("/?v=12a", &[])), None);
    let present = [query(route("/"), "v", ValueMatch::Present)];
    assert_eq!(winner(&present, &get("/?x&v", &[])), Some(0));
    assert_eq!(winner(&present, &get("/?vv=1", &[])), None);
}

#[test]
fn a_broken_route_is_left_out_and_named_and_the_others_serve() {
    let routes = [
        route("~/a["),
        header(route("/"), "x-a", like("(")),
        query(route("/"), "q", like("*")),
        route("=no-slash"),
        route("/"),
    ];
    let (table, problems) = HostTable::build(&numbered(&routes));
    assert_eq!(problems.iter().map(|(id, _)| id.0).collect::<Vec<_>>(), [0, 1, 2, 3]);
    let request = get("/a", &[("x-a", "1")]);
    assert_eq!(table.lookup(&request.facts()), Some(RouteId(4)));
    let trials = table.explain(&request.facts());
    assert_eq!(trials[0], Trial { route: RouteId(4), outcome: Outcome::Won });
    for (trial, (id, problem)) in trials[1..].iter().zip(problems) {
        assert_eq!(*trial, Trial { route: id, outcome: Outcome::Lost(problem) });
    }
}

#[test]
fn explain_names_every_route_in_rank_order_with_its_first_reason() {
    let routes = [
        route("/"),
        route("/cart"),
        methods(route("/cart"), &[Method::POST, Method::PUT]),
        header(route("/cart"), "x-canary", exactly("always")),
        query(route("/cart"), "v", like("[0-9]+")),
        route("=/orders"),
        route("~/img/.*"),
        route("/reviews"),
        route("^/rev"),
        cookie(route("/cart"), "canary", exactly("always")),
        header(header(route("/cart"), "x-b", ValueMatch::Present), "x-c", ValueMatch::Present),
    ];
    let trials = build(&routes).explain(&get("/cart/1?v=x", &[("x-canary", "no")]).facts());
    let said: Vec<String> = trials
        .iter()
        .map(|trial| match &trial.outcome {
            Outcome::Lost(reason) => format!("{}: {reason}", trial.route.0),
            other => format!("{}: {other:?}", trial.route.0),
        })
        .collect();
    let expected = [
        "5: the path is not /orders",
        "6: the path does not match \"/img/.*\"",
        "7: the path is not below /reviews",
        "2: the method is not POST or PUT",
        "10: header x-b is absent",
        "3: header x-canary is not \"always\"",
        "9: cookie canary is not \"always\"",
        "4: query parameter v does not match \"[0-9]+\"",
        "1: Won",
        "8: the path does not start with /rev",
        "0: Shadowed",
    ];
    assert_eq!(said, expected);
}

#[test]
fn a_secret_value_is_compared_and_never_shown() {
    let secret = || ValueMatch::Secret(SecretBytes::new(*b"hunter2"));
    let routes = [header(route("/"), "x-key", secret()), query(route("/"), "key", secret())];
    assert_eq!(winner(&routes, &get("/", &[("x-key", "hunter2")])), Some(0));
    assert_eq!(winner(&routes, &get("/?key=hunter%32", &[])), Some(1));
    let table = build(&routes);
    let trials = table.explain(&get("/?key=x", &[("x-key", "x")]).facts());
    assert!(trials.iter().all(|trial| matches!(trial.outcome, Outcome::Lost(_))), "{trials:?}");
    assert!(!format!("{trials:?} {table:?}").contains("hunter2"));
}

#[test]
fn ten_thousand_nested_prefixes_stay_linear_in_memory_and_fall_back_to_the_root() {
    let mut path = String::new();
    let mut routes = vec![route("/")];
    for depth in 0..2_000 {
        path.push_str("/a");
        for _ in 0..5 {
            let deep = header(route(&path), "x-depth", exactly(&depth.to_string()));
            routes.push(deep);
        }
    }
    let table = build(&routes);
    assert_eq!(table.lookup(&get(&path, &[]).facts()), Some(RouteId(0)));
    let request = get(&path, &[("x-depth", "7")]);
    assert_eq!(table.lookup(&request.facts()), Some(RouteId(1 + 7 * 5)));
}

#[test]
fn a_hostile_path_is_looked_up_like_any_other() {
    let routes = [route("/"), route("/a/b"), route("=/a/b/c")];
    for path in ["/".repeat(8192), "/a".repeat(4096), format!("/{}", "a".repeat(8191))] {
        assert_eq!(winner(&routes, &get(&path, &[])), Some(0));
    }
    let path = format!("/a/b{}", "/".repeat(8188));
    assert_eq!(winner(&routes, &get(&path, &[])), Some(1));
}

#[test]
fn a_lookup_allocates_nothing() {
    let mut routes: Vec<RouteMatch> =
        (0..1_000).map(|n| route(&format!("/shop/{}/item-{n}", n % 7))).collect();
    routes.extend([
        route("/"),
        methods(header(route("/shop"), "x-a", exactly("1, 2")), &[Method::GET]),
        query(route("/shop"), "q", exactly("a b")),
        query(route("/shop"), "q", like("a.c")),
        cookie(route("/shop"), "c", like("a.c")),
        route("~/img/[a-z]+"),
        route("^/sho"),
        route("^/shop/3/item-9"),
    ]);
    let table = build(&routes);
    let requests = [
        get("/", &[]),
        get("/shop/3/item-10/x?q=a+c", &[("x-a", "1"), ("x-a", "2")]),
        get("/shop/x?q=a%20b", &[]),
        get("/shoppen", &[("cookie", "c=abc")]),
        get("/shop/3/item-99x", &[]),
        get("/img/cat", &[]),
        get(&"/shop".repeat(1_000), &[]),
    ];
    // The engine makes its caches on a thread's first use.
    let run = || requests.each_ref().map(|request| table.lookup(&request.facts()));
    let expected = run();
    let mut again = expected;
    let counted = allocation_counter::measure(|| again = run());
    assert_eq!(counted.count_total, 0);
    assert_eq!(again, expected);
    assert!(expected.iter().all(Option::is_some));
}
