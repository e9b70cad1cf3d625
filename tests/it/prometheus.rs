//! The metrics through a real Prometheus: the queries of ingress-nginx's dashboards and of our own
//! return data, and promtool finds nothing to complain about.

mod dashboard;
mod ingress_nginx;
mod world;

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use self::world::World;
use crate::harness::*;

/// How long queries may take to have data: two scrapes of what happened in between, on a machine
/// with a lot to do.
const SETTLE: std::time::Duration = std::time::Duration::from_secs(60);

/// Asks until each of these has data, by what it is for.
async fn have_data(prometheus: &Prometheus, mut queries: Vec<(String, String)>) {
    let deadline = tokio::time::Instant::now() + SETTLE;
    while !queries.is_empty() {
        let mut missing = Vec::new();
        for (what, query) in queries {
            match prometheus.query(&query).await {
                Ok(found) if found.numbers > 0 => {}
                Ok(_) => missing.push((what, query)),
                Err(error) => panic!("{what}: {query}: {error}"),
            }
        }
        queries = missing;
        let late = tokio::time::Instant::now() >= deadline;
        assert!(queries.is_empty() || !late, "no data within {SETTLE:?}: {queries:#?}");
        pass(std::time::Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_query_of_the_dashboards_has_data() {
    let world = World::start().await;
    let traffic = world.traffic();
    // As in a cluster, where a pod's namespace is a label of its target.
    let labels = [("namespace", "edge"), ("pod", "edge-1")];
    let prometheus = Prometheus::scraping(world.admin(), &labels).await;
    ingress_nginx::check(&prometheus).await;
    dashboard::check(&prometheus).await;
    traffic.stop().await;
    let page = world.page().await;
    assert_eq!(lint(&page), lint_of_theirs(&page), "promtool check metrics");
}

#[tokio::test]
async fn what_is_counted_by_rule_is_what_happened() {
    let world = World::start().await;
    world.each_once().await;
    ingress_nginx::check_counts(&world).await;
}

#[tokio::test]
async fn without_the_option_promtool_finds_nothing_to_complain_about() {
    let app = Server::echo().await;
    let proxy = Proxy::to(app.address()).await;
    for target in ["/", "/?status=503"] {
        get(proxy.web(), "t", target).await;
    }
    let page = proxy.admin("/metrics").await.text();
    assert!(page.contains("portcullis_requests_total") && !page.contains("nginx_"));
    assert_eq!(lint(&page), Vec::<String>::new());
}

/// What `promtool check metrics` says of a page, a line each.
fn lint(page: &str) -> Vec<String> {
    let mut command = Command::new(program("promtool"));
    command.args(["check", "metrics"]).stdin(Stdio::piped());
    let command = command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("promtool starts");
    let mut input = child.stdin.take().expect("a pipe");
    let page = page.to_owned();
    let writer = std::thread::spawn(move || input.write_all(page.as_bytes()));
    let output = child.wait_with_output().expect("it ends");
    writer.join().expect("no panic").expect("it reads everything");
    let text = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

/// What is wrong with ingress-nginx's names themselves.
fn lint_of_theirs(page: &str) -> Vec<String> {
    let counters = ["errors", "requests", "success"];
    let mut lines: Vec<String> = counters
        .iter()
        .filter(|name| page.contains(&format!("nginx_ingress_controller_{name}{{")))
        .map(|name| {
            format!("nginx_ingress_controller_{name} counter metrics should have \"_total\" suffix")
        })
        .collect();
    lines.sort();
    lines
}

/// Alerts that are shipped as objects of a cluster are rules that Prometheus takes.
#[test]
fn shipped_rules_are_taken() {
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("it can be read").flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            // Helm's templates are no YAML before it has read them.
            let template = path.components().any(|part| part.as_os_str() == "templates");
            if text.contains("kind: PrometheusRule") && !template {
                text.split("\n---").for_each(|document| check_rules(&path, document));
            }
        }
    }
}

fn check_rules(path: &Path, document: &str) {
    let object: Value = serde_saphyr::from_str(document).expect("it is YAML");
    if object["kind"] != "PrometheusRule" {
        return;
    }
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    // JSON is YAML.
    write!(file, "{}", object["spec"]).expect("written");
    let mut command = Command::new(program("promtool"));
    let output = command.args(["check", "rules"]).arg(file.path()).output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {said}", path.display());
}
