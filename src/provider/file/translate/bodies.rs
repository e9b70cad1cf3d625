//! What of bodies is read ahead, and how fast responses go.

use std::num::NonZeroU64;

use super::context::Context;
use super::or;
use crate::ir::{Bodies, ResponseBuffer, ResponseRate};
use crate::provider::file::field::{At, Field, OneOf, Text};
use crate::provider::file::raw;
use crate::provider::file::scalar::SizeLimit;

/// What is written of bodies, in a route or in `defaults`.
pub(super) struct Fields<'f> {
    pub request: &'f Field<Text<SizeLimit>>,
    pub response: &'f Field<OneOf<Text<SizeLimit>, raw::ResponseBuffer>>,
    pub rate: &'f Field<Text<SizeLimit>>,
    pub rate_after: &'f Field<Text<SizeLimit>>,
}

pub(super) fn bodies(context: &mut Context<'_>, fields: &Fields<'_>, defaults: &Bodies) -> Bodies {
    let given = |field: &Field<Text<SizeLimit>>, default: Option<u64>| {
        field.get().map_or(default, |text| text.0.0).filter(|size| *size > 0)
    };
    let before = defaults.response_rate;
    let free = given(fields.rate_after, before.map(|rate| rate.after)).unwrap_or(0);
    let bytes = given(fields.rate, before.map(|rate| rate.bytes.get())).and_then(NonZeroU64::new);
    if let (None, Some(place)) = (bytes, fields.rate_after.place()) {
        let hint = "say how many bytes a second go from there, as in `response_rate: 1MiB`";
        context.error(place, "`response_rate_after` without a `response_rate`", Some(hint));
    }
    Bodies {
        request_buffer: given(fields.request, defaults.request_buffer),
        response_buffer: match fields.response.given() {
            None => defaults.response_buffer,
            Some(at) => response_buffer(context, at, defaults.response_buffer),
        },
        response_rate: bytes.map(|bytes| ResponseRate { bytes, after: free }),
    }
}

fn response_buffer(
    context: &mut Context<'_>,
    at: &At<OneOf<Text<SizeLimit>, raw::ResponseBuffer>>,
    default: Option<ResponseBuffer>,
) -> Option<ResponseBuffer> {
    let of = |size: Option<u64>, by_default| {
        let size = size.and_then(NonZeroU64::new)?;
        Some(ResponseBuffer { size, by_default })
    };
    let raw = match &at.value {
        OneOf::Scalar(size) => return of(size.0.0, true),
        OneOf::Map(raw) => raw,
    };
    let by_default = or(&raw.by_default, true);
    match &raw.size {
        Field::Given(size) => of(size.value.0.0, by_default),
        Field::Bad => None,
        Field::Absent => {
            if default.is_none() {
                let hint = "add one, as in `size: 1MiB`";
                context.error(at.place, "`response_buffer` without a `size`", Some(hint));
            }
            default.map(|default| ResponseBuffer { by_default, ..default })
        }
    }
}
