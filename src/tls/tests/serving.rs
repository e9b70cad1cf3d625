//! Which certificate is served, and what broken ones do.

use std::sync::LazyLock;

use proptest::prelude::*;

use super::*;
use crate::ir::{Location, TlsVersion};
use crate::tls::certificate::LoadedCertificate;

#[tokio::test]
async fn an_exact_name_is_served_before_a_wildcard_and_the_first_certificate_to_strangers() {
    let ca = Authority::new("ca");
    let first = ca.issue(&["first.test"]);
    let wildcard = ca.issue(&["*.example.test"]);
    let exact = ca.issue(&["Shop.Example.Test"]);
    let tls = build(&spec(&[&first, &wildcard, &exact]), &TlsShared::new().unwrap());
    for (name, expected) in [
        ("shop.example.test", &exact),
        ("SHOP.example.test", &exact),
        ("cart.example.test", &wildcard),
        ("a.b.example.test", &first),
        ("example.test", &first),
        ("stranger.test", &first),
        ("127.0.0.1", &first),
    ] {
        let seen = connect(&tls, &modern(), name).await.unwrap();
        assert_eq!(seen.fingerprint, expected.fingerprint(), "{name}");
    }
    let mut silent = client(&BOTH, ECDSA, None);
    silent.enable_sni = false;
    let seen = connect(&tls, &Arc::new(silent), "shop.example.test").await.unwrap();
    assert_eq!(seen.fingerprint, first.fingerprint());
}

#[tokio::test]
async fn a_client_gets_the_kind_of_key_it_can_verify_and_an_elliptic_curve_if_it_can() {
    let ca = Authority::new("ca");
    let names = &["shop.test"][..];
    let rsa = ca.grant(&Wish { names, rsa: true, valid: (-1, 90), ..Wish::default() });
    let ecdsa = ca.issue(names);
    let tls = build(&spec(&[&rsa, &ecdsa]), &TlsShared::new().unwrap());
    for version in BOTH {
        for (schemes, expected) in
            [(RSA.to_vec(), &rsa), (ECDSA.to_vec(), &ecdsa), ([RSA, ECDSA].concat(), &ecdsa)]
        {
            let client = Arc::new(client(&[version], &schemes, None));
            for name in ["shop.test", "stranger.test"] {
                let seen = connect(&tls, &client, name).await.unwrap();
                assert_eq!(seen.fingerprint, expected.fingerprint(), "{version:?} {name}");
            }
        }
    }
}

#[tokio::test]
async fn of_several_certificates_one_valid_now_is_served_and_then_the_later_expiry() {
    let ca = Authority::new("ca");
    let name = |names, valid| ca.grant(&Wish { names, valid, ..Wish::default() });
    let future = name(&["a.test", "b.test"], (10, 900));
    let soon = name(&["a.test", "b.test"], (-1, 5));
    let late = name(&["a.test"], (-1, 50));
    let expired = name(&["c.w.test"], (-20, -10));
    let wildcard = name(&["*.w.test"], (-1, 5));
    let shared = TlsShared::new().unwrap();
    let all = spec(&[&future, &soon, &late, &expired, &wildcard]);
    let (tls, problems) = ServerTls::build("web", &all, true, &shared, None);
    assert_eq!(problems, []);
    let problems = validity(&tls, 0);
    assert_eq!(problems.len(), 2, "{}", messages(&problems));
    assert!(messages(&problems).contains("warning: the certificate expired on"));
    for (name, expected) in [("a.test", &late), ("b.test", &soon), ("c.w.test", &wildcard)] {
        let seen = connect(&tls, &modern(), name).await.unwrap();
        assert_eq!(seen.fingerprint, expected.fingerprint(), "{name}");
    }
}

/// What is said of the certificates of `tls` in some days.
fn validity(tls: &ServerTls, days: i64) -> Vec<Problem> {
    let now = unix_now() + days * DAY;
    tls.certificates.iter().filter_map(|certificate| certificate.validity(now)).collect()
}

#[test]
fn a_certificate_is_warned_of_three_weeks_before_it_ends_or_in_its_last_third() {
    let ca = Authority::new("ca");
    let shared = TlsShared::new().unwrap();
    for (valid, quiet, ending, ended) in [((-1, 100), 78, 80, 101), ((-1, 5), 2, 4, 6)] {
        let pair = ca.grant(&Wish { names: &["a.test"], valid, ..Wish::default() });
        let (tls, problems) = ServerTls::build("web", &spec(&[&pair]), true, &shared, None);
        assert_eq!((problems, validity(&tls, quiet)), (vec![], vec![]), "{valid:?}");
        let text = messages(&validity(&tls, ending));
        assert!(text.contains("warning: the certificate expires on"), "{valid:?}: {text}");
        let text = messages(&validity(&tls, ended));
        assert!(text.contains("warning: the certificate expired on"), "{valid:?}: {text}");
    }
    let (last_resort, _) = ServerTls::build("web", &spec(&[]), true, &shared, None);
    assert_eq!(validity(&last_resort, 300), []);
}

#[tokio::test]
async fn an_expired_certificate_is_still_served_when_there_is_no_other() {
    let ca = Authority::new("ca");
    let wish = Wish { names: &["a.test"], valid: (-20, -10), ..Wish::default() };
    let expired = ca.grant(&wish);
    let shared = TlsShared::new().unwrap();
    let (tls, _) = ServerTls::build("web", &spec(&[&expired]), true, &shared, None);
    let seen = connect(&tls, &modern(), "a.test").await.unwrap();
    assert_eq!(seen.fingerprint, expired.fingerprint());
}

#[tokio::test]
async fn a_broken_certificate_leaves_its_last_good_version_and_the_others_alone() {
    let ca = Authority::new("ca");
    let (a, b, b2) = (ca.issue(&["a.test"]), ca.issue(&["b.test"]), ca.issue(&["b.test"]));
    let shared = TlsShared::new().unwrap();
    let good = build(&spec(&[&a, &b]), &shared);

    let encrypted =
        b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nAA==\n-----END ENCRYPTED PRIVATE KEY-----";
    let mut broken: Vec<(&str, Certificate)> = Vec::new();
    let mut breaking = |what, change: &dyn Fn(&mut Certificate)| {
        let mut certificate = b2.declared("1");
        // The edit also moved it to another line; it stays the same certificate.
        certificate.origin.location =
            Some(Location { file: "shop.yaml".into(), line: 7, column: 3 });
        change(&mut certificate);
        broken.push((what, certificate));
    };
    breaking("chain could not be read", &|c| c.chain = None);
    breaking("key could not be read", &|c| c.key = None);
    breaking("no certificate", &|c| c.chain = Some("nonsense".into()));
    breaking("not valid PEM", &|c| {
        c.chain = Some("-----BEGIN CERTIFICATE-----\n*\n-----END CERTIFICATE-----".into());
    });
    breaking("first certificate of the chain is damaged", &|c| {
        c.chain = Some("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----".into());
    });
    breaking("larger than 256 KiB", &|c| c.chain = Some("x".repeat(10 << 20).into()));
    breaking("no private key", &|c| c.key = Some(SecretBytes::new(*b"nonsense")));
    breaking("key is encrypted", &|c| c.key = Some(SecretBytes::new(*encrypted)));
    breaking("more than 4096 bits", &|c| c.chain = Some(with_a_huge_key(&ca).into()));
    breaking("does not belong to", &|c| c.key = Some(SecretBytes::new(a.key.as_bytes())));

    for (what, certificate) in broken {
        let changed = ListenerTls {
            certificates: vec![a.declared("0").into(), certificate.into()],
            ..ListenerTls::default()
        };
        let (tls, problems) = ServerTls::build("web", &changed, true, &shared, Some(&good));
        assert_eq!(problems.len(), 1, "{what}");
        let text = messages(&problems);
        assert!(text.starts_with("shop.yaml:7:3: error: "), "{text}");
        assert!(text.contains(what) && text.contains("last good certificate stays"), "{text}");
        assert!(problems[0].hint.is_some());
        for (name, expected) in [("a.test", &a), ("b.test", &b)] {
            let seen = connect(&tls, &modern(), name).await.unwrap();
            assert_eq!(seen.fingerprint, expected.fingerprint(), "{what}: {name}");
        }

        // Still broken in the next snapshot, then mended.
        let moved = ListenerTls { min_version: TlsVersion::V1_3, ..changed };
        let (again, problems) = ServerTls::build("web", &moved, true, &shared, Some(&tls));
        assert_eq!(problems.len(), 1, "{what}");
        assert_eq!(again.certificates[1].fingerprint_sha256, b.fingerprint(), "{what}");
        let (mended, problems) =
            ServerTls::build("web", &spec(&[&a, &b2]), true, &shared, Some(&again));
        assert_eq!(problems, []);
        assert_eq!(mended.certificates[1].fingerprint_sha256, b2.fingerprint(), "{what}");
    }
}

/// A certificate over an RSA key of 8192 bits that nobody has.
fn with_a_huge_key(ca: &Authority) -> String {
    struct Huge(Vec<u8>);
    impl rcgen::PublicKeyData for Huge {
        fn der_bytes(&self) -> &[u8] {
            &self.0
        }
        fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
            &rcgen::PKCS_RSA_SHA256
        }
    }
    // RSAPublicKey (RFC 8017 A.1.1): a modulus of 1024 bytes and the exponent 65537.
    let mut der = vec![0x30, 0x82, 0x04, 0x0A, 0x02, 0x82, 0x04, 0x01, 0x00];
    der.extend([0xC5; 1024]);
    der.extend([0x02, 0x03, 0x01, 0x00, 0x01]);
    CertificateParams::default().signed_by(&Huge(der), &ca.0).unwrap().pem()
}

proptest! {
    #[test]
    fn a_bent_certificate_or_key_is_refused_or_still_a_pair(
        bends in prop::collection::vec((any::<prop::sample::Index>(), 1u8..), 1..4),
        in_key in any::<bool>(),
    ) {
        static GOOD: LazyLock<Pair> = LazyLock::new(|| {
            Authority::new("ca").issue(&["a.test", "*.b.test", "192.0.2.1"])
        });
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let bend = |text: &str| {
            let mut parsed = section(text);
            for (index, by) in &bends {
                let at = index.index(parsed.1.len());
                parsed.1[at] ^= by;
            }
            encode_pem(&parsed)
        };
        let (chain, key) = match in_key {
            true => (GOOD.chain.clone(), bend(&GOOD.key)),
            false => (bend(&GOOD.chain), GOOD.key.clone()),
        };
        if let Ok(loaded) = LoadedCertificate::load(&chain, key.as_bytes(), &provider) {
            prop_assert!(loaded.key.keys_match().is_ok());
            let shown = loaded.info.subject + &loaded.info.names.concat();
            prop_assert!(shown.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{shown:?}");
        }
    }
}

/// The label and DER of the first section.
fn section(text: &str) -> (&'static str, Vec<u8>) {
    match text.contains("PRIVATE") {
        true => ("PRIVATE KEY", pem::key(text.as_bytes()).unwrap().secret_der().to_vec()),
        false => ("CERTIFICATE", pem::chain(text).unwrap()[0].to_vec()),
    }
}

fn encode_pem((label, der): &(&str, Vec<u8>)) -> String {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = format!("-----BEGIN {label}-----\n");
    for (index, three) in der.chunks(3).enumerate() {
        let bits =
            (0..3).fold(0u32, |bits, at| bits << 8 | u32::from(*three.get(at).unwrap_or(&0)));
        for digit in 0..4 {
            let value = bits >> (18 - 6 * digit) & 63;
            let padding = digit > three.len();
            text.push(if padding { '=' } else { char::from(DIGITS[value as usize]) });
        }
        if index % 16 == 15 {
            text.push('\n');
        }
    }
    text + &format!("\n-----END {label}-----\n")
}

#[test]
fn everything_that_workers_share_may_cross_threads() {
    fn shared<T: Send + Sync + 'static>() {}
    shared::<TlsShared>();
    shared::<ServerTls>();
    shared::<ClientTls>();
}

#[tokio::test]
async fn a_certificate_that_never_was_good_is_left_out_and_with_none_left_one_of_last_resort_serves()
 {
    let ca = Authority::new("ca");
    let (good, mut bad) = (ca.issue(&["good.test"]), ca.issue(&["bad.test"]));
    bad.key = good.key.clone();
    let shared = TlsShared::new().unwrap();
    let (tls, problems) = ServerTls::build("web", &spec(&[&bad, &good]), true, &shared, None);
    assert!(messages(&problems).contains("it is left out"));
    assert_eq!(tls.certificates.len(), 1);
    let seen = connect(&tls, &modern(), "bad.test").await.unwrap();
    assert_eq!(seen.fingerprint, good.fingerprint());

    let (tls, problems) = ServerTls::build("web", &spec(&[&bad]), true, &shared, None);
    assert_eq!(problems.len(), 1);
    let resort = &tls.certificates[0];
    assert!(resort.self_signed && resort.names.is_empty());
    let seen = connect(&tls, &modern(), "bad.test").await.unwrap();
    assert_eq!(seen.fingerprint, resort.fingerprint_sha256);
    let (other, _) = ServerTls::build("other", &spec(&[]), true, &shared, None);
    assert_eq!(other.certificates[0].fingerprint_sha256, seen.fingerprint, "made once");
}

#[test]
fn an_unchanged_listener_keeps_its_compiled_self() {
    let ca = Authority::new("ca");
    let (pair, shared) = (ca.issue(&["a.test"]), TlsShared::new().unwrap());
    let first = build(&spec(&[&pair]), &shared);
    let (same, _) = ServerTls::build("web", &spec(&[&pair]), true, &shared, Some(&first));
    assert!(Arc::ptr_eq(&first, &same));
    let (h1, _) = ServerTls::build("web", &spec(&[&pair]), false, &shared, Some(&first));
    assert!(!Arc::ptr_eq(&first, &h1));
}

#[tokio::test]
async fn alpn_offers_http_2_only_where_it_is_spoken() {
    let ca = Authority::new("ca");
    let (pair, shared) = (ca.issue(&["a.test"]), TlsShared::new().unwrap());
    let mut offering = client(&BOTH, ECDSA, None);
    offering.alpn_protocols = vec![b"http/1.1".to_vec(), b"h2".to_vec()];
    let offering = Arc::new(offering);
    for (http2, expected) in [(true, "h2"), (false, "http/1.1")] {
        let (tls, _) = ServerTls::build("web", &spec(&[&pair]), http2, &shared, None);
        let seen = connect(&tls, &offering, "a.test").await.unwrap();
        assert_eq!(seen.alpn.as_deref(), Some(expected.as_bytes()));
        assert_eq!(connect(&tls, &modern(), "a.test").await.unwrap().alpn, None);
    }
}

#[tokio::test]
async fn key_exchange_is_post_quantum_with_clients_that_can() {
    let ca = Authority::new("ca");
    let tls = build(&spec(&[&ca.issue(&["a.test"])]), &TlsShared::new().unwrap());
    let seen = connect(&tls, &modern(), "a.test").await.unwrap();
    assert_eq!(seen.group, Some(rustls::NamedGroup::X25519MLKEM768));
    assert_eq!(seen.version, Some(ProtocolVersion::TLSv1_3));
    assert_eq!(seen.labels, ("1.3", "full"));

    let old = Arc::new(client(&[&version::TLS12], ECDSA, None));
    let seen = connect(&tls, &old, "a.test").await.unwrap();
    assert_eq!((seen.version, seen.labels), (Some(ProtocolVersion::TLSv1_2), ("1.2", "full")));
}

#[tokio::test]
async fn a_listener_from_1_3_refuses_older_clients() {
    let ca = Authority::new("ca");
    let only = ListenerTls { min_version: TlsVersion::V1_3, ..spec(&[&ca.issue(&["a.test"])]) };
    let tls = build(&only, &TlsShared::new().unwrap());
    assert!(connect(&tls, &modern(), "a.test").await.is_ok());
    let old = Arc::new(client(&[&version::TLS12], ECDSA, None));
    let (server, dialled) = connect(&tls, &old, "a.test").await.unwrap_err();
    assert_eq!((server, dialled), (HandshakeError::Version, Some(HandshakeError::Version)));
}

/// Sends `bytes` to the listener and hangs up; the class of the failure and what came back.
async fn raw(tls: &ServerTls, bytes: &[u8]) -> (HandshakeError, Vec<u8>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let accept = async {
        let (tcp, _) = listener.accept().await.unwrap();
        let error = TlsAcceptor::from(Arc::clone(&tls.config)).accept(tcp).await.unwrap_err();
        tls.classify(&error)
    };
    let dial = async {
        let mut tcp = TcpStream::connect(address).await.unwrap();
        tcp.write_all(bytes).await.unwrap();
        tcp.shutdown().await.unwrap();
        let mut answer = Vec::new();
        let _ = tcp.read_to_end(&mut answer).await;
        answer
    };
    tokio::join!(accept, dial)
}

#[tokio::test]
async fn old_versions_plain_text_and_broken_records_are_refused_and_told_apart() {
    let ca = Authority::new("ca");
    let tls = build(&spec(&[&ca.issue(&["a.test"])]), &TlsShared::new().unwrap());

    for minor in [0, 1, 2] {
        // A ClientHello of SSL 3.0, TLS 1.0 or 1.1 with suites of its time.
        let mut body = vec![3, minor];
        body.extend([0x42; 32]);
        body.extend([0, 0, 4, 0xC0, 0x13, 0x00, 0x2F, 1, 0]);
        let length = body.len() as u8;
        let mut hello = vec![22, 3, minor, 0, length + 4, 1, 0, 0, length];
        hello.extend(body);
        let (class, answer) = raw(&tls, &hello).await;
        assert!(
            matches!(
                class,
                HandshakeError::Version | HandshakeError::Incompatible | HandshakeError::Protocol
            ),
            "3.{minor}: {class}"
        );
        assert_eq!((answer[0], answer[5]), (21, 2), "3.{minor}: a fatal alert");
    }
    assert_eq!(raw(&tls, b"GET / HTTP/1.1\r\n\r\n").await.0, HandshakeError::Protocol);
    assert_eq!(raw(&tls, b"").await.0, HandshakeError::Closed);
    assert_eq!(raw(&tls, &[22, 3, 1, 0x02]).await.0, HandshakeError::Closed);
}

#[test]
fn a_request_is_misdirected_only_where_another_connection_would_be_better() {
    let ca = Authority::new("ca");
    let first = ca.issue(&["first.test", "www.first.test"]);
    let wildcard = ca.issue(&["*.example.test", "example.test"]);
    let own = ca.issue(&["own.example.test"]);
    let address = ca.issue(&["192.0.2.1"]);
    let tls = build(&spec(&[&first, &wildcard, &own, &address]), &TlsShared::new().unwrap());
    for (sni, host, covered) in [
        (None, "first.test", true),
        (None, "own.example.test", true),
        (Some("first.test"), "first.test", true),
        (Some("first.test"), "FIRST.test.", true),
        (Some("first.test"), "www.first.test", true),
        (Some("first.test"), "own.example.test", false),
        (Some("first.test"), "cart.example.test", false),
        (Some("first.test"), "192.0.2.1", false),
        (Some("first.test"), "nobody.test", true),
        (Some("stranger.test"), "www.first.test", true),
        (Some("stranger.test"), "example.test", false),
        (Some("a.example.test"), "b.example.test", true),
        // The wildcard is valid for it, so a client may reuse the connection (RFC 9113 §9.1.1).
        (Some("a.example.test"), "own.example.test", true),
        // The other way round the certificate shown is not.
        (Some("own.example.test"), "b.example.test", false),
    ] {
        assert_eq!(tls.covers(sni, host), covered, "{sni:?} {host}");
    }
    let shared = TlsShared::new().unwrap();
    let alone = build(&spec(&[]), &shared);
    assert!(alone.covers(Some("a.test"), "b.test"), "the certificate of last resort serves all");
}

#[test]
fn what_is_said_about_a_certificate_is_right_and_holds_no_key() {
    let ca = Authority::new("the ca");
    let wish = Wish {
        common_name: "Shop",
        names: &["shop.test", "*.shop.test", "192.0.2.1"],
        ..Wish::default()
    };
    let pair = ca.grant(&wish);
    let tls = build(&spec(&[&pair]), &TlsShared::new().unwrap());
    let info = &tls.certificates[0];
    assert_eq!(info.names, wish.names);
    assert_eq!(info.subject, "CN=Shop");
    assert!(info.issuer.contains("CN=the ca"), "{}", info.issuer);
    assert!((info.not_after - unix_now() - 30 * DAY).abs() < 60);
    assert!((info.not_before - unix_now() + DAY).abs() < 60);
    assert!(!info.self_signed);
    assert_eq!(info.origin, origin("0"));

    let secret = pair.key.lines().nth(1).unwrap();
    for text in [format!("{tls:?}"), format!("{:?}", tls.config), format!("{:?}", spec(&[&pair]))] {
        assert!(!text.contains(secret) && !text.contains("PRIVATE"));
    }
    assert!(!serde_json::to_string(&tls.certificates).unwrap().contains(secret));
}

#[tokio::test]
async fn a_self_signed_certificate_serves_the_names_it_was_made_for() {
    let (chain, key) = self_signed(&["localhost", "127.0.0.1"]).unwrap();
    let key = String::from_utf8(key.expose().to_vec()).unwrap();
    let pair = Pair { chain: chain.clone(), key };
    let shared = TlsShared::new().unwrap();
    let tls = build(&spec(&[&pair]), &shared);
    let mut roots = rustls::RootCertStore::empty();
    roots.add(pem::chain(&chain).unwrap().remove(0)).unwrap();
    let trusting = Arc::new(shared.client().with_root_certificates(roots).with_no_client_auth());
    for name in ["localhost", "127.0.0.1"] {
        assert!(connect(&tls, &trusting, name).await.is_ok(), "{name}");
    }
}

#[tokio::test]
async fn a_certificate_that_is_only_for_some_hosts_serves_no_others() {
    let ca = Authority::new("ca");
    let [mine, wide, open] =
        [ca.issue(&["a.test", "b.test"]), ca.issue(&["*.w.test"]), ca.issue(&["default.test"])];
    let only = |pair: &Pair, name: &str, hosts: &[&str]| {
        let hosts = hosts.iter().map(|host| crate::ir::HostPattern::parse(host).unwrap());
        Certificate { only_for: Some(hosts.collect()), ..pair.declared(name) }
    };
    let restricted =
        || vec![only(&mine, "mine", &["a.test", "c.test"]), only(&wide, "wide", &["x.w.test"])];
    let shared = TlsShared::new().unwrap();
    let with = |certificates: Vec<Certificate>| {
        let certificates = certificates.into_iter().map(Arc::new).collect();
        ListenerTls { certificates, ..ListenerTls::default() }
    };
    let (tls, problems) = ServerTls::build("web", &with(restricted()), true, &shared, None);
    let told: Vec<_> = problems.iter().map(|problem| problem.message.as_str()).collect();
    assert_eq!(told, ["the certificate is not valid for c.test"]);
    let last_resort = {
        let (tls, _) = ServerTls::build("none", &with(Vec::new()), true, &shared, None);
        connect(&tls, &modern(), "any.test").await.unwrap().fingerprint
    };
    let expect = |name: &'static str, fingerprint| (name, fingerprint);
    for (name, fingerprint) in [
        expect("a.test", mine.fingerprint()),
        expect("x.w.test", wide.fingerprint()),
        // Valid for it and not meant for it; meant for it and not valid for it; neither.
        expect("b.test", last_resort.clone()),
        expect("y.w.test", last_resort.clone()),
        expect("c.test", last_resort.clone()),
        expect("stranger.test", last_resort.clone()),
    ] {
        let seen = connect(&tls, &modern(), name).await.unwrap();
        assert_eq!(seen.fingerprint, fingerprint, "{name}");
    }
    // One that is for everybody serves the others, wherever it stands.
    let mut certificates = restricted();
    certificates.push(open.declared("open"));
    let (tls, _) = ServerTls::build("web", &with(certificates), true, &shared, None);
    for (name, expected) in [("a.test", &mine), ("b.test", &open), ("stranger.test", &open)] {
        let seen = connect(&tls, &modern(), name).await.unwrap();
        assert_eq!(seen.fingerprint, expected.fingerprint(), "{name}");
    }
}

#[test]
fn what_was_declared_in_the_same_words_is_not_loaded_again() {
    let ca = Authority::new("ca");
    let [a, b, c] = [ca.issue(&["a.test"]), ca.issue(&["b.test"]), ca.issue(&["c.test"])];
    let shared = TlsShared::new().unwrap();
    let mut declared: Vec<Arc<Certificate>> =
        [("a", &a), ("b", &b)].map(|(name, pair)| pair.declared(name).into()).into();
    declared[1] = Certificate { chain: None, ..b.declared("b") }.into();
    let spec = |certificates: &[Arc<Certificate>]| ListenerTls {
        certificates: certificates.to_vec(),
        ..ListenerTls::default()
    };
    let (first, problems) = ServerTls::build("web", &spec(&declared), true, &shared, None);
    assert_eq!((first.certificates.len(), problems.len()), (1, 1));
    declared.push(c.declared("c").into());
    let (second, problems) = ServerTls::build("web", &spec(&declared), true, &shared, Some(&first));
    assert_eq!((second.certificates.len(), problems.len()), (2, 1), "what is wrong is said again");
    assert!(Arc::ptr_eq(&first.certificates[0], &second.certificates[0]));
    declared[0] = Certificate { key: None, ..a.declared("a") }.into();
    let (third, problems) = ServerTls::build("web", &spec(&declared), true, &shared, Some(&second));
    assert_eq!((third.certificates.len(), problems.len()), (2, 2), "the last good one stays");
    let (fourth, problems) =
        ServerTls::build("web", &spec(&declared), false, &shared, Some(&third));
    assert_eq!((fourth.certificates.len(), problems.len()), (2, 2));
}
