//! Annotations of ingress-nginx whose values depend on the request, and snippets: requests through
//! a proxy that follows a cluster.

use serde_json::{Value, json};

use super::{World, shop};
use crate::harness::*;

/// An Ingress for `host` with these annotations.
pub fn annotated(host: &str, path: &str, annotations: &[(&str, &str)]) -> Value {
    let mut object = ingress(&host.replace('.', "-"), host, "web");
    object["spec"]["rules"][0]["http"]["paths"][0]["path"] = json!(path);
    if path.contains('(') {
        object["spec"]["rules"][0]["http"]["paths"][0]["pathType"] =
            json!("ImplementationSpecific");
    }
    for (name, value) in annotations {
        object["metadata"]["annotations"][format!("nginx.ingress.kubernetes.io/{name}")] =
            json!(value);
    }
    object
}

const CONFIGURATION: &str = r#"
more_set_headers "X-Request: $req_id" "X-Etag: $sent_http_etag";
more_set_headers -s '404' -t 'text/html' "X-Lost: yes";
more_clear_headers "X-Internal-*";
add_header X-Added $http_x_in;
add_header X-Always $request_method always;
proxy_set_header X-Asked "$scheme://$host$request_uri";
proxy_set_header l5d-dst-override $service_name.$namespace.svc.cluster.local:$service_port;
set $who "user-$cookie_user";
more_set_input_headers "X-Who: $who";
more_clear_input_headers X-Gone;
if ($http_user_agent ~* "(bot|crawler)") { more_set_headers "X-Robot: $1"; return 403 "no $1"; }
if ($request_method !~ ^(GET|HEAD)$) { return 405; }
if ($arg_away) { return 302 https://elsewhere.example$uri; }
if ($cookie_beta != "") { proxy_set_header Host $cookie_beta.internal; }
rewrite ^/old/(.*)$ /new/$1?old=1 break;
rewrite ^/gone/(.*)$ /here/$1 permanent;
rewrite ^/deny/(.*)$ /admin/$1 last;
gunzip on;
"#;

const CAPTURES: &str = r#"
more_set_headers "X-Cap: [$1]";
proxy_set_header X-Tenant $1;
if ($http_x_away) { return 302 /to/$1; }
"#;

const SERVER: &str = r#"
location = /robots.txt { return 200 "User-agent: *"; }
location /admin { deny all; }
if ($host = "www.shop.example") { return 301 https://shop.example$request_uri; }
rewrite ^/v1/(.*)$ /$1 last;
more_set_headers "X-Server: $server_name";
"#;

#[tokio::test]
async fn snippets_do_what_nginx_would() {
    let app = Backend::answering(
        "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nETag: \"v1\"\r\nContent-Type: text/html\r\nX-Internal-A: 1\r\n\r\n",
    )
    .await;
    let cluster = shop(app.address()).await;
    let snippets = [("configuration-snippet", CONFIGURATION), ("server-snippet", SERVER)];
    cluster.put(annotated("snip.example", "/", &snippets));
    // Not a word of it is understood, and it might keep requests out.
    let guard = [("configuration-snippet", "auth_basic \"x\";\nmore_set_headers \"X-A: b\";")];
    cluster.put(annotated("guard.example", "/", &guard));
    let captures = [("use-regex", "true"), ("configuration-snippet", CAPTURES)];
    cluster.put(annotated("capture.example", "/t/([a-z]+)/x", &captures));
    let world = World::start(&cluster, &[]).await;
    let mut client = Client::connect(world.http).await;
    client
        .send(
            "GET /a?b=c HTTP/1.1\r\nHost: snip.example\r\nX-In: in\r\nX-Gone: 1\r\nX-Who: forged\r\n\
             Cookie: user=ann; beta=two\r\n\r\n",
        )
        .await;
    let response = client.response().await;
    let seen = app.last().headers;
    assert_eq!(seen.get("x-asked"), Some("http://snip.example/a?b=c"));
    assert_eq!(seen.get("l5d-dst-override"), Some("web.shop.svc.cluster.local:80"));
    assert_eq!((seen.get("x-who"), seen.has("x-gone")), (Some("user-ann"), false));
    assert_eq!(seen.get("host"), Some("two.internal"));
    let told = |name| response.headers.get(name);
    assert_eq!((told("x-etag"), told("x-lost")), (Some("\"v1\""), Some("yes")), "{response}");
    assert_eq!((told("x-added"), told("x-always")), (None, Some("GET")), "the status is 404");
    assert_eq!((told("x-internal-a"), told("x-server")), (None, Some("snip.example")));
    assert!(told("x-request").is_some_and(|id| id.len() == 32), "{response}");

    let ask = async |target: &str, fields: &str| {
        let mut client = Client::connect(world.http).await;
        client.send(format!("GET {target} HTTP/1.1\r\nHost: snip.example\r\n{fields}\r\n")).await;
        client.response().await
    };
    let before = app.requests().len();
    let robot = ask("/a", "User-Agent: A-Bot\r\n").await;
    assert_eq!((robot.status, robot.text().as_str()), (403, "no Bot"));
    assert_eq!(robot.headers.get("x-robot"), Some("Bot"), "{robot}");
    let away = ask("/x%20y?away=1", "").await;
    assert_eq!(away.headers.get("location"), Some("https://elsewhere.example/x%20y"));
    let gone = ask("/gone/x?q=1", "").await;
    assert_eq!((gone.status, gone.headers.get("location")), (301, Some("/here/x?q=1")));
    assert_eq!(ask("/robots.txt", "").await.text(), "User-agent: *");
    for denied in ["/admin", "/admin/x", "/%61dmin", "/x/../admin", "/deny/x", "/v1/deny/x"] {
        let refused = ask(denied, "").await;
        // What is rewritten with `last` looks for its location again.
        assert_eq!(refused.status, 403, "{denied}: {refused}");
    }
    client.send("POST /a HTTP/1.1\r\nHost: snip.example\r\nContent-Length: 0\r\n\r\n").await;
    assert_eq!(client.response().await.status, 405);
    assert_eq!(app.requests().len(), before, "none of them got through");
    ask("/v1/old/x?q", "").await;
    assert_eq!(app.last().target, "/new/x?old=1&q");
    assert_eq!(get(world.http, "guard.example", "/").await.status, 503);
    let captured = get(world.http, "capture.example", "/T/blue/x/y").await;
    assert_eq!(captured.headers.get("x-cap"), Some("[blue]"), "{captured}");
    assert_eq!(app.last().headers.get("x-tenant"), Some("blue"));
    client.send("GET /t/red/x HTTP/1.1\r\nHost: capture.example\r\nX-Away: 1\r\n\r\n").await;
    assert_eq!(client.response().await.headers.get("location"), Some("/to/red"));
    world.proxy.logs("gunzip").await;
}

#[tokio::test]
async fn values_of_annotations_depend_on_the_request() {
    let app = Backend::answering(
        "HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: http://inner/app/x\r\nSet-Cookie: a=1; Path=/app/; Domain=inner\r\n\r\n",
    )
    .await;
    let cluster = shop(app.address()).await;
    cluster.put(json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": { "name": "headers", "namespace": "shop" },
        "data": { "X-Shop": "one $host" },
    }));
    for (host, path, annotations) in [
        ("moved.example", "/", &[("permanent-redirect", "https://new.example$request_uri")][..]),
        ("vhost.example", "/", &[("upstream-vhost", "$service_name.$namespace.svc")]),
        (
            "put.example",
            "/app/(.*)",
            &[("rewrite-target", "/$http_x_tenant/$1"), ("x-forwarded-prefix", "/$namespace")],
        ),
        ("url.example", "/go/(.*)", &[("rewrite-target", "https://$arg_to.example/$1")]),
        (
            "own.example",
            "/",
            &[
                ("proxy-redirect-from", "http://inner/app/"),
                ("proxy-redirect-to", "https://$host/"),
                ("proxy-cookie-path", "/app/ /"),
                ("proxy-cookie-domain", "inner own.example"),
                ("custom-headers", "shop/headers"),
                ("connection-proxy-header", "keep-alive"),
            ],
        ),
        ("root.example", "/", &[("app-root", "/start"), ("relative-redirects", "true")]),
    ] {
        cluster.put(annotated(host, path, annotations));
    }
    let world = World::start(&cluster, &["--allow-response-header=X-Shop"]).await;
    let location = async |host: &str, target: &str| {
        let response = get(world.http, host, target).await;
        response.headers.get("location").map(str::to_owned)
    };
    let moved = location("moved.example", "/a%20b?c").await;
    assert_eq!(moved.as_deref(), Some("https://new.example/a%20b?c"));
    assert_eq!(location("root.example", "/").await.as_deref(), Some("/start"));
    let url = location("url.example", "/go/x?to=evil.com%2F").await;
    assert_eq!(url.as_deref(), Some("https://evil.com%2F.example/x?to=evil.com%2F"));
    location("vhost.example", "/").await;
    assert_eq!(app.last().headers.get("host"), Some("web.shop.svc"));
    let mut client = Client::connect(world.http).await;
    client.send("GET /app/x?y HTTP/1.1\r\nHost: put.example\r\nX-Tenant: blue\r\n\r\n").await;
    assert_eq!(client.response().await.status, 302);
    assert_eq!(app.last().target, "/blue/x?y");
    assert_eq!(app.last().headers.get("x-forwarded-prefix"), Some("/shop"));
    client.send("GET /app/x HTTP/1.1\r\nHost: put.example\r\nX-Tenant: ../a/b\r\n\r\n").await;
    assert_eq!(client.response().await.status, 400, "nobody leaves his part of the path");
    // The ConfigMap is read once something refers to it.
    eventually(STEP, "custom headers", async || {
        let own = get(world.http, "own.example", "/").await;
        own.headers.get("x-shop") == Some("one $host")
    })
    .await;
    let own = get(world.http, "own.example", "/").await;
    assert_eq!(own.headers.get("location"), Some("https://own.example/x"));
    assert_eq!(own.headers.get("set-cookie"), Some("a=1; Path=/; Domain=own.example"));
}
