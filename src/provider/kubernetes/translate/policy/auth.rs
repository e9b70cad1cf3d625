//! Who must show what before a location is served. Whatever of it cannot be set up closes the
//! location and never opens it.

use std::time::Duration;

use http::Method;
use ir::{AuthCache, AuthService, Credentials, Satisfy, SecretBytes, ServicePlace, ServiceUrl};
use k8s_openapi::api::core::v1::Secret;

use super::{Mapping, template};
use crate::ir;
use crate::provider::kubernetes::annotation::{
    self, Auth, BasicAuth, ExternalAuth, SecretType, Support, Template,
};
use crate::provider::kubernetes::report::Verdict;
use crate::provider::kubernetes::translate::service::leads_inside;
use crate::provider::kubernetes::translate::tls::field;

/// How long the service may take: as long as any location in ingress-nginx.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The annotations of authentication.
pub(super) const NAMES: [&str; 15] = [
    "enable-global-auth",
    "auth-always-set-cookie",
    "auth-cache-duration",
    "auth-cache-key",
    "auth-method",
    "auth-realm",
    "auth-request-redirect",
    "auth-response-headers",
    "auth-secret",
    "auth-secret-type",
    "auth-signin",
    "auth-signin-redirect-param",
    "auth-type",
    "auth-url",
    "satisfy",
];

impl Mapping<'_> {
    pub(super) fn auth(&mut self, values: &Auth, satisfy: Option<annotation::Satisfy>) {
        self.mapped.extend(NAMES);
        let basic = values.basic.as_ref().and_then(|basic| self.basic(basic));
        let external = values.external.as_ref().and_then(|external| self.external(external));
        if basic.is_none() && external.is_none() {
            return;
        }
        let satisfy = match satisfy {
            Some(annotation::Satisfy::Any) => Satisfy::Any,
            Some(annotation::Satisfy::All) | None => Satisfy::All,
        };
        self.policy.auth = Some(ir::Auth { satisfy, basic, external });
    }

    fn basic(&mut self, values: &BasicAuth) -> Option<ir::BasicAuth> {
        let key = self.refer("auth-secret", &values.secret)?;
        self.references.secrets.insert(key.clone());
        let kind = values.secret_type.unwrap_or(SecretType::File);
        let users = match self.inputs.secrets.get(&key) {
            Some(secret) => users(secret, kind).ok_or_else(|| match kind {
                SecretType::File => format!("the Secret {key} has no `auth`"),
                SecretType::Map => format!("the Secret {key} has no users"),
            }),
            // Secrets are mostly not among manifests.
            None if self.options.may_have_secret(&key) => {
                Ok(Credentials::Missing(format!("the Secret {key} is not known")))
            }
            None => Err(format!("there is no Secret {key}, or it may not be read")),
        };
        let users = users.unwrap_or_else(|why| {
            self.closed("auth-secret", &why);
            Credentials::Missing(why)
        });
        Some(ir::BasicAuth { realm: values.realm.clone().unwrap_or_default(), users })
    }

    fn external(&mut self, values: &ExternalAuth) -> Option<ir::ExternalAuth> {
        let (service, path) = match self.service(&values.url) {
            Ok(found) => found,
            Err(why) => {
                self.closed("auth-url", &why);
                (AuthService::Missing(why), ir::Template::of([]))
            }
        };
        let parameter = values.signin_redirect_param.as_deref().unwrap_or("rd");
        let signin = self.text("auth-signin", values.signin.as_ref());
        let request_redirect = self.text("auth-request-redirect", values.request_redirect.as_ref());
        let own: Vec<_> = values.response_headers.iter().filter(|name| rules(name)).collect();
        if let Some(name) = own.first() {
            let text = format!("is honoured but for `{name}`, which the proxy says itself");
            self.note("auth-response-headers", Verdict::Differs, text);
        }
        let cache = self.cache(values, &path);
        Some(ir::ExternalAuth {
            service,
            path,
            method: values.method.clone().unwrap_or(Method::GET),
            request_headers: Vec::new(),
            request_redirect,
            response_headers: values
                .response_headers
                .iter()
                .filter(|name| !rules(name))
                .cloned()
                .collect(),
            signin: signin.map(|url| ir::signin_url(&url, parameter)),
            always_set_cookie: values.always_set_cookie == Some(true),
            timeout: TIMEOUT,
            cache,
        })
    }

    /// Which answers are kept of a service that is asked for `asked`. One whose key cannot be made is
    /// asked for each time.
    fn cache(&mut self, values: &ExternalAuth, asked: &ir::Template) -> Option<AuthCache> {
        let key = match template(values.cache_key.as_ref()?, self.key) {
            Ok(key) => key,
            Err(why) => {
                let text = format!("is not honoured: {why}; every request is asked about");
                self.note("auth-cache-key", Verdict::Omitted, text);
                return None;
            }
        };
        let valid = match &values.cache_duration {
            None => AuthCache::usual_times(),
            Some(times) => times
                .iter()
                .flat_map(|(statuses, time)| statuses.iter().map(|of| (*of, *of, *time)))
                .collect(),
        };
        let cache = AuthCache { key, valid };
        if let Some(open) = cache.leaves_open(asked) {
            let differs = match annotation::support("auth-cache-key") {
                Some(Support::Differently(text)) => text,
                _ => "is honoured",
            };
            let text = format!(
                "{differs}; what the service says of one request holds for any {open}, as in \
                 ingress-nginx: add `$request_method` and `$request_uri` unless it decides by neither"
            );
            self.note("auth-cache-key", Verdict::Differs, text);
        }
        Some(cache)
    }

    /// Who is asked for what.
    fn service(&mut self, url: &Template) -> Result<(AuthService, ir::Template), String> {
        let url = template(url, self.key)?;
        let ServiceUrl { place, path } =
            ServiceUrl::parse(&url).map_err(|why| format!("the URL {why}"))?;
        let Some(place) = place else { return Ok((AuthService::OwnHost, path)) };
        if leads_inside(&place.address) {
            return Err("the URL leads to this machine or its link".to_owned());
        }
        if place.secure {
            let text = "is honoured, and the certificate of the service is verified, which \
                        ingress-nginx does not do";
            self.note("auth-url", Verdict::Differs, text);
        }
        let service =
            AuthService::Upstream { name: upstream_name(&place), host: Some(place.host.clone()) };
        self.policy.asked = Some(place);
        Ok((service, path))
    }

    /// A text that may depend on the request. One that cannot be made closes the location: the
    /// service or the client would be told something else.
    fn text(&mut self, name: &'static str, text: Option<&Template>) -> Option<ir::Template> {
        match template(text?, self.key) {
            Ok(template) => Some(template),
            Err(why) => {
                self.closed(name, &why);
                None
            }
        }
    }

    pub(super) fn closed(&mut self, name: &'static str, why: &str) {
        let text = format!("is not honoured: {why}; requests are answered 503");
        self.note(name, Verdict::Refused, text);
        self.policy.deny(format!("{name}: {why}"));
    }
}

/// The users of a Secret, if it has any.
fn users(secret: &Secret, kind: SecretType) -> Option<Credentials> {
    let lines = match kind {
        SecretType::File => field(secret, "auth")?.to_vec(),
        SecretType::Map => {
            let mut lines = Vec::new();
            for (user, hash) in secret.data.iter().flatten() {
                let hash = hash.0.trim_ascii();
                // What has several lines would be several users.
                if !hash.is_empty() && !hash.iter().any(u8::is_ascii_control) {
                    lines.extend_from_slice(user.as_bytes());
                    lines.push(b':');
                    lines.extend_from_slice(hash);
                    lines.push(b'\n');
                }
            }
            lines
        }
    };
    (!lines.is_empty()).then(|| Credentials::Htpasswd(SecretBytes::new(lines)))
}

/// Whether a field frames messages or rules connections.
pub(super) fn rules(name: &http::HeaderName) -> bool {
    let names = [
        "connection",
        "content-length",
        "host",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ];
    names.contains(&name.as_str())
}

/// What the upstream of a place is called that is asked; files have names of their own for it.
pub(in super::super) fn upstream_name(place: &ServicePlace) -> ir::Name {
    ir::Name::from(format!("auth-url/{}", place.name()))
}

/// The upstream of a place that is asked.
pub(in super::super) fn upstream(place: &ServicePlace, origin: ir::Origin) -> ir::Upstream {
    let spec = ir::EndpointSpec {
        address: place.address.clone().outside(),
        weight: 1,
        priority: 0,
        zone: None,
        draining: false,
    };
    ir::Upstream {
        origin,
        endpoints: vec![spec],
        discovered: false,
        balance: Default::default(),
        health: None,
        outlier: Some(Default::default()),
        limits: Default::default(),
        protocol: Default::default(),
        tls: place.tls().map(Box::new),
        pool: Default::default(),
    }
}
