//! Bytes that must not be shown.

use std::fmt;
use std::sync::Arc;

use serde::{Serialize, Serializer};

/// Key material or another secret: compared by content, never printed or serialised.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SecretBytes(Arc<[u8]>);

impl SecretBytes {
    /// Takes `bytes` into custody.
    pub fn new(bytes: impl Into<Arc<[u8]>>) -> Self {
        Self(bytes.into())
    }

    /// The bytes themselves, for the one who must use them.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

/// Text that may have come out of a file or variable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Text {
    /// Shown in dumps.
    Plain(Arc<str>),
    /// Never shown.
    Secret(SecretBytes),
}

impl Text {
    /// `text`, kept from being shown where `secret`.
    pub fn new(text: &str, secret: bool) -> Self {
        if secret { Self::Secret(SecretBytes::new(text.as_bytes())) } else { Self::from(text) }
    }

    /// The bytes, for the one who must use them.
    pub fn expose(&self) -> &[u8] {
        match self {
            Self::Plain(text) => text.as_bytes(),
            Self::Secret(bytes) => bytes.expose(),
        }
    }

    /// The same as text. (It was made from text, so that it is never anything else.)
    pub fn expose_str(&self) -> &str {
        std::str::from_utf8(self.expose()).unwrap_or_default()
    }

    /// Whether it is never shown.
    pub fn is_secret(&self) -> bool {
        matches!(self, Self::Secret(_))
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.expose().is_empty()
    }
}

impl fmt::Display for Text {
    /// For people: what is secret is not shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain(text) => f.write_str(text),
            Self::Secret(_) => f.write_str("<redacted>"),
        }
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self::Plain(text.into())
    }
}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<redacted>")
    }
}

impl Serialize for SecretBytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("<redacted>")
    }
}
