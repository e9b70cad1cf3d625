//! User names and passwords: who comes in, what it costs, and what the service behind gets to see.

use std::fmt::Write as _;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::harness::*;

/// "secret" in each kind of hash, and two that let nobody in.
const USERS: &str = "\
ann:$2b$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a
apr:$apr1$r31.....$G/cElGhD0cboYkZN5h5Ne/
sha:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=
plain:secret
crypt:rqXexS6ZhobKA
";
const CONFIG: &str = r#"
access_log: { path: "@dir@/access.log", format: "{status} {user} {reason}" }
listeners: { web: { bind: "@web@" } }
hosts:
  "*":
    routes:
      - { path: /open, upstream: app }
      - name: shut
        path: /
        upstream: app
        auth: { basic: { realm: "the \"back\" office", users_file: users } }
upstreams: { app: { endpoints: ["@app@"] } }
"#;

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

fn get_with(authorization: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: t\r\nAuthorization: {authorization}\r\n\r\n")
}

async fn start(app: &Server) -> Proxy {
    Setup::new(CONFIG).with("app", app.address()).file("users", USERS).start().await
}

#[tokio::test]
async fn whoever_shows_a_password_comes_in_and_nobody_else() {
    let app = Server::echo().await;
    let proxy = start(&app).await;
    let mut client = Client::connect(proxy.web()).await;
    for user in ["ann", "apr", "sha"] {
        client.send(get_with(&basic(user, "secret"))).await;
        let response = client.response().await;
        assert_eq!(response.status, 200, "{user}: {response}");
        let seen = Echoed::of(&response.body);
        assert_eq!(seen.header("authorization"), None, "the password goes no further");
    }
    let served = app.requests();
    for authorization in [
        basic("ann", "Secret"),
        basic("ann", ""),
        basic("eve", "secret"),
        basic("plain", "secret"),
        basic("crypt", "secret"),
        basic("", ""),
        "Basic !".into(),
        "Bearer secret".into(),
    ] {
        client.send(get_with(&authorization)).await;
        let response = client.response().await;
        response.assert_refused(401, "unauthorized");
        assert_eq!(
            response.headers.all("www-authenticate").collect::<Vec<_>>(),
            [r#"Basic realm="the \"back\" office", charset="UTF-8""#],
            "{authorization}"
        );
    }
    client.request("GET", "t", "/").await.assert_refused(401, "unauthorized");
    assert_eq!(client.request("HEAD", "t", "/").await.status, 401);
    assert_eq!(client.request("GET", "t", "/open").await.status, 200);
    assert_eq!(app.requests(), served + 1, "nothing of it reached the service");

    proxy.logs("line 4 of its users").await;
    proxy.logs("line 5 of its users").await;
    assert!(!proxy.stderr().contains("rqXexS6ZhobKA"), "{}", proxy.stderr());
    let log = proxy.file("access.log");
    eventually(STEP, "who it was stands in the log", async || {
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        text.contains("200 ann -") && text.contains("401 - unauthorized")
    })
    .await;
    proxy
        .metrics_until("refusals are counted", |metrics| {
            let labels = [("route", "shut"), ("code", "4xx"), ("reason", "unauthorized")];
            metrics.sum("portcullis_requests_total", &labels) == 10.0
        })
        .await;
}

#[tokio::test]
async fn bodies_follow_once_their_client_is_let_in() {
    let app = Server::echo().await;
    let proxy = start(&app).await;
    let mut client = Client::connect(proxy.web()).await;
    let body = body_pattern(200_000);
    let head = |authorization: &str, more: &str| {
        format!("POST / HTTP/1.1\r\nHost: t\r\nAuthorization: {authorization}\r\n{more}\r\n")
    };
    client.send(head(&basic("ann", "secret"), "Content-Length: 200000\r\n")).await;
    client.send(&body).await;
    let seen = Echoed::of(&client.response().await.body);
    assert_eq!((seen.length, seen.fingerprint), (200_000, fingerprint(&body)));

    // Whoever waits to be asked for the body is asked only now.
    let waits = "Content-Length: 5\r\nExpect: 100-continue\r\n";
    client.send(head(&basic("ann", "secret"), waits)).await;
    assert_eq!(client.one_head().await.expect("a head").status, 100);
    client.send("hello").await;
    assert_eq!(Echoed::of(&client.response().await.body).length, 5);

    let mut client = Client::connect(proxy.web()).await;
    client.send(head(&basic("ann", "wrong"), waits)).await;
    let refused = client.response().await;
    assert_eq!((refused.status, refused.interim.len()), (401, 0), "{refused}");
}

#[tokio::test]
async fn over_http2_it_is_the_same() {
    let app = Server::echo().await;
    let proxy = start(&app).await;
    let mut client = H2::connect(proxy.web()).await;
    for (authorization, status) in
        [(basic("ann", "secret"), 200), (basic("ann", "no"), 401), (basic("apr", "secret"), 200)]
    {
        let mut request = post_request("t", "/");
        request.headers_mut().insert("authorization", authorization.parse().expect("a value"));
        let response = client.request(request, Some(b"hello"), None).await;
        assert_eq!(response.status, status, "{}", response.text());
        match status {
            200 => assert_eq!(response.echoed().length, 5),
            _ => assert!(response.header("www-authenticate").is_some()),
        }
    }
}

#[tokio::test]
async fn a_missing_file_closes_the_route_and_a_mended_one_opens_it() {
    let app = Server::echo().await;
    let proxy = Setup::new(CONFIG).with("app", app.address()).start().await;
    let mut client = Client::connect(proxy.web()).await;
    client.send(get_with(&basic("ann", "secret"))).await;
    client.response().await.assert_refused(503, "auth_unavailable");
    assert_eq!(client.request("GET", "t", "/open").await.status, 200, "the others are served");
    let routes = proxy.admin("/api/routes").await.text();
    assert!(routes.contains("there are no users"), "{routes}");

    proxy.write("users", USERS);
    let status = async |user: &str, password: &str| {
        let mut client = Client::connect(proxy.web()).await;
        client.send(get_with(&basic(user, password))).await;
        client.response().await.status
    };
    eventually(STEP, "the file is found", async || status("ann", "secret").await == 200).await;
    // Who is taken out, or gets another password, is refused with the old one at once.
    assert_eq!(status("sha", "secret").await, 200);
    proxy.write("users", "ann:{SHA}2jmj7l5rSw0yVb/vlWAYkK/YBwk=\n");
    eventually(STEP, "the new file counts", async || status("ann", "").await == 200).await;
    assert_eq!(status("ann", "secret").await, 401);
    assert_eq!(status("sha", "secret").await, 401);
}

/// A hash that takes about a second in an unoptimised build.
fn slow_users() -> String {
    format!("ann:{}\n", bcrypt::hash("secret", 9).expect("a hash"))
}

#[tokio::test]
async fn other_requests_pass_while_passwords_are_tried_and_too_many_are_turned_away() {
    let app = Server::echo().await;
    let config = CONFIG.replace("listeners:", "workers: 1\nlisteners:");
    let setup = Setup::new(&config).with("app", app.address()).file("users", slow_users());
    let proxy = setup.start().await;
    let mut client = Client::connect(proxy.web()).await;
    client.send(get_with(&basic("ann", "secret"))).await;
    assert_eq!(client.response().await.status, 200);

    let mut tries = Vec::new();
    for number in 0..200 {
        let mut other = Client::connect(proxy.web()).await;
        other.send(get_with(&basic("ann", &number.to_string()))).await;
        tries.push(other);
    }
    // Some are told that it is too much, while who is known already is served.
    proxy
        .metrics_until("some are turned away", |metrics| {
            let labels = [("route", "shut"), ("reason", "overloaded")];
            metrics.sum("portcullis_requests_total", &labels) > 0.0
        })
        .await;
    let mut open = Client::connect(proxy.web()).await;
    for _ in 0..50 {
        assert_eq!(open.request("GET", "t", "/open").await.status, 200);
        client.send(get_with(&basic("ann", "secret"))).await;
        assert_eq!(client.response().await.status, 200);
    }
    // Those who leave are not checked any more.
    drop(tries);
    let mut statuses = String::new();
    eventually(STEP, "there is room again", async || {
        let mut client = Client::connect(proxy.web()).await;
        client.send(get_with(&basic("ann", "wrong"))).await;
        let status = client.response().await.status;
        let _ = write!(statuses, "{status} ");
        status == 401
    })
    .await;
}
