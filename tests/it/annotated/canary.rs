//! A part of the requests for `echo` goes to `next`.

use super::objects::at;
use super::{Expect::*, Family, row};

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
    checked: &[],
};
