//! Which endpoint requests that belong together meet.

use std::collections::{BTreeMap, BTreeSet};

use crate::harness::*;

/// Echoes that say their names, and the endpoints list that names them.
async fn servers(names: &[&str]) -> (Vec<Server>, String) {
    let mut servers = Vec::new();
    for name in names {
        servers.push(Server::named(name).await);
    }
    let endpoints: Vec<String> =
        servers.iter().map(|server| format!("\"{}\"", server.address())).collect();
    (servers, endpoints.join(", "))
}

fn config(endpoints: &str, policy: &str) -> String {
    format!(
        r#"
listeners: {{ web: {{ bind: "@web@", trusted_proxies: ["127.0.0.1"] }} }}
hosts: {{ "*": {{ routes: [ {{ path: /, upstream: app }} ] }} }}
upstreams: {{ app: {{ {policy}, endpoints: [{endpoints}] }} }}
"#
    )
}

/// Who answers a request with these header lines.
async fn who(proxy: &Proxy, target: &str, lines: &str) -> String {
    let mut client = Client::connect(proxy.web()).await;
    client.send(format!("GET {target} HTTP/1.1\r\nHost: t\r\n{lines}\r\n")).await;
    let response = client.response().await;
    assert_eq!(response.status, 200, "{}", response.text());
    Echoed::of(&response.body).name
}

/// Who answers, and the pair a client would send back.
async fn session(proxy: &Proxy, cookie: Option<&str>) -> (String, Option<String>) {
    let line = cookie.map(|cookie| format!("Cookie: a=b; {cookie}\r\n")).unwrap_or_default();
    let mut client = Client::connect(proxy.web()).await;
    client.send(format!("GET / HTTP/1.1\r\nHost: t\r\n{line}\r\n")).await;
    let response = client.response().await;
    assert_eq!(response.status, 200, "{}", response.text());
    let set = response.headers.get("set-cookie");
    let pair = set.map(|set| set.split(';').next().unwrap_or_default().to_owned());
    (Echoed::of(&response.body).name, pair)
}

/// Every request of a key meets one endpoint, different keys meet several, and none goes where
/// its own key does not lead.
async fn sticks(policy: &str, request: impl Fn(usize) -> (String, String)) {
    let (_servers, endpoints) = servers(&["one", "two", "three", "four"]).await;
    let proxy = Proxy::start(&config(&endpoints, policy), &[]).await;
    let mut met = BTreeSet::new();
    for key in 0..24 {
        let (target, lines) = request(key);
        let first = who(&proxy, &target, &lines).await;
        for _ in 0..3 {
            assert_eq!(who(&proxy, &target, &lines).await, first, "{policy}: key {key}");
        }
        met.insert(first);
    }
    assert!(met.len() > 2, "{policy}: only {met:?}");
}

#[tokio::test]
async fn requests_of_one_client_address_meet_one_endpoint() {
    // The balancer sees the client behind a trusted proxy, not the proxy.
    sticks("balance: client_ip", |key| ("/".into(), format!("X-Forwarded-For: 203.0.{key}.7\r\n")))
        .await;
}

#[tokio::test]
async fn addresses_of_one_ipv6_network_meet_one_endpoint() {
    let (_servers, endpoints) = servers(&["one", "two", "three", "four"]).await;
    let proxy = Proxy::start(&config(&endpoints, "balance: client_ip"), &[]).await;
    for network in 0..8 {
        let mut met = BTreeSet::new();
        for host in 1..6 {
            let line = format!("X-Forwarded-For: 2001:db8:0:{network}::{host}\r\n");
            met.insert(who(&proxy, "/", &line).await);
        }
        assert_eq!(met.len(), 1, "network {network}: {met:?}");
    }
}

#[tokio::test]
async fn requests_with_one_header_cookie_query_or_path_meet_one_endpoint() {
    let plain = |lines: &str| ("/".to_owned(), lines.to_owned());
    sticks("balance: { hash: { header: x-user } }", |n| plain(&format!("X-User: {n}\r\n"))).await;
    sticks("balance: { hash: { cookie: sid }, table: ring }", |n| {
        plain(&format!("Cookie: x=1; sid={n}\r\n"))
    })
    .await;
    sticks("balance: { hash: { query: user } }", |n| (format!("/?a=1&user={n}"), String::new()))
        .await;
    sticks("balance: { hash: [path, { header: x-user }] }", |n| {
        (format!("/{}", n % 5), format!("X-User: {}\r\n", n / 5))
    })
    .await;
}

#[tokio::test]
async fn a_key_keeps_its_endpoint_when_another_endpoint_goes() {
    let (servers, endpoints) = servers(&["one", "two", "three", "four"]).await;
    let policy = "balance: { hash: { header: x-user } }";
    let mut proxy = Proxy::start(&config(&endpoints, policy), &[]).await;
    let line = |key: usize| format!("X-User: {key}\r\n");
    let mut before = BTreeMap::new();
    for key in 0..40 {
        before.insert(key, who(&proxy, "/", &line(key)).await);
    }
    let rest: Vec<String> =
        servers[1..].iter().map(|server| format!("\"{}\"", server.address())).collect();
    proxy.rewrite(&config(&rest.join(", "), policy));
    eventually(STEP, "the first endpoint is out of use", async || {
        for key in 0..40 {
            if who(&proxy, "/", &line(key)).await == "one" {
                return false;
            }
        }
        true
    })
    .await;
    let mut moved = 0;
    for (key, was) in before {
        let is = who(&proxy, "/", &line(key)).await;
        moved += usize::from(was != "one" && is != was);
    }
    // Maglev moves a few more keys than it must: with four endpoints, next to none.
    assert!(moved <= 4, "{moved} of 40 keys moved that need not");
}

#[tokio::test]
async fn a_session_cookie_leads_back_to_its_endpoint() {
    let (_servers, endpoints) = servers(&["one", "two", "three", "four"]).await;
    let policies = [
        "affinity: cookie",
        "affinity: { cookie: { name: portcullis, secret: sixteen-or-more-characters } }",
        "balance: round_robin, affinity: { cookie: portcullis, mode: persistent }",
    ];
    for policy in policies {
        let proxy = Proxy::start(&config(&endpoints, policy), &[]).await;
        let mut met = BTreeSet::new();
        for _ in 0..12 {
            let (first, pair) = session(&proxy, None).await;
            let pair = pair.expect("a new client is given a session");
            assert!(pair.starts_with("portcullis="), "{policy}: {pair}");
            assert!(!pair.contains("127.0.0.1"), "no address in the open");
            for _ in 0..3 {
                let (name, again) = session(&proxy, Some(&pair)).await;
                assert_eq!(name, first, "{policy}");
                assert_eq!(again, None, "{policy}: a session that holds is not set again");
            }
            met.insert(first);
        }
        assert!(met.len() > 1, "{policy}: only {met:?}");
    }
}

#[tokio::test]
async fn a_session_moves_on_when_its_endpoint_refuses() {
    let (mut servers, endpoints) = servers(&["one", "two", "three"]).await;
    let proxy = Proxy::start(&config(&endpoints, "affinity: cookie"), &[]).await;
    let mut pair = None;
    eventually(STEP, "a session at the first endpoint", async || {
        let (name, given) = session(&proxy, None).await;
        pair = given;
        name == "one"
    })
    .await;
    drop(servers.remove(0));
    let (name, moved) = session(&proxy, pair.as_deref()).await;
    assert_ne!(name, "one");
    let moved = moved.expect("the session is told where it is now");
    for _ in 0..4 {
        assert_eq!(session(&proxy, Some(&moved)).await, (name.clone(), None));
    }
}

#[tokio::test]
async fn sessions_stay_with_an_endpoint_that_is_taken_out_of_service() {
    let (servers, endpoints) = servers(&["one", "two"]).await;
    for policy in ["affinity: cookie", "affinity: { cookie: portcullis, mode: persistent }"] {
        let mut proxy = Proxy::start(&config(&endpoints, policy), &[]).await;
        let mut pair = None;
        eventually(STEP, "a session at the first endpoint", async || {
            let (name, given) = session(&proxy, None).await;
            pair = given;
            name == "one"
        })
        .await;
        let list = format!(
            "{{ address: \"{}\", draining: true }}, \"{}\"",
            servers[0].address(),
            servers[1].address()
        );
        proxy.rewrite(&config(&list, policy));
        let mut quiet = 0;
        eventually(STEP, "no new session comes to it", async || {
            let (name, _) = session(&proxy, None).await;
            quiet = if name == "two" { quiet + 1 } else { 0 };
            quiet > 20
        })
        .await;
        for _ in 0..4 {
            assert_eq!(session(&proxy, pair.as_deref()).await, ("one".into(), None), "{policy}");
        }
    }
}

#[tokio::test]
async fn a_session_stays_with_the_upstream_it_began_at() {
    let (_main, at_main) = servers(&["main-1", "main-2"]).await;
    let (_next, at_next) = servers(&["next-1", "next-2"]).await;
    let config = |sticky: bool, main: u32, next: u32| {
        format!(
            r#"
listeners: {{ web: {{ bind: "@web@" }} }}
hosts: {{ "*": {{ routes: [ {{ path: /, sticky: {sticky},
  upstreams: [{{ name: main, weight: {main} }}, {{ name: next, weight: {next} }}] }} ] }} }}
upstreams:
  main: {{ affinity: {{ cookie: sid }}, endpoints: [{at_main}] }}
  next: {{ affinity: {{ cookie: sid }}, endpoints: [{at_next}] }}
"#
        )
    };
    let mut proxy = Proxy::start(&config(true, 1, 0), &[]).await;
    let (at, cookie) = session(&proxy, None).await;
    assert!(at.starts_with("main"), "{at}");
    let of_main = cookie.expect("a session");
    // All new clients go elsewhere from now on.
    proxy.rewrite(&config(true, 0, 1));
    let new = async || session(&proxy, None).await.0;
    eventually(STEP, "new clients meet the other", async || new().await.starts_with("next")).await;
    let of_next = session(&proxy, None).await.1.expect("a session");
    for _ in 0..5 {
        assert_eq!(session(&proxy, Some(&of_main)).await, (at.clone(), None));
        assert!(session(&proxy, Some(&of_next)).await.0.starts_with("next"));
    }
    let explained = proxy.admin("/api/explain?url=http%3A%2F%2Ft%2F").await.text();
    assert!(explained.contains(r#""sticky":true"#), "{explained}");
    // Without it the weights are for everybody.
    proxy.rewrite(&config(false, 0, 1));
    let moved = async || session(&proxy, Some(&of_main)).await.0.starts_with("next");
    eventually(STEP, "sessions go by weight", moved).await;
}
