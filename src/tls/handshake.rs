//! What a handshake came to: labels for metrics, the client's certificate, and why it failed.

use std::io;

use rustls::{
    AlertDescription, CertificateError, Error, HandshakeKind, PeerIncompatible, ProtocolVersion,
    ServerConnection,
};
use rustls_pki_types::CertificateDer;
use serde::Serialize;

use super::x509;

/// The negotiated version for labels: `1.2` or `1.3`; `-` before the handshake is through.
pub fn handshake_version(connection: &ServerConnection) -> &'static str {
    match connection.protocol_version() {
        Some(ProtocolVersion::TLSv1_2) => "1.2",
        Some(ProtocolVersion::TLSv1_3) => "1.3",
        _ => "-",
    }
}

/// How the session came about, for labels: `full` or `resumed`; `-` before the handshake is
/// through.
pub fn handshake_kind(connection: &ServerConnection) -> &'static str {
    match connection.handshake_kind() {
        Some(HandshakeKind::Resumed) => "resumed",
        Some(HandshakeKind::Full | HandshakeKind::FullWithHelloRetryRequest) => "full",
        None => "-",
    }
}

/// A verified client certificate. All text is printable ASCII and safe in a header.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PeerCertificate {
    /// Its subject (RFC 4514).
    pub subject: String,
    /// Who signed it (RFC 4514).
    pub issuer: String,
    /// Its serial number, upper-case hexadecimal.
    pub serial: String,
    /// SHA-256 over the certificate, lower-case hexadecimal.
    pub fingerprint: String,
    /// Its alternative names with their type: `DNS:…`, `URI:…`, `IP:…`, `email:…`.
    pub sans: Vec<String>,
    /// The end of its validity, Unix seconds.
    pub not_after: i64,
}

impl PeerCertificate {
    /// Reads the leaf of a verified chain.
    pub(super) fn read(chain: &[CertificateDer<'_>]) -> Option<Self> {
        let leaf = chain.first()?;
        let certificate = x509::parse(leaf)?;
        let names = x509::alternative_names(&certificate).unwrap_or_default();
        Some(Self {
            subject: x509::distinguished_name(certificate.subject()),
            issuer: x509::distinguished_name(certificate.issuer()),
            serial: x509::serial(&certificate),
            fingerprint: x509::fingerprint(leaf),
            sans: names.iter().filter_map(x509::alternative_name).collect(),
            not_after: certificate.validity().not_after.timestamp(),
        })
    }
}

/// Why a handshake failed, as a closed list for labels. Serves both sides: as server "the peer" is
/// the client, as client the endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HandshakeError {
    /// The peer's certificate is damaged, for another purpose, revoked, or its signature is wrong.
    BadCertificate,
    /// The peer's certificate is expired or not valid yet.
    CertificateExpired,
    /// The peer's certificate is for another name.
    CertificateName,
    /// The peer closed or reset the connection.
    Closed,
    /// The peer has no cipher suite, group, signature or application protocol in common with us.
    Incompatible,
    /// The peer had to show a certificate and did not.
    NoCertificate,
    /// Something else.
    Other,
    /// The peer said an alert about our certificate.
    PeerRefusedCertificate,
    /// The peer does not speak TLS, or not by its rules.
    Protocol,
    /// The listener refuses everybody: its client CA is missing.
    Refused,
    /// It took too long.
    Timeout,
    /// Nobody trusted signed the peer's certificate.
    UnknownCa,
    /// The peer offers no version that is spoken here.
    Version,
}

impl HandshakeError {
    /// Every value, for metrics that exist before their first count.
    pub const ALL: [Self; 13] = [
        Self::BadCertificate,
        Self::CertificateExpired,
        Self::CertificateName,
        Self::Closed,
        Self::Incompatible,
        Self::NoCertificate,
        Self::Other,
        Self::PeerRefusedCertificate,
        Self::Protocol,
        Self::Refused,
        Self::Timeout,
        Self::UnknownCa,
        Self::Version,
    ];

    /// The value as it stands in labels and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BadCertificate => "bad_certificate",
            Self::CertificateExpired => "certificate_expired",
            Self::CertificateName => "certificate_name",
            Self::Closed => "closed",
            Self::Incompatible => "incompatible",
            Self::NoCertificate => "no_certificate",
            Self::Other => "other",
            Self::PeerRefusedCertificate => "peer_refused_certificate",
            Self::Protocol => "protocol",
            Self::Refused => "refused",
            Self::Timeout => "timeout",
            Self::UnknownCa => "unknown_ca",
            Self::Version => "version",
        }
    }
}

impl std::fmt::Display for HandshakeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::error::Error for HandshakeError {}

impl From<&io::Error> for HandshakeError {
    fn from(error: &io::Error) -> Self {
        if let Some(error) = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
            return Self::from(error);
        }
        match error.kind() {
            io::ErrorKind::TimedOut => Self::Timeout,
            io::ErrorKind::BrokenPipe
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::NotConnected
            | io::ErrorKind::UnexpectedEof => Self::Closed,
            _ => Self::Other,
        }
    }
}

impl From<&Error> for HandshakeError {
    fn from(error: &Error) -> Self {
        match error {
            Error::AlertReceived(alert) => from_alert(*alert),
            Error::DecryptError
            | Error::InappropriateHandshakeMessage { .. }
            | Error::InappropriateMessage { .. }
            | Error::InvalidMessage(_)
            | Error::PeerMisbehaved(_)
            | Error::PeerSentOversizedRecord => Self::Protocol,
            Error::InvalidCertificate(certificate) => from_certificate(certificate),
            Error::NoApplicationProtocol => Self::Incompatible,
            Error::NoCertificatesPresented => Self::NoCertificate,
            Error::PeerIncompatible(incompatible) => from_incompatible(incompatible),
            _ => Self::Other,
        }
    }
}

fn from_alert(alert: AlertDescription) -> HandshakeError {
    match alert {
        AlertDescription::CloseNotify | AlertDescription::UserCanceled => HandshakeError::Closed,
        AlertDescription::BadCertificate
        | AlertDescription::CertificateExpired
        | AlertDescription::CertificateRevoked
        | AlertDescription::CertificateUnknown
        | AlertDescription::UnknownCA
        | AlertDescription::UnsupportedCertificate => HandshakeError::PeerRefusedCertificate,
        AlertDescription::CertificateRequired | AlertDescription::NoCertificate => {
            HandshakeError::NoCertificate
        }
        AlertDescription::HandshakeFailure
        | AlertDescription::InsufficientSecurity
        | AlertDescription::NoApplicationProtocol => HandshakeError::Incompatible,
        AlertDescription::ProtocolVersion => HandshakeError::Version,
        AlertDescription::DecodeError
        | AlertDescription::DecryptError
        | AlertDescription::IllegalParameter
        | AlertDescription::UnexpectedMessage => HandshakeError::Protocol,
        _ => HandshakeError::Other,
    }
}

fn from_certificate(error: &CertificateError) -> HandshakeError {
    match error {
        CertificateError::Expired
        | CertificateError::ExpiredContext { .. }
        | CertificateError::NotValidYet
        | CertificateError::NotValidYetContext { .. } => HandshakeError::CertificateExpired,
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            HandshakeError::CertificateName
        }
        CertificateError::UnknownIssuer => HandshakeError::UnknownCa,
        _ => HandshakeError::BadCertificate,
    }
}

fn from_incompatible(error: &PeerIncompatible) -> HandshakeError {
    match error {
        PeerIncompatible::ServerDoesNotSupportTls12Or13
        | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
        | PeerIncompatible::SupportedVersionsExtensionRequired
        | PeerIncompatible::Tls12NotOffered
        | PeerIncompatible::Tls12NotOfferedOrEnabled => HandshakeError::Version,
        _ => HandshakeError::Incompatible,
    }
}
