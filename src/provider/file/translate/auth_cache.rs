//! Which answers of authentication services hold for further requests.

use ir::{AuthCache, Piece, Template};

use super::auth;
use super::context::{Context, shown};
use crate::ir;
use crate::provider::file::field::{At, Scalar};
use crate::provider::file::raw;
use crate::provider::file::scalar::StatusRange;

/// Which answers are kept of a service that is asked for `asked`.
pub(super) fn cache(
    context: &mut Context<'_>,
    at: &At<raw::AuthCache>,
    asked: &Template,
) -> Option<AuthCache> {
    let cache = read(context, at)?;
    if let (Some(open), Some(key)) = (cache.leaves_open(asked), at.value.key.given()) {
        let message = format!("key: what the service says of one request holds for any {open}");
        let hint = "add `{request_method}` and `{request_uri}` unless it decides by neither";
        context.warning(key.place, message, Some(hint));
    }
    Some(cache)
}

fn read(context: &mut Context<'_>, at: &At<raw::AuthCache>) -> Option<AuthCache> {
    let raw = &at.value;
    if raw.key.is_absent() {
        let hint = "name all that the service decides by, as in `{http_authorization}`";
        context.error(at.place, "it is not said which requests are alike: no `key`", Some(hint));
    }
    let written = raw.key.given()?;
    let key = auth::template(context, "key", &raw.key)?;
    if !key.pieces().iter().any(|piece| matches!(piece, Piece::Variable(_))) {
        let hint = "name what tells who asks, as in `{http_authorization}`";
        let message = format!("key: {} is the same for everybody", shown(written));
        context.error(written.place, message, Some(hint));
    }
    let Some(list) = raw.valid.given() else {
        return Some(AuthCache { key, valid: AuthCache::usual_times() });
    };
    let mut valid = Vec::with_capacity(list.value.0.len());
    for entry in &list.value.0 {
        let range = match StatusRange::parse(&entry.name.value) {
            Ok(range) => range,
            Err(error) => {
                let (what, hint) = error.split_once('\n').unwrap_or((&error, ""));
                let message = format!("valid: {} {what}", shown(&entry.name));
                context.error(entry.name.place, message, Some(hint).filter(|it| !it.is_empty()));
                continue;
            }
        };
        if let Some(time) = entry.value.get() {
            valid.push((range.0, range.1, time.0.0));
        }
    }
    Some(AuthCache { key, valid })
}
