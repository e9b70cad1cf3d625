//! `tests/golden/annotations/<family>.in.yaml` -> `.out.yaml`: objects' annotations by the name of
//! a case, and what they come to. `config-map` and `flags` are read as what they are.
//!
//! `UPDATE_GOLDEN=1` writes the outputs anew.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::*;

#[test]
fn every_golden_case_parses_as_recorded() {
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/annotations");
    let mut inputs: Vec<PathBuf> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_str().unwrap().ends_with(".in.yaml"))
        .collect();
    inputs.sort();
    let mut differing = Vec::new();
    for input in &inputs {
        let output = PathBuf::from(input.to_str().unwrap().replace(".in.yaml", ".out.yaml"));
        let got = cases(input);
        if update {
            fs::write(&output, &got).unwrap();
        } else if fs::read_to_string(&output).unwrap_or_default() != got {
            eprintln!("--- {} should be:\n{got}", output.display());
            differing.push(input);
        }
    }
    assert!(inputs.len() >= 18, "only {} files", inputs.len());
    assert!(differing.is_empty(), "look at the differences, then UPDATE_GOLDEN=1: {differing:?}");
}

fn cases(input: &Path) -> String {
    let text = fs::read_to_string(input).unwrap();
    let name = input.file_name().unwrap().to_str().unwrap();
    let mut out = Map::new();
    match name {
        "flags.in.yaml" => {
            let cases: BTreeMap<String, Vec<String>> = serde_saphyr::from_str(&text).unwrap();
            for (case, arguments) in cases {
                out.insert(case, shown(&parse_flags(&arguments)));
            }
        }
        _ => {
            let cases: BTreeMap<String, BTreeMap<String, String>> =
                serde_saphyr::from_str(&text).unwrap();
            for (case, values) in cases {
                let value = if name == "config-map.in.yaml" {
                    shown(&parse_config_map(&values))
                } else {
                    shown(&parse(&with_prefix(values), &Options::default()))
                };
                out.insert(case, value);
            }
        }
    }
    let text = serde_saphyr::to_string(&Value::Object(out)).unwrap();
    text.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

/// Names without a prefix are ingress-nginx's.
fn with_prefix(values: BTreeMap<String, String>) -> BTreeMap<String, String> {
    let full = |name: String| match name.contains('/') {
        true => name,
        false => format!("{NGINX_PREFIX}/{name}"),
    };
    values.into_iter().map(|(name, value)| (full(name), value)).collect()
}

/// What is said, without what is not; findings in a line each.
fn shown<T: serde::Serialize>(parsed: &T) -> Value {
    let mut value = serde_json::to_value(parsed).unwrap();
    if let Some(findings) = value.get_mut("findings") {
        for finding in findings.as_array_mut().unwrap() {
            *finding = line(finding).into();
        }
    }
    pruned(value).unwrap_or(Value::Object(Map::new()))
}

fn line(finding: &Value) -> String {
    let text = |key: &str| finding[key].as_str().unwrap_or_default().to_owned();
    let annotation = text("annotation").replace(&format!("{NGINX_PREFIX}/"), "");
    let line = format!("{}: {annotation}: {}", text("class"), text("message"));
    match text("remedy") {
        remedy if remedy.is_empty() => line,
        remedy => format!("{line} ({remedy})"),
    }
}

fn pruned(value: Value) -> Option<Value> {
    match value {
        Value::Null => None,
        Value::Object(fields) => {
            let fields: Map<_, _> =
                fields.into_iter().filter_map(|(key, value)| Some((key, pruned(value)?))).collect();
            (!fields.is_empty()).then_some(Value::Object(fields))
        }
        Value::Array(items) => Some(items.into_iter().filter_map(pruned).collect()),
        other => Some(other),
    }
}
