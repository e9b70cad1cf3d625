//! Answers of another upstream in the place of errors.

use ir::{ErrorPages, Name};

use super::context::Context;
use super::host::Names;
use super::{auth, or};
use crate::ir;
use crate::provider::file::field::{Field, List};
use crate::provider::file::raw;

pub(super) fn error_pages(
    context: &mut Context<'_>,
    field: &Field<raw::ErrorPages>,
    names: &Names<'_>,
) -> Option<ErrorPages> {
    let at = field.given()?;
    let raw = &at.value;
    let no_endpoint = or(&raw.no_endpoint, false);
    let mut statuses = Vec::new();
    if let Some(list) = raw.statuses.given() {
        let List(ranges, left_out) = &list.value.0;
        statuses.extend(ranges.iter().map(|at| (at.value.0.0, at.value.0.1)));
        if let Some(low) = ranges.iter().find(|at| at.value.0.0 < 400) {
            let hint = "use 400 to 599";
            context.error(low.place, "statuses: below 400 there are no errors", Some(hint));
        } else if statuses.is_empty() && !left_out {
            context.error(list.place, "there is no status to replace", Some("for example `5xx`"));
        }
    } else if raw.statuses.is_absent() && !no_endpoint {
        let hint = "add `statuses`, for example `5xx`, or `no_endpoint: true`";
        context.error(at.place, "it is not said which errors are replaced", Some(hint));
    }
    if raw.upstream.is_absent() {
        let hint = "add `upstream`";
        context.error(at.place, "it is not said who answers in the place of errors", Some(hint));
    }
    let upstream = raw.upstream.given()?;
    names.check(context, "upstream", upstream);
    let headers = auth::template_fields(context, &raw.headers);
    let upstream = Name::from(&*upstream.value);
    Some(ErrorPages { statuses, no_endpoint, upstream, headers })
}
