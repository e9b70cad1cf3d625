//! What is written down about requests.

use serde::Serialize;

use super::reader::Reader;
use super::value;

/// Logs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Log {
    /// Whether requests get a line in the access log. Default true.
    pub access: Option<bool>,
}

impl Log {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        Self { access: reader.value("enable-access-log", value::boolean) }
    }
}
