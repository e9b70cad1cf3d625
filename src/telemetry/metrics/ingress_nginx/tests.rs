//! The page under ingress-nginx's names, against a golden file and against a model.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use proptest::prelude::*;

use super::families::Series;
use super::outcome::StatusLabel;
use super::*;
use crate::ir::{IngressRule, Name};
use crate::telemetry::Reason;
use crate::telemetry::metrics::page::Declared;
use crate::telemetry::metrics::tests::Scrape;
use crate::telemetry::metrics::{Exchange, Metrics, WorkerId};

const PREFIX: &str = "nginx_ingress_controller_";

fn enabled(workers: usize) -> Metrics {
    let metrics = Metrics::new(workers);
    metrics.ingress_nginx().enable(ControllerIdentity {
        class: "k8s.io/ingress-nginx".into(),
        namespace: "edge".into(),
        pod: "edge-1".into(),
        election: "lock".into(),
    });
    metrics
}

fn labels(canary: &str) -> RuleLabels {
    RuleLabels {
        host: "shop.example".into(),
        path: "/cart".into(),
        namespace: "shop".into(),
        ingress: "web".into(),
        service: "cart".into(),
        canary: canary.into(),
    }
}

fn exchange(status: u16, millis: u64, request_bytes: u64, response_bytes: u64) -> Exchange {
    let duration = Duration::from_millis(millis);
    Exchange { status, reason: Reason::None, duration, request_bytes, response_bytes }
}

fn phases(connect: u64, head: u64, response: u64) -> Phases {
    let millis = |millis| Some(Duration::from_millis(millis));
    Phases { connect: millis(connect), head: millis(head), response: millis(response) }
}

/// A page on which every family has something to say.
fn full() -> Metrics {
    let metrics = enabled(2);
    let (web, listener) = (Name::from("web"), metrics.listener(&"web".into()));
    let (route, unrouted) = (metrics.route(&web, &"cart".into()), metrics.unrouted(&web));
    listener.accepted(WorkerId(0));
    listener.accepted(WorkerId(1));
    listener.closed(WorkerId(0));
    for counters in [&route, &route, &unrouted] {
        counters.started(WorkerId(1));
    }
    route.finished(WorkerId(1), &exchange(200, 7, 0, 0));
    unrouted.finished(WorkerId(1), &exchange(404, 7, 0, 0));
    let (rule, canary) = (metrics.rule(labels("")), metrics.rule(labels("shop-cart-v2-80")));
    let get = MethodLabel::of(&Method::GET);
    rule.finished(WorkerId(0), get, &exchange(200, 7, 0, 150), &phases(1, 4, 6));
    rule.finished(WorkerId(1), get, &exchange(200, 400, 15, 50), &phases(0, 300, 390));
    let odd = MethodLabel::of(&Method::from_bytes(b"PROPFIND").unwrap());
    rule.finished(WorkerId(0), odd, &exchange(403, 1, 0, 9), &Phases::default());
    canary.finished(WorkerId(0), get, &exchange(503, 20_000, 0, 10), &phases(2, 20_000, 20_000));
    metrics.control().reload(true);
    metrics.control().reload(false);
    metrics.control().set_generation(3);
    metrics.kubernetes().set_leader(true);
    let endpoint = metrics.endpoint(&"shop/cart:80".into(), "10.0.0.1:80");
    let told = |ingress: &str, service_exists, upstream: &str| {
        Arc::new(IngressRule {
            namespace: "shop".into(),
            ingress: ingress.into(),
            path: "/".into(),
            service: "cart".into(),
            service_exists,
            upstream: Some(upstream.into()),
            canary: None,
        })
    };
    let rules = vec![
        told("web", true, "shop/cart:80"),
        told("idle", true, "shop/idle:80"),
        told("lost", false, "shop/lost:80"),
    ];
    let certificate = SecretCertificate {
        namespace: "shop".into(),
        secret: "tls".into(),
        hosts: vec!["shop.example".into(), "*.shop.example".into()],
        not_after: 1_900_000_000,
        serial: "1234".into(),
        issuer_organization: "Some CA".into(),
        issuer_common_name: "R1".into(),
        key_algorithm: "ECDSA",
    };
    metrics.ingress_nginx().set_served(rules, vec![certificate.clone(), certificate]);
    // The handles are needed until the page is made; a test ends before anybody minds.
    std::mem::forget((listener, route, unrouted, rule, canary, endpoint));
    metrics
}

/// Values that are another one in every run.
fn is_steady(line: &str) -> bool {
    !["nginx_process_", "timestamp_seconds", "build_info"].iter().any(|part| line.contains(part))
        || line.starts_with('#')
        || line.contains("connections")
        || line.contains("requests_total")
}

#[test]
fn the_page_is_that_of_the_golden_file() {
    let page = full().encode();
    let ours = page.lines().filter(|line| {
        line.split(' ').find(|word| word.starts_with(PREFIX)).is_some() && is_steady(line)
    });
    let page = ours.fold(String::new(), |page, line| page + line + "\n");
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/metrics/ingress-nginx.txt");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(path, &page).unwrap();
    }
    let golden = std::fs::read_to_string(path).unwrap_or_default();
    assert_eq!(golden, page, "look at the differences, then UPDATE_GOLDEN=1");
}

#[test]
fn every_family_is_there_with_the_labels_of_the_controller() {
    let scrape = Scrape::of(&full());
    for series in Series::ALL {
        let declaration = series.declaration();
        assert!(declaration.name.starts_with(PREFIX), "{series:?}");
        assert!(scrape.types.contains_key(declaration.name), "{series:?}");
        assert_eq!(*series, Series::ALL[series.index()], "{series:?}");
    }
    let who = [
        ("controller_class", "k8s.io/ingress-nginx"),
        ("controller_namespace", "edge"),
        ("controller_pod", "edge-1"),
    ];
    for (name, labels) in scrape.samples.keys().filter(|(name, _)| name.starts_with(PREFIX)) {
        for (label, value) in who {
            let found = labels.iter().find(|(found, _)| found == label);
            assert_eq!(found.map(|(_, value)| value.as_str()), Some(value), "{name}");
        }
    }
}

#[test]
fn nothing_is_there_unless_it_is_wanted() {
    let metrics = Metrics::new(1);
    let rule = metrics.rule(labels(""));
    let get = MethodLabel::of(&Method::GET);
    rule.finished(WorkerId(0), get, &exchange(200, 1, 0, 0), &Phases::default());
    assert!(!metrics.encode().contains(PREFIX));
}

#[test]
fn methods_and_statuses_are_closed_sets() {
    for status in 0..=u16::MAX {
        let text = StatusLabel::of(status).text();
        match status {
            100..=599 if text.ends_with("xx") => {
                assert_eq!(text, format!("{}xx", status / 100));
            }
            100..=599 => assert_eq!(text, status.to_string()),
            _ => assert_eq!(text, "-"),
        }
    }
    for status in [200, 204, 301, 404, 429, 499, 503, 504] {
        assert_eq!(StatusLabel::of(status).text(), status.to_string());
    }
    assert_eq!(StatusLabel::of(599).text(), "5xx");
    let label = |name: &str| MethodLabel::of(&Method::from_bytes(name.as_bytes()).unwrap());
    for name in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE"] {
        assert_eq!(label(name).as_str(), name);
    }
    for name in ["get", "PROPFIND", "X"] {
        assert_eq!(label(name).as_str(), "_OTHER");
    }
}

#[test]
fn totals_never_fall_when_routes_and_listeners_go() {
    let metrics = enabled(1);
    let total = |metrics: &Metrics| {
        let scrape = Scrape::of(metrics);
        let of = |name: &str| scrape.sum(&format!("{PREFIX}nginx_process_{name}"));
        (of("requests_total"), of("connections_total"))
    };
    for round in 1..=3u8 {
        let route = metrics.route(&"web".into(), &Name::from(format!("r{round}")));
        let listener = metrics.listener(&Name::from(format!("l{round}")));
        route.started(WorkerId(0));
        listener.accepted(WorkerId(0));
        listener.closed(WorkerId(0));
        // One for each of the two states.
        assert_eq!(total(&metrics), (f64::from(round), 2.0 * f64::from(round)));
        drop((route, listener));
        assert_eq!(total(&metrics), (f64::from(round), 2.0 * f64::from(round)));
    }
}

#[test]
fn a_request_costs_no_allocation_once_its_series_is_there() {
    let metrics = enabled(1);
    let rule = metrics.rule(labels(""));
    let count = || {
        for method in [Method::GET, Method::POST] {
            let method = MethodLabel::of(&method);
            rule.finished(WorkerId(0), method, &exchange(200, 3, 5, 7), &phases(0, 1, 2));
        }
    };
    count();
    assert_eq!(allocation_counter::measure(count).count_total, 0);
}

fn steps() -> impl Strategy<Value = Vec<(usize, usize, u16, u64, u64, u64)>> {
    let status = prop_oneof![Just(200u16), Just(404), Just(599), Just(0)];
    let bytes = prop_oneof![0..120u64, 0..20_000_000u64];
    let step = (0..2usize, 0..3usize, status, 0..15_000u64, bytes.clone(), bytes);
    prop::collection::vec(step, 0..100)
}

proptest! {
    #[test]
    fn the_page_equals_a_model_that_counts_one_by_one(steps in steps()) {
        let metrics = enabled(2);
        let rule = metrics.rule(labels(""));
        let methods = [(Method::GET, "GET"), (Method::PUT, "PUT"), (Method::from_bytes(b"X").unwrap(), "_OTHER")];
        let mut model: BTreeMap<String, f64> = BTreeMap::new();
        for (worker, method, status, millis, request, response) in &steps {
            let (method, name) = &methods[*method];
            let exchange = exchange(*status, *millis, *request, *response);
            let phases = phases(0, *millis, *millis);
            rule.finished(WorkerId(*worker), MethodLabel::of(method), &exchange, &phases);
            let code = match status { 0 => "-", 200 => "200", 404 => "404", _ => "5xx" };
            let mut count = |family: &str, le: &str, by: f64| {
                let le = if le.is_empty() { String::new() } else { format!(r#",le="{le}""#) };
                let series = format!(
                    r#"{PREFIX}{family}{{host="shop.example",path="/cart",namespace="shop",ingress="web",service="cart",canary="",method="{name}",status="{code}",controller_class="k8s.io/ingress-nginx",controller_namespace="edge",controller_pod="edge-1"{le}}}"#
                );
                *model.entry(series).or_default() += by;
            };
            count("requests", "", 1.0);
            for family in ["request_duration_seconds", "header_duration_seconds"] {
                for (le, limit) in [("0.005", 5), ("0.5", 500), ("2.5", 2_500), ("10", 10_000), ("+Inf", u64::MAX)] {
                    count(&format!("{family}_bucket"), le, f64::from(u8::from(*millis <= limit)));
                }
            }
            for (family, bytes) in [("request_size", request), ("response_size", response)] {
                for (le, limit) in [("10", 10), ("50", 50), ("100", 100), ("+Inf", u64::MAX)] {
                    count(&format!("{family}_bucket"), le, f64::from(u8::from(*bytes <= limit)));
                }
                count(&format!("{family}_sum"), "", *bytes as f64);
                count(&format!("{family}_count"), "", 1.0);
            }
            for (le, limit) in [("10", 10), ("1000", 1_000), ("10000000", 10_000_000)] {
                count("bytes_sent_bucket", le, f64::from(u8::from(*response <= limit)));
            }
        }
        let scrape = Scrape::of(&metrics);
        for (series, value) in &model {
            prop_assert_eq!(scrape.get(series), Some(*value), "{}", series);
        }
        prop_assert_eq!(scrape.sum(&format!("{PREFIX}requests")), steps.len() as f64);
    }
}
