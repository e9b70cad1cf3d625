//! Changes a route makes to its requests and responses.

use http::{HeaderName, HeaderValue};
use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

use super::PathRewrite;

/// One change; a route's filters apply in order, response filters in the same order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Filter {
    /// Edits request headers after the proxy's own were set, so a route can override them.
    RequestHeaders(HeaderEdit),
    /// Edits response headers.
    ResponseHeaders(HeaderEdit),
    /// Changes the `Host` the upstream sees.
    RewriteHost(std::sync::Arc<str>),
    /// Changes the path the upstream sees.
    RewritePath(PathRewrite),
}

/// An edit of header fields: removed first, then set, then added.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct HeaderEdit {
    /// Fields that replace all others of their name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub set: Vec<HeaderText>,
    /// Fields added beside others of their name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub add: Vec<HeaderText>,
    /// Names whose fields go.
    #[serde(serialize_with = "names", skip_serializing_if = "Vec::is_empty")]
    pub remove: Vec<HeaderName>,
}

fn names<S: Serializer>(names: &[HeaderName], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(names.iter().map(HeaderName::as_str))
}

/// One header field. A value marked sensitive (`HeaderValue::set_sensitive`) is redacted in
/// dumps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderText {
    /// The field name.
    pub name: HeaderName,
    /// The value.
    pub value: HeaderValue,
}

impl Serialize for HeaderText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_struct("HeaderText", 2)?;
        out.serialize_field("name", self.name.as_str())?;
        if self.value.is_sensitive() {
            out.serialize_field("value", "<redacted>")?;
        } else {
            out.serialize_field("value", &String::from_utf8_lossy(self.value.as_bytes()))?;
        }
        out.end()
    }
}
