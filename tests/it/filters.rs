//! What a route changes, and what it answers by itself.

use crate::harness::*;

#[tokio::test]
async fn request_and_response_headers_are_removed_set_and_added() {
    let app = Backend::answering(
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nServer: secret/1.0\r\nX-Old: 1\r\n\
         Set-Cookie: a=1\r\nSet-Cookie: b=2\r\n\r\nok",
    )
    .await;
    let proxy = Proxy::start(
        r#"
listeners: { web: { bind: "@web@" } }
defaults:
  response_headers: { set: { X-Everywhere: "yes" } }
hosts:
  "*":
    routes:
      - path: /
        upstream: app
        request_headers:
          remove: [X-Drop]
          set: { X-Team: shop, X-Real-IP: "9.9.9.9" }
          add: { X-Tag: two }
        response_headers:
          remove: [Server, X-Old]
          set: { Cache-Control: no-store }
          add: { Set-Cookie: c=3 }
upstreams: { app: { endpoints: ["@app@"] } }
"#,
        &[("app", &app.address())],
    )
    .await;
    let mut client = Client::connect(proxy.web()).await;
    client
        .send("GET / HTTP/1.1\r\nHost: t\r\nX-Drop: 1\r\nX-Drop: 2\r\nX-Team: other\r\nX-Tag: one\r\n\r\n")
        .await;
    let response = client.response().await;
    let seen = app.last().headers;
    assert!(!seen.has("x-drop"));
    assert_eq!(seen.all("x-team").collect::<Vec<_>>(), ["shop"]);
    assert_eq!(seen.all("x-tag").collect::<Vec<_>>(), ["one", "two"]);
    assert_eq!(seen.all("x-real-ip").collect::<Vec<_>>(), ["9.9.9.9"], "a route may override ours");
    assert!(!response.headers.has("server") && !response.headers.has("x-old"), "{response}");
    assert_eq!(response.headers.get("cache-control"), Some("no-store"));
    assert_eq!(response.headers.get("x-everywhere"), Some("yes"));
    let cookies: Vec<_> = response.headers.all("set-cookie").collect();
    assert_eq!(cookies, ["a=1", "b=2", "c=3"]);
}

#[tokio::test]
async fn paths_and_hosts_are_rewritten_and_the_query_is_kept() {
    let app = Backend::saying("fine").await;
    let proxy = Proxy::start(
        r#"
listeners: { web: { bind: "@web@" } }
hosts:
  "*":
    routes:
      - { path: /api, upstream: app, rewrite: { prefix: / } }
      - { path: /old, upstream: app, rewrite: { prefix: /new/place } }
      - { path: /strip/, upstream: app, rewrite: { prefix: /x/ } }
      - { path: /one, upstream: app, rewrite: { path: /index.html } }
      - { path: /re, upstream: app, rewrite: { regex: "(?i)^/RE(/|$)(.*)", path: "/$2" } }
      - { path: /id, upstream: app, rewrite: { regex: "/id/(.*)", path: "/item?id=$1" } }
      - { path: /dots, upstream: app, rewrite: { regex: "/x(.*)", path: "/safe/$1" } }
      - { path: /host, upstream: app, rewrite: { host: inner.example } }
      - { path: /, upstream: app }
upstreams: { app: { endpoints: ["@app@"] } }
"#,
        &[("app", &app.address())],
    )
    .await;
    let mut client = Client::connect(proxy.web()).await;
    for (target, expected) in [
        ("/api", "/"),
        ("/api/", "/"),
        ("/api/a/b?q=1", "/a/b?q=1"),
        ("/api?q=1", "/?q=1"),
        ("/old", "/new/place"),
        ("/old/x%20y?z", "/new/place/x%20y?z"),
        ("/strip/y", "/x/y"),
        ("/one/two/three?k=v", "/index.html?k=v"),
        ("/re/a%20b/?q=1", "/a%20b/?q=1"),
        ("/re", "/"),
        ("/re/%0Ax", "/%0Ax"),
        ("/id/7&admin=1?x=2", "/item?id=7%26admin=1&x=2"),
        ("/id?x=2", "/id?x=2"),
        ("/plain?%20", "/plain?%20"),
    ] {
        assert_eq!(client.request("GET", "shop.example", target).await.status, 200);
        let seen = app.last();
        assert_eq!(seen.target, expected, "{target}");
        assert_eq!(seen.headers.get("host"), Some("shop.example"), "{target}");
    }
    // What the client wrote must not lead out of where the rewrite leads.
    let refused = Client::connect(proxy.web()).await.request("GET", "t", "/dots/x../y").await;
    assert_eq!(refused.status, 400, "{refused}");
    client.request("GET", "shop.example", "/host").await;
    let seen = app.last();
    assert_eq!(seen.headers.all("host").collect::<Vec<_>>(), ["inner.example"]);
    assert_eq!(seen.headers.get("x-forwarded-host"), Some("shop.example"));
}

#[tokio::test]
async fn redirects_change_what_they_name_and_keep_the_rest() {
    let proxy = Proxy::start(
        r#"
listeners: { web: { bind: "@web@" } }
hosts:
  "*":
    routes:
      - { path: /default, redirect: { host: shop.example.com } }
      - { path: /tls, redirect: { scheme: https } }
      - { path: /tls-port, redirect: { scheme: https, port: 8443, status: 308 } }
      - { path: /plain, redirect: { scheme: http, host: a.example, port: 80, status: 301 } }
      - { path: /full, redirect: { path: /there, status: 303 } }
      - { path: /old, redirect: { prefix: /new, status: 307 } }
"#,
        &[],
    )
    .await;
    let port = proxy.web().port();
    let host = format!("shop.test:{port}");
    let mut client = Client::connect(proxy.web()).await;
    for (target, status, location) in [
        ("/default/x?y=1", 302, format!("http://shop.example.com:{port}/default/x?y=1")),
        ("/tls/a?b", 302, "https://shop.test/tls/a?b".into()),
        ("/tls-port", 308, "https://shop.test:8443/tls-port".into()),
        ("/plain/x", 301, "http://a.example/plain/x".into()),
        ("/full/x?q=1", 303, format!("http://shop.test:{port}/there?q=1")),
        ("/old/a/b?c=d", 307, format!("http://shop.test:{port}/new/a/b?c=d")),
    ] {
        let response = client.request("GET", &host, target).await;
        assert_eq!(response.status, status, "{target}: {response}");
        assert_eq!(response.headers.get("location"), Some(location.as_str()), "{target}");
    }
}

#[tokio::test]
async fn fixed_responses_have_status_headers_and_body() {
    let setup = Setup::new(
        r#"
listeners: { web: { bind: "@web@" } }
hosts:
  "*":
    routes:
      - { path: /text, respond: { body: "no such shop" , status: 404 } }
      - { path: /json, respond: { status: 503, json: { down: true, until: [1, 2] } } }
      - { path: /file, respond: { body_file: page.html, headers: { Content-Type: text/html } } }
      - { path: /empty, respond: { status: 204 } }
      - { path: /headers, respond: { headers: { Cache-Control: "max-age=60", X-A: b } } }
"#,
    );
    let proxy = setup.file("page.html", "<h1>Back soon</h1>\n").start().await;
    let mut client = Client::connect(proxy.web()).await;

    let text = client.request("GET", "t", "/text").await;
    assert_eq!((text.status, text.text().as_str()), (404, "no such shop"));
    assert!(
        text.headers.get("content-type").is_some_and(|t| t.starts_with("text/plain")),
        "{text}"
    );

    let json = client.request("GET", "t", "/json").await;
    assert_eq!((json.status, json.headers.get("content-type")), (503, Some("application/json")));
    assert_eq!(json.json(), serde_json::json!({ "down": true, "until": [1, 2] }));

    let file = client.request("GET", "t", "/file").await;
    assert_eq!(file.text(), "<h1>Back soon</h1>\n");
    assert_eq!(file.headers.all("content-type").collect::<Vec<_>>(), ["text/html"]);

    let empty = client.request("GET", "t", "/empty").await;
    assert_eq!((empty.status, empty.body.len()), (204, 0));

    let headers = client.request("GET", "t", "/headers").await;
    assert_eq!((headers.status, headers.headers.get("cache-control")), (200, Some("max-age=60")));
    assert_eq!(headers.headers.get("content-length"), Some("0"));

    let head = client.request("HEAD", "t", "/text").await;
    assert_eq!((head.status, head.headers.get("content-length")), (404, Some("12")));
    // A body that nobody reads does not confuse the connection.
    client.send("POST /text HTTP/1.1\r\nHost: t\r\nContent-Length: 5\r\n\r\nhello").await;
    assert_eq!(client.response().await.text(), "no such shop");
}

#[tokio::test]
async fn values_are_made_of_the_request_and_of_the_response() {
    let app = Backend::answering(
        "HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\nETag: \"v1\"\r\nContent-Type: text/html; charset=utf-8\r\n\
         X-Internal-A: 1\r\nX-Internal-B: 2\r\n\r\nok",
    )
    .await;
    let proxy = Proxy::start(
        r#"
listeners: { web: { bind: "@web@" } }
hosts:
  "*":
    routes:
      - path: /
        upstream: app
        rewrite: { prefix: /inner, host: "{arg_tenant}.internal" }
        request_headers:
          set:
            x-asked: { template: "{scheme}://{http_host}{request_uri}" }
            x-user: { template: "{cookie_user}" }
            x-none: { template: "{http_x_no}" }
            x-chain: { template: "{proxy_add_x_forwarded_for}" }
            x-braces: "{host}"
          add: { x-tag: { template: "{http_x_in}/{request_method}" } }
        response_headers:
          set: { x-was: { template: "{status} {sent_http_etag} for {uri}" } }
          remove: [x-internal-*]
          statuses: [404]
          types: [text/html]
      - path: /only
        upstream: app
        response_headers: { set: { x-was: "set" }, statuses: [2xx] }
upstreams: { app: { endpoints: ["@app@"] } }
"#,
        &[("app", &app.address())],
    )
    .await;
    let mut client = Client::connect(proxy.web()).await;
    client
        .send(
            "GET /a?tenant=blue HTTP/1.1\r\nHost: T:80\r\nCookie: a=1; user=ann\r\nX-None: forged\r\n\
             X-In: one\r\nX-In: two\r\nX-Tag: own\r\n\r\n",
        )
        .await;
    let response = client.response().await;
    let seen = app.last();
    assert_eq!(seen.target, "/inner/a?tenant=blue");
    assert_eq!(seen.headers.get("host"), Some("blue.internal"));
    assert_eq!(seen.headers.get("x-asked"), Some("http://t:80/a?tenant=blue"));
    assert_eq!(seen.headers.get("x-user"), Some("ann"));
    assert!(
        !seen.headers.has("x-none"),
        "an empty value makes no field and takes the client's away"
    );
    assert_eq!(seen.headers.get("x-chain"), Some("127.0.0.1"));
    assert_eq!(seen.headers.get("x-braces"), Some("{host}"), "constants have no variables");
    assert_eq!(seen.headers.all("x-tag").collect::<Vec<_>>(), ["own", "one, two/GET"]);
    assert_eq!(response.headers.get("x-was"), Some("404 \"v1\" for /a"));
    assert!(!response.headers.has("x-internal-a") && !response.headers.has("x-internal-b"));
    // No host, and no request: nobody gets to another tenant by leaving it out.
    let response = client.request("GET", "t", "/a").await;
    assert_eq!(response.status, 400, "{response}");
    let response = get(proxy.web(), "t", "/only").await;
    assert!(!response.headers.has("x-was"), "{response}");
}

#[tokio::test]
async fn what_the_upstream_says_of_itself_is_put_right() {
    let app = Backend::answering(
        "HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: http://inner:8080/app/x?y\r\n\
         Set-Cookie: a=1; Path=/app/; Domain=.Inner; HttpOnly\r\nSet-Cookie: b=2; path=/other\r\n\r\n",
    )
    .await;
    let proxy = Proxy::start(
        r#"
listeners: { web: { bind: "@web@" } }
hosts:
  "*":
    routes:
      - path: /
        upstream: app
        response_location: { from: "http://inner:8080/app", to: "{scheme}://{host}" }
        response_cookies: { domain: { from: inner, to: shop.example }, path: { from: /app/, to: / } }
upstreams: { app: { endpoints: ["@app@"] } }
"#,
        &[("app", &app.address())],
    )
    .await;
    let response = get(proxy.web(), "shop.example", "/").await;
    assert_eq!(response.headers.get("location"), Some("http://shop.example/x?y"));
    let cookies: Vec<_> = response.headers.all("set-cookie").collect();
    assert_eq!(cookies, ["a=1; Path=/; Domain=shop.example; HttpOnly", "b=2; path=/other"]);
}
