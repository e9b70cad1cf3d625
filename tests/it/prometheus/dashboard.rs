//! The dashboard that is shipped: every query of it, and every variable, has data.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value;

use super::{SETTLE, have_data};
use crate::harness::*;

/// What Grafana would put in the place of variables.
fn filled(text: &str, variables: &BTreeMap<String, String>) -> String {
    let mut text = text.to_owned();
    for (name, value) in variables {
        text = text.replace(&format!("${{{name}}}"), value).replace(&format!("${name}"), value);
    }
    assert!(!text.contains('$'), "a variable that the dashboard does not declare: {text}");
    text
}

fn panels<'d>(of: &'d Value, all: &mut Vec<&'d Value>) {
    for panel in of["panels"].as_array().into_iter().flatten() {
        all.push(panel);
        panels(panel, all);
    }
}

/// Every query has data.
pub async fn check(prometheus: &Prometheus) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/grafana/portcullis.json");
    let text = std::fs::read_to_string(path).expect("it is there");
    let dashboard: Value = serde_json::from_str(&text).expect("it is JSON");
    let mut variables: BTreeMap<String, String> = [("__rate_interval", "1m"), ("__range", "1m")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
    for variable in dashboard["templating"]["list"].as_array().expect("a list") {
        let name = variable["name"].as_str().expect("a name");
        variables.insert(name.to_owned(), ".*".to_owned());
        let Some(query) = variable["query"]["query"].as_str() else { continue };
        let query = filled(query, &variables);
        let inner = query.strip_prefix("label_values(").and_then(|query| query.strip_suffix(')'));
        let (selector, label) = inner.and_then(|i| i.rsplit_once(", ")).expect("label_values");
        eventually(SETTLE, &format!("values of ${name}"), async || {
            !prometheus.label_values(selector, label).await.expect("it can be asked").is_empty()
        })
        .await;
    }
    let mut all = Vec::new();
    panels(&dashboard, &mut all);
    let mut ids = BTreeSet::new();
    let mut queries = Vec::new();
    for panel in all {
        let title = panel["title"].as_str().expect("a title");
        assert!(ids.insert(panel["id"].as_u64().expect("an id")), "{title}: its id is another's");
        let targets: Vec<_> = panel["targets"].as_array().into_iter().flatten().collect();
        assert!(panel["type"] == "row" || !targets.is_empty(), "{title} asks nothing");
        for target in targets {
            let expression = filled(target["expr"].as_str().expect("an expression"), &variables);
            queries.push((title.to_owned(), expression));
        }
    }
    assert!(queries.len() > 40, "only {} queries", queries.len());
    have_data(prometheus, queries).await;
}
