//! Manifests on disk as the objects of a cluster, with the places they stand in.

use std::collections::HashMap;
use std::sync::Arc;

use ir::{Location, Problem};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::{Ingress, IngressClass};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::de::DeserializeOwned;
use serde_json::Value as Json;

use super::{Inputs, Key, Slice};
use crate::ir;
use crate::provider::file::node::{Node, Place, Scalar, Value};
use crate::provider::file::parse::parse;

/// Objects out of manifests.
#[derive(Default)]
pub struct Manifests {
    /// The objects.
    pub inputs: Inputs,
    /// What could not be read.
    pub problems: Vec<Problem>,
    files: Vec<Arc<str>>,
    /// Documents by kind and key.
    documents: HashMap<(String, Key), Node>,
}

/// Whether `text` is Kubernetes manifests: YAML whose first document that says anything has an
/// `apiVersion`.
pub fn is_manifest(text: &str) -> bool {
    let (documents, _) = parse(0, text);
    let first = documents.iter().find(|node| !matches!(node.value, Value::Null));
    first.is_some_and(|node| entry(node, "apiVersion").is_some())
}

impl Manifests {
    /// Adds the objects of a file. Kinds that configuration is not made from are passed over.
    pub fn add(&mut self, file: &str, text: &str) {
        let number = u32::try_from(self.files.len()).unwrap_or(u32::MAX);
        self.files.push(file.into());
        let (documents, problems) = parse(number, text);
        for (place, problem) in problems {
            self.problem(place, problem);
        }
        for document in documents {
            if !matches!(document.value, Value::Null) {
                self.object(document);
            }
        }
    }

    /// The same problem where it stands in the manifests: its message begins with what it is about
    /// in its object.
    pub fn locate(&self, problem: Problem) -> Problem {
        let Some(origin) = problem.origin.clone().filter(|_| problem.location.is_none()) else {
            return problem;
        };
        let key = Key::new(origin.namespace.as_str(), origin.name.as_str());
        let subject = problem.message.split_once(": ").map_or("", |(subject, _)| subject);
        let place = self.place(origin.kind.as_str(), &key, subject);
        problem.at(place)
    }

    /// Where `subject` stands in the object: an annotation's name, or a path like `spec.rules[0]`.
    /// Where it is not there, the place of the last of it that is.
    pub fn place(&self, kind: &str, key: &Key, subject: &str) -> Option<Location> {
        let document = self.documents.get(&(kind.to_owned(), key.clone()))?;
        let place = match subject.contains('/') {
            true => annotation(document, subject).unwrap_or(document.place),
            false => {
                find(document, subject.split(['.', '[']).map(|part| part.trim_end_matches(']')))
            }
        };
        Some(self.location(place))
    }

    fn location(&self, place: Place) -> Location {
        let file = self.files.get(place.file as usize).cloned().unwrap_or_else(|| "".into());
        Location { file, line: place.line, column: place.column }
    }

    fn problem(&mut self, place: Place, problem: Problem) {
        let location = self.location(place);
        self.problems.push(problem.at(Some(location)));
    }

    fn object(&mut self, mut document: Node) {
        let text =
            |name: &str| entry(&document, name).and_then(Node::text).unwrap_or_default().to_owned();
        let (version, kind) = (text("apiVersion"), text("kind"));
        if version.is_empty() || kind.is_empty() {
            let problem = Problem::error("the document has no `apiVersion` or no `kind`");
            let place = document.place;
            self.problem(place, problem.hint("each document of a manifest has both"));
            return;
        }
        if kind == "List" {
            let items = entry(&document, "items").map(|node| node.value.clone());
            if let Some(Value::List(items)) = items {
                items.into_iter().for_each(|item| self.object(item));
            }
            return;
        }
        self.quote_annotations(&mut document);
        match (&*version, &*kind) {
            ("networking.k8s.io/v1", "Ingress") => {
                self.store(kind, document, |inputs, key, object: Ingress| {
                    inputs.ingresses.insert(key, Arc::new(object.into()));
                });
            }
            ("networking.k8s.io/v1", "IngressClass") => {
                self.store(kind, document, |inputs, key, object: IngressClass| {
                    inputs.classes.insert(key.name, Arc::new(object));
                });
            }
            ("v1", "Service") => self.store(kind, document, |inputs, key, object: Service| {
                inputs.services.insert(key, Arc::new(object.into()));
            }),
            ("v1", "Secret") => self.store(kind, document, |inputs, key, mut object: Secret| {
                let texts = object.string_data.take().unwrap_or_default();
                let data = object.data.get_or_insert_default();
                data.extend(texts.into_iter().map(|(k, text)| (k, ByteString(text.into_bytes()))));
                inputs.secrets.insert(key, Arc::new(object));
            }),
            ("v1", "ConfigMap") => self.store(kind, document, |inputs, key, object: ConfigMap| {
                inputs.config_maps.insert(key, Arc::new(object));
            }),
            ("discovery.k8s.io/v1", "EndpointSlice") => {
                self.store(kind, document, |inputs, key, object: EndpointSlice| {
                    let slice = Slice::of(&object);
                    let Some(service) = slice.service.clone() else { return };
                    let service = Key::new(key.namespace.clone(), service);
                    let slices = inputs.slices.entry(service).or_default();
                    Arc::make_mut(slices).insert(key.name, Arc::new(slice));
                });
            }
            (old, "Ingress") => {
                let problem = Problem::error(format!("there is no Ingress in `{old}` any more"));
                let place = entry(&document, "apiVersion").map_or(document.place, |n| n.place);
                self.problem(place, problem.hint("write it as `networking.k8s.io/v1`"));
            }
            _ => {}
        }
    }

    /// Reads an object of a known kind and puts it among the inputs.
    fn store<T: DeserializeOwned + Named>(
        &mut self,
        kind: String,
        document: Node,
        put: impl FnOnce(&mut Inputs, Key, T),
    ) {
        let object: T = match serde_json::from_value(json(&document)) {
            Ok(object) => object,
            Err(error) => {
                let place = document.place;
                self.problem(place, Problem::error(format!("this is no {kind}: {error}")));
                return;
            }
        };
        let metadata = object.metadata();
        let Some(name) = metadata.name.clone() else {
            let place = document.place;
            self.problem(place, Problem::error(format!("the {kind} has no `metadata.name`")));
            return;
        };
        let namespace = match kind == "IngressClass" {
            true => String::new(),
            false => metadata.namespace.clone().unwrap_or_else(|| "default".to_owned()),
        };
        let key = Key::new(namespace, name);
        put(&mut self.inputs, key.clone(), object);
        if self.documents.insert((kind.clone(), key.clone()), document.clone()).is_some() {
            let problem = Problem::warning(format!("the {kind} {key} is here twice"));
            self.problem(document.place, problem.hint("the last one counts"));
        }
    }

    /// An annotation that YAML takes for a number or truth value is refused by the API server; here
    /// it is said where, and what was meant is read on.
    fn quote_annotations(&mut self, document: &mut Node) {
        let Some(annotations) =
            entry_mut(document, "metadata").and_then(|metadata| entry_mut(metadata, "annotations"))
        else {
            return;
        };
        let Value::Map(entries) = &mut annotations.value else { return };
        let mut wrong = Vec::new();
        for (key, value) in entries {
            let place = value.place;
            if let Value::Scalar(scalar) = &mut value.value
                && !typed(scalar).is_string()
            {
                let name = key.text().unwrap_or_default();
                let problem = Problem::error(format!("{name}: the value is not text"));
                let hint = format!("put it in quotes: \"{}\"", scalar.text);
                wrong.push((place, problem.hint(hint)));
                scalar.plain = false;
            }
        }
        for (place, problem) in wrong {
            self.problem(place, problem);
        }
    }
}

/// What has metadata.
trait Named {
    fn metadata(&self) -> &ObjectMeta;
}

impl<T: k8s_openapi::Metadata<Ty = ObjectMeta>> Named for T {
    fn metadata(&self) -> &ObjectMeta {
        k8s_openapi::Metadata::metadata(self)
    }
}

fn entry<'n>(node: &'n Node, name: &str) -> Option<&'n Node> {
    let Value::Map(entries) = &node.value else { return None };
    entries.iter().find(|(key, _)| key.text() == Some(name)).map(|(_, value)| value)
}

fn entry_mut<'n>(node: &'n mut Node, name: &str) -> Option<&'n mut Node> {
    let Value::Map(entries) = &mut node.value else { return None };
    entries.iter_mut().find(|(key, _)| key.text() == Some(name)).map(|(_, value)| value)
}

fn annotation(document: &Node, name: &str) -> Option<Place> {
    let annotations = entry(entry(document, "metadata")?, "annotations")?;
    let Value::Map(entries) = &annotations.value else { return None };
    entries.iter().find(|(key, _)| key.text() == Some(name)).map(|(key, _)| key.place)
}

fn find<'p>(document: &Node, path: impl IntoIterator<Item = &'p str>) -> Place {
    let (mut node, mut place) = (document, document.place);
    for part in path {
        let next = match &node.value {
            Value::Map(entries) => {
                let found = entries.iter().find(|(key, _)| key.text() == Some(part));
                found.map(|(key, value)| (key.place, value))
            }
            Value::List(items) => {
                let item = part.parse::<usize>().ok().and_then(|index| items.get(index));
                item.map(|item| (item.place, item))
            }
            Value::Broken | Value::Null | Value::Scalar(_) => None,
        };
        let Some((found, value)) = next else { break };
        (place, node) = (found, value);
    }
    place
}

fn json(node: &Node) -> Json {
    match &node.value {
        Value::Broken | Value::Null => Json::Null,
        Value::List(items) => Json::Array(items.iter().map(json).collect()),
        Value::Map(entries) => {
            let entries = entries
                .iter()
                .map(|(key, value)| (key.text().unwrap_or_default().to_owned(), json(value)));
            Json::Object(entries.collect())
        }
        Value::Scalar(scalar) => typed(scalar),
    }
}

/// A scalar by the types of YAML's core schema.
fn typed(scalar: &Scalar) -> Json {
    let text = scalar.text.as_str();
    if !scalar.plain {
        return Json::from(text);
    }
    match text {
        "true" | "True" | "TRUE" => return Json::from(true),
        "false" | "False" | "FALSE" => return Json::from(false),
        _ => {}
    }
    let numeric = text.bytes().all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b));
    match text.parse::<i64>() {
        Ok(number) => Json::from(number),
        Err(_) if numeric => match text.parse::<f64>() {
            Ok(number) if number.is_finite() => Json::from(number),
            _ => Json::from(text),
        },
        Err(_) => Json::from(text),
    }
}
