//! What names are that `set` gives values, also under conditions: which value a name has when.
//!
//! A value that depends on conditions is several, each with its own; what uses the name is read once
//! for each of them. So nothing has to be kept while requests are served.

use std::collections::{BTreeMap, BTreeSet};

use super::super::pattern::Pattern;
use super::super::variable::{Piece, Template, Variable};
use super::condition::{Condition, Test};
use super::directive::{Directive, Kind};
use super::statement::Statement;

/// The most values of a name, and the most readings of a statement.
const MOST: usize = 16;

/// A value, and when a name has it.
#[derive(Clone, Debug, PartialEq)]
struct Case {
    when: Vec<Condition>,
    value: Template,
}

/// The names that were set. Of the cases of a name exactly one holds; one that is lost was given a
/// value that could not be read.
#[derive(Clone, Debug, Default)]
pub(super) struct Names(BTreeMap<String, Option<Vec<Case>>>);

/// A part of all requests, in which the names that a statement uses have one value each.
pub(super) struct World {
    pub when: Vec<Condition>,
    pub names: Names,
}

/// A world, and what the names are in it after a statement.
pub(super) struct Outcome {
    pub world: World,
    pub end: Names,
}

/// Whether something holds.
pub(super) enum Holds {
    Always,
    Never,
    If(Condition),
}

impl Names {
    /// The value of a name; `None` where it was never set.
    ///
    /// # Errors
    /// One that is lost has none, nor has one that depends on conditions.
    pub fn value(&self, name: &str) -> Result<Option<&Template>, String> {
        match self.0.get(name) {
            None => Ok(None),
            Some(cases) => match cases.as_deref() {
                Some([only]) => Ok(Some(&only.value)),
                _ => Err(format!("uses `${name}`, whose value is not read")),
            },
        }
    }

    pub fn set(&mut self, name: &str, value: Template) {
        self.0.insert(name.to_owned(), Some(vec![Case { when: Vec::new(), value }]));
    }

    /// Forgets what is set by a statement that is not read, so that nothing goes by an older value.
    pub fn lose(&mut self, statement: &Statement) {
        // Modules have further ones: set_by_lua_block, auth_request_set.
        let name = statement.name.as_str();
        if (name == "set" || name.starts_with("set_") || name.ends_with("_set"))
            && let Some(name) = statement.arguments.first().and_then(|word| word.strip_prefix('$'))
        {
            self.0.insert(name.to_owned(), None);
        }
        statement.block.iter().flatten().for_each(|inner| self.lose(inner));
    }

    /// Whether a value depends on the path, which a rewrite changes.
    pub fn look_at_the_path(&self) -> bool {
        let mut cases = self.0.values().flatten().flatten();
        cases.any(|case| {
            case.when.iter().any(|condition| {
                matches!(
                    condition.variable,
                    Variable::Uri | Variable::Args | Variable::IsArgs | Variable::Arg(_)
                )
            })
        })
    }

    /// The worlds that `statement` is to be read in; one without conditions where it uses no name
    /// that depends on any.
    pub fn worlds(&self, statement: &Statement) -> Result<Vec<World>, String> {
        let mut used = BTreeSet::new();
        names_in(statement, &mut used);
        let mut worlds = vec![World { when: Vec::new(), names: self.clone() }];
        for (name, cases) in &self.0 {
            let Some(cases) = cases else { continue };
            if cases.len() < 2 || !used.contains(name) {
                continue;
            }
            let mut split = Vec::new();
            for world in &worlds {
                for case in cases {
                    let Some(when) = join(&world.when, &case.when) else { continue };
                    let mut names = world.names.clone();
                    names.set(name, case.value.clone());
                    split.push(World { when, names });
                }
            }
            if split.len() > MOST {
                return Err("depends on too many conditions".to_owned());
            }
            worlds = split;
        }
        Ok(worlds)
    }

    /// What the names are after a statement that came to these outcomes, one of which holds.
    pub fn after(mut self, outcomes: &[Outcome]) -> Result<Self, String> {
        let ends = outcomes.iter().flat_map(|outcome| outcome.end.0.keys());
        let names: BTreeSet<&String> = ends.collect();
        for name in names {
            let changed =
                |outcome: &Outcome| outcome.world.names.0.get(name) != outcome.end.0.get(name);
            if !outcomes.iter().any(changed) {
                continue;
            }
            // Before it is set a name is empty.
            let unset = vec![Case { when: Vec::new(), value: Template::default() }];
            let mut all = Some(Vec::new());
            for outcome in outcomes {
                let cases = outcome.end.0.get(name).unwrap_or(&Some(unset.clone())).clone();
                all = all.zip(cases).map(|(mut all, cases)| {
                    all.extend(cases.into_iter().filter_map(|case| {
                        let when = join(&outcome.world.when, &case.when)?;
                        Some(Case { when, ..case })
                    }));
                    all
                });
            }
            if all.as_ref().is_some_and(|all| all.len() > MOST) {
                return Err(format!("gives `${name}` too many values"));
            }
            self.0.insert(name.clone(), all);
        }
        Ok(self)
    }
}

/// Whether a name with this value passes `test`.
pub(super) fn holds(value: &Template, test: Test) -> Result<Holds, String> {
    let settled = |holds: bool| if holds { Holds::Always } else { Holds::Never };
    if let Some(text) = value.as_literal() {
        let found = |pattern: &Pattern| match regex::Regex::new(pattern.as_str()) {
            Ok(regex) if pattern.groups() == 0 => Ok(regex.is_match(text)),
            _ => Err("captures parts of a name that was set".to_owned()),
        };
        return Ok(settled(match &test {
            Test::True => !text.is_empty() && text != "0",
            Test::Is(other) => text == &**other,
            Test::IsNot(other) => text != &**other,
            Test::Matches(pattern) => found(pattern)?,
            Test::MatchesNot(pattern) => !found(pattern)?,
        }));
    }
    match value.pieces() {
        [Piece::Variable(Variable::Capture(_) | Variable::ResponseHeader(_))] => {
            Err("looks at a name whose value is not known there".to_owned())
        }
        [Piece::Variable(variable)] => {
            Ok(Holds::If(Condition { variable: variable.clone(), test }))
        }
        _ => Err("looks at a name that is made of several parts".to_owned()),
    }
}

/// The condition that holds where this one does not.
pub(super) fn negated(condition: &Condition) -> Result<Condition, String> {
    let test = match &condition.test {
        Test::True => Test::Matches(Pattern::parse("^0?$")?),
        Test::Is(text) => Test::IsNot(text.clone()),
        Test::IsNot(text) => Test::Is(text.clone()),
        Test::Matches(pattern) => Test::MatchesNot(pattern.clone()),
        Test::MatchesNot(pattern) => Test::Matches(pattern.clone()),
    };
    Ok(Condition { variable: condition.variable.clone(), test })
}

/// All of these conditions, each once; `None` where they cannot hold together.
fn join(first: &[Condition], second: &[Condition]) -> Option<Vec<Condition>> {
    let mut all = first.to_vec();
    for condition in second {
        let excludes = |other: &Condition| {
            let not = |one: &Condition| negated(one).ok();
            not(other).as_ref() == Some(condition) || not(condition).as_ref() == Some(other)
        };
        if all.iter().any(excludes) {
            return None;
        }
        if !all.contains(condition) {
            all.push(condition.clone());
        }
    }
    Some(all)
}

/// What a statement comes to, where only under these conditions.
pub(super) fn under(when: &[Condition], kinds: Vec<Kind>, line: u32) -> Vec<Kind> {
    let Some((own, before)) = when.split_last() else { return kinds };
    let mut out = Vec::new();
    let mut plain = Vec::new();
    for kind in kinds {
        match kind {
            Kind::If { given, condition, then } => {
                let given = when.iter().cloned().chain(given).collect();
                out.push(Kind::If { given, condition, then });
            }
            kind => plain.push(Directive { line, kind }),
        }
    }
    if !plain.is_empty() {
        out.push(Kind::If { given: before.to_vec(), condition: own.clone(), then: plain });
    }
    out
}

/// The names that stand in the arguments of a statement and of those in its block.
fn names_in(statement: &Statement, names: &mut BTreeSet<String>) {
    // What is set is not used by that.
    let skipped = usize::from(statement.name == "set");
    for argument in statement.arguments.iter().skip(skipped) {
        let _ = Template::parse_with(argument, |name| {
            names.insert(name.to_owned());
            Ok(Template::default())
        });
    }
    statement.block.iter().flatten().for_each(|inner| names_in(inner, names));
}
