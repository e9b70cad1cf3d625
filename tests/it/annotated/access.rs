//! Who gets in by address, and how much may be sent.

use super::objects::at;
use super::{Expect::*, Family, row};

// Clients in the cluster have addresses of 10.0.0.0/8.
pub const FAMILY: Family = Family {
    ingresses: &[
        at("allowed.example", &[("allowlist-source-range", "192.0.2.0/24, 10.0.0.0/8")]),
        at("foreign.example", &[("allowlist-source-range", "192.0.2.0/24")]),
        at("white.example", &[("whitelist-source-range", "10.0.0.0/8")]),
        at("white2.example", &[("whitelist-source-range", "192.0.2.0/24")]),
        at("denied.example", &[("denylist-source-range", "10.0.0.0/8")]),
        at("undenied.example", &[("denylist-source-range", "192.0.2.0/24")]),
        at(
            "either.example",
            &[
                ("whitelist-source-range", "192.0.2.0/24"),
                ("auth-type", "basic"),
                ("auth-secret", "file"),
                ("satisfy", "any"),
            ],
        ),
        at("small.example", &[("proxy-body-size", "1k")]),
        at("large.example", &[("proxy-body-size", "2m")]),
    ],
    rows: &[
        row(&["allowlist-source-range"], "allowed.example", "GET /", "", &[Status(200)]),
        row(&["allowlist-source-range"], "foreign.example", "GET /", "", &[Status(403)]),
        row(&["whitelist-source-range"], "white.example", "GET /", "", &[Status(200)]),
        row(&["whitelist-source-range"], "white2.example", "GET /", "", &[Status(403)]),
        row(&["denylist-source-range"], "denied.example", "GET /", "", &[Status(403)]),
        row(&["denylist-source-range"], "undenied.example", "GET /", "", &[Status(200)]),
        row(
            &["satisfy"],
            "either.example",
            "GET /",
            "Authorization: Basic YW5uYTpzZWNyZXQ=\r\n",
            &[Status(200)],
        ),
        row(&["satisfy"], "either.example", "GET /", "", &[Status(401)]),
        row(
            &["proxy-body-size"],
            "small.example",
            "POST /",
            "Content-Length: 1025\r\n",
            &[Status(413)],
        ),
        row(
            &["proxy-body-size"],
            "small.example",
            "POST /",
            "Content-Length: 1024\r\n",
            &[Status(200)],
        ),
        row(
            &["proxy-body-size"],
            "large.example",
            "POST /",
            "Content-Length: 1500000\r\n",
            &[Status(200)],
        ),
    ],
    checked: &[],
};
