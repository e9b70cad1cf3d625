//! Edits of header fields.

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::ir;

/// An edit ready to apply: removed first, then set, then added.
#[derive(Debug)]
pub struct HeaderEdits {
    remove: Box<[HeaderName]>,
    set: Box<[(HeaderName, HeaderValue)]>,
    add: Box<[(HeaderName, HeaderValue)]>,
}

impl HeaderEdits {
    /// Compiles an edit.
    pub fn new(edit: &ir::HeaderEdit) -> Self {
        let fields = |texts: &[ir::HeaderText]| {
            texts.iter().map(|text| (text.name.clone(), text.value.clone())).collect()
        };
        Self {
            remove: edit.remove.as_slice().into(),
            set: fields(&edit.set),
            add: fields(&edit.add),
        }
    }

    /// Applies it.
    pub fn apply(&self, headers: &mut HeaderMap) {
        for name in &self.remove {
            headers.remove(name);
        }
        // The first `set` of a name replaces what is there; the same name set twice keeps both.
        let mut replaced: Option<&HeaderName> = None;
        for (name, value) in &self.set {
            if replaced == Some(name) {
                headers.append(name, value.clone());
            } else {
                headers.insert(name, value.clone());
            }
            replaced = Some(name);
        }
        for (name, value) in &self.add {
            headers.append(name, value.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(name: &'static str, value: &'static str) -> ir::HeaderText {
        ir::HeaderText {
            name: HeaderName::from_static(name),
            value: HeaderValue::from_static(value),
        }
    }

    #[test]
    fn fields_are_removed_then_set_then_added() {
        let edits = HeaderEdits::new(&ir::HeaderEdit {
            remove: vec![HeaderName::from_static("x-gone")],
            set: vec![text("x-set", "new"), text("x-twice", "1"), text("x-twice", "2")],
            add: vec![text("x-add", "more"), text("x-gone", "back")],
        });
        let mut headers = HeaderMap::new();
        for (name, value) in [("x-gone", "1"), ("x-set", "old"), ("x-set", "older"), ("x-add", "0")]
        {
            headers.append(name, HeaderValue::from_static(value));
        }
        edits.apply(&mut headers);
        let all = |name: &str| -> Vec<_> {
            headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect()
        };
        assert_eq!(all("x-gone"), ["back"]);
        assert_eq!(all("x-set"), ["new"]);
        assert_eq!(all("x-twice"), ["1", "2"]);
        assert_eq!(all("x-add"), ["0", "more"]);
    }
}
