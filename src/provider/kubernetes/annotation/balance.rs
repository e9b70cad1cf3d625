//! Which endpoint a request goes to: algorithm, hash, session.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::dump;
use super::finding::Class;
use super::reader::Reader;
use super::value;
use super::variable::{Piece, Template, Variable};
use crate::ir::{HashInput, SameSite};

/// Balancing. Ingresses that name one Service share it: the first says algorithm and mode.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Balance {
    /// The algorithm. Default round robin.
    pub algorithm: Option<LoadBalance>,
    /// What is hashed, consistently; goes before `algorithm`. Not empty.
    pub hash_by: Option<Vec<HashInput>>,
    /// Whether clients stay with their endpoint; goes before `hash_by`. Default false.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub sticky: bool,
    /// What becomes of sessions when endpoints come. Default balanced.
    pub affinity_mode: Option<AffinityMode>,
    /// Whether a session stays with the main or the canary's Service, where it began. It counts on
    /// the canary. Default sticky.
    pub affinity_canary: Option<AffinityCanary>,
    /// The session's cookie.
    pub cookie: SessionCookie,
}

/// An algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LoadBalance {
    /// In turn.
    RoundRobin,
    /// The less loaded of two, by peak latency.
    Ewma,
}

/// What becomes of sessions when endpoints come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AffinityMode {
    /// Some move to the new endpoints.
    Balanced,
    /// None moves.
    Persistent,
}

/// Whether a session stays on its side of a canary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AffinityCanary {
    /// It stays.
    Sticky,
    /// The canary's rules hold for each request.
    Legacy,
}

/// The cookie of a session. It is always HttpOnly.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SessionCookie {
    /// Default `INGRESSCOOKIE`.
    pub name: Option<Arc<str>>,
    /// Default is the rule's path.
    pub path: Option<Arc<str>>,
    /// Default is none.
    pub domain: Option<Arc<str>>,
    /// Default is none.
    pub same_site: Option<SameSite>,
    /// Default is whether the request came over https.
    pub secure: Option<bool>,
    /// Default is a cookie that goes with the browser.
    #[serde(serialize_with = "dump::span")]
    pub expires: Option<Duration>,
    /// The same.
    #[serde(serialize_with = "dump::span")]
    pub max_age: Option<Duration>,
}

impl Balance {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let affinity = |text: &str| value::choice(text, &[("cookie", ())]);
        let balance = Self {
            algorithm: reader.value("load-balance", algorithm),
            hash_by: reader.value("upstream-hash-by", hash_by),
            sticky: reader.value("affinity", affinity).is_some(),
            affinity_mode: reader.value("affinity-mode", |text| {
                value::choice(
                    text,
                    &[
                        ("balanced", AffinityMode::Balanced),
                        ("persistent", AffinityMode::Persistent),
                    ],
                )
            }),
            affinity_canary: reader.value("affinity-canary-behavior", |text| {
                value::choice(
                    text,
                    &[("sticky", AffinityCanary::Sticky), ("legacy", AffinityCanary::Legacy)],
                )
            }),
            cookie: SessionCookie::read(reader),
        };
        if balance.sticky && balance.hash_by.is_some() {
            let text = "has no effect: `affinity` is there as well and goes first";
            reader.amend("upstream-hash-by", Class::Ignored, text);
        }
        if !balance.sticky {
            for name in ["affinity-mode", "session-cookie-name"] {
                reader.amend(name, Class::Ignored, "has no effect without `affinity: cookie`");
            }
        }
        balance
    }
}

impl SessionCookie {
    fn read(reader: &mut Reader<'_>) -> Self {
        let same_site = |text: &str| {
            value::choice(
                text,
                &[("None", SameSite::None), ("Lax", SameSite::Lax), ("Strict", SameSite::Strict)],
            )
        };
        let secure = reader.value("session-cookie-secure", value::boolean);
        if secure == Some(false) {
            let text = "`false` has no effect, as in ingress-nginx: given over https, the cookie \
                        is `Secure`";
            reader.amend("session-cookie-secure", Class::Ignored, text);
        }
        Self {
            name: reader.value("session-cookie-name", value::cookie_name),
            path: reader.value("session-cookie-path", value::path),
            domain: reader.value("session-cookie-domain", domain),
            same_site: reader.value("session-cookie-samesite", same_site),
            secure: secure.filter(|secure| *secure),
            expires: reader.value("session-cookie-expires", value::seconds),
            max_age: reader.value("session-cookie-max-age", value::seconds),
        }
    }
}

fn algorithm(text: &str) -> Result<LoadBalance, String> {
    match text {
        "ip_hash" => Err("is no algorithm any more\nuse `upstream-hash-by: $remote_addr`".into()),
        "least_conn" => Err("is no algorithm any more\nuse `ewma`".into()),
        _ => value::choice(
            text,
            &[("round_robin", LoadBalance::RoundRobin), ("ewma", LoadBalance::Ewma)],
        ),
    }
}

fn domain(text: &str) -> Result<Arc<str>, String> {
    match crate::ir::HostPattern::parse(text.strip_prefix('.').unwrap_or(text)) {
        Ok(crate::ir::HostPattern::Exact(_)) => Ok(text.into()),
        _ => Err("is no domain".to_owned()),
    }
}

/// Text between the variables is the same for all requests and so takes no part.
fn hash_by(text: &str) -> Result<Vec<HashInput>, String> {
    let template = Template::parse(text)?;
    let mut inputs = Vec::new();
    for piece in template.pieces() {
        let Piece::Variable(variable) = piece else { continue };
        let input = match variable {
            Variable::Host | Variable::HttpHost | Variable::ServerName => HashInput::Host,
            Variable::RequestUri | Variable::EscapedRequestUri => HashInput::Uri,
            Variable::Uri => HashInput::Path,
            Variable::RemoteAddr => HashInput::ClientIp,
            Variable::Header(name) => HashInput::Header(name.clone()),
            Variable::ContentType => HashInput::Header(http::header::CONTENT_TYPE),
            Variable::Cookie(name) => HashInput::Cookie(name.clone()),
            Variable::Arg(name) => HashInput::Query(name.clone()),
            // The same for all requests of the upstream.
            Variable::Namespace
            | Variable::IngressName
            | Variable::ServiceName
            | Variable::ServicePort
            | Variable::UpstreamName => continue,
            other => return Err(format!("has `{other}` in it, which cannot be hashed")),
        };
        if !inputs.contains(&input) {
            inputs.push(input);
        }
    }
    if inputs.is_empty() {
        return Err("has no variable in it that differs between requests\nwrite it as in \
                    `$request_uri` or `$cookie_user`"
            .to_owned());
    }
    Ok(inputs)
}
