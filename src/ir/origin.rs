//! Where a piece of configuration came from.

use std::fmt;
use std::sync::Arc;

use serde::{Serialize, Serializer};

/// A cheap-to-clone name of a listener, route, upstream or object.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<str>);

impl Name {
    /// Wraps `name` as it is.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self(name.into())
    }

    /// The name's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Name {
    fn from(name: &str) -> Self {
        Self(Arc::from(name))
    }
}

impl From<String> for Name {
    fn from(name: String) -> Self {
        Self(Arc::from(name))
    }
}

impl std::borrow::Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// The object a route, upstream or certificate was made from; carried to logs, metrics, explain
/// and statuses.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Origin {
    /// The provider: `file`, `kubernetes`, …
    pub provider: Name,
    /// The kind of object: `route`, `upstream`, `Ingress`, …
    pub kind: Name,
    /// The object's namespace; empty where the provider has none.
    #[serde(skip_serializing_if = "is_empty")]
    pub namespace: Name,
    /// The object's name.
    pub name: Name,
    /// Which rule of the object, for objects with several.
    #[serde(skip_serializing_if = "is_empty")]
    pub rule: Name,
    /// Where a person finds it, for providers whose objects stand in files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub location: Option<Location>,
}

impl Origin {
    /// Whether `other` is the same object, wherever the two stand in their files.
    pub fn is_same_object(&self, other: &Self) -> bool {
        let Self { provider, kind, namespace, name, rule, location: _ } = self;
        (provider, kind, namespace, name, rule)
            == (&other.provider, &other.kind, &other.namespace, &other.name, &other.rule)
    }
}

fn is_empty(name: &Name) -> bool {
    name.as_str().is_empty()
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.provider, self.kind)?;
        for part in [&self.namespace, &self.name, &self.rule] {
            if !is_empty(part) {
                write!(f, "/{part}")?;
            }
        }
        match &self.location {
            Some(location) => write!(f, " ({location})"),
            None => Ok(()),
        }
    }
}

/// A place in a file; lines and columns count from 1.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Location {
    /// The file as the user named it.
    pub file: Arc<str>,
    /// The line, from 1; 0 where it is not known.
    pub line: u32,
    /// The column, from 1; 0 where it is not known.
    pub column: u32,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
            if self.column > 0 {
                write!(f, ":{}", self.column)?;
            }
        }
        Ok(())
    }
}
