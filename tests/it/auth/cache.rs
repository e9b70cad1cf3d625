//! Answers of authentication services that are kept: the service is asked about few requests, and
//! nobody gets in by the word given to another.

use std::fmt::Display;

use crate::harness::*;

/// A service that lets in who shows `Authorization`, and answers with the number of the question as
/// the user, with what `X-Status` asks for and with the field in `X-Field`.
async fn service() -> Backend {
    let count = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    Backend::script(move |mut conn| {
        let count = count.clone();
        async move {
            while let Some(seen) = conn.request().await {
                let number = 1 + count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                let known = if seen.headers.has("authorization") { "200" } else { "401" };
                let status = seen.headers.get("x-status").unwrap_or(known);
                let field = seen.headers.get("x-field").map(|field| format!("{field}\r\n"));
                let head = format!(
                    "HTTP/1.1 {status} Answer\r\nContent-Length: 0\r\nX-User: user-{number}\r\n\
                     WWW-Authenticate: Bearer realm=\"{number}\"\r\nX-Secret: no\r\n{}\r\n",
                    field.unwrap_or_default()
                );
                conn.send(head).await;
            }
        }
    })
    .await
}

/// One worker, since each keeps its own.
const CONFIG: &str = r#"
workers: 1
listeners: { web: { bind: "@web@" } }
hosts:
  "*":
    routes:
      - path: /
        upstream: app
        auth:
          external:
            url: "http://@auth@/check@more@"
            response_headers: [X-User]
            cache: { key: "{http_authorization}{http_x_tenant}", valid: { 200: 1h, 204: 100ms, 401: 1h } }
      - path: /other
        upstream: app
        auth:
          external:
            url: "http://@auth@/check@more@"
            response_headers: [X-User]
            cache: { key: "{http_authorization}{http_x_tenant}" }
      - path: /asked
        upstream: app
        auth:
          external:
            url: "http://@auth@/check?for={uri}"
            cache: { key: "{http_authorization}" }
      - path: /verbs
        upstream: app
        auth:
          external:
            url: "http://@auth@/check"
            cache: { key: "{http_authorization}{request_method}{request_uri}" }
      - path: /password
        upstream: app
        auth:
          basic: { users: "ann:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=\nbob:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=" }
          external:
            url: "http://@auth@/check"
            response_headers: [X-User]
            cache: { key: "{http_authorization}" }
upstreams:
  app: { endpoints: ["@app@"] }
"#;

struct World {
    _app: Server,
    auth: Backend,
    proxy: Proxy,
    client: Client,
}

impl World {
    async fn start() -> Self {
        let (app, auth) = (Server::echo().await, service().await);
        let values: [(&str, &dyn Display); 3] =
            [("app", &app.address()), ("auth", &auth.address()), ("more", &"")];
        let proxy = Proxy::start(CONFIG, &values).await;
        let client = Client::connect(proxy.web()).await;
        Self { _app: app, auth, proxy, client }
    }

    async fn ask(&mut self, target: &str, fields: &str) -> Response {
        let (target, host) = target.split_once('@').unwrap_or((target, "shop.example"));
        let head = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n");
        self.client.send(head).await;
        self.client.response().await
    }

    /// The user that the upstream is told of; `None` where the client is not let in.
    async fn user(&mut self, target: &str, fields: &str) -> Option<String> {
        let response = self.ask(target, fields).await;
        if response.status != 200 {
            return None;
        }
        let seen = Echoed::of(&response.body);
        let mut users = seen.headers.iter().filter(|(name, _)| name == "x-user");
        let user = users.next().map(|(_, user)| user.clone());
        assert_eq!(users.next(), None, "one user");
        assert!(!seen.headers.iter().any(|(name, _)| name == "x-secret"));
        Some(user.unwrap_or_default())
    }

    fn asked(&self) -> usize {
        self.auth.requests().len()
    }
}

const ANN: &str = "Authorization: Bearer ann\r\n";
const BOB: &str = "Authorization: Bearer bob\r\n";

#[tokio::test]
async fn a_service_is_asked_once_about_requests_that_are_alike() {
    let mut world = World::start().await;
    for _ in 0..3 {
        let forged = format!("{ANN}X-User: root\r\n");
        assert_eq!(world.user("/a", &forged).await.as_deref(), Some("user-1"));
        assert_eq!(world.user("/b?c=d", ANN).await.as_deref(), Some("user-1"));
        assert_eq!(world.user("/a", BOB).await.as_deref(), Some("user-2"));
    }
    assert_eq!(world.asked(), 2);
    for _ in 0..3 {
        let refused = world.ask("/a", "").await;
        assert_eq!(refused.status, 401);
        assert_eq!(refused.headers.get("www-authenticate"), Some("Bearer realm=\"3\""));
    }
    assert_eq!(world.asked(), 3, "who is unknown, too");
    let metrics = world.proxy.metrics().await;
    let of = |result| {
        let labels = [("listener", "web"), ("result", result)];
        metrics.sum("portcullis_auth_cache_lookups_total", &labels)
    };
    assert_eq!((of("hit"), of("miss")), (9.0, 3.0));
}

#[tokio::test]
async fn nobody_gets_in_by_the_word_given_to_another() {
    let mut world = World::start().await;
    // Another route, host, URL or key is another question.
    let pairs = [
        ("/a", "Authorization: ab\r\n"),
        ("/other", "Authorization: ab\r\n"),
        ("/a@b.example", "Authorization: ab\r\n"),
        ("/a", "Authorization: a\r\nX-Tenant: b\r\n"),
        ("/a", "X-Tenant: ab\r\nAuthorization:\r\n"),
        ("/asked/a", ANN),
        ("/asked/b", ANN),
    ];
    for (number, (target, fields)) in pairs.into_iter().enumerate() {
        world.user(target, fields).await;
        assert_eq!(world.asked(), number + 1, "{target} {fields}");
        world.user(target, fields).await;
        assert_eq!(world.asked(), number + 1, "{target} {fields} again");
    }
    // Who has nothing of the key is not let in by what another was told, who had neither.
    let asked = world.asked();
    assert_eq!(world.ask("/c", "X-Status: 200\r\n").await.status, 200);
    assert_eq!(world.ask("/c", "").await.status, 401);
    assert_eq!(world.asked(), asked + 2);
    // Passwords are not shown to the service, so these two are alike to it, and are not told apart
    // by the key.
    let (ann, bob) = ("YW5uOnNlY3JldA==", "Ym9iOnNlY3JldA==");
    let mut users = Vec::new();
    for password in [ann, bob] {
        let fields = format!("Authorization: Basic {password}\r\nX-Status: 200\r\n");
        users.push(world.user("/password", &fields).await);
    }
    assert!(users[0].is_some() && users[0] != users[1], "{users:?}");
}

#[tokio::test]
async fn a_key_that_says_what_is_asked_for_lets_in_for_that_alone() {
    let mut world = World::start().await;
    let mut ask = async |method: &str, target: &str, fields: &str| {
        let head = format!("{method} {target} HTTP/1.1\r\nHost: shop.example\r\n{fields}\r\n");
        world.client.send(head).await;
        (world.client.response().await.status, world.asked())
    };
    assert_eq!(ask("GET", "/verbs", ANN).await, (200, 1));
    assert_eq!(ask("GET", "/verbs", ANN).await, (200, 1));
    let refused = format!("{ANN}X-Status: 403\r\n");
    assert_eq!(ask("DELETE", "/verbs", &refused).await, (403, 2));
    assert_eq!(ask("GET", "/verbs/a", &refused).await, (403, 3));
    // Method and path are of every request: they show nobody.
    assert_eq!(ask("GET", "/verbs", "X-Status: 200\r\n").await, (200, 4));
    assert_eq!(ask("GET", "/verbs", "").await, (401, 5));
}

#[tokio::test]
async fn what_an_answer_says_of_itself_is_kept_to() {
    let mut world = World::start().await;
    let mut user = 0;
    let mut twice = async |fields: &str, kept: bool| {
        user += 1;
        let fields = format!("Authorization: {user}\r\n{fields}");
        let before = world.asked();
        for _ in 0..2 {
            world.ask("/", &fields).await;
        }
        let asked = world.asked() - before;
        assert_eq!(asked, if kept { 1 } else { 2 }, "{fields}");
    };
    twice("", true).await;
    twice("X-Field: Set-Cookie: a=b\r\n", false).await;
    twice("X-Field: Cache-Control: no-store\r\n", false).await;
    twice("X-Field: Cache-Control: private\r\n", false).await;
    twice("X-Field: Cache-Control: max-age=0\r\n", false).await;
    twice("X-Field: Cache-Control: max-age=3600\r\n", true).await;
    twice("X-Field: Expires: Thu, 01 Jan 1970 00:00:00 GMT\r\n", false).await;
    twice("X-Field: Vary: *\r\n", false).await;
    twice("X-Field: Vary: X-Original-URL\r\n", false).await;
    // What the proxy itself tells the service is in no request.
    for own in
        ["X-Real-IP", "x-forwarded-for", "Accept, Forwarded", "Ssl-Client-Verify", "Host", "Via"]
    {
        twice(&format!("X-Field: Vary: {own}\r\n"), false).await;
    }
    twice("X-Field: Vary: Accept, Cookie\r\nCookie: a=b\r\n", true).await;
    twice("X-Status: 403\r\n", false).await;
    twice("X-Status: 500\r\nX-Field: Cache-Control: max-age=60\r\n", false).await;
    // One that varies is for those who are alike in that, too.
    let before = world.asked();
    for (cookie, asked) in [("a=1", 1), ("a=1", 1), ("a=2", 2), ("a=2", 2)] {
        let fields = format!("{ANN}X-Field: Vary: Cookie\r\nCookie: {cookie}\r\n");
        world.ask("/", &fields).await;
        assert_eq!(world.asked() - before, asked, "{cookie}");
    }
    // And one that is over is asked for again.
    let fields = format!("{BOB}X-Status: 204\r\n");
    let before = world.asked();
    let again = async || {
        world.ask("/", &fields).await;
        world.asked() >= before + 2
    };
    eventually(STEP, "the answer is over", again).await;
}

#[tokio::test]
async fn another_service_begins_anew_and_nothing_of_a_key_is_shown() {
    let mut world = World::start().await;
    let token = "Authorization: Bearer very-secret-token\r\n";
    assert_eq!(world.user("/", token).await.as_deref(), Some("user-1"));
    assert_eq!(world.user("/", token).await.as_deref(), Some("user-1"));
    let (app, auth) = (world._app.address(), world.auth.address());
    let config = |more: &str| {
        let config = CONFIG.replace("@auth@", &auth.to_string()).replace("@app@", &app.to_string());
        config.replace("@more@", more)
    };
    // An edit that has nothing to do with it changes nothing.
    world.proxy.rewrite(&(config("") + "  spare: { endpoints: [\"127.0.0.1:1\"] }\n"));
    let known = async || world.proxy.admin("/api/upstreams").await.text().contains("spare");
    eventually(STEP, "the edit is live", known).await;
    assert_eq!(world.user("/", token).await.as_deref(), Some("user-1"));
    world.proxy.rewrite(&config("?v=2"));
    let anew = async || world.user("/", token).await.as_deref() != Some("user-1");
    eventually(STEP, "it is asked anew", anew).await;
    assert_eq!(world.auth.last().target, "/check?v=2");
    let explained = world.proxy.admin("/api/explain?url=http://t/").await.text();
    assert!(explained.contains("unless it is known for"), "{explained}");
    for page in ["/api/config", "/metrics"] {
        assert!(!world.proxy.admin(page).await.text().contains("very-secret-token"), "{page}");
    }
    let logged = world.proxy.stdout().join("\n") + &world.proxy.stderr();
    assert!(!logged.contains("very-secret-token"), "{logged}");
}
