//! TLS towards clients: which certificate, which versions, whose clients, and changes without a
//! lost handshake.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustls::HandshakeKind;
use rustls::crypto::aws_lc_rs::kx_group;
use rustls::version::{TLS12, TLS13};

use crate::harness::*;

const CONFIG: &str = r#"
listeners:
  secure:
    bind: "@secure@"
    tls:
      certificates:
        - { cert: default.pem, key: default.key }
        - { cert: shop.pem, key: shop.key }
        - { cert: wild.pem, key: wild.key }
hosts: { "*": { routes: [ { path: /, upstream: app } ] } }
upstreams: { app: { endpoints: ["@app@"] } }
"#;

fn with_pair(setup: Setup, name: &str, pair: &Pair) -> Setup {
    let setup = setup.file(&format!("{name}.pem"), pair.cert.as_str());
    setup.file(&format!("{name}.key"), pair.key.as_str())
}

async fn start(ca: &Ca, app: std::net::SocketAddr) -> Proxy {
    let setup = Setup::new(CONFIG).with("app", app);
    let setup = with_pair(setup, "default", &ca.server(&["default.example"]));
    let setup = with_pair(setup, "shop", &ca.server(&["shop.example.com"]));
    with_pair(setup, "wild", &ca.server(&["*.example.com", "example.com"])).start().await
}

/// The subject of the certificate shown to a client that asks for `name`.
async fn shown(proxy: &Proxy, client: &TlsClient) -> String {
    let stream = client.connect(proxy.addr("secure")).await.expect("the handshake succeeds");
    let certificates = stream.get_ref().1.peer_certificates().expect("a certificate");
    let (_, certificate) =
        x509_parser::parse_x509_certificate(&certificates[0]).expect("a certificate");
    let names = certificate.subject().iter_common_name();
    names.filter_map(|name| name.as_str().ok()).collect()
}

#[tokio::test]
async fn the_server_name_picks_the_certificate() {
    let ca = Ca::new();
    let app = Backend::saying("fine").await;
    let proxy = start(&ca, app.address()).await;
    for (name, expected) in [
        ("shop.example.com", "shop.example.com"),
        ("SHOP.example.com", "shop.example.com"),
        ("other.example.com", "*.example.com"),
        ("example.com", "*.example.com"),
        ("a.b.example.com", "default.example"),
        ("elsewhere.test", "default.example"),
    ] {
        assert_eq!(shown(&proxy, &TlsClient::gullible(name, &[])).await, expected, "{name}");
    }
    let without = TlsClient::gullible("shop.example.com", &[]).without_sni();
    assert_eq!(shown(&proxy, &without).await, "default.example", "no server name");
}

#[tokio::test]
async fn requests_over_tls_say_so_to_the_upstream() {
    let ca = Ca::new();
    let app = Backend::saying("fine").await;
    let proxy = start(&ca, app.address()).await;
    for alpn in [&["http/1.1"][..], &[]] {
        let tls = TlsClient::new(&ca, "shop.example.com", alpn);
        let mut client = Client::tls(proxy.addr("secure"), &tls).await;
        assert_eq!(client.request("GET", "shop.example.com", "/").await.text(), "fine");
        let seen = app.last().headers;
        assert_eq!(seen.joined("x-forwarded-proto"), "https");
        assert_eq!(seen.joined("x-forwarded-port"), proxy.addr("secure").port().to_string());
    }
    let tls = TlsClient::new(&ca, "shop.example.com", &["h2", "http/1.1"]);
    let mut h2 = H2::tls(proxy.addr("secure"), &tls).await;
    assert_eq!(h2.get("shop.example.com", "/").await.text(), "fine");
    assert_eq!(app.last().headers.joined("x-forwarded-proto"), "https");
}

#[tokio::test]
async fn tls_1_2_and_1_3_are_spoken_and_the_hybrid_key_exchange_too() {
    let ca = Ca::new();
    let app = Backend::saying("fine").await;
    let proxy = start(&ca, app.address()).await;
    for (version, label) in [(&TLS12, "1.2"), (&TLS13, "1.3")] {
        let tls = TlsClient::with(&ca, "shop.example.com", &[], None, &[version]);
        let stream = tls.connect(proxy.addr("secure")).await.expect("the handshake succeeds");
        assert_eq!(stream.get_ref().1.protocol_version(), Some(version.version));
        if label == "1.2" {
            let suite = stream.get_ref().1.negotiated_cipher_suite().expect("agreed").suite();
            let suite = format!("{suite:?}");
            assert!(suite.contains("ECDHE"), "{suite}");
        }
        drop(stream);
        proxy
            .metrics_until("the handshake is counted by version", |metrics| {
                let labels = [("listener", "secure"), ("result", "ok"), ("version", label)];
                metrics.sum("portcullis_tls_handshakes_total", &labels) >= 1.0
            })
            .await;
    }
    let tls =
        TlsClient::gullible("shop.example.com", &[]).with_groups(vec![kx_group::X25519MLKEM768]);
    let stream = tls.connect(proxy.addr("secure")).await.expect("the handshake succeeds");
    let group = stream.get_ref().1.negotiated_key_exchange_group().expect("agreed").name();
    assert_eq!(group, rustls::NamedGroup::X25519MLKEM768);
}

#[tokio::test]
async fn an_old_version_can_be_ruled_out() {
    let ca = Ca::new();
    let pair = ca.server(&["shop.example.com"]);
    let setup = Setup::new(
        r#"
listeners:
  secure:
    bind: "@secure@"
    tls: { min_version: "1.3", certificates: [ { cert: shop.pem, key: shop.key } ] }
hosts: { "*": { routes: [ { path: /, respond: { body: fine } } ] } }
"#,
    );
    let proxy = with_pair(setup, "shop", &pair).start().await;
    let old = TlsClient::with(&ca, "shop.example.com", &[], None, &[&TLS12]);
    assert!(old.connect(proxy.addr("secure")).await.is_err());
    let new = TlsClient::with(&ca, "shop.example.com", &[], None, &[&TLS13]);
    assert!(new.connect(proxy.addr("secure")).await.is_ok());
    proxy
        .metrics_until("the failure is counted", |metrics| {
            let all = metrics.sum("portcullis_tls_handshakes_total", &[("listener", "secure")]);
            let good = metrics.sum(
                "portcullis_tls_handshakes_total",
                &[("listener", "secure"), ("result", "ok")],
            );
            all - good >= 1.0
        })
        .await;
}

#[tokio::test]
async fn sessions_are_resumed_whichever_worker_takes_the_connection() {
    let ca = Ca::new();
    let app = Backend::saying("fine").await;
    let proxy = start(&ca, app.address()).await;
    for version in [&TLS13, &TLS12] {
        let tls = TlsClient::with(&ca, "shop.example.com", &["http/1.1"], None, &[version]);
        let mut resumed = 0;
        for number in 0..13 {
            let stream = tls.connect(proxy.addr("secure")).await.expect("the handshake succeeds");
            let kind = stream.get_ref().1.handshake_kind();
            if number > 0 && kind == Some(HandshakeKind::Resumed) {
                resumed += 1;
            }
            // TLS 1.3 tickets come after the handshake: with the response at the latest.
            let mut client = Client::over(stream);
            assert_eq!(client.request("GET", "shop.example.com", "/").await.status, 200);
        }
        assert_eq!(resumed, 12, "{version:?}: every connection after the first resumes");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changed_certificates_are_picked_up_without_a_lost_handshake() {
    let ca = Ca::new();
    let app = Backend::saying("fine").await;
    let proxy = Arc::new(start(&ca, app.address()).await);
    let done = Arc::new(AtomicBool::new(false));
    let mut clients = Vec::new();
    for _ in 0..2 {
        let (proxy, done) = (Arc::clone(&proxy), Arc::clone(&done));
        // No session cache shared with the others: every handshake is a full one.
        let tls = TlsClient::new(&ca, "shop.example.com", &["http/1.1"]).without_resumption();
        clients.push(tokio::spawn(async move {
            let mut serials = BTreeSet::new();
            let mut count = 0;
            while !done.load(Ordering::SeqCst) {
                let handshake = tls.connect(proxy.addr("secure")).await;
                let stream = handshake.unwrap_or_else(|error| panic!("handshake {count}: {error}"));
                let chain = stream.get_ref().1.peer_certificates().expect("a certificate");
                serials.insert(chain[0].to_vec());
                let mut client = Client::over(stream);
                assert_eq!(client.request("GET", "shop.example.com", "/").await.status, 200);
                count += 1;
            }
            (count, serials.len())
        }));
    }
    // A tool writes the two files one after the other, so for a moment they do not belong
    // together; that must never be shown.
    for _ in 0..20 {
        let pair = ca.server(&["shop.example.com"]);
        proxy.write("shop.pem", &pair.cert);
        pass(Duration::from_millis(20)).await;
        proxy.write("shop.key", &pair.key);
        let wanted = certificate_of(&pair);
        eventually(STEP, "the new certificate is shown", async || {
            let tls = TlsClient::gullible("shop.example.com", &[]);
            let stream = tls.connect(proxy.addr("secure")).await.expect("the handshake succeeds");
            stream.get_ref().1.peer_certificates().is_some_and(|chain| chain[0].as_ref() == wanted)
        })
        .await;
    }
    done.store(true, Ordering::SeqCst);
    for client in clients {
        let (count, serials) = client.await.expect("no handshake is lost");
        assert!(count > 20 && serials > 5, "{count} handshakes saw {serials} certificates");
    }
}

fn certificate_of(pair: &Pair) -> Vec<u8> {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;
    CertificateDer::from_pem_slice(pair.cert.as_bytes()).expect("PEM").to_vec()
}

#[tokio::test]
async fn a_broken_certificate_file_keeps_the_last_good_one_and_hurts_no_other() {
    let ca = Ca::new();
    let app = Backend::saying("fine").await;
    let proxy = start(&ca, app.address()).await;
    proxy.write("shop.pem", "-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n");
    proxy
        .metrics_until("the problem is counted", |metrics| {
            metrics.sum("portcullis_config_last_reload_successful", &[]) == 0.0
                || metrics.sum("portcullis_config_reloads_total", &[]) >= 2.0
        })
        .await;
    for (name, expected) in
        [("shop.example.com", "shop.example.com"), ("other.example.com", "*.example.com")]
    {
        assert_eq!(shown(&proxy, &TlsClient::gullible(name, &[])).await, expected);
    }
    // A key of somebody else is as bad as nonsense.
    let (one, other) = (ca.server(&["shop.example.com"]), ca.server(&["shop.example.com"]));
    proxy.write("shop.pem", &one.cert);
    proxy.write("shop.key", &other.key);
    pass(Duration::from_millis(500)).await;
    let tls = TlsClient::new(&ca, "shop.example.com", &[]);
    assert!(tls.connect(proxy.addr("secure")).await.is_ok());
    proxy.write("shop.key", &one.key);
    let wanted = certificate_of(&one);
    eventually(STEP, "the mended pair is shown", async || {
        let stream = tls.connect(proxy.addr("secure")).await.expect("the handshake succeeds");
        stream.get_ref().1.peer_certificates().is_some_and(|chain| chain[0].as_ref() == wanted)
    })
    .await;
}

#[tokio::test]
async fn a_certificate_missing_from_the_start_does_not_stop_the_rest() {
    let ca = Ca::new();
    let app = Backend::saying("fine").await;
    let setup = Setup::new(CONFIG).with("app", app.address());
    let setup = with_pair(setup, "default", &ca.server(&["default.example"]));
    // shop.pem is missing, and wild.key is no key.
    let wild = ca.server(&["*.example.com"]);
    let setup = setup.file("wild.pem", wild.cert).file("wild.key", "no key");
    let proxy = setup.file("shop.key", "x").start().await;
    let tls = TlsClient::new(&ca, "default.example", &["http/1.1"]);
    let mut client = Client::tls(proxy.addr("secure"), &tls).await;
    assert_eq!(client.request("GET", "default.example", "/").await.text(), "fine");
    for (file, line) in [("shop.pem", 8), ("wild.pem", 9)] {
        assert!(CONFIG.lines().nth(line - 1).is_some_and(|text| text.contains(file)));
        let place = format!("portcullis.yaml:{line}:");
        proxy.logs(&place).await;
        proxy.logs(file).await;
    }
    let shop = ca.server(&["shop.example.com"]);
    proxy.write("shop.pem", &shop.cert);
    proxy.write("shop.key", &shop.key);
    eventually(STEP, "it is picked up once it is there", async || {
        shown(&proxy, &TlsClient::gullible("shop.example.com", &[])).await == "shop.example.com"
    })
    .await;
}

#[tokio::test]
async fn client_certificates_are_demanded_verified_and_passed_on() {
    let (ca, clients, strangers) = (Ca::new(), Ca::new(), Ca::new());
    let app = Backend::saying("fine").await;
    let setup = Setup::new(
        r#"
listeners:
  required:
    bind: "@required@"
    tls:
      certificates: [ { cert: shop.pem, key: shop.key } ]
      client_auth: { ca: clients.pem, forward: true }
  optional:
    bind: "@optional@"
    tls:
      certificates: [ { cert: shop.pem, key: shop.key } ]
      client_auth: { mode: optional, ca: clients.pem, forward: true }
hosts: { "*": { routes: [ { path: /, upstream: app } ] } }
upstreams: { app: { endpoints: ["@app@"] } }
"#,
    );
    let setup = with_pair(setup, "shop", &ca.server(&["shop.example.com"]));
    let setup = setup.with("app", app.address()).file("clients.pem", clients.pem.as_str());
    let proxy = setup.start().await;
    let name = "shop.example.com";
    let good = clients.client("alice");
    let bad = strangers.client("mallory");
    let with =
        |pair: Option<&Pair>| TlsClient::with(&ca, name, &["http/1.1"], pair, rustls::ALL_VERSIONS);

    let mut client = Client::tls(proxy.addr("required"), &with(Some(&good))).await;
    client
        .send(
            "GET / HTTP/1.1\r\nHost: shop.example.com\r\nX-Client-Cert-Subject: CN=root\r\n\
             X-Client-Verify: NONE\r\n\r\n",
        )
        .await;
    assert_eq!(client.response().await.text(), "fine");
    let seen = app.last().headers;
    let subjects: Vec<_> = seen.all("x-client-cert-subject").collect();
    assert!(subjects.len() == 1 && subjects[0].contains("CN=alice"), "{seen:?}");
    assert_eq!(seen.all("x-client-verify").count(), 1);
    let fingerprint = seen.get("x-client-cert-fingerprint").expect("a fingerprint");
    assert_eq!(fingerprint.replace(':', "").len(), 64, "SHA-256 in hex: {fingerprint}");
    assert!(seen.has("x-client-cert-serial"), "{seen:?}");
    assert!(seen.joined("x-client-cert-san").contains("alice.clients.example"), "{seen:?}");

    for (listener, pair) in [("required", None), ("required", Some(&bad)), ("optional", Some(&bad))]
    {
        let refused = async {
            // TLS 1.3 tells the client only after its handshake is done.
            let stream = with(pair).connect(proxy.addr(listener)).await.ok()?;
            let mut client = Client::over(stream);
            client.try_send("GET / HTTP/1.1\r\nHost: shop.example.com\r\n\r\n").await.ok()?;
            client.try_response(false).await.ok()
        };
        assert!(refused.await.is_none(), "{listener}");
    }
    assert_eq!(app.requests().len(), 1, "none of them reached the back end");

    let mut client = Client::tls(proxy.addr("optional"), &with(None)).await;
    client
        .send("GET / HTTP/1.1\r\nHost: shop.example.com\r\nX-Client-Cert-Subject: CN=root\r\n\r\n")
        .await;
    assert_eq!(client.response().await.text(), "fine");
    let seen = app.last().headers;
    assert!(!seen.has("x-client-cert-subject"), "{seen:?}");
    let mut client = Client::tls(proxy.addr("optional"), &with(Some(&good))).await;
    client.request("GET", name, "/").await;
    assert!(app.last().headers.joined("x-client-cert-subject").contains("CN=alice"));
}

#[tokio::test]
async fn a_missing_client_ca_lets_nobody_in() {
    let (ca, clients) = (Ca::new(), Ca::new());
    let setup = Setup::new(
        r#"
listeners:
  secure:
    bind: "@secure@"
    tls:
      certificates: [ { cert: shop.pem, key: shop.key } ]
      client_auth: { mode: optional, ca: missing.pem }
  web: { bind: "@web@" }
hosts: { "*": { routes: [ { path: /, respond: { body: fine } } ] } }
"#,
    );
    let proxy = with_pair(setup, "shop", &ca.server(&["shop.example.com"])).start().await;
    let pair = clients.client("alice");
    for pair in [None, Some(&pair)] {
        let tls = TlsClient::with(&ca, "shop.example.com", &[], pair, rustls::ALL_VERSIONS);
        let refused = async {
            let stream = tls.connect(proxy.addr("secure")).await.ok()?;
            let mut client = Client::over(stream);
            client.try_send("GET / HTTP/1.1\r\nHost: shop.example.com\r\n\r\n").await.ok()?;
            client.try_response(false).await.ok()
        };
        assert!(refused.await.is_none(), "without a CA nothing is verified, so nobody passes");
    }
    assert_eq!(get(proxy.web(), "t", "/").await.text(), "fine", "the rest goes on");
}

#[tokio::test]
async fn plain_http_on_a_tls_port_gets_no_upstream() {
    let ca = Ca::new();
    let app = Backend::saying("fine").await;
    let proxy = start(&ca, app.address()).await;
    let mut client = Client::connect(proxy.addr("secure")).await;
    client.send("GET / HTTP/1.1\r\nHost: t\r\n\r\n").await;
    match client.try_response(false).await {
        Ok(response) => assert!(response.status >= 400, "{response}"),
        Err(Broken::Closed | Broken::Malformed(_)) => {}
        Err(broken) => panic!("{broken:?}"),
    }
    assert_eq!(app.connections(), 0);
}

#[tokio::test]
async fn certificates_and_their_expiry_are_on_the_metrics_page() {
    let ca = Ca::new();
    let app = Backend::saying("fine").await;
    let proxy = start(&ca, app.address()).await;
    let metrics = proxy.metrics().await;
    let family = "portcullis_certificate_expiry_timestamp_seconds";
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now = now.expect("after 1970").as_secs_f64();
    assert!(metrics.len() > 0 && metrics.has(family, &[("listener", "secure")]));
    let names = metrics.label_values(family, "name");
    assert_eq!(names.len(), 3, "{names:?}");
    for name in &names {
        assert!(metrics.sum(family, &[("name", name)]) > now, "{name} expires in the future");
    }
}

#[tokio::test]
async fn a_stricter_client_policy_holds_for_open_connections_too() {
    let (ca, clients) = (Ca::new(), Ca::new());
    let app = Backend::saying("fine").await;
    let config = |auth: &str| {
        format!(
            r#"
listeners:
  secure:
    bind: "@secure@"
    tls: {{ certificates: [ {{ cert: shop.pem, key: shop.key }} ]{auth} }}
hosts: {{ "*": {{ routes: [ {{ path: /, upstream: app }} ] }} }}
upstreams: {{ app: {{ endpoints: ["@app@"] }} }}
"#
        )
    };
    let name = "shop.example.com";
    let setup = with_pair(Setup::new(&config("")), "shop", &ca.server(&[name]));
    let setup = setup.with("app", app.address()).file("clients.pem", clients.pem.as_str());
    let mut proxy = setup.start().await;
    let tls = TlsClient::new(&ca, name, &["http/1.1"]);
    let mut kept = Client::tls(proxy.addr("secure"), &tls).await;
    assert_eq!(kept.request("GET", name, "/").await.text(), "fine");
    let mut h2 = H2::tls(proxy.addr("secure"), &TlsClient::new(&ca, name, &["h2"])).await;
    assert_eq!(h2.get(name, "/").await.status, 200);

    proxy.rewrite(&config(", client_auth: { ca: clients.pem }"));
    let good = TlsClient::with(
        &ca,
        name,
        &["http/1.1"],
        Some(&clients.client("alice")),
        rustls::ALL_VERSIONS,
    );
    eventually(STEP, "the new policy is live", async || {
        let Ok(stream) = tls.connect(proxy.addr("secure")).await else { return true };
        let mut client = Client::over(stream);
        client.try_send(format!("GET / HTTP/1.1\r\nHost: {name}\r\n\r\n")).await.is_err()
            || client.try_response(false).await.is_err()
    })
    .await;
    let seen = app.requests().len();
    let response = kept.request("GET", name, "/").await;
    assert_eq!(response.status, 421, "made when nothing was demanded: {response}");
    kept.closed().await;
    let on_h2 = h2.try_request(get_request(name, "/"), None, None).await;
    assert_eq!(on_h2.expect("an answer").status, 421);
    let gone = async || h2.open(get_request(name, "/"), true).await.is_err();
    eventually(STEP, "the HTTP/2 connection goes, too", gone).await;
    assert_eq!(app.requests().len(), seen, "nothing got through");

    let mut client = Client::tls(proxy.addr("secure"), &good).await;
    assert_eq!(client.request("GET", name, "/").await.text(), "fine");
    // What is weaker closes nothing.
    proxy.rewrite(&config(""));
    eventually(STEP, "the policy is gone", async || {
        let Ok(stream) = tls.connect(proxy.addr("secure")).await else { return false };
        let mut client = Client::over(stream);
        let sent = client.try_send(format!("GET / HTTP/1.1\r\nHost: {name}\r\n\r\n")).await;
        sent.is_ok() && client.try_response(false).await.is_ok_and(|r| r.status == 200)
    })
    .await;
    assert_eq!(client.request("GET", name, "/").await.text(), "fine");
}

#[tokio::test]
async fn a_certificate_that_ends_soon_is_told_of() {
    let ca = Ca::new();
    let setup = Setup::new(
        r#"
listeners: { web: { bind: "@web@", tls: { certificates: [ { cert: a.pem, key: a.key } ] } } }
hosts: { "*": { routes: [ { respond: { body: x } } ] } }
"#,
    );
    let pair = ca.ending("a.example", 20);
    let proxy = setup.file("a.pem", pair.cert).file("a.key", pair.key).start().await;
    let status = async || proxy.admin("/api/status").await.text();
    assert!(status().await.contains("the certificate expires on"), "{}", status().await);
    let check = std::process::Command::new(portcullis()).arg("check").arg(proxy.path()).output();
    let check = check.expect("it runs");
    let told = String::from_utf8_lossy(&check.stdout);
    assert!(check.status.success() && told.contains("the certificate expires on"), "{told}");
    let renewed = ca.ending("a.example", 60);
    proxy.write("a.key", renewed.key);
    proxy.write("a.pem", renewed.cert);
    eventually(STEP, "renewed, it is no more told of", async || {
        !status().await.contains("certificate")
    })
    .await;
}
