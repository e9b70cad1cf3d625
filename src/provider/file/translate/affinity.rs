//! Session affinity.

use std::sync::Arc;

use ir::{Affinity, AffinityCookie, AffinityKey, AffinityMode, HostPattern, SameSite, SecretBytes};

use super::context::{Context, shown};
use super::or;
use crate::ir;
use crate::provider::file::field::{At, Field, OneOf};
use crate::provider::file::raw::{self, AffinityWord};

/// Shorter secrets can be guessed.
const SHORTEST_SECRET: usize = 16;

pub(super) fn affinity(
    context: &mut Context<'_>,
    field: &Field<OneOf<AffinityWord, raw::Affinity>>,
) -> Option<Affinity> {
    let at = field.given()?;
    let raw = match &at.value {
        OneOf::Scalar(AffinityWord::Cookie) => {
            let by = AffinityKey::Cookie(AffinityCookie::default());
            return Some(Affinity { by, mode: AffinityMode::default() });
        }
        OneOf::Map(raw) => raw,
    };
    let by = match (&raw.cookie, &raw.header) {
        (Field::Given(at), Field::Absent) => AffinityKey::Cookie(match &at.value {
            OneOf::Scalar(name) => {
                let name = At { value: name.clone(), place: at.place, substituted: at.substituted };
                let mut cookie = AffinityCookie::default();
                cookie.name = cookie_name(context, &name).unwrap_or(cookie.name);
                cookie
            }
            OneOf::Map(raw) => cookie(context, raw),
        }),
        (Field::Absent, Field::Given(at)) => AffinityKey::Header(at.value.0.0.clone()),
        (Field::Bad, _) | (_, Field::Bad) => return None,
        _ => {
            let hint = "write `cookie`, `{ cookie: name }` or `{ header: name }`";
            context.error(at.place, "`affinity` needs one of `cookie` and `header`", Some(hint));
            return None;
        }
    };
    let mode = match raw.mode.get() {
        None | Some(raw::AffinityMode::Balanced) => AffinityMode::Balanced,
        Some(raw::AffinityMode::Persistent) => AffinityMode::Persistent,
    };
    Some(Affinity { by, mode })
}

fn cookie(context: &mut Context<'_>, raw: &raw::AffinityCookie) -> AffinityCookie {
    let mut cookie = AffinityCookie::default();
    if let Some(name) = raw.name.given().and_then(|at| cookie_name(context, at)) {
        cookie.name = name;
    }
    if let Some(path) = raw.path.given().and_then(|at| path(context, at)) {
        cookie.path = path;
    }
    cookie.domain = raw.domain.given().and_then(|at| domain(context, at));
    cookie.max_age = raw.max_age.given().map(|at| {
        if at.value.0.0.is_zero() {
            let hint = "leave it out for a cookie that ends with the browser's session";
            context.error(at.place, "`max_age` must not be 0", Some(hint));
        }
        at.value.0.0
    });
    cookie.secure = raw.secure.get().copied();
    cookie.http_only = or(&raw.http_only, cookie.http_only);
    cookie.same_site = raw.same_site.get().map(|same_site| match same_site {
        raw::SameSite::Lax => SameSite::Lax,
        raw::SameSite::None => SameSite::None,
        raw::SameSite::Strict => SameSite::Strict,
    });
    cookie.partitioned = or(&raw.partitioned, cookie.partitioned);
    cookie.change_on_failure = or(&raw.change_on_failure, cookie.change_on_failure);
    cookie.secret = raw.secret.given().map(|at| secret(context, at));
    refused_by_browsers(context, raw, &cookie);
    cookie
}

/// Attributes that go together only with others (draft-ietf-httpbis-rfc6265bis).
fn refused_by_browsers(
    context: &mut Context<'_>,
    raw: &raw::AffinityCookie,
    cookie: &AffinityCookie,
) {
    let hint = "write `secure: true`; browsers refuse the cookie without";
    let needs_secure = [
        (
            raw.same_site.place().filter(|_| cookie.same_site == Some(SameSite::None)),
            "`same_site: none`",
        ),
        (raw.partitioned.place().filter(|_| cookie.partitioned), "`partitioned`"),
    ];
    for (place, what) in needs_secure {
        if let Some(place) = place.filter(|_| cookie.secure == Some(false)) {
            context.error(place, format!("{what} in a cookie that is not `secure`"), Some(hint));
        }
    }
    let Some(at) = raw.name.given() else { return };
    let host = cookie.name.starts_with("__Host-");
    if (host || cookie.name.starts_with("__Secure-")) && cookie.secure != Some(true) {
        context.error(at.place, "a cookie of this name must be `secure`", Some(hint));
    }
    if host && (cookie.domain.is_some() || &*cookie.path != "/") {
        let hint = "leave out `domain` and `path`, or take `__Secure-` instead";
        context.error(at.place, "a `__Host-` cookie has no `domain` and the path `/`", Some(hint));
    }
}

/// The name of a cookie (RFC 6265 §4.1.1, a token).
pub(super) fn cookie_name(context: &mut Context<'_>, at: &At<String>) -> Option<Arc<str>> {
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if !at.value.is_empty() && at.value.bytes().all(token) {
        return Some(Arc::from(&*at.value));
    }
    let hint = "letters, digits, `-`, `_` and `.`";
    context.error(at.place, format!("{} is no cookie name", shown(at)), Some(hint));
    None
}

fn path(context: &mut Context<'_>, at: &At<String>) -> Option<Arc<str>> {
    if at.value.starts_with('/') && at.value.bytes().all(|b| b.is_ascii_graphic() && b != b';') {
        return Some(Arc::from(&*at.value));
    }
    context.error(at.place, format!("path: {} is no cookie path", shown(at)), None);
    None
}

fn domain(context: &mut Context<'_>, at: &At<String>) -> Option<Arc<str>> {
    match HostPattern::parse(at.value.trim_start_matches('.')) {
        Ok(HostPattern::Exact(name)) => Some(Arc::from(&*name)),
        _ => {
            context.error(at.place, format!("domain: {} is no domain", shown(at)), None);
            None
        }
    }
}

fn secret(context: &mut Context<'_>, at: &At<String>) -> SecretBytes {
    if at.value.len() < SHORTEST_SECRET {
        let message = format!("`secret` has fewer than {SHORTEST_SECRET} characters");
        let hint = "make one with `head -c 32 /dev/urandom | base64`";
        context.error(at.place, message, Some(hint));
    } else if !at.substituted {
        let hint = "keep it in a file, `${file:affinity.key}`, or a variable, `${AFFINITY_KEY}`";
        context.warning(at.place, "a secret stands in the configuration", Some(hint));
    }
    SecretBytes::new(at.value.as_bytes())
}
