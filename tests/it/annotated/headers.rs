//! What is changed in responses, and what is logged.

use super::objects::at;
use super::{Expect::*, Family, World, row};
use crate::harness::*;

pub const FAMILY: Family = Family {
    ingresses: &[
        at("custom.example", &[("custom-headers", "@namespace@/headers")]),
        at(
            "own.example",
            &[
                ("proxy-redirect-from", "http://inner/app/"),
                ("proxy-redirect-to", "https://$host/"),
                ("proxy-cookie-path", "/app/ /"),
                ("proxy-cookie-domain", "inner own.example"),
            ],
        ),
        at("kept.example", &[("connection-proxy-header", "keep-alive")]),
        at("quiet.example", &[("enable-access-log", "false")]),
        at("loud.example", &[("enable-access-log", "true")]),
    ],
    rows: &[
        row(
            &["custom-headers"],
            "custom.example",
            "GET /",
            "",
            &[Status(200), Header("x-shop", "one")],
        ),
        row(
            &["proxy-redirect-from", "proxy-redirect-to"],
            "own.example",
            "GET /?status=302&header=Location:http://inner/app/x",
            "",
            &[Status(302), Header("location", "https://own.example/x")],
        ),
        row(
            &["proxy-cookie-path", "proxy-cookie-domain"],
            "own.example",
            "GET /?header=Set-Cookie:a=1%3B+Path=/app/%3B+Domain=inner",
            "",
            &[Header("set-cookie", "a=1; Path=/; Domain=own.example")],
        ),
        row(
            &["connection-proxy-header"],
            "kept.example",
            "GET /",
            "Connection: close\r\n",
            &[Status(200), Told("/proto", "HTTP/1.1")],
        ),
    ],
    checked: &["enable-access-log"],
};

pub async fn check(world: &World<'_>) {
    // What the ConfigMap's add-headers and proxy-set-headers name.
    let response = world.ask("kept.example", "GET /?a=b", "X-Asked-As: x\r\n").await;
    assert_eq!(response.headers.get("x-answered-by"), Some("echo for kept.example"), "{response}");
    let seen: serde_json::Value = serde_json::from_slice(&response.body).expect("JSON");
    let asked_as = seen["headers"]["X-Asked-As"][0].as_str().unwrap_or_default();
    let expected = format!("kept-example-echo in {}: b", world.space.name);
    assert_eq!(asked_as, expected, "{response}");
    for host in ["quiet.example", "loud.example"] {
        assert_eq!(world.ask(host, "GET /logged", "").await.status, 200);
    }
    let logged = async || world.log().await.contains("loud.example");
    eventually(STEP, "a line in the access log", logged).await;
    let log = world.log().await;
    let line = log.lines().find(|line| line.contains("quiet.example") && line.contains("/logged"));
    assert_eq!(line, None);
}
