//! The examples in `config/`, the sample of the design, and the schema.

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;

use super::super::node::{self, Node};
use super::super::parse::parse;
use super::*;

#[test]
fn every_example_loads_without_problems() {
    let mut examples = 0;
    for entry in fs::read_dir(repository("config")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        examples += 1;
        let inputs = with_files(load(std::slice::from_ref(&path), &BTreeMap::new()));
        let translation = translate(&inputs);
        let report = render(&translation.problems, &inputs, false);
        assert!(translation.problems.is_empty(), "{}:\n{report}", path.display());
        assert!(!translation.fragment.listeners.is_empty(), "{} is empty", path.display());
        assert!(!translation.fragment.hosts.is_empty(), "{} is empty", path.display());
    }
    assert!(examples >= 7, "only {examples} examples");
}

/// The keys of the everything example and those of the schema, as `path.to.key` without names of
/// the user's.
#[test]
fn everything_yaml_and_the_schema_have_the_same_keys() {
    let schema = schema();
    let mut known = BTreeSet::new();
    keys_of_schema(&schema, &schema, "", &mut known);
    let text = fs::read_to_string(repository("config/everything.yaml")).unwrap();
    let (nodes, problems) = parse(0, &text);
    assert!(problems.is_empty());
    let mut used = BTreeSet::new();
    keys_in_use(&schema, &schema, &nodes[0], "", &mut used);
    // Only one of the two may be given, and a route of the example shows this one.
    assert!(used.contains(".defaults.timeout") && used.contains(".hosts.routes.timeouts.request"));
    known.remove(".defaults.timeouts.request");
    // Another name of one that is there.
    let alias = ".upstreams.balance.client_side_weighted_round_robin";
    known.retain(|key| !key.starts_with(alias));
    let undocumented: Vec<_> = known.difference(&used).collect();
    let unknown: Vec<_> = used.difference(&known).collect();
    assert!(undocumented.is_empty(), "not in everything.yaml: {undocumented:?}");
    assert!(unknown.is_empty(), "not in the schema: {unknown:?}");
    assert!(known.len() > 100, "only {} keys", known.len());
}

#[test]
fn every_key_of_the_schema_has_a_description() {
    let schema = schema();
    let mut definitions = vec![&schema];
    definitions.extend(schema["$defs"].as_object().unwrap().values());
    for definition in definitions {
        let Some(properties) = definition["properties"].as_object() else { continue };
        assert_eq!(definition["additionalProperties"], Value::Bool(false));
        for (key, property) in properties {
            let description = property["description"].as_str().unwrap_or_default();
            assert!(description.len() > 8, "{key} has no description: {property}");
        }
    }
}

/// The alternatives a schema stands for, references resolved.
fn alternatives<'a>(root: &'a Value, schema: &'a Value) -> Vec<&'a Value> {
    let schema = match schema["$ref"].as_str() {
        Some(reference) => root.pointer(reference.trim_start_matches('#')).unwrap(),
        None => schema,
    };
    match schema["anyOf"].as_array() {
        Some(any) => any.iter().flat_map(|schema| alternatives(root, schema)).collect(),
        None => vec![schema],
    }
}

fn keys_of_schema(root: &Value, schema: &Value, path: &str, keys: &mut BTreeSet<String>) {
    for schema in alternatives(root, schema) {
        if let Some(properties) = schema["properties"].as_object() {
            for (key, schema) in properties {
                let path = format!("{path}.{key}");
                keys_of_schema(root, schema, &path, keys);
                keys.insert(path);
            }
        }
        if schema["additionalProperties"].is_object() {
            keys_of_schema(root, &schema["additionalProperties"], path, keys);
        }
        if schema["items"].is_object() {
            keys_of_schema(root, &schema["items"], path, keys);
        }
    }
}

fn keys_in_use(root: &Value, schema: &Value, node: &Node, path: &str, keys: &mut BTreeSet<String>) {
    match &node.value {
        node::Value::List(items) => {
            for schema in alternatives(root, schema).iter().filter(|s| s["items"].is_object()) {
                for item in items {
                    keys_in_use(root, &schema["items"], item, path, keys);
                }
            }
        }
        node::Value::Map(entries) => {
            for schema in alternatives(root, schema) {
                for (key, value) in entries {
                    let key = key.text().unwrap();
                    if schema["properties"].is_object() {
                        let path = format!("{path}.{key}");
                        keys_in_use(root, &schema["properties"][key], value, &path, keys);
                        keys.insert(path);
                    } else if schema["additionalProperties"].is_object() {
                        keys_in_use(root, &schema["additionalProperties"], value, path, keys);
                    }
                }
            }
        }
        node::Value::Broken | node::Value::Null | node::Value::Scalar(_) => {}
    }
}
