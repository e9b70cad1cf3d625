//! Requests that are sent elsewhere, and to https.

use super::objects::at;
use super::{Expect::*, Family, row};

pub const FAMILY: Family = Family {
    ingresses: &[
        at(
            "moved.example",
            &[
                ("permanent-redirect", "https://new.example$request_uri"),
                ("permanent-redirect-code", "308"),
            ],
        ),
        at("gone.example", &[("permanent-redirect", "https://new.example/")]),
        at(
            "away.example",
            &[("temporal-redirect", "https://busy.example/"), ("temporal-redirect-code", "307")],
        ),
        at("plain.example", &[("ssl-redirect", "false")]).tls(),
        at("safe.example", &[("ssl-redirect", "true")]).tls(),
        at("forced.example", &[("force-ssl-redirect", "true")]),
        at("slash.example", &[("force-ssl-redirect", "true"), ("preserve-trailing-slash", "true")]),
        // The port of the Service, which nobody has to name.
        at("port.example", &[("use-port-in-redirects", "true")]).tls(),
    ],
    rows: &[
        row(
            &["permanent-redirect", "permanent-redirect-code"],
            "moved.example",
            "GET /a?b=c",
            "",
            &[Status(308), Header("location", "https://new.example/a?b=c")],
        ),
        row(
            &["permanent-redirect"],
            "gone.example",
            "GET /a",
            "",
            &[Status(301), Header("location", "https://new.example/")],
        ),
        row(
            &["temporal-redirect", "temporal-redirect-code"],
            "away.example",
            "GET /a",
            "",
            &[Status(307), Header("location", "https://busy.example/")],
        ),
        row(
            &["ssl-redirect"],
            "plain.example",
            "GET /",
            "",
            &[Status(200), Seen("X-Forwarded-Port", "80")],
        ),
        row(
            &["ssl-redirect"],
            "safe.example",
            "GET /a?b",
            "",
            &[Status(308), Header("location", "https://safe.example/a?b")],
        ),
        row(
            &["force-ssl-redirect"],
            "forced.example",
            "GET /a/",
            "",
            &[Status(308), Header("location", "https://forced.example/a")],
        ),
        row(
            &["preserve-trailing-slash"],
            "slash.example",
            "GET /a/",
            "",
            &[Status(308), Header("location", "https://slash.example/a/")],
        ),
        row(
            &["use-port-in-redirects"],
            "port.example",
            "GET /a",
            "",
            &[Status(308), Header("location", "https://port.example/a")],
        ),
    ],
    checked: &[],
};
