//! Problems for people at a terminal: the place, an excerpt, a caret and the way to mend it.

use std::fmt::Write;

use ir::{Problem, Severity};

use super::inputs::Inputs;
use super::parse::lines;
use crate::ir;

/// The most columns of a source line that are shown.
const WIDTH: usize = 120;

/// Renders `problems` with excerpts of the documents they are about. With `color`, in ANSI
/// colours.
pub fn render(problems: &[Problem], inputs: &Inputs, color: bool) -> String {
    let paint = Paint { color };
    let mut out = String::new();
    for problem in problems {
        one(&mut out, problem, inputs, paint);
        out.push('\n');
    }
    out
}

/// Counts problems in a line: `2 errors, 1 warning`.
pub fn summary(problems: &[Problem]) -> String {
    let errors = problems.iter().filter(|p| p.severity == Severity::Error).count();
    let warnings = problems.len() - errors;
    let count = |count: usize, what: &str| match count {
        1 => format!("1 {what}"),
        _ => format!("{count} {what}s"),
    };
    match (errors, warnings) {
        (0, 0) => "no problems".to_owned(),
        (_, 0) => count(errors, "error"),
        (0, _) => count(warnings, "warning"),
        _ => format!("{}, {}", count(errors, "error"), count(warnings, "warning")),
    }
}

// Writing to a `String` cannot fail, so the results of `writeln!` are of no interest below.
fn one(out: &mut String, problem: &Problem, inputs: &Inputs, paint: Paint) {
    let (word, code) = match problem.severity {
        Severity::Error => ("error", "1;31"),
        Severity::Warning => ("warning", "1;33"),
    };
    let head = paint.with(code, word);
    let _ = writeln!(out, "{head}: {}", paint.with("1", &printable(&problem.message)));
    let mut margin = 1;
    if let Some(location) = &problem.location {
        margin = location.line.max(1).ilog10() as usize + 1;
        let _ = writeln!(out, "{:margin$}{} {location}", "", paint.with("34", "-->"));
        let line = inputs
            .text(&location.file)
            .filter(|_| location.line > 0)
            .and_then(|text| lines(text).nth(location.line as usize - 1));
        if let Some(line) = line {
            excerpt(out, line, location.line, location.column, margin, code, paint);
        }
    }
    if let (None, Some(origin)) = (&problem.location, &problem.origin)
        && !origin.namespace.as_str().is_empty()
    {
        let object = format!("{} {}/{}", origin.kind, origin.namespace, origin.name);
        let _ = writeln!(out, " {} {}", paint.with("34", "-->"), printable(&object));
    }
    if let Some(hint) = &problem.hint {
        let equals = paint.with("34", "=");
        let _ = writeln!(out, "{:margin$} {equals} hint: {}", "", printable(hint));
    }
}

fn excerpt(
    out: &mut String,
    line: &str,
    number: u32,
    column: u32,
    margin: usize,
    code: &str,
    paint: Paint,
) {
    let characters: Vec<char> = line.chars().collect();
    let at = (column.max(1) as usize - 1).min(characters.len());
    // A long line is shown around its place.
    let start = if at < WIDTH - 20 { 0 } else { at - WIDTH / 2 };
    let shown: String = characters
        .iter()
        .skip(start)
        .take(WIDTH)
        .map(|c| if c.is_control() { ' ' } else { *c })
        .collect();
    let length = token(characters.get(at..).unwrap_or_default()).min(WIDTH);
    let bar = paint.with("34", "|");
    let _ = writeln!(out, "{:margin$} {bar}", "");
    let _ = writeln!(
        out,
        "{} {bar} {}",
        paint.with("34", &format!("{number:margin$}")),
        shown.trim_end()
    );
    let carets = paint.with(code, &"^".repeat(length));
    let _ = writeln!(out, "{:margin$} {bar} {:indent$}{carets}", "", "", indent = at - start);
}

/// How many characters the value at the start of `rest` has.
fn token(rest: &[char]) -> usize {
    let length = match rest.first() {
        Some(quote @ ('"' | '\'')) => {
            rest.iter().skip(1).position(|c| c == quote).map_or(rest.len(), |at| at + 2)
        }
        Some('{' | '[') => 1,
        _ => rest
            .iter()
            .enumerate()
            .position(|(at, c)| match c {
                ',' | '}' | ']' => true,
                ':' | '#' => rest.get(at + 1).is_none_or(|next| next.is_whitespace()),
                _ => false,
            })
            .unwrap_or(rest.len()),
    };
    let value: String = rest.iter().take(length).collect();
    value.trim_end().chars().count().max(1)
}

/// Text without what could move a terminal's cursor.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[derive(Clone, Copy)]
struct Paint {
    color: bool,
}

impl Paint {
    fn with(self, code: &str, text: &str) -> String {
        if self.color { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}
