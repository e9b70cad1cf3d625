//! ssl-passthrough.

use serde::Serialize;

use super::reader::Reader;
use super::value;

/// TLS connections that are not ours to end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Passthrough {
    /// Whether connections for the host go to the back end as they are. Default false. Only where
    /// the controller has it turned on.
    pub enabled: Option<bool>,
}

impl Passthrough {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        Self { enabled: reader.value("ssl-passthrough", value::boolean) }
    }
}
