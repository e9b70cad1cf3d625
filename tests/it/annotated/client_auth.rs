//! What clients must show in the TLS handshake.

use super::objects::at;
use super::{Family, World};
use crate::harness::*;

const BY: (&str, &str) = ("auth-tls-secret", "@namespace@/clients");

pub const FAMILY: Family = Family {
    ingresses: &[
        at("locked.tls.example", &[BY, ("auth-tls-pass-certificate-to-upstream", "true")]).tls(),
        at("maybe.tls.example", &[BY, ("auth-tls-verify-client", "optional")]).tls(),
        at("alice.tls.example", &[BY, ("auth-tls-match-cn", "CN=alice")]).tls(),
        at("page.tls.example", &[BY, ("auth-tls-error-page", "https://help.example/")]).tls(),
        at("deep.tls.example", &[BY, ("auth-tls-verify-depth", "2")]).tls(),
    ],
    rows: &[],
    checked: &[
        "auth-tls-secret",
        "auth-tls-pass-certificate-to-upstream",
        "auth-tls-verify-client",
        "auth-tls-match-cn",
        "auth-tls-error-page",
        "auth-tls-verify-depth",
    ],
};

pub async fn check(world: &World<'_>) {
    let clients = &world.pki.clients;
    let (alice, bob) = (clients.client("alice"), clients.client("bob"));
    let ask = async |host: &str, pair: Option<&Pair>| {
        let host = format!("{host}.tls.example");
        world.secure(&host, pair).await.request("GET", &host, "/").await
    };
    assert_eq!(ask("locked", None).await.status, 400);
    let stranger = Ca::new().client("alice");
    assert_eq!(ask("locked", Some(&stranger)).await.status, 400);
    let seen = ask("locked", Some(&alice)).await;
    assert_eq!(seen.status, 200, "{seen}");
    let headers = &seen.json()["headers"];
    assert_eq!(headers["Ssl-Client-Verify"][0], "SUCCESS");
    assert_eq!(headers["Ssl-Client-Subject-Dn"][0], "CN=alice");
    let certificate = headers["Ssl-Client-Cert"][0].as_str().unwrap_or_default();
    assert!(certificate.starts_with("-----BEGIN%20CERTIFICATE"), "{certificate}");

    let seen = ask("maybe", None).await;
    assert_eq!(
        (seen.status, &seen.json()["headers"]["Ssl-Client-Verify"][0]),
        (200, &"NONE".into())
    );
    assert_eq!(ask("alice", Some(&alice)).await.status, 200);
    assert_eq!(ask("alice", Some(&bob)).await.status, 403);
    let page = ask("page", None).await;
    assert_eq!((page.status, page.headers.get("location")), (302, Some("https://help.example/")));

    // Two authorities between the certificate and the one that is trusted.
    let middle = clients.below("middle");
    let low = middle.below("low");
    let mut carol = low.client("carol");
    carol.cert = [carol.cert, low.pem, middle.pem].concat();
    assert_eq!(ask("locked", Some(&carol)).await.status, 400);
    assert_eq!(ask("deep", Some(&carol)).await.status, 200);
}
