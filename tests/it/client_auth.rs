//! Client certificates that single hosts demand: who gets in, what upstreams are told, and that no
//! connection carries what was verified for one host to another.

use std::time::Duration;

use rustls::HandshakeKind;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::harness::*;

const CONFIG: &str = r#"
listeners:
  web: { bind: "@web@" }
  secure:
    bind: "@secure@"
    tls: { certificates: [ { cert: shop.pem, key: shop.key } ] }
hosts:
  open.example.com: { routes: [ { path: /, upstream: app } ] }
  locked.example.com:
    client_auth: { ca: clients.pem, forward: true }
    routes: [ { path: /, upstream: app } ]
  twin.example.com:
    client_auth: { ca: clients.pem }
    routes: [ { path: /, upstream: app } ]
  maybe.example.com:
    client_auth: { ca: clients.pem, mode: optional }
    routes: [ { path: /, upstream: app } ]
  any.example.com:
    client_auth: { ca: clients.pem, mode: optional_untrusted }
    routes: [ { path: /, upstream: app } ]
  alice.example.com:
    client_auth: { ca: clients.pem, subject: "CN=alice(,|$)" }
    routes: [ { path: /, upstream: app } ]
  page.example.com:
    client_auth: { ca: clients.pem, error_page: "https://help.example.com{request_uri}" }
    routes: [ { path: /, upstream: app } ]
  other.example.com:
    client_auth: { ca: others.pem }
    routes: [ { path: /, upstream: app } ]
  lost.example.com:
    client_auth: { ca: missing.pem, mode: optional }
    routes: [ { path: /, upstream: app } ]
  "*.example.com":
    client_auth: { ca: others.pem }
    routes: [ { path: /, upstream: app } ]
upstreams: { app: { endpoints: ["@app@"] } }
"#;

struct Scene {
    ca: Ca,
    clients: Ca,
    others: Ca,
    app: Backend,
    proxy: Proxy,
}

impl Scene {
    async fn new() -> Self {
        let (ca, clients, others) = (Ca::new(), Ca::new(), Ca::new());
        let app = Backend::saying("fine").await;
        let pair = ca.server(&["*.example.com"]);
        let setup = Setup::new(CONFIG).with("app", app.address());
        let setup = setup.file("shop.pem", pair.cert.as_str()).file("shop.key", pair.key.as_str());
        let setup = setup.file("clients.pem", clients.pem.as_str());
        let proxy = setup.file("others.pem", others.pem.as_str()).start().await;
        Self { ca, clients, others, app, proxy }
    }

    fn tls(&self, name: &str, alpn: &str, pair: Option<&Pair>) -> TlsClient {
        let name = format!("{name}.example.com");
        TlsClient::with(&self.ca, &name, &[alpn], pair, rustls::ALL_VERSIONS)
    }

    /// The answer to a request for a host on a connection that was made for it.
    async fn ask(&self, name: &str, pair: Option<&Pair>) -> Response {
        let tls = self.tls(name, "http/1.1", pair);
        let mut client = Client::tls(self.proxy.addr("secure"), &tls).await;
        client
            .send(format!(
                "GET /x HTTP/1.1\r\nHost: {name}.example.com\r\nSSL-Client-Verify: SUCCESS\r\n\
                 ssl-client-subject-dn: CN=root\r\nssl-client-issuer-dn: CN=root\r\n\
                 ssl-client-cert: forged\r\n\r\n"
            ))
            .await;
        client.response().await
    }

    async fn h2(&self, name: &str, pair: Option<&Pair>) -> H2 {
        H2::tls(self.proxy.addr("secure"), &self.tls(name, "h2", pair)).await
    }
}

#[tokio::test]
async fn a_host_lets_in_who_shows_what_it_demands() {
    let scene = Scene::new().await;
    let (alice, bob) = (scene.clients.client("alice"), scene.clients.client("bob"));
    let stranger = scene.others.client("alice");
    for (host, pair, status) in [
        ("open", None, 200),
        ("open", Some(&stranger), 200),
        ("locked", None, 400),
        ("locked", Some(&stranger), 400),
        ("locked", Some(&alice), 200),
        ("maybe", None, 200),
        ("maybe", Some(&stranger), 400),
        ("maybe", Some(&alice), 200),
        ("any", None, 200),
        ("any", Some(&stranger), 200),
        ("alice", None, 400),
        ("alice", Some(&bob), 403),
        ("alice", Some(&alice), 200),
        ("other", Some(&alice), 400),
        ("other", Some(&stranger), 200),
        ("wild", None, 400),
        ("wild", Some(&stranger), 200),
        ("lost", None, 503),
        ("lost", Some(&alice), 503),
    ] {
        let before = scene.app.requests().len();
        let response = scene.ask(host, pair).await;
        assert_eq!(response.status, status, "{host}: {response}");
        if status == 400 {
            response.assert_refused(400, "client_certificate");
        }
        let reached = scene.app.requests().len() - before;
        assert_eq!(reached, usize::from(status == 200), "{host} reached the back end");
    }
    let sent = scene.ask("page", None).await;
    assert_eq!(sent.status, 302);
    assert_eq!(sent.headers.get("location"), Some("https://help.example.com/x"));
    assert_eq!(scene.ask("page", Some(&alice)).await.status, 200);
}

#[tokio::test]
async fn upstreams_are_told_what_was_shown_and_not_what_clients_say() {
    let scene = Scene::new().await;
    let alice = scene.clients.client("alice");
    scene.ask("locked", Some(&alice)).await;
    let seen = scene.app.last().headers;
    assert_eq!(seen.joined("ssl-client-verify"), "SUCCESS");
    assert_eq!(seen.joined("ssl-client-subject-dn"), "CN=alice");
    assert_eq!(seen.joined("ssl-client-issuer-dn"), "CN=Portcullis test CA");
    let pem = seen.joined("ssl-client-cert").replace("%20", " ").replace("%0A", "\n");
    let pem = pem.replace("%2B", "+").replace("%2F", "/").replace("%3D", "=");
    assert_eq!(certificates(&pem), certificates(&alice.cert), "{pem}");

    scene.ask("twin", Some(&alice)).await;
    let seen = scene.app.last().headers;
    assert_eq!(seen.joined("ssl-client-verify"), "SUCCESS");
    assert!(!seen.has("ssl-client-cert"), "it is not to be passed on: {seen:?}");

    scene.ask("any", Some(&scene.others.client("alice"))).await;
    assert_eq!(scene.app.last().headers.joined("ssl-client-verify"), "FAILED:unknown_ca");
    scene.ask("maybe", None).await;
    let seen = scene.app.last().headers;
    assert_eq!(seen.joined("ssl-client-verify"), "NONE");
    for name in ["ssl-client-subject-dn", "ssl-client-issuer-dn", "ssl-client-cert"] {
        assert!(!seen.has(name), "{seen:?}");
    }

    // Without TLS nothing can be shown.
    let plain = get(scene.proxy.web(), "locked.example.com", "/").await;
    plain.assert_refused(400, "client_certificate");
    assert_eq!(get(scene.proxy.web(), "maybe.example.com", "/").await.text(), "fine");
    assert_eq!(scene.app.last().headers.joined("ssl-client-verify"), "NONE");
}

#[tokio::test]
async fn a_connection_carries_no_request_to_a_host_with_another_demand() {
    let scene = Scene::new().await;
    let (alice, stranger) = (scene.clients.client("alice"), scene.others.client("alice"));
    // One without a demand, one with another, and one that could not even be asked for.
    for (host, pair) in [("open", None), ("other", Some(&stranger)), ("lost", Some(&alice))] {
        let mut h2 = scene.h2(host, pair).await;
        let answer = h2.get("locked.example.com", "/").await;
        assert_eq!(answer.status, 421, "from {host}");
        let own = if host == "lost" { 503 } else { 200 };
        let still = h2.get(&format!("{host}.example.com"), "/").await;
        assert_eq!(still.status, own, "{host} is still good for itself");
    }
    let mut h2 = scene.h2("locked", Some(&alice)).await;
    assert_eq!(h2.get("twin.example.com", "/").await.status, 200, "the same demand");
    assert_eq!(h2.get("open.example.com", "/").await.status, 200, "no demand");
    assert_eq!(h2.get("other.example.com", "/").await.status, 421, "another demand");
    let mut h2 = scene.h2("maybe", None).await;
    assert_eq!(h2.get("locked.example.com", "/").await.status, 400, "nothing was shown");
    let nameless = scene.tls("locked", "http/1.1", Some(&alice)).without_sni();
    let mut client = Client::tls(scene.proxy.addr("secure"), &nameless).await;
    assert_eq!(client.request("GET", "locked.example.com", "/").await.status, 421);
}

#[tokio::test]
async fn revoked_certificates_and_long_chains_are_refused_also_in_resumed_sessions() {
    let (ca, clients) = (Ca::new(), Ca::new());
    let pair = ca.server(&["*.example.com"]);
    let setup = Setup::new(
        r#"
listeners:
  secure:
    bind: "@secure@"
    tls: { certificates: [ { cert: shop.pem, key: shop.key } ] }
hosts:
  crl.example.com:
    client_auth: { ca: clients.pem, crl: revoked.pem }
    routes: [ { path: /, respond: { body: fine } } ]
  short.example.com:
    client_auth: { ca: clients.pem, depth: 0 }
    routes: [ { path: /, respond: { body: fine } } ]
  long.example.com:
    client_auth: { ca: clients.pem, depth: 1 }
    routes: [ { path: /, respond: { body: fine } } ]
"#,
    );
    let setup = setup.file("shop.pem", pair.cert.as_str()).file("shop.key", pair.key.as_str());
    let setup = setup.file("clients.pem", clients.pem.as_str());
    let proxy = setup.file("revoked.pem", clients.revoking(&[])).start().await;
    let alice = clients.numbered_client("alice", 5);
    let between = clients.below("between");
    let mut chained = between.client("carol");
    chained.cert.push_str(&between.pem);
    for (host, pair, status) in [
        ("short", &alice, 200),
        ("short", &chained, 400),
        ("long", &chained, 200),
        // There is no list of the CA between.
        ("crl", &chained, 400),
    ] {
        let name = format!("{host}.example.com");
        let tls = TlsClient::with(&ca, &name, &[], Some(pair), rustls::ALL_VERSIONS);
        let mut client = Client::tls(proxy.addr("secure"), &tls).await;
        assert_eq!(client.request("GET", &name, "/").await.status, status, "{host}");
    }

    let name = "crl.example.com";
    let tls = TlsClient::with(&ca, name, &["http/1.1"], Some(&alice), rustls::ALL_VERSIONS);
    let mut kept = Client::tls(proxy.addr("secure"), &tls).await;
    assert_eq!(kept.request("GET", name, "/").await.status, 200);
    let resumes = async || {
        let stream = tls.connect(proxy.addr("secure")).await.expect("a handshake");
        let resumed = stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed);
        let mut client = Client::over(stream);
        resumed && client.request("GET", name, "/").await.status == 200
    };
    eventually(STEP, "a session is resumed, and its certificate is good", resumes).await;

    proxy.write("revoked.pem", clients.revoking(&[5]));
    let refused = async || {
        let mut client = Client::tls(proxy.addr("secure"), &tls).await;
        client.request("GET", name, "/").await.status == 400
    };
    eventually(Duration::from_secs(20), "the revoked certificate is refused", refused).await;
    assert_eq!(kept.request("GET", name, "/").await.status, 421, "verified by the old list");
    kept.closed().await;
}

/// A certificate of X.509 version 1, its key, and who signed it, as `openssl x509 -req` makes them.
const OF_VERSION_1: [&str; 3] = [
    "\
-----BEGIN CERTIFICATE-----
MIIBDDCBsgIBAjAKBggqhkjOPQQDAjASMRAwDgYDVQQDDAdjbGllbnRzMCAXDTI0
MDEwMTAwMDAwMFoYDzIxMjQwMTAxMDAwMDAwWjAQMQ4wDAYDVQQDDAVhbGljZTBZ
MBMGByqGSM49AgEGCCqGSM49AwEHA0IABLPx6D/vPr/+g4b5vYKx0eUMdKIuW2fr
NZwPN7yKbCMuclmacuQG49f+zBuuEAf/4432tPnDZafRIRXOWmHZHIEwCgYIKoZI
zj0EAwIDSQAwRgIhAMEVWIUT9vHDfZ7zCDj+AlZJLXIqGyB9lJ40r5iZR+18AiEA
sNTqbdRvdgRQuJ6yV6n8oXkXt2SOu9m1lk7lMLnTLMg=
-----END CERTIFICATE-----
",
    "\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg5JPpoam3B0GaLIqh
7PMvbIch3pLtNQ8RQKzV+yEf1eehRANCAASz8eg/7z6//oOG+b2CsdHlDHSiLltn
6zWcDze8imwjLnJZmnLkBuPX/swbrhAH/+ON9rT5w2Wn0SEVzlph2RyB
-----END PRIVATE KEY-----
",
    "\
-----BEGIN CERTIFICATE-----
MIIBUzCB+qADAgECAgEBMAoGCCqGSM49BAMCMBIxEDAOBgNVBAMMB2NsaWVudHMw
IBcNMjQwMTAxMDAwMDAwWhgPMjEyNDAxMDEwMDAwMDBaMBIxEDAOBgNVBAMMB2Ns
aWVudHMwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAARM+yz7nIe3actsU9XsV+vy
AvPNnqsU+j0S8bmt1xqDVacvtq1JOTqFo1hhboaRRXlTmUcvjcVxTlRwKwOvmsCz
oz8wPTAPBgNVHRMBAf8EBTADAQH/MAsGA1UdDwQEAwICBDAdBgNVHQ4EFgQUqv+E
2bMgn0GyKVe51lK4G4sqeS0wCgYIKoZIzj0EAwIDSAAwRQIhAKelSWPAW8088odx
6b7W4q5S7y3pqF7LKbenRpOZdl9nAiA7lnVBcwE9YgNYdgJ5WgHwFHk+LEeZy7m0
UIQaLIlX3w==
-----END CERTIFICATE-----
",
];

#[tokio::test]
async fn a_certificate_of_version_1_is_refused_by_http_and_never_verified() {
    let ca = Ca::new();
    let [cert, key, signer] = OF_VERSION_1;
    let pair = ca.server(&["*.example.com"]);
    let app = Backend::saying("fine").await;
    let setup = Setup::new(CONFIG).with("app", app.address());
    let setup = setup.file("shop.pem", pair.cert.as_str()).file("shop.key", pair.key.as_str());
    let proxy = setup.file("clients.pem", signer).file("others.pem", signer).start().await;
    let old = Pair { cert: cert.to_owned(), key: key.to_owned() };
    // Somebody else's certificate is not shown, not even such a one.
    let thief = Pair { cert: old.cert.clone(), key: ca.client("alice").key };
    for version in rustls::ALL_VERSIONS {
        for host in ["locked", "maybe", "any", "alice"] {
            let name = format!("{host}.example.com");
            let tls = TlsClient::with(&ca, &name, &["http/1.1"], Some(&old), &[version]);
            let mut client = Client::tls(proxy.addr("secure"), &tls).await;
            let response = client.request("GET", &name, "/").await;
            response.assert_refused(400, "client_certificate");
        }
        let name = "any.example.com";
        let tls = TlsClient::with(&ca, name, &["http/1.1"], Some(&thief), &[version]);
        let answered = async {
            let mut stream = tls.connect(proxy.addr("secure")).await.ok()?;
            let request = format!("GET / HTTP/1.1\r\nHost: {name}\r\n\r\n");
            stream.write_all(request.as_bytes()).await.ok()?;
            let mut byte = [0];
            stream.read(&mut byte).await.ok().filter(|count| *count > 0)
        };
        assert_eq!(within(STEP, "the connection ends", answered).await, None, "{version:?}");
    }
    assert!(app.requests().is_empty(), "no back end heard of it");
}
