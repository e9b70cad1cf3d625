//! The annotations of one object while they are read: finds values by name under either prefix
//! and keeps account of what became of each.

use std::collections::{BTreeMap, BTreeSet};

use super::finding::{Class, Finding, shown};
use super::table::{self, Support};
use super::{Annotations, OWN_PREFIX, Options, Parsed, unknown};

/// What a wrong value leads to.
#[derive(Clone, Copy)]
enum Wrong {
    /// The default.
    Ignored,
    /// 503: access would be less restricted.
    Denied,
    /// The object's last good version.
    Refused,
}

/// A value and the full name it stands under.
struct Entry<'a> {
    key: &'a str,
    value: &'a str,
}

/// Hands out values by name, once each.
pub(super) struct Reader<'a> {
    entries: BTreeMap<&'static str, Entry<'a>>,
    read: BTreeSet<&'static str>,
    findings: Vec<(&'static str, Finding)>,
    denied: Option<String>,
    refused: Option<String>,
    snippets: bool,
}

impl<'a> Reader<'a> {
    /// Sorts `annotations`: those that will be read, and those about which all is known already.
    pub(super) fn new(annotations: &'a BTreeMap<String, String>, options: &Options) -> Self {
        let mut reader = Self::empty(options.snippets);
        // Our own prefix wins, so it comes first.
        let other = options.prefix.trim_end_matches('/');
        for prefix in [OWN_PREFIX].into_iter().chain((other != OWN_PREFIX).then_some(other)) {
            for (key, value) in annotations {
                match key.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('/')) {
                    Some(name) => reader.sort(name, key, value),
                    None => continue,
                }
            }
        }
        for key in annotations.keys() {
            if let Some(text) = unknown::foreign(key, &options.prefix) {
                reader.note("", key, Class::NeverExisted, &text);
            }
        }
        reader
    }

    /// A reader of values whose names are known to be good, as of the ConfigMap's.
    pub(super) fn over(values: impl IntoIterator<Item = (&'static str, &'a str, &'a str)>) -> Self {
        let mut reader = Self::empty(true);
        for (name, key, value) in values {
            reader.sort(name, key, value);
        }
        reader
    }

    fn empty(snippets: bool) -> Self {
        Self {
            entries: BTreeMap::new(),
            read: BTreeSet::new(),
            findings: Vec::new(),
            denied: None,
            refused: None,
            snippets,
        }
    }

    fn sort(&mut self, name: &str, key: &'a str, value: &'a str) {
        let Some((name, support)) = table::find(name) else {
            return self.note("", key, Class::NeverExisted, &unknown::explain(name));
        };
        let value = value.trim();
        if value.is_empty() {
            return self.note(
                name,
                key,
                Class::Ignored,
                "is empty, which is as if it were not there",
            );
        }
        if let Some(winner) = self.entries.get(name) {
            let text = format!("`{}` is there as well and wins", winner.key);
            return self.note(name, key, Class::Ignored, &text);
        }
        match support {
            Support::Unsupported { reason, remedy } => {
                let text = format!("is not honoured: {reason}\n{remedy}");
                return self.note(name, key, Class::NotHonoured, &text);
            }
            Support::Denies { reason, remedy } => {
                let text = format!("{reason}\n{remedy}");
                return self.note(name, key, Class::Denied, &text);
            }
            Support::Honoured | Support::Differently(_) => {}
        }
        let lines = table::may_have_lines(name);
        if value.chars().any(|c| c.is_control() && !(lines && matches!(c, '\n' | '\r' | '\t'))) {
            let class = match () {
                () if table::is_guard(name) => Class::Denied,
                () if table::is_essential(name) => Class::Refused,
                () => Class::Ignored,
            };
            let text = "has a line break or another control character in it\nwrite it in one line";
            return self.note(name, key, class, text);
        }
        self.entries.insert(name, Entry { key, value });
    }

    fn note(&mut self, name: &'static str, key: &str, class: Class, text: &str) {
        let finding = Finding::new(key, class, text);
        let reason = || Some(format!("{key}: {}", finding.message));
        match class {
            Class::Denied if self.denied.is_none() => self.denied = reason(),
            Class::Refused if self.refused.is_none() => self.refused = reason(),
            _ => {}
        }
        self.findings.push((name, finding));
    }

    /// Whether snippets are read.
    pub(super) fn takes_snippets(&self) -> bool {
        self.snippets
    }

    /// Whether `name` is there with a value that is not obviously unusable.
    pub(super) fn has(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    /// Whether requests are answered 503 because of what was read as `name`.
    pub(super) fn denies(&self, name: &str) -> bool {
        let denied = |class| matches!(class, Class::Denied);
        self.findings.iter().any(|(noted, finding)| *noted == name && denied(finding.class))
    }

    /// The value of `name`; where it is wrong, it is as if it were not there.
    pub(super) fn value<T>(
        &mut self,
        name: &'static str,
        parse: impl FnOnce(&'a str) -> Result<T, String>,
    ) -> Option<T> {
        self.take(name, Wrong::Ignored, parse)
    }

    /// The value of `name`, which restricts access; where it is wrong, nobody gets in.
    pub(super) fn guard<T>(
        &mut self,
        name: &'static str,
        parse: impl FnOnce(&'a str) -> Result<T, String>,
    ) -> Option<T> {
        self.take(name, Wrong::Denied, parse)
    }

    /// The value of `name`, without which the object would mean something else; where it is wrong,
    /// the object is not taken over.
    pub(super) fn essential<T>(
        &mut self,
        name: &'static str,
        parse: impl FnOnce(&'a str) -> Result<T, String>,
    ) -> Option<T> {
        self.take(name, Wrong::Refused, parse)
    }

    fn take<T>(
        &mut self,
        name: &'static str,
        wrong: Wrong,
        parse: impl FnOnce(&'a str) -> Result<T, String>,
    ) -> Option<T> {
        self.read.insert(name);
        let &Entry { key, value } = self.entries.get(name)?;
        match parse(value) {
            Ok(parsed) => {
                match table::find(name) {
                    Some((_, Support::Differently(text))) => {
                        self.note(name, key, Class::Difference, text);
                    }
                    _ => self.note(name, key, Class::Honoured, "is honoured"),
                }
                Some(parsed)
            }
            Err(error) => {
                let (class, consequence) = match wrong {
                    Wrong::Ignored => (Class::Ignored, "; it is ignored"),
                    Wrong::Denied => (Class::Denied, "; requests are answered 503"),
                    Wrong::Refused => (
                        Class::Refused,
                        "; the object stays as it was when it was last good, or is answered 503",
                    ),
                };
                let (what, remedy) = error.split_once('\n').unwrap_or((&error, ""));
                let shown = shown(value);
                let text = format!("`{shown}` {what}{consequence}\n{remedy}");
                self.note(name, key, class, text.trim_end_matches('\n'));
                None
            }
        }
    }

    /// Takes back that `name` is honoured and says this instead, for what only shows beside other
    /// annotations. Of a wrong value enough has been said.
    pub(super) fn amend(&mut self, name: &'static str, class: Class, text: &str) {
        let Some(&Entry { key, .. }) = self.entries.get(name) else { return };
        let before = self.findings.len();
        self.findings.retain(|(noted, finding)| {
            let counts = matches!(finding.class, Class::Honoured | Class::Difference);
            *noted != name || !counts
        });
        if self.findings.len() < before {
            self.note(name, key, class, text);
        }
    }

    /// Says something about one line of `name` beside all else that is said about it.
    pub(super) fn add(&mut self, name: &'static str, class: Class, text: &str) {
        if let Some(Entry { key, .. }) = self.entries.get(name) {
            self.note(name, key, class, text);
        }
    }

    /// Takes back that annotations were honoured which a canary does not have.
    pub(super) fn only_for_canary(&mut self) {
        for (name, finding) in &mut self.findings {
            let counts = matches!(finding.class, Class::Honoured | Class::Difference);
            if counts && !name.starts_with("canary") && !table::counts_on_a_canary(name) {
                let text = "has no effect on a canary: the main Ingress says it for both";
                *finding = Finding::new(finding.annotation.clone(), Class::Ignored, text);
            }
        }
    }

    /// The names of `table` that were looked for.
    #[cfg(test)]
    pub(super) fn names_read(&self) -> &BTreeSet<&'static str> {
        &self.read
    }

    /// What all of it comes to.
    pub(super) fn finish(self, values: Annotations) -> Parsed {
        let mut findings: Vec<_> = self.findings.into_iter().map(|(_, finding)| finding).collect();
        // Stable: the lines of a snippet stay in their order.
        findings.sort_by(|a, b| a.annotation.cmp(&b.annotation));
        Parsed { values, denied: self.denied, refused: self.refused, findings }
    }
}
