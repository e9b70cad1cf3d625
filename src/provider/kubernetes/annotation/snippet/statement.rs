//! From words to statements: a name, its arguments, and the block of those that have one.

use super::token::{SyntaxError, Token, TokenKind, tokens};

/// One statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Statement {
    pub line: u32,
    pub name: String,
    pub arguments: Vec<String>,
    pub block: Option<Vec<Statement>>,
}

/// Blocks in blocks, at most; nginx's own use two.
const DEEPEST: usize = 8;

/// A block that is not closed yet, and what stands before its brace.
struct Outer {
    statements: Vec<Statement>,
    head: Statement,
}

/// The statements of a snippet.
pub(super) fn statements(text: &str) -> Result<Vec<Statement>, SyntaxError> {
    let mut outer: Vec<Outer> = Vec::new();
    let mut current = Vec::new();
    let mut words: Vec<(String, u32)> = Vec::new();
    let mut last = 1;
    for Token { kind, line } in tokens(text)? {
        last = line;
        let error = |message| SyntaxError { line, message };
        match kind {
            TokenKind::Word(word) => words.push((word, line)),
            TokenKind::Semicolon => {
                let head = head(&mut words).ok_or_else(|| error("`;` without a directive"))?;
                current.push(head);
            }
            TokenKind::Open => {
                let head = head(&mut words).ok_or_else(|| error("`{` without a directive"))?;
                if outer.len() == DEEPEST {
                    return Err(error("too many blocks in one another"));
                }
                outer.push(Outer { statements: std::mem::take(&mut current), head });
            }
            TokenKind::Close => {
                if !words.is_empty() {
                    return Err(error("a directive has no `;`"));
                }
                let Some(Outer { statements, mut head }) = outer.pop() else {
                    return Err(error("`}` without a block"));
                };
                head.block = Some(std::mem::replace(&mut current, statements));
                current.push(head);
            }
        }
    }
    match (words.first(), outer.last()) {
        (Some((_, line)), _) => Err(SyntaxError { line: *line, message: "a directive has no `;`" }),
        (None, Some(_)) => Err(SyntaxError { line: last, message: "a block has no `}`" }),
        (None, None) => Ok(current),
    }
}

fn head(words: &mut Vec<(String, u32)>) -> Option<Statement> {
    let mut words = std::mem::take(words).into_iter();
    let (name, line) = words.next()?;
    let arguments = words.map(|(word, _)| word).collect();
    Some(Statement { line, name, arguments, block: None })
}
