//! What can be wrong with certificates, keys and CAs. No error carries a byte of its input.

/// Why a certificate chain and key cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateFault {
    /// No certificate stands in the PEM text.
    #[error("the chain holds no certificate")]
    ChainEmpty,
    /// The chain is not PEM.
    #[error("the chain is not valid PEM")]
    ChainPem,
    /// The chain is larger than any real one.
    #[error("the chain is larger than 256 KiB or has more than 16 certificates")]
    ChainTooLarge,
    /// The chain's source could not be read.
    #[error("the chain could not be read")]
    ChainUnreadable,
    /// The key is encrypted.
    #[error("the key is encrypted")]
    KeyEncrypted,
    /// No key stands in the PEM text.
    #[error("no private key was found")]
    KeyMissing,
    /// The key is not PEM.
    #[error("the key is not valid PEM")]
    KeyPem,
    /// The key is so large that each handshake would stall its worker.
    #[error("the RSA key has more than 4096 bits")]
    KeyTooLarge,
    /// The key's source could not be read.
    #[error("the key could not be read")]
    KeyUnreadable,
    /// The key is of a kind that cannot sign here.
    #[error("the key is damaged or of an unsupported kind")]
    KeyUnsupported,
    /// The first certificate is damaged.
    #[error("the first certificate of the chain is damaged")]
    Leaf,
    /// The key does not belong to the certificate.
    #[error("the key does not belong to the first certificate of the chain")]
    Mismatch,
}

impl CertificateFault {
    /// How to mend it; no trailing period.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::ChainEmpty | Self::ChainPem | Self::Leaf => {
                "give the chain as PEM, '-----BEGIN CERTIFICATE-----' blocks, the server's own first"
            }
            Self::ChainTooLarge => "give only the server's certificate and its intermediates",
            Self::ChainUnreadable | Self::KeyUnreadable => {
                "check that it exists and that this process may read it"
            }
            Self::KeyEncrypted => "decrypt it, for example with 'openssl pkey -in key.pem'",
            Self::KeyMissing | Self::KeyPem => {
                "give the key as PEM: a PKCS#8, PKCS#1 (RSA) or SEC1 (EC) private key"
            }
            Self::KeyTooLarge => "use a P-256 key, or RSA with 2048 to 4096 bits",
            Self::KeyUnsupported => {
                "use an ECDSA P-256, P-384 or P-521, an Ed25519, or an RSA key of at least 2048 bits"
            }
            Self::Mismatch => {
                "put the certificate made for this key first in the chain, or give its own key"
            }
        }
    }
}

/// Why a set of trusted CAs cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CaFault {
    /// A certificate is damaged.
    #[error("CA certificate number {0} is damaged")]
    Damaged(usize),
    /// A list of revoked certificates is damaged, or none is there.
    #[error("the lists of revoked certificates cannot be read")]
    Crl,
    /// No certificate stands in the PEM text.
    #[error("no CA certificate was found")]
    Empty,
    /// The text is not PEM.
    #[error("the CA certificates are not valid PEM")]
    Pem,
    /// More text than any real set of CAs.
    #[error("the CA certificates are larger than 4 MiB")]
    TooLarge,
    /// The source could not be read.
    #[error("the CA certificates could not be read")]
    Unreadable,
}

impl CaFault {
    /// How to mend it; no trailing period.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Unreadable => "check that it exists and that this process may read it",
            Self::Crl => "give them as PEM, one or more '-----BEGIN X509 CRL-----' blocks",
            Self::TooLarge => "give only the CAs that are meant",
            Self::Damaged(_) | Self::Empty | Self::Pem => {
                "give them as PEM, one or more '-----BEGIN CERTIFICATE-----' blocks"
            }
        }
    }
}

/// Why TLS towards endpoints, or the process's own TLS state, cannot be set up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlsError {
    /// The CAs that should be trusted cannot be used.
    #[error("trusted CAs: {0}")]
    Ca(#[from] CaFault),
    /// The client certificate cannot be used.
    #[error("client certificate: {0}")]
    ClientCertificate(#[from] CertificateFault),
    /// The crypto library refused; it says why.
    #[error("the crypto library failed: {0}")]
    Crypto(String),
    /// No host name or address.
    #[error("'{0}' is neither a host name nor an address")]
    ServerName(String),
}

impl TlsError {
    /// How to mend it, where something can be said; no trailing period.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Ca(fault) => Some(fault.hint()),
            Self::ClientCertificate(fault) => Some(fault.hint()),
            Self::Crypto(_) => None,
            Self::ServerName(_) => Some("give a name such as 'api.example.com' without port"),
        }
    }
}

impl From<rustls::Error> for TlsError {
    fn from(error: rustls::Error) -> Self {
        Self::Crypto(error.to_string())
    }
}
