//! The page as a scraper sees it, against a model.

use std::collections::BTreeMap;
use std::mem::size_of;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use proptest::prelude::*;

use super::endpoint::EndpointShard;
use super::histogram::{Distribution, Histogram};
use super::listener::ListenerShard;
use super::route::RouteShard;
use super::upstream::UpstreamShard;
use super::*;
use crate::telemetry::families::{DURATION_BOUNDS, Declaration, Kind};
use crate::telemetry::{CheckResult, EjectionCause, GrpcCode, Reason, ReportResult};

const W0: WorkerId = WorkerId(0);
const W1: WorkerId = WorkerId(1);

/// A page read back: types by family, values by name and labels.
#[derive(Debug, Default)]
pub(super) struct Scrape {
    pub(super) types: BTreeMap<String, String>,
    pub(super) samples: BTreeMap<(String, Vec<(String, String)>), f64>,
}

impl Scrape {
    pub(super) fn of(metrics: &Metrics) -> Self {
        Self::parse(&metrics.encode())
    }

    fn parse(page: &str) -> Self {
        let mut scrape = Self::default();
        for line in page.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap();
                assert_eq!(scrape.types.insert(name.into(), kind.into()), None, "twice: {name}");
            } else if !line.starts_with("# HELP ") {
                let (series, value) = line.rsplit_once(' ').unwrap();
                let key = series_key(series);
                let value = value.parse().unwrap();
                assert_eq!(scrape.samples.insert(key, value), None, "twice: {line}");
            }
        }
        scrape
    }

    pub(super) fn get(&self, series: &str) -> Option<f64> {
        self.samples.get(&series_key(series)).copied()
    }

    pub(super) fn sum(&self, name: &str) -> f64 {
        let of_name = self.samples.iter().filter(|((sample, _), _)| sample == name);
        of_name.map(|(_, value)| value).sum()
    }

    pub(super) fn mentions(&self, label: &str) -> bool {
        self.samples.keys().any(|(_, labels)| labels.iter().any(|(_, value)| value == label))
    }
}

/// `name{a="x",b="y"}` taken apart, escapes undone.
fn series_key(series: &str) -> (String, Vec<(String, String)>) {
    let Some((name, labels)) = series.split_once('{') else {
        return (series.to_owned(), Vec::new());
    };
    let mut rest = labels.strip_suffix('}').expect("a closing brace");
    let mut pairs = Vec::new();
    while !rest.is_empty() {
        let (label, quoted) = rest.split_once("=\"").expect("a quoted value");
        let mut value = String::new();
        let mut chars = quoted.char_indices();
        let end = loop {
            match chars.next().expect("a closing quote") {
                (_, '\\') => value.push(match chars.next().unwrap().1 {
                    'n' => '\n',
                    c => c,
                }),
                (at, '"') => break at,
                (_, c) => value.push(c),
            }
        };
        pairs.push((label.to_owned(), value));
        rest = quoted[end + 1..].trim_start_matches(',');
    }
    (name.to_owned(), pairs)
}

fn exchange(status: u16, reason: Reason, millis: u64) -> Exchange {
    let duration = Duration::from_millis(millis);
    Exchange { status, reason, duration, request_bytes: 10, response_bytes: 100 }
}

#[test]
fn a_page_looks_as_prometheus_wants_it() {
    let metrics = Metrics::new(2);
    let route = metrics.route(&"web".into(), &"shop".into());
    route.started(W0);
    route.started(W0);
    route.started(W1);
    route.finished(W0, &exchange(200, Reason::None, 7));
    route.finished(W1, &exchange(504, Reason::ResponseTimeout, 20_000));
    let page = metrics.encode();
    let wanted = r##"# HELP portcullis_request_bytes_total Bytes of request bodies received.
# TYPE portcullis_request_bytes_total counter
portcullis_request_bytes_total{listener="web",route="shop"} 20
# HELP portcullis_request_duration_seconds From a request's complete head to the last byte of its response.
# TYPE portcullis_request_duration_seconds histogram
portcullis_request_duration_seconds_bucket{listener="web",route="shop",le="0.005"} 0
portcullis_request_duration_seconds_bucket{listener="web",route="shop",le="0.01"} 1
portcullis_request_duration_seconds_bucket{listener="web",route="shop",le="0.025"} 1
portcullis_request_duration_seconds_bucket{listener="web",route="shop",le="0.05"} 1
portcullis_request_duration_seconds_bucket{listener="web",route="shop",le="0.1"} 1
portcullis_request_duration_seconds_bucket{listener="web",route="shop",le="0.25"} 1
portcullis_request_duration_seconds_bucket{listener="web",route="shop",le="0.3"} 1
portcullis_request_duration_seconds_bucket{listener="web",route="shop",le="0.5"} 1
portcullis_request_duration_seconds_bucket{listener="web",route="shop",le="1"} 1
portcullis_request_duration_seconds_bucket{listener="web",route="shop",le="1.2"} 1
portcullis_request_duration_seconds_bucket{listener="web",route="shop",le="2.5"} 1
portcullis_request_duration_seconds_bucket{listener="web",route="shop",le="5"} 1
portcullis_request_duration_seconds_bucket{listener="web",route="shop",le="10"} 1
portcullis_request_duration_seconds_bucket{listener="web",route="shop",le="+Inf"} 2
portcullis_request_duration_seconds_sum{listener="web",route="shop"} 20.007
portcullis_request_duration_seconds_count{listener="web",route="shop"} 2
# HELP portcullis_requests_in_flight Requests begun and not finished.
# TYPE portcullis_requests_in_flight gauge
portcullis_requests_in_flight{listener="web",route="shop"} 1
# HELP portcullis_requests_total Requests finished, by status class (2xx; - without a status) and by why the proxy itself answered (- if it did not).
# TYPE portcullis_requests_total counter
portcullis_requests_total{listener="web",route="shop",code="2xx",reason="-"} 1
portcullis_requests_total{listener="web",route="shop",code="5xx",reason="response_timeout"} 1
# HELP portcullis_response_bytes_total Bytes of response bodies sent.
# TYPE portcullis_response_bytes_total counter
portcullis_response_bytes_total{listener="web",route="shop"} 200
"##;
    assert!(page.contains(wanted), "{page}");
}

#[test]
fn every_family_appears_once_it_has_something_to_say() {
    let metrics = Metrics::new(1);
    let (web, shop) = (Name::from("web"), Name::from("shop"));
    let route = metrics.route(&web, &shop);
    route.started(W0);
    route.finished(W0, &exchange(200, Reason::None, 1));
    let upstream = metrics.upstream(&shop);
    upstream.retry(W0, Reason::ConnectFailed.as_str());
    upstream.retry_refused(W0, "budget");
    upstream.shed(W0, Reason::QueueTimeout);
    upstream.hedge(W0);
    upstream.hedge_won(W0);
    upstream.hedge_refused(W0, "budget");
    upstream.set_queue(Some(20), 3);
    upstream.set_connections(Some((2, 10)));
    upstream.no_endpoint(W0);
    let endpoint = metrics.endpoint(&shop, "127.0.0.1:80");
    endpoint.attempt(W0);
    endpoint.opened(W0);
    endpoint.connected(W0, Duration::from_millis(1));
    endpoint.reused(W0);
    endpoint.responded(W0, 200, Duration::from_millis(250));
    endpoint.failed(W0, Reason::UpstreamReset);
    endpoint.called(W0, GrpcCode::of(b"14"));
    let listener = metrics.listener(&web);
    listener.accepted(W0);
    listener.rejected(W0, "bad_request");
    listener.auth_cache(W0, "hit");
    listener.handshake(W0, "ok", "TLSv1.3", true);
    listener.protocol(W0, "h2");
    listener.passing(W0);
    listener.passing(W0);
    listener.passed(W0, Reason::NoEndpoint, 11, 7);
    let not_after = 1_800_000_000;
    let certificate = |name: &str, not_after| CertificateExpiry {
        listener: web.clone(),
        name: name.into(),
        not_after,
    };
    metrics.control().set_certificates(vec![
        certificate("shop.example.com", not_after + 1),
        certificate("shop.example.com", not_after),
    ]);
    metrics.control().names().keep(["shop.internal".to_owned()]);
    metrics.control().names().looked_up("shop.internal", LookupResult::Answered);
    metrics.control().names().looked_up("shop.internal", LookupResult::Failed);
    upstream.set_ejected(2);
    upstream.ejection(EjectionCause::SuccessRate);
    endpoint.checked(CheckResult::Timeout);
    upstream.reported(W0, ReportResult::Malformed);
    upstream.reported(W0, ReportResult::Accepted);
    upstream.polled(ReportResult::Accepted);
    metrics.control().set_generation(7);
    metrics.control().reload(true);
    metrics.control().reload(false);
    metrics.control().compiled(Duration::from_millis(3));
    metrics.control().propagated(Change::Endpoints, Duration::from_millis(3));
    metrics.kubernetes().enable();
    metrics.kubernetes().set_leader(true);
    metrics.kubernetes().set_objects("Ingress", 4);
    metrics.kubernetes().restarted("Service", "expired");
    metrics.kubernetes().restarted("Service", "expired");
    metrics.kubernetes().status_update("success");

    let scrape = Scrape::of(&metrics);
    for family in Family::ALL {
        let declaration = family.declaration();
        let kind = scrape.types.get(declaration.name).map(String::as_str);
        let wanted = match declaration.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        assert_eq!(kind, Some(wanted), "{}", declaration.name);
    }
    for (series, value) in [
        (
            r#"portcullis_certificate_expiry_timestamp_seconds{listener="web",name="shop.example.com"}"#,
            not_after as f64,
        ),
        ("portcullis_config_generation", 7.0),
        (r#"portcullis_dns_lookups_total{name="shop.internal",result="answered"}"#, 1.0),
        (r#"portcullis_dns_lookups_total{name="shop.internal",result="failed"}"#, 1.0),
        (r#"portcullis_config_reloads_total{result="success"}"#, 1.0),
        (r#"portcullis_config_propagation_seconds_count{change="endpoints"}"#, 1.0),
        (r#"portcullis_config_propagation_seconds_count{change="configuration"}"#, 0.0),
        ("portcullis_kubernetes_leader", 1.0),
        ("portcullis_kubernetes_synced", 0.0),
        (r#"portcullis_kubernetes_objects{kind="Ingress"}"#, 4.0),
        (r#"portcullis_kubernetes_status_updates_total{result="success"}"#, 1.0),
        (r#"portcullis_kubernetes_watch_restarts_total{kind="Service",reason="expired"}"#, 2.0),
        (r#"portcullis_config_reloads_total{result="failure"}"#, 1.0),
        (
            r#"portcullis_upstream_grpc_responses_total{upstream="shop",endpoint="127.0.0.1:80",grpc_status="unavailable"}"#,
            1.0,
        ),
        ("portcullis_config_last_reload_successful", 0.0),
        (r#"portcullis_connections{listener="web"}"#, 1.0),
        (r#"portcullis_endpoint_up{upstream="shop",endpoint="127.0.0.1:80"}"#, 1.0),
        (r#"portcullis_auth_cache_lookups_total{listener="web",result="hit"}"#, 1.0),
        (r#"portcullis_rejected_requests_total{listener="web",reason="bad_request"}"#, 1.0),
        (
            r#"portcullis_tls_handshakes_total{listener="web",result="ok",version="TLSv1.3",resumed="true"}"#,
            1.0,
        ),
        (r#"portcullis_http_connections_total{listener="web",protocol="h2"}"#, 1.0),
        (r#"portcullis_passthrough_connections{listener="web"}"#, 1.0),
        (r#"portcullis_passthrough_connections_total{listener="web",reason="no_endpoint"}"#, 1.0),
        (r#"portcullis_passthrough_bytes_total{listener="web",direction="received"}"#, 11.0),
        (r#"portcullis_upstream_connections{upstream="shop",endpoint="127.0.0.1:80"}"#, 1.0),
        (
            r#"portcullis_upstream_responses_total{upstream="shop",endpoint="127.0.0.1:80",code="2xx"}"#,
            1.0,
        ),
        (
            r#"portcullis_upstream_endpoint_response_seconds_total{upstream="shop",endpoint="127.0.0.1:80"}"#,
            0.25,
        ),
        (r#"portcullis_upstream_response_seconds_bucket{upstream="shop",le="0.25"}"#, 1.0),
        (
            r#"portcullis_upstream_errors_total{upstream="shop",endpoint="127.0.0.1:80",reason="upstream_reset"}"#,
            1.0,
        ),
        (r#"portcullis_upstream_retries_total{upstream="shop",reason="connect_failed"}"#, 1.0),
        (r#"portcullis_upstream_ejected{upstream="shop"}"#, 2.0),
        (r#"portcullis_upstream_load_reports_total{upstream="shop",result="accepted"}"#, 2.0),
        (r#"portcullis_upstream_load_reports_total{upstream="shop",result="malformed"}"#, 1.0),
        (r#"portcullis_upstream_ejections_total{upstream="shop",reason="success_rate"}"#, 1.0),
        (
            r#"portcullis_health_checks_total{upstream="shop",endpoint="127.0.0.1:80",result="timeout"}"#,
            1.0,
        ),
    ] {
        assert_eq!(scrape.get(series), Some(value), "{series}");
    }
    assert!(scrape.get("portcullis_config_last_reload_success_timestamp_seconds") > Some(1.7e9));
    endpoint.set_up(false);
    endpoint.closed(W0);
    listener.closed(W0);
    let scrape = Scrape::of(&metrics);
    assert_eq!(scrape.sum("portcullis_endpoint_up"), 0.0);
    assert_eq!(scrape.sum("portcullis_upstream_connections"), 0.0);
    assert_eq!(scrape.sum("portcullis_connections"), 0.0);
}

#[test]
fn names_follow_the_conventions_and_are_unique() {
    let mut seen = std::collections::BTreeSet::new();
    for (index, family) in Family::ALL.into_iter().enumerate() {
        assert_eq!(family as usize, index, "{family:?} is out of order");
        let Declaration { name, kind, help, labels } = family.declaration();
        assert!(seen.insert(name), "{name} twice");
        assert!(name.starts_with("portcullis_"), "{name}");
        assert_eq!(name.ends_with("_total"), kind == Kind::Counter, "{name}");
        assert_eq!(
            name.ends_with("_seconds"),
            kind == Kind::Histogram || name.ends_with("timestamp_seconds"),
            "{name}"
        );
        assert!(help.ends_with('.'), "{name}: {help}");
        assert!(!labels.contains(&"le"), "{name}");
        let legal = |c: char| c.is_ascii_lowercase() || c == '_';
        assert!(name.chars().all(legal) && labels.iter().all(|label| label.chars().all(legal)));
    }
}

#[test]
fn label_sets_with_the_same_concatenation_stay_apart() {
    let metrics = Metrics::new(1);
    let first = metrics.route(&"ab".into(), &"c".into());
    let second = metrics.route(&"a".into(), &"bc".into());
    first.started(W0);
    first.finished(W0, &exchange(200, Reason::None, 1));
    second.started(W0);
    let scrape = Scrape::of(&metrics);
    let requests = r#"portcullis_requests_total{listener="ab",route="c",code="2xx",reason="-"}"#;
    assert_eq!(scrape.get(requests), Some(1.0));
    let in_flight = |listener, route| {
        format!(r#"portcullis_requests_in_flight{{listener="{listener}",route="{route}"}}"#)
    };
    assert_eq!(scrape.get(&in_flight("ab", "c")), Some(0.0));
    assert_eq!(scrape.get(&in_flight("a", "bc")), Some(1.0));
}

#[test]
fn names_cannot_inject_lines_or_terminal_commands() {
    let metrics = Metrics::new(1);
    let hostile =
        ["a\"} 1\nfake_total 9", "\u{1b}[2J", "back\\slash", "\\u{1b}[2J", "\u{9b}2J", "é"];
    let handles: Vec<_> =
        hostile.iter().map(|name| metrics.route(&"web".into(), &Name::from(*name))).collect();
    handles.iter().for_each(|handle| handle.started(W0));
    let page = metrics.encode();
    assert!(!page.chars().any(|c| c.is_control() && c != '\n'), "{page:?}");
    let scrape = Scrape::parse(&page);
    assert_eq!(scrape.sum("portcullis_requests_in_flight"), hostile.len() as f64);
    assert_eq!(scrape.sum("fake_total"), 0.0);
    assert!(scrape.mentions("é"), "harmless text stays as it is");
}

#[test]
fn a_handle_is_shared_by_generations_and_its_series_leave_with_the_last() {
    let metrics = Metrics::new(1);
    let (web, shop) = (Name::from("web"), Name::from("shop"));
    let old = (
        metrics.route(&web, &shop),
        metrics.endpoint(&shop, "127.0.0.1:80"),
        metrics.listener(&web),
    );
    old.0.started(W0);
    old.0.finished(W0, &exchange(200, Reason::None, 1));
    old.1.attempt(W0);
    old.1.responded(W0, 200, Duration::from_millis(1));
    old.2.accepted(W0);
    let new = (
        metrics.route(&web, &shop),
        metrics.endpoint(&shop, "127.0.0.1:80"),
        metrics.listener(&web),
    );
    assert!(Arc::ptr_eq(&old.0, &new.0));
    assert!(Arc::ptr_eq(&old.1, &new.1));
    assert!(Arc::ptr_eq(&old.2, &new.2));
    drop(old);
    let scrape = Scrape::of(&metrics);
    assert_eq!(scrape.sum("portcullis_requests_total"), 1.0);
    assert_eq!(scrape.sum("portcullis_upstream_response_seconds_count"), 1.0);
    drop(new);
    let scrape = Scrape::of(&metrics);
    assert!(!scrape.mentions("shop") && !scrape.mentions("web"), "{scrape:?}");
    assert_eq!(metrics.route(&web, &shop).in_flight(), 0, "a new life begins at zero");
}

#[test]
fn handles_that_come_and_go_without_a_scrape_leave_nothing_behind() {
    let metrics = Metrics::new(1);
    for number in 0..10_000 {
        drop(metrics.endpoint(&"shop".into(), &format!("10.0.0.1:{number}")));
    }
    let left = metrics.state.endpoints.0.lock().unwrap().handles.len();
    assert!(left <= 64, "{left} entries");
}

#[test]
fn shards_are_small_and_idle_routes_have_none() {
    assert!(size_of::<RouteShard>() <= 256, "{}", size_of::<RouteShard>());
    assert!(size_of::<EndpointShard>() <= 128, "{}", size_of::<EndpointShard>());
    assert!(size_of::<UpstreamShard>() <= 384, "{}", size_of::<UpstreamShard>());
    assert!(size_of::<ListenerShard>() <= 128, "{}", size_of::<ListenerShard>());
    let metrics = Metrics::new(64);
    let _idle = metrics.route(&"web".into(), &"idle".into());
    assert!(!Scrape::of(&metrics).mentions("idle"));
}

#[test]
fn workers_that_count_while_pages_are_made_lose_nothing() {
    const WORKERS: usize = 4;
    const EACH: u64 = 20_000;
    let metrics = Metrics::new(WORKERS);
    let route = metrics.route(&"web".into(), &"shop".into());
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let scraper = scope.spawn(|| {
            let mut seen = 0.0;
            while !done.load(Ordering::Acquire) {
                let now = Scrape::of(&metrics).sum("portcullis_requests_total");
                assert!(now >= seen, "a counter went from {seen} to {now}");
                seen = now;
            }
        });
        let workers: Vec<_> = (0..WORKERS)
            .map(|worker| {
                let route = Arc::clone(&route);
                scope.spawn(move || {
                    for number in 0..EACH {
                        let reason = Reason::ALL[number as usize % Reason::ALL.len()];
                        route.started(WorkerId(worker));
                        route.finished(WorkerId(worker), &exchange(200, reason, number % 50));
                    }
                })
            })
            .collect();
        workers.into_iter().for_each(|worker| worker.join().unwrap());
        done.store(true, Ordering::Release);
        scraper.join().unwrap();
    });
    let scrape = Scrape::of(&metrics);
    let all = (WORKERS as u64 * EACH) as f64;
    assert_eq!(scrape.sum("portcullis_requests_total"), all);
    assert_eq!(scrape.sum("portcullis_request_duration_seconds_count"), all);
    assert_eq!(scrape.sum("portcullis_request_bytes_total"), 10.0 * all);
    assert_eq!(route.in_flight(), 0);
}

#[cfg(target_os = "linux")]
#[test]
fn the_page_tells_of_the_process_and_the_build() {
    let scrape = Scrape::of(&Metrics::new(1));
    assert!(scrape.get("process_resident_memory_bytes") > Some(0.0));
    let build = format!(r#"portcullis_build_info{{version="{}"}}"#, env!("CARGO_PKG_VERSION"));
    assert_eq!(scrape.get(&build), Some(1.0));
}

#[derive(Clone, Debug)]
struct Step {
    worker: usize,
    route: usize,
    status: u16,
    reason: Reason,
    nanos: u64,
    bytes: u32,
    finish: bool,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let reason = (0..Reason::ALL.len()).prop_map(|index| Reason::ALL[index]);
    let reason = prop_oneof![Just(Reason::None), reason];
    let status = prop_oneof![Just(0u16), 100u16..600, any::<u16>()];
    let step =
        (0..3usize, 0..4usize, status, reason, nanos(), any::<u32>(), prop::bool::weighted(0.9));
    let step = step.prop_map(|(worker, route, status, reason, nanos, bytes, finish)| Step {
        worker,
        route,
        status,
        reason,
        nanos,
        bytes,
        finish,
    });
    prop::collection::vec(step, 0..200)
}

/// Durations everywhere, most of all around the bounds.
fn nanos() -> impl Strategy<Value = u64> {
    let near =
        (0..DURATION_BOUNDS.len(), 0..3u64).prop_map(|(bound, by)| DURATION_BOUNDS[bound] + by - 1);
    prop_oneof![near, 0..20_000_000_000u64, 0..10_000_000u64]
}

fn class(status: u16) -> &'static str {
    match status {
        100..=199 => "1xx",
        200..=299 => "2xx",
        300..=399 => "3xx",
        400..=499 => "4xx",
        500..=599 => "5xx",
        _ => "-",
    }
}

proptest! {
    #[test]
    fn the_page_equals_a_model_that_counts_one_by_one(steps in steps()) {
        let metrics = Metrics::new(3);
        let listener = Name::from("web");
        let routes: Vec<_> =
            (0..4).map(|route| metrics.route(&listener, &Name::from(format!("r{route}")))).collect();
        let mut model: BTreeMap<String, f64> = BTreeMap::new();
        for step in &steps {
            let worker = WorkerId(step.worker);
            let labels = format!(r#"listener="web",route="r{}""#, step.route);
            routes[step.route].started(worker);
            let mut count = |name: &str, more: &str, by: f64| {
                *model.entry(format!("portcullis_{name}{{{labels}{more}}}")).or_default() += by;
            };
            if !step.finish {
                count("requests_in_flight", "", 1.0);
                continue;
            }
            routes[step.route].finished(worker, &Exchange {
                status: step.status,
                reason: step.reason,
                duration: Duration::from_nanos(step.nanos),
                request_bytes: step.bytes.into(),
                response_bytes: u64::from(step.bytes) * 3,
            });
            let outcome = format!(r#",code="{}",reason="{}""#, class(step.status), step.reason.as_str());
            count("requests_total", &outcome, 1.0);
            count("request_bytes_total", "", step.bytes.into());
            count("response_bytes_total", "", f64::from(step.bytes) * 3.0);
            count("request_duration_seconds_count", "", 1.0);
            count("request_duration_seconds_bucket", r#",le="+Inf""#, 1.0);
            for bound in DURATION_BOUNDS.into_iter().filter(|bound| step.nanos <= *bound) {
                let le = format!(r#",le="{}""#, bound as f64 / 1e9);
                count("request_duration_seconds_bucket", &le, 1.0);
            }
        }
        let scrape = Scrape::of(&metrics);
        for (series, value) in &model {
            prop_assert_eq!(scrape.get(series), Some(*value), "{}", series);
        }
        let finished: f64 = steps.iter().filter(|step| step.finish).count() as f64;
        prop_assert_eq!(scrape.sum("portcullis_requests_total"), finished);
        let in_flight: f64 = steps.iter().filter(|step| !step.finish).count() as f64;
        prop_assert_eq!(scrape.sum("portcullis_requests_in_flight"), in_flight);
    }

    #[test]
    fn a_histogram_equals_a_naive_one(observations in prop::collection::vec((0..2usize, nanos()), 0..300)) {
        let histograms = [Histogram::default(), Histogram::default()];
        for (worker, nanos) in &observations {
            histograms[*worker].record(Duration::from_nanos(*nanos));
        }
        let sum = Distribution::of(histograms.iter());
        prop_assert_eq!(sum.count(), observations.len() as u64);
        for (index, bound) in DURATION_BOUNDS.iter().enumerate() {
            let cumulative: u64 = sum.buckets[..=index].iter().sum();
            let naive = observations.iter().filter(|(_, nanos)| nanos <= bound).count() as u64;
            prop_assert_eq!(cumulative, naive);
        }
        let exact: f64 = observations.iter().map(|(_, nanos)| *nanos as f64 / 1e3).sum();
        prop_assert!((sum.micros as f64 - exact).abs() <= 0.5 * observations.len() as f64 + 1e-3);
    }
}
