//! Names and values that are taken one by one, with account of what became of each: the
//! ConfigMap's keys, the command line's flags.

use std::collections::BTreeMap;

use super::finding::{Class, Finding};

/// A name that is known and not honoured: its name (one that ends with `*` stands for all that
/// begin so), why, and what to do.
pub(super) type Unhonoured = (&'static str, &'static str, &'static str);

/// What is left to take.
pub(super) struct Keys<'a> {
    left: BTreeMap<&'a str, &'a str>,
    known: Vec<&'static str>,
    findings: Vec<Finding>,
    /// What stands before a name where people write it.
    before: &'static str,
}

impl<'a> Keys<'a> {
    pub(super) fn new(left: BTreeMap<&'a str, &'a str>, before: &'static str) -> Self {
        Self { left, known: Vec::new(), findings: Vec::new(), before }
    }

    /// The value of `name`; where it is wrong, it is as if it were not there.
    pub(super) fn take<T>(
        &mut self,
        name: &'static str,
        parse: impl FnOnce(&'a str) -> Result<T, String>,
    ) -> Option<T> {
        let value = self.given(name)?;
        self.read(name, value, parse, Class::Ignored, "the default holds")
    }

    /// The value of `name`, which restricts access; where it is wrong, nobody gets in.
    pub(super) fn guard<T>(
        &mut self,
        name: &'static str,
        parse: impl FnOnce(&'a str) -> Result<T, String>,
    ) -> Option<T> {
        let value = self.given(name)?;
        self.read(name, value, parse, Class::Denied, "requests are answered 503")
    }

    /// What stands there; an empty value is none.
    fn given(&mut self, name: &'static str) -> Option<&'a str> {
        self.known.push(name);
        Some(self.left.remove(name)?.trim()).filter(|value| !value.is_empty())
    }

    fn read<T>(
        &mut self,
        name: &str,
        value: &'a str,
        parse: impl FnOnce(&'a str) -> Result<T, String>,
        wrong: Class,
        consequence: &str,
    ) -> Option<T> {
        let parsed = match value.chars().any(|c| c.is_control() && c != '\n') {
            true => Err("has a control character in it".to_owned()),
            false => parse(value),
        };
        match parsed {
            Ok(parsed) => {
                self.note(name, Class::Honoured, "is honoured");
                Some(parsed)
            }
            Err(error) => {
                let (what, remedy) = error.split_once('\n').unwrap_or((&error, ""));
                let text = format!("its value {what}; {consequence}\n{remedy}");
                self.note(name, wrong, text.trim_end_matches('\n'));
                None
            }
        }
    }

    /// Takes `name` and its value for someone else to read.
    pub(super) fn pass_on(&mut self, name: &'static str) -> Option<&'a str> {
        self.known.push(name);
        self.left.remove(name)
    }

    fn note(&mut self, name: &str, class: Class, text: &str) {
        self.findings.push(Finding::new(format!("{}{name}", self.before), class, text));
    }

    /// What is to be said of those taken and of the rest.
    pub(super) fn finish(mut self, unhonoured: &[Unhonoured]) -> Vec<Finding> {
        for name in std::mem::take(&mut self.left).into_keys() {
            let row = unhonoured.iter().find(|(known, ..)| match known.strip_suffix('*') {
                Some(start) => name.starts_with(start),
                None => *known == name,
            });
            if let Some((_, reason, remedy)) = row {
                let text = format!("is not honoured: {reason}\n{remedy}");
                self.note(name, Class::NotHonoured, &text);
                continue;
            }
            let names = self.known.iter().copied().chain(unhonoured.iter().map(|(name, ..)| *name));
            let close = names
                .map(|known| (strsim::damerau_levenshtein(name, known), known))
                .filter(|(distance, known)| *distance <= 1.max(known.len().min(name.len()) / 4))
                .min_by_key(|(distance, _)| *distance);
            let text = match close {
                Some((_, meant)) => format!("is not known\ndid you mean `{}{meant}`?", self.before),
                None => "is not known and does nothing\ntake it out".to_owned(),
            };
            self.note(name, Class::NeverExisted, &text);
        }
        self.findings
    }
}
