//! Keeping clients on https: the redirect there, and `Strict-Transport-Security`.

use crate::harness::*;

const CONFIG: &str = r#"
listeners:
  web: { bind: "@web@" }
  behind: { bind: "@behind@", trusted_proxies: ["127.0.0.1"] }
  secure: { bind: "@secure@", tls: { certificates: [ { cert: a.pem, key: a.key } ] } }
hosts:
  shop.example:
    routes:
      - { path: /, upstream: app, https_redirect: on, hsts: { max_age: 1d, include_subdomains: true } }
      - { path: /strip, upstream: app, body_limit: 1,
          https_redirect: { status: 301, port: 8443, strip_trailing_slash: true, exempt: [/strip/free] } }
      - { path: /plain, upstream: app, hsts: on }
      - { path: /text, https_redirect: on, respond: { body: text } }
      - { path: /down, upstream: down, hsts: on }
      - { path: /moved, redirect: { path: /here } }
upstreams:
  app: { endpoints: ["@app@"] }
  down: { endpoints: ["127.0.0.1:1"] }
"#;

const STS: &str = "strict-transport-security";

async fn start(app: &Backend, ca: &Ca) -> Proxy {
    let pair = ca.server(&["shop.example"]);
    let setup = Setup::new(CONFIG).with("app", app.address());
    setup.file("a.pem", pair.cert.as_str()).file("a.key", pair.key.as_str()).start().await
}

async fn app() -> Backend {
    Backend::answering(
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\
         Strict-Transport-Security: max-age=1\r\nStrict-Transport-Security: max-age=2\r\n\r\nok",
    )
    .await
}

#[tokio::test]
async fn what_did_not_come_over_tls_is_sent_there_and_reaches_nobody() {
    let (app, ca) = (app().await, Ca::new());
    let proxy = start(&app, &ca).await;
    let mut client = Client::connect(proxy.web()).await;
    for (method, target, status, location) in [
        ("GET", "/", 308, "https://shop.example/"),
        ("GET", "/a//b/?q=1", 308, "https://shop.example/a/b/?q=1"),
        ("POST", "/a", 308, "https://shop.example/a"),
        (
            "GET",
            "/.well-known/acme-challenge",
            308,
            "https://shop.example/.well-known/acme-challenge",
        ),
        ("GET", "/.well-known/acme-challenge/../x", 308, "https://shop.example/.well-known/x"),
        ("GET", "/strip/", 301, "https://shop.example:8443/strip"),
        ("GET", "/strip/x?q=/", 301, "https://shop.example:8443/strip/x?q="),
        ("GET", "/text", 308, "https://shop.example/text"),
    ] {
        let response = client.request(method, "shop.example:8080", target).await;
        assert_eq!(response.status, status, "{target}: {response}");
        assert_eq!(response.headers.get("location"), Some(location), "{target}");
        assert!(!response.headers.has(STS), "{response}");
    }
    // It comes before the limits: nothing is asked of what must not come this way at all.
    client.send("POST /strip HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 2\r\n\r\nhi").await;
    assert_eq!(client.response().await.status, 301);
    assert_eq!(app.requests().len(), 0);
    let mut client = Client::connect(proxy.web()).await;
    for target in ["/.well-known/acme-challenge/token", "/strip/free", "/strip/free-too", "/plain"]
    {
        assert_eq!(client.request("GET", "shop.example", target).await.text(), "ok", "{target}");
    }
    assert_eq!(app.requests().len(), 4);
    let mut h2 = H2::connect(proxy.web()).await;
    let response = h2.get("shop.example", "/x").await;
    assert_eq!(response.status, 308);
    proxy
        .metrics_until("redirects are counted by their reason", |metrics| {
            let labels = [("listener", "web"), ("reason", "redirect")];
            metrics.sum("portcullis_requests_total", &labels) >= 10.0
        })
        .await;
}

#[tokio::test]
async fn a_trusted_proxy_says_which_scheme_the_client_used_and_nobody_else_does() {
    let (app, ca) = (app().await, Ca::new());
    let proxy = start(&app, &ca).await;
    for (listener, proto, status) in [
        ("behind", "https", 200),
        ("behind", "HTTPS, http", 200),
        ("behind", "http, https", 308),
        ("behind", "http", 308),
        ("behind", "gopher", 308),
        ("web", "https", 308),
    ] {
        let mut client = Client::connect(proxy.addr(listener)).await;
        client
            .send(format!(
                "GET / HTTP/1.1\r\nHost: shop.example\r\nX-Forwarded-Proto: {proto}\r\n\r\n"
            ))
            .await;
        let response = client.response().await;
        assert_eq!(response.status, status, "{listener} {proto}: {response}");
        let sts = (status == 200).then_some("max-age=86400; includeSubDomains");
        assert_eq!(response.headers.get(STS), sts, "{listener} {proto}");
    }
    // A redirect that keeps the scheme keeps that one.
    let mut client = Client::connect(proxy.addr("behind")).await;
    client
        .send("GET /moved HTTP/1.1\r\nHost: shop.example\r\nX-Forwarded-Proto: https\r\n\r\n")
        .await;
    let response = client.response().await;
    assert_eq!(response.headers.get("location"), Some("https://shop.example/here"));
}

#[tokio::test]
async fn answers_over_tls_tell_browsers_to_stay_and_others_do_not() {
    let (app, ca) = (app().await, Ca::new());
    let proxy = start(&app, &ca).await;
    let tls = TlsClient::new(&ca, "shop.example", &["http/1.1"]);
    let mut client = Client::tls(proxy.addr("secure"), &tls).await;
    for (target, status, expected) in [
        ("/", 200, &["max-age=86400; includeSubDomains"][..]),
        ("/plain", 200, &["max-age=31536000"]),
        ("/down", 503, &["max-age=31536000"]),
        ("/strip", 200, &["max-age=1", "max-age=2"]),
        ("/moved", 302, &[]),
    ] {
        let response = client.request("GET", "shop.example", target).await;
        assert_eq!(response.status, status, "{target}: {response}");
        assert_eq!(response.headers.all(STS).collect::<Vec<_>>(), expected, "{target}");
    }
    let mut client = Client::connect(proxy.web()).await;
    let response = client.request("GET", "shop.example", "/down").await;
    assert_eq!((response.status, response.headers.has(STS)), (503, false), "{response}");
}
