//! Which pod a request goes to.

use std::collections::BTreeSet;

use super::objects::at;
use super::{Expect::*, Family, World, row};

pub const FAMILY: Family = Family {
    ingresses: &[
        at(
            "sticky.example",
            &[
                ("affinity", "cookie"),
                ("session-cookie-name", "sid"),
                ("session-cookie-path", "/app"),
                ("session-cookie-domain", "sticky.example"),
                ("session-cookie-samesite", "Strict"),
                ("session-cookie-secure", "true"),
                ("session-cookie-max-age", "600"),
                ("load-balance", "round_robin"),
            ],
        ),
        at("expires.example", &[("affinity", "cookie"), ("session-cookie-expires", "900")]),
        at("turns.example", &[("load-balance", "round_robin")]),
        at("hash.example", &[("upstream-hash-by", "$arg_user")]),
        at("service.example", &[("service-upstream", "true")]),
    ],
    rows: &[
        row(
            &[
                "affinity",
                "session-cookie-name",
                "session-cookie-path",
                "session-cookie-domain",
                "session-cookie-samesite",
                "session-cookie-secure",
                "session-cookie-max-age",
            ],
            "sticky.example",
            "GET /",
            "",
            &[
                Part("set-cookie", "sid="),
                Part("set-cookie", "; Path=/app"),
                Part("set-cookie", "; Domain=sticky.example"),
                Part("set-cookie", "; SameSite=Strict"),
                Part("set-cookie", "; Secure"),
                Part("set-cookie", "; HttpOnly"),
                Part("set-cookie", "; Max-Age=600"),
            ],
        ),
        row(
            &["session-cookie-expires"],
            "expires.example",
            "GET /",
            "",
            &[Part("set-cookie", "INGRESSCOOKIE="), Part("set-cookie", "; Max-Age=900")],
        ),
    ],
    checked: &["affinity", "load-balance", "upstream-hash-by", "service-upstream"],
};

pub async fn check(world: &World<'_>) {
    let distinct = |pods: Vec<String>| pods.into_iter().collect::<BTreeSet<_>>().len();
    // Workers take turns by themselves.
    assert_eq!(distinct(world.pods("turns.example", "/", "", 12).await), 2);
    for _ in 0..3 {
        let first = world.ask("sticky.example", "GET /", "").await;
        let cookie = first.headers.get("set-cookie").expect("a cookie");
        let cookie = format!("Cookie: {}\r\n", cookie.split(';').next().expect("a pair"));
        let mut pods = world.pods("sticky.example", "/", &cookie, 6).await;
        pods.push(first.headers.get("x-pod").expect("a pod").to_owned());
        assert_eq!(distinct(pods), 1, "{cookie}");
    }
    let mut all = BTreeSet::new();
    for user in 0..12 {
        let pods = world.pods("hash.example", &format!("/?user={user}"), "", 3).await;
        let pods: BTreeSet<_> = pods.into_iter().collect();
        assert_eq!(pods.len(), 1, "user {user}");
        all.extend(pods);
    }
    assert_eq!(all.len(), 2, "users are spread");
    // The one endpoint is the Service's own address.
    assert_eq!(world.ask("service.example", "GET /", "").await.status, 200);
    let service = world.space.cluster_ip("echo").await;
    let admin = world.space.cluster_ip("portcullis-metrics").await;
    let page = world.cluster.get(admin, "admin", "/metrics").await;
    assert!(page.text().contains(&format!("\"{service}\"")), "{service} is not in {}", page.text());
}
