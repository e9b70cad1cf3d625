//! Answers of another upstream in the place of errors.

use crate::harness::*;

const CONFIG: &str = r#"
listeners: { web: { bind: "@web@" } }
hosts:
  "*":
    routes:
      - name: paged
        path: /
        upstream: app
        error_pages:
          statuses: [404, 500-503]
          upstream: pages
          headers: { X-Service-Name: "app of {host}" }
      - path: /lost
        upstream: dead
        retry: off
        error_pages: { statuses: 5xx, upstream: pages }
      - path: /unpaged
        upstream: app
        error_pages: { statuses: 5xx, upstream: dead }
      - path: /empty
        upstream: empty
        rewrite: { prefix: /rewritten }
        error_pages: { no_endpoint: true, upstream: pages, headers: { X-Service-Name: "app of {host}" } }
      - path: /sick
        upstream: sick
        rewrite: { prefix: /rewritten }
        error_pages: { no_endpoint: true, upstream: pages }
      - path: /both
        upstream: empty
        error_pages: { statuses: 4xx, no_endpoint: true, upstream: pages }
      - path: /shut
        upstream: app
        auth: { basic: { users: "ann:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=" } }
        error_pages: { statuses: 401, upstream: pages }
upstreams:
  app: { endpoints: ["@app@"] }
  pages: { endpoints: ["@pages@"] }
  dead: { endpoints: ["@dead@"] }
  empty: { endpoints: [] }
  sick: { endpoints: ["@dead@"], health: { type: tcp, interval: 20ms, fall: 1 }, panic_threshold: 0 }
"#;

/// Pages with a status of their own.
async fn pages() -> Backend {
    Backend::script(|mut conn| async move {
        while let Some(seen) = conn.request().await {
            let head = "HTTP/1.1 418 Page\r\nContent-Length: 4\r\nX-Page: 1\r\n\r\n";
            let body = if seen.method == "HEAD" { "" } else { "page" };
            conn.send(format!("{head}{body}")).await;
        }
    })
    .await
}

async fn start(app: &Server, pages: &Backend) -> Proxy {
    let values: [(&str, &dyn std::fmt::Display); 3] =
        [("app", &app.address()), ("pages", &pages.address()), ("dead", &reserve())];
    Proxy::start(CONFIG, &values).await
}

#[tokio::test]
async fn the_page_has_the_place_of_the_error_and_is_told_about_it() {
    let (app, pages) = (Server::echo().await, pages().await);
    let proxy = start(&app, &pages).await;
    let mut client = Client::connect(proxy.web()).await;
    for status in [404, 500, 503] {
        let target = format!("/a?status={status}");
        let fields = "Accept: text/html\r\nX-Code: 1\r\nX-Original-URI: /x\r\n";
        client.send(format!("GET {target} HTTP/1.1\r\nHost: shop\r\n{fields}\r\n")).await;
        let response = client.response().await;
        assert_eq!((response.status, response.text().as_str()), (418, "page"), "{response}");
        let asked = pages.last();
        assert_eq!((asked.method.as_str(), asked.target.as_str()), ("GET", "/"));
        for (name, value) in [
            ("x-code", status.to_string().as_str()),
            ("x-format", "text/html"),
            ("x-original-uri", target.as_str()),
            ("x-service-name", "app of shop"),
            ("host", "shop"),
        ] {
            assert_eq!(asked.headers.all(name).collect::<Vec<_>>(), [value], "{name}");
        }
        assert!(asked.headers.has("x-request-id"));
    }
    let served = pages.requests().len();
    for status in [200, 400, 504] {
        let response = client.request("GET", "t", &format!("/?status={status}")).await;
        assert_eq!(response.status, status);
    }
    assert_eq!(pages.requests().len(), served, "other responses are passed on");

    // The request's body is not sent twice, and the head alone is asked for where only that is
    // wanted.
    client.send("POST /?status=500 HTTP/1.1\r\nHost: t\r\nContent-Length: 5\r\n\r\nhello").await;
    assert_eq!(client.response().await.status, 418);
    let asked = pages.last();
    assert_eq!((asked.method.as_str(), asked.body.len()), ("POST", 0));
    assert_eq!(client.request("HEAD", "t", "/?status=500").await.status, 418);
    assert_eq!(pages.last().method, "HEAD");
    assert_eq!(client.request("GET", "t", "/").await.status, 200, "the connection goes on");

    let mut client = H2::connect(proxy.web()).await;
    let response = client.get("t", "/?status=500").await;
    assert_eq!((response.status, response.text().as_str()), (418, "page"));
    assert_eq!(response.header("x-page"), Some("1"));
}

#[tokio::test]
async fn errors_of_the_proxy_get_a_page_too_and_keep_their_reason() {
    let (app, pages) = (Server::echo().await, pages().await);
    let proxy = start(&app, &pages).await;
    let mut client = Client::connect(proxy.web()).await;
    let response = client.request("GET", "t", "/lost/a").await;
    assert_eq!((response.status, response.text().as_str()), (418, "page"), "{response}");
    assert_eq!(pages.last().headers.get("x-code"), Some("503"));
    assert_eq!(client.request("GET", "t", "/shut").await.status, 418);
    assert_eq!(pages.last().headers.get("x-code"), Some("401"));
    proxy
        .metrics_until("the reason is counted", |metrics| {
            let labels = [("code", "4xx"), ("reason", "connect_failed")];
            metrics.sum("portcullis_requests_total", &labels) == 1.0
        })
        .await;
}

#[tokio::test]
async fn where_there_is_no_page_the_error_stands() {
    let (app, pages) = (Server::echo().await, pages().await);
    let proxy = start(&app, &pages).await;
    let mut client = Client::connect(proxy.web()).await;
    for _ in 0..2 {
        let response = client.request("GET", "t", "/unpaged?status=500&size=1000").await;
        assert_eq!((response.status, response.body.len()), (500, 1000), "{response}");
    }
}

#[tokio::test]
async fn endpoints_none_of_which_may_be_picked_are_as_none() {
    let (app, pages) = (Server::echo().await, pages().await);
    let proxy = start(&app, &pages).await;
    eventually(STEP, "the endpoint is found out", async || {
        let mut client = Client::connect(proxy.web()).await;
        let fields = "Content-Length: 5\r\n";
        client.send(format!("POST /sick/x?y=1 HTTP/1.1\r\nHost: shop\r\n{fields}\r\nhello")).await;
        client.response().await.status == 418
    })
    .await;
    let asked = pages.last();
    assert_eq!((asked.method.as_str(), asked.target.as_str()), ("POST", "/rewritten/x?y=1"));
    assert_eq!((asked.headers.get("x-code"), &*asked.body), (Some("503"), &b"hello"[..]));
    assert!(pages.requests().iter().all(|seen| seen.target != "/"), "{:?}", pages.requests());
}

#[tokio::test]
async fn who_has_no_endpoint_may_have_somebody_who_answers() {
    let (app, pages) = (Server::echo().await, pages().await);
    let proxy = start(&app, &pages).await;
    let mut client = Client::connect(proxy.web()).await;
    let fields = "Accept: text/html\r\nX-Code: 1\r\nContent-Type: text/x\r\nContent-Length: 5\r\n";
    client.send(format!("POST /empty/x?y=1 HTTP/1.1\r\nHost: shop\r\n{fields}\r\nhello")).await;
    let response = client.response().await;
    assert_eq!((response.status, response.text().as_str()), (418, "page"), "{response}");
    let asked = pages.last();
    assert_eq!((asked.method.as_str(), asked.target.as_str()), ("POST", "/rewritten/x?y=1"));
    assert_eq!(asked.body, b"hello");
    for (name, value) in [
        ("x-code", "503"),
        ("x-format", "text/html"),
        ("x-original-uri", "/empty/x?y=1"),
        ("x-service-name", "app of shop"),
        ("content-type", "text/x"),
        ("host", "shop"),
    ] {
        assert_eq!(asked.headers.all(name).collect::<Vec<_>>(), [value], "{name}");
    }
    proxy
        .metrics_until("the reason is counted", |metrics| {
            let labels = [("code", "4xx"), ("reason", "no_endpoint")];
            metrics.sum("portcullis_requests_total", &labels) == 1.0
        })
        .await;
    // What it answers may be replaced as any other answer.
    assert_eq!(client.request("GET", "t", "/both").await.status, 418);
    let asked = pages.requests();
    let asked: Vec<_> = asked.iter().rev().take(2).map(|seen| seen.target.as_str()).collect();
    assert_eq!(asked, ["/", "/both"]);
}
