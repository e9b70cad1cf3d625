//! Which route a request takes.

use std::collections::BTreeMap;

use crate::harness::*;

/// Every route answers with its own name, so no back end is needed to see which one won.
const TABLE: &str = r#"
listeners: { web: { bind: "@web@" } }
hosts:
  shop.example.com:
    routes:
      - { path: /, respond: { body: root } }
      - { path: /cart, respond: { body: cart } }
      - { path: /cart/items/, respond: { body: items } }
      - { path: /cart, match: exact, respond: { body: exact-cart } }
      - { path: /orders, methods: [POST, PUT], respond: { body: write-orders } }
      - { path: /orders, respond: { body: orders } }
      - { path: '/v[0-9]+/.*', match: regex, respond: { body: versioned } }
      - { path: "/b{r}ace", match: exact, respond: { body: brace } }
      - { path: "/a%20b", match: exact, respond: { body: encoded } }
      - { path: /beta, respond: { body: stable } }
      - { path: /beta, headers: { X-Beta: "yes" }, respond: { body: beta } }
      - { path: /beta, headers: { X-Beta: "yes", X-Group: { regex: "[a-c]+" } }, respond: { body: beta-group } }
      - { path: /any, headers: { X-Debug: { present: true } }, respond: { body: debug } }
      - { path: /pre, match: starts_with, respond: { body: starts } }
      - { path: /pre/, match: starts_with, respond: { body: starts-below } }
      - { path: /pre, respond: { body: pre } }
      - { path: /jar, cookies: { canary: always }, respond: { body: canary } }
      - { path: /jar, respond: { body: jar } }
      - { path: /search, query: { q: "cats & dogs" }, respond: { body: cats } }
      - { path: /search, query: { q: { present: true } }, respond: { body: query } }
      - { path: /search, query: { page: { regex: "[0-9]+" } }, respond: { body: page } }
  "*.example.com": { routes: [ { path: /, respond: { body: wildcard } } ] }
  "*.api.example.com": { routes: [ { path: /, respond: { body: deeper-wildcard } } ] }
  "*.one.example.com": { wildcard: one_label, routes: [ { path: /w, respond: { body: one-label } } ] }
  x.one.example.com: { routes: [ { path: /s, respond: { body: beside } } ] }
  "[::1]": { routes: [ { path: /, respond: { body: v6 } } ] }
  only.example.org: { routes: [ { path: /here, respond: { body: here } } ] }
  "*": { routes: [ { path: /default, respond: { body: default } } ] }
"#;

/// Method and target, Host, more header lines, and the body of the route that must win; `-` is
/// no route.
const ROWS: &[(&str, &str, &str, &str)] = &[
    // Paths: exact before regex before the longest prefix, by whole segments, case-sensitive.
    ("GET /", "shop.example.com", "", "root"),
    ("GET /cart", "shop.example.com", "", "exact-cart"),
    ("GET /cart?x=/cart/items", "shop.example.com", "", "exact-cart"),
    ("GET /cart/", "shop.example.com", "", "cart"),
    ("GET /cart/x", "shop.example.com", "", "cart"),
    ("GET /cartoon", "shop.example.com", "", "root"),
    ("GET /Cart", "shop.example.com", "", "root"),
    ("GET /cart/items", "shop.example.com", "", "items"),
    ("GET /cart/items/7", "shop.example.com", "", "items"),
    ("GET /v2/list", "shop.example.com", "", "versioned"),
    ("GET /v/list", "shop.example.com", "", "root"),
    ("GET /x/v2/list", "shop.example.com", "", "root"),
    ("GET /b{r}ace", "shop.example.com", "", "brace"),
    ("GET /brace", "shop.example.com", "", "root"),
    ("GET /a%20b", "shop.example.com", "", "encoded"),
    // Methods.
    ("POST /orders", "shop.example.com", "", "write-orders"),
    ("PUT /orders/7", "shop.example.com", "", "write-orders"),
    ("GET /orders", "shop.example.com", "", "orders"),
    // Headers: more conditions win.
    ("GET /beta", "shop.example.com", "", "stable"),
    ("GET /beta", "shop.example.com", "X-Beta: yes\r\n", "beta"),
    ("GET /beta", "shop.example.com", "x-beta: no\r\n", "stable"),
    ("GET /beta", "shop.example.com", "X-Beta: yes\r\nX-Group: abc\r\n", "beta-group"),
    ("GET /beta", "shop.example.com", "X-Beta: yes\r\nX-Group: abcd\r\n", "beta"),
    ("GET /any", "shop.example.com", "X-Debug:\r\n", "debug"),
    ("GET /any", "shop.example.com", "", "root"),
    // Prefixes of bytes beside those of whole segments.
    ("GET /prefix", "shop.example.com", "", "starts"),
    ("GET /pre", "shop.example.com", "", "pre"),
    ("GET /pre/x", "shop.example.com", "", "starts-below"),
    ("GET /pr", "shop.example.com", "", "root"),
    // Cookies: the first of a name counts, in whichever field it stands.
    ("GET /jar", "shop.example.com", "Cookie: a=1; canary=always\r\n", "canary"),
    ("GET /jar", "shop.example.com", "Cookie: a=1\r\nCookie: canary=always\r\n", "canary"),
    ("GET /jar", "shop.example.com", "Cookie: canary=never; canary=always\r\n", "jar"),
    ("GET /jar", "shop.example.com", "", "jar"),
    // Query parameters, decoded; the first of a name counts. Among equals, what stands first.
    ("GET /search?q=", "shop.example.com", "", "query"),
    ("GET /search?q=cats%20%26%20dogs", "shop.example.com", "", "cats"),
    ("GET /search?q=cats&q=x", "shop.example.com", "", "query"),
    ("GET /search?page=12", "shop.example.com", "", "page"),
    ("GET /search?page=x", "shop.example.com", "", "root"),
    ("GET /search", "shop.example.com", "", "root"),
    // Hosts: exact, the longest wildcard, any; case and port and a trailing dot do not matter.
    ("GET /", "SHOP.Example.COM", "", "root"),
    ("GET /", "shop.example.com:8080", "", "root"),
    ("GET /", "shop.example.com.", "", "root"),
    ("GET /", "a.example.com", "", "wildcard"),
    ("GET /", "a.b.example.com", "", "wildcard"),
    ("GET /", "x.api.example.com", "", "deeper-wildcard"),
    ("GET /", "api.example.com", "", "wildcard"),
    ("GET /w", "a.one.example.com", "", "one-label"),
    ("GET /w", "b.a.one.example.com", "", "wildcard"),
    ("GET /", "a.one.example.com", "", "-"),
    ("GET /s", "x.one.example.com", "", "beside"),
    ("GET /w", "x.one.example.com", "", "-"),
    ("GET /default", "example.com", "", "default"),
    ("GET /default", "10.1.2.3:80", "", "default"),
    ("GET /", "[::1]:8080", "", "v6"),
    // A host that is known answers for itself: no route of it matches, so none does.
    ("GET /here", "only.example.org", "", "here"),
    ("GET /default", "only.example.org", "", "-"),
    ("GET /", "unknown.example.net", "", "-"),
    // What is matched is the path without dot segments, encoded ones included.
    ("GET /x/../cart", "shop.example.com", "", "exact-cart"),
    ("GET /x/%2e%2E/cart/a", "shop.example.com", "", "cart"),
    ("GET /./orders", "shop.example.com", "", "orders"),
    ("GET /c%61rt", "shop.example.com", "", "exact-cart"),
];

#[tokio::test]
async fn the_most_specific_route_wins() {
    let proxy = Proxy::start(TABLE, &[]).await;
    let mut client = Client::connect(proxy.web()).await;
    let mut faults = Vec::new();
    for (line, host, headers, expected) in ROWS {
        client.send(format!("{line} HTTP/1.1\r\nHost: {host}\r\n{headers}\r\n")).await;
        let response = client.response().await;
        let won = if response.status == 404 { "-".into() } else { response.text() };
        if won != *expected {
            faults.push(format!("{line} at {host} {headers:?}: {won}, not {expected}"));
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[tokio::test]
async fn http_2_requests_take_the_same_routes() {
    let proxy = Proxy::start(TABLE, &[]).await;
    let mut h2 = H2::connect(proxy.web()).await;
    for (path, host, expected) in [
        ("/cart/items/7", "shop.example.com", "items"),
        ("/", "x.api.example.com", "deeper-wildcard"),
        ("/x/../cart", "shop.example.com", "exact-cart"),
        ("/default", "elsewhere", "default"),
    ] {
        assert_eq!(h2.get(host, path).await.text(), expected, "{host}{path}");
    }
    assert_eq!(h2.get("only.example.org", "/nothing").await.status, 404);
}

#[tokio::test]
async fn no_route_is_a_404_that_a_person_or_a_program_can_read() {
    let proxy = Proxy::start(TABLE, &[]).await;
    let response = get(proxy.web(), "only.example.org", "/nothing").await;
    response.assert_refused(404, "no_route");
    let kind = response.headers.get("content-type").unwrap_or_default();
    assert!(kind.starts_with("text/plain"), "{response}");
    assert!(!response.text().contains("/nothing"), "a body repeats nothing the client sent");

    let mut client = Client::connect(proxy.web()).await;
    client
        .send("GET /nothing HTTP/1.1\r\nHost: only.example.org\r\nAccept: application/json\r\n\r\n")
        .await;
    let response = client.response().await;
    assert_eq!(response.status, 404);
    assert_eq!(response.headers.get("content-type"), Some("application/json"));
    let error = response.json();
    assert_eq!((error["status"].as_u64(), error["reason"].as_str()), (Some(404), Some("no_route")));
    assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()), "{error}");
    assert!(error["request_id"].as_str().is_some_and(|id| !id.is_empty()), "{error}");

    let first = client.request("GET", "only.example.org", "/1").await.text();
    let second = client.request("GET", "only.example.org", "/1").await.text();
    assert_ne!(first, second, "every request has an id of its own");
}

#[tokio::test]
async fn the_bytes_that_were_matched_are_the_bytes_that_are_forwarded() {
    for encoded_slashes in ["refuse", "keep"] {
        matched_is_forwarded(encoded_slashes).await;
    }
}

async fn matched_is_forwarded(encoded_slashes: &str) {
    let app = Backend::saying("open").await;
    let admin = Backend::saying("closed").await;
    let proxy = Proxy::start(
        r#"
listeners: { web: { bind: "@web@", encoded_slashes: @slashes@ } }
hosts:
  "*":
    routes:
      - { path: /, upstream: app }
      - { path: /admin, upstream: admin }
      - { path: /moved, upstream: app, rewrite: { prefix: /v1 } }
upstreams:
  app: { endpoints: ["@app@"] }
  admin: { endpoints: ["@secret@"] }
"#,
        &[("app", &app.address()), ("secret", &admin.address()), ("slashes", &encoded_slashes)],
    )
    .await;
    let mut faults = Vec::new();
    for target in [
        "//admin",
        "/./admin",
        "/x/../admin",
        "/%2e%2e/admin",
        "/x/%2E%2e/admin",
        "/%61dmin",
        "/ADMIN",
        "/admin%2f",
        "/x%2f..%2fadmin",
        "/admin;a=b",
        "/x/..;/admin",
        "/x%5c..%5cadmin",
        "/admin%00",
        "/%252e%252e/admin",
        "/admin%3fz",
        "/%c0%ae/admin",
        "/x/..%2fadmin",
        "/admin/..",
        "/admin/../x",
        "/admin/%2e",
        "/..",
        "/a/../../admin",
        "/admin%2fx",
        "/a/..%2f..%2fadmin",
        "/%2fadmin",
        "/%2Fadmin/x",
        "/admin/%2fx",
        "/admin/%2f..%2f..%2f",
    ] {
        let (before_app, before_admin) = (app.requests().len(), admin.requests().len());
        let response = get(proxy.web(), "t", target).await;
        let seen = match (app.requests().get(before_app), admin.requests().get(before_admin)) {
            (Some(seen), None) => (false, seen.target.clone()),
            (None, Some(seen)) => (true, seen.target.clone()),
            (None, None) if response.status == 400 => continue,
            other => {
                faults.push(format!("{target}: {} {other:?}", response.status));
                continue;
            }
        };
        // A back end that decodes and resolves once more must come to the same conclusion.
        let resolved = resolve(&seen.1);
        let is_admin = resolved == "/admin" || resolved.starts_with("/admin/");
        if is_admin != seen.0 {
            faults.push(format!("{target}: forwarded {} to the wrong upstream", seen.1));
        }
        if seen.1.contains("..") && !seen.1.contains("..;") {
            faults.push(format!("{target}: dot segments reached the upstream in {}", seen.1));
        }
    }
    assert!(faults.is_empty(), "{encoded_slashes}:\n{}", faults.join("\n"));
    for (target, forwarded) in [
        ("/api/queues/%2f/q?a=%2f", "/api/queues/%2F/q?a=%2f"),
        ("/@scope%2Fpkg", "/@scope%2Fpkg"),
        ("/moved/a%2fb", "/v1/a%2Fb"),
    ] {
        let response = get(proxy.web(), "t", target).await;
        match encoded_slashes {
            "keep" => assert_eq!(app.last().target, forwarded),
            _ => assert_eq!(response.status, 400, "{target}"),
        }
    }
}

/// The path as a careful back end reads it: unreserved characters decoded once, dot segments
/// removed.
fn resolve(path: &str) -> String {
    let mut decoded = String::new();
    let mut rest = path;
    while let Some((before, after)) = rest.split_once('%') {
        decoded.push_str(before);
        let code = after.get(..2).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match code {
            Some(byte) if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) => {
                decoded.push(char::from(byte));
                rest = &after[2..];
            }
            _ => {
                decoded.push('%');
                rest = after;
            }
        }
    }
    decoded.push_str(rest);
    let mut segments: Vec<&str> = Vec::new();
    for segment in decoded.split('/').skip(1) {
        match segment {
            "." => {}
            ".." => drop(segments.pop()),
            other => segments.push(other),
        }
    }
    format!("/{}", segments.join("/"))
}

#[tokio::test]
async fn hosts_can_be_limited_to_listeners() {
    let proxy = Proxy::start(
        r#"
listeners: { web: { bind: "@web@" }, inner: { bind: "@inner@" } }
hosts:
  "*": { routes: [ { path: /, respond: { body: everyone } } ] }
  ops.example.com: { listeners: [inner], routes: [ { path: /, respond: { body: ops } } ] }
"#,
        &[],
    )
    .await;
    assert_eq!(get(proxy.addr("inner"), "ops.example.com", "/").await.text(), "ops");
    assert_eq!(get(proxy.addr("inner"), "x", "/").await.text(), "everyone");
    assert_eq!(get(proxy.web(), "ops.example.com", "/").await.text(), "everyone");
}

#[tokio::test]
async fn weights_share_out_the_requests() {
    let (one, two, never) =
        (Server::named("one").await, Server::named("two").await, Server::named("never").await);
    let proxy = Proxy::start(
        r#"
listeners: { web: { bind: "@web@" } }
hosts:
  "*":
    routes:
      - path: /
        upstreams: [ { name: one, weight: 8 }, { name: two, weight: 2 }, { name: never, weight: 0 } ]
upstreams:
  one: { endpoints: ["@one@"] }
  two: { endpoints: ["@two@"] }
  never: { endpoints: ["@never@"] }
"#,
        &[("one", &one.address()), ("two", &two.address()), ("never", &never.address())],
    )
    .await;
    let mut counts = BTreeMap::<String, u32>::new();
    let mut client = Client::connect(proxy.web()).await;
    for _ in 0..500 {
        let response = client.request("GET", "t", "/").await;
        *counts.entry(Echoed::of(&response.body).name).or_default() += 1;
    }
    let two = counts.get("two").copied().unwrap_or_default();
    // 100 expected; a fair draw of one in five stays within four standard deviations (36).
    assert!((64..=136).contains(&two), "{counts:?}");
    assert!(!counts.contains_key("never"), "{counts:?}");
}

#[tokio::test]
async fn endpoints_take_turns_and_by_weight() {
    let servers = [Server::named("a").await, Server::named("b").await, Server::named("c").await];
    let [a, b, c] = servers.each_ref().map(Server::address);
    let proxy = Proxy::start(
        r#"
listeners: { web: { bind: "@web@" } }
hosts:
  "*":
    routes:
      - { path: /, upstream: equal }
      - { path: /weighted, upstream: weighted }
upstreams:
  equal: { balance: round_robin, endpoints: ["@a@", "@b@", "@c@"] }
  weighted: { balance: round_robin, endpoints: [ { address: "@a@", weight: 5 }, "@b@", "@c@" ] }
"#,
        &[("a", &a), ("b", &b), ("c", &c)],
    )
    .await;
    let mut client = Client::connect(proxy.web()).await;
    for (path, expected) in [("/", [30, 30, 30]), ("/weighted", [50, 10, 10])] {
        let mut counts = BTreeMap::<String, i32>::new();
        for _ in 0..expected.iter().sum() {
            let response = client.request("GET", "t", path).await;
            *counts.entry(Echoed::of(&response.body).name).or_default() += 1;
        }
        for (name, expected) in ["a", "b", "c"].into_iter().zip(expected) {
            let count = counts.get(name).copied().unwrap_or_default();
            assert!((count - expected).abs() <= 1, "{path}: {counts:?}");
        }
    }
}
