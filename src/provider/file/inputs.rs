//! What a translation is made from, and how it is read from disk.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ir::{Location, Problem, SecretBytes};

use super::marks::Marks;
use super::translate::{Translation, translate};
use crate::ir;

/// The largest file that is read, bytes: configuration, certificate or body.
const LARGEST: u64 = 64 * 1024 * 1024;

/// Everything a translation depends on: documents, referenced files and variables. Two equal
/// inputs give equal translations.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Inputs {
    pub(super) documents: Vec<Source>,
    pub(super) files: BTreeMap<PathBuf, Contents>,
    pub(super) env: BTreeMap<String, String>,
    /// What went wrong before there were documents: paths that are not there.
    pub(super) problems: Vec<Problem>,
}

/// A configuration file.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Source {
    /// As the user named it.
    pub name: Arc<str>,
    pub path: PathBuf,
    /// The text, or why it could not be read.
    pub text: Result<Arc<str>, String>,
}

/// A referenced file.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Contents {
    /// The bytes; where reading failed now, those read before.
    pub bytes: Option<SecretBytes>,
    /// Why the file could not be read now.
    pub error: Option<String>,
}

impl Inputs {
    /// One document that stands in memory. `name` is its file name in problems, and relative paths
    /// in it start at that file's directory.
    pub fn from_text(name: &str, text: &str, env: BTreeMap<String, String>) -> Self {
        let mut inputs = Self { env, ..Self::default() };
        inputs.add_text(name, text);
        inputs
    }

    /// Adds a further document that stands in memory.
    pub fn add_text(&mut self, name: &str, text: &str) {
        self.documents.push(Source { name: name.into(), path: name.into(), text: Ok(text.into()) });
    }

    /// Adds the contents of a referenced file.
    pub fn add_file(&mut self, path: impl Into<PathBuf>, bytes: &[u8]) {
        let contents = Contents { bytes: Some(SecretBytes::new(bytes)), error: None };
        self.files.insert(path.into(), contents);
    }

    /// Takes out the documents whose text `is` something else than configuration, with their
    /// names.
    pub fn take_out(&mut self, is: impl Fn(&str) -> bool) -> Vec<(Arc<str>, Arc<str>)> {
        let mut taken = Vec::new();
        self.documents.retain(|source| match &source.text {
            Ok(text) if is(text) => {
                taken.push((source.name.clone(), text.clone()));
                false
            }
            _ => true,
        });
        taken
    }

    /// The text of the document called `name`, for excerpts.
    pub fn text(&self, name: &str) -> Option<&str> {
        let source = self.documents.iter().find(|source| &*source.name == name)?;
        source.text.as_deref().ok()
    }

    /// The configuration files.
    pub fn documents(&self) -> impl Iterator<Item = &Path> {
        self.documents.iter().map(|source| source.path.as_path())
    }

    /// The files that configuration files refer to, there or not.
    pub fn references(&self) -> impl Iterator<Item = &Path> {
        self.files.keys().map(PathBuf::as_path)
    }
}

/// Reads the configuration at `paths`, each a file or a directory of `*.yaml` and `*.yml`, and
/// every file it refers to. Blocks on I/O.
///
/// Nothing fails here: what cannot be read is a problem of the translation.
pub fn load(paths: &[PathBuf], env: &BTreeMap<String, String>) -> Inputs {
    load_after(paths, env, None).inputs
}

/// The variables of this process, but those that are not UTF-8.
pub fn environment() -> BTreeMap<String, String> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

/// What was read, what it means, and the marks by which a change is recognised.
pub(super) struct Loaded {
    pub inputs: Inputs,
    pub translation: Translation,
    pub marks: Marks,
}

/// As `load`, with what is needed to do it again. Where a referenced file cannot be read any
/// more, what was read of it in `previous` stays.
pub(super) fn load_after(
    paths: &[PathBuf],
    env: &BTreeMap<String, String>,
    previous: Option<&Inputs>,
) -> Loaded {
    let mut inputs = Inputs { env: env.clone(), ..Inputs::default() };
    let mut marks = Marks::default();
    for path in paths {
        match expand(path) {
            // A directory that is filled by someone else may be empty for a moment. Taken at its
            // word it would close every listener.
            Ok(files) if files.is_empty() => {
                let place = Location { file: shown(path), line: 0, column: 0 };
                let problem = Problem::error("there is no configuration file in it").hint(
                    "a directory's *.yaml and *.yml files are read; write `{}` into one if \
                     nothing is meant",
                );
                inputs.problems.push(problem.at(Some(place)));
            }
            Ok(files) => {
                let sources = files.into_iter().map(|file| read_source(file, &mut marks));
                inputs.documents.extend(sources);
            }
            Err(error) => {
                let file = Location { file: shown(path), line: 0, column: 0 };
                let problem = Problem::error(format!("cannot be read: {}", plain(&error)));
                inputs.problems.push(problem.at(Some(file)));
            }
        }
    }
    // A file's path may itself come out of a file, so what is wanted is known only step by step.
    // Each round reads something new or is the last.
    loop {
        let translation = translate(&inputs);
        let missing: BTreeSet<_> = translation
            .references
            .iter()
            .filter(|path| !inputs.files.contains_key(*path))
            .cloned()
            .collect();
        if missing.is_empty() {
            return Loaded { inputs, translation, marks };
        }
        for path in missing {
            let contents = read_reference(&path, previous, &mut marks);
            inputs.files.insert(path, contents);
        }
    }
}

/// The configuration files that `path` stands for now: itself, or those in it by name.
pub(super) fn expand(path: &Path) -> io::Result<Vec<PathBuf>> {
    if !std::fs::metadata(path)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path)? {
        let file = entry?.path();
        let extension = file.extension().and_then(|extension| extension.to_str());
        let hidden = file.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if matches!(extension, Some("yaml" | "yml")) && !hidden && file.is_file() {
            files.push(file);
        }
    }
    files.sort();
    Ok(files)
}

/// What an I/O error says without its number.
pub(super) fn plain(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "there is no such file".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        io::ErrorKind::IsADirectory => "it is a directory".to_owned(),
        _ => error.to_string(),
    }
}

fn shown(path: &Path) -> Arc<str> {
    path.to_string_lossy().into()
}

fn read_source(path: PathBuf, marks: &mut Marks) -> Source {
    let text = match read(&path, marks) {
        Err(error) => Err(plain(&error)),
        Ok(bytes) => match String::from_utf8(bytes) {
            Ok(text) => Ok(text.into()),
            Err(error) => {
                Err(format!("it is not UTF-8 from byte {} on", error.utf8_error().valid_up_to()))
            }
        },
    };
    Source { name: shown(&path), path, text }
}

fn read_reference(path: &Path, previous: Option<&Inputs>, marks: &mut Marks) -> Contents {
    match read(path, marks) {
        Ok(bytes) => Contents { bytes: Some(SecretBytes::new(bytes)), error: None },
        Err(error) => Contents {
            bytes: previous
                .and_then(|previous| previous.files.get(path))
                .and_then(|contents| contents.bytes.clone()),
            error: Some(plain(&error)),
        },
    }
}

/// Reads a file, having marked its state before.
fn read(path: &Path, marks: &mut Marks) -> io::Result<Vec<u8>> {
    marks.take(path);
    let metadata = std::fs::metadata(path)?;
    // A pipe or device could block for ever or never end.
    if metadata.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    if !metadata.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    if metadata.len() > LARGEST {
        return Err(io::Error::other("it is larger than 64 MiB"));
    }
    std::fs::read(path)
}
