//! `${VAR}`, `${VAR:-fallback}`, `${file:path}` and `$$` in scalars.
//!
//! Substitution works on parsed scalars, never on the text of a document, so no value can add a
//! key, a list entry or a document.

use std::path::Path;

use ir::Problem;

use super::node::{Node, Place, Value};
use super::parse::Placed;
use crate::ir;

/// How deep fallbacks may nest: `${A:-${B:-x}}` is 2.
const DEPTH: usize = 8;

/// Where values come from.
pub(super) trait Source {
    /// The variable's value.
    fn variable(&self, name: &str) -> Option<&str>;
    /// The file's text without one trailing newline, or why there is none. `path` is as written.
    fn file(&self, place: Place, path: &Path) -> Result<String, String>;
}

/// Substitutes in every scalar below `node`, keys included.
pub(super) fn interpolate(node: &mut Node, source: &dyn Source, problems: &mut Vec<Placed>) {
    let place = node.place;
    match &mut node.value {
        Value::Broken | Value::Null => {}
        Value::Scalar(scalar) => {
            if !scalar.text.contains('$') {
                return;
            }
            let mut substituted = false;
            match expand(&scalar.text, place, source, DEPTH, &mut substituted) {
                Ok(text) => {
                    scalar.text = text;
                    scalar.substituted = substituted;
                }
                Err(problem) => {
                    problems.push((place, *problem));
                    node.value = Value::Broken;
                }
            }
        }
        Value::List(items) => {
            for item in items {
                interpolate(item, source, problems);
            }
        }
        Value::Map(entries) => {
            for (key, value) in entries {
                interpolate(key, source, problems);
                interpolate(value, source, problems);
            }
        }
    }
}

fn expand(
    text: &str,
    place: Place,
    source: &dyn Source,
    depth: usize,
    substituted: &mut bool,
) -> Result<String, Box<Problem>> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        if let Some(after) = after.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some(after) = after.strip_prefix('{') {
            let end = closing(after).ok_or_else(|| {
                let problem = Problem::error("`${` without its `}`");
                Box::new(problem.hint("close it, or write `$$` for a dollar sign"))
            })?;
            *substituted = true;
            let (inner, after) = after.split_at(end);
            out.push_str(&value(inner, place, source, depth, substituted)?);
            rest = after.strip_prefix('}').unwrap_or(after);
        } else {
            // A lone dollar is itself: regular expressions are full of them.
            out.push('$');
            rest = after;
        }
    }
    out.push_str(rest);
    Ok(out)
}

/// The offset of the `}` that belongs to a `${` already read.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 0_usize;
    let mut dollar = false;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'{' if dollar => depth += 1,
            b'}' if depth == 0 => return Some(at),
            b'}' => depth -= 1,
            _ => {}
        }
        dollar = byte == b'$';
    }
    None
}

fn value(
    inner: &str,
    place: Place,
    source: &dyn Source,
    depth: usize,
    substituted: &mut bool,
) -> Result<String, Box<Problem>> {
    if let Some(path) = inner.strip_prefix("file:") {
        return source.file(place, Path::new(path)).map_err(|error| {
            let problem = Problem::error(format!("cannot read `{path}`: {error}"));
            Box::new(problem.hint("a relative path starts at the directory of this file"))
        });
    }
    let (name, fallback) = match inner.split_once(":-") {
        Some((name, fallback)) => (name, Some(fallback)),
        None => (inner, None),
    };
    if !is_name(name) {
        let problem = Problem::error(format!("`${{{name}}}` names no variable"));
        let hint = "write ${NAME}, ${NAME:-fallback} or ${file:path}, and `$$` for a dollar sign";
        return Err(Box::new(problem.hint(hint)));
    }
    match (source.variable(name), fallback) {
        (Some(value), None) => Ok(value.to_owned()),
        (Some(value), Some(_)) if !value.is_empty() => Ok(value.to_owned()),
        (_, Some(_)) if depth == 0 => {
            Err(Box::new(Problem::error("fallbacks are nested too deep")))
        }
        (_, Some(fallback)) => expand(fallback, place, source, depth - 1, substituted),
        (None, None) => {
            let problem = Problem::error(format!("the variable `{name}` is not set"));
            let hint = format!("set it, or give a fallback: `${{{name}:-value}}`");
            Err(Box::new(problem.hint(hint)))
        }
    }
}

fn is_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}
