//! What the controller's ConfigMap says for Ingresses that do not.

use std::collections::{BTreeMap, BTreeSet};

use http::{HeaderName, HeaderValue};
use ir::{AccessList, Filter, HeaderEdit, HeaderTemplate, HeaderText, Problem, Scope};

use super::template::within;
use super::{Mapping, Policy};
use crate::ir;
use crate::provider::kubernetes::annotation::{self, Class, OWN_PREFIX, Parsed, Template};
use crate::provider::kubernetes::controller::Controller;
use crate::provider::kubernetes::report::{Finding, Verdict, origin};
use crate::provider::kubernetes::translate::References;
use crate::provider::kubernetes::{Inputs, Key, Options};

/// Annotations of which the first, where it is there, stands for the second.
const STANDS_FOR: [(&str, &str); 1] = [("allowlist-source-range", "whitelist-source-range")];

/// Annotations, and those that an object has from the ConfigMap.
pub(super) struct Completed {
    pub parsed: Parsed,
    /// Their names with prefix.
    pub inherited: BTreeSet<String>,
}

/// An object's `own` annotations, read together with what holds where it says nothing, or nothing
/// that can be used.
pub(super) fn complete(own: &BTreeMap<String, String>, options: &Options) -> Completed {
    let reading = annotation::Options {
        prefix: options.annotation_prefix.to_string(),
        snippets: options.controller.settings.allow_snippets != Some(false),
    };
    let controller = &options.controller;
    if controller.annotations.is_empty() && controller.auth.is_empty() {
        let parsed = annotation::parse(own, &reading);
        return Completed { parsed, inherited: BTreeSet::new() };
    }
    let prefixes = [OWN_PREFIX, &options.annotation_prefix];
    let value = |name: &str| {
        let texts = prefixes.iter().filter_map(|prefix| own.get(&format!("{prefix}/{name}")));
        texts.map(|text| text.trim()).find(|text| !text.is_empty())
    };
    let named = |name: &str| format!("{}/{name}", options.annotation_prefix);
    let mut all = own.clone();
    let mut inherited = BTreeSet::new();
    let mut inherit = |name: &str, text: &String, all: &mut BTreeMap<String, String>| {
        all.insert(named(name), text.clone());
        inherited.insert(named(name));
    };
    for (name, text) in &controller.annotations {
        let mut others = STANDS_FOR.iter().filter(|(_, for_it)| for_it == name);
        if value(name).is_none() && !others.any(|(other, _)| value(other).is_some()) {
            inherit(name, text, &mut all);
        }
    }
    let wanted = value("enable-global-auth").map(annotation::boolean);
    if value("auth-url").is_none() && wanted != Some(Ok(false)) {
        for (name, text) in controller.auth.iter().filter(|(name, _)| value(name).is_none()) {
            inherit(name, text, &mut all);
        }
    }
    let mut parsed = annotation::parse(&all, &reading);
    // A value that is none leaves it to the default.
    let ignored = |finding: &annotation::Finding| finding.class == Class::Ignored;
    let mut again = all.clone();
    for finding in parsed.findings.iter().filter(|finding| ignored(finding)) {
        let name = prefixes
            .iter()
            .find_map(|prefix| finding.annotation.strip_prefix(*prefix)?.strip_prefix('/'));
        if let Some(text) = name.and_then(|name| controller.annotations.get(name)) {
            again.insert(finding.annotation.clone(), text.clone());
        }
    }
    if again != all {
        let findings = parsed.findings;
        parsed = Parsed { findings, ..annotation::parse(&again, &reading) };
    }
    Completed { parsed, inherited }
}

impl Policy {
    /// What is wrong with the annotations that Ingresses have from the ConfigMap.
    pub fn judge_defaults(inputs: &Inputs, options: &Options) -> Vec<Problem> {
        let Some(config_map) = &options.config_map else { return Vec::new() };
        let Completed { parsed, .. } = complete(&BTreeMap::new(), options);
        let (key, mut references) = (Key::new("", ""), References::default());
        let mut mapping = Mapping::new(&key, inputs, options, &mut references);
        mapping.all(&parsed.values);
        let judged: Vec<Finding> =
            parsed.findings.into_iter().map(|finding| mapping.judge(finding)).collect();
        // What is merely different was said of the key.
        let worth_it = |finding: &&Finding| finding.verdict >= Verdict::Omitted;
        let problem = |finding: &Finding| {
            let (_, name) = finding.subject.rsplit_once('/').unwrap_or(("", &finding.subject));
            let problem = Problem::warning(format!("{name}: {}", finding.message));
            Problem { hint: finding.hint.clone(), ..problem }
                .about(&origin("ConfigMap", config_map))
        };
        judged.iter().filter(worth_it).map(problem).collect()
    }

    /// The settings of routes that no Ingress asks for.
    pub fn plain(options: &Options) -> Self {
        let mut policy = Self::default();
        policy.impose(&options.controller, &Key::new("", ""));
        policy
    }

    /// What holds for all routes, whatever Ingresses say; `key` is the Ingress of those that have one.
    pub(super) fn impose(&mut self, controller: &Controller, key: &Key) {
        let (settings, policy) = (&controller.settings, self);
        if let Some(blocked) = &settings.block {
            let access = policy.guard.access.get_or_insert_with(AccessList::default);
            access.deny.extend(blocked.iter().copied());
        }
        if let Some(code) = settings.redirect_code {
            policy.https.status = code;
        }
        if let Some(paths) = &settings.no_tls_redirect {
            policy.https.exempt.clone_from(paths);
        }
        policy.retry.non_idempotent |= settings.retry_non_idempotent == Some(true);
        // Before those of the object, which are set last.
        let nothing = HeaderEdit::default();
        let edit = edit(&controller.request_headers, key, false);
        if edit != nothing {
            policy.filters.insert(0, Filter::RequestHeaders(edit));
        }
        let remove = settings.hide_headers.clone().unwrap_or_default();
        let edit = HeaderEdit { remove, ..self::edit(&controller.response_headers, key, true) };
        if edit != nothing {
            policy.filters.insert(0, Filter::ResponseHeaders(edit.into()));
        }
        if let Some(reason) = &controller.denied {
            policy.deny(reason.clone());
        }
    }
}

/// Fields in the place of others of their names. What cannot be filled in was told of when the
/// ConfigMap was read.
fn edit(fields: &[(HeaderName, Template)], key: &Key, response: bool) -> HeaderEdit {
    let mut edit = HeaderEdit::default();
    for (name, text) in fields {
        let Ok(template) = within(text, key, Scope { groups: 0, response }) else { continue };
        match template.as_literal() {
            Some(text) => {
                let value = HeaderValue::from_str(text).ok();
                edit.set.extend(value.map(|value| HeaderText { name: name.clone(), value }));
            }
            None => edit.set_from.push(HeaderTemplate { name: name.clone(), template }),
        }
    }
    edit
}
