//! TLS over real sockets: a rustls client against a compiled listener.

mod client_auth;
mod resumption;
mod serving;
mod upstream;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType,
    date_time_ymd,
};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::{
    ClientConfig, DigitallySignedStruct, Error, HandshakeKind, ProtocolVersion, SignatureScheme,
    SupportedProtocolVersion, version,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::*;
use crate::ir::{
    Certificate, ClientAuth, ClientAuthMode, ListenerTls, Name, Origin, Problem, SecretBytes,
};

const BOTH: [&SupportedProtocolVersion; 2] = [&version::TLS12, &version::TLS13];
const DAY: i64 = 24 * 3600;

/// A chain and its key as PEM.
#[derive(Clone)]
struct Pair {
    chain: String,
    key: String,
}

impl Pair {
    fn fingerprint(&self) -> String {
        x509::fingerprint(&pem::chain(&self.chain).unwrap()[0])
    }

    fn declared(&self, name: &str) -> Certificate {
        Certificate {
            origin: origin(name),
            chain: Some(self.chain.as_str().into()),
            key: Some(SecretBytes::new(self.key.as_bytes())),
            only_for: None,
        }
    }
}

/// What a test certificate is to be.
struct Wish<'a> {
    common_name: &'a str,
    names: &'a [&'a str],
    /// Days from now.
    valid: (i64, i64),
    rsa: bool,
}

impl Default for Wish<'_> {
    fn default() -> Self {
        Self { common_name: "test", names: &[], valid: (-1, 30), rsa: false }
    }
}

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn pem(&self) -> String {
        self.0.pem()
    }

    fn issue(&self, names: &[&str]) -> Pair {
        self.grant(&Wish { names, ..Wish::default() })
    }

    fn grant(&self, wish: &Wish<'_>) -> Pair {
        let names: Vec<String> = wish.names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, wish.common_name);
        let at = |days: i64| {
            let unix = unix_now() + days * DAY;
            date_time_ymd(1970, 1, 1) + Duration::from_secs(unix as u64)
        };
        (params.not_before, params.not_after) = (at(wish.valid.0), at(wish.valid.1));
        let key = match wish.rsa {
            true => KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap(),
            false => KeyPair::generate().unwrap(),
        };
        let certificate = params.signed_by(&key, &self.0).unwrap();
        Pair { chain: certificate.pem(), key: key.serialize_pem() }
    }

    fn client(&self, name: &str) -> Pair {
        let mut params = CertificateParams::new(vec![format!("{name}.clients.test")]).unwrap();
        params.subject_alt_names.push(SanType::URI("spiffe://test/alice".try_into().unwrap()));
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "Shop");
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        Pair { chain: certificate.pem(), key: key.serialize_pem() }
    }
}

fn unix_now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64
}

fn origin(name: &str) -> Origin {
    Origin {
        provider: Name::from("file"),
        kind: Name::from("certificate"),
        name: Name::from(name),
        ..Origin::default()
    }
}

fn spec(pairs: &[&Pair]) -> ListenerTls {
    let certificates = pairs.iter().enumerate();
    let certificates = certificates.map(|(index, pair)| pair.declared(&index.to_string()).into());
    let certificates = certificates.collect();
    ListenerTls { certificates, ..ListenerTls::default() }
}

fn demanding(mode: ClientAuthMode, ca: Option<&str>, pair: &Pair) -> ListenerTls {
    let client_auth = ClientAuth { mode, ca: ca.map(Arc::from), forward: true };
    ListenerTls { client_auth: Some(client_auth), ..spec(&[pair]) }
}

fn build(spec: &ListenerTls, shared: &TlsShared) -> Arc<ServerTls> {
    let (tls, problems) = ServerTls::build("web", spec, true, shared, None);
    assert_eq!(problems, []);
    tls
}

/// A client that takes any certificate and verifies only signatures of `schemes`.
#[derive(Debug)]
struct Anything {
    provider: Arc<CryptoProvider>,
    schemes: Vec<SignatureScheme>,
}

impl ServerCertVerifier for Anything {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes.clone()
    }
}

const ECDSA: &[SignatureScheme] =
    &[SignatureScheme::ECDSA_NISTP256_SHA256, SignatureScheme::ECDSA_NISTP384_SHA384];
const RSA: &[SignatureScheme] =
    &[SignatureScheme::RSA_PSS_SHA256, SignatureScheme::RSA_PKCS1_SHA256];

/// A client that takes any certificate.
fn client(
    versions: &[&'static SupportedProtocolVersion],
    schemes: &[SignatureScheme],
    certificate: Option<&Pair>,
) -> ClientConfig {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = Anything { provider: Arc::clone(&provider), schemes: schemes.to_vec() };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    match certificate {
        Some(pair) => builder
            .with_client_auth_cert(
                pem::chain(&pair.chain).unwrap(),
                pem::key(pair.key.as_bytes()).unwrap(),
            )
            .unwrap(),
        None => builder.with_no_client_auth(),
    }
}

fn modern() -> Arc<ClientConfig> {
    Arc::new(client(&BOTH, &[ECDSA, RSA].concat(), None))
}

/// What both sides saw of a connection that worked.
#[derive(Debug)]
struct Seen {
    /// Of the certificate the client was shown.
    fingerprint: String,
    version: Option<ProtocolVersion>,
    kind: Option<HandshakeKind>,
    alpn: Option<Vec<u8>>,
    group: Option<rustls::NamedGroup>,
    /// As the server labels it.
    labels: (&'static str, &'static str),
    peer: Option<PeerCertificate>,
}

/// Connects once over a real socket. The error is the side's own: the server's class first, then
/// the client's.
async fn connect(
    server: &ServerTls,
    client: &Arc<ClientConfig>,
    name: &str,
) -> Result<Seen, (HandshakeError, Option<HandshakeError>)> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let accept = async {
        let (tcp, _) = listener.accept().await.unwrap();
        let mut stream = TlsAcceptor::from(Arc::clone(&server.config))
            .accept(tcp)
            .await
            .map_err(|error| server.classify(&error))?;
        let connection = stream.get_ref().1;
        let peer = server.admit(connection, None)?.certificate;
        let labels = (handshake_version(connection), handshake_kind(connection));
        stream.write_all(b"welcome").await.map_err(|error| server.classify(&error))?;
        let _ = stream.shutdown().await;
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await;
        Ok((peer, labels))
    };
    let dial = async {
        let tcp = TcpStream::connect(address).await.unwrap();
        let name = server_name(name).unwrap();
        let mut stream = TlsConnector::from(Arc::clone(client))
            .connect(name, tcp)
            .await
            .map_err(|error| HandshakeError::from(&error))?;
        let mut text = Vec::new();
        stream.read_to_end(&mut text).await.map_err(|error| HandshakeError::from(&error))?;
        assert_eq!(text, b"welcome");
        let connection = stream.get_ref().1;
        Ok::<_, HandshakeError>((
            x509::fingerprint(&connection.peer_certificates().unwrap()[0]),
            connection.protocol_version(),
            connection.handshake_kind(),
            connection.alpn_protocol().map(<[u8]>::to_vec),
            connection.negotiated_key_exchange_group().map(|group| group.name()),
        ))
    };
    let both = async { tokio::join!(accept, dial) };
    let (accepted, dialled) =
        tokio::time::timeout(Duration::from_secs(20), both).await.expect("a handshake hangs");
    match (accepted, dialled) {
        (Ok((peer, labels)), Ok((fingerprint, version, kind, alpn, group))) => {
            Ok(Seen { fingerprint, version, kind, alpn, group, labels, peer })
        }
        (Err(server), dialled) => Err((server, dialled.err())),
        (Ok(_), Err(client)) => Err((HandshakeError::Other, Some(client))),
    }
}

fn messages(problems: &[Problem]) -> String {
    problems.iter().map(|problem| format!("{problem}\n")).collect()
}
