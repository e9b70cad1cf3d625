//! Client certificates: demanded, optional, and never let through unchecked.

use super::*;
use crate::tls::client_auth::ClientPolicy;

const MODES: [ClientAuthMode; 2] = [ClientAuthMode::Optional, ClientAuthMode::Required];

fn with(
    certificate: Option<&Pair>,
    version: &'static SupportedProtocolVersion,
) -> Arc<ClientConfig> {
    Arc::new(client(&[version], ECDSA, certificate))
}

#[tokio::test]
async fn only_a_certificate_of_the_right_ca_passes_and_none_only_where_it_is_optional() {
    let (ca, clients, strangers) =
        (Authority::new("ca"), Authority::new("clients"), Authority::new("strangers"));
    let (pair, alice, eve) =
        (ca.issue(&["a.test"]), clients.client("alice"), strangers.client("eve"));
    let expired = clients.grant(&Wish { valid: (-20, -10), ..Wish::default() });
    let shared = TlsShared::new().unwrap();
    for mode in MODES {
        let tls = build(&demanding(mode, Some(&clients.pem()), &pair), &shared);
        for version in BOTH {
            let case = format!("{mode:?} {version:?}");
            let seen = connect(&tls, &with(Some(&alice), version), "a.test").await.unwrap();
            let peer = seen.peer.expect(&case);
            assert_eq!(peer.subject, "CN=alice,O=Shop");
            assert_eq!(peer.sans, ["DNS:alice.clients.test", "URI:spiffe://test/alice"]);
            assert_eq!(peer.fingerprint, alice.fingerprint());

            let (class, _) = connect(&tls, &with(Some(&eve), version), "a.test").await.unwrap_err();
            assert_eq!(class, HandshakeError::UnknownCa, "{case}");
            let late = connect(&tls, &with(Some(&expired), version), "a.test").await.unwrap_err();
            assert_eq!(late.0, HandshakeError::CertificateExpired, "{case}");

            let none = connect(&tls, &with(None, version), "a.test").await;
            match mode {
                ClientAuthMode::Optional => assert_eq!(none.unwrap().peer, None, "{case}"),
                ClientAuthMode::Required => {
                    assert_eq!(none.unwrap_err().0, HandshakeError::NoCertificate, "{case}");
                }
            }
        }
    }
}

#[tokio::test]
async fn without_a_usable_ca_nobody_gets_in() {
    let (ca, clients) = (Authority::new("ca"), Authority::new("clients"));
    let (pair, alice) = (ca.issue(&["a.test"]), clients.client("alice"));
    let shared = TlsShared::new().unwrap();
    let cut = clients.pem().replace("-----END", "");
    let damaged = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----";
    let open = build(&spec(&[&pair]), &shared);
    for mode in MODES {
        for broken in [None, Some(""), Some("nonsense"), Some(damaged), Some(&*cut)] {
            let asked = demanding(mode, broken, &pair);
            // Not even one that was open before lends its openness.
            for previous in [None, Some(&open)] {
                let (tls, problems) = ServerTls::build("web", &asked, true, &shared, previous);
                let text = messages(&problems);
                assert!(text.contains("listener 'web'"), "{text}");
                assert!(text.contains("every handshake is refused"), "{text}");
                assert!(tls.refuses_all());
                for version in BOTH {
                    for certificate in [None, Some(&alice)] {
                        let client = with(certificate, version);
                        let refused = connect(&tls, &client, "a.test").await.unwrap_err();
                        // An alert in the handshake, not a connection that is closed after it.
                        let expected = (HandshakeError::Refused, Some(HandshakeError::Other));
                        assert_eq!(refused, expected, "{mode:?} {broken:?}");
                    }
                }
            }
        }
    }
}

#[tokio::test]
async fn a_session_from_before_does_not_open_a_listener_that_refuses_all() {
    let pair = Authority::new("ca").issue(&["a.test"]);
    let shared = TlsShared::new().unwrap();
    for version in BOTH {
        let client = with(None, version);
        let open = build(&spec(&[&pair]), &shared);
        connect(&open, &client, "a.test").await.unwrap();
        let asked = demanding(ClientAuthMode::Optional, None, &pair);
        let (tls, _) = ServerTls::build("web", &asked, true, &shared, Some(&open));
        let refused = connect(&tls, &client, "a.test").await.unwrap_err();
        assert_eq!(refused, (HandshakeError::Refused, Some(HandshakeError::Other)));
    }
}

#[tokio::test]
async fn a_ca_that_breaks_leaves_the_last_good_one_of_its_own_listener() {
    let (ca, clients, strangers) =
        (Authority::new("ca"), Authority::new("clients"), Authority::new("strangers"));
    let (pair, alice, eve) =
        (ca.issue(&["a.test"]), clients.client("alice"), strangers.client("eve"));
    let shared = TlsShared::new().unwrap();
    let good = build(&demanding(ClientAuthMode::Optional, Some(&clients.pem()), &pair), &shared);

    // The demand itself changes with the edit that broke the CA: the new demand holds.
    let broken = demanding(ClientAuthMode::Required, Some("nonsense"), &pair);
    let (tls, problems) = ServerTls::build("web", &broken, true, &shared, Some(&good));
    assert!(messages(&problems).contains("the last good ones stay in use"));
    for version in BOTH {
        connect(&tls, &with(Some(&alice), version), "a.test").await.unwrap();
        let (class, _) = connect(&tls, &with(Some(&eve), version), "a.test").await.unwrap_err();
        assert_eq!(class, HandshakeError::UnknownCa);
        let (class, _) = connect(&tls, &with(None, version), "a.test").await.unwrap_err();
        assert_eq!(class, HandshakeError::NoCertificate);
    }

    let (other, _) = ServerTls::build("other", &broken, true, &shared, Some(&good));
    assert!(other.refuses_all(), "another listener's CA is not borrowed");
}

#[test]
fn a_resumed_session_is_checked_again_as_if_its_certificate_were_shown_now() {
    let (clients, strangers) = (Authority::new("clients"), Authority::new("strangers"));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let policy = |mode| {
        let asked = ClientAuth { mode, ca: Some(clients.pem().into()), forward: false };
        ClientPolicy::build("web", Some(&asked), None, &provider).0
    };
    let chain = |pair: &Pair| pem::chain(&pair.chain).unwrap();
    let expired = clients.grant(&Wish { valid: (-20, -10), ..Wish::default() });
    for mode in MODES {
        let policy = policy(mode);
        let recheck = |pair: &Pair| policy.recheck(Some(&chain(pair)));
        assert_eq!(recheck(&clients.client("alice")), Ok(()));
        assert_eq!(recheck(&expired), Err(HandshakeError::CertificateExpired));
        assert_eq!(recheck(&strangers.client("eve")), Err(HandshakeError::UnknownCa));
    }
    assert_eq!(policy(ClientAuthMode::Optional).recheck(None), Ok(()));
    let none = policy(ClientAuthMode::Required).recheck(None);
    assert_eq!(none, Err(HandshakeError::NoCertificate));
}
