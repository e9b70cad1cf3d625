//! What every part of a translation needs: places, problems, files and names.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ir::{Fragment, Location, Name, Origin, Problem, SecretBytes, Severity, Upstream};

use super::{PROVIDER, Translation};
use crate::ir;
use crate::provider::file::field::{At, Field, Named};
use crate::provider::file::inputs::{Contents, Inputs};
use crate::provider::file::interpolate;
use crate::provider::file::node::Place;
use crate::provider::file::parse::Placed;

pub(super) struct Context<'a> {
    pub inputs: &'a Inputs,
    /// Upstreams that nobody declared: what URLs of services stand for.
    pub implicit: BTreeMap<Name, Upstream>,
    problems: Vec<(Place, Problem)>,
    usable: bool,
    /// Files asked for; asking happens through a shared reference while a document is
    /// substituted.
    references: RefCell<BTreeSet<PathBuf>>,
}

impl<'a> Context<'a> {
    pub fn new(inputs: &'a Inputs) -> Self {
        let start = Place { file: u32::MAX, line: 0, column: 0 };
        Self {
            inputs,
            implicit: BTreeMap::new(),
            problems: inputs.problems.iter().map(|problem| (start, problem.clone())).collect(),
            usable: inputs.problems.is_empty(),
            references: RefCell::default(),
        }
    }

    pub fn finish(mut self, fragment: Fragment) -> Translation {
        self.problems.sort_by_key(|(place, _)| *place);
        Translation {
            fragment,
            problems: self.problems.into_iter().map(|(_, problem)| problem).collect(),
            usable: self.usable,
            references: self.references.into_inner(),
        }
    }

    /// Whether nothing was found so far that makes the configuration unusable.
    pub fn usable(&self) -> bool {
        self.usable
    }

    /// Takes over problems of earlier stages.
    pub fn take(&mut self, problems: Vec<Placed>) {
        for (place, problem) in problems {
            self.usable &= problem.severity != Severity::Error;
            self.put(place, problem);
        }
    }

    /// Reports an error that makes the configuration unusable.
    pub fn error(&mut self, place: Place, message: impl Into<String>, hint: Option<&str>) {
        self.usable = false;
        self.put(place, with_hint(Problem::error(message), hint));
    }

    /// Reports an error that hurts only the object at `place`.
    pub fn isolated(&mut self, place: Place, message: impl Into<String>, hint: Option<&str>) {
        self.put(place, with_hint(Problem::error(message), hint));
    }

    /// Reports something worth knowing.
    pub fn warning(&mut self, place: Place, message: impl Into<String>, hint: Option<&str>) {
        self.put(place, with_hint(Problem::warning(message), hint));
    }

    fn put(&mut self, place: Place, problem: Problem) {
        let location = self.location(place);
        self.problems.push((place, problem.at(location)));
    }

    /// The place as users know it.
    pub fn location(&self, place: Place) -> Option<Location> {
        let source = self.inputs.documents.get(place.file as usize)?;
        Some(Location { file: source.name.clone(), line: place.line, column: place.column })
    }

    /// The origin of the object `name`.
    pub fn origin(&self, kind: &str, name: &str, place: Place) -> Origin {
        Origin {
            provider: Name::from(PROVIDER),
            kind: Name::from(kind),
            name: Name::from(name),
            location: self.location(place),
            ..Origin::default()
        }
    }

    /// The entries of one section over all documents. A name given twice is an error; an entry
    /// that was of no use is left out.
    pub fn merge<'d, T>(
        &mut self,
        kind: &str,
        sections: impl Iterator<Item = &'d Field<Named<T>>>,
    ) -> Vec<(&'d At<String>, Option<&'d T>)> {
        let mut seen: HashMap<&str, Place> = HashMap::new();
        let mut entries = Vec::new();
        for entry in sections.filter_map(Field::get).flat_map(|section| &section.0) {
            let name = &entry.name;
            if name.value.is_empty() {
                self.error(name.place, format!("a {kind} has no name"), None);
                continue;
            }
            if let Some(first) = seen.get(name.value.as_str()).copied() {
                self.twice(name.place, first, &format!("the {kind} `{}`", name.value));
                continue;
            }
            seen.insert(&name.value, name.place);
            if entry.value.is_absent() {
                self.error(name.place, format!("the {kind} `{}` is empty", name.value), None);
            }
            entries.push((name, entry.value.get()));
        }
        entries
    }

    /// The one value of a key that stands in at most one document.
    pub fn once<'d, T>(
        &mut self,
        key: &str,
        fields: impl Iterator<Item = &'d Field<T>>,
    ) -> Option<&'d At<T>> {
        let mut found: Option<&At<T>> = None;
        for at in fields.filter_map(Field::given) {
            match found {
                Some(first) => self.twice(at.place, first.place, &format!("`{key}`")),
                None => found = Some(at),
            }
        }
        found
    }

    /// Reports that something stands in two places.
    pub fn twice(&mut self, place: Place, first: Place, what: &str) {
        let hint = match self.location(first) {
            Some(location) => format!("it is defined in {location} already"),
            None => "it is defined already".to_owned(),
        };
        self.error(place, format!("{what} is defined twice"), Some(&hint));
    }

    /// `path` as seen from the document that names it.
    pub fn resolve(&self, place: Place, path: &Path) -> PathBuf {
        let source = self.inputs.documents.get(place.file as usize);
        match source.and_then(|source| source.path.parent()) {
            Some(directory) => directory.join(path),
            None => path.to_owned(),
        }
    }

    /// The bytes of the file at `path` and why they may be out of date or absent.
    pub fn read(&self, place: Place, path: &Path) -> (Option<&'a SecretBytes>, Option<&'a str>) {
        let path = self.resolve(place, path);
        let contents = self.inputs.files.get(&path);
        self.references.borrow_mut().insert(path);
        match contents {
            Some(Contents { bytes, error }) => (bytes.as_ref(), error.as_deref()),
            None => (None, Some("it was not read")),
        }
    }

    /// A PEM file as text; errors concern only the object at the path's place. What was read
    /// before a failure still serves.
    pub fn pem(&mut self, what: &str, path: &At<String>) -> (Option<Arc<str>>, bool) {
        let (bytes, error) = self.read(path.place, Path::new(&path.value));
        if let Some(error) = error {
            self.unreadable(what, path, error);
        }
        let text = bytes.and_then(|bytes| std::str::from_utf8(bytes.expose()).ok());
        if bytes.is_some() && text.is_none() {
            let message = format!("the {what} in {} is not PEM", shown(path));
            let hint = "PEM is text that starts with `-----BEGIN`";
            self.isolated(path.place, message, Some(hint));
        }
        (text.map(Arc::from), error.is_none())
    }

    /// Reports that a file of one object cannot be read.
    pub fn unreadable(&mut self, what: &str, path: &At<String>, error: &str) {
        let message = format!("cannot read the {what} from {}: {error}", shown(path));
        let hint = "a relative path starts at the directory of this file; once the file is there \
                    it is picked up";
        self.isolated(path.place, message, Some(hint));
    }
}

/// The value for messages.
pub(super) fn shown(text: &At<String>) -> String {
    if text.substituted {
        return "the substituted value".to_owned();
    }
    format!("`{}`", text.value.escape_debug())
}

fn with_hint(mut problem: Problem, hint: Option<&str>) -> Problem {
    problem.hint = hint.map(str::to_owned);
    problem
}

impl interpolate::Source for Context<'_> {
    fn variable(&self, name: &str) -> Option<&str> {
        self.inputs.env.get(name).map(String::as_str)
    }

    fn file(&self, place: Place, path: &Path) -> Result<String, String> {
        let (bytes, error) = self.read(place, path);
        let Some(bytes) = bytes else {
            return Err(error.unwrap_or("it is empty").to_owned());
        };
        let text = std::str::from_utf8(bytes.expose()).map_err(|_| "it is not UTF-8".to_owned())?;
        let text = text.strip_suffix('\n').unwrap_or(text);
        Ok(text.strip_suffix('\r').unwrap_or(text).to_owned())
    }
}
