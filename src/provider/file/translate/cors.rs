//! Which pages of other origins may use a route.

use ir::{Cors, OriginPattern};

use super::context::Context;
use crate::ir;
use crate::provider::file::field::{Field, OneOf, OneOrMany, Text};
use crate::provider::file::raw;
use crate::provider::file::scalar::Off;

/// The policy; that of the defaults where nothing is said.
pub(super) fn cors(
    context: &mut Context<'_>,
    field: &Field<OneOf<Text<Off>, raw::Cors>>,
    default: &Option<Cors>,
) -> Option<Cors> {
    let Some(at) = field.given() else { return default.clone() };
    let OneOf::Map(raw) = &at.value else { return None };
    let mut cors = Cors::default();
    match raw.origins.given() {
        Some(list) => {
            let OneOrMany(origins) = &list.value;
            if origins.0.is_empty() && !origins.1 {
                let hint = "write `cors: off` to leave CORS to the upstream";
                context.error(list.place, "`origins` is empty", Some(hint));
            }
            cors.origins = origins.0.iter().map(|at| at.value.0.0.clone()).collect();
        }
        None if raw.origins.is_absent() => {
            let hint = "for example `cors: { origins: [\"https://app.example.com\"] }`";
            context.error(at.place, "the CORS policy has no `origins`", Some(hint));
        }
        None => {}
    }
    if let Some(list) = raw.methods.get() {
        cors.methods = list.0.iter().map(|at| at.value.0.0.clone()).collect();
    }
    if let Some(list) = raw.headers.get() {
        cors.headers = list.0.iter().map(|at| at.value.0.0.clone()).collect();
    }
    if let Some(list) = raw.expose.get() {
        cors.expose = list.0.iter().map(|at| at.value.0.0.clone()).collect();
    }
    if let Some(age) = raw.max_age.get() {
        cors.max_age = age.0.0;
    }
    if let Some(credentials) = raw.credentials.given() {
        cors.credentials = credentials.value;
        if credentials.value && cors.origins.contains(&OriginPattern::Any) {
            let hint = "name the origins that may send them";
            let message = "browsers send no credentials where any origin is allowed";
            context.warning(credentials.place, message, Some(hint));
        }
    }
    Some(cors)
}
