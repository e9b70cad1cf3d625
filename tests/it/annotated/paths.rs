//! Paths and names: rewrites, expressions, aliases.

use super::objects::at;
use super::{Expect::*, Family, row};

pub const FAMILY: Family = Family {
    ingresses: &[
        at("rewrite.example", &[("rewrite-target", "/v1/$2"), ("x-forwarded-prefix", "/api")])
            .path("/api(/|$)(.*)"),
        at("regex.example", &[("use-regex", "true")]).path("/items/[0-9]+$"),
        at("vhost.example", &[("upstream-vhost", "inner.example")]),
        at("root.example", &[("app-root", "/start")]),
        at("relative.example", &[("app-root", "/start"), ("relative-redirects", "true")]),
        at("named.example", &[("server-alias", "alias.example, *.alias.example")]),
        at("www.site.example", &[("from-to-www-redirect", "true")]),
        at("server.example", &[("server-snippet", SERVER)]),
        at("location.example", &[("configuration-snippet", LOCATION)]),
        at("tier.example", &[("configuration-snippet", TIER)]),
    ],
    rows: &[
        row(
            &["rewrite-target", "x-forwarded-prefix"],
            "rewrite.example",
            "GET /api/users?n=1",
            "",
            &[Status(200), Told("/path", "/v1/users?n=1"), Seen("X-Forwarded-Prefix", "/api")],
        ),
        row(&["rewrite-target"], "rewrite.example", "GET /API/x", "", &[Told("/path", "/v1/x")]),
        row(&["rewrite-target"], "rewrite.example", "GET /other", "", &[Status(404)]),
        row(&["use-regex"], "regex.example", "GET /items/12", "", &[Told("/path", "/items/12")]),
        row(&["use-regex"], "regex.example", "GET /items/x", "", &[Status(404)]),
        row(&["upstream-vhost"], "vhost.example", "GET /", "", &[Told("/host", "inner.example")]),
        row(
            &["app-root"],
            "root.example",
            "GET /",
            "",
            &[Status(302), Header("location", "http://root.example/start")],
        ),
        row(&["app-root"], "root.example", "GET /x", "", &[Status(200), Told("/path", "/x")]),
        row(
            &["relative-redirects"],
            "relative.example",
            "GET /",
            "",
            &[Status(302), Header("location", "/start")],
        ),
        row(&["server-alias"], "alias.example", "GET /", "", &[Told("/host", "alias.example")]),
        row(&["server-alias"], "a.alias.example", "GET /", "", &[Status(200)]),
        row(
            &["from-to-www-redirect"],
            "site.example",
            "GET /a?b",
            "",
            &[Status(308), Header("location", "http://www.site.example/a?b")],
        ),
        row(
            &["server-snippet"],
            "server.example",
            "GET /robots.txt",
            "",
            &[Status(200), Text("User-agent: *")],
        ),
        row(&["server-snippet"], "server.example", "GET /admin/x", "", &[Status(403)]),
        row(
            &["configuration-snippet"],
            "location.example",
            "GET /x",
            "",
            &[Status(200), Header("x-method", "GET"), Seen("X-Asked", "/x")],
        ),
        row(
            &["configuration-snippet"],
            "location.example",
            "GET /",
            "User-Agent: a-bot\r\n",
            &[Status(403)],
        ),
        row(&["configuration-snippet"], "tier.example", "GET /", "", &[Seen("X-Tier", "basic")]),
        row(
            &["configuration-snippet"],
            "tier.example",
            "GET /",
            "Cookie: plan=gold\r\n",
            &[Seen("X-Tier", "gold")],
        ),
        row(
            &["configuration-snippet"],
            "tier.example",
            "GET /",
            "Cookie: plan=gold\r\nX-Banned: yes\r\n",
            &[Status(403)],
        ),
    ],
    checked: &[],
};

const TIER: &str = "set $tier basic; if ($cookie_plan = gold) { set $tier gold; }\n\
                    if ($http_x_banned) { set $tier \"$tier-banned\"; }\n\
                    proxy_set_header X-Tier $tier; if ($tier = gold-banned) { return 403; }";
const SERVER: &str = "location = /robots.txt { return 200 \"User-agent: *\"; }\n\
                      location /admin { deny all; }";

const LOCATION: &str = "more_set_headers \"X-Method: $request_method\";\n\
                        proxy_set_header X-Asked $request_uri;\n\
                        if ($http_user_agent ~* bot) { return 403; }";
