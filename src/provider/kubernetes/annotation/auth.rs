//! Authentication by password files and by an external service.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, Method};
use serde::Serialize;

use super::dump;
use super::finding::Class;
use super::reader::Reader;
use super::value::{self, ObjectRef};
use super::variable::{self, Template};

/// Who must prove who they are. What of it cannot be set up lets nobody in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Auth {
    /// By user name and password.
    pub basic: Option<BasicAuth>,
    /// By a service that is asked about each request.
    pub external: Option<ExternalAuth>,
    /// Whether the ConfigMap's global-auth-url holds here. Default true.
    pub global: Option<bool>,
}

/// User name and password.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BasicAuth {
    /// The Secret with the passwords' hashes.
    pub secret: ObjectRef,
    /// How they stand in it. Default file.
    pub secret_type: Option<SecretType>,
    /// What is asked for. Default empty.
    pub realm: Option<Arc<str>>,
}

/// The scheme.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AuthType {
    /// RFC 7617.
    Basic,
}

/// How passwords stand in a Secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SecretType {
    /// A file of `user:hash` lines under the key `auth`.
    File,
    /// A key for each user, with the hash as its value.
    Map,
}

/// A service that is asked about each request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ExternalAuth {
    /// Where it is asked. 2xx lets in, 401 and 403 do not, others are 500.
    pub url: Template,
    /// The method it is asked with. Default GET.
    #[serde(serialize_with = "dump::text")]
    pub method: Option<Method>,
    /// Where a client is sent on 401.
    pub signin: Option<Template>,
    /// The query parameter of `signin` with the URL the client wanted. Default `rd`; not added
    /// where the URL has it.
    pub signin_redirect_param: Option<Arc<str>>,
    /// Headers of its answer that the back end gets in place of the client's.
    #[serde(serialize_with = "dump::texts", skip_serializing_if = "Vec::is_empty")]
    pub response_headers: Vec<HeaderName>,
    /// The X-Auth-Request-Redirect it gets. Default is the request's target.
    pub request_redirect: Option<Template>,
    /// Whether its cookies reach the client with every status, and not with 2xx and 3xx only.
    /// Default false.
    pub always_set_cookie: Option<bool>,
    /// Requests with the same come to the same answer, for a while. Default is asking each time.
    pub cache_key: Option<Template>,
    /// For how long, by status; `None` stands for 200, 301 and 302. Default 5 m for 200, 202, 401.
    #[serde(serialize_with = "cache_times")]
    pub cache_duration: Option<Vec<CacheTime>>,
}

/// A time, and the statuses it is for.
pub type CacheTime = (Vec<u16>, Duration);

/// The names of its values, which the ConfigMap has with `global-` before them.
struct Raw {
    url: Option<Template>,
    method: Option<Method>,
    signin: Option<Template>,
    param: Option<Arc<str>>,
    headers: Option<Vec<HeaderName>>,
    redirect: Option<Template>,
    cookie: Option<bool>,
    cache_key: Option<Template>,
    cache_duration: Option<Vec<CacheTime>>,
}

impl Auth {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        Self {
            basic: basic(reader),
            external: external(reader),
            global: reader.value("enable-global-auth", value::boolean),
        }
    }
}

fn basic(reader: &mut Reader<'_>) -> Option<BasicAuth> {
    let types = |text: &str| match text {
        "basic" => Ok(AuthType::Basic),
        "digest" => Err("is not offered: its passwords can be recovered from what is stored\nuse \
                         `basic`, over https"
            .to_owned()),
        _ => Err("is no way to authenticate\nuse `basic`".to_owned()),
    };
    let asked = reader.has("auth-type");
    let kind = reader.guard("auth-type", types);
    let secret = reader.guard("auth-secret", value::object);
    let secret_type = reader.guard("auth-secret-type", |text| {
        value::choice(text, &[("auth-file", SecretType::File), ("auth-map", SecretType::Map)])
    });
    let realm = reader.guard("auth-realm", realm);
    if asked && kind.is_some() && !reader.has("auth-secret") {
        let text = "has no passwords: `auth-secret` is not there; requests are answered 503\nname \
                    the Secret with the passwords in `auth-secret`";
        reader.amend("auth-type", Class::Denied, text);
    }
    if !asked {
        for name in ["auth-secret", "auth-secret-type", "auth-realm"] {
            let text = "has no effect without `auth-type`: nobody is asked for a password\nadd \
                        `auth-type: basic`";
            reader.amend(name, Class::Ignored, text);
        }
    }
    let (AuthType::Basic, secret) = (kind?, secret?);
    Some(BasicAuth { secret, secret_type, realm })
}

fn realm(text: &str) -> Result<Arc<str>, String> {
    if text.contains(['"', '\\']) {
        return Err("has a quotation mark or backslash in it".to_owned());
    }
    value::line(text)
}

fn external(reader: &mut Reader<'_>) -> Option<ExternalAuth> {
    let asked = reader.has("auth-url");
    let raw = Raw {
        url: reader.guard("auth-url", variable::url),
        method: reader.guard("auth-method", value::method),
        signin: reader.guard("auth-signin", variable::url),
        param: reader.value("auth-signin-redirect-param", value::cookie_name),
        headers: reader
            .guard("auth-response-headers", |text| value::list(text, value::header_name)),
        redirect: reader.value("auth-request-redirect", variable::template),
        cookie: reader.value("auth-always-set-cookie", value::boolean),
        cache_key: reader.value("auth-cache-key", variable::template),
        cache_duration: reader.value("auth-cache-duration", cache_duration),
    };
    if raw.cache_key.is_none() {
        reader.amend(
            "auth-cache-duration",
            Class::Ignored,
            "has no effect without `auth-cache-key`",
        );
    }
    if !asked {
        for name in [
            "auth-method",
            "auth-signin",
            "auth-signin-redirect-param",
            "auth-response-headers",
            "auth-request-redirect",
            "auth-always-set-cookie",
            "auth-cache-key",
        ] {
            reader.amend(name, Class::Ignored, "has no effect without `auth-url`");
        }
    }
    Some(ExternalAuth {
        url: raw.url?,
        method: raw.method,
        signin: raw.signin,
        signin_redirect_param: raw.param,
        response_headers: raw.headers.unwrap_or_default(),
        request_redirect: raw.redirect,
        always_set_cookie: raw.cookie,
        cache_key: raw.cache_key,
        cache_duration: raw.cache_duration,
    })
}

/// Times with the statuses they are for before them, as in `200 202 5m, 401 30s`.
fn cache_duration(text: &str) -> Result<Vec<CacheTime>, String> {
    let mut all = Vec::new();
    for item in value::items(text) {
        let mut words: Vec<_> = item.split_whitespace().collect();
        let last = words.pop().unwrap_or_default();
        let time =
            value::duration(last).map_err(|error| format!("ends in `{last}`, which {error}"));
        let status = |word: &&str| value::status(word, 200, 599);
        let mut statuses = words.iter().map(status).collect::<Result<Vec<_>, _>>()?;
        if statuses.is_empty() {
            statuses.extend([200, 301, 302].map(http::StatusCode::from_u16).into_iter().flatten());
        }
        all.push((statuses.iter().map(http::StatusCode::as_u16).collect(), time?));
    }
    match all.is_empty() {
        true => Err("says no time\nwrite it as in `200 202 401 5m`".to_owned()),
        false => Ok(all),
    }
}

fn cache_times<S: serde::Serializer>(
    times: &Option<Vec<CacheTime>>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let text = |(statuses, time): &CacheTime| {
        let statuses = statuses.iter().map(|status| format!("{status} ")).collect::<String>();
        format!("{statuses}{}", crate::ir::Span(*time))
    };
    times.as_ref().map(|times| times.iter().map(text).collect::<Vec<_>>()).serialize(serializer)
}
