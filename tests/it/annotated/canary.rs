//! A part of the requests for `echo` goes to `next`.

use super::objects::at;
use super::{Expect::*, Family, World, row};
use crate::harness::*;

pub const FAMILY: Family = Family {
    ingresses: &[
        at("header.example", &[]),
        at("header.example", &[("canary", "true"), ("canary-by-header", "X-Canary")]).to("next"),
        at("value.example", &[]),
        at(
            "value.example",
            &[
                ("canary", "true"),
                ("canary-by-header", "X-Canary"),
                ("canary-by-header-value", "blue"),
            ],
        )
        .to("next"),
        at("pattern.example", &[]),
        at(
            "pattern.example",
            &[
                ("canary", "true"),
                ("canary-by-header", "X-Canary"),
                ("canary-by-header-pattern", "^v[0-9]$"),
            ],
        )
        .to("next"),
        at("jar.example", &[]),
        at("jar.example", &[("canary", "true"), ("canary-by-cookie", "beta")]).to("next"),
        at("sessions.example", &[("affinity", "cookie"), ("session-cookie-name", "sid")]),
        at(
            "sessions.example",
            &[
                ("canary", "true"),
                ("canary-by-header", "X-Canary"),
                ("affinity-canary-behavior", "sticky"),
            ],
        )
        .to("next"),
        at("anew.example", &[("affinity", "cookie"), ("session-cookie-name", "sid")]),
        at(
            "anew.example",
            &[
                ("canary", "true"),
                ("canary-by-header", "X-Canary"),
                ("affinity-canary-behavior", "legacy"),
            ],
        )
        .to("next"),
        at("weight.example", &[]),
        at("weight.example", &[("canary", "true"), ("canary-weight", "100")]).to("next"),
        at("total.example", &[]),
        at(
            "total.example",
            // All of a hundred, and none to speak of out of this.
            &[("canary", "true"), ("canary-weight", "100"), ("canary-weight-total", "1000000000")],
        )
        .to("next"),
    ],
    rows: &[
        row(&["canary"], "header.example", "GET /", "", &[Told("/service", "echo")]),
        row(
            &["canary", "canary-by-header"],
            "header.example",
            "GET /",
            "X-Canary: always\r\n",
            &[Told("/service", "next")],
        ),
        row(
            &["canary-by-header"],
            "header.example",
            "GET /",
            "X-Canary: never\r\n",
            &[Told("/service", "echo")],
        ),
        row(
            &["canary-by-header-value"],
            "value.example",
            "GET /",
            "X-Canary: blue\r\n",
            &[Told("/service", "next")],
        ),
        row(
            &["canary-by-header-value"],
            "value.example",
            "GET /",
            "X-Canary: always\r\n",
            &[Told("/service", "echo")],
        ),
        row(
            &["canary-by-header-pattern"],
            "pattern.example",
            "GET /",
            "X-Canary: v2\r\n",
            &[Told("/service", "next")],
        ),
        row(
            &["canary-by-header-pattern"],
            "pattern.example",
            "GET /",
            "X-Canary: v22\r\n",
            &[Told("/service", "echo")],
        ),
        row(
            &["canary-by-cookie"],
            "jar.example",
            "GET /",
            "Cookie: beta=always\r\n",
            &[Told("/service", "next")],
        ),
        row(
            &["canary-by-cookie"],
            "jar.example",
            "GET /",
            "Cookie: beta=never\r\n",
            &[Told("/service", "echo")],
        ),
        row(&["canary-weight"], "weight.example", "GET /", "", &[Told("/service", "next")]),
        row(&["canary-weight-total"], "total.example", "GET /", "", &[Told("/service", "echo")]),
    ],
    checked: &["affinity-canary-behavior"],
};

pub async fn check(world: &World<'_>) {
    let service = |response: &Response| {
        let seen: serde_json::Value = serde_json::from_slice(&response.body).expect("JSON");
        seen["service"].as_str().unwrap_or_default().to_owned()
    };
    for (host, stays) in [("sessions.example", true), ("anew.example", false)] {
        for (rule, other, begins) in [("always", "never", "next"), ("never", "always", "echo")] {
            let first = world.ask(host, "GET /", &format!("X-Canary: {rule}\r\n")).await;
            assert_eq!(service(&first), begins, "{host}: {first}");
            // A canary without sessions of its own gives none.
            let Some(cookie) = first.headers.get("set-cookie") else {
                assert!(!stays && begins == "next", "{host}: {first}");
                continue;
            };
            let pair = cookie.split(';').next().expect("a pair");
            let fields = format!("Cookie: {pair}\r\nX-Canary: {other}\r\n");
            let then = world.ask(host, "GET /", &fields).await;
            assert_eq!(service(&then) == begins, stays, "{host}: {then}");
        }
    }
}
