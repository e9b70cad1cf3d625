//! What the container image is built from, and how the systemd unit starts again: everything that
//! Cargo needs gets past `.dockerignore`, which lets in only what it names.

use std::path::Path;
use std::process::Command;

use super::{assert_none, root};

#[test]
fn the_image_is_built_from_everything_cargo_needs() {
    let rules = std::fs::read_to_string(root().join(".dockerignore")).expect(".dockerignore");
    let faults: Vec<_> = needed()
        .into_iter()
        .filter(|path| !is_let_in(&rules, path))
        .map(|path| format!(".dockerignore keeps {path} out of the image's build"))
        .collect();
    assert_none(&faults);
}

#[test]
fn the_unit_is_started_again_however_often_it_failed() {
    let path = root().join("deploy/systemd/portcullis.service");
    let unit = std::fs::read_to_string(path).expect("the unit");
    let (head, service) = unit.split_once("[Service]").expect("a section");
    let says = |section: &str, wanted: &str| section.lines().any(|line| line == wanted);
    // In another section systemd ignores it.
    assert!(head.starts_with("[Unit]") && says(head, "StartLimitIntervalSec=0"), "{head}");
    assert!(says(service, "Restart=on-failure"), "{service}");
}

/// What Cargo reads: the sources of all targets that the manifest names or that are found without
/// being named, but for tests, which are found only where they are.
fn needed() -> Vec<String> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--locked", "--offline", "--no-deps", "--format-version", "1"])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let targets = metadata["packages"][0]["targets"].as_array().expect("targets");
    let sources = targets.iter().filter(|target| target["kind"][0] != "test").map(|target| {
        let path = Path::new(target["src_path"].as_str().expect("a path"));
        path.strip_prefix(root()).expect("a path below the manifest").display().to_string()
    });
    let beside = ["Cargo.toml", "Cargo.lock", ".cargo/config.toml", "rust-toolchain.toml"];
    let beside = beside.into_iter().filter(|path| root().join(path).exists()).map(str::to_owned);
    let paths: Vec<_> = sources.chain(beside).collect();
    for known in ["build.rs", "src/main.rs", "benches/router.rs", "Cargo.lock"] {
        assert!(paths.iter().any(|path| path == known), "no {known} in {paths:?}");
    }
    paths
}

/// Whether `path` is part of the build: the last rule that names it or a folder above it counts.
fn is_let_in(rules: &str, path: &str) -> bool {
    let mut let_in = true;
    for rule in rules.lines().map(str::trim).filter(|rule| !rule.is_empty()) {
        let (pattern, says) = match rule.strip_prefix('!') {
            Some(pattern) => (pattern, true),
            None => (rule, false),
        };
        let below = |folder: &str| path.strip_prefix(folder).is_some_and(|r| r.starts_with('/'));
        if !rule.starts_with('#') && (pattern == "*" || pattern == path || below(pattern)) {
            let_in = says;
        }
    }
    let_in
}
