//! Edits of header fields.

use std::sync::Arc;

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::template::{Draft, Facts, Place};
use crate::ir;

/// An edit ready to apply: removed first, then set, then added.
#[derive(Debug)]
pub struct HeaderEdits {
    remove: Box<[HeaderName]>,
    remove_starting: Box<[Arc<str>]>,
    set: Box<[(HeaderName, Value)]>,
    add: Box<[(HeaderName, Value)]>,
    /// How many of the values depend on the request.
    open: usize,
}

/// A value of a field.
#[derive(Debug)]
enum Value {
    Constant(HeaderValue),
    /// The next one of those that were made for the request.
    Open(ir::Template),
}

impl HeaderEdits {
    /// Compiles an edit.
    pub fn new(edit: &ir::HeaderEdit) -> Self {
        let fields = |texts: &[ir::HeaderText], open: &[ir::HeaderTemplate]| {
            let constant =
                texts.iter().map(|text| (text.name.clone(), Value::Constant(text.value.clone())));
            let open = open.iter().map(|field| (field.name.clone(), Value::new(&field.template)));
            constant.chain(open).collect::<Box<[_]>>()
        };
        let set = fields(&edit.set, &edit.set_from);
        let add = fields(&edit.add, &edit.add_from);
        let is_open = |(_, value): &&(HeaderName, Value)| matches!(value, Value::Open(_));
        let open = set.iter().chain(&add).filter(is_open).count();
        Self {
            remove: edit.remove.as_slice().into(),
            remove_starting: edit.remove_starting.as_slice().into(),
            set,
            add,
            open,
        }
    }

    /// Whether any of its values depends on the request.
    pub fn is_open(&self) -> bool {
        self.open > 0
    }

    /// Its values that depend on the request, in the order in which [`HeaderEdits::apply`] wants
    /// them.
    pub fn drafts(&self, facts: &Facts<'_>, out: &mut Vec<Draft>) {
        for (_, value) in self.set.iter().chain(&self.add) {
            if let Value::Open(template) = value {
                out.push(Draft::new(template, facts, Place::Header));
            }
        }
    }

    /// Passes over the values that are this edit's.
    pub fn skip(&self, values: &mut impl Iterator<Item = Option<HeaderValue>>) {
        values.take(self.open).for_each(drop);
    }

    /// Applies it, with its share of the `values` that depend on the request.
    pub fn apply(
        &self,
        headers: &mut HeaderMap,
        values: &mut impl Iterator<Item = Option<HeaderValue>>,
    ) {
        for name in &self.remove {
            headers.remove(name);
        }
        if !self.remove_starting.is_empty() {
            remove_starting(&self.remove_starting, headers);
        }
        // The first `set` of a name replaces what is there; the same name set twice keeps both.
        let mut replaced: Option<&HeaderName> = None;
        for (name, value) in &self.set {
            let value = value.take(values);
            match value {
                Some(value) if replaced == Some(name) => {
                    headers.append(name, value);
                }
                Some(value) => {
                    headers.insert(name, value);
                }
                None if replaced == Some(name) => {}
                None => {
                    headers.remove(name);
                }
            }
            replaced = Some(name);
        }
        for (name, value) in &self.add {
            if let Some(value) = value.take(values) {
                headers.append(name, value);
            }
        }
    }
}

impl Value {
    fn new(template: &ir::Template) -> Self {
        let constant = template.as_literal().filter(|text| !text.is_empty());
        match constant.and_then(|text| HeaderValue::from_str(text).ok()) {
            Some(mut value) => {
                value.set_sensitive(template.is_secret());
                Self::Constant(value)
            }
            None => Self::Open(template.clone()),
        }
    }

    fn take(&self, values: &mut impl Iterator<Item = Option<HeaderValue>>) -> Option<HeaderValue> {
        match self {
            Self::Constant(value) => Some(value.clone()),
            Self::Open(_) => values.next().flatten(),
        }
    }
}

fn remove_starting(starts: &[Arc<str>], headers: &mut HeaderMap) {
    let goes = |name: &&HeaderName| starts.iter().any(|start| name.as_str().starts_with(&**start));
    let gone: Vec<_> = headers.keys().filter(goes).cloned().collect();
    for name in gone {
        headers.remove(name);
    }
}

/// An edit of responses.
#[derive(Debug)]
pub struct ResponseEdits {
    edits: HeaderEdits,
    statuses: Box<[(u16, u16)]>,
    types: Box<[Arc<str>]>,
}

impl ResponseEdits {
    /// Compiles an edit.
    pub fn new(edit: &ir::ResponseEdit) -> Self {
        Self {
            edits: HeaderEdits::new(&edit.edit),
            statuses: edit.statuses.as_slice().into(),
            types: edit.types.as_slice().into(),
        }
    }

    /// The edit itself.
    pub fn edits(&self) -> &HeaderEdits {
        &self.edits
    }

    /// Applies it where it is for such a response.
    pub fn apply(
        &self,
        status: StatusCode,
        headers: &mut HeaderMap,
        values: &mut impl Iterator<Item = Option<HeaderValue>>,
    ) {
        if self.is_for(status, headers) {
            self.edits.apply(headers, values);
        } else {
            self.edits.skip(values);
        }
    }

    fn is_for(&self, status: StatusCode, headers: &HeaderMap) -> bool {
        let status = status.as_u16();
        let of_status = self.statuses.is_empty()
            || self.statuses.iter().any(|(from, to)| (*from..=*to).contains(&status));
        if !of_status || self.types.is_empty() {
            return of_status;
        }
        let value = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
        let media = value.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
        self.types.iter().any(|known| known.as_bytes().eq_ignore_ascii_case(media))
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
            remove_starting: vec!["x-old-".into()],
            ..ir::HeaderEdit::default()
        });
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("x-gone", "1"),
            ("x-set", "old"),
            ("x-set", "older"),
            ("x-add", "0"),
            ("x-old-a", "1"),
            ("x-old-b", "1"),
        ] {
            headers.append(name, HeaderValue::from_static(value));
        }
        edits.apply(&mut headers, &mut std::iter::empty());
        let all = |name: &str| -> Vec<_> {
            headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect()
        };
        assert_eq!(all("x-gone"), ["back"]);
        assert_eq!(all("x-set"), ["new"]);
        assert_eq!(all("x-twice"), ["1", "2"]);
        assert_eq!(all("x-add"), ["0", "more"]);
        assert_eq!(headers.keys_len(), 4);
    }

    #[test]
    fn a_value_that_is_none_takes_the_others_away() {
        let field = |name| ir::HeaderTemplate {
            name: HeaderName::from_static(name),
            template: ir::Template::parse("{http_x_in}").expect("sound"),
        };
        let edits = HeaderEdits::new(&ir::HeaderEdit {
            set_from: vec![field("x-a"), field("x-b")],
            add_from: vec![field("x-a"), field("x-c")],
            ..ir::HeaderEdit::default()
        });
        let mut headers = HeaderMap::new();
        headers.insert("x-a", HeaderValue::from_static("old"));
        let value = |text| Some(HeaderValue::from_static(text));
        edits.apply(&mut headers, &mut [None, value("b"), value("a"), None].into_iter());
        assert_eq!(
            (headers.len(), &headers["x-a"], &headers["x-b"]),
            (2, &HeaderValue::from_static("a"), &HeaderValue::from_static("b"))
        );
    }

    #[test]
    fn an_edit_is_for_some_responses() {
        let edits = ResponseEdits::new(&ir::ResponseEdit {
            edit: ir::HeaderEdit { set: vec![text("x-set", "1")], ..ir::HeaderEdit::default() },
            statuses: vec![(200, 200), (400, 499)],
            types: vec!["text/html".into()],
        });
        let applied = |status: u16, kind: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
            let status = StatusCode::from_u16(status).expect("a status");
            edits.apply(status, &mut headers, &mut std::iter::empty());
            headers.contains_key("x-set")
        };
        assert!(applied(200, "Text/HTML; charset=utf-8") && applied(404, "text/html"));
        assert!(!applied(201, "text/html") && !applied(200, "text/htmlx"));
    }
}
