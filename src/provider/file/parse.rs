//! YAML text to node trees, with every place kept.
//!
//! Types are not decided here: `8080` stays text until someone asks for a number. Anchors, aliases
//! and merge keys (`<<`) work; how much aliases may unfold is bounded.

use std::collections::HashMap;

use ir::Problem;
use serde_saphyr::granit_parser::{ErrorKind, Event, Parser, ScalarStyle, ScanError, Span, Tag};

use super::node::{Node, Place, Scalar, Value};
use crate::ir;

/// Nodes that aliases may add to one file; more is an attack or a mistake.
const ALIASED_NODES: usize = 1_000_000;

/// A problem and its place, before the file's name is put in.
pub(in crate::provider) type Placed = (Place, Problem);

/// Parses all documents of one file. What could be read before a syntax error is not returned:
/// half a configuration would only produce follow-up errors.
pub(in crate::provider) fn parse(file: u32, text: &str) -> (Vec<Node>, Vec<Placed>) {
    let mut builder = Builder::new(file);
    for event in Parser::new_from_str(text) {
        match event {
            Ok((event, span)) => builder.take(event, span),
            Err(error) => {
                builder.problems.push(syntax(file, text, &error));
                return (Vec::new(), builder.problems);
            }
        }
        if builder.overflow {
            return (Vec::new(), builder.problems);
        }
    }
    (builder.documents, builder.problems)
}

/// The lines of a text as YAML counts them: a lone carriage return ends one too.
pub(in crate::provider) fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.split('\n').flat_map(|line| line.strip_suffix('\r').unwrap_or(line).split('\r'))
}

/// A container under construction.
enum Open {
    List { items: Vec<Node>, anchor: usize, place: Place, size: usize },
    Map { entries: Vec<(Node, Node)>, key: Option<Node>, anchor: usize, place: Place, size: usize },
}

struct Builder {
    file: u32,
    open: Vec<Open>,
    documents: Vec<Node>,
    /// Anchored nodes with their sizes.
    anchors: HashMap<usize, (Node, usize)>,
    aliased: usize,
    overflow: bool,
    problems: Vec<Placed>,
}

impl Builder {
    fn new(file: u32) -> Self {
        Self {
            file,
            open: Vec::new(),
            documents: Vec::new(),
            anchors: HashMap::new(),
            aliased: 0,
            overflow: false,
            problems: Vec::new(),
        }
    }

    fn take(&mut self, event: Event<'_>, span: Span) {
        let place = self.place(span);
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let forced = self.tag(tag.as_deref(), place);
                let plain = style == ScalarStyle::Plain && !forced;
                let node = Node { value: scalar(text.into_owned(), plain), place };
                self.add(node, anchor, 1);
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.tag(tag.as_deref(), place);
                self.open.push(Open::List { items: Vec::new(), anchor, place, size: 1 });
            }
            Event::MappingStart(_, anchor, tag) => {
                self.tag(tag.as_deref(), place);
                let entries = Vec::new();
                self.open.push(Open::Map { entries, key: None, anchor, place, size: 1 });
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(),
            Event::Alias(id) => self.alias(id, place),
            _ => {}
        }
    }

    fn place(&self, span: Span) -> Place {
        let line = u32::try_from(span.start.line()).unwrap_or(u32::MAX);
        let column = u32::try_from(span.start.col()).unwrap_or(u32::MAX).saturating_add(1);
        Place { file: self.file, line, column }
    }

    /// Whether the tag makes a scalar a string; unknown tags are reported.
    fn tag(&mut self, tag: Option<&Tag>, place: Place) -> bool {
        let Some(tag) = tag else { return false };
        let name = tag.to_string();
        if !tag.is_yaml_core_schema() {
            let problem = Problem::error(format!("the tag `{name}` means nothing here"));
            self.problems.push((place, problem.hint("remove it")));
        }
        name.ends_with("str")
    }

    fn alias(&mut self, id: usize, place: Place) {
        let Some((node, size)) = self.anchors.get(&id) else {
            let problem = Problem::error("the alias refers to a value that contains it");
            self.problems.push((place, problem));
            self.overflow = true;
            return;
        };
        self.aliased = self.aliased.saturating_add(*size);
        if self.aliased > ALIASED_NODES {
            let problem = Problem::error("the aliases unfold to more than a million values");
            self.problems.push((place, problem));
            self.overflow = true;
            return;
        }
        let (node, size) = (node.clone(), *size);
        self.add(node, 0, size);
    }

    fn close(&mut self) {
        let (node, anchor, size) = match self.open.pop() {
            Some(Open::List { items, anchor, place, size }) => {
                (Node { value: Value::List(items), place }, anchor, size)
            }
            Some(Open::Map { entries, anchor, place, size, .. }) => {
                let entries = self.finish(entries);
                (Node { value: Value::Map(entries), place }, anchor, size)
            }
            None => return,
        };
        self.add(node, anchor, size);
    }

    fn add(&mut self, node: Node, anchor: usize, size: usize) {
        if anchor != 0 {
            self.anchors.insert(anchor, (node.clone(), size));
        }
        match self.open.last_mut() {
            None => self.documents.push(node),
            Some(Open::List { items, size: total, .. }) => {
                *total = total.saturating_add(size);
                items.push(node);
            }
            Some(Open::Map { entries, key, size: total, .. }) => {
                *total = total.saturating_add(size);
                match key.take() {
                    None => *key = Some(node),
                    Some(key) => entries.push((key, node)),
                }
            }
        }
    }

    /// Reports keys given twice and unfolds merge keys.
    fn finish(&mut self, entries: Vec<(Node, Node)>) -> Vec<(Node, Node)> {
        let mut seen: HashMap<String, Place> = HashMap::with_capacity(entries.len());
        let mut own = Vec::with_capacity(entries.len());
        let mut merged = Vec::new();
        for (key, value) in entries {
            let Some(text) = key.text().map(str::to_owned) else {
                let problem = Problem::error(format!("{} is no key", key.describe()));
                self.problems.push((key.place, problem.hint("a key is text, as in `key: value`")));
                continue;
            };
            if text == "<<" && matches!(&key.value, Value::Scalar(s) if s.plain) {
                self.merge(value, &mut merged);
            } else if let Some(first) = seen.get(&text) {
                let problem = Problem::error(format!("the key `{text}` is here twice"));
                let hint = format!("it stands in line {} already", first.line);
                self.problems.push((key.place, problem.hint(hint)));
            } else {
                seen.insert(text, key.place);
                own.push((key, value));
            }
        }
        for (key, value) in merged {
            let text = key.text().unwrap_or_default().to_owned();
            if let std::collections::hash_map::Entry::Vacant(vacant) = seen.entry(text) {
                vacant.insert(key.place);
                own.push((key, value));
            }
        }
        own
    }

    fn merge(&mut self, value: Node, merged: &mut Vec<(Node, Node)>) {
        match value.value {
            Value::Map(entries) => merged.extend(entries),
            Value::List(items) => {
                for item in items {
                    self.merge(item, merged);
                }
            }
            Value::Broken | Value::Null | Value::Scalar(_) => {
                let problem = Problem::error("`<<` takes a mapping or a list of mappings");
                self.problems.push((value.place, problem));
            }
        }
    }
}

fn scalar(text: String, plain: bool) -> Value {
    if plain && matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL") {
        return Value::Null;
    }
    Value::Scalar(Scalar { text, plain, substituted: false })
}

fn syntax(file: u32, text: &str, error: &ScanError) -> Placed {
    let marker = error.marker();
    let line = u32::try_from(marker.line()).unwrap_or(0).max(1);
    let column = u32::try_from(marker.col()).unwrap_or(0).saturating_add(1);
    let source = lines(text).nth(line as usize - 1).unwrap_or_default();
    let problem = Problem::error(format!("this is not YAML: {}", error.kind()));
    (Place { file, line, column }, problem.hint(syntax_hint(source, error.kind())))
}

fn syntax_hint(line: &str, kind: &ErrorKind) -> &'static str {
    let indent_has_tab = line.chars().take_while(|c| c.is_whitespace()).any(|c| c == '\t');
    if indent_has_tab || kind.to_string().contains("tab") {
        "indent with spaces, not with tabs"
    } else if line.contains("${") {
        "put quotes around a value with `${…}` inside `{ }` or `[ ]`"
    } else if line.trim_start().starts_with('*') || line.contains(" *") {
        "put quotes around a text that starts with `*`"
    } else {
        "check indentation, quotes and brackets from here upwards"
    }
}
