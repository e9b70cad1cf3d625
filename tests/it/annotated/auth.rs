//! Passwords, and the service `next` that is asked about requests: it answers as its query says.

use super::objects::{Ingress, at};
use super::{Expect::*, Family, World, row};

const ANNA: &str = "Authorization: Basic YW5uYTpzZWNyZXQ=\r\n";
const BOB: &str = "Authorization: Basic Ym9iOnNlY3JldA==\r\n";

const ASKED: (&str, &str) = (
    "auth-url",
    "http://next.@namespace@.svc.cluster.local/?status=$arg_verdict&header=X-User:ann&header=Set-Cookie:seen=1&tell=Method&tell=X-Auth-Request-Redirect",
);

/// The service tells what it was asked with.
const NONCE: (&str, &str) = ("auth-url", "http://next.@namespace@.svc.cluster.local/?tell=X-Nonce");

const INGRESSES: &[Ingress] = &[
    at(
        "basic.example",
        &[("auth-type", "basic"), ("auth-secret", "file"), ("auth-realm", "Staff only")],
    ),
    at(
        "map.example",
        &[("auth-type", "basic"), ("auth-secret", "map"), ("auth-secret-type", "auth-map")],
    ),
    at(
        "asked.example",
        &[
            ASKED,
            ("auth-method", "POST"),
            ("auth-response-headers", "X-User, X-Told-Method, X-Told-X-Auth-Request-Redirect"),
            ("auth-request-redirect", "https://back.example/"),
        ],
    ),
    at(
        "signin.example",
        &[
            ASKED,
            ("auth-signin", "https://login.example/start"),
            ("auth-signin-redirect-param", "to"),
        ],
    ),
    at("cookie.example", &[ASKED, ("auth-always-set-cookie", "true")]),
    at("public.example", &[("auth-type", "basic"), ("auth-secret", "file")]).path("/public"),
    at(
        "known.example",
        &[
            NONCE,
            ("auth-response-headers", "X-Told-X-Nonce"),
            ("auth-cache-key", "$http_x_who"),
            ("auth-cache-duration", "200 202 1h, 401 1m"),
        ],
    ),
    at(
        "anew.known.example",
        &[
            NONCE,
            ("auth-response-headers", "X-Told-X-Nonce"),
            ("auth-cache-key", "$http_x_who"),
            ("auth-cache-duration", "401 1h"),
        ],
    ),
    at("global.example", &[("enable-global-auth", "true")]),
    at("open.example", &[("enable-global-auth", "false")]),
];

pub const FAMILY: Family = Family {
    ingresses: INGRESSES,
    rows: &[
        row(
            &["auth-type", "auth-realm"],
            "basic.example",
            "GET /",
            "",
            &[Status(401), Part("www-authenticate", "Basic realm=\"Staff only\"")],
        ),
        row(
            &["auth-secret"],
            "basic.example",
            "GET /",
            ANNA,
            &[Status(200), Unseen("Authorization")],
        ),
        row(&["auth-secret"], "basic.example", "GET /", BOB, &[Status(401)]),
        row(&["auth-secret-type"], "map.example", "GET /", ANNA, &[Status(200)]),
        row(&["auth-secret-type"], "map.example", "GET /", BOB, &[Status(401)]),
        row(
            &["auth-url", "auth-response-headers"],
            "asked.example",
            "GET /?verdict=202",
            "X-User: forged\r\n",
            &[Status(200), Seen("X-User", "ann"), Told("/service", "echo")],
        ),
        row(&["auth-url"], "asked.example", "GET /?verdict=401", "", &[Status(401)]),
        row(&["auth-url"], "asked.example", "GET /?verdict=403", "", &[Status(403)]),
        row(
            &["auth-method"],
            "asked.example",
            "GET /?verdict=200",
            "",
            &[Seen("X-Told-Method", "POST")],
        ),
        row(
            &["auth-request-redirect"],
            "asked.example",
            "GET /?verdict=200",
            "",
            &[Seen("X-Told-X-Auth-Request-Redirect", "https://back.example/")],
        ),
        row(
            &["auth-signin", "auth-signin-redirect-param"],
            "signin.example",
            "GET /in?verdict=401",
            "",
            &[
                Status(302),
                Header(
                    "location",
                    "https://login.example/start?to=http://signin.example%2Fin%3Fverdict%3D401",
                ),
            ],
        ),
        row(&["auth-signin"], "signin.example", "GET /?verdict=200", "", &[Status(200)]),
        row(
            &["auth-always-set-cookie"],
            "cookie.example",
            "GET /?verdict=200&status=500",
            "",
            &[Status(500), Header("set-cookie", "seen=1")],
        ),
        row(
            &["auth-url"],
            "asked.example",
            "GET /?verdict=200&status=500",
            "",
            &[Status(500), NoHeader("set-cookie")],
        ),
        row(&["auth-secret"], "public.example", "GET /public", "", &[Status(200)]),
        row(&["enable-global-auth"], "global.example", "GET /?verdict=401", "", &[Status(401)]),
        row(&["enable-global-auth"], "global.example", "GET /?verdict=200", "", &[Status(200)]),
        row(&["enable-global-auth"], "open.example", "GET /?verdict=401", "", &[Status(200)]),
    ],
    checked: &["auth-cache-duration", "auth-cache-key"],
};

pub async fn check(world: &World<'_>) {
    // Each worker keeps its own, and a connection stays with its worker.
    let mut client = world.cluster.connect(world.controller.http).await;
    let mut nonce = 0;
    for (host, who, kept) in [
        ("known.example", "ann", None),
        ("known.example", "ann", Some(1)),
        ("known.example", "bob", None),
        ("known.example", "ann", Some(1)),
        ("known.example", "bob", Some(3)),
        ("anew.known.example", "ann", None),
        ("anew.known.example", "ann", None),
    ] {
        nonce += 1;
        let fields = format!("X-Who: {who}\r\nX-Nonce: {nonce}\r\n");
        let response = world.ask_over(&mut client, host, "GET /", &fields).await;
        let seen: serde_json::Value = serde_json::from_slice(&response.body).expect("JSON");
        let told = seen.pointer("/headers/X-Told-X-Nonce/0").and_then(|told| told.as_str());
        let expected = kept.unwrap_or(nonce).to_string();
        assert_eq!(told, Some(expected.as_str()), "{host}, {who}: {response}");
    }
}
