//! Random Ingresses against a naive reading of them.
//!
//! Requests are routed here by trying all routes of the fragment one by one. That the router finds
//! what this finds is shown where the router is.

use std::collections::BTreeSet;
use std::sync::Arc;

use ir::{Action, HostPattern, PathMatch};
use k8s_openapi::api::core::v1::{Service, ServicePort as CorePort, ServiceSpec};
use k8s_openapi::api::networking::v1::{
    HTTPIngressPath, HTTPIngressRuleValue, Ingress, IngressBackend, IngressRule,
    IngressServiceBackend, IngressSpec, ServiceBackendPort,
};
use proptest::prelude::*;

use super::*;
use crate::ir;

const HOSTS: [&str; 4] = ["a.test", "b.a.test", "*.a.test", ""];
const PATHS: [&str; 6] = ["/", "/a", "/a/", "/a/b", "/ab", ""];
const KINDS: [&str; 3] = ["Exact", "Prefix", "ImplementationSpecific"];
const SERVICES: [&str; 3] = ["one", "two", "gone"];

/// A rule with one path: host, path, type and Service, as indices.
type Rule = (usize, usize, usize, usize);

/// The rules of an Ingress, its default backend, and its age.
type Plan = (Vec<Rule>, Option<usize>, i64);

fn plan() -> impl Strategy<Value = Plan> {
    let rule = (0..HOSTS.len(), 0..PATHS.len(), 0..KINDS.len(), 0..SERVICES.len());
    let default = prop::option::weighted(0.3, 0..SERVICES.len());
    (prop::collection::vec(rule, 0..5), default, 0..3_i64)
}

fn backend(service: usize) -> IngressBackend {
    IngressBackend {
        service: Some(IngressServiceBackend {
            name: SERVICES[service].to_owned(),
            port: Some(ServiceBackendPort { number: Some(80), name: None }),
        }),
        resource: None,
    }
}

fn ingress(plan: &Plan) -> Ingress {
    let (rules, default, age) = plan;
    let rules = rules.iter().map(|&(host, path, kind, service)| IngressRule {
        host: Some(HOSTS[host].to_owned()),
        http: Some(HTTPIngressRuleValue {
            paths: vec![HTTPIngressPath {
                path: Some(PATHS[path].to_owned()),
                path_type: KINDS[kind].to_owned(),
                backend: backend(service),
            }],
        }),
    });
    let mut ingress = Ingress {
        spec: Some(IngressSpec {
            rules: Some(rules.collect()),
            default_backend: default.map(backend),
            ..IngressSpec::default()
        }),
        ..Ingress::default()
    };
    let text = format!("\"2026-01-01T00:00:0{age}Z\"");
    ingress.metadata.creation_timestamp = serde_json::from_str(&text).unwrap();
    ingress
}

fn inputs(plans: &[Plan]) -> Inputs {
    let mut inputs = Inputs::default();
    for (number, plan) in plans.iter().enumerate() {
        let key = Key::new("ns", format!("i{number}"));
        inputs.ingresses.insert(key, Arc::new(ingress(plan).into()));
    }
    for name in &SERVICES[..2] {
        let port = CorePort { port: 80, ..CorePort::default() };
        let spec = ServiceSpec { ports: Some(vec![port]), ..ServiceSpec::default() };
        let service = Service { spec: Some(spec), ..Service::default() };
        inputs.services.insert(Key::new("ns", *name), Arc::new(service.into()));
    }
    inputs
}

/// Which Service a request gets by the fragment.
fn served(translation: &Translation, host: &str, path: &str) -> Option<String> {
    let hosts = &translation.fragment.hosts;
    let with = |wanted: HostPattern| hosts.iter().find(|at| at.pattern == wanted);
    let suffix = host.split_once('.').map(|(_, suffix)| suffix).unwrap_or_default();
    let host = with(HostPattern::Exact(host.into()))
        .or_else(|| with(HostPattern::OneLabel(suffix.into())))
        .or_else(|| with(HostPattern::Any))?;
    // The longest first, and of one length whole segments before bytes.
    let rank = |matches: &PathMatch| match matches {
        PathMatch::Exact(text) => (path == &**text).then_some((1, 0)),
        PathMatch::Prefix(text) => {
            let text = text.trim_end_matches('/');
            let rest = path.strip_prefix(text);
            let below = rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
            below.then_some((0, 2 * text.len() + 1))
        }
        PathMatch::StartsWith(text) => path.starts_with(&**text).then_some((0, 2 * text.len())),
        PathMatch::Regex(_) => panic!("none was asked for"),
    };
    let mut best = None;
    for route in &host.routes {
        let rank = rank(&route.matches.path);
        // Of equal ones the first counts.
        if rank.is_some() && best.as_ref().is_none_or(|(known, _)| rank > *known) {
            best = Some((rank, route));
        }
    }
    match &best?.1.action {
        Action::Forward(backends) => {
            let upstream = backends.first().unwrap().upstream.as_str();
            Some(upstream.trim_start_matches("ns/").split(':').next().unwrap().to_owned())
        }
        other => panic!("{other:?}"),
    }
}

/// The same by the text of the Ingress specification: no maps, no merging.
fn expected(plans: &[Plan], host: &str, path: &str) -> Option<String> {
    let mut order: Vec<usize> = (0..plans.len()).collect();
    order.sort_by_key(|&at| (plans[at].2, at));
    let all = || order.iter().flat_map(|&at| plans[at].0.iter().map(move |rule| (at, rule)));
    let suffix = host.split_once('.').map_or("", |(_, suffix)| suffix);
    let candidates = [host.to_owned(), format!("*.{suffix}"), String::new()];
    let catches_all = |at: &&usize| plans[**at].0.is_empty() && plans[**at].1.is_some();
    let wanted = candidates.iter().find(|name| {
        all().any(|(_, rule)| HOSTS[rule.0] == **name)
            || (name.is_empty() && order.iter().any(|at| catches_all(&at)))
    })?;
    // What matches, by how well, and the oldest of the best.
    let mut found: Vec<((i32, usize), usize, usize)> = Vec::new();
    for (age, (at, rule)) in all().enumerate() {
        let (_, text, kind, service) = *rule;
        let _ = at;
        if HOSTS[rule.0] != *wanted {
            continue;
        }
        let text = if PATHS[text].is_empty() { "/" } else { PATHS[text] };
        let segments: Vec<&str> = text.split('/').filter(|s| !s.is_empty()).collect();
        let asked: Vec<&str> = path.split('/').filter(|s| !s.is_empty()).collect();
        match KINDS[kind] {
            "Exact" if text == path => found.push(((1, 0), age, service)),
            "Prefix" if asked.starts_with(&segments) => {
                found.push(((0, 2 * text.trim_end_matches('/').len() + 1), age, service));
            }
            "ImplementationSpecific" if path.starts_with(text) => {
                found.push(((0, 2 * text.len()), age, service));
            }
            _ => {}
        }
    }
    let best = found.iter().map(|(rank, ..)| *rank).max();
    let oldest =
        found.iter().filter(|(rank, ..)| Some(*rank) == best).min_by_key(|(_, age, _)| *age);
    if let Some((_, _, service)) = oldest
        && (best != Some((0, 1)) || !wanted.is_empty())
    {
        return Some(SERVICES[*service].to_owned());
    }
    // The root of all hosts: rules and default backends of Ingresses without rules, by age.
    if wanted.is_empty() {
        for &at in &order {
            let rooted = plans[at].0.iter().find(|rule| {
                HOSTS[rule.0].is_empty()
                    && matches!(PATHS[rule.1], "" | "/")
                    && KINDS[rule.2] == "Prefix"
            });
            if let Some(rule) = rooted {
                return Some(SERVICES[rule.3].to_owned());
            }
            if plans[at].0.is_empty()
                && let Some(service) = plans[at].1
            {
                return Some(SERVICES[service].to_owned());
            }
        }
    }
    // The oldest default backend beside a rule of this host.
    let beside = order.iter().find_map(|&at| {
        let (rules, default, _) = &plans[at];
        default.filter(|_| rules.iter().any(|rule| HOSTS[rule.0] == *wanted))
    });
    beside.map(|service| SERVICES[service].to_owned())
}

proptest! {
    #[test]
    fn a_request_gets_the_service_that_a_naive_reading_gives_it(
        plans in prop::collection::vec(plan(), 0..5),
    ) {
        let translation = translate(&inputs(&plans), &Options { without_class: true, ..Options::default() });
        for host in ["a.test", "b.a.test", "c.a.test", "other.example"] {
            for path in ["/", "/a", "/a/", "/a/b", "/a/b/c", "/ab", "/abc", "/c"] {
                let found = served(&translation, host, path);
                prop_assert_eq!(found, expected(&plans, host, path), "{}{}", host, path);
            }
        }
    }

    #[test]
    fn names_are_unique_and_upstreams_there(plans in prop::collection::vec(plan(), 0..6)) {
        let translation = translate(&inputs(&plans), &Options { without_class: true, ..Options::default() });
        let mut names = BTreeSet::new();
        for route in translation.fragment.hosts.iter().flat_map(|host| &host.routes) {
            prop_assert!(names.insert(route.name.clone()), "{}", route.name);
            if let Action::Forward(backends) = &route.action {
                for backend in backends {
                    prop_assert!(translation.fragment.upstreams.contains_key(&backend.upstream));
                }
            }
        }
        for (name, upstream) in &*translation.fragment.upstreams {
            prop_assert_eq!(upstream.discovered, translation.endpoints.contains_key(name));
        }
    }

    #[test]
    fn one_bad_object_hurts_only_itself(plans in prop::collection::vec(plan(), 1..5), bad in "[^/]{0,4}") {
        // Younger than all others, so that it wins nothing.
        let options = Options { without_class: true, ..Options::default() };
        let good = translate(&inputs(&plans), &options);
        let mut broken = inputs(&plans);
        let mut object = ingress(&(vec![(0, 1, 1, 0)], None, 9));
        for path in &mut object.spec.as_mut().unwrap().rules.as_mut().unwrap()[0].http.as_mut().unwrap().paths {
            path.path = Some(format!("x{bad}"));
        }
        object.spec.as_mut().unwrap().rules.as_mut().unwrap()[0].host = Some(format!("-{bad}*"));
        broken.ingresses.insert(Key::new("ns", "zz"), Arc::new(object.into()));
        prop_assert_eq!(translate(&broken, &options).fragment, good.fragment);
    }
}
