//! What rules of hosts and routes do with requests.

use crate::harness::*;

const CONFIG: &str = r#"
listeners: { web: { bind: "@web@" } }
hosts:
  "*":
    rules:
      - when: { value: "{uri}", is: /robots.txt }
        respond: { body: "for {host}", status: 200 }
      - when: { value: "{http_x_old}" }
        redirect: { to: "https://new.example{request_uri}", status: 301 }
      - rewrite: { regex: "^/v1/(.*)$", path: "/{1}?v=1" }
      - response_headers: { set: { x-host: { template: "{host}" } } }
    routes:
      - path: /
        upstream: app
        access: { deny: ["127.0.0.0/8"] }
        rules:
          - when: { value: "{http_user_agent}", matches: "(?i)(bot|crawler)" }
            response_headers: { set: { x-robot: { template: "{1}" } } }
          - when: [{ value: "{http_user_agent}", matches: "(?i)bot" }, { value: "{uri}", is_not: /open }]
            respond: { status: 403, body: "no robots" }
      - path: /served
        upstream: app
        rewrite: { path: /fixed }
        request_headers: { set: { x-a: route } }
        rules:
          - when: { value: "{cookie_beta}" }
            host: "{cookie_beta}.internal"
            request_headers: { set: { x-a: rule } }
          - rewrite: { regex: "^/served/stop/(.*)$", path: "/stopped/{1}?", then: stop }
          - rewrite: { regex: "^/served/circle", path: "/served/circle", then: lookup }
          - rewrite: { regex: "^/served/away/(.*)$", path: "/{1}", then: lookup }
          - rewrite: { regex: "^/served/on/(.*)$", path: "/on/{1}" }
          - when: { value: "{arg_go}", matches: "^(.+)$" }
            redirect: { to: "/went?to={http_x_to}" }
      - path: /moved
        redirect: { to: "https://{arg_shop}.example{uri}", status: 308 }
        rules:
          - when: { value: "{request_method}", is_not: GET }
            respond: { status: 405 }
upstreams: { app: { endpoints: ["@app@"] } }
"#;

#[tokio::test]
async fn rules_answer_before_anything_else_of_host_and_route() {
    let app = Backend::saying("app").await;
    let proxy = Proxy::start(CONFIG, &[("app", &app.address())]).await;
    let mut client = Client::connect(proxy.web()).await;
    let response = client.request("GET", "shop.example", "/robots.txt").await;
    assert_eq!((response.status, response.text().as_str()), (200, "for shop.example"));
    assert_eq!(response.headers.get("content-type"), Some("text/plain; charset=utf-8"));
    client.send("GET /a%20b?c=d HTTP/1.1\r\nHost: t\r\nX-Old: 1\r\n\r\n").await;
    let response = client.response().await;
    assert_eq!(response.headers.get("location"), Some("https://new.example/a%20b?c=d"));
    // The route lets nobody in, and its rules come first.
    assert_eq!(client.request("GET", "t", "/").await.status, 403);
    client.send("GET / HTTP/1.1\r\nHost: t\r\nUser-Agent: A-Bot\r\n\r\n").await;
    let response = client.response().await;
    assert_eq!((response.status, response.text().as_str()), (403, "no robots"));
    assert_eq!(response.headers.get("x-robot"), Some("Bot"), "{response}");
    assert_eq!(response.headers.get("x-host"), Some("t"));
    client.send("POST /moved?shop=a HTTP/1.1\r\nHost: t\r\nContent-Length: 0\r\n\r\n").await;
    assert_eq!(client.response().await.status, 405);
    let response = client.request("GET", "t", "/moved/x?shop=a").await;
    assert_eq!(response.headers.get("location"), Some("https://a.example/moved/x"));
    assert_eq!(app.requests().len(), 0, "no request got through");
}

#[tokio::test]
async fn rules_change_requests_on_their_way() {
    let app = Backend::saying("app").await;
    let proxy = Proxy::start(CONFIG, &[("app", &app.address())]).await;
    let mut client = Client::connect(proxy.web()).await;
    assert_eq!(client.request("GET", "t", "/served/x").await.status, 200);
    assert_eq!(app.last().headers.get("x-a"), Some("route"));
    assert_eq!(app.last().target, "/fixed");
    client.send("GET /served/x HTTP/1.1\r\nHost: t\r\nCookie: beta=b\r\n\r\n").await;
    assert_eq!(client.response().await.status, 200);
    assert_eq!(app.last().headers.get("x-a"), Some("rule"));
    assert_eq!(app.last().headers.get("host"), Some("b.internal"));
    for (asked, got) in [
        ("/served/stop/a?b", "/stopped/a"),
        ("/served/on/a?b", "/fixed?b"),
        // By the rules of the host first.
        ("/v1/served/stop/a", "/stopped/a"),
        ("/v1/served/x?b", "/fixed?v=1&b"),
    ] {
        assert_eq!(client.request("GET", "t", asked).await.status, 200, "{asked}");
        assert_eq!(app.last().target, got, "{asked}");
    }
    // To another route, which lets nobody in.
    let response = client.request("GET", "t", "/served/away/x").await;
    assert_eq!(response.status, 403, "{response}");
    let response = client.request("GET", "t", "/served/circle").await;
    assert_eq!(response.status, 500, "{response}");
    client.send("GET /served?go=1 HTTP/1.1\r\nHost: t\r\nX-To: a b&c\r\n\r\n").await;
    let response = client.response().await;
    assert_eq!(response.headers.get("location"), Some("/went?to=a%20b%26c"));
    assert_eq!(client.request("GET", "t", "/served/x").await.status, 200, "the connection goes on");
}

#[tokio::test]
async fn explain_tells_the_rules() {
    let app = Backend::saying("app").await;
    let proxy = Proxy::start(CONFIG, &[("app", &app.address())]).await;
    let config = proxy.path();
    let mut explain = std::process::Command::new(portcullis());
    let output = explain.args(["explain", "http://t/served", "--config"]).arg(config).output();
    let output = output.expect("it runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    for part in ["is set", "answered with 200", "host becomes {cookie_beta}.internal"] {
        assert!(text.contains(part), "{part} in {text}");
    }
    // What it says is what the proxy does.
    let mut client = Client::connect(proxy.web()).await;
    for path in ["/robots.txt", "/open", "/served/away/x", "/served/circle", "/served?go=on"] {
        let mut explain = std::process::Command::new(portcullis());
        let url = format!("http://t{path}");
        let output = explain.args(["explain", &url, "--config"]).arg(proxy.path()).output();
        let text = String::from_utf8_lossy(&output.expect("it runs").stdout).into_owned();
        let status = client.request("GET", "t", path).await.status;
        let answered = text.contains(&format!("answer   {status}: "));
        assert_eq!(answered, path != "/open" && path != "/served/away/x", "{status} {text}");
    }
}
