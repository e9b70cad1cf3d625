//! Explanations of small configurations.

use std::sync::Arc;

use super::*;
use crate::control::merge;
use crate::ir::EndpointAddress;
use crate::provider::file::{Inputs, translate};
use crate::snapshot::Compiler;
use crate::telemetry::Metrics;
use crate::tls::TlsShared;
use crate::upstream::{Environment, Registry, Target as Address};

const CONFIG: &str = r#"
listeners:
  web: { bind: "127.0.0.1:8080" }
  other: { bind: "127.0.0.1:8081" }
  websecure: { bind: "127.0.0.1:8443", tls: {} }
hosts:
  shop.example:
    routes:
      - { name: front, path: /, upstreams: [ { name: app, weight: 3 }, { name: beta } ] }
      - { name: cart, path: /cart, methods: [POST], upstream: app, rewrite: { prefix: /v2 }, timeout: 5s }
      - { name: gated, path: /gated, headers: { x-key: "${file:key}" }, upstream: app,
          request_headers: { set: { authorization: "Bearer ${file:key}", x-plain: seen } } }
  "*.shop.example": { routes: [ { name: moved, path: /, redirect: { scheme: https, host: shop.example } } ] }
upstreams:
  app: { endpoints: ["10.0.0.1:80", { address: "10.0.0.2:80", weight: 2 }] }
  beta: { endpoints: ["beta.internal:80"] }
"#;

const SECRET: &str = "s3cr3t-t0ken";

fn compiled(text: &str) -> Snapshot {
    let mut inputs = Inputs::from_text("x.yaml", text, Default::default());
    inputs.add_file("key", SECRET.as_bytes());
    let translation = translate(&inputs);
    assert!(translation.usable, "{:?}", translation.problems);
    let (config, _) = merge(&[Arc::new(translation.fragment)]);
    let metrics = Metrics::new(1);
    let registry = Arc::new(Registry::new(metrics.clone(), Environment::new(1, 0)));
    let mut compiler = Compiler::new(metrics, registry, TlsShared::new().unwrap(), 1);
    compiler.compile(Arc::new(config), None, |_, upstream| {
        let address = |endpoint: &crate::ir::EndpointSpec| match endpoint.address {
            EndpointAddress::Socket(address) => Some(Address::new(address, None, endpoint)),
            _ => None,
        };
        upstream.endpoints.iter().filter_map(address).collect()
    })
}

fn ask(method: &str, url: &str, headers: &[&str]) -> Explanation {
    explain(&compiled(CONFIG), &Question::new(url, method, headers).unwrap())
}

fn only(explanation: &Explanation) -> &OnListener {
    assert_eq!(explanation.listeners.len(), 1, "{explanation}");
    &explanation.listeners[0]
}

#[test]
fn the_winner_comes_with_its_policies_and_endpoints_and_the_losers_with_reasons() {
    let explanation = ask("POST", "http://SHOP.example:8080//cart/./7?x=1", &[]);
    assert_eq!(explanation.request.path, "/cart/7");
    let on = only(&explanation);
    assert_eq!((on.listener.as_str(), on.host.as_deref()), ("web", Some("shop.example")));
    assert_eq!(on.host_match.as_deref(), Some("exact"));
    let won = on.won.as_ref().unwrap();
    assert_eq!(won.route.name, "cart");
    assert_eq!(won.policies.timeout_ms, Some(5000));
    assert_eq!(won.upstream_target.as_deref(), Some("/v2/7?x=1"));
    let endpoints = &won.upstreams[0].upstream.endpoints;
    assert_eq!((endpoints[1].address.as_str(), endpoints[1].weight), ("10.0.0.2:80", 2));
    let outcomes: Vec<_> =
        on.others.iter().map(|o| (o.route.as_str(), o.outcome.as_str())).collect();
    assert_eq!(outcomes, [("gated", "lost"), ("front", "shadowed")]);
    let text = explanation.to_string();
    for part in ["route    cart: prefix /cart", "x.yaml:10:9", "10.0.0.1:80", "request 5s"] {
        assert!(text.contains(part), "no {part:?} in\n{text}");
    }
    assert!(text.contains("lost     gated: prefix /gated: the path is not below /gated"), "{text}");
}

#[test]
fn the_first_condition_that_fails_is_the_reason() {
    let on = ask("GET", "http://shop.example:8080/cart", &[]);
    let cart = only(&on).others.iter().find(|other| other.route == "cart").unwrap();
    assert_eq!(cart.reason, "the method is not POST");
    let won = only(&on).won.as_ref().unwrap();
    assert_eq!(won.upstreams.iter().map(|target| target.weight).collect::<Vec<_>>(), [3, 1]);
    assert!(on.to_string().contains("beta.internal:80  (not resolved)"), "{on}");
}

#[test]
fn a_wildcard_host_and_a_redirect_are_told() {
    let explanation = ask("GET", "http://a.shop.example:8080/x?y", &[]);
    let on = only(&explanation);
    assert_eq!(
        (on.host.as_deref(), on.host_match.as_deref()),
        (Some("*.shop.example"), Some("wildcard"))
    );
    assert_eq!(on.won.as_ref().unwrap().location.as_deref(), Some("https://shop.example/x?y"));
}

#[test]
fn what_no_host_or_route_matches_is_said_to_be_404() {
    let explanation = ask("GET", "http://unknown.example:8080/", &[]);
    assert!(only(&explanation).won.is_none() && only(&explanation).host.is_none());
    assert!(explanation.to_string().contains("none matches: answered 404"), "{explanation}");
}

#[test]
fn the_port_picks_the_listener_and_without_one_the_scheme_does() {
    let listeners = |url: &str| -> Vec<String> {
        ask("GET", url, &[]).listeners.into_iter().map(|on| on.listener).collect()
    };
    assert_eq!(listeners("http://shop.example:8081/"), ["other"]);
    assert_eq!(listeners("http://shop.example/").len(), 2);
    assert_eq!(listeners("https://shop.example/"), ["websecure"]);
    let mapped = ask("GET", "http://shop.example:9999/", &[]);
    assert!(mapped.note.is_some_and(|note| note.contains("9999")));
}

#[test]
fn what_never_reaches_a_route_is_refused_as_the_data_plane_does() {
    let refused = |method: &str, url: &str| ask(method, url, &[]).refused.map(|r| r.status);
    assert_eq!(refused("GET", "http://shop.example:8080/a%2fb"), Some(400));
    assert_eq!(refused("TRACE", "http://shop.example:8080/"), Some(405));
    assert_eq!(refused("GET", "http://shop.example:8080/a"), None);
}

#[test]
fn no_view_of_a_snapshot_shows_what_came_out_of_a_file() {
    let snapshot = compiled(CONFIG);
    let right = format!("x-key: {SECRET}");
    let question =
        |headers: &[&str]| Question::new("http://shop.example:8080/gated", "GET", headers).unwrap();
    let passed = explain(&snapshot, &question(&[&right]));
    assert_eq!(only(&passed).won.as_ref().unwrap().route.name, "gated");
    let stopped = explain(&snapshot, &question(&["x-key: guess"]));
    assert_eq!(only(&stopped).won.as_ref().unwrap().route.name, "front");
    let all = [
        serde_json::to_string(&*snapshot.config).unwrap(),
        serde_json::to_string(&view::routes(&snapshot)).unwrap(),
        serde_json::to_string(&view::upstreams(&snapshot, Moment::now())).unwrap(),
        serde_json::to_string(&passed).unwrap() + &passed.to_string(),
        serde_json::to_string(&stopped).unwrap() + &stopped.to_string(),
        format!("{:?}", snapshot.config),
    ];
    for text in all {
        assert!(!text.contains(SECRET), "{text}");
    }
    assert!(passed.to_string().contains("x-plain: seen"), "{passed}");
}

#[test]
fn an_explanation_survives_the_way_over_the_api() {
    let explanation = ask("POST", "http://shop.example:8080/cart", &[]);
    let json = serde_json::to_string(&explanation).unwrap();
    assert_eq!(serde_json::from_str::<Explanation>(&json).unwrap(), explanation);
}

const NEW_CONDITIONS: &str = r#"
listeners:
  web: { bind: "127.0.0.1:8080" }
  websecure: { bind: "127.0.0.1:8443", tls: {} }
hosts:
  shop.example:
    routes:
      - { name: front, path: /, upstream: app, https_redirect: on, hsts: on }
      - { name: starts, path: /pre, match: starts_with, upstream: app,
          rewrite: { regex: "(?i)^/PRE([a-z]+)", path: "/$1" } }
      - { name: canary, path: /, cookies: { canary: always }, upstream: app }
  "*.shop.example":
    wildcard: one_label
    routes: [ { name: wild, path: /, respond: {} } ]
upstreams:
  app: { endpoints: ["10.0.0.1:80"] }
"#;

#[test]
fn cookies_prefixes_of_bytes_and_expressions_are_told() {
    let snapshot = compiled(NEW_CONDITIONS);
    let ask = |url: &str, headers: &[&str]| {
        explain(&snapshot, &Question::new(url, "GET", headers).unwrap()).to_string()
    };
    let text = ask("http://shop.example:8080/prefix?q", &["X-Forwarded-Proto: https"]);
    for part in [
        "starts: starts_with /pre",
        "sends    /fix?q",
        "path becomes /$1 where \"(?i)^/PRE([a-z]+)\" is found in it",
        "lost     canary: prefix /: cookie canary is not \"always\"",
    ] {
        assert!(text.contains(part), "no {part:?} in\n{text}");
    }
    let text = ask("http://shop.example:8080/x", &["Cookie: canary=always"]);
    assert!(text.contains("cookie canary=always"), "{text}");
    assert!(text.contains("lost     starts: starts_with /pre: the path does not start with /pre"));
    let text = ask("http://a.shop.example:8080/", &[]);
    assert!(text.contains("*.shop.example (wildcard of one label)"), "{text}");
}

const RULES: &str = r#"
listeners: { web: { bind: "127.0.0.1:8080" } }
hosts:
  shop.example:
    rules:
      - when: { value: "{uri}", is: /robots.txt }
        respond: { status: 200, body: none }
      - rewrite: { regex: "^/v1/(.*)$", path: "/{1}?v=1" }
      - when: { value: "{remote_addr}", is: 10.0.0.9 }
        respond: { status: 403 }
    routes:
      - name: front
        path: /
        upstream: app
        https_redirect: on
        rules: [ { when: { value: "{http_x_bot}" }, redirect: { to: "https://{host}/bots?{uri}" } } ]
      - name: old
        path: /old
        upstream: app
        rewrite: { path: /never }
        rules:
          - rewrite: { regex: "^/old/circle", path: "/old/circle", then: lookup }
          - rewrite: { regex: "^/old/stop", path: "/stopped", then: stop }
          - rewrite: { regex: "^/old/(.*)$", path: "/old/circle/{1}" , then: continue }
          - rewrite: { regex: "^/old/circle/away", path: "/new", then: lookup }
      - { name: new, path: /new, upstream: app }
      - { name: hidden, path: /hidden, upstream: app, rules: [ { redirect: { to: "/x?${file:key}" } } ] }
  shown.example:
    client_auth: { ca: "ca.pem", mode: optional }
    rules: [ { respond: { status: 410 } } ]
    routes: []
upstreams: { app: { endpoints: ["10.0.0.1:80"] } }
"#;

#[test]
fn rules_that_answer_or_change_the_path_are_gone_through() {
    let snapshot = compiled(RULES);
    let ask = |path: &str, headers: &[&str], from: Option<&str>| {
        let url = format!("http://shop.example:8080{path}");
        let question = Question::new(&url, "GET", headers).unwrap();
        let from = from.map(|address| address.parse().unwrap());
        let explanation = explain(&snapshot, &question.from(from));
        (only(&explanation).clone(), explanation.to_string())
    };
    let (on, text) = ask("/robots.txt", &[], None);
    assert!(text.contains("answer   200: a rule of the host") && on.won.is_none(), "{text}");
    assert!(!text.contains("https"), "{text}");
    let (on, text) = ask("/a", &["x-bot: yes"], None);
    let answer = on.won.unwrap().answer.unwrap();
    assert_eq!(
        (answer.status, answer.location.as_deref()),
        (302, Some("https://shop.example/bots?/a"))
    );
    assert!(text.contains("answer   302: a rule of the route"), "{text}");
    assert!(!text.contains("redirect to https"), "{text}");
    let (_, text) = ask("/a", &[], Some("10.0.0.9"));
    assert!(text.contains("answer   403: a rule of the host") && !text.contains("note"), "{text}");
    let (on, text) = ask("/v1/a?b=c", &[], None);
    assert_eq!(on.leads_to.as_deref(), Some("/a?v=1&b=c"));
    assert!(text.contains("some rules look at what is not known here"), "{text}");
    assert!(text.contains("Location: https://shop.example/a?v=1&b=c"), "{text}");
    let (on, text) = ask("/old/stop", &[], None);
    assert_eq!(on.won.unwrap().upstream_target.as_deref(), Some("/stopped"), "{text}");
    let (on, text) = ask("/old/away", &[], None);
    assert_eq!(on.won.unwrap().route.name, "new", "{text}");
    let (on, text) = ask("/old/circle", &[], None);
    assert!(text.contains("answer   500: its rewrites lead in a circle"), "{text}");
    assert!(on.won.is_none() && on.others.is_empty(), "{text}");
    let (_, text) = ask("/", &["host: shown.example"], None);
    assert!(text.contains("410: a rule of the host, to whom `client_auth` lets in"), "{text}");
    let (on, text) = ask("/hidden", &[], None);
    let json = serde_json::to_string(&on).unwrap();
    assert!(text.contains("Location: <redacted>"), "{text}");
    assert!(!text.contains(SECRET) && !json.contains(SECRET), "{text} {json}");
}

#[test]
fn a_request_that_is_redirected_to_https_is_told_as_such() {
    let snapshot = compiled(NEW_CONDITIONS);
    let ask = |url: &str, headers: &[&str]| {
        let explanation = explain(&snapshot, &Question::new(url, "GET", headers).unwrap());
        (only(&explanation).won.clone().unwrap(), explanation.to_string())
    };
    let (won, text) = ask("http://shop.example:8080/x/?q=1", &[]);
    assert_eq!(won.https_redirect.as_deref(), Some("https://shop.example/x/?q=1"));
    assert!(won.upstreams.is_empty() && won.upstream_target.is_none());
    for part in ["answer   redirect to https", "https    redirect 308", "max-age=31536000"] {
        assert!(text.contains(part), "no {part:?} in\n{text}");
    }
    for (url, headers) in [
        ("http://shop.example:8080/x", &["X-Forwarded-Proto: https"][..]),
        ("http://shop.example:8080/.well-known/acme-challenge/x", &[]),
        ("https://shop.example:8443/x", &[]),
    ] {
        let (won, text) = ask(url, headers);
        assert_eq!((won.https_redirect, won.upstreams.len()), (None, 1), "{text}");
    }
}

#[test]
fn an_encoded_slash_is_explained_as_the_proxy_takes_it() {
    let keeps = CONFIG.replace("127.0.0.1:8080\"", "127.0.0.1:8080\", encoded_slashes: keep");
    let (refuses, keeps) = (compiled(CONFIG), compiled(&keeps));
    let ask = |snapshot: &Snapshot, path: &str| {
        let url = format!("http://shop.example:8080{path}");
        explain(snapshot, &Question::new(&url, "POST", &[] as &[&str]).unwrap())
    };
    assert_eq!(ask(&refuses, "/a%2Fb").refused.map(|refused| refused.status), Some(400));
    let kept = ask(&keeps, "/a%2fb");
    assert_eq!(kept.request.path, "/a%2Fb");
    assert_eq!(
        only(&kept).won.as_ref().map(|won| won.route.name.as_str()),
        Some("front"),
        "{kept}"
    );
    // As a slash it leads to the cart.
    let led = ask(&keeps, "/cart%2Fx").to_string();
    assert!(led.contains("answer   400: an encoded slash that leads to another route"), "{led}");
}
