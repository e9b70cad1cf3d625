//! Numbers that must lie within bounds.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::time::Duration;

use ir::{Permille, Span};

use super::context::Context;
use crate::ir;
use crate::provider::file::field::{Field, Text};
use crate::provider::file::node::Place;
use crate::provider::file::scalar::{Factor, Period, Share};

/// Takes over a whole number.
pub(super) fn count(
    context: &mut Context<'_>,
    key: &str,
    field: &Field<u32>,
    range: RangeInclusive<u32>,
    target: &mut u32,
) {
    let Some(at) = field.given() else { return };
    *target = at.value;
    if !range.contains(&at.value) {
        let most: &dyn Display = range.end();
        out(context, at.place, key, range.start(), Some(most).filter(|_| *range.end() < u32::MAX));
    }
}

/// Takes over a limit that is none where nothing is said, and not 0.
pub(super) fn limit(
    context: &mut Context<'_>,
    key: &str,
    field: &Field<u32>,
    target: &mut Option<u32>,
) {
    let Some(at) = field.given() else { return };
    *target = Some(at.value);
    if at.value == 0 {
        let hint = "leave it out for no limit";
        context.error(at.place, format!("`{key}` must not be 0"), Some(hint));
    }
}

/// Takes over a factor; the bounds are in thousandths.
pub(super) fn factor(
    context: &mut Context<'_>,
    key: &str,
    field: &Field<Text<Factor>>,
    range: RangeInclusive<u32>,
    target: &mut Permille,
) {
    let Some(at) = field.given() else { return };
    *target = at.value.0.0;
    if !range.contains(&at.value.0.0.0) {
        let (least, most) = (Permille(*range.start()), Permille(*range.end()));
        out(context, at.place, key, &least.factor(), Some(&most.factor()));
    }
}

/// Takes over a share that must not be 0.
pub(super) fn share(
    context: &mut Context<'_>,
    key: &str,
    field: &Field<Text<Share>>,
    target: &mut Permille,
) {
    let Some(at) = field.given() else { return };
    *target = at.value.0.0;
    if at.value.0.0 == Permille(0) {
        context.error(at.place, format!("`{key}` must not be 0"), None);
    }
}

/// Takes over a duration of at least `least`.
pub(super) fn at_least(
    context: &mut Context<'_>,
    key: &str,
    field: &Field<Text<Period>>,
    least: Duration,
    target: &mut Duration,
) {
    let Some(at) = field.given() else { return };
    *target = at.value.0.0;
    if at.value.0.0 < least {
        out(context, at.place, key, &Span(least), None);
    }
}

fn out(
    context: &mut Context<'_>,
    place: Place,
    key: &str,
    least: &dyn Display,
    most: Option<&dyn Display>,
) {
    let message = match most {
        Some(most) => format!("`{key}` must lie between {least} and {most}"),
        None => format!("`{key}` must be at least {least}"),
    };
    context.error(place, message, None);
}
