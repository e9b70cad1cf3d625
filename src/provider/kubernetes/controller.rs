//! The controller's ConfigMap: what holds for every Ingress that does not say otherwise, and for the
//! listeners.
//!
//! Owns what its keys come to. Knows the annotations whose defaults they are, not what becomes of
//! these.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use http::{HeaderName, HeaderValue};
use ipnet::IpNet;
use ir::{Hsts, Problem, TlsVersion};
use k8s_openapi::api::core::v1::ConfigMap;

use super::annotation::{
    Class, ConfigMapSettings, Finding, ObjectRef, ParsedConfigMap, Piece, Template, Variable,
    parse_config_map,
};
use super::report::origin;
use super::{Inputs, Key, Options, References};
use crate::ir;
use crate::telemetry::NginxFormat;

/// What the ConfigMap says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Controller {
    /// Annotations of objects that do not have them, by name without prefix.
    pub annotations: BTreeMap<&'static str, String>,
    /// The same of whom every object asks that does not turn it off.
    pub auth: BTreeMap<&'static str, String>,
    /// What holds for everything.
    pub settings: ConfigMapSettings,
    /// Fields that all back ends get.
    pub request_headers: Vec<(HeaderName, Template)>,
    /// Fields of all answers of back ends.
    pub response_headers: Vec<(HeaderName, Template)>,
    /// Why nothing may be served: what restricts access cannot be set up.
    pub denied: Option<String>,
}

/// Keys that are read and come to nothing, why, and what to do.
const OMITTED: [(&str, &str, &str); 5] = [
    (
        "client-body-timeout",
        "a body may pause for as long as proxy-read-timeout and proxy-send-timeout say",
        "take it out",
    ),
    (
        "client-header-timeout",
        "it is for all listeners of the process",
        "see `limits.head_timeout`",
    ),
    (
        "compute-full-forwarded-for",
        "X-Forwarded-For of those who are trusted is always appended to",
        "take it out",
    ),
    ("keep-alive", "it is for all listeners of the process", "see `limits.keep_alive`"),
    ("worker-shutdown-timeout", "it is the process' own", "see `drain.deadline`"),
];

impl Controller {
    /// How long idle connections to endpoints are kept, and how many.
    pub(super) fn pool(&self) -> ir::PoolOptions {
        let default = ir::PoolOptions::default();
        let settings = &self.settings;
        ir::PoolOptions {
            max_idle: settings.upstream_connections.unwrap_or(default.max_idle),
            idle_timeout: settings.upstream_idle.unwrap_or(default.idle_timeout),
            ..default
        }
    }

    /// Whether nobody has to show anything on this path of an Ingress: the path as it is written
    /// begins with one of no-auth-locations. In an expression what follows that must not take any
    /// of it back.
    pub(super) fn lets_in(&self, path: &str, expression: bool) -> bool {
        const ACME: &str = "/.well-known/acme-challenge";
        let begins = |with: &str| match path.strip_prefix(with) {
            Some(rest) if expression => !rest.starts_with(['?', '*', '{']) && !rest.contains('|'),
            rest => rest.is_some(),
        };
        match &self.settings.no_auth {
            Some(paths) => paths.iter().any(|path| begins(path)),
            None => begins(ACME),
        }
    }

    /// Edits what listeners of all hosts are.
    pub(super) fn listen(&self, listener: &mut ir::Listener) {
        let settings = &self.settings;
        let anybody = || ["0.0.0.0/0", "::/0"].iter().filter_map(|net| net.parse().ok()).collect();
        let trusted = || -> Vec<IpNet> { settings.trusted.clone().unwrap_or_else(anybody) };
        if settings.use_forwarded_headers == Some(true) {
            listener.trusted_proxies = trusted();
        }
        if settings.use_proxy_protocol == Some(true) {
            listener.proxy_protocol = trusted();
        }
        if let Some(http2) = settings.http2 {
            listener.protocols.http2 = http2;
        }
        if let Some(streams) = settings.http2_streams {
            listener.http2.max_streams = streams;
        }
        if let (Some(tls), Some(versions)) = (&mut listener.tls, &settings.ssl_protocols)
            && versions.iter().all(|version| &**version == "TLSv1.3")
        {
            tls.min_version = TlsVersion::V1_3;
        }
    }

    fn hsts(&self, otherwise: Option<&Hsts>) -> Option<Hsts> {
        let settings = &self.settings;
        let default = otherwise.filter(|_| settings.hsts != Some(false))?;
        Some(Hsts {
            max_age: settings.hsts_max_age.unwrap_or(default.max_age),
            include_subdomains: settings
                .hsts_include_subdomains
                .unwrap_or(default.include_subdomains),
            preload: settings.hsts_preload.unwrap_or(default.preload),
        })
    }
}

/// `options` with what the ConfigMap says, what is wrong with that, and what it refers to. One that
/// is gone goes on as it was `last`: what keeps requests out must not end with a slip of the hand.
pub(super) fn complete<'o>(
    inputs: &Inputs,
    options: &'o Options,
    last: &mut Option<Arc<ConfigMap>>,
) -> (Cow<'o, Options>, Vec<Problem>, References) {
    let mut references = References::default();
    let Some(key) = &options.config_map else {
        return (Cow::Borrowed(options), Vec::new(), references);
    };
    references.config_maps.insert(key.clone());
    let about = origin("ConfigMap", key);
    let missing = format!("there is no ConfigMap {key}, or it may not be read");
    let mut problems = Vec::new();
    match inputs.config_maps.get(key) {
        Some(map) => *last = Some(map.clone()),
        None if last.is_some() => {
            let hint = "what it said last holds until there is one, or until the next start";
            problems.push(Problem::warning(missing.clone()).hint(hint));
        }
        None => {}
    }
    let Some(map) = &*last else {
        let problem = Problem::warning(missing).hint("its defaults hold until there is one");
        return (Cow::Borrowed(options), vec![problem.about(&about)], references);
    };
    let nothing = BTreeMap::new();
    let parsed = parse_config_map(map.data.as_ref().unwrap_or(&nothing));
    problems.extend(parsed.findings.iter().filter_map(problem));
    let ParsedConfigMap { texts, auth_texts, settings, denied, .. } = parsed;
    if settings.use_forwarded_headers == Some(true) && settings.trusted.is_none() {
        let message = "use-forwarded-headers: everybody's forwarding headers are believed";
        let hint = "say in proxy-real-ip-cidr whose";
        problems.push(Problem::warning(message).hint(hint));
    }
    let format = settings.log_format.as_deref().map(|text| NginxFormat::parse(text, false));
    for name in format.iter().flat_map(NginxFormat::unknown) {
        let message = format!("log-format-upstream: `${name}` has no value here");
        let hint = "take it out, or see `run --access-log json`, which has all that is known";
        problems.push(Problem::warning(message).hint(hint));
    }
    let mut fields = |name: &str, to: &Option<ObjectRef>| {
        let Some(to) = to else { return Vec::new() };
        let key = Key::new(to.namespace.clone().unwrap_or_default(), to.name.clone());
        references.config_maps.insert(key.clone());
        fields(name, &key, inputs, &mut problems)
    };
    let request_headers = fields("proxy-set-headers", &settings.proxy_set_headers);
    let response_headers = fields("add-headers", &settings.add_headers);
    let controller = Controller {
        annotations: texts,
        auth: auth_texts,
        settings,
        request_headers,
        response_headers,
        denied,
    };
    let allowed = controller.settings.allowed_response_headers.clone();
    let completed = Options {
        allowed_response_headers: allowed
            .unwrap_or_else(|| options.allowed_response_headers.clone()),
        hsts: controller.hsts(options.hsts.as_ref()),
        controller: Arc::new(controller),
        ..options.clone()
    };
    let problems = problems.into_iter().map(|problem| problem.about(&about)).collect();
    (Cow::Owned(completed), problems, references)
}

/// The header fields in a ConfigMap.
fn fields(
    name: &str,
    key: &Key,
    inputs: &Inputs,
    problems: &mut Vec<Problem>,
) -> Vec<(HeaderName, Template)> {
    let Some(map) = inputs.config_maps.get(key) else {
        let message = format!("{name}: there is no ConfigMap {key}, or it may not be read");
        problems.push(Problem::error(message));
        return Vec::new();
    };
    let mut found = Vec::new();
    for (field, text) in map.data.iter().flatten() {
        let mut left_out = |why: &str| {
            let message = format!("{name}: {field} of {key} {why}");
            problems.push(Problem::warning(message).hint("it is left out"));
        };
        let parsed = (HeaderName::try_from(field.as_str()), HeaderValue::try_from(text.as_str()));
        let (Ok(field), Ok(_)) = parsed else {
            left_out("is no header field");
            continue;
        };
        let of_a_response = |variable: &Variable| matches!(variable, Variable::ResponseHeader(_));
        match Template::parse(text) {
            Err(why) => left_out(&why),
            Ok(template) => match template.pieces().iter().find_map(|piece| match piece {
                Piece::Variable(variable @ Variable::Capture(_)) => Some(variable),
                Piece::Variable(variable) if of_a_response(variable) && name != "add-headers" => {
                    Some(variable)
                }
                _ => None,
            }) {
                Some(variable) => {
                    left_out(&format!("has `{variable}` in it, which has no value here"))
                }
                None => found.push((field, template)),
            },
        }
    }
    found
}

fn problem(finding: &Finding) -> Option<Problem> {
    let omitted = OMITTED.iter().find(|(key, ..)| *key == finding.annotation);
    if let Some((key, reason, remedy)) = omitted.filter(|_| finding.class == Class::Honoured) {
        let message = format!("{key}: is not honoured: {reason}");
        return Some(Problem::warning(message).hint(*remedy));
    }
    let message = format!("{}: {}", finding.annotation, finding.message);
    let problem = match finding.class {
        Class::Honoured => return None,
        Class::Denied | Class::Closed | Class::Refused => Problem::error(message),
        _ => Problem::warning(message),
    };
    Some(match &finding.remedy {
        Some(remedy) => problem.hint(remedy.clone()),
        None => problem,
    })
}
