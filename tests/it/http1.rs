//! HTTP/1.0 and 1.1 as a client sees them.

use std::time::Duration;

use crate::harness::*;

#[tokio::test]
async fn a_request_reaches_the_upstream_and_its_response_comes_back() {
    let echo = Server::echo().await;
    let proxy = Proxy::to(echo.address()).await;
    let response = get(proxy.web(), "shop.example", "/a%20b/c;d=e?y=1&y=2&z").await;
    let echoed = Echoed::of(&response.body);
    assert_eq!(echoed.method, "GET");
    assert_eq!(echoed.target, "/a%20b/c;d=e?y=1&y=2&z");
    assert_eq!(echoed.host, "shop.example");
    assert_eq!(echoed.version, "HTTP/1.1");
    assert!(response.headers.has("date"), "{response}");
}

#[tokio::test]
async fn one_connection_serves_many_requests_and_so_does_the_one_to_the_upstream() {
    let echo = Server::echo().await;
    let proxy = Proxy::to(echo.address()).await;
    let mut client = Client::connect(proxy.web()).await;
    for number in 0..50 {
        let response = client.request("GET", "t", &format!("/{number}")).await;
        assert_eq!(Echoed::of(&response.body).target, format!("/{number}"));
    }
    assert_eq!(echo.connections(), 1, "the connection to the upstream is reused");
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let echo = Server::echo().await;
    let proxy = Proxy::to(echo.address()).await;
    let mut client = Client::connect(proxy.web()).await;
    client
        .send(
            "GET /1?delay_ms=60 HTTP/1.1\r\nHost: t\r\n\r\n\
             POST /2 HTTP/1.1\r\nHost: t\r\nContent-Length: 5\r\n\r\nhello\
             POST /3 HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n\
             GET /4 HTTP/1.1\r\nHost: t\r\n\r\n",
        )
        .await;
    for (target, length) in [("/1?delay_ms=60", 0), ("/2", 5), ("/3", 3), ("/4", 0)] {
        let echoed = Echoed::of(&client.response().await.body);
        assert_eq!((echoed.target.as_str(), echoed.length), (target, length));
    }
}

#[tokio::test]
async fn a_bad_request_in_a_pipeline_ends_it_and_nothing_behind_it_is_served() {
    let app = Backend::saying("fine").await;
    let proxy = Proxy::to(app.address()).await;
    let mut client = Client::connect(proxy.web()).await;
    client
        .send(
            "GET /1 HTTP/1.1\r\nHost: t\r\n\r\n\
             GET /2 HTTP/1.1\r\nHost : t\r\n\r\n\
             GET /3 HTTP/1.1\r\nHost: t\r\n\r\n",
        )
        .await;
    assert_eq!(client.response().await.status, 200);
    assert_eq!(client.response().await.status, 400);
    client.closed().await;
    let targets: Vec<_> = app.requests().into_iter().map(|seen| seen.target).collect();
    assert_eq!(targets, ["/1"]);
}

#[tokio::test]
async fn http_1_0_gets_no_chunks_and_the_connection_ends_unless_it_asks_to_keep_it() {
    let app = Backend::answering(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
    )
    .await;
    let sized = Backend::saying("sized").await;
    let proxy = Proxy::start(
        r#"
listeners: { web: { bind: "@web@" } }
hosts:
  "*":
    routes:
      - { path: /, upstream: app }
      - { path: /sized, upstream: sized }
upstreams:
  app: { endpoints: ["@app@"] }
  sized: { endpoints: ["@sized@"] }
"#,
        &[("app", &app.address()), ("sized", &sized.address())],
    )
    .await;

    let mut client = Client::connect(proxy.web()).await;
    client.send("GET / HTTP/1.0\r\nHost: t\r\n\r\n").await;
    let response = client.response().await;
    assert!(!response.headers.has("transfer-encoding"), "{response}");
    assert_eq!(response.text(), "abcde");
    client.closed().await;

    let mut client = Client::connect(proxy.web()).await;
    for _ in 0..3 {
        client.send("GET /sized HTTP/1.0\r\nHost: t\r\nConnection: keep-alive\r\n\r\n").await;
        let response = client.response().await;
        assert_eq!(response.text(), "sized");
        let connection = response.headers.joined("connection").to_ascii_lowercase();
        assert!(connection.contains("keep-alive"), "{response}");
    }
    assert_eq!(app.last().version, "HTTP/1.1", "the upstream is spoken to in our version");
}

#[tokio::test]
async fn connection_close_is_honoured() {
    let app = Backend::saying("fine").await;
    let proxy = Proxy::to(app.address()).await;
    let mut client = Client::connect(proxy.web()).await;
    client.send("GET / HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n").await;
    let response = client.response().await;
    assert_eq!(response.text(), "fine");
    assert!(response.headers.joined("connection").to_ascii_lowercase().contains("close"));
    client.closed().await;
}

#[tokio::test]
async fn head_brings_the_header_without_the_body_and_the_connection_goes_on() {
    let app = Backend::script(|mut conn| async move {
        while let Some(seen) = conn.request().await {
            conn.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-Kind: h\r\n\r\n").await;
            if seen.method != "HEAD" {
                conn.send("hello").await;
            }
        }
    })
    .await;
    let proxy = Proxy::to(app.address()).await;
    let mut client = Client::connect(proxy.web()).await;
    let head = client.request("HEAD", "t", "/").await;
    assert_eq!(head.headers.get("content-length"), Some("5"));
    assert_eq!(head.headers.get("x-kind"), Some("h"));
    assert_eq!(client.request("GET", "t", "/").await.text(), "hello");
    assert_eq!(app.connections(), 1);
}

#[tokio::test]
async fn responses_without_a_body_have_none() {
    let app = Backend::script(|mut conn| async move {
        while let Some(seen) = conn.request().await {
            let head = match seen.target.as_str() {
                "/304" => "HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\nContent-Length: 7\r\n\r\n",
                _ => "HTTP/1.1 204 No Content\r\n\r\n",
            };
            conn.send(head).await;
        }
    })
    .await;
    let proxy = Proxy::to(app.address()).await;
    let mut client = Client::connect(proxy.web()).await;
    for _ in 0..2 {
        let response = client.request("GET", "t", "/304").await;
        assert_eq!((response.status, response.headers.get("etag")), (304, Some("\"x\"")));
        let response = client.request("GET", "t", "/204").await;
        assert_eq!(response.status, 204);
        assert!(!response.headers.has("transfer-encoding"), "{response}");
        assert_ne!(response.headers.get("content-length"), Some("7"));
    }
    assert!(client.silent(Duration::from_millis(30)).await, "no byte beyond the responses");
}

#[tokio::test]
async fn chunked_bodies_with_trailers_pass_both_ways() {
    let app = Backend::script(|mut conn| async move {
        while let Some(seen) = conn.request().await {
            let sum = seen.trailers.get("x-sum").unwrap_or("none").to_owned();
            conn.send(format!(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Back\r\n\r\n\
                 4\r\nwiki\r\n5;ext=1\r\npedia\r\n0\r\nX-Back: {sum}\r\n\r\n"
            ))
            .await;
        }
    })
    .await;
    let proxy = Proxy::to(app.address()).await;
    let mut client = Client::connect(proxy.web()).await;
    for _ in 0..2 {
        client
            .send(
                "POST /t HTTP/1.1\r\nHost: t\r\nTE: trailers\r\nConnection: TE\r\n\
                 Trailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n\
                 3;a=\"b\"\r\nabc\r\n0A\r\n0123456789\r\n0\r\nX-Sum: 42\r\n\r\n",
            )
            .await;
        let response = client.response().await;
        assert_eq!(response.text(), "wikipedia");
        assert_eq!(response.trailers.get("x-back"), Some("42"), "{response}");
        let seen = app.last();
        assert_eq!(seen.body, b"abc0123456789");
        assert_eq!(seen.headers.get("transfer-encoding"), Some("chunked"));
        assert!(!seen.headers.has("content-length"));
    }
}

#[tokio::test]
async fn a_body_arrives_before_the_request_is_complete() {
    let app = Backend::script(|mut conn| async move {
        let Some(_) = conn.head().await else { return };
        let first = conn.line().await;
        assert_eq!(first.as_deref(), Some("5"), "the first chunk comes before the second is sent");
        conn.exactly(7).await;
        conn.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n").await;
        conn.line().await;
        conn.exactly(2).await;
        conn.send("3\r\nend\r\n0\r\n\r\n").await;
        conn.stall().await;
    })
    .await;
    let proxy = Proxy::to(app.address()).await;
    let mut client = Client::connect(proxy.web()).await;
    client
        .send("POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
        .await;
    let head = client.head().await;
    assert_eq!(head.status, 200, "a response may come while the request is under way");
    assert_eq!(client.chunk().await.expect("a chunk"), b"ok");
    client.send("0\r\n\r\n").await;
    assert_eq!(client.chunk().await.expect("a chunk"), b"end");
    assert_eq!(client.chunk().await.expect("the last chunk"), b"");
}

#[tokio::test]
async fn a_get_with_a_body_keeps_its_body() {
    let app = Backend::saying("fine").await;
    let proxy = Proxy::to(app.address()).await;
    let mut client = Client::connect(proxy.web()).await;
    let inner = "GET /x HTTP/1.1\r\nHost: t\r\n\r\n";
    client
        .send(format!(
            "GET / HTTP/1.1\r\nHost: t\r\nContent-Length: {}\r\n\r\n{inner}",
            inner.len()
        ))
        .await;
    assert_eq!(client.response().await.text(), "fine");
    client
        .send(
            "GET /2 HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        )
        .await;
    assert_eq!(client.response().await.text(), "fine");
    let requests = app.requests();
    assert_eq!(requests.len(), 2, "{requests:?}");
    assert_eq!(requests[0].body, inner.as_bytes());
    assert_eq!(requests[1].body, b"abc");
}

#[tokio::test]
async fn expect_100_continue_is_answered_before_the_body_is_sent() {
    let app = Backend::saying("stored").await;
    let proxy = Proxy::to(app.address()).await;
    let mut client = Client::connect(proxy.web()).await;
    for _ in 0..2 {
        client
            .send("POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
            .await;
        let interim = client.one_head().await.expect("an interim response");
        assert_eq!(interim.status, 100);
        client.send("hello").await;
        let response = client.response().await;
        assert_eq!((response.text().as_str(), response.interim.len()), ("stored", 0));
        assert_eq!(app.last().body, b"hello");
    }
}

#[tokio::test]
async fn an_unknown_expectation_is_refused() {
    let app = Backend::saying("fine").await;
    let proxy = Proxy::to(app.address()).await;
    let mut client = Client::connect(proxy.web()).await;
    client
        .send("POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 5\r\nExpect: miracles\r\n\r\n")
        .await;
    assert_eq!(client.response().await.status, 417);
    client.closed().await;
    assert_eq!(app.connections(), 0);
}

#[tokio::test]
async fn early_hints_are_relayed_before_the_response() {
    let app = Backend::answering(
        "HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n\
         HTTP/1.1 103 Early Hints\r\nLink: </app.js>; rel=preload\r\n\r\n\
         HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\npage",
    )
    .await;
    let proxy = Proxy::to(app.address()).await;
    let mut client = Client::connect(proxy.web()).await;
    for _ in 0..2 {
        let response = client.request("GET", "t", "/").await;
        let hints: Vec<_> = response
            .interim
            .iter()
            .map(|(status, headers)| (*status, headers.get("link").unwrap_or_default()))
            .collect();
        let expected = [(103, "</style.css>; rel=preload"), (103, "</app.js>; rel=preload")];
        assert_eq!(hints, expected);
        assert_eq!(response.text(), "page");
    }
}

#[tokio::test]
async fn early_hints_come_while_the_response_is_still_awaited() {
    let app = Backend::script(|mut conn| async move {
        let Some(_) = conn.request().await else { return };
        conn.send("HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n").await;
        // The test answers for the browser: it asks for the style sheet once it got the hint.
        let Some(_) = conn.line().await else { return };
        conn.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
        conn.stall().await;
    })
    .await;
    let proxy = Proxy::to(app.address()).await;
    let mut client = Client::connect(proxy.web()).await;
    client.send("POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 0\r\n\r\n").await;
    let hint = client.one_head().await.expect("the hint comes while the response does not");
    assert_eq!((hint.status, hint.headers.get("link")), (103, Some("</a.css>")));
}

#[tokio::test]
async fn http_1_0_clients_get_no_interim_responses() {
    let app = Backend::answering(
        "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    )
    .await;
    let proxy = Proxy::to(app.address()).await;
    let mut client = Client::connect(proxy.web()).await;
    client.send("GET / HTTP/1.0\r\nHost: t\r\n\r\n").await;
    let response = client.response().await;
    assert_eq!((response.text().as_str(), response.interim.len()), ("ok", 0));
}

#[tokio::test]
async fn connect_and_trace_are_not_forwarded() {
    let app = Backend::saying("fine").await;
    let proxy = Proxy::to(app.address()).await;

    let mut client = Client::connect(proxy.web()).await;
    client.send("CONNECT db.internal:5432 HTTP/1.1\r\nHost: db.internal:5432\r\n\r\n").await;
    let response = client.response().await;
    assert_eq!(response.status, 405);
    assert!(response.headers.has("allow"), "RFC 9110 section 15.5.6: 405 says what is allowed");
    client.closed().await;

    let mut client = Client::connect(proxy.web()).await;
    let response = client.request("TRACE", "t", "/").await;
    response.assert_refused(405, "method_not_allowed");
    assert!(response.headers.has("allow"), "RFC 9110 section 15.5.6: 405 says what is allowed");
    assert_eq!(app.connections(), 0);
}

#[tokio::test]
async fn other_methods_pass_as_they_are() {
    let echo = Server::echo().await;
    let proxy = Proxy::to(echo.address()).await;
    let mut client = Client::connect(proxy.web()).await;
    for method in ["PUT", "DELETE", "PATCH", "OPTIONS", "PROPFIND", "QUERY", "get"] {
        let response = client.request(method, "t", "/").await;
        assert_eq!(Echoed::of(&response.body).method, method);
    }
}

#[tokio::test]
async fn an_absolute_target_is_forwarded_as_a_path() {
    let app = Backend::saying("fine").await;
    let proxy = Proxy::to(app.address()).await;
    let mut client = Client::connect(proxy.web()).await;
    assert_eq!(
        client.request("GET", "shop.example", "http://shop.example/a?b=c").await.status,
        200
    );
    let seen = app.last();
    assert_eq!((seen.target.as_str(), seen.headers.get("host")), ("/a?b=c", Some("shop.example")));
}

/// As with nginx: a client that ends its direction while it waits is taken to have gone away, and
/// the endpoint is not left working for nobody.
#[tokio::test]
async fn a_client_that_ends_its_direction_while_it_waits_frees_the_endpoint() {
    let app = Backend::script(|mut conn| async move {
        let Some(_) = conn.request().await else { return };
        conn.stall().await;
    })
    .await;
    let proxy = Proxy::to(app.address()).await;
    let mut client = Client::connect(proxy.web()).await;
    client.send("GET /x HTTP/1.1\r\nHost: t\r\n\r\n").await;
    eventually(STEP, "the request arrives", async || app.requests().len() == 1).await;
    client.half_close().await;
    match client.try_response(false).await {
        Ok(response) => response.assert_refused(499, "client_closed"),
        Err(Broken::Closed) => {}
        Err(broken) => panic!("{broken:?}"),
    }
    eventually(STEP, "the upstream request is given up", async || app.open() == 0).await;
}

#[tokio::test]
async fn the_body_of_a_refused_request_is_never_taken_for_a_request() {
    let app = Backend::saying("fine").await;
    let proxy = Proxy::start(
        r#"
listeners: { web: { bind: "@web@" } }
hosts: { "*": { routes: [ { path: /ok, upstream: app } ] } }
upstreams: { app: { endpoints: ["@app@"] } }
"#,
        &[("app", &app.address())],
    )
    .await;
    let mut client = Client::connect(proxy.web()).await;
    let body = "GET /ok HTTP/1.1\r\nHost: t\r\n\r\n";
    client
        .send(format!("POST /no HTTP/1.1\r\nHost: t\r\nContent-Length: {}\r\n\r\n", body.len()))
        .await;
    client.response().await.assert_refused(404, "no_route");
    // Whether the connection is still read or already closed is the proxy's choice.
    let _ = client.try_send(body).await;
    let _ = client.try_send("GET /ok HTTP/1.1\r\nHost: t\r\n\r\n").await;
    match client.try_response(false).await {
        Ok(response) => assert_eq!(response.text(), "fine"),
        Err(Broken::Closed) => {}
        Err(broken) => panic!("{broken:?}"),
    }
    assert!(app.requests().len() <= 1, "{:?}", app.requests());
}

#[tokio::test]
async fn http_1_0_without_a_host_is_served_by_the_host_for_all_others() {
    let proxy = Proxy::start(
        r#"
listeners: { web: { bind: "@web@" } }
hosts:
  shop.example: { routes: [ { respond: { body: shop } } ] }
  "*": { routes: [ { respond: { body: others } } ] }
"#,
        &[],
    )
    .await;
    for (host, expected) in [("", "others"), ("Host: shop.example\r\n", "shop")] {
        let mut client = Client::connect(proxy.web()).await;
        client.send(format!("GET / HTTP/1.0\r\n{host}\r\n")).await;
        assert_eq!(client.response().await.text(), expected);
        client.closed().await;
    }
}

#[tokio::test]
async fn the_date_and_server_of_an_upstream_are_its_own() {
    let app = Backend::answering(
        "HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nServer: app/1\r\n\
         Content-Length: 0\r\n\r\n",
    )
    .await;
    let proxy = Proxy::to(app.address()).await;
    let response = get(proxy.web(), "t", "/").await;
    let dates: Vec<_> = response.headers.all("date").collect();
    assert_eq!(dates, ["Sun, 06 Nov 1994 08:49:37 GMT"]);
    assert_eq!(response.headers.all("server").collect::<Vec<_>>(), ["app/1"]);
}

#[tokio::test]
async fn listeners_and_endpoints_may_be_on_ipv6() {
    let listener = tokio::net::TcpListener::bind("[::1]:0").await.expect("IPv6 on loopback");
    let app = Backend::script_on(listener, |mut conn| async move {
        while conn.request().await.is_some() {
            conn.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nv6").await;
        }
    });
    let proxy = Proxy::start(
        r#"
listeners: { web: { bind: "[::1]:@web.port@" } }
hosts: { "*": { routes: [ { upstream: app } ] } }
upstreams: { app: { endpoints: ["@app@"] } }
"#,
        &[("app", &app.address())],
    )
    .await;
    let web = std::net::SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, proxy.web().port()));
    let mut client = Client::connect(web).await;
    assert_eq!(client.request("GET", &web.to_string(), "/").await.text(), "v6");
    let seen = app.last().headers;
    assert_eq!(seen.joined("x-forwarded-for"), "::1");
    assert_eq!(seen.joined("x-forwarded-host"), web.to_string());
}

#[tokio::test]
async fn interim_responses_say_nothing_of_a_body() {
    let app = Backend::answering(
        "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\nContent-Length: 5\r\n\r\n\
         HTTP/1.1 103 Early Hints\r\nLink: </b.css>\r\nTransfer-Encoding: chunked\r\n\r\n\
         HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    )
    .await;
    let proxy = Proxy::to(app.address()).await;
    let mut client = Client::connect(proxy.web()).await;
    let response = client.request("GET", "t", "/").await;
    assert_eq!((response.text().as_str(), response.interim.len()), ("ok", 2));
    for (_, headers) in &response.interim {
        assert!(headers.has("link"), "{headers:?}");
        assert!(!headers.has("content-length"), "{headers:?}");
        assert!(!headers.has("transfer-encoding"), "{headers:?}");
    }
    let mut h2 = H2::connect(proxy.web()).await;
    let response = h2.get("t", "/").await;
    assert_eq!((response.text().as_str(), response.interim.len()), ("ok", 2));
    for interim in &response.interim {
        assert!(!interim.headers().contains_key("content-length"), "{interim:?}");
    }
}
