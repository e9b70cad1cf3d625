//! What clients must show in the TLS handshake. Whatever of it cannot be set up closes the host
//! and never opens it.

use std::sync::Arc;

use ir::{ClientTrust, HostClientAuth, HostClientAuthMode};

use super::{Mapping, template};
use crate::ir;
use crate::provider::kubernetes::annotation::{AuthTls, ObjectRef, VerifyClient};
use crate::provider::kubernetes::report::Verdict;
use crate::provider::kubernetes::translate::tls::field;

/// The usual number of CAs between a certificate and one that is trusted.
const DEPTH: u32 = 1;

impl Mapping<'_> {
    pub(super) fn client_auth(&mut self, values: &AuthTls) {
        self.mapped.extend([
            "auth-tls-error-page",
            "auth-tls-match-cn",
            "auth-tls-pass-certificate-to-upstream",
            "auth-tls-secret",
            "auth-tls-verify-client",
            "auth-tls-verify-depth",
        ]);
        let mode = match values.verify {
            None | Some(VerifyClient::On) => HostClientAuthMode::Required,
            Some(VerifyClient::Optional) => HostClientAuthMode::Optional,
            Some(VerifyClient::OptionalNoCa) => HostClientAuthMode::OptionalUntrusted,
            Some(VerifyClient::Off) => return,
        };
        if let Some(name) = values.unreadable {
            // Others may have paths of the host, which nothing else closes.
            self.policy.client_auth = Some(HostClientAuth {
                mode: HostClientAuthMode::Required,
                trust: ClientTrust::Missing(format!("`{name}` cannot be read")),
                ca_at: None,
                crl_at: None,
                subject: None,
                error_page: None,
                forward: false,
            });
        }
        let Some(secret) = values.secret.as_ref().filter(|_| values.unreadable.is_none()) else {
            return;
        };
        if values.match_cn.is_some() && mode == HostClientAuthMode::OptionalUntrusted {
            let text = "is honoured for certificates that the authority has signed; with others \
                        nobody gets in";
            self.note("auth-tls-match-cn", Verdict::Differs, text);
        }
        let trust = self.trust(secret, values.verify_depth.unwrap_or(DEPTH));
        let page = values.error_page.as_ref();
        let error_page = page.and_then(|page| match template(page, self.key) {
            Ok(page) => Some(page),
            Err(why) => {
                let text = format!("is not honoured: {why}; clients are answered 400");
                self.note("auth-tls-error-page", Verdict::Omitted, text);
                None
            }
        });
        self.policy.client_auth = Some(HostClientAuth {
            mode,
            trust,
            subject: values.match_cn.as_ref().map(|pattern| Arc::from(pattern.as_str())),
            error_page,
            forward: values.pass_certificate == Some(true),
            ca_at: None,
            crl_at: None,
        });
    }

    fn trust(&mut self, secret: &ObjectRef, depth: u32) -> ClientTrust {
        let Some(key) = self.refer("auth-tls-secret", secret) else {
            return ClientTrust::Missing(format!("{secret} is in another namespace"));
        };
        self.references.secrets.insert(key.clone());
        let text = |bytes| Arc::from(String::from_utf8_lossy(bytes));
        let why = match self.inputs.secrets.get(&key) {
            // Secrets are mostly not among manifests.
            None if self.options.may_have_secret(&key) => {
                return ClientTrust::Missing(format!("the Secret {key} is not known"));
            }
            None => format!("there is no Secret {key}, or it may not be read"),
            Some(secret) => match field(secret, "ca.crt") {
                Some(ca) => {
                    let crl = field(secret, "ca.crl").map(text);
                    return ClientTrust::Authorities { ca: text(ca), crl, depth: Some(depth) };
                }
                None => format!("the Secret {key} has no `ca.crt`"),
            },
        };
        self.closed("auth-tls-secret", &why);
        ClientTrust::Missing(why)
    }
}
