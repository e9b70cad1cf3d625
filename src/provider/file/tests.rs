//! Golden files, properties of the language, and the examples in `config/`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::*;

mod examples;
mod golden;
mod properties;
mod watching;

/// The variables every case may use.
fn variables() -> BTreeMap<String, String> {
    [("PORT", "9000"), ("EMPTY", ""), ("HOST", "shop.example.com"), ("ATTACK", "x\nworkers: 7")]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Puts something into every file the documents refer to and that is not there.
fn with_files(mut inputs: Inputs) -> Inputs {
    for _ in 0..4 {
        for path in translate(&inputs).references {
            if inputs.files.get(&path).is_none_or(|contents| contents.error.is_some()) {
                inputs.add_file(path, b"-----BEGIN NOTHING-----\n");
            }
        }
    }
    inputs
}
