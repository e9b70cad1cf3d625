//! A parsed document as a tree in which every node knows its place.

/// Where a node stands: the index of its document's file, line and column from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::provider) struct Place {
    /// Index into the inputs' documents.
    pub file: u32,
    /// From 1.
    pub line: u32,
    /// From 1.
    pub column: u32,
}

/// One node of a document.
#[derive(Clone)]
pub(in crate::provider) struct Node {
    pub value: Value,
    pub place: Place,
}

/// What a node is.
#[derive(Clone)]
pub(in crate::provider) enum Value {
    /// Was reported already; whoever asks for its content gets nothing and keeps silent.
    Broken,
    List(Vec<Node>),
    Map(Vec<(Node, Node)>),
    Null,
    Scalar(Scalar),
}

/// A scalar before anyone decided on its type.
#[derive(Clone)]
pub(in crate::provider) struct Scalar {
    pub text: String,
    /// Whether it was written without quotes, so that it may be a number or a truth value.
    pub plain: bool,
    /// Whether anything was substituted in it; such text is never shown and never changes
    /// structure.
    pub substituted: bool,
}

impl Node {
    /// The scalar's text.
    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar(scalar) => Some(&scalar.text),
            Value::Broken | Value::List(_) | Value::Map(_) | Value::Null => None,
        }
    }

    /// Whether anything was substituted in it or below it.
    pub fn is_substituted(&self) -> bool {
        match &self.value {
            Value::Broken | Value::Null => false,
            Value::List(items) => items.iter().any(Self::is_substituted),
            Value::Map(entries) => {
                entries.iter().any(|(key, value)| key.is_substituted() || value.is_substituted())
            }
            Value::Scalar(scalar) => scalar.substituted,
        }
    }

    /// What the node is, for messages.
    pub fn describe(&self) -> String {
        match &self.value {
            Value::Broken => "a value reported before".to_owned(),
            Value::List(_) => "a list".to_owned(),
            Value::Map(_) => "a mapping".to_owned(),
            Value::Null => "nothing".to_owned(),
            Value::Scalar(scalar) => scalar.shown(),
        }
    }
}

impl Scalar {
    /// The text for messages. What was substituted may be a secret, so it is not shown.
    pub fn shown(&self) -> String {
        const LONGEST: usize = 60;
        if self.substituted {
            return "the substituted value".to_owned();
        }
        let mut text: String = self.text.chars().take(LONGEST).collect();
        if text.len() < self.text.len() {
            text.push('…');
        }
        format!("`{}`", text.escape_debug().to_string().replace("\\'", "'").replace("\\\"", "\""))
    }
}
