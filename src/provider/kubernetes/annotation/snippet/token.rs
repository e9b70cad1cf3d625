//! The words of nginx's configuration language.

use std::fmt;

/// A word or a mark, and where it begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// What it is.
    pub kind: TokenKind,
    /// Its line, from 1.
    pub line: u32,
}

/// What a token is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// A word, without its quotation marks and with its escapes undone.
    Word(String),
    /// `;`
    Semicolon,
    /// `{`
    Open,
    /// `}`
    Close,
}

/// Why a text has no words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyntaxError {
    /// The line, from 1.
    pub line: u32,
    /// What is wrong there.
    pub message: &'static str,
}

impl fmt::Display for SyntaxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.message)
    }
}

impl std::error::Error for SyntaxError {}

struct Scanner<'a> {
    rest: std::iter::Peekable<std::str::Chars<'a>>,
    line: u32,
}

impl Scanner<'_> {
    fn next(&mut self) -> Option<char> {
        let next = self.rest.next();
        if next == Some('\n') {
            self.line = self.line.saturating_add(1);
        }
        next
    }

    fn error(&self, message: &'static str) -> SyntaxError {
        SyntaxError { line: self.line, message }
    }

    /// What a backslash and the next character stand for: an escape of nginx's, or themselves.
    fn escape(&mut self, word: &mut String) -> Result<(), SyntaxError> {
        match self.next() {
            Some(plain @ ('"' | '\'' | '\\')) => word.push(plain),
            Some('t') => word.push('\t'),
            Some('r') => word.push('\r'),
            Some('n') => word.push('\n'),
            Some(other) => word.extend(['\\', other]),
            None => return Err(self.error("ends with a backslash")),
        }
        Ok(())
    }

    fn quoted(&mut self, mark: char) -> Result<String, SyntaxError> {
        let mut word = String::new();
        let begin = self.line;
        loop {
            match self.next() {
                None => {
                    let message = "a quotation has no end";
                    return Err(SyntaxError { line: begin, message });
                }
                Some('\\') => self.escape(&mut word)?,
                Some(found) if found == mark => break,
                Some(other) => word.push(other),
            }
        }
        match self.rest.peek() {
            None | Some(';' | '{' | ')') => Ok(word),
            Some(blank) if is_blank(*blank) => Ok(word),
            Some(_) => Err(self.error("a quotation is followed by something that is no blank")),
        }
    }

    fn bare(&mut self, first: char) -> Result<String, SyntaxError> {
        let mut word = String::new();
        if first == '\\' {
            self.escape(&mut word)?
        } else {
            word.push(first)
        }
        let mut dollar = first == '$';
        while let Some(next) = self.rest.peek().copied() {
            let opens_variable = next == '{' && dollar;
            if is_blank(next) || next == ';' || (next == '{' && !opens_variable) {
                break;
            }
            self.next();
            dollar = next == '$';
            if next == '\\' { self.escape(&mut word)? } else { word.push(next) }
        }
        Ok(word)
    }
}

fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

/// Takes `text` apart. Comments are left out.
pub fn tokens(text: &str) -> Result<Vec<Token>, SyntaxError> {
    let mut scanner = Scanner { rest: text.chars().peekable(), line: 1 };
    let mut tokens = Vec::new();
    loop {
        let line = scanner.line;
        let kind = match scanner.next() {
            None => return Ok(tokens),
            Some(blank) if is_blank(blank) => continue,
            Some('#') => {
                while scanner.next().is_some_and(|next| next != '\n') {}
                continue;
            }
            Some(';') => TokenKind::Semicolon,
            Some('{') => TokenKind::Open,
            Some('}') => TokenKind::Close,
            Some(mark @ ('"' | '\'')) => TokenKind::Word(scanner.quoted(mark)?),
            Some(first) => TokenKind::Word(scanner.bare(first)?),
        };
        tokens.push(Token { kind, line });
    }
}

/// As nginx would read it again: words always quoted.
impl fmt::Display for TokenKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Semicolon => f.write_str(";"),
            Self::Open => f.write_str("{"),
            Self::Close => f.write_str("}"),
            Self::Word(word) => {
                f.write_str("\"")?;
                for c in word.chars() {
                    match c {
                        '"' => f.write_str("\\\"")?,
                        '\\' => f.write_str("\\\\")?,
                        other => write!(f, "{other}")?,
                    }
                }
                f.write_str("\"")
            }
        }
    }
}
