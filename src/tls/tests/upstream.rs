//! Towards endpoints: verified unless told otherwise.

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::*;
use crate::ir::{ClientCertificate, TrustAnchors, UpstreamTls};

fn trusting(ca: &Authority) -> UpstreamTls {
    UpstreamTls {
        server_name: None,
        sni: true,
        verify: true,
        trust: TrustAnchors::Pem(ca.pem().into()),
        client_certificate: None,
    }
}

fn dial(spec: &UpstreamTls, shared: &TlsShared) -> Arc<ClientTls> {
    ClientTls::build(spec, &[b"http/1.1"], shared).unwrap()
}

/// The class of the client's failure against `server`.
async fn refusal(server: &ServerTls, client: &ClientTls, name: &str) -> HandshakeError {
    connect(server, &client.config, name).await.unwrap_err().1.unwrap()
}

#[tokio::test]
async fn an_endpoint_is_believed_only_with_a_valid_certificate_for_its_name_from_a_trusted_ca() {
    let (ca, other) = (Authority::new("ca"), Authority::new("other"));
    let shared = TlsShared::new().unwrap();
    let good = build(&spec(&[&ca.issue(&["api.test", "127.0.0.1"])]), &shared);
    let wish = Wish { names: &["api.test"], valid: (-20, -10), ..Wish::default() };
    let (expired, _) = ServerTls::build("web", &spec(&[&ca.grant(&wish)]), true, &shared, None);
    let client = dial(&trusting(&ca), &shared);

    assert!(connect(&good, &client.config, "api.test").await.is_ok());
    assert!(connect(&good, &client.config, "127.0.0.1").await.is_ok());
    let wrong_name = refusal(&good, &client, "www.test").await;
    assert_eq!(wrong_name, HandshakeError::CertificateName);
    // A client of its own: the one above would resume the session it has with this name.
    let late = refusal(&expired, &dial(&trusting(&ca), &shared), "api.test").await;
    assert_eq!(late, HandshakeError::CertificateExpired);
    let stranger = dial(&trusting(&other), &shared);
    assert_eq!(refusal(&good, &stranger, "api.test").await, HandshakeError::UnknownCa);
    let system = UpstreamTls { trust: TrustAnchors::System, ..trusting(&ca) };
    let system = dial(&system, &shared);
    assert_eq!(refusal(&good, &system, "api.test").await, HandshakeError::UnknownCa);
}

#[tokio::test]
async fn the_client_certificate_is_shown_to_endpoints_that_ask() {
    let (ca, clients) = (Authority::new("ca"), Authority::new("clients"));
    let shared = TlsShared::new().unwrap();
    let pair = ca.issue(&["api.test"]);
    let server = demanding(ClientAuthMode::Required, Some(&clients.pem()), &pair);
    let server = build(&server, &shared);
    let me = clients.client("proxy");
    let certificate = ClientCertificate {
        chain: me.chain.as_str().into(),
        key: SecretBytes::new(me.key.as_bytes()),
    };
    let with = UpstreamTls { client_certificate: Some(certificate), ..trusting(&ca) };
    let seen = connect(&server, &dial(&with, &shared).config, "api.test").await.unwrap();
    assert_eq!(seen.peer.unwrap().fingerprint, me.fingerprint());
    let without = dial(&trusting(&ca), &shared);
    assert_eq!(refusal(&server, &without, "api.test").await, HandshakeError::NoCertificate);
}

#[tokio::test]
async fn unverified_takes_any_certificate_but_not_one_whose_key_the_endpoint_lacks() {
    let (ca, other) = (Authority::new("ca"), Authority::new("other"));
    let shared = TlsShared::new().unwrap();
    let wish = Wish { names: &["x.test"], valid: (-20, -10), ..Wish::default() };
    let (server, _) = ServerTls::build("web", &spec(&[&other.grant(&wish)]), true, &shared, None);
    let client = dial(&UpstreamTls { verify: false, ..trusting(&ca) }, &shared);
    assert!(connect(&server, &client.config, "api.test").await.is_ok());

    #[derive(Debug)]
    struct Borrowed(Arc<CertifiedKey>);
    impl ResolvesServerCert for Borrowed {
        fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
            Some(Arc::clone(&self.0))
        }
    }
    let (shown, held) = (ca.issue(&["api.test"]), ca.issue(&["api.test"]));
    let held = pem::key(held.key.as_bytes()).unwrap();
    let held = shared.provider.key_provider.load_private_key(held).unwrap();
    let borrowed = Borrowed(Arc::new(CertifiedKey::new(pem::chain(&shown.chain).unwrap(), held)));
    for version in BOTH {
        let config = rustls::ServerConfig::builder_with_provider(Arc::clone(&shared.provider))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(Borrowed(Arc::clone(&borrowed.0))));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let accept = async {
            let (tcp, _) = listener.accept().await.unwrap();
            let _ = TlsAcceptor::from(Arc::new(config)).accept(tcp).await;
        };
        let connect = async {
            let tcp = TcpStream::connect(address).await.unwrap();
            let name = client.server_name("api.test").unwrap();
            TlsConnector::from(Arc::clone(&client.config)).connect(name, tcp).await.unwrap_err()
        };
        let ((), error) = tokio::join!(accept, connect);
        assert_eq!(HandshakeError::from(&error), HandshakeError::BadCertificate, "{version:?}");
    }
}

#[test]
fn settings_that_cannot_be_met_are_errors_that_say_which() {
    let (ca, shared) = (Authority::new("ca"), TlsShared::new().unwrap());
    let build = |spec: UpstreamTls| ClientTls::build(&spec, &[], &shared).unwrap_err();
    let pem = |text: &str| UpstreamTls { trust: TrustAnchors::Pem(text.into()), ..trusting(&ca) };
    assert_eq!(build(pem("")), TlsError::Ca(CaFault::Empty));
    let half = ca.pem() + "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    assert_eq!(build(pem(&half)), TlsError::Ca(CaFault::Damaged(2)));
    let (a, b) = (ca.client("a"), ca.client("b"));
    let crossed = ClientCertificate {
        chain: a.chain.as_str().into(),
        key: SecretBytes::new(b.key.as_bytes()),
    };
    let crossed = UpstreamTls { client_certificate: Some(crossed), ..trusting(&ca) };
    assert_eq!(build(crossed), TlsError::ClientCertificate(CertificateFault::Mismatch));
    let named = UpstreamTls { server_name: Some("not a name".into()), ..trusting(&ca) };
    assert_eq!(build(named), TlsError::ServerName("not a name".into()));
}

#[test]
fn the_configured_name_wins_over_the_requests_host() {
    let (ca, shared) = (Authority::new("ca"), TlsShared::new().unwrap());
    let per_host = dial(&trusting(&ca), &shared);
    assert!(per_host.per_host());
    assert_eq!(per_host.server_name("a.test").unwrap(), server_name("a.test").unwrap());
    assert!(matches!(per_host.server_name("[::1]").unwrap(), ServerName::IpAddress(_)));
    assert!(per_host.server_name("a b").is_err());
    let fixed = UpstreamTls { server_name: Some("api.test".into()), ..trusting(&ca) };
    let fixed = dial(&fixed, &shared);
    assert!(!fixed.per_host());
    assert_eq!(fixed.server_name("a.test").unwrap(), server_name("api.test").unwrap());
}

#[test]
fn every_setting_counts_towards_which_connections_may_be_shared() {
    let (ca, other) = (Authority::new("ca"), Authority::new("other"));
    let base = trusting(&ca);
    let certificate = |pair: &Pair| {
        let key = SecretBytes::new(pair.key.as_bytes());
        Some(ClientCertificate { chain: pair.chain.as_str().into(), key })
    };
    let (a, b) = (ca.client("a"), ca.client("b"));
    let mixed = Pair { chain: a.chain.clone(), key: b.key.clone() };
    let h2: &[&[u8]] = &[b"h2"];
    let variants = [
        (base.clone(), h2),
        (base.clone(), &[][..]),
        (base.clone(), &[b"h2", b"http/1.1"]),
        (UpstreamTls { server_name: Some("".into()), ..base.clone() }, h2),
        (UpstreamTls { server_name: Some("a.test".into()), ..base.clone() }, h2),
        (UpstreamTls { verify: false, ..base.clone() }, h2),
        (UpstreamTls { sni: false, ..base.clone() }, h2),
        (UpstreamTls { trust: TrustAnchors::System, ..base.clone() }, h2),
        (UpstreamTls { trust: TrustAnchors::Pem(other.pem().into()), ..base.clone() }, h2),
        (UpstreamTls { client_certificate: certificate(&a), ..base.clone() }, h2),
        (UpstreamTls { client_certificate: certificate(&b), ..base.clone() }, h2),
        (UpstreamTls { client_certificate: certificate(&mixed), ..base.clone() }, h2),
    ];
    let keys: std::collections::HashSet<_> =
        variants.iter().map(|(spec, alpn)| TransportKey::of(spec, alpn)).collect();
    assert_eq!(keys.len(), variants.len());
    for (spec, alpn) in &variants {
        assert_eq!(TransportKey::of(spec, alpn), TransportKey::of(&spec.clone(), alpn));
    }
}
