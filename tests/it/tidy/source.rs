//! A source file taken apart just far enough to judge it: code without comments and texts, and
//! which of it is test code.

use std::path::{Path, PathBuf};

/// One Rust file.
pub struct Source {
    /// Relative to the package, with `/`.
    pub path: String,
    text: String,
    /// The same lines with comments, strings and characters blanked.
    blanked: Vec<String>,
    /// Whether each line belongs to tests.
    test: Vec<bool>,
}

impl Source {
    fn read(root: &Path, file: &Path) -> Self {
        let text = std::fs::read_to_string(file).expect("a source file");
        let path = file.strip_prefix(root).expect("below the root").to_string_lossy().into_owned();
        let blanked: Vec<String> = blank(&text).lines().map(str::to_owned).collect();
        let whole = path.ends_with("/tests.rs") || path.contains("tests/");
        let test = if whole { vec![true; blanked.len()] } else { test_lines(&blanked) };
        Self { path, text, blanked, test }
    }

    /// The whole text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether the whole file is tests.
    pub fn is_test(&self) -> bool {
        self.test.iter().all(|test| *test)
    }

    /// The folder, or file, below `src` it belongs to.
    pub fn room(&self) -> String {
        let below = self.path.strip_prefix("src/").unwrap_or(&self.path);
        let first = below.split('/').next().unwrap_or_default();
        first.trim_end_matches(".rs").to_owned()
    }

    /// Whether it lies in this folder below `src`, or is this file.
    pub fn is_in(&self, place: &str) -> bool {
        let below = self.path.strip_prefix("src/").unwrap_or(&self.path);
        let rest = below.strip_prefix(place);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || rest == ".rs")
    }

    /// Numbered lines of code outside tests.
    pub fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        self.all_code().filter(|(line, _)| !self.test[line - 1])
    }

    /// Numbered lines of code, tests included.
    pub fn all_code(&self) -> impl Iterator<Item = (usize, &str)> {
        self.blanked.iter().enumerate().map(|(index, line)| (index + 1, line.as_str()))
    }

    /// Numbered lines of test code.
    pub fn test_code(&self) -> impl Iterator<Item = (usize, &str)> {
        self.all_code().filter(|(line, _)| self.test[line - 1])
    }

    /// How many lines are not tests.
    pub fn code_lines(&self) -> usize {
        self.test.iter().filter(|test| !**test).count()
    }

    /// Whether this line, or the one above it, says why it may break a rule.
    pub fn is_excused(&self, line: usize) -> bool {
        let mut lines = self.text.lines().skip(line.saturating_sub(2)).take(2);
        lines.any(|line| line.contains("// tidy: "))
    }

    /// Whether the file says why it may break a rule.
    pub fn has_excuse(&self) -> bool {
        self.text.lines().any(|line| line.starts_with("// tidy: "))
    }

    /// The rooms of this crate that code outside tests names, with the line.
    pub fn imports_of_own_crate(&self) -> Vec<(usize, String)> {
        let mut found = Vec::new();
        let lines: Vec<_> = self.code().collect();
        for (at, (number, line)) in lines.iter().enumerate() {
            for (position, _) in line.match_indices("crate::") {
                if preceded_by_word(line, position) {
                    continue;
                }
                let rest = &line[position + "crate::".len()..];
                if rest.starts_with('{') {
                    let rest: String = std::iter::once(rest)
                        .chain(lines[at + 1..].iter().map(|(_, line)| *line))
                        .collect::<Vec<_>>()
                        .join(" ");
                    found.extend(group_heads(&rest).into_iter().map(|name| (*number, name)));
                } else {
                    found.push((*number, leading_word(rest)));
                }
            }
        }
        found
    }

    /// Lines outside tests that name this crate as the start of a path, or bring it in.
    pub fn uses_of_crate(&self, name: &str) -> Vec<usize> {
        let path = format!("{name}::");
        let import = format!("use {name};");
        let names = |line: &str| {
            line.contains(&import)
                || line
                    .match_indices(&path)
                    .any(|(at, _)| !preceded_by_word(line, at) && !line[..at].ends_with("::"))
        };
        self.code().filter(|(_, line)| names(line)).map(|(number, _)| number).collect()
    }
}

/// The Rust files below a folder of the package; none where it does not exist.
pub fn rust_files(folder: &str) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    walk(&root.join(folder), &mut files);
    files.retain(|file| file.extension().is_some_and(|extension| extension == "rs"));
    files.sort();
    files.iter().map(|file| Source::read(root, file)).collect()
}

/// The text files at and below these places of the package.
pub fn text_files(places: &[&str]) -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for place in places {
        let path = root.join(place);
        if path.is_file() {
            files.push(path);
        } else {
            walk(&path, &mut files);
        }
    }
    files.sort();
    let read = |file: &PathBuf| {
        let text = std::fs::read_to_string(file).ok()?;
        Some((file.strip_prefix(root).ok()?.to_string_lossy().into_owned(), text))
    };
    files.iter().filter_map(read).collect()
}

/// Whether `word` stands in `line` with no letter, digit or underscore beside it.
pub fn has_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let after = line[at + word.len()..].chars().next();
        !preceded_by_word(line, at) && !after.is_some_and(is_word)
    })
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.map_while(Result::ok) {
        let path = entry.path();
        let skipped = ["target", "corpus", "artifacts", "coverage"];
        if !path.is_dir() {
            files.push(path);
        } else if !skipped.iter().any(|name| path.ends_with(name)) {
            walk(&path, files);
        }
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn preceded_by_word(line: &str, at: usize) -> bool {
    line[..at].chars().next_back().is_some_and(is_word)
}

fn leading_word(text: &str) -> String {
    text.chars().take_while(|c| is_word(*c)).collect()
}

/// The first words of the members of `{a::b, c::{d, e}}`.
fn group_heads(text: &str) -> Vec<String> {
    let mut heads = Vec::new();
    let mut depth = 0;
    let mut expecting = false;
    for (at, c) in text.char_indices() {
        match c {
            '{' => {
                depth += 1;
                expecting = depth == 1;
            }
            '}' => {
                depth -= 1;
                if depth == 0 {
                    break;
                }
            }
            ',' if depth == 1 => expecting = true,
            c if expecting && is_word(c) => {
                heads.push(leading_word(&text[at..]));
                expecting = false;
            }
            _ => {}
        }
    }
    heads
}

/// Which lines lie in an item marked `#[cfg(test)]`.
fn test_lines(lines: &[String]) -> Vec<bool> {
    let mut test = vec![false; lines.len()];
    let mut at = 0;
    while at < lines.len() {
        if !lines[at].trim_start().starts_with("#[cfg(test)]") {
            at += 1;
            continue;
        }
        let mut depth = 0_i32;
        let mut opened = false;
        while at < lines.len() {
            test[at] = true;
            for c in lines[at].chars() {
                match c {
                    '{' => {
                        depth += 1;
                        opened = true;
                    }
                    '}' => depth -= 1,
                    _ => {}
                }
            }
            let ended = (opened && depth == 0) || (!opened && lines[at].trim_end().ends_with(';'));
            at += 1;
            if ended {
                break;
            }
        }
    }
    test
}

/// The text with comments, strings and characters replaced by blanks, line by line.
fn blank(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    let hide = |out: &mut String, c: char| out.push(if c == '\n' { '\n' } else { ' ' });
    while at < chars.len() {
        let rest = &chars[at..];
        let end = match rest {
            ['/', '/', ..] => at + rest.iter().position(|c| *c == '\n').unwrap_or(rest.len()),
            ['/', '*', ..] => at + block_comment(rest),
            ['r', '"' | '#', ..]
                if !chars[..at].last().is_some_and(|c| is_word(*c) && *c != 'b') =>
            {
                at + raw_string(rest)
            }
            ['"', ..] => at + string(rest),
            ['\'', '\\', _, ..] => {
                at + 3 + rest[3..].iter().position(|c| *c == '\'').map_or(0, |end| end + 1)
            }
            ['\'', _, '\'', ..] => at + 3,
            _ => at,
        };
        if end == at {
            out.push(chars[at]);
            at += 1;
        } else {
            chars[at..end].iter().for_each(|c| hide(&mut out, *c));
            at = end;
        }
    }
    out
}

fn block_comment(rest: &[char]) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < rest.len() {
        match &rest[at..] {
            ['/', '*', ..] => {
                depth += 1;
                at += 2;
            }
            ['*', '/', ..] => {
                depth -= 1;
                at += 2;
                if depth == 0 {
                    return at;
                }
            }
            _ => at += 1,
        }
    }
    at
}

/// The length of `r#"…"#`, or 0 where it is a raw identifier.
fn raw_string(rest: &[char]) -> usize {
    let hashes = rest[1..].iter().take_while(|c| **c == '#').count();
    if rest.get(1 + hashes) != Some(&'"') {
        return 0;
    }
    let mut at = hashes + 2;
    while at < rest.len() {
        if rest[at] == '"' && rest[at + 1..].iter().take_while(|c| **c == '#').count() >= hashes {
            return at + 1 + hashes;
        }
        at += 1;
    }
    at
}

fn string(rest: &[char]) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            '\\' => at += 2,
            '"' => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

#[test]
fn comments_strings_and_tests_are_told_from_code() {
    let text = "use crate::{ir::Name,\n  proxy};\nlet a = \"crate::x\"; // crate::y\nlet b = 'c';\n\
                let r = r#\"panic!(\"#;\n#[cfg(test)]\nmod tests {\n  use crate::z;\n}\n";
    let blanked: Vec<String> = blank(text).lines().map(str::to_owned).collect();
    let test = test_lines(&blanked);
    let source = Source { path: "src/tls/a.rs".into(), text: text.into(), blanked, test };
    let imports = source.imports_of_own_crate();
    assert_eq!(imports, [(1, "ir".to_owned()), (1, "proxy".to_owned())]);
    assert_eq!(source.code_lines(), 5);
    assert!(source.code().all(|(_, code)| !code.contains("panic!")));
    assert!(has_word("a thread::sleep(b)", "thread::sleep") && !has_word("sleeper", "sleep"));
    assert!(source.is_in("tls") && !source.is_in("tl") && source.room() == "tls");
}
