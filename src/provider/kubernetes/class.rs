//! Which Ingresses are this controller's.

use k8s_openapi::api::networking::v1::IngressClass;

use super::{Ingress, Inputs, Key, Options};

/// The annotation from before there were classes.
const CLASS: &str = "kubernetes.io/ingress.class";
/// What marks a class as the one for objects without a class.
const DEFAULT_CLASS: &str = "ingressclass.kubernetes.io/is-default-class";

/// Says of Ingresses whether they are this controller's.
pub(super) struct Selection<'i> {
    inputs: &'i Inputs,
    options: &'i Options,
    /// Whether one of our classes is for objects without a class.
    has_default: bool,
}

impl<'i> Selection<'i> {
    /// By the classes of `inputs`.
    pub fn new(inputs: &'i Inputs, options: &'i Options) -> Self {
        let has_default = inputs.classes.values().any(|class| is_default(class, options));
        Self { inputs, options, has_default }
    }

    /// Why an Ingress is someone else's; `None` where it is ours.
    pub fn refusal(&self, key: &Key, ingress: &Ingress) -> Option<String> {
        let options = self.options;
        if !options.watches(&key.namespace) {
            return Some("its namespace is not watched".to_owned());
        }
        let spec = ingress.spec.as_ref();
        // The field wins: with it, the annotation says nothing.
        if let Some(name) = spec.and_then(|spec| spec.ingress_class_name.as_deref()) {
            return match self.inputs.classes.get(name) {
                Some(class) if is_ours(class, options) => None,
                Some(class) => Some(format!(
                    "its class `{name}` is for the controller `{}`",
                    class
                        .spec
                        .as_ref()
                        .and_then(|spec| spec.controller.as_deref())
                        .unwrap_or_default()
                )),
                None if options.class_by_name && options.classes.contains(name) => None,
                None => Some(format!("there is no IngressClass `{name}`")),
            };
        }
        match ingress.annotations.get(CLASS).filter(|name| !name.is_empty()) {
            Some(name) if options.classes.contains(name) => None,
            Some(name) => Some(format!("its annotation {CLASS} asks for `{name}`")),
            None if options.without_class || self.has_default => None,
            None => Some("it has no class".to_owned()),
        }
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
