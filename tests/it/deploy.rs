//! What `deploy/` ships, as `kubectl kustomize` and Helm render it: all ways to install agree, and
//! the chart refuses what it cannot do.

mod installed;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::harness::*;

const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/helm/portcullis");
const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/deploy");

fn repository(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn read(path: &str) -> String {
    fs::read_to_string(repository(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// What a command prints, or what it complains of.
fn run(command: &mut Command) -> Result<String, String> {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}

fn kustomize(path: &str) -> String {
    let mut kubectl = Cluster::tool("kubectl");
    run(kubectl.arg("kustomize").arg(repository(path))).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// `helm template` of the chart in namespace `edge`.
fn template(arguments: &[&str]) -> Result<String, String> {
    let mut helm = Cluster::tool("helm");
    run(helm.args(["template", "portcullis", CHART, "--namespace=edge"]).args(arguments))
}

/// The objects of a YAML stream, by kind, namespace and name.
fn objects(yaml: &str) -> BTreeMap<[String; 3], Value> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(yaml).expect("YAML");
    let word = |object: &Value, path: &str| {
        object.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let key = |object: &Value| {
        ["/kind", "/metadata/namespace", "/metadata/name"].map(|path| word(object, path))
    };
    documents.into_iter().map(|object| (key(&object), object)).collect()
}

/// The values files among the golden files.
fn values() -> Vec<PathBuf> {
    let files = fs::read_dir(GOLDEN).expect("a directory");
    let mut files: Vec<_> = files.map(|file| file.expect("an entry").path()).collect();
    files.retain(|file| file.to_string_lossy().ends_with(".values.yaml"));
    files.sort();
    assert!(files.len() >= 5, "{files:?}");
    files
}

#[test]
fn the_plain_manifest_is_the_overlay_with_a_load_balancer() {
    let plain = objects(&read("deploy/kubernetes/portcullis.yaml"));
    let rendered = objects(&kustomize("deploy/kustomize/overlays/loadbalancer"));
    assert_eq!(plain.keys().collect::<Vec<_>>(), rendered.keys().collect::<Vec<_>>());
    for (key, object) in &plain {
        assert_eq!(object, &rendered[key], "{key:?}");
    }
}

/// A tag that moves would give the pods of one Deployment different programs, and a node that has
/// the image would ask a registry for it all the same.
#[test]
fn every_way_to_install_names_the_image_of_this_version() {
    let all = [
        ("chart", template(&[]).expect("rendered")),
        ("overlay", kustomize("deploy/kustomize/overlays/loadbalancer")),
        ("manifest", read("deploy/kubernetes/portcullis.yaml")),
        ("shop", read("deploy/kubernetes/shop.yaml")),
    ];
    for (how, text) in all {
        let images = text.lines().filter_map(|line| line.trim().strip_prefix("image: "));
        let images: BTreeSet<_> = images.map(|image| image.trim_matches('"')).collect();
        let expected = concat!("portcullis:", env!("CARGO_PKG_VERSION"));
        assert_eq!(images, BTreeSet::from([expected]), "{how}");
    }
}

/// `tests/golden/deploy`: what Kustomize makes of `<name>`, and Helm of `<name>.values.yaml`.
#[test]
fn everything_is_rendered_as_recorded() {
    let mut cases = vec![
        ("kustomize-hostnetwork".to_owned(), kustomize("deploy/kustomize/overlays/hostnetwork")),
        ("kustomize-namespaced".to_owned(), kustomize("deploy/kustomize/overlays/namespaced")),
        ("kustomize-components".to_owned(), kustomize("tests/golden/deploy/components")),
    ];
    for file in values() {
        let name = file.file_name().and_then(|name| name.to_str()).expect("text");
        let name = format!("helm-{}", name.trim_end_matches(".values.yaml"));
        let path = file.to_str().expect("text");
        let rendered = template(&["--values", path]);
        cases.push((name, rendered.unwrap_or_else(|error| panic!("{path}: {error}"))));
        let mut helm = Cluster::tool("helm");
        let lint = helm.args(["lint", "--strict", "--quiet", CHART, "--values", path]);
        run(lint).unwrap_or_else(|error| panic!("{path}: {error}"));
    }
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut differing = Vec::new();
    for (name, got) in cases {
        let path = format!("{GOLDEN}/{name}.out.yaml");
        if update {
            fs::write(&path, &got).expect("written");
        } else if fs::read_to_string(&path).unwrap_or_default() != got {
            eprintln!("--- {path} should be:\n{got}");
            differing.push(name);
        }
    }
    assert!(differing.is_empty(), "look at the differences, then UPDATE_GOLDEN=1: {differing:?}");
}

/// Whoever may act for the controller, however it is installed, may do this and nothing more.
#[test]
fn no_way_to_install_has_rights_of_its_own() {
    let overlay = |name| objects(&kustomize(&format!("deploy/kustomize/overlays/{name}")));
    let chart = |name: &str| {
        let file = format!("{GOLDEN}/{name}.values.yaml");
        objects(&template(&["--values", &file]).expect("rendered"))
    };
    let everywhere = rights(&overlay("loadbalancer"));
    assert_eq!(rights(&chart("default")), everywhere);
    let mut nodes = everywhere.clone();
    nodes.insert(" nodes get".to_owned());
    assert_eq!(rights(&overlay("hostnetwork")), nodes);
    assert_eq!(rights(&chart("host-network")), nodes);
    let mut namespaced = everywhere;
    namespaced.retain(|right| !right.contains("ingressclasses"));
    for (how, all) in [("overlay", overlay("namespaced")), ("chart", chart("namespaced"))] {
        assert_eq!(rights(&all), namespaced, "{how}");
        let cluster_wide = all.keys().filter(|[_, namespace, _]| namespace.is_empty());
        let cluster_wide: Vec<_> = cluster_wide.collect();
        assert!(cluster_wide.is_empty(), "{how}: {cluster_wide:?}");
    }
    for rule in &namespaced {
        let writes = ["create", "update", "patch", "delete", "*"];
        let secrets = rule.contains("secrets") || rule.contains("pods");
        assert!(!(secrets && writes.iter().any(|verb| rule.ends_with(verb))), "{rule}");
    }
}

/// Group, resource and verb of every rule.
fn rights(all: &BTreeMap<[String; 3], Value>) -> BTreeSet<String> {
    let list = |rule: &Value, key: &str| -> Vec<String> {
        serde_json::from_value(rule[key].clone()).expect("a list of words")
    };
    let mut rights = BTreeSet::new();
    for role in all.iter().filter(|([kind, ..], _)| kind.ends_with("Role")).map(|(_, role)| role) {
        for rule in role["rules"].as_array().expect("rules") {
            for group in list(rule, "apiGroups") {
                for resource in list(rule, "resources") {
                    let verbs = list(rule, "verbs").into_iter();
                    rights.extend(verbs.map(|verb| format!("{group} {resource} {verb}")));
                }
            }
        }
    }
    rights
}

#[test]
fn the_chart_says_what_is_wrong_with_values() {
    for (argument, said) in [
        ("controller.replicaCuont=3", "'/controller': additional properties 'replicaCuont'"),
        ("controler.replicaCount=3", "additional properties 'controler'"),
        ("controller.service.extrenalTrafficPolicy=Local", "'extrenalTrafficPolicy' not allowed"),
        ("controller.replicaCount=two", "'/controller/replicaCount': got string, want integer"),
        ("controller.kind=Both", "one of 'Deployment', 'DaemonSet'"),
        ("controller.service.ports.http=80000", "maximum"),
        ("controller.extraArgs.v=3", "`portcullis run` has no flag --v. It has: access-log,"),
        ("controller.extraArgs.no-hsts=maybe", "no-hsts is a switch"),
        ("controller.image.image=ingress-nginx/controller", "which is ingress-nginx itself"),
        ("rbac.scope=true", "set controller.scope.enabled"),
        ("controller.metrics.serviceMonitor.enabled=true", "wants controller.metrics.enabled"),
    ] {
        let error = template(&["--set", argument]).expect_err(argument);
        assert!(error.contains(said), "{argument}: {error}");
    }
}

/// What becomes of values that only ingress-nginx's chart has: `refused` and `ignored`, with the
/// reason for each path.
fn of_the_other_chart() -> BTreeMap<String, BTreeMap<String, String>> {
    let table = read("deploy/helm/portcullis/files/ingress-nginx-values.yaml");
    serde_saphyr::from_str(&table).expect("a table")
}

#[test]
fn values_of_the_other_chart_are_refused_with_the_reason() {
    for (path, why) in &of_the_other_chart()["refused"] {
        let error = template(&["--set", &format!("{path}=true")]).expect_err(path);
        assert!(error.contains(&format!("{path} means nothing to Portcullis. {why}")), "{error}");
        template(&["--set", &format!("{path}=false")]).expect("what is off asks for nothing");
    }
}

#[test]
fn the_chart_knows_the_flags_of_the_binary() {
    let source = read("deploy/helm/portcullis/templates/_args.tpl");
    let (_, rest) = source.split_once("\"portcullis.flags\" -}}").expect("the list");
    let (list, _) = rest.split_once("{{- end }}").expect("its end");
    let known: BTreeMap<String, BTreeSet<String>> = serde_saphyr::from_str(list).expect("YAML");
    let help = run(Command::new(portcullis()).args(["run", "--help"])).expect("help");
    let (mut valued, mut switches) = (BTreeSet::new(), BTreeSet::new());
    for line in help.lines() {
        let Some((before, flag)) = line.split_once("--") else { continue };
        if !matches!(before.trim(), "" | "-c,") {
            continue;
        }
        let name = flag.split([' ', '[']).next().expect("a word").to_owned();
        let takes = flag[name.len()..].starts_with(" <");
        if takes {
            valued.insert(name)
        } else {
            switches.insert(name)
        };
    }
    switches.remove("help");
    assert_eq!(known["valued"], valued);
    assert_eq!(known["switches"], switches);
}

#[test]
fn alerts_are_the_same_everywhere_and_about_metrics_that_exist() {
    let alerts = read("deploy/helm/portcullis/files/alerts.yaml");
    let shipped: Value = serde_saphyr::from_str(&alerts).expect("YAML");
    let component: Value =
        serde_saphyr::from_str(&read("deploy/kustomize/components/monitoring/alerts.yaml"))
            .expect("YAML");
    assert_eq!(component["spec"], shipped);
    let families = read("src/telemetry/families.rs");
    let mut seen = 0;
    for group in shipped["groups"].as_array().expect("groups") {
        for rule in group["rules"].as_array().expect("rules") {
            let expression = rule["expr"].as_str().expect("an expression");
            let word = |c: char| !(c.is_ascii_alphanumeric() || c == '_');
            for name in expression.split(word).filter(|word| word.starts_with("portcullis_")) {
                seen += 1;
                assert!(families.contains(&format!("\"{name}\"")), "{name} in {}", rule["alert"]);
            }
        }
    }
    assert!(seen > 10, "{seen}");
}
