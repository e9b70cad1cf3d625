//! What of bodies is read ahead, and how fast responses go.

use std::num::NonZeroU64;

use super::context::Context;
use crate::ir::{Bodies, ResponseRate};
use crate::provider::file::field::{Field, Text};
use crate::provider::file::scalar::SizeLimit;

/// `request_buffer`, `response_rate` and `response_rate_after`, in this order.
pub(super) type Fields<'f> = [&'f Field<Text<SizeLimit>>; 3];

pub(super) fn bodies(context: &mut Context<'_>, fields: Fields<'_>, defaults: &Bodies) -> Bodies {
    let [request, rate, after] = fields;
    let given = |field: &Field<Text<SizeLimit>>, default: Option<u64>| {
        field.get().map_or(default, |text| text.0.0).filter(|size| *size > 0)
    };
    let before = defaults.response_rate;
    let free = given(after, before.map(|rate| rate.after)).unwrap_or(0);
    let bytes = given(rate, before.map(|rate| rate.bytes.get())).and_then(NonZeroU64::new);
    if let (None, Some(place)) = (bytes, after.place()) {
        let hint = "say how many bytes a second go from there, as in `response_rate: 1MiB`";
        context.error(place, "`response_rate_after` without a `response_rate`", Some(hint));
    }
    Bodies {
        request_buffer: given(request, defaults.request_buffer),
        response_rate: bytes.map(|bytes| ResponseRate { bytes, after: free }),
    }
}
