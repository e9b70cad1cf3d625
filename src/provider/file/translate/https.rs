//! Keeping clients on https.

use std::time::Duration;

use ir::{Hsts, HttpsRedirect};

use super::context::Context;
use super::{or, route};
use crate::ir;
use crate::provider::file::field::{Field, OneOf, Text};
use crate::provider::file::raw;
use crate::provider::file::scalar::Switch;

/// What browsers ask of hosts that want to be built in.
const PRELOADED: Duration = Duration::from_secs(365 * 86_400);

/// The mapping of a policy that is a switch or a mapping; an error is the policy where there is
/// none.
fn detail<'a, T: Clone + Default, R>(
    field: &'a Field<OneOf<Text<Switch>, R>>,
    defaults: &Option<T>,
) -> Result<&'a R, Option<T>> {
    match field.get() {
        None => Err(defaults.clone()),
        Some(OneOf::Scalar(Text(Switch(false)))) => Err(None),
        Some(OneOf::Scalar(Text(Switch(true)))) => Err(Some(defaults.clone().unwrap_or_default())),
        Some(OneOf::Map(raw)) => Ok(raw),
    }
}

pub(super) fn redirect(
    context: &mut Context<'_>,
    field: &Field<OneOf<Text<Switch>, raw::HttpsRedirect>>,
    defaults: &Option<HttpsRedirect>,
) -> Option<HttpsRedirect> {
    let raw = match detail(field, defaults) {
        Ok(raw) => raw,
        Err(whole) => return whole,
    };
    let mut redirect = defaults.clone().unwrap_or_default();
    if let Some(at) = raw.port.given() {
        if at.value == 0 {
            context.error(at.place, "port: there is no port 0", None);
        }
        redirect.port = Some(at.value);
    }
    redirect.status = raw.status.get().map_or(redirect.status, |status| status.0.0);
    redirect.strip_trailing_slash = or(&raw.strip_trailing_slash, redirect.strip_trailing_slash);
    if let Some(list) = raw.exempt.get() {
        let paths = list.0.iter().filter_map(|at| route::plain_path(context, at));
        redirect.exempt = paths.map(Into::into).collect();
    }
    Some(redirect)
}

pub(super) fn hsts(
    context: &mut Context<'_>,
    field: &Field<OneOf<Text<Switch>, raw::Hsts>>,
    defaults: &Option<Hsts>,
) -> Option<Hsts> {
    let raw = match detail(field, defaults) {
        Ok(raw) => raw,
        Err(whole) => return whole,
    };
    let mut hsts = defaults.clone().unwrap_or_default();
    if let Some(at) = raw.max_age.given() {
        hsts.max_age = at.value.0.0;
        if hsts.max_age.subsec_nanos() > 0 {
            let hint = "browsers count in whole seconds";
            context.error(at.place, "`max_age` ends within a second", Some(hint));
        }
    }
    hsts.include_subdomains = or(&raw.include_subdomains, hsts.include_subdomains);
    hsts.preload = or(&raw.preload, hsts.preload);
    if let Some(at) = raw.preload.given()
        && hsts.preload
        && !(hsts.include_subdomains && hsts.max_age >= PRELOADED)
    {
        let hint = "they ask for `include_subdomains: true` and a `max_age` of 365d";
        context.warning(at.place, "browsers will not have this host built in", Some(hint));
    }
    Some(hsts)
}
