//! `tests/golden/file/<case>.in.yaml` -> `.out.yaml`: the fragment, or what is said about it.
//!
//! `UPDATE_GOLDEN=1` writes the outputs anew. A case with a `# file: name` line gets a file of
//! that name with the text after it.

use std::fmt::Write;
use std::fs;

use super::*;

#[test]
fn every_golden_case_translates_as_recorded() {
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut cases = 0;
    let mut differing = Vec::new();
    for input in cases_in(&repository("tests/golden/file")) {
        cases += 1;
        let output = input.with_file_name(
            input.file_name().unwrap().to_str().unwrap().replace(".in.yaml", ".out.yaml"),
        );
        let got = case(&input);
        if update {
            fs::write(&output, &got).unwrap();
        } else if fs::read_to_string(&output).unwrap_or_default() != got {
            eprintln!("--- {} should be:\n{got}", output.display());
            differing.push(input);
        }
    }
    assert!(cases > 20, "only {cases} cases");
    assert!(differing.is_empty(), "look at the differences, then UPDATE_GOLDEN=1: {differing:?}");
}

fn cases_in(directory: &Path) -> Vec<PathBuf> {
    let mut cases: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_str().unwrap().ends_with(".in.yaml"))
        .collect();
    cases.sort();
    cases
}

fn case(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    let name = path.file_name().unwrap().to_str().unwrap();
    let mut inputs = Inputs { env: variables(), ..Inputs::default() };
    // Documents after a `#--- name` line are files of their own.
    let mut current = (name.to_owned(), String::new());
    for line in text.split_inclusive('\n') {
        match line.strip_prefix("#--- ") {
            Some(next) => {
                let (name, text) =
                    std::mem::replace(&mut current, (next.trim().to_owned(), String::new()));
                inputs.add_text(&name, &text);
            }
            None => current.1.push_str(line),
        }
    }
    inputs.add_text(&current.0, &current.1);
    for line in text.lines() {
        if let Some((name, contents)) =
            line.strip_prefix("# file: ").and_then(|rest| rest.split_once(' '))
        {
            inputs.add_file(name, contents.replace("\\n", "\n").as_bytes());
        }
    }
    let references = translate(&inputs).references;
    for path in references {
        let error = Some("there is no such file".to_owned());
        inputs.files.entry(path).or_insert(inputs::Contents { bytes: None, error });
    }
    let translation = translate(&inputs);
    let mut out = String::new();
    if !translation.problems.is_empty() {
        let report = render(&translation.problems, &inputs, false);
        for line in report.lines() {
            writeln!(out, "# {line}").unwrap();
        }
        writeln!(out, "# {}", summary(&translation.problems)).unwrap();
    }
    if translation.usable {
        out.push_str(&serde_saphyr::to_string(&translation.fragment).unwrap());
    }
    out.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}
