//! What of an Ingress restricts access and cannot be read: nobody gets past it by way of another
//! Ingress of the same host.

use serde_json::{Value, json};

use super::{World, shop};
use crate::harness::*;

/// An Ingress for `host`, so many seconds old compared to others.
fn object(name: &str, host: &str, path: &str, age: u32, annotations: &[(&str, &str)]) -> Value {
    let mut object = ingress(name, host, "web");
    object["metadata"]["creationTimestamp"] = json!(format!("2024-01-01T00:00:{:02}Z", 59 - age));
    let rule = &mut object["spec"]["rules"][0]["http"]["paths"][0];
    rule["path"] = json!(path);
    rule["pathType"] = json!("Prefix");
    if path.contains('(') {
        rule["pathType"] = json!("ImplementationSpecific");
    }
    for (name, value) in annotations {
        object["metadata"]["annotations"][format!("nginx.ingress.kubernetes.io/{name}")] =
            json!(value);
    }
    object
}

/// Puts an Ingress for `path` beside one that is older and open to all for `/`.
fn put(cluster: &ApiServer, host: &str, path: &str, annotations: &[(&str, &str)]) {
    let name = host.replace('.', "-");
    cluster.put(object(&format!("open-{name}"), host, "/", 9, &[]));
    cluster.put(object(&name, host, path, 1, annotations));
}

/// Asks for each of these targets of hosts, and wants these statuses.
async fn answers(world: &World, wanted: &[(&str, &str, u16)]) {
    for (host, target, status) in wanted {
        let answer = get(world.http, host, target).await;
        assert_eq!(answer.status, *status, "{host}{target}: {answer}");
    }
}

const ASKED: (&str, &str) = ("auth-url", "http://web.shop.svc.cluster.local/auth");

#[tokio::test]
async fn what_guards_and_cannot_be_read_is_not_passed_by_way_of_another_ingress() {
    let app = Backend::saying("web").await;
    let cluster = shop(app.address()).await;
    let regex = ("use-regex", "true");
    for (host, path, annotations) in [
        ("path.example", "/admin(?=/|$)(.*)", &[ASKED, regex][..]),
        ("free.example", "/admin(?=/|$)(.*)", &[regex]),
        ("tls.example", "/x", &[("auth-tls-secret", "clients")]),
        (
            "subject.example",
            "/x",
            &[("auth-tls-secret", "shop/clients"), ("auth-tls-match-cn", "CN=(?!evil).*")],
        ),
        // Its only path is the other's.
        ("whole.example", "/", &[("auth-tls-secret", "clients")]),
        ("denied.example", "/", &[("server-snippet", "deny all;")]),
    ] {
        put(&cluster, host, path, annotations);
    }
    let world = World::start(&cluster, &[]).await;
    let wanted = [
        ("path.example", "/", 200),
        ("path.example", "/shop", 200),
        ("path.example", "/admin", 503),
        ("path.example", "/Admin/x", 503),
        ("path.example", "/%61dmin", 503),
        ("path.example", "/x/../admin", 503),
        ("free.example", "/admin", 200),
        ("tls.example", "/", 503),
        ("tls.example", "/x", 503),
        ("subject.example", "/", 503),
        ("whole.example", "/", 503),
        ("denied.example", "/", 403),
    ];
    answers(&world, &wanted).await;
    world.proxy.logs("requests to paths that begin with `/admin`").await;
}

const LOCATION: &str = "location ~ ^/admin {\n  allow 10.0.0.0/8;\n  deny all;\n}";
const LOGIN: &str =
    "if ($cookie_auth = \"\") { return 302 https://login.example/?h=$ssl_server_name; }";
const COUNTRY: &str = "if ($geoip2_country != \"DE\") { rewrite ^ /blocked.html last; }";

#[tokio::test]
async fn lines_of_snippets_that_turn_requests_away_and_cannot_be_read_close() {
    let app = Backend::saying("web").await;
    let cluster = shop(app.address()).await;
    for (host, name, text) in [
        ("location.example", "server-snippet", LOCATION),
        ("include.example", "server-snippet", "include /etc/nginx/blocklist/*.conf;"),
        ("broken.example", "server-snippet", "location /x { deny all; "),
        ("header.example", "server-snippet", "if ($http_x) { return 403 $upstream_http_etag; }"),
        ("login.example", "configuration-snippet", LOGIN),
        ("country.example", "configuration-snippet", COUNTRY),
        ("lua.example", "configuration-snippet", "rewrite_by_lua_file /etc/nginx/jwt.lua;"),
        ("gunzip.example", "configuration-snippet", "gunzip on;"),
    ] {
        put(&cluster, host, "/static", &[(name, text)]);
    }
    let world = World::start(&cluster, &[]).await;
    let wanted = [
        ("location.example", "/admin", 503),
        ("location.example", "/admin/x", 503),
        ("location.example", "/", 200),
        ("location.example", "/static", 200),
        ("include.example", "/", 503),
        ("include.example", "/static", 503),
        ("broken.example", "/", 503),
        ("header.example", "/", 200),
        ("login.example", "/static", 503),
        ("login.example", "/", 200),
        ("country.example", "/static", 503),
        ("lua.example", "/static", 503),
        ("gunzip.example", "/static", 200),
    ];
    answers(&world, &wanted).await;
    let mut client = Client::connect(world.http).await;
    client.send("GET / HTTP/1.1\r\nHost: header.example\r\nX-X: 1\r\n\r\n").await;
    assert_eq!(client.response().await.status, 200);
    client.send("GET / HTTP/1.1\r\nHost: header.example\r\nX: 1\r\n\r\n").await;
    assert_eq!(client.response().await.status, 503);
    world.proxy.logs("requests to the host with `$uri ~ ^/admin` are answered 503").await;
}

const MOVED: &str = "location /admin { deny all; }\nlocation = /status { return 200 ok; }\n\
                     rewrite ^/x/(.*)$ /admin/$1 last;\nrewrite ^/admin/open$ /static/open last;\n\
                     rewrite ^/health$ /status;";

#[tokio::test]
async fn a_location_of_a_snippet_is_for_the_path_that_rewrites_lead_to() {
    let app = Backend::saying("web").await;
    let cluster = shop(app.address()).await;
    put(&cluster, "moved.example", "/static", &[("server-snippet", MOVED)]);
    let again = [
        ("server-snippet", "location /admin { deny all; }"),
        ("configuration-snippet", "rewrite ^/static/(.*)$ /$1 last;"),
    ];
    put(&cluster, "again.example", "/static", &again);
    let away = [("server-snippet", "rewrite ^/x$ /y permanent;\nlocation /admin { deny all; }")];
    put(&cluster, "away.example", "/static", &away);
    let world = World::start(&cluster, &[]).await;
    let wanted = [
        ("moved.example", "/admin/x", 403),
        ("moved.example", "/x/1", 403),
        ("moved.example", "/admin/open", 200),
        ("moved.example", "/health", 200),
        ("moved.example", "/", 200),
        ("again.example", "/admin", 403),
        ("again.example", "/static/admin/x", 403),
        ("again.example", "/static/x", 200),
        ("away.example", "/x", 301),
        ("away.example", "/admin", 403),
    ];
    answers(&world, &wanted).await;
    assert_eq!(get(world.http, "moved.example", "/health").await.text(), "ok");
    assert_eq!(app.last().target, "/x");
}

const CHOSEN: &str = "location / { return 404; }\nlocation /admin { deny all; }\n\
                      location /admin/health { return 200 ok; }\n\
                      location \"/my files\" { deny all; }\nlocation ~ b$ { return 410; }";

#[tokio::test]
async fn of_locations_and_paths_of_ingresses_the_one_that_nginx_takes_answers() {
    let app = Backend::saying("web").await;
    let cluster = shop(app.address()).await;
    put(&cluster, "chosen.example", "/admin/open files", &[("server-snippet", CHOSEN)]);
    let world = World::start(&cluster, &[]).await;
    let wanted = [
        ("chosen.example", "/admin", 403),
        ("chosen.example", "/admin/open", 403),
        ("chosen.example", "/admin/open%20files/x", 200),
        ("chosen.example", "/admin/open%20filesystem", 403),
        ("chosen.example", "/admin/health", 200),
        ("chosen.example", "/admin/health/b", 410),
        ("chosen.example", "/my%20files/x", 403),
        ("chosen.example", "/my", 404),
    ];
    answers(&world, &wanted).await;
    assert_eq!(app.last().target, "/admin/open%20files/x");
}

#[tokio::test]
async fn snippets_that_are_turned_off_are_left_out_unless_they_refuse_requests() {
    let app = Backend::saying("web").await;
    let cluster = shop(app.address()).await;
    cluster.put(json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": { "name": "controller", "namespace": "shop" },
        "data": { "allow-snippet-annotations": "false" },
    }));
    for (host, name, text) in [
        ("away.example", "configuration-snippet", "return 301 https://new.example/;"),
        ("login.example", "configuration-snippet", LOGIN),
        ("country.example", "configuration-snippet", COUNTRY),
        ("refused.example", "configuration-snippet", "if ($http_x = '') { return 403; }"),
        ("location.example", "server-snippet", LOCATION),
    ] {
        put(&cluster, host, "/static", &[(name, text)]);
    }
    let world = World::start(&cluster, &["--configmap=shop/controller"]).await;
    let wanted = [
        ("away.example", "/static", 200),
        ("login.example", "/static", 200),
        ("country.example", "/static", 200),
        ("refused.example", "/static", 503),
        ("location.example", "/static", 503),
    ];
    answers(&world, &wanted).await;
    world.proxy.logs("is left out, as in ingress-nginx: snippets are turned off here").await;
    world.proxy.logs("this one refuses requests").await;
}
