//! `tests/golden/kubernetes/<case>.in.yaml` -> `.out.yaml`: the fragment with its endpoints, and
//! what is said about it.
//!
//! `UPDATE_GOLDEN=1` writes the outputs anew. Lines `# option: name` turn on what `options` knows.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::sync::Arc;

use serde::Serialize;

use super::*;
use crate::ir;

#[derive(Serialize)]
struct Output<'t> {
    listeners: &'t BTreeMap<ir::Name, Arc<ir::Listener>>,
    hosts: &'t [Arc<ir::VirtualHost>],
    upstreams: &'t BTreeMap<ir::Name, Arc<ir::Upstream>>,
    endpoints: &'t BTreeMap<ir::Name, Arc<[ir::EndpointSpec]>>,
    secrets: BTreeSet<String>,
    config_maps: BTreeSet<String>,
}

#[test]
fn every_golden_case_translates_as_recorded() {
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut inputs: Vec<PathBuf> = fs::read_dir(repository("tests/golden/kubernetes"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_str().unwrap().ends_with(".in.yaml"))
        .collect();
    inputs.sort();
    let mut differing = Vec::new();
    for input in &inputs {
        let name = input.file_name().unwrap().to_str().unwrap();
        let output = input.with_file_name(name.replace(".in.yaml", ".out.yaml"));
        let got = case(name, &fs::read_to_string(input).unwrap());
        if update {
            fs::write(&output, &got).unwrap();
        } else if fs::read_to_string(&output).unwrap_or_default() != got {
            eprintln!("--- {} should be:\n{got}", output.display());
            differing.push(input);
        }
    }
    assert!(inputs.len() > 10, "only {} cases", inputs.len());
    assert!(differing.is_empty(), "look at the differences, then UPDATE_GOLDEN=1: {differing:?}");
}

fn case(name: &str, text: &str) -> String {
    let mut manifests = Manifests::default();
    manifests.add(name, text);
    let options = options(text);
    let translation = translate(&manifests.inputs, &options);
    let mut out = String::new();
    for problem in &manifests.problems {
        writeln!(out, "# {problem}").unwrap();
    }
    for (key, why) in &*translation.ignored {
        writeln!(out, "# {key} is not served: {why}").unwrap();
    }
    for (key, report) in &*translation.reports {
        for Finding { verdict, subject, message, hint } in &report.findings {
            let line = manifests.place("Ingress", key, subject).map_or(0, |place| place.line);
            let said = [message.clone()].into_iter().chain(hint.clone()).collect::<Vec<_>>();
            let said = said.join(" (") + if hint.is_some() { ")" } else { "" };
            writeln!(out, "# {key}:{line} {verdict:?} {subject}: {said}").unwrap();
        }
    }
    for problem in &translation.problems {
        if problem.origin.as_ref().is_some_and(|origin| origin.kind.as_str() == "ConfigMap") {
            writeln!(out, "# ConfigMap: {problem}").unwrap();
        }
    }
    let keys = |keys: &BTreeSet<Key>| keys.iter().map(ToString::to_string).collect();
    let mut listeners = translation.fragment.listeners.clone();
    if options.default_certificate.is_none() && !text.contains("kind: Secret") {
        // Nothing about them depends on the case.
        listeners.clear();
    }
    let output = Output {
        listeners: &listeners,
        hosts: &translation.fragment.hosts,
        upstreams: &translation.fragment.upstreams,
        endpoints: &translation.endpoints,
        secrets: keys(&translation.references.secrets),
        config_maps: keys(&translation.references.config_maps),
    };
    out.push_str(&serde_saphyr::to_string(&output).unwrap());
    out.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

fn options(text: &str) -> Options {
    let mut options = Options { without_class: true, ..Options::default().in_place_of_nginx() };
    for option in text.lines().filter_map(|line| line.strip_prefix("# option: ")) {
        match option {
            "config-map" => options.config_map = Some(Key::new("edge", "controller")),
            "allow-headers" => {
                let names = ["x-shop", "x-frame-options"].map(http::HeaderName::from_static);
                options.allowed_response_headers = names.to_vec();
            }
            "class-required" => options.without_class = false,
            "default-backend" => options.default_backend = Some(Key::new("shop", "fallback")),
            "default-certificate" => options.default_certificate = Some(Key::new("shop", "any")),
            "external-names" => options.external_names = true,
            "only-portcullis" => {
                options = Options { without_class: false, ..Options::default() };
            }
            "rules" => options.rules = true,
            "partial" => options.partial = true,
            "ssl-passthrough" => options.ssl_passthrough = true,
            "watch-shop" => options.namespaces = ["shop".into()].into(),
            other => panic!("{other}: no such option"),
        }
    }
    options
}
