//! Pages of other origins.

use crate::harness::*;

const CONFIG: &str = r#"
workers: 1
access_log: true
listeners: { web: { bind: "@web@" } }
hosts:
  "*":
    routes:
      - name: own
        path: /own
        upstream: app
        cors:
          origins: ["https://shop.example.com", "https://*.example.com:8443"]
          credentials: true
          expose: [X-Total]
          max_age: 10m
      - { path: /any, upstream: app, cors: { origins: "*", max_age: off } }
      - { path: /none, upstream: app }
      - { path: /gone, upstream: dead, cors: { origins: "https://shop.example.com" }, retry: off }
      - path: /denied
        upstream: app
        cors: { origins: "https://shop.example.com" }
        access: { deny: [127.0.0.0/8] }
      - path: /fast
        upstream: app
        cors: { origins: "https://shop.example.com" }
        rate_limit: { requests: 1, per: 1h, burst: 0 }
upstreams: { app: { endpoints: ["@app@"] }, dead: { endpoints: ["@dead@"] } }
"#;

const SHOP: &str = "Origin: https://shop.example.com\r\n";

/// An upstream with views of its own.
async fn start() -> (Backend, Proxy) {
    let app = Backend::answering(
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nVary: Accept\r\n\
         Access-Control-Allow-Origin: https://theirs.example\r\n\
         Access-Control-Allow-Methods: THEIRS\r\n\r\nok",
    )
    .await;
    let proxy = Proxy::start(CONFIG, &[("app", &app.address()), ("dead", &reserve())]).await;
    (app, proxy)
}

async fn ask(proxy: &Proxy, method: &str, target: &str, fields: &str) -> Response {
    let mut client = Client::connect(proxy.web()).await;
    client.send(format!("{method} {target} HTTP/1.1\r\nHost: t\r\n{fields}\r\n")).await;
    client.response().await
}

fn cors(response: &Response) -> String {
    let names = ["origin", "credentials", "methods", "headers"];
    let mut told = Vec::new();
    for name in names {
        collect_field(&mut told, response, &format!("access-control-allow-{name}"));
    }
    collect_field(&mut told, response, "access-control-expose-headers");
    collect_field(&mut told, response, "access-control-max-age");
    told.join(" | ")
}

fn collect_field(told: &mut Vec<String>, response: &Response, name: &str) {
    told.extend(response.headers.all(name).map(str::to_owned));
}

const METHODS: &str = "GET, PUT, POST, DELETE, PATCH, OPTIONS";
const HEADERS: &str = "dnt, keep-alive, user-agent, x-requested-with, if-modified-since, \
                       cache-control, content-type, range, authorization";

#[tokio::test]
async fn an_allowed_origin_is_told_so_and_others_are_told_nothing() {
    let (app, proxy) = start().await;
    let own = |origin: &str| format!("{origin} | true | {METHODS} | {HEADERS} | x-total | 600");
    for (origin, expected) in [
        ("https://shop.example.com", own("https://shop.example.com")),
        ("https://a.example.com:8443", own("https://a.example.com:8443")),
        ("https://a.example.com", String::new()),
        ("https://b.a.example.com:8443", String::new()),
        ("http://shop.example.com", String::new()),
        ("https://shop.example.com.evil.example", String::new()),
        ("null", String::new()),
    ] {
        let response = ask(&proxy, "GET", "/own", &format!("Origin: {origin}\r\n")).await;
        assert_eq!((response.status, cors(&response)), (200, expected), "{origin}");
        assert_eq!(response.headers.joined("vary"), "Accept, Origin", "{origin}");
    }
    let response = ask(&proxy, "GET", "/own", "").await;
    assert_eq!(
        (cors(&response), response.headers.joined("vary")),
        (String::new(), "Accept, Origin".into())
    );
    // Any origin, and none, without a need to vary.
    for fields in ["", SHOP] {
        let response = ask(&proxy, "GET", "/any", fields).await;
        assert_eq!(cors(&response), format!("* | {METHODS} | {HEADERS}"));
        assert_eq!(response.headers.joined("vary"), "Accept");
    }
    // Without a policy it is the upstream's affair.
    let response = ask(&proxy, "GET", "/none", SHOP).await;
    assert_eq!(cors(&response), "https://theirs.example | THEIRS");
    assert_eq!(app.last().headers.get("origin"), Some("https://shop.example.com"));
}

#[tokio::test]
async fn a_preflight_is_answered_here_unless_its_origin_is_foreign() {
    let (app, proxy) = start().await;
    let fields = format!("{SHOP}Access-Control-Request-Method: PUT\r\n");
    let mut client = Client::connect(proxy.web()).await;
    for target in ["/own", "/any", "/gone", "/denied", "/fast", "/fast"] {
        client.send(format!("OPTIONS {target} HTTP/1.1\r\nHost: t\r\n{fields}\r\n")).await;
        let response = client.response().await;
        assert_eq!((response.status, response.body.len()), (204, 0), "{target}: {response}");
        assert!(cors(&response).contains(METHODS), "{target}: {response}");
        let varies = response.headers.joined("vary").contains("Origin");
        assert_eq!(varies, target != "/any");
    }
    let mut h2 = H2::connect(proxy.web()).await;
    let mut request = get_request("t", "/own");
    *request.method_mut() = http::Method::OPTIONS;
    request.headers_mut().insert("origin", "https://shop.example.com".parse().unwrap());
    let response = h2.request(request, None, None).await;
    assert_eq!(response.status, 204);
    assert_eq!(response.header("access-control-allow-origin"), Some("https://shop.example.com"));
    assert!(app.requests().is_empty(), "nothing is forwarded");
    let foreign = "Origin: https://evil.example\r\nAccess-Control-Request-Method: PUT\r\n";
    let response = ask(&proxy, "OPTIONS", "/own", foreign).await;
    assert_eq!((response.status, cors(&response)), (200, String::new()));
    assert_eq!(app.last().method, "OPTIONS");
    assert_eq!(ask(&proxy, "OPTIONS", "/none", &fields).await.status, 200);
    proxy.stdout_line("it is logged", |line| line.contains("cors_preflight")).await;
}

#[tokio::test]
async fn a_page_can_read_our_errors_where_it_may_read_answers() {
    let (_app, proxy) = start().await;
    assert_eq!(ask(&proxy, "GET", "/fast", "").await.status, 200);
    for (target, status, reason) in [
        ("/gone", 503, "connect_failed"),
        ("/denied", 403, "access_denied"),
        ("/fast", 429, "rate_limited"),
    ] {
        let response = ask(&proxy, "GET", target, SHOP).await;
        response.assert_refused(status, reason);
        let origin = response.headers.get("access-control-allow-origin");
        assert_eq!(origin, Some("https://shop.example.com"), "{target}");
        assert_eq!(response.headers.joined("vary"), "Origin");
        let foreign = ask(&proxy, "GET", target, "Origin: https://evil.example\r\n").await;
        foreign.assert_refused(status, reason);
        assert!(!foreign.headers.has("access-control-allow-origin"), "{foreign}");
    }
}
