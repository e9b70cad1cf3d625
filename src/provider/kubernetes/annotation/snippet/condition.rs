//! The conditions of `if`.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;

use super::super::finding::shown;
use super::super::pattern::Pattern;
use super::super::variable::{Template, Variable};

/// A condition on one variable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Condition {
    /// What is looked at.
    pub variable: Variable,
    /// What it must be.
    pub test: Test,
}

/// What a variable must be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Test {
    /// Neither empty nor `0`.
    True,
    /// Equal, byte for byte.
    Is(Arc<str>),
    /// Not equal.
    IsNot(Arc<str>),
    /// The expression is found in it. Its groups are `$1` and on.
    Matches(Pattern),
    /// It is not found in it.
    MatchesNot(Pattern),
}

impl Condition {
    /// How many groups its expression captures where the condition holds; `None` where it has no
    /// expression, and `$1` is of one that matched before.
    pub fn groups(&self) -> Option<usize> {
        match &self.test {
            Test::Matches(pattern) => Some(pattern.groups()),
            Test::MatchesNot(_) => Some(0),
            Test::True | Test::Is(_) | Test::IsNot(_) => None,
        }
    }

    /// A condition on the variable in `word`.
    pub(super) fn of(word: &str, test: Test) -> Result<Self, String> {
        Ok(Self { variable: looked_at(word)?, test })
    }

    /// The word for what is looked at, and what it must be.
    pub(super) fn parts(arguments: &[String]) -> Result<(&str, Test), String> {
        let shape = || "its condition is none that is read here: write `($variable = text)`";
        // The brackets stand at the words without a blank, or are words themselves.
        let mut words: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let first = words.first_mut().ok_or_else(shape)?;
        *first = first.strip_prefix('(').ok_or_else(shape)?;
        let last = words.last_mut().ok_or_else(shape)?;
        *last = last.strip_suffix(')').ok_or_else(shape)?;
        if words.first().is_some_and(|word| word.is_empty()) {
            words.remove(0);
        }
        // An empty text in quotation marks is a word; an empty rest before the bracket is none.
        if words.last().is_some_and(|word| word.is_empty())
            && (words.len() > 3
                || arguments.last().is_some_and(|word| word == ")") && words.len() != 3)
        {
            words.pop();
        }
        let (variable, test) = match words.as_slice() {
            [variable] => (*variable, Test::True),
            [variable, operator, operand] => (*variable, test(operator, operand)?),
            _ => return Err(shape().to_owned()),
        };
        if variable.starts_with(['-', '!']) {
            return Err("it asks for files, and there are none here".to_owned());
        }
        Ok((variable, test))
    }
}

/// As nginx writes it.
impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let variable = &self.variable;
        match &self.test {
            Test::True => write!(f, "{variable}"),
            Test::Is(text) => write!(f, "{variable} = {text:?}"),
            Test::IsNot(text) => write!(f, "{variable} != {text:?}"),
            Test::Matches(pattern) => write!(f, "{variable} ~ {pattern}"),
            Test::MatchesNot(pattern) => write!(f, "{variable} !~ {pattern}"),
        }
    }
}

fn test(operator: &str, operand: &str) -> Result<Test, String> {
    let literal = || -> Result<Arc<str>, String> {
        match Template::parse(operand)?.as_literal() {
            Some(text) => Ok(text.into()),
            None => Err("it compares with a variable; only text can be compared with".to_owned()),
        }
    };
    let pattern =
        |text: &str| Pattern::parse(text).map_err(|error| format!("its expression {error}"));
    match operator {
        "=" => literal().map(Test::Is),
        "!=" => literal().map(Test::IsNot),
        "~" => pattern(operand).map(Test::Matches),
        "~*" => pattern(&format!("(?i){operand}")).map(Test::Matches),
        "!~" => pattern(operand).map(Test::MatchesNot),
        "!~*" => pattern(&format!("(?i){operand}")).map(Test::MatchesNot),
        _ => Err(format!("it has the operator `{}`, which is unknown", shown(operator))),
    }
}

fn looked_at(word: &str) -> Result<Variable, String> {
    let template = Template::parse(word)?;
    let mut variables = template.variables();
    match (variables.next(), template.pieces().len()) {
        (Some(Variable::Capture(_) | Variable::ResponseHeader(_)), _) => {
            Err(format!("`{}` cannot be looked at before the request is answered", shown(word)))
        }
        (Some(variable), 1) => Ok(variable.clone()),
        _ => Err("it does not look at one variable".to_owned()),
    }
}
