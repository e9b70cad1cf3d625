//! How values of other crates are dumped: as the text people know them by.

use std::fmt::Display;
use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::ir::Span;

/// Text where there is something.
pub(super) fn text<T: Display, S: Serializer>(
    value: &Option<T>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    value.as_ref().map(T::to_string).serialize(serializer)
}

/// A list of texts.
pub(super) fn texts<T: Display, S: Serializer>(
    values: &[T],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(values.iter().map(T::to_string))
}

/// A list of texts where there is one.
pub(super) fn some_texts<T: Display, S: Serializer>(
    values: &Option<Vec<T>>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match values {
        Some(values) => texts(values, serializer),
        None => serializer.serialize_none(),
    }
}

/// A duration where there is one.
pub(super) fn span<S: Serializer>(
    value: &Option<Duration>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    value.map(|value| Span(value).to_string()).serialize(serializer)
}
