//! TLS that its back end terminates.

use super::objects::at;
use super::{Expect::*, Family, World, row};

pub const FAMILY: Family = Family {
    ingresses: &[at("passed.example", &[("ssl-passthrough", "true")]).to("secure")],
    // What comes without TLS is proxied as ever, to a back end that hears nothing but TLS.
    rows: &[row(
        &["ssl-passthrough"],
        "passed.example",
        "GET /",
        "",
        &[Status(200), Told("/tls/version", "TLS 1.3"), Seen("X-Forwarded-Proto", "http")],
    )],
    checked: &[],
};

pub async fn check(world: &World<'_>) {
    let mut client = world.secure("passed.example", None).await;
    let response = world.ask_over(&mut client, "passed.example", "GET /a", "").await;
    let expected = [
        Status(200),
        Told("/path", "/a"),
        Told("/tls/serverName", "passed.example"),
        Unseen("X-Forwarded-For"),
    ];
    let wrong = expected.iter().find(|expected| !expected.holds(&response));
    assert!(wrong.is_none(), "{wrong:?}: {response}");
}
