//! What holds under conditions: blocks, and statements that use names whose values depend on any.

use super::cases::{self, Holds, Outcome, World};
use super::condition::{Condition, Test};
use super::directive::{Kind, Kinds, Translator};
use super::refusal::refuse;
use super::statement::Statement;

impl Translator {
    /// Reads a statement, several times where it uses names whose values depend on conditions.
    pub(super) fn one(&mut self, statement: &Statement) -> Kinds {
        let refused =
            |reason: String| Box::new(refuse(statement, &format!("`{}` {reason}", statement.name)));
        let worlds = self.names.worlds(statement).map_err(refused)?;
        if worlds.len() == 1 {
            return self.single(statement);
        }
        let before = self.names.clone();
        let mut kinds = Vec::new();
        let mut outcomes = Vec::with_capacity(worlds.len());
        self.count += worlds.len();
        for world in worlds {
            self.names.clone_from(&world.names);
            let read = self.single(statement);
            let end = std::mem::replace(&mut self.names, before.clone());
            kinds.extend(cases::under(&world.when, read?, statement.line));
            outcomes.push(Outcome { world, end });
        }
        self.names = before.after(&outcomes).map_err(refused)?;
        Ok(kinds)
    }

    pub(super) fn conditional(
        &mut self,
        statement: &Statement,
        condition: Result<Holds, String>,
        block: &[Statement],
    ) -> Kinds {
        let name = &statement.name;
        let refused = |reason: String| Box::new(refuse(statement, &reason));
        if self.inside {
            return Err(refused(format!("`{name}` stands in another block")));
        }
        let condition =
            condition.map_err(|error| refused(format!("`{name}` is not read: {error}")))?;
        let condition = match condition {
            Holds::Never => return Ok(Vec::new()),
            Holds::Always => None,
            Holds::If(condition) => Some(condition),
        };
        let before = self.names.clone();
        (self.inside, self.groups) = (true, condition.as_ref().and_then(Condition::groups));
        self.within = condition.iter().cloned().collect();
        let then = self.all(block);
        (self.inside, self.groups) = (false, None);
        self.within.clear();
        let Some(condition) = condition else {
            return Ok(then.into_iter().map(|directive| directive.kind).collect());
        };
        let world = |when| World { when: vec![when], names: before.clone() };
        let not = cases::negated(&condition).map_err(refused)?;
        let outcomes = [
            Outcome { world: world(condition.clone()), end: std::mem::take(&mut self.names) },
            Outcome { world: world(not), end: before.clone() },
        ];
        self.names = before.clone();
        self.names = before.after(&outcomes).map_err(|why| refused(format!("`{name}` {why}")))?;
        // What was refused in it has been said; without anything left there is nothing to decide.
        let given = Vec::new();
        Ok(if then.is_empty() { Vec::new() } else { vec![Kind::If { given, condition, then }] })
    }

    /// The condition of an `if`, which may be about a name that was set.
    pub(super) fn condition(&self, arguments: &[String]) -> Result<Holds, String> {
        let (word, test): (&str, Test) = Condition::parts(arguments)?;
        let name = word.strip_prefix('$').unwrap_or_default();
        let name = name.strip_prefix('{').and_then(|name| name.strip_suffix('}')).unwrap_or(name);
        match self.names.value(name)? {
            Some(value) => cases::holds(value, test),
            None => Condition::of(word, test).map(Holds::If),
        }
    }

    /// Of a location of the host only what answers at once can be kept: other directives would
    /// need its place among the paths.
    pub(super) fn location(
        &mut self,
        statement: &Statement,
        condition: Result<Holds, String>,
        block: &[Statement],
    ) -> Kinds {
        let answers = |inner: &Statement| {
            matches!(inner.name.as_str(), "return" | "deny") && inner.block.is_none()
        };
        if !block.iter().all(answers) {
            let reason = "`location` can have nothing but `return` and `deny all` in it";
            let mut refusal = refuse(statement, reason);
            if let (true, Ok(Holds::If(condition))) = (refusal.guards, condition) {
                refusal.within = Some(vec![condition]);
            }
            return Err(Box::new(refusal));
        }
        self.conditional(statement, condition, block)
    }
}
