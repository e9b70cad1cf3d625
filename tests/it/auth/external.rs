//! A service is asked who may use a route: what it is asked, and what becomes of its answers.

use std::fmt::Display;

use crate::harness::*;

/// A service that answers what `X-Answer` of the question says, 200 where there is none. Its
/// answers carry a user, a cookie and a challenge.
async fn service() -> Backend {
    Backend::script(|mut conn| async move {
        while let Some(seen) = conn.request().await {
            let status = seen.headers.get("x-answer").unwrap_or("200").to_owned();
            if status == "never" {
                conn.stall().await;
                return;
            }
            let user = match seen.headers.get("x-nobody") {
                Some(_) => "",
                None => "X-User: ann\r\nX-Group: a\r\nX-Group: b\r\n",
            };
            let head = format!(
                "HTTP/1.1 {status} Answer\r\nContent-Length: 4\r\n{user}Set-Cookie: sid=1\r\n\
                 WWW-Authenticate: Bearer realm=\"shop\"\r\nX-Real-IP: 9.9.9.9\r\n\
                 Location: /elsewhere\r\n\r\nbody"
            );
            conn.send(head).await;
        }
    })
    .await
}

const CONFIG: &str = r#"
access_log: { path: "@dir@/access.log", format: "{status} {reason} {upstream}" }
listeners: { web: { bind: "@web@" } }
hosts:
  "*":
    routes:
      - name: asked
        path: /
        upstream: app
        auth:
          external:
            url: "http://@auth@/check?for={request_uri}&u={http_x_who}"
            response_headers: [X-User, X-Group, X-Real-IP]
            request_headers: { X-From: "{remote_addr} {host}" }
            timeout: 2s
      - path: /signin
        upstream: app
        auth: { external: { url: "http://@auth@/", signin: "https://{host}/login" } }
      - path: /told
        upstream: app
        auth:
          external:
            upstream: auth
            path: /named
            method: HEAD
            request_redirect: "https://{http_host}/home"
            signin: "https://login.example/?next={escaped_request_uri}"
            signin_redirect_param: next
            always_set_cookie: true
      - { path: /own, upstream: app, auth: { external: { url: "https://{host}/oauth2/auth?x={arg_x}" } } }
      - { path: /oauth2, upstream: auth }
      - { path: /self, upstream: app, auth: { external: { url: "https://{host}/self" } } }
      - { path: /dead, upstream: app, auth: { external: { url: "http://@dead@/" } } }
      - path: /both
        upstream: app
        auth:
          basic: { users: "ann:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=" }
          external: { url: "http://@auth@/" }
      - path: /either
        upstream: app
        auth:
          satisfy: any
          basic: { users: "ann:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=" }
          external: { url: "http://@auth@/" }
      - path: /near
        upstream: app
        access: { allow: [127.0.0.1, 10.0.0.0/8], deny: [10.9.0.0/16] }
        auth:
          satisfy: any
          basic: { users: "ann:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=" }
          external: { url: "http://@auth@/no", response_headers: [x-user] }
      - path: /denied
        upstream: app
        access: { deny: [127.0.0.2] }
        auth: { satisfy: any, basic: { users: "ann:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=" } }
upstreams:
  app: { endpoints: ["@app@"] }
  auth: { endpoints: ["@auth@"] }
"#;

async fn start(app: &dyn Display, auth: &Backend) -> Proxy {
    Proxy::start(CONFIG, &[("app", app), ("auth", &auth.address()), ("dead", &reserve())]).await
}

fn get(target: &str, fields: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: shop.example:81\r\n{fields}\r\n")
}

#[tokio::test]
async fn who_is_let_in_is_asked_for_and_the_answer_goes_along() {
    let (app, auth) = (Server::echo().await, service().await);
    let proxy = start(&app.address(), &auth).await;
    let mut client = Client::connect(proxy.web()).await;
    let forged = "X-User: root\r\nX-Group: root\r\nX-Original-URL: /x\r\nX-Original-Method: x\r\n\
                  X-Auth-Request-Redirect: /x\r\nX-Sent-From: x\r\nX-From: x\r\n\
                  X-Who: a&b=c d\r\nCookie: c=1\r\n";
    client.send(get("/a?b=c", forged)).await;
    let response = client.response().await;
    assert_eq!(response.status, 200, "{response}");
    assert_eq!(response.headers.all("set-cookie").collect::<Vec<_>>(), ["sid=1"]);
    let seen = Echoed::of(&response.body);
    let all = |name: &str| -> Vec<_> {
        seen.headers.iter().filter(|(n, _)| n == name).map(|(_, v)| v.as_str()).collect()
    };
    assert_eq!((all("x-user"), all("x-group")), (vec!["ann"], vec!["a", "b"]));
    assert_eq!(all("x-real-ip"), ["127.0.0.1"], "that is not the service's to say");

    let asked = auth.last();
    assert_eq!((asked.method.as_str(), asked.body.len()), ("GET", 0));
    assert_eq!(asked.target, "/check?for=/a?b=c&u=a%26b%3Dc%20d");
    let host = auth.address().to_string();
    for (name, value) in [
        ("host", host.as_str()),
        ("x-original-url", "http://shop.example:81/a?b=c"),
        ("x-original-method", "GET"),
        ("x-auth-request-redirect", "/a?b=c"),
        ("x-sent-from", "portcullis"),
        ("x-from", "127.0.0.1 shop.example"),
        ("x-forwarded-for", "127.0.0.1"),
        ("x-real-ip", "127.0.0.1"),
        ("x-forwarded-host", "shop.example:81"),
        ("cookie", "c=1"),
    ] {
        assert_eq!(asked.headers.all(name).collect::<Vec<_>>(), [value], "{name}");
    }
    assert!(!asked.headers.has("x-forwarded-proto") && !asked.headers.has("content-length"));
    assert_eq!(asked.headers.get("x-request-id"), seen.header("x-request-id"), "one story");

    // What the service does not say takes the client's word away all the same.
    client.send(get("/", "X-Nobody: 1\r\nX-User: root\r\n")).await;
    let seen = Echoed::of(&client.response().await.body);
    assert_eq!((seen.header("x-user"), seen.header("x-group")), (None, None));
    assert_eq!(auth.connections(), 1, "the connection is kept");
}

#[tokio::test]
async fn refusals_are_told_and_anything_else_is_a_failure() {
    let (app, auth) = (Server::echo().await, service().await);
    let proxy = start(&app.address(), &auth).await;
    let mut client = Client::connect(proxy.web()).await;
    for (target, answer, status, reason) in [
        ("/", "401", 401, "unauthorized"),
        ("/", "403", 403, "forbidden"),
        ("/", "404", 500, "auth_failed"),
        ("/", "302", 500, "auth_failed"),
        ("/", "500", 500, "auth_failed"),
        ("/", "503", 500, "auth_failed"),
        ("/", "never", 500, "auth_failed"),
        ("/dead", "200", 500, "auth_failed"),
        ("/self", "200", 500, "auth_failed"),
    ] {
        client.send(get(target, &format!("X-Answer: {answer}\r\n"))).await;
        let response = client.response().await;
        response.assert_refused(status, reason);
        assert!(!response.headers.has("set-cookie"), "{answer}");
        let challenge = response.headers.get("www-authenticate");
        assert_eq!(challenge, (answer == "401").then_some("Bearer realm=\"shop\""), "{answer}");
    }
    assert_eq!(app.requests(), 0);
    let log = proxy.file("access.log");
    eventually(STEP, "the reasons stand in the log", async || {
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        text.contains("403 forbidden -") && text.contains("500 auth_failed -")
    })
    .await;
    let explained = proxy.admin("/api/explain?url=http://shop.example/signin").await;
    assert!(explained.text().contains("is asked"), "{explained}");
}

#[tokio::test]
async fn who_is_not_known_is_sent_to_sign_in() {
    let (app, auth) = (Server::echo().await, service().await);
    let proxy = start(&app.address(), &auth).await;
    let mut client = Client::connect(proxy.web()).await;
    client.send(get("/signin/a?b=c&d=%0d", "X-Answer: 401\r\n")).await;
    let response = client.response().await;
    assert_eq!(response.status, 302, "{response}");
    let asked = "http://shop.example:81%2Fsignin%2Fa%3Fb%3Dc%26d%3D%250d";
    assert_eq!(
        response.headers.get("location"),
        Some(format!("https://shop.example/login?rd={asked}").as_str())
    );
    assert_eq!(response.headers.get("set-cookie"), Some("sid=1"));
    client.send(get("/told?x", "X-Answer: 401\r\n")).await;
    let response = client.response().await;
    assert_eq!(response.headers.get("location"), Some("https://login.example/?next=%2Ftold%3Fx"));
    // A refusal stays one, and takes its cookie along where that is wanted.
    client.send(get("/told", "X-Answer: 403\r\n")).await;
    let response = client.response().await;
    assert_eq!(response.status, 403, "{response}");
    let asked = auth.last();
    assert_eq!((asked.method.as_str(), asked.target.as_str()), ("HEAD", "/named"));
    assert_eq!(asked.headers.get("x-auth-request-redirect"), Some("https://shop.example:81/home"));
    client.send(get("/signin", "X-Answer: 403\r\n")).await;
    assert_eq!(client.response().await.status, 403);
}

#[tokio::test]
async fn cookies_of_the_service_go_to_the_client_with_2xx_and_3xx_only() {
    let (app, auth) = (Server::echo().await, service().await);
    let proxy = start(&app.address(), &auth).await;
    let mut client = Client::connect(proxy.web()).await;
    for (target, cookie) in [
        ("/?status=201", true),
        ("/?status=303", true),
        ("/?status=404", false),
        ("/?status=500", false),
    ] {
        client.send(get(target, "")).await;
        let response = client.response().await;
        assert_eq!(response.headers.has("set-cookie"), cookie, "{target}: {response}");
    }
}

#[tokio::test]
async fn another_route_of_the_same_host_may_be_asked() {
    let (app, auth) = (Server::echo().await, service().await);
    let proxy = start(&app.address(), &auth).await;
    let mut client = Client::connect(proxy.web()).await;
    client.send(get("/own?x=1", "")).await;
    assert_eq!(client.response().await.status, 200);
    let asked = auth.last();
    assert_eq!(asked.target, "/oauth2/auth?x=1");
    assert_eq!(asked.headers.get("host"), Some("shop.example:81"));
    client.send(get("/own", "X-Answer: 403\r\n")).await;
    client.response().await.assert_refused(403, "forbidden");
}

#[tokio::test]
async fn bodies_follow_the_question_and_not_with_it() {
    let (app, auth) = (Server::echo().await, service().await);
    let proxy = start(&app.address(), &auth).await;
    let body = body_pattern(300_000);
    let mut client = Client::connect(proxy.web()).await;
    client.send("POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 300000\r\n\r\n").await;
    client.send(&body).await;
    let seen = Echoed::of(&client.response().await.body);
    assert_eq!((seen.length, seen.fingerprint), (300_000, fingerprint(&body)));
    assert_eq!(auth.last().headers.get("x-original-method"), Some("POST"));

    let waits = "POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 5\r\nExpect: 100-continue\r\n";
    client.send(format!("{waits}\r\n")).await;
    assert_eq!(client.one_head().await.expect("a head").status, 100);
    client.send("hello").await;
    assert_eq!(Echoed::of(&client.response().await.body).length, 5);
    client.send(format!("{waits}X-Answer: 403\r\n\r\n")).await;
    let refused = client.response().await;
    assert_eq!((refused.status, refused.interim.len()), (403, 0), "{refused}");

    let mut client = H2::connect(proxy.web()).await;
    let response = client.request(post_request("t", "/"), Some(&body), None).await;
    let seen = response.echoed();
    assert_eq!((seen.length, seen.fingerprint), (300_000, fingerprint(&body)));
    let mut request = get_request("t", "/");
    request.headers_mut().insert("x-answer", "401".parse().expect("a value"));
    let refused = client.request(request, None, None).await;
    assert_eq!(refused.status, 401);
    assert_eq!(refused.header("www-authenticate"), Some("Bearer realm=\"shop\""));
    for asked in auth.requests() {
        let framed = asked.headers.has("content-length") || asked.headers.has("transfer-encoding");
        assert!(!framed && asked.body.is_empty(), "{asked:?}");
    }
}

#[tokio::test]
async fn a_password_and_the_word_of_a_service_are_both_wanted_where_both_are_named() {
    let (app, auth) = (Server::echo().await, service().await);
    let proxy = start(&app.address(), &auth).await;
    let mut client = Client::connect(proxy.web()).await;
    for (fields, status) in [
        ("Authorization: Basic YW5uOnNlY3JldA==\r\n", 200),
        ("Authorization: Basic YW5uOnNlY3JldA==\r\nX-Answer: 403\r\n", 403),
        ("", 401),
    ] {
        client.send(get("/both", fields)).await;
        let response = client.response().await;
        assert_eq!(response.status, status, "{response}");
    }
    assert!(auth.requests().iter().all(|asked| !asked.headers.has("authorization")));
    assert_eq!(auth.requests().len(), 2, "who has no password is not asked about");
}

#[tokio::test]
async fn either_of_them_will_do_where_that_is_said() {
    let (app, auth) = (Server::echo().await, service().await);
    let proxy = start(&app.address(), &auth).await;
    let mut client = Client::connect(proxy.web()).await;
    let right = "Authorization: Basic YW5uOnNlY3JldA==\r\n";
    let other = "Authorization: Bearer token\r\n";
    for (fields, answer, status, asked) in [
        (right, "403", 200, 0),
        (other, "200", 200, 1),
        ("", "200", 200, 2),
        // Who may still show a password is told so, whatever the service says.
        (other, "401", 401, 3),
        (other, "403", 401, 4),
        (other, "500", 401, 5),
    ] {
        client.send(get("/either", &format!("{fields}X-Answer: {answer}\r\n"))).await;
        let response = client.response().await;
        assert_eq!(response.status, status, "{fields} {answer}: {response}");
        assert_eq!(auth.requests().len(), asked, "{fields} {answer}");
        let challenges: Vec<_> = response.headers.all("www-authenticate").collect();
        match (status, answer) {
            (200, _) => assert_eq!(Echoed::of(&response.body).header("authorization"), None),
            (_, "401") => assert_eq!(challenges.len(), 2, "{challenges:?}"),
            _ => assert_eq!(challenges.len(), 1, "{challenges:?}"),
        }
    }
    let asked = auth.requests();
    assert_eq!(asked[0].headers.get("authorization"), Some("Bearer token"), "that may be for it");
    let log = proxy.file("access.log");
    eventually(STEP, "who is let in leaves no reason behind", async || {
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        text.matches("200 - app").count() == 3
    })
    .await;
}

#[tokio::test]
async fn an_address_may_stand_for_what_is_asked_and_the_other_way_round() {
    let (app, auth) = (Server::echo().await, service().await);
    let proxy = start(&app.address(), &auth).await;
    let right = "Authorization: Basic YW5uOnNlY3JldA==\r\n";
    let wrong = "Authorization: Basic YW5uOndyb25n\r\n";
    let mut user = Vec::new();
    for (from, path, fields, answer, status, asked) in [
        ("127.0.0.1", "/near", "", "403", 200, 0),
        ("127.0.0.1", "/near", wrong, "403", 200, 0),
        ("127.0.0.2", "/near", right, "403", 200, 0),
        ("127.0.0.2", "/near", "", "200", 200, 1),
        // Who may still show something is told so: 401, not 403.
        ("127.0.0.2", "/near", "", "403", 401, 2),
        ("127.0.0.2", "/near", wrong, "403", 401, 3),
        ("127.0.0.2", "/denied", "", "200", 401, 3),
        ("127.0.0.2", "/denied", right, "200", 200, 3),
        // Not to be denied is not to be allowed.
        ("127.0.0.1", "/denied", "", "200", 401, 3),
    ] {
        let from = format!("{from}:0").parse().expect("an address");
        let mut client = Client::connect_from(from, proxy.web()).await;
        let fields = format!("{fields}X-User: root\r\nX-Answer: {answer}\r\n");
        client.send(get(path, &fields)).await;
        let response = client.response().await;
        assert_eq!(response.status, status, "{from} {path} {fields}: {response}");
        assert_eq!(auth.requests().len(), asked, "{from} {path} {fields}");
        if status == 200 && path == "/near" {
            let seen = Echoed::of(&response.body);
            assert_eq!(seen.header("authorization"), None, "{from} {fields}");
            user.push(seen.header("x-user").map(str::to_owned));
        }
    }
    let asked = Some("ann".to_owned());
    assert_eq!(user, [None, None, None, asked], "of the service or nobody, never of the client");
}

#[tokio::test]
async fn a_service_nobody_defined_keeps_the_route_closed() {
    let app = Server::echo().await;
    // Its CA cannot be read, so that the upstream is of no use.
    let proxy = Proxy::start(
        r#"
listeners: { web: { bind: "@web@" } }
hosts:
  "*": { routes: [ { path: /, upstream: app, auth: { external: { upstream: auth } } } ] }
upstreams:
  app: { endpoints: ["@app@"] }
  auth: { endpoints: ["https://auth.invalid"], tls: { ca: nowhere.pem } }
"#,
        &[("app", &app.address())],
    )
    .await;
    let mut client = Client::connect(proxy.web()).await;
    client.request("GET", "t", "/").await.assert_refused(503, "auth_unavailable");
    assert_eq!(app.requests(), 0);
}
