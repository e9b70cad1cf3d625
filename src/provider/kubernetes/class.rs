//! Which Ingresses are this controller's, and in which order they count.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::networking::v1::IngressClass;

use super::{Ingress, Inputs, Key, Options};

/// The annotation from before there were classes.
const CLASS: &str = "kubernetes.io/ingress.class";
/// What marks a class as the one for objects without a class.
const DEFAULT_CLASS: &str = "ingressclass.kubernetes.io/is-default-class";

/// An Ingress to serve.
pub(super) type Selected<'i> = (&'i Key, &'i Arc<Ingress>);

/// The Ingresses to serve, the oldest first, by which conflicts are settled; and why the others are
/// not.
pub(super) fn select<'i>(
    inputs: &'i Inputs,
    options: &Options,
) -> (Vec<Selected<'i>>, BTreeMap<Key, String>) {
    let has_default = inputs.classes.values().any(|class| is_default(class, options));
    let mut ours = Vec::new();
    let mut others = BTreeMap::new();
    for (key, ingress) in &inputs.ingresses {
        match refusal(key, ingress, inputs, options, has_default) {
            None => ours.push((key, ingress)),
            Some(why) => drop(others.insert(key.clone(), why)),
        }
    }
    // The sort is stable: those of one age, or of none as in manifests, stay in order of names.
    ours.sort_by_cached_key(|(_, ingress)| ingress.created.as_ref().map(|time| time.0));
    (ours, others)
}

/// Why an Ingress is someone else's; `None` where it is ours.
fn refusal(
    key: &Key,
    ingress: &Ingress,
    inputs: &Inputs,
    options: &Options,
    has_default: bool,
) -> Option<String> {
    if !options.watches(&key.namespace) {
        return Some("its namespace is not watched".to_owned());
    }
    let spec = ingress.spec.as_ref();
    // The field wins: with it, the annotation says nothing.
    if let Some(name) = spec.and_then(|spec| spec.ingress_class_name.as_deref()) {
        return match inputs.classes.get(name) {
            Some(class) if is_ours(class, options) => None,
            Some(class) => Some(format!(
                "its class `{name}` is for the controller `{}`",
                class.spec.as_ref().and_then(|spec| spec.controller.as_deref()).unwrap_or_default()
            )),
            None if options.class_by_name && options.classes.contains(name) => None,
            None => Some(format!("there is no IngressClass `{name}`")),
        };
    }
    match ingress.annotations.get(CLASS).filter(|name| !name.is_empty()) {
        Some(name) if options.classes.contains(name) => None,
        Some(name) => Some(format!("its annotation {CLASS} asks for `{name}`")),
        None if options.without_class || has_default => None,
        None => Some("it has no class".to_owned()),
    }
}

fn is_ours(class: &IngressClass, options: &Options) -> bool {
    let controller = class.spec.as_ref().and_then(|spec| spec.controller.as_deref());
    controller.is_some_and(|controller| options.controllers.contains(controller))
}

fn is_default(class: &IngressClass, options: &Options) -> bool {
    let annotations = class.metadata.annotations.as_ref();
    let marked = annotations.and_then(|all| all.get(DEFAULT_CLASS)).is_some_and(|is| is == "true");
    marked && is_ours(class, options)
}
