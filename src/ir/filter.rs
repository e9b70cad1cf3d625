//! Changes a route makes to its requests and responses.

use std::sync::Arc;

use http::{HeaderName, HeaderValue};
use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

use super::{PathRewrite, Template};

/// One change; a route's filters apply in order, response filters in the same order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Filter {
    /// Edits request headers after the proxy's own were set, so a route can override them.
    RequestHeaders(HeaderEdit),
    /// Edits response headers.
    ResponseHeaders(ResponseEdit),
    /// Edits attributes of the cookies that the upstream sets.
    ResponseCookies(CookieEdit),
    /// Edits the URLs to which the upstream sends clients.
    ResponseLocation(LocationEdit),
    /// Changes the `Host` the upstream sees.
    RewriteHost(Arc<str>),
    /// Changes it to what a template comes to; where that is no host the request is answered 400.
    RewriteHostFrom(Template),
    /// Changes the path the upstream sees.
    RewritePath(PathRewrite),
}

/// An edit of response headers, and which responses it is for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ResponseEdit {
    /// The edit.
    #[serde(flatten)]
    pub edit: HeaderEdit,
    /// Only responses with one of these statuses, both ends included; empty is all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub statuses: Vec<(u16, u16)>,
    /// Only responses of one of these media types, without parameters and in lower case; empty is
    /// all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub types: Vec<Arc<str>>,
}

impl From<HeaderEdit> for ResponseEdit {
    /// An edit of all responses.
    fn from(edit: HeaderEdit) -> Self {
        Self { edit, ..Self::default() }
    }
}

/// An edit of attributes of `Set-Cookie` fields (RFC 6265 §4.1).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CookieEdit {
    /// Where Domain is `from`, whatever the case and without regard to a dot before either, it
    /// becomes `to`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domain: Option<Replace>,
    /// Where Path begins with `from`, that becomes `to`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<Replace>,
}

/// An edit of the URL in `Location` and `Refresh`: where it begins with `from`, that becomes what
/// `to` comes to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LocationEdit {
    /// What it must begin with, byte for byte.
    pub from: Arc<str>,
    /// What that becomes.
    pub to: Template,
}

/// A text that becomes another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Replace {
    /// What it was.
    pub from: Arc<str>,
    /// What it becomes.
    pub to: Arc<str>,
}

/// An edit of header fields: removed first, then set, then added.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct HeaderEdit {
    /// Fields that replace all others of their name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub set: Vec<HeaderText>,
    /// The same with values that depend on the request, after those of `set`. A value that comes
    /// out empty, or cannot stand in a header, takes the others away and makes no field.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub set_from: Vec<HeaderTemplate>,
    /// Fields added beside others of their name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub add: Vec<HeaderText>,
    /// The same with values that depend on the request. One that comes out empty, or cannot stand
    /// in a header, adds nothing.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub add_from: Vec<HeaderTemplate>,
    /// Names whose fields go.
    #[serde(serialize_with = "names", skip_serializing_if = "Vec::is_empty")]
    pub remove: Vec<HeaderName>,
    /// Beginnings, in lower case, of names whose fields go.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub remove_starting: Vec<Arc<str>>,
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

/// One header field whose value depends on the request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HeaderTemplate {
    /// The field name.
    #[serde(serialize_with = "super::route::header_name")]
    pub name: HeaderName,
    /// The value.
    pub template: Template,
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
