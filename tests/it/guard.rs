//! Who may use a route, and how much of it: access lists, rate limits, requests at once.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Semaphore;

use crate::harness::*;

const EVERYBODY: &str = "trusted_proxies: [127.0.0.0/8]";

fn config(routes: &str, top: &str) -> String {
    format!(
        r#"
workers: 2
access_log: true
{top}
listeners: {{ web: {{ bind: "@web@" }} }}
hosts:
  "*":
    routes:
{routes}
upstreams: {{ app: {{ endpoints: ["@app@"], outlier: off }} }}
"#
    )
}

/// A request for which a trusted proxy says who the client is, on a connection of its own.
async fn by(proxy: &Proxy, client: &str, target: &str) -> Response {
    with(proxy.web(), target, &format!("X-Forwarded-For: {client}\r\n")).await
}

async fn with(address: SocketAddr, target: &str, fields: &str) -> Response {
    let mut client = Client::connect(address).await;
    client.send(format!("GET {target} HTTP/1.1\r\nHost: t\r\n{fields}\r\n")).await;
    client.response().await
}

/// How many of `count` requests at once get which status.
async fn burst(proxy: &Proxy, client: &str, target: &str, count: usize) -> BTreeMap<u16, usize> {
    let requests = (0..count).map(|_| by(proxy, client, target));
    let mut statuses = BTreeMap::new();
    for response in futures_util::future::join_all(requests).await {
        *statuses.entry(response.status).or_default() += 1;
    }
    statuses
}

#[tokio::test]
async fn an_access_list_is_about_the_client_and_not_about_who_passes_it_on() {
    let app = Backend::saying("fine").await;
    let routes = r#"
      - { path: /in, upstream: app, access: { allow: [10.0.0.0/8, "fd00::/8"], deny: [10.1.0.0/16] } }
      - { path: /out, upstream: app, access: { deny: [127.0.0.0/8] } }
      - { path: /fixed, respond: { body: no }, access: { deny: [10.1.0.0/16] } }
      - { path: /, upstream: app }
"#;
    let proxy = Proxy::start(&config(routes, EVERYBODY), &[("app", &app.address())]).await;
    for (client, target, status) in [
        ("10.0.0.1", "/in", 200),
        ("::ffff:10.0.0.1", "/in", 200),
        ("fd00::7", "/in", 200),
        ("10.1.0.1", "/in", 403),
        ("::ffff:10.1.0.1", "/in/deeper?q", 403),
        ("192.0.2.1", "/in", 403),
        ("2001:db8::1", "/in", 403),
        ("10.0.0.1, 192.0.2.1", "/in", 403),
        ("192.0.2.1, 10.0.0.1", "/in", 200),
        ("10.0.0.1", "/out", 200),
        ("10.1.0.1", "/fixed", 403),
        ("10.1.0.1", "/other", 200),
    ] {
        let before = app.requests().len();
        let response = by(&proxy, client, target).await;
        assert_eq!(response.status, status, "{client} {target}: {response}");
        if status == 403 {
            response.assert_refused(403, "access_denied");
            assert_eq!(app.requests().len(), before, "nothing is forwarded");
        }
    }
    with(proxy.web(), "/out", "").await.assert_refused(403, "access_denied");
    with(proxy.web(), "/in", "X-Real-IP: 10.0.0.1\r\n").await.assert_refused(403, "access_denied");
    // A refusal does not end the connection.
    let mut client = Client::connect(proxy.web()).await;
    assert_eq!(client.request("GET", "t", "/out").await.status, 403);
    assert_eq!(client.request("GET", "t", "/other").await.status, 200);
    let mut h2 = H2::connect(proxy.web()).await;
    assert_eq!(h2.get("t", "/out").await.status, 403);
    assert_eq!(h2.get("t", "/other").await.status, 200);
    proxy.stdout_line("the refusal is logged", |line| line.contains("access_denied")).await;
    proxy
        .metrics_until("refusals are counted", |metrics| {
            metrics.sum("portcullis_requests_total", &[("reason", "access_denied")]) >= 10.0
        })
        .await;
}

#[tokio::test]
async fn a_client_cannot_say_where_it_comes_from() {
    let app = Backend::saying("fine").await;
    let routes = "      - { path: /, upstream: app, access: { allow: [10.0.0.0/8] } }";
    let proxy = Proxy::start(&config(routes, ""), &[("app", &app.address())]).await;
    for fields in ["", "X-Forwarded-For: 10.0.0.1\r\n", "Forwarded: for=10.0.0.1\r\n"] {
        with(proxy.web(), "/", fields).await.assert_refused(403, "access_denied");
    }
    assert!(app.requests().is_empty());
}

#[tokio::test]
async fn the_address_of_a_proxy_protocol_header_counts() {
    let app = Backend::saying("fine").await;
    let routes = "      - { path: /, upstream: app, access: { allow: [203.0.113.0/24] } }";
    let config = config(routes, "")
        .replace(r#""@web@" "#, r#""@web@", proxy_protocol: { trusted: [127.0.0.0/8] } "#);
    let proxy = Proxy::start(&config, &[("app", &app.address())]).await;
    for (client, status) in [("203.0.113.9", 200), ("203.0.114.9", 403)] {
        let mut peer = Client::connect(proxy.web()).await;
        peer.send(format!("PROXY TCP4 {client} 10.0.0.1 4711 80\r\n")).await;
        assert_eq!(peer.request("GET", "t", "/").await.status, status, "{client}");
    }
}

const LIMITED: &str = r#"
      - { path: /a, upstream: app, rate_limit: { requests: 1, per: 1h, burst: 4, scope: s, status: 503 } }
      - { path: /b, upstream: app, rate_limit: { requests: 1, per: 1h, burst: 4, scope: s, status: 503 } }
      - { path: /own, upstream: app, rate_limit: { requests: 1, per: 1h, burst: 4, exempt: [10.9.0.0/16] } }
      - path: /key
        upstream: app
        rate_limit: { requests: 1, per: 1h, burst: 0, key: { header: X-Api-Key } }
      - path: /both
        upstream: app
        rate_limit: [{ requests: 1000000 }, { requests: 1, per: 1h, burst: 1 }]
"#;

#[tokio::test]
async fn what_is_faster_than_the_rate_is_refused_at_once_over_all_workers() {
    let app = Backend::saying("fine").await;
    let proxy = Proxy::start(&config(LIMITED, EVERYBODY), &[("app", &app.address())]).await;
    assert_eq!(burst(&proxy, "10.0.0.1", "/a", 24).await, BTreeMap::from([(200, 5), (503, 19)]));
    assert_eq!(app.requests().len(), 5);
    // Two routes of one scope, and every spelling and neighbour of one client, share a bucket.
    by(&proxy, "::ffff:10.0.0.1", "/b").await.assert_refused(503, "rate_limited");
    assert_eq!(by(&proxy, "10.0.0.2", "/b").await.status, 200);
    assert_eq!(by(&proxy, "10.0.0.1", "/own").await.status, 200);
    assert_eq!(burst(&proxy, "2001:db8::1", "/own", 3).await, BTreeMap::from([(200, 3)]));
    let neighbour = burst(&proxy, "2001:db8::ffff", "/own", 9).await;
    assert_eq!(neighbour, BTreeMap::from([(200, 2), (429, 7)]));
    assert_eq!(burst(&proxy, "10.9.0.1", "/own", 20).await, BTreeMap::from([(200, 20)]));
    assert_eq!(burst(&proxy, "10.0.0.9", "/both", 9).await, BTreeMap::from([(200, 2), (429, 7)]));
    let refused = by(&proxy, "2001:db8::1", "/own").await;
    refused.assert_refused(429, "rate_limited");
    let wait: u64 = refused.headers.get("retry-after").unwrap().parse().unwrap();
    assert!((3000..=3600).contains(&wait), "{wait}");
    // The same bucket over HTTP/2.
    let mut h2 = H2::connect(proxy.web()).await;
    let mut request = get_request("t", "/a");
    request.headers_mut().insert("x-forwarded-for", "10.0.0.1".parse().unwrap());
    let response = h2.request(request, None, None).await;
    let limited = response.text().contains("rate_limited");
    assert_eq!((response.status, limited), (503, true));
    proxy.stdout_line("the refusal is logged", |line| line.contains("rate_limited")).await;
}

#[tokio::test]
async fn a_header_tells_clients_apart_where_it_is_there() {
    let app = Backend::saying("fine").await;
    let proxy = Proxy::start(&config(LIMITED, EVERYBODY), &[("app", &app.address())]).await;
    let mut statuses = Vec::new();
    for fields in [
        "X-Api-Key: one\r\nX-Forwarded-For: 10.0.0.1\r\n",
        "X-Api-Key: one\r\nX-Forwarded-For: 10.0.0.2\r\n",
        "X-Api-Key: two\r\nX-Forwarded-For: 10.0.0.1\r\n",
        "X-Forwarded-For: 10.0.0.1\r\n",
        "X-Forwarded-For: 10.0.0.1\r\n",
        "X-Forwarded-For: 10.0.0.2\r\n",
    ] {
        statuses.push(with(proxy.web(), "/key", fields).await.status);
    }
    assert_eq!(statuses, [200, 429, 200, 200, 429, 200]);
}

#[tokio::test]
async fn counts_survive_a_change_of_something_else() {
    let app = Backend::saying("fine").await;
    let mut proxy = Proxy::start(&config(LIMITED, EVERYBODY), &[("app", &app.address())]).await;
    assert_eq!(burst(&proxy, "10.0.0.1", "/a", 9).await, BTreeMap::from([(200, 5), (503, 4)]));
    proxy.rewrite(&config(
        &format!("{LIMITED}\n      - {{ path: /new, upstream: app }}"),
        EVERYBODY,
    ));
    let there = async || by(&proxy, "10.0.0.1", "/new").await.status == 200;
    eventually(STEP, "the change is live", there).await;
    by(&proxy, "10.0.0.1", "/a").await.assert_refused(503, "rate_limited");
    by(&proxy, "10.0.0.1", "/b").await.assert_refused(503, "rate_limited");
    // With another rate everybody starts anew.
    proxy.rewrite(&config(&LIMITED.replace("burst: 4, scope: s", "burst: 1, scope: s"), EVERYBODY));
    let there = async || by(&proxy, "10.0.0.1", "/new").await.status == 404;
    eventually(STEP, "the change is live", there).await;
    assert_eq!(burst(&proxy, "10.0.0.1", "/a", 9).await, BTreeMap::from([(200, 2), (503, 7)]));
}

/// A back end that answers when it is let, and tells how many requests it has at once.
async fn held() -> (Backend, Arc<Semaphore>, Arc<AtomicUsize>) {
    let (go, now) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicUsize::new(0)));
    let backend = Backend::script({
        let (go, now) = (go.clone(), now.clone());
        move |mut conn| {
            let (go, now) = (go.clone(), now.clone());
            async move {
                while conn.request().await.is_some() {
                    now.fetch_add(1, Ordering::SeqCst);
                    conn.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfi").await;
                    go.acquire().await.expect("never closed").forget();
                    now.fetch_sub(1, Ordering::SeqCst);
                    conn.send("ne").await;
                }
            }
        }
    })
    .await;
    (backend, go, now)
}

const AT_ONCE: &str = r#"
      - { path: /a, upstream: app, connection_limit: { per_client: 2, scope: s } }
      - { path: /b, upstream: app, connection_limit: { per_client: 2, scope: s, status: 503 } }
      - { path: /free, respond: { body: free }, connection_limit: { per_client: 1, scope: s } }
"#;

#[tokio::test]
async fn requests_of_a_client_count_until_their_last_byte() {
    let (app, go, now) = held().await;
    let mut proxy = Proxy::start(&config(AT_ONCE, ""), &[("app", &app.address())]).await;
    // Streams count one by one, and connections on whichever worker count together.
    let mut h2 = H2::connect(proxy.web()).await;
    let (first, _body) = h2.open(get_request("t", "/a"), true).await.unwrap();
    let mut second = Client::connect(proxy.web()).await;
    second.send("GET /b HTTP/1.1\r\nHost: t\r\n\r\n").await;
    eventually(STEP, "both are in progress", async || now.load(Ordering::SeqCst) == 2).await;
    for _ in 0..6 {
        get(proxy.web(), "t", "/a").await.assert_refused(429, "connection_limited");
        get(proxy.web(), "t", "/b").await.assert_refused(503, "connection_limited");
        let response = h2.get("t", "/a").await;
        assert_eq!((response.status, now.load(Ordering::SeqCst)), (429, 2));
    }
    get(proxy.web(), "t", "/free").await.assert_refused(429, "connection_limited");
    // Another client is not held up, and a change does not forget who is there.
    let mut other = Client::connect_from("127.0.0.2:0".parse().unwrap(), proxy.web()).await;
    assert_eq!(other.request("GET", "t", "/free").await.status, 200);
    proxy.rewrite(&config(&format!("{AT_ONCE}\n      - {{ path: /new, respond: {{}} }}"), ""));
    let there = async || get(proxy.web(), "t", "/new").await.status == 200;
    eventually(STEP, "the change is live", there).await;
    get(proxy.web(), "t", "/a").await.assert_refused(429, "connection_limited");
    // One ends well, the client of the other leaves.
    drop(second);
    eventually(STEP, "a seat comes free", async || {
        let response = get(proxy.web(), "t", "/free").await;
        go.add_permits(1);
        response.status == 200
    })
    .await;
    assert_eq!(collect(first).await.unwrap().text(), "fine");
    go.add_permits(100);
    for _ in 0..20 {
        assert_eq!(get(proxy.web(), "t", "/a").await.text(), "fine");
        assert_eq!(get(proxy.web(), "t", "/free").await.text(), "free");
    }
    proxy.stdout_line("the refusal is logged", |line| line.contains("connection_limited")).await;
}

#[tokio::test]
async fn an_explanation_tells_what_guards_a_route() {
    let app = Backend::saying("fine").await;
    let routes = format!(
        "{LIMITED}\n      - {{ path: /in, upstream: app, access: {{ allow: [10.0.0.0/8] }}, \
         connection_limit: {{ per_client: 3 }} }}"
    );
    let proxy = Proxy::start(&config(&routes, ""), &[("app", &app.address())]).await;
    let told = async |path: &str| {
        let page = proxy.admin(&format!("/api/explain?url=http://t{path}")).await;
        page.json()["listeners"][0]["won"]["policies"]["guard"].to_string()
    };
    assert_eq!(
        told("/a").await,
        r#"["rate 1 in 1h, burst 4, for each client in scope s, else 503"]"#
    );
    assert_eq!(
        told("/in").await,
        r#"["allows only 10.0.0.0/8","3 at once for each client, else 429"]"#
    );
}
