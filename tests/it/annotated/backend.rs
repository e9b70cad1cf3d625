//! What back ends speak, how long is waited for them, and who answers in their place.

use super::objects::at;
use super::{Expect::*, Family, World, row};
use crate::harness::*;

pub const FAMILY: Family = Family {
    ingresses: &[
        at("http11.example", &[("proxy-http-version", "1.1")]),
        at("http10.example", &[("proxy-http-version", "1.0")]),
        at("grpc.example", &[("backend-protocol", "GRPC")]),
        at("https.example", &[("backend-protocol", "HTTPS")]).to("secure"),
        at("grpcs.example", &[("backend-protocol", "GRPCS")]).to("secure"),
        at(
            "verified.example",
            &[
                ("backend-protocol", "HTTPS"),
                ("proxy-ssl-secret", "@namespace@/to-secure"),
                ("proxy-ssl-verify", "on"),
                ("proxy-ssl-name", "secure.example"),
                ("proxy-ssl-server-name", "on"),
            ],
        )
        .to("secure"),
        at(
            "unnamed.example",
            &[
                ("backend-protocol", "HTTPS"),
                ("proxy-ssl-secret", "@namespace@/to-secure"),
                ("proxy-ssl-verify", "on"),
                ("proxy-ssl-name", "secure.example"),
                ("proxy-ssl-server-name", "off"),
            ],
        )
        .to("secure"),
        at(
            "mistaken.example",
            &[
                ("backend-protocol", "HTTPS"),
                ("proxy-ssl-secret", "@namespace@/to-secure"),
                ("proxy-ssl-verify", "on"),
                ("proxy-ssl-name", "other.example"),
            ],
        )
        .to("secure"),
        at("late.example", &[("proxy-read-timeout", "1"), ("proxy-next-upstream-tries", "1")]),
        at(
            "again.example",
            &[("proxy-next-upstream", "error timeout http_503"), ("load-balance", "round_robin")],
        )
        .to("flaky"),
        at(
            "once.example",
            &[
                ("proxy-next-upstream", "error timeout http_503"),
                ("proxy-next-upstream-tries", "1"),
                ("load-balance", "round_robin"),
            ],
        )
        .to("flaky"),
        at(
            "brief.example",
            &[
                ("proxy-next-upstream", "error timeout http_503"),
                ("proxy-next-upstream-timeout", "1"),
                ("load-balance", "round_robin"),
            ],
        )
        .to("flaky"),
        at("errors.example", &[("custom-http-errors", "404, 503"), ("default-backend", "next")]),
        at("teapot.example", &[("default-backend", "next")]),
        at("nobody.example", &[("default-backend", "next")]).to("nobody"),
        at(
            "raw.example",
            &[("default-backend", "next"), ("disable-proxy-intercept-errors", "true")],
        ),
    ],
    rows: &[
        row(&["proxy-http-version"], "http11.example", "GET /", "", &[Told("/proto", "HTTP/1.1")]),
        row(&["proxy-http-version"], "http10.example", "GET /", "", &[Told("/proto", "HTTP/1.0")]),
        row(&["backend-protocol"], "grpc.example", "GET /", "", &[Told("/proto", "HTTP/2.0")]),
        row(
            &["backend-protocol"],
            "https.example",
            "GET /",
            "",
            &[
                Told("/proto", "HTTP/1.1"),
                Told("/tls/version", "TLS 1.3"),
                Told("/tls/serverName", ""),
            ],
        ),
        row(
            &["backend-protocol"],
            "grpcs.example",
            "GET /",
            "",
            &[Told("/proto", "HTTP/2.0"), Told("/tls/negotiatedProtocol", "h2")],
        ),
        row(
            &["proxy-ssl-secret", "proxy-ssl-verify", "proxy-ssl-name", "proxy-ssl-server-name"],
            "verified.example",
            "GET /",
            "",
            &[
                Status(200),
                Told("/tls/serverName", "secure.example"),
                Told("/tls/clients/0", "CN=portcullis"),
            ],
        ),
        row(
            &["proxy-ssl-server-name"],
            "unnamed.example",
            "GET /",
            "",
            &[Status(200), Told("/tls/serverName", ""), Told("/tls/clients/0", "CN=portcullis")],
        ),
        row(
            &["proxy-ssl-verify", "proxy-ssl-name"],
            "mistaken.example",
            "GET /",
            "",
            &[Status(502)],
        ),
        row(&["proxy-read-timeout"], "late.example", "GET /?delay=8s", "", &[Status(504)]),
        row(
            &["custom-http-errors", "default-backend"],
            "errors.example",
            "GET /?status=404",
            "",
            &[
                Told("/service", "next"),
                Told("/path", "/"),
                Seen("X-Code", "404"),
                Seen("X-Service-Name", "echo"),
            ],
        ),
        row(
            &["custom-http-errors"],
            "errors.example",
            "GET /?status=500",
            "",
            &[Status(500), Told("/service", "echo")],
        ),
        row(
            &["default-backend"],
            "teapot.example",
            "GET /?status=418",
            "",
            &[Told("/service", "next"), Seen("X-Code", "418")],
        ),
        row(
            &["default-backend"],
            "nobody.example",
            "POST /form?a=b",
            "Content-Length: 3\r\n",
            &[
                Told("/service", "next"),
                Told("/method", "POST"),
                Told("/path", "/form?a=b"),
                Told("/body", "xxx"),
                Seen("X-Code", "503"),
                Seen("X-Service-Name", "nobody"),
            ],
        ),
        row(
            &["disable-proxy-intercept-errors"],
            "raw.example",
            "GET /?status=418",
            "",
            &[Status(418), Told("/service", "echo")],
        ),
    ],
    checked: &["proxy-next-upstream", "proxy-next-upstream-timeout", "proxy-next-upstream-tries"],
};

pub async fn check(world: &World<'_>) {
    // One of two pods fails.
    let pods = world.space.ready_endpoints("flaky", 2).await;
    let pod = format!("{}:8080", pods[0]).parse().expect("an address");
    let mut pod = world.cluster.connect(pod).await;
    let told = world.ask_over(&mut pod, "flaky", "POST /control?fail=503", "").await;
    assert_eq!(told.status, 200);
    let status = async |host| world.ask(host, "GET /", "").await.status;
    eventually(STEP, "a failure is passed on", async || status("once.example").await == 503).await;
    for _ in 0..10 {
        assert_eq!(status("again.example").await, 200);
    }
    let late = async || world.ask("brief.example", "GET /?delay=1100ms", "").await.status;
    eventually(STEP, "a late failure is passed on", async || late().await == 503).await;
}
