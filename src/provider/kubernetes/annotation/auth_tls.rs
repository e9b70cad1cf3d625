//! Client certificates.

use serde::Serialize;

use super::finding::Class;
use super::pattern::Pattern;
use super::reader::Reader;
use super::value::{self, ObjectRef};
use super::variable::{self, Template};

/// Client certificates of a host. The first Ingress that asks for them says it for all of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct AuthTls {
    /// The Secret with the authority (`ca.crt`) that signs them.
    pub secret: Option<ObjectRef>,
    /// Whether one is needed. Default on.
    pub verify: Option<VerifyClient>,
    /// The longest chain. Default 1.
    pub verify_depth: Option<u32>,
    /// Whether the back end gets the certificate. Default false.
    pub pass_certificate: Option<bool>,
    /// Where clients without a good certificate are sent. They are answered 400 where it is not
    /// there.
    pub error_page: Option<Template>,
    /// An expression that must be found in the subject of a certificate.
    pub match_cn: Option<Pattern>,
    /// What asks for certificates and cannot be read, by its name: then no certificate will do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unreadable: Option<&'static str>,
}

/// Whether a client needs a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum VerifyClient {
    /// Yes; without a good one it is 400.
    On,
    /// Not asked for.
    Off,
    /// One that is shown must be good.
    Optional,
    /// Asked for; who signed it does not matter.
    OptionalNoCa,
}

impl AuthTls {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let mut auth = Self {
            secret: reader.guard("auth-tls-secret", value::full_object),
            verify: reader.guard("auth-tls-verify-client", |text| {
                value::choice(
                    text,
                    &[
                        ("on", VerifyClient::On),
                        ("off", VerifyClient::Off),
                        ("optional", VerifyClient::Optional),
                        ("optional_no_ca", VerifyClient::OptionalNoCa),
                    ],
                )
            }),
            verify_depth: reader.guard("auth-tls-verify-depth", value::number),
            pass_certificate: reader.value("auth-tls-pass-certificate-to-upstream", value::boolean),
            error_page: reader.value("auth-tls-error-page", variable::url),
            match_cn: reader.guard("auth-tls-match-cn", Pattern::parse),
            unreadable: None,
        };
        let mut asking = ["auth-tls-secret", "auth-tls-match-cn"].into_iter();
        auth.unreadable = asking.find(|name| reader.denies(name));
        if !reader.has("auth-tls-secret") && auth.unreadable != Some("auth-tls-secret") {
            // Of an expression alone nothing follows for others of the host.
            auth.unreadable = None;
            for name in [
                "auth-tls-verify-client",
                "auth-tls-verify-depth",
                "auth-tls-pass-certificate-to-upstream",
                "auth-tls-error-page",
                "auth-tls-match-cn",
            ] {
                let text = "has no effect without `auth-tls-secret`: no certificate is asked for";
                reader.amend(name, Class::Ignored, text);
            }
        }
        auth
    }
}
