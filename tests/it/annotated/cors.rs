//! Pages of other origins.

use super::objects::at;
use super::{Expect::*, Family, row};

const ORIGIN: &str = "Origin: https://shop.example\r\n";
const PREFLIGHT: &str = "Origin: https://shop.example\r\nAccess-Control-Request-Method: PUT\r\nAccess-Control-Request-Headers: X-Cart\r\n";

pub const FAMILY: Family = Family {
    ingresses: &[
        at("cors.example", &[("enable-cors", "true")]),
        at(
            "pages.example",
            &[
                ("enable-cors", "true"),
                ("cors-allow-origin", "https://shop.example, https://*.shop.example"),
                ("cors-allow-methods", "PUT, GET"),
                ("cors-allow-headers", "X-Cart, X-Two"),
                ("cors-expose-headers", "x-total"),
                ("cors-allow-credentials", "false"),
                ("cors-max-age", "600"),
            ],
        ),
    ],
    rows: &[
        row(
            &["enable-cors"],
            "cors.example",
            "OPTIONS /",
            PREFLIGHT,
            &[
                Status(204),
                Part("access-control-allow-methods", "PATCH"),
                Part("access-control-allow-headers", "authorization"),
                Header("access-control-max-age", "1728000"),
                Header("access-control-allow-credentials", "true"),
            ],
        ),
        row(
            &["cors-allow-methods", "cors-allow-headers", "cors-max-age", "cors-allow-credentials"],
            "pages.example",
            "OPTIONS /",
            PREFLIGHT,
            &[
                Status(204),
                Header("access-control-allow-origin", "https://shop.example"),
                Header("access-control-allow-methods", "PUT, GET"),
                Part("access-control-allow-headers", "x-cart"),
                Header("access-control-max-age", "600"),
                NoHeader("access-control-allow-credentials"),
            ],
        ),
        row(
            &["cors-allow-origin", "cors-expose-headers"],
            "pages.example",
            "GET /",
            ORIGIN,
            &[
                Status(200),
                Header("access-control-allow-origin", "https://shop.example"),
                Part("access-control-expose-headers", "x-total"),
            ],
        ),
        row(
            &["cors-allow-origin"],
            "pages.example",
            "GET /",
            "Origin: https://a.shop.example\r\n",
            &[Header("access-control-allow-origin", "https://a.shop.example")],
        ),
        row(
            &["cors-allow-origin"],
            "pages.example",
            "GET /",
            "Origin: https://evil.example\r\n",
            &[Status(200), NoHeader("access-control-allow-origin")],
        ),
    ],
    checked: &[],
};
