//! What clients and back ends of ingress-nginx count on without an annotation that says so.

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
