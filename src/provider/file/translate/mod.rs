//! Documents to a fragment: a pure function of its inputs.

mod action;
mod affinity;
mod auth;
mod auth_cache;
mod balance;
mod bodies;
mod client_auth;
mod context;
mod cors;
mod error_pages;
mod guard;
mod header;
mod host;
mod https;
mod listener;
mod passthrough;
mod range;
mod resilience;
mod route;
mod rule;
mod settings;
mod template;
mod upstream;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use ir::{Fragment, Name, Problem};

use self::context::Context;
use super::decode::decode;
use super::field::Field;
use super::inputs::Inputs;
use super::interpolate::interpolate;
use super::node::{Node, Place, Value};
use super::parse::parse;
use super::raw;
use crate::ir;

/// The provider's name in origins.
pub(super) const PROVIDER: &str = "file";

/// How to say that nothing is meant.
const MEANT: &str = "write `{}` if it is meant to be empty";

/// What documents mean, and what is wrong with them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Translation {
    /// The configuration; only to be used where `usable`.
    pub fragment: Fragment,
    /// Everything that was found, by file and place.
    pub problems: Vec<Problem>,
    /// Whether the configuration may be served. A certificate that cannot be read is an error, but
    /// one that hurts only itself; any other error makes the whole unusable.
    pub usable: bool,
    /// Every file the documents refer to, there or not.
    pub references: BTreeSet<PathBuf>,
}

/// Translates `inputs`. Never fails: what is wrong is in the problems.
pub fn translate(inputs: &Inputs) -> Translation {
    let mut context = Context::new(inputs);
    let documents = documents(&mut context);
    let fragment = fragment(&mut context, &documents);
    context.finish(fragment)
}

/// Parses, substitutes and decodes every document.
fn documents(context: &mut Context<'_>) -> Vec<raw::Document> {
    let mut documents = Vec::new();
    let mut says_something = false;
    for (file, source) in (0_u32..).zip(&context.inputs.documents) {
        let start = Place { file, line: 0, column: 0 };
        let text = match &source.text {
            Ok(text) => text,
            Err(error) => {
                context.error(start, format!("cannot be read: {error}"), None);
                continue;
            }
        };
        // A file that was just truncated is about to be written; no one means it so.
        if text.trim().is_empty() {
            context.error(start, "the file is empty", Some(MEANT));
            continue;
        }
        let (nodes, problems) = parse(file, text);
        says_something |= nodes.iter().any(|node| !matches!(node.value, Value::Null));
        context.take(problems);
        for mut node in nodes {
            let mut problems = Vec::new();
            interpolate(&mut node, &*context, &mut problems);
            context.take(problems);
            documents.extend(document(context, &node));
        }
    }
    // One file among others may be commented out. All of them are so only while they are written:
    // a file has got as far as the comment at its head.
    if !says_something && context.usable() && !context.inputs.documents.is_empty() {
        let start = Place { file: 0, line: 0, column: 0 };
        context.error(start, "there is nothing in the configuration but comments", Some(MEANT));
    }
    documents
}

fn document(context: &mut Context<'_>, node: &Node) -> Option<raw::Document> {
    if matches!(node.value, Value::Null) {
        return None;
    }
    let mut problems = Vec::new();
    let document = decode(node, &mut problems);
    context.take(problems);
    document
}

fn fragment(context: &mut Context<'_>, documents: &[raw::Document]) -> Fragment {
    let listeners = context.merge("listener", documents.iter().map(|d| &d.listeners));
    let hosts = context.merge("host", documents.iter().map(|d| &d.hosts));
    let upstreams = context.merge("upstream", documents.iter().map(|d| &d.upstreams));
    let settings = settings::settings(context, documents);
    let defaults = context.once("defaults", documents.iter().map(|d| &d.defaults));
    let defaults = route::Defaults::new(context, defaults.map(|at| &at.value));
    let names = host::Names {
        listeners: listeners.iter().map(|(name, _)| name.value.as_str()).collect(),
        secure: listeners
            .iter()
            .filter(|(_, raw)| raw.is_some_and(|raw| raw.tls.given().is_some()))
            .map(|(name, _)| name.value.as_str())
            .collect(),
        upstreams: upstreams.iter().map(|(name, _)| name.value.as_str()).collect(),
    };
    let hosts = host::hosts(context, &hosts, &names, &defaults);
    let mut upstreams = ir::shared(upstream::upstreams(context, &upstreams));
    for (name, upstream) in std::mem::take(&mut context.implicit) {
        upstreams.entry(name).or_insert_with(|| Arc::new(upstream));
    }
    Fragment {
        access_log: None,
        provider: Name::from(PROVIDER),
        listeners: ir::shared(listener::listeners(context, &listeners, &settings)),
        hosts: hosts.into_iter().map(Arc::new).collect(),
        upstreams: Arc::new(upstreams),
        settings: Some(settings),
    }
}

/// The value, or what stands for nothing given.
fn or<T: Copy>(field: &Field<T>, default: T) -> T {
    field.get().copied().unwrap_or(default)
}
