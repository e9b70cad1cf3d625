//! What back ends speak, and TLS towards them.

use std::sync::Arc;

use ir::{ClientCertificate, SecretBytes, TrustAnchors, UpstreamProtocol, UpstreamTls};

use super::Mapping;
use crate::ir;
use crate::provider::kubernetes::annotation::{Backend, BackendProtocol, HttpVersion, ProxySsl};
use crate::provider::kubernetes::report::Verdict;
use crate::provider::kubernetes::translate::tls::field;

impl Mapping<'_> {
    pub(super) fn backend(&mut self, values: &Backend, ssl: &ProxySsl) {
        self.mapped.extend([
            "backend-protocol",
            "proxy-http-version",
            "proxy-ssl-name",
            "proxy-ssl-secret",
            "proxy-ssl-server-name",
            "proxy-ssl-verify",
            "service-upstream",
            "ssl-passthrough",
        ]);
        if values.passthrough == Some(true) {
            self.policy.passthrough = self.options.ssl_passthrough;
            if !self.options.ssl_passthrough {
                let text =
                    "is not honoured without --enable-ssl-passthrough: TLS is terminated here";
                self.note("ssl-passthrough", Verdict::Omitted, text);
            }
        }
        self.policy.upstream.service_address = values.service_upstream == Some(true);
        let protocol = values.protocol.unwrap_or(BackendProtocol::Http);
        let (protocol, secure) = match protocol {
            // A back end that terminates TLS hears nothing else.
            BackendProtocol::Http if self.policy.passthrough => (UpstreamProtocol::Http1, true),
            BackendProtocol::Grpc if self.policy.passthrough => (UpstreamProtocol::Http2, true),
            BackendProtocol::Http => (UpstreamProtocol::Auto, false),
            // Over HTTP/2 there would be no upgrade to WebSocket for most back ends.
            BackendProtocol::Https => (UpstreamProtocol::Http1, true),
            BackendProtocol::Grpc => (UpstreamProtocol::Http2, false),
            BackendProtocol::Grpcs => (UpstreamProtocol::Http2, true),
        };
        let http10 = matches!(values.http_version, Some(HttpVersion::Http10));
        self.policy.upstream.protocol = match protocol {
            UpstreamProtocol::Http2 if http10 => {
                let text = "has no effect on gRPC, which is spoken over HTTP/2";
                self.note("proxy-http-version", Verdict::Differs, text);
                protocol
            }
            _ if http10 => UpstreamProtocol::Http10,
            _ => protocol,
        };
        // What is wrong with the Secret closes the location either way, as it does elsewhere.
        let tls = self.upstream_tls(ssl);
        if secure {
            self.policy.upstream.tls = Some(tls);
            return;
        }
        let text = "has no effect without `backend-protocol: HTTPS` or `GRPCS`";
        for name in
            ["proxy-ssl-name", "proxy-ssl-secret", "proxy-ssl-server-name", "proxy-ssl-verify"]
        {
            if !self.notes.contains_key(name) {
                self.note(name, Verdict::Differs, text);
            }
        }
    }

    fn upstream_tls(&mut self, ssl: &ProxySsl) -> UpstreamTls {
        let mut tls = UpstreamTls {
            server_name: ssl.name.clone(),
            sni: ssl.server_name == Some(true),
            verify: ssl.verify == Some(true),
            trust: TrustAnchors::System,
            client_certificate: None,
        };
        let Some(reference) = &ssl.secret else { return tls };
        let Some(key) = self.refer("proxy-ssl-secret", reference) else { return tls };
        self.references.secrets.insert(key.clone());
        let Some(secret) = self.inputs.secrets.get(&key) else {
            if !self.options.partial {
                self.unusable(format!("there is no Secret {key}, or it may not be read"));
            }
            return tls;
        };
        let text =
            |name| field(secret, name).map(|bytes| Arc::from(String::from_utf8_lossy(bytes)));
        let (chain, private) = (text("tls.crt"), field(secret, "tls.key"));
        if let Some(authority) = text("ca.crt") {
            tls.trust = TrustAnchors::Pem(authority);
        }
        match (chain, private) {
            (Some(chain), Some(private)) => {
                tls.client_certificate =
                    Some(ClientCertificate { chain, key: SecretBytes::new(private) });
            }
            // With neither there is only an authority in it.
            (None, None) if matches!(tls.trust, TrustAnchors::Pem(_)) => {}
            _ => self.unusable(format!(
                "the Secret {key} has neither `tls.crt` with `tls.key` nor `ca.crt`"
            )),
        }
        tls
    }

    fn unusable(&mut self, why: String) {
        let text = format!("{why}; requests are answered 503");
        self.note("proxy-ssl-secret", Verdict::Refused, text);
        self.policy.deny(format!("proxy-ssl-secret: {why}"));
    }
}
