//! What clients and back ends of ingress-nginx count on without an annotation that says so.

use super::annotations::annotated;
use super::*;

#[tokio::test]
async fn back_ends_are_told_what_ingress_nginx_tells_them() {
    let app = Backend::saying("web").await;
    let cluster = shop(app.address()).await;
    let world = World::start(&cluster, &[]).await;
    let ask = async |fields: &str| {
        let mut client = Client::connect(world.http).await;
        client.send(format!("GET / HTTP/1.1\r\nHost: shop.example\r\n{fields}\r\n")).await;
        assert_eq!(client.response().await.status, 200);
        app.last().headers
    };
    let seen = ask("X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Host: other\r\nX-Scheme: https\r\n\
         X-Request-ID: mine-1\r\nProxy: http://evil\r\n")
    .await;
    for (name, value) in [
        ("x-forwarded-for", Some("127.0.0.1")),
        ("x-original-forwarded-for", Some("6.6.6.6")),
        ("x-original-forwarded-host", Some("other")),
        ("x-scheme", Some("http")),
        ("x-forwarded-scheme", Some("http")),
        ("x-request-id", Some("mine-1")),
        ("proxy", None),
    ] {
        assert_eq!(seen.get(name), value, "{name}");
    }
    let seen = ask("X-Original-Forwarded-For: 6.6.6.6\r\n").await;
    assert!(!seen.has("x-original-forwarded-for"), "{seen:?}");
    assert!(seen.get("x-request-id").is_some_and(|id| id.len() == 32), "{seen:?}");
}

#[tokio::test]
async fn whoever_is_sent_elsewhere_is_asked_nothing_first() {
    let app = Backend::saying("web").await;
    let cluster = shop(app.address()).await;
    // Neither is this client let in, nor is there anybody to ask.
    let guards =
        [("auth-url", "http://auth.example/check"), ("whitelist-source-range", "192.0.2.0/24")];
    for (host, redirect) in [
        ("p.example", "permanent-redirect"),
        ("t.example", "temporal-redirect"),
        ("r.example", "rewrite-target"),
    ] {
        let annotations = [&guards[..], &[(redirect, "https://new.example/")]].concat();
        let mut moved = annotated(host, "/", &annotations);
        moved["spec"]["tls"] = json!([{ "hosts": [host] }]);
        cluster.put(moved);
    }
    cluster.put(annotated("guarded.example", "/", &guards));
    let world = World::start(&cluster, &[]).await;
    for (host, status) in [("p.example", 301), ("t.example", 302), ("r.example", 302)] {
        let moved = get(world.http, host, "/x").await;
        let location = moved.headers.get("location");
        assert_eq!((moved.status, location), (status, Some("https://new.example/")), "{moved}");
    }
    assert_eq!(get(world.http, "guarded.example", "/").await.status, 403);
}

#[tokio::test]
async fn a_back_end_is_not_verified_without_a_secret_to_do_it_by() {
    let ca = Ca::new();
    let app = Server::tls(server_config(&ca.server(&["inner.example"]), &[], None)).await;
    let cluster = shop(app.address()).await;
    let annotations = [("backend-protocol", "HTTPS"), ("proxy-ssl-verify", "on")];
    cluster.put(annotated("verify.example", "/", &annotations));
    let world = World::start(&cluster, &[]).await;
    let answer = get(world.http, "verify.example", "/").await;
    assert_eq!(answer.status, 200, "{answer}");
    world.proxy.logs("no effect without `proxy-ssl-secret`").await;
}

#[tokio::test]
async fn a_session_cookie_over_tls_is_secure_whatever_is_said() {
    let app = Backend::saying("web").await;
    let cluster = shop(app.address()).await;
    let annotations =
        [("affinity", "cookie"), ("session-cookie-secure", "false"), ("ssl-redirect", "false")];
    let mut sticky = annotated("sticky.example", "/", &annotations);
    sticky["spec"]["tls"] = json!([{ "hosts": ["sticky.example"] }]);
    cluster.put(sticky);
    let world = World::start(&cluster, &[]).await;
    let plain = get(world.http, "sticky.example", "/").await.headers.joined("set-cookie");
    assert!(plain.contains("HttpOnly") && !plain.contains("Secure"), "{plain}");
    let tls = TlsClient::gullible("sticky.example", &["http/1.1"]);
    let mut client = Client::over(tls.connect(world.https).await.expect("a handshake"));
    let secure = client.request("GET", "sticky.example", "/").await.headers.joined("set-cookie");
    assert!(secure.contains("; Secure"), "{secure}");
}

#[tokio::test]
async fn a_canary_says_itself_whether_its_service_stands_for_its_endpoints() {
    let (app, next) = (Backend::saying("web").await, Backend::saying("next").await);
    let cluster = shop(app.address()).await;
    // Nobody knows of an endpoint.
    let mut behind = service("next");
    behind["spec"]["clusterIP"] = json!("127.0.0.1");
    behind["spec"]["ports"][0]["port"] = json!(next.address().port());
    cluster.put(behind);
    let annotations = [("canary", "true"), ("canary-weight", "100"), ("service-upstream", "true")];
    let mut canary = annotated("shop.example", "/", &annotations);
    canary["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"] =
        json!({ "name": "next", "port": { "number": next.address().port() } });
    cluster.put(canary);
    let world = World::start(&cluster, &[]).await;
    world.serves("shop.example", 200, "next").await;
}

#[tokio::test]
async fn an_alias_that_a_wildcard_with_tls_covers_is_sent_to_https() {
    let app = Backend::saying("web").await;
    let cluster = shop(app.address()).await;
    let mut wild = annotated("*.wild.example", "/", &[]);
    wild["metadata"]["name"] = json!("wild");
    wild["spec"]["tls"] = json!([{ "hosts": ["*.wild.example"] }]);
    cluster.put(wild);
    let aliases = [("server-alias", "a.wild.example,b.c.wild.example,plain.example")];
    cluster.put(annotated("alias.example", "/", &aliases));
    let world = World::start(&cluster, &[]).await;
    for (host, status) in [
        ("a.wild.example", 308),
        ("b.c.wild.example", 200),
        ("plain.example", 200),
        ("alias.example", 200),
    ] {
        assert_eq!(get(world.http, host, "/").await.status, status, "{host}");
    }
}
