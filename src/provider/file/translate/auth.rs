//! Who may use a route. Whatever is wrong here closes the route and never opens it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, Method};
use ir::{
    Auth, AuthService, BasicAuth, Credentials, EndpointSpec, ExternalAuth, Name, Satisfy, Scope,
    SecretBytes, ServicePlace, ServiceUrl, Template, Upstream,
};

use super::context::{Context, shown};
use super::host::Names;
use super::{auth_cache, header, or, settings};
use crate::ir;
use crate::provider::file::field::{At, Field, List, Named, Text};
use crate::provider::file::raw;
use crate::provider::file::scalar::FieldName;

const REALM: &str = "Restricted";

pub(super) fn auth(
    context: &mut Context<'_>,
    field: &Field<raw::Auth>,
    names: &Names<'_>,
    access: bool,
) -> Option<Auth> {
    let at = field.given()?;
    if at.value.basic.is_absent() && at.value.external.is_absent() {
        let hint = "add `basic` or `external`, or leave it out";
        context.error(at.place, "`auth` asks for nothing", Some(hint));
    }
    let basic = at.value.basic.given().map(|at| basic(context, at));
    let external = at.value.external.given().map(|at| external(context, at, names));
    let satisfy = match at.value.satisfy.given() {
        None => Satisfy::All,
        Some(word) => {
            let conditions = [basic.is_some(), external.is_some(), access];
            if conditions.into_iter().filter(|there| *there).count() < 2 {
                let hint =
                    "name two of `basic`, `external` and the route's `access`, or leave it out";
                context.error(word.place, "`satisfy` is about several conditions", Some(hint));
            }
            match word.value {
                raw::Satisfy::All => Satisfy::All,
                raw::Satisfy::Any => Satisfy::Any,
            }
        }
    };
    Some(Auth { satisfy, basic, external })
}

fn basic(context: &mut Context<'_>, at: &At<raw::BasicAuth>) -> BasicAuth {
    let raw = &at.value;
    let realm = match raw.realm.given() {
        None => REALM,
        Some(realm) => {
            if realm.value.chars().any(char::is_control) {
                let message = "realm: it has characters no header may have";
                context.error(realm.place, message, Some("line breaks and other controls are out"));
            }
            realm.value.as_str()
        }
    };
    let users = match (&raw.users, &raw.users_file) {
        (Field::Given(users), Field::Absent) => {
            Credentials::Htpasswd(SecretBytes::new(users.value.as_bytes()))
        }
        (Field::Absent, Field::Given(path)) => users_file(context, path),
        (Field::Bad, _) | (_, Field::Bad) => Credentials::Missing("they cannot be read".into()),
        _ => {
            let hint = "give one of `users` (lines of user:hash) and `users_file`";
            context.error(at.place, "it is not said who may come in", Some(hint));
            Credentials::Missing("it is not said who may come in".into())
        }
    };
    BasicAuth { realm: Arc::from(realm), users }
}

/// What was read of the file before it could not be read any more still serves.
fn users_file(context: &mut Context<'_>, path: &At<String>) -> Credentials {
    let (bytes, error) = context.read(path.place, Path::new(&path.value));
    if let Some(error) = error {
        context.unreadable("password file", path, error);
    }
    match bytes {
        Some(bytes) => Credentials::Htpasswd(bytes.clone()),
        None => Credentials::Missing("the password file cannot be read".into()),
    }
}

fn external(
    context: &mut Context<'_>,
    at: &At<raw::ExternalAuth>,
    names: &Names<'_>,
) -> ExternalAuth {
    let raw = &at.value;
    let (service, path) = service(context, at, names);
    let mut timeout = Duration::from_secs(10);
    settings::period(context, "timeout", &raw.timeout, &mut timeout);
    let parameter = raw.signin_redirect_param.given();
    if let Some(parameter) = parameter
        && !parameter
            .value
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
    {
        let message = format!("signin_redirect_param: {} is no name", shown(parameter));
        context.error(parameter.place, message, Some("letters, digits, `-`, `_` and `.` make one"));
    }
    if let (Some(parameter), None) = (parameter, raw.signin.given()) {
        let hint = "add `signin`, or leave it out";
        context.error(parameter.place, "there is no `signin` for the parameter", Some(hint));
    }
    let signin = template(context, "signin", &raw.signin);
    let parameter = parameter.map_or("rd", |at| &at.value);
    let cache = raw.cache.given().and_then(|at| auth_cache::cache(context, at, &path));
    ExternalAuth {
        service,
        path,
        method: raw.method.get().map_or(Method::GET, |verb| verb.0.0.clone()),
        request_headers: template_fields(context, &raw.request_headers),
        request_redirect: template(context, "request_redirect", &raw.request_redirect),
        response_headers: response_headers(context, &raw.response_headers),
        signin: signin.map(|url| ir::signin_url(&url, parameter)),
        always_set_cookie: or(&raw.always_set_cookie, false),
        timeout,
        cache,
    }
}

/// Who is asked for what.
fn service(
    context: &mut Context<'_>,
    at: &At<raw::ExternalAuth>,
    names: &Names<'_>,
) -> (AuthService, Template) {
    let raw = &at.value;
    let missing = || (AuthService::Missing("it is not said who is asked".into()), Template::of([]));
    match (&raw.url, &raw.upstream) {
        (Field::Given(url), Field::Absent) => {
            if let Some(path) = raw.path.given() {
                let hint = "write it into the URL";
                context.error(path.place, "`path` goes with `upstream`", Some(hint));
            }
            let Some(template) = template(context, "url", &raw.url) else { return missing() };
            match ServiceUrl::parse(&template) {
                Ok(ServiceUrl { place: None, path }) => (AuthService::OwnHost, path),
                Ok(ServiceUrl { place: Some(place), path }) => {
                    let name = place.name();
                    let host = Some(place.host.clone());
                    implicit(context, url, &name, place);
                    (AuthService::Upstream { name, host }, path)
                }
                Err(error) => {
                    let hint = "for example `http://auth.internal/check`, or \
                                `https://{host}/oauth2/auth` for a route of the request's own host";
                    context.error(url.place, format!("url: {} {error}", shown(url)), Some(hint));
                    missing()
                }
            }
        }
        (Field::Absent, Field::Given(name)) => {
            names.check(context, "upstream", name);
            let path = template(context, "path", &raw.path);
            let path = path.unwrap_or_else(|| Template::of([ir::Piece::Literal("/".into())]));
            (AuthService::Upstream { name: Name::from(&*name.value), host: None }, path)
        }
        (Field::Bad, _) | (_, Field::Bad) => missing(),
        _ => {
            let hint = "give one of `url` and `upstream`";
            context.error(at.place, "it is not said who is asked", Some(hint));
            missing()
        }
    }
}

/// The upstream that a URL stands for; URLs of one place share it.
fn implicit(context: &mut Context<'_>, url: &At<String>, name: &Name, place: ServicePlace) {
    if context.implicit.contains_key(name) {
        return;
    }
    let spec = EndpointSpec {
        address: place.address.clone(),
        weight: 1,
        priority: 0,
        zone: None,
        draining: false,
    };
    let upstream = Upstream {
        origin: context.origin("upstream", name.as_str(), url.place),
        endpoints: vec![spec],
        discovered: false,
        balance: Default::default(),
        health: None,
        outlier: Some(Default::default()),
        limits: Default::default(),
        protocol: Default::default(),
        tls: place.tls().map(Box::new),
        pool: Default::default(),
    };
    context.implicit.insert(name.clone(), upstream);
}

pub(super) fn template(
    context: &mut Context<'_>,
    key: &str,
    field: &Field<String>,
) -> Option<Template> {
    super::template::of(context, key, field.given()?, Scope::default())
}

/// Fields whose values are templates.
pub(super) fn template_fields(
    context: &mut Context<'_>,
    field: &Field<Named<String>>,
) -> Vec<(HeaderName, Template)> {
    let entries = field.get().map(|named| named.0.as_slice()).unwrap_or_default();
    let mut fields = Vec::with_capacity(entries.len());
    for entry in entries {
        let name = header::name(context, &entry.name);
        if let Some(name) = &name {
            header::own(context, &entry.name, name);
        }
        let value = template(context, &entry.name.value, &entry.value);
        fields.extend(name.zip(value));
    }
    fields
}

fn response_headers(
    context: &mut Context<'_>,
    field: &Field<List<Text<FieldName>>>,
) -> Vec<HeaderName> {
    let list = field.get().map(|list| list.0.as_slice()).unwrap_or_default();
    for at in list {
        header::own(context, at, &at.value.0.0);
    }
    list.iter().map(|at| at.value.0.0.clone()).collect()
}
