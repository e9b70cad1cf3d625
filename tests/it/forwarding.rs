//! What an upstream is told about the client, and what it is not told.

use crate::harness::*;

fn config(extra: &str) -> String {
    format!(
        r#"
{extra}
listeners: {{ web: {{ bind: "@web@" }} }}
hosts: {{ "*": {{ routes: [ {{ path: /, upstream: app }} ] }} }}
upstreams: {{ app: {{ endpoints: ["@app@"] }} }}
"#
    )
}

#[tokio::test]
async fn an_upstream_learns_who_the_client_is_and_what_it_asked_for() {
    let app = Backend::saying("fine").await;
    let proxy = Proxy::to(app.address()).await;
    let mut client = Client::connect(proxy.web()).await;
    let host = format!("shop.example:{}", proxy.web().port());
    client.request("GET", &host, "/").await;
    let seen = app.last().headers;
    assert_eq!(seen.all("x-forwarded-for").collect::<Vec<_>>(), ["127.0.0.1"]);
    assert_eq!(seen.all("x-real-ip").collect::<Vec<_>>(), ["127.0.0.1"]);
    assert_eq!(seen.all("x-forwarded-proto").collect::<Vec<_>>(), ["http"]);
    assert_eq!(seen.all("x-forwarded-host").collect::<Vec<_>>(), [host.as_str()]);
    let port = proxy.web().port().to_string();
    assert_eq!(seen.all("x-forwarded-port").collect::<Vec<_>>(), [port.as_str()]);
    assert_eq!(seen.all("host").collect::<Vec<_>>(), [host.as_str()], "Host is kept");
    let first = seen.get("x-request-id").expect("a request id").to_owned();
    assert!(!seen.has("via") && !seen.has("forwarded"), "only on request");
    client.request("GET", &host, "/").await;
    assert_ne!(app.last().headers.get("x-request-id"), Some(first.as_str()));
}

#[tokio::test]
async fn a_stranger_cannot_say_who_it_is() {
    let app = Backend::saying("fine").await;
    let proxy = Proxy::to(app.address()).await;
    let mut client = Client::connect(proxy.web()).await;
    client
        .send(
            "GET / HTTP/1.1\r\nHost: t\r\n\
             X-Forwarded-For: 10.0.0.1\r\nX-Forwarded-For: 10.0.0.2\r\nX-Real-IP: 10.0.0.1\r\n\
             X-Forwarded-Proto: https\r\nX-Forwarded-Host: evil\r\nX-Forwarded-Port: 1\r\n\
             X-Forwarded-Prefix: /evil\r\nForwarded: for=10.0.0.1\r\nX-Request-ID: chosen\r\n\
             X-Client-Cert-Subject: CN=root\r\nX-Client-Verify: SUCCESS\r\n\
             X_Forwarded_For: 10.0.0.1\r\nX-Forwarded_For: 10.0.0.1\r\nx_real_ip: 10.0.0.1\r\n\
             X_Client_Verify: SUCCESS\r\nssl-client-verify: SUCCESS\r\n\
             SSL-Client-Subject-DN: CN=root\r\nX-Scheme: https\r\nX-Forwarded-Scheme: https\r\n\
             X-Original-Forwarded-For: 10.0.0.1\r\nX-Original-Forwarded-Host: evil\r\n\r\n",
        )
        .await;
    client.response().await;
    let seen = app.last().headers;
    assert_eq!(seen.all("x-forwarded-for").collect::<Vec<_>>(), ["127.0.0.1"]);
    assert_eq!(seen.all("x-real-ip").collect::<Vec<_>>(), ["127.0.0.1"]);
    assert_eq!(seen.all("x-forwarded-proto").collect::<Vec<_>>(), ["http"]);
    assert_eq!(seen.all("x-forwarded-host").collect::<Vec<_>>(), ["t"]);
    assert_ne!(seen.get("x-forwarded-port"), Some("1"));
    assert_ne!(seen.get("x-request-id"), Some("chosen"));
    for name in [
        "x-forwarded-prefix",
        "forwarded",
        "x-client-cert-subject",
        "x-client-verify",
        "ssl-client-verify",
        "ssl-client-subject-dn",
        "x-scheme",
        "x-forwarded-scheme",
        "x-original-forwarded-for",
        "x-original-forwarded-host",
    ] {
        assert!(!seen.has(name), "{name}: {seen:?}");
    }
    let aliases: Vec<_> = seen.0.iter().filter(|(name, _)| name.contains('_')).collect();
    assert!(aliases.is_empty(), "{aliases:?}");
}

#[tokio::test]
async fn a_trusted_proxy_is_believed() {
    let app = Backend::saying("fine").await;
    let proxy = Proxy::start(
        &config("trusted_proxies: [127.0.0.0/8, 10.0.0.0/8]"),
        &[("app", &app.address())],
    )
    .await;
    let mut client = Client::connect(proxy.web()).await;
    client
        .send(
            "GET / HTTP/1.1\r\nHost: inner\r\n\
             X-Forwarded-For: 6.6.6.6, 203.0.113.7, 10.0.0.9\r\nX-Forwarded-Proto: https\r\n\
             X-Forwarded-Host: shop.example\r\nX-Forwarded-Port: 443\r\nX-Request-ID: abc-123\r\n\r\n",
        )
        .await;
    client.response().await;
    let seen = app.last().headers;
    assert_eq!(seen.joined("x-forwarded-for"), "6.6.6.6, 203.0.113.7, 10.0.0.9, 127.0.0.1");
    assert_eq!(seen.joined("x-real-ip"), "203.0.113.7", "the nearest address nobody vouches for");
    assert_eq!(seen.joined("x-forwarded-proto"), "https");
    assert_eq!(seen.joined("x-forwarded-host"), "shop.example");
    assert_eq!(seen.joined("x-forwarded-port"), "443");
    assert_eq!(seen.joined("x-request-id"), "abc-123");
}

#[tokio::test]
async fn trust_can_be_given_to_one_listener_only() {
    let app = Backend::saying("fine").await;
    let proxy = Proxy::start(
        r#"
listeners:
  web: { bind: "@web@" }
  inner: { bind: "@inner@", trusted_proxies: [127.0.0.1] }
hosts: { "*": { routes: [ { path: /, upstream: app } ] } }
upstreams: { app: { endpoints: ["@app@"] } }
"#,
        &[("app", &app.address())],
    )
    .await;
    for (listener, expected) in [("web", "127.0.0.1"), ("inner", "203.0.113.7, 127.0.0.1")] {
        let mut client = Client::connect(proxy.addr(listener)).await;
        client.send("GET / HTTP/1.1\r\nHost: t\r\nX-Forwarded-For: 203.0.113.7\r\n\r\n").await;
        client.response().await;
        assert_eq!(app.last().headers.joined("x-forwarded-for"), expected, "{listener}");
    }
}

#[tokio::test]
async fn trust_is_a_matter_of_the_address_a_peer_connects_from() {
    let app = Backend::saying("fine").await;
    let config = config("trusted_proxies: [127.0.0.9]");
    let proxy = Proxy::start(&config, &[("app", &app.address())]).await;
    for (source, expected) in [("127.0.0.9", "203.0.113.7, 127.0.0.9"), ("127.0.0.8", "127.0.0.8")]
    {
        let source = std::net::SocketAddr::new(source.parse().expect("an address"), 0);
        let mut client = Client::connect_from(source, proxy.web()).await;
        client.send("GET / HTTP/1.1\r\nHost: t\r\nX-Forwarded-For: 203.0.113.7\r\n\r\n").await;
        client.response().await;
        assert_eq!(app.last().headers.joined("x-forwarded-for"), expected);
    }
}

#[tokio::test]
async fn forwarded_and_via_are_sent_on_request() {
    let app =
        Backend::answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nVia: 1.0 inner\r\n\r\n").await;
    let proxy = Proxy::start(
        &config("forwarding: { forwarded: true, via: true }"),
        &[("app", &app.address())],
    )
    .await;
    let mut client = Client::connect(proxy.web()).await;
    client.send("GET / HTTP/1.1\r\nHost: shop.example\r\nVia: 1.1 edge\r\n\r\n").await;
    let response = client.response().await;
    let seen = app.last().headers;
    let forwarded = seen.joined("forwarded").replace('"', "");
    let pairs: Vec<_> = forwarded.split(';').map(str::trim).collect();
    for pair in ["for=127.0.0.1", "host=shop.example", "proto=http"] {
        assert!(pairs.contains(&pair), "no {pair} in {forwarded}");
    }
    let via = seen.joined("via");
    assert!(via.starts_with("1.1 edge, 1.1 "), "{via}");
    let back = response.headers.joined("via");
    assert!(back.starts_with("1.0 inner, 1.1 "), "{back}");
}

#[tokio::test]
async fn hop_by_hop_fields_end_here_in_both_directions() {
    let app = Backend::answering(
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: X-Hop, keep-alive\r\nX-Hop: 1\r\n\
         Keep-Alive: timeout=5\r\nProxy-Authenticate: Basic\r\nX-Kept: 1\r\n\r\nok",
    )
    .await;
    let proxy = Proxy::to(app.address()).await;
    let mut client = Client::connect(proxy.web()).await;
    client
        .send(
            "GET / HTTP/1.1\r\nHost: t\r\nConnection: X-Hop, keep-alive, X-Forwarded-For\r\n\
             connection: Cookie, Host, X-Real-IP, Content-Length\r\nX-Hop: 1\r\nKeep-Alive: 5\r\n\
             Proxy-Connection: keep-alive\r\nProxy-Authorization: Basic eA==\r\n\
             TE: gzip, trailers\r\nUpgrade: foo\r\nCookie: a=b\r\nX-Kept: 1\r\n\r\n",
        )
        .await;
    let response = client.response().await;
    let seen = app.last().headers;
    for name in ["x-hop", "keep-alive", "proxy-connection", "proxy-authorization", "upgrade"] {
        assert!(!seen.has(name), "{name} reached the upstream: {seen:?}");
    }
    assert!(["", "trailers"].contains(&seen.joined("te").as_str()), "{seen:?}");
    assert!(!seen.joined("connection").to_ascii_lowercase().contains("x-hop"), "{seen:?}");
    assert_eq!(seen.joined("host"), "t", "Host cannot be nominated away");
    assert_eq!(seen.joined("x-forwarded-for"), "127.0.0.1", "nor what we add");
    assert_eq!(seen.joined("x-real-ip"), "127.0.0.1");
    assert_eq!(seen.joined("x-kept"), "1");
    for name in ["x-hop", "keep-alive", "proxy-connection"] {
        assert!(!response.headers.has(name), "{name} reached the client: {response}");
    }
    assert!(!response.headers.joined("connection").to_ascii_lowercase().contains("x-hop"));
    assert_eq!(response.headers.joined("x-kept"), "1");
}

#[tokio::test]
async fn field_values_pass_unchanged_and_in_order() {
    let app = Backend::saying("fine").await;
    let proxy = Proxy::to(app.address()).await;
    let mut client = Client::connect(proxy.web()).await;
    client
        .send(
            b"GET / HTTP/1.1\r\nHost: t\r\nX-List: a\r\nX-List: b, c\r\nCookie: a=1; b=\"2\"\r\n\
              X-Latin: caf\xe9\r\nX-Empty:\r\nAuthorization: Bearer x.y\r\nUser-Agent: test/1\r\n\r\n",
        )
        .await;
    client.response().await;
    let seen = app.last().headers;
    assert_eq!(seen.all("x-list").collect::<Vec<_>>(), ["a", "b, c"]);
    assert_eq!(seen.joined("cookie"), "a=1; b=\"2\"");
    assert_eq!(seen.joined("authorization"), "Bearer x.y");
    assert_eq!(seen.joined("user-agent"), "test/1");
    assert_eq!(seen.get("x-empty"), Some(""));
    let raw = app.received();
    assert!(raw.windows(4).any(|window| window == b"caf\xe9"), "bytes above ASCII pass");
}

#[tokio::test]
async fn an_ipv4_client_of_a_dual_stack_listener_is_known_by_its_ipv4_address() {
    let app = Backend::saying("fine").await;
    let port = reserve().port();
    let config = r#"
trusted_proxies: ["127.0.0.0/8"]
listeners:
  web: { bind: "[::]:@port@" }
hosts: { "*": { routes: [ { path: /, upstream: app } ] } }
upstreams: { app: { endpoints: ["@app@"] } }
"#;
    let _proxy = Setup::new(config).with("app", app.address()).with("port", port).start().await;
    let mut client = Client::connect(([127, 0, 0, 1], port).into()).await;
    client.send("GET / HTTP/1.1\r\nHost: t\r\nX-Forwarded-For: 203.0.113.7\r\n\r\n").await;
    assert_eq!(client.response().await.status, 200);
    let seen = app.last().headers;
    assert_eq!(seen.joined("x-forwarded-for"), "203.0.113.7, 127.0.0.1", "trusted as IPv4");
    assert_eq!(seen.joined("x-real-ip"), "203.0.113.7");
}

#[tokio::test]
async fn the_port_is_the_one_that_clients_know_and_changes_without_closing_a_connection() {
    let app = Backend::saying("fine").await;
    let config = |port: &str| {
        let listeners = format!(
            r#"{{ web: {{ bind: "@web@", public_port: {port} }},
  behind: {{ bind: "@behind@", public_port: {port}, proxy_protocol: {{ trusted: [127.0.0.1] }} }} }}"#
        );
        let edit =
            r#"defaults: { request_headers: { set: { x-asked: { template: "{server_port}" } } } }"#;
        config(edit).replace(r#"{ web: { bind: "@web@" } }"#, &listeners)
    };
    let mut proxy = Proxy::start(&config("81"), &[("app", &app.address())]).await;
    let mut old = Client::connect(proxy.web()).await;
    let ports = || {
        let seen = app.last().headers;
        [seen.joined("x-forwarded-port"), seen.joined("x-asked")]
    };
    old.request("GET", "t", "/").await;
    assert_eq!(ports(), ["81", "81"]);
    // Where a header says where the client connected, that is known better.
    let mut told = Client::connect(proxy.addr("behind")).await;
    told.send("PROXY TCP4 203.0.113.9 10.0.0.1 4711 82\r\n").await;
    told.request("GET", "t", "/").await;
    assert_eq!(ports(), ["82", "82"]);
    let mut untold = Client::connect(proxy.addr("behind")).await;
    untold.send("PROXY UNKNOWN\r\n").await;
    untold.request("GET", "t", "/").await;
    assert_eq!(ports(), ["81", "81"]);
    proxy.rewrite(&config("83"));
    let changed = async || {
        Client::connect(proxy.web()).await.request("GET", "t", "/").await;
        ports() == ["83", "83"]
    };
    eventually(STEP, "the new port is told", changed).await;
    assert_eq!(old.request("GET", "t", "/").await.text(), "fine", "on the old connection");
}

#[tokio::test]
async fn nobody_says_by_which_proxy_an_application_goes_out() {
    let app = Backend::saying("fine").await;
    for trusted in ["", "trusted_proxies: [127.0.0.1]"] {
        let proxy = Proxy::start(&config(trusted), &[("app", &app.address())]).await;
        let mut client = Client::connect(proxy.web()).await;
        client
            .send(
                "POST / HTTP/1.1\r\nHost: t\r\nProxy: http://evil\r\nproxy: http://evil\r\n\
                 Transfer-Encoding: chunked\r\n\r\n0\r\nProxy: http://evil\r\nX-Sum: 3\r\n\r\n",
            )
            .await;
        assert_eq!(client.response().await.status, 200);
        let received = String::from_utf8_lossy(&app.received()).to_lowercase();
        assert!(received.contains("x-sum: 3") && !received.contains("evil"), "{received}");
    }
}

/// Listeners whose back ends are told what ingress-nginx tells, by a route with edits of headers and
/// by one without.
const AS_INGRESS_NGINX: &str = r#"
listeners:
  web: { bind: "@web@", forwarding: { scheme: true, original: true, keep_request_id: true } }
  inner:
    bind: "@inner@"
    trusted_proxies: [127.0.0.1]
    forwarding: { scheme: true, original: true }
hosts:
  "*":
    routes:
      - { path: /, upstream: app }
      - { path: /edited, upstream: app, request_headers: { set: { x-a: b } } }
upstreams: { app: { endpoints: ["@app@"] } }
"#;

#[tokio::test]
async fn a_listener_may_tell_what_ingress_nginx_does() {
    let app = Backend::saying("fine").await;
    let proxy = Proxy::start(AS_INGRESS_NGINX, &[("app", &app.address())]).await;
    let ask = async |listener: &str, path: &str, fields: &str| {
        let mut client = Client::connect(proxy.addr(listener)).await;
        client.send(format!("GET {path} HTTP/1.1\r\nHost: t\r\n{fields}\r\n")).await;
        assert_eq!(client.response().await.status, 200);
        app.last().headers
    };
    for path in ["/", "/edited"] {
        let forged = "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 7.7.7.7\r\n\
                      X-Forwarded-Host: other\r\nX-Forwarded-Proto: https\r\nX-Scheme: https\r\n\
                      X-Original-Forwarded-For: 10.0.0.1\r\nX-Request-ID: mine-1\r\n";
        let seen = ask("web", path, forged).await;
        for (name, value) in [
            ("x-scheme", "http"),
            ("x-forwarded-scheme", "http"),
            ("x-forwarded-proto", "http"),
            ("x-forwarded-for", "127.0.0.1"),
            ("x-original-forwarded-for", "6.6.6.6, 7.7.7.7"),
            ("x-forwarded-host", "t"),
            ("x-original-forwarded-host", "other"),
            ("x-request-id", "mine-1"),
        ] {
            assert_eq!(seen.all(name).collect::<Vec<_>>(), [value], "{name} at {path}");
        }
        let seen = ask("web", path, "X-Original-Forwarded-For: 10.0.0.1\r\n").await;
        assert!(!seen.has("x-original-forwarded-for"), "{seen:?}");
        assert!(!seen.has("x-original-forwarded-host"), "{seen:?}");
        // A trusted proxy's word for the scheme counts under all names.
        let seen = ask("inner", path, "X-Forwarded-Proto: https\r\nX-Scheme: ftp\r\n").await;
        assert_eq!(seen.all("x-scheme").collect::<Vec<_>>(), ["https"]);
        assert_eq!(seen.all("x-forwarded-scheme").collect::<Vec<_>>(), ["https"]);
        let seen = ask("inner", path, "X-Forwarded-For: 203.0.113.7\r\n").await;
        assert_eq!(seen.joined("x-forwarded-for"), "203.0.113.7, 127.0.0.1");
        assert_eq!(seen.joined("x-original-forwarded-for"), "203.0.113.7");
    }
    let long = "x".repeat(129);
    for unsound in ["", "a b", "caf\u{e9}", &long] {
        let seen = ask("web", "/", &format!("X-Request-ID: {unsound}\r\n")).await;
        let id = seen.all("x-request-id").collect::<Vec<_>>();
        assert!(matches!(id.as_slice(), [id] if id.len() == 32 && *id != unsound), "{id:?}");
    }
}
