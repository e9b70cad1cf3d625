//! What upstreams are told of attempts, whatever becomes of them.

use http::StatusCode;
use proptest::prelude::*;

use super::*;
use crate::ir::{self, Name, Origin, PeakEwma, Permille};
use crate::telemetry::Metrics;
use crate::upstream::{Environment, LatencyRule, Registry, Target, Transport};
use crate::util::moment::Moment;

const MS: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_secs(3600);
const WORKER: WorkerId = WorkerId(0);

/// An upstream with one endpoint that counts outcomes.
struct World {
    upstream: Arc<Upstream>,
    endpoint: Arc<Endpoint>,
    metrics: Metrics,
    started: Moment,
}

impl World {
    fn new() -> Self {
        let spec = ir::Upstream {
            origin: Origin::default(),
            endpoints: Vec::new(),
            discovered: false,
            balance: ir::BalancePolicy { panic_threshold: Permille(0), ..Default::default() }
                .into(),
            health: None,
            outlier: Some(Arc::default()),
            limits: Arc::default(),
            protocol: ir::UpstreamProtocol::Http2,
            tls: None,
            pool: ir::PoolOptions::default(),
        };
        let target = Target {
            address: ([127, 0, 0, 1], 1).into(),
            host: None,
            weight: 1,
            priority: 0,
            zone: None,
            draining: false,
        };
        let metrics = Metrics::new(1);
        let registry = Registry::new(metrics.clone(), Environment::new(1, 1));
        let transport = Transport { protocol: spec.protocol, tls: None, pool: spec.pool.clone() };
        let started = Moment::now();
        let (name, now) = (Name::from("app"), started);
        let upstream = registry.obtain(&name, &Arc::new(spec), transport, &[target], now);
        let endpoint = upstream.endpoints().members()[0].endpoint.clone();
        Self { upstream, endpoint, metrics, started }
    }

    fn watch(&self) -> Watch {
        let in_flight = InFlight::new(self.endpoint.clone(), self.started);
        Watch::new(self.upstream.clone(), in_flight, WORKER, self.started, None)
    }

    /// An attempt whose gRPC call has begun after ten milliseconds.
    fn call(&self, fields: &[(&'static str, &'static str)]) -> Watch {
        let mut watch = self.watch();
        watch.responded(&head(200, fields), true, self.started.after(MS * 10));
        watch
    }

    /// The attempts that had an outcome, and those among them that failed, since last asked.
    fn outcomes(&self) -> (u32, u32) {
        let window = self.endpoint.outcomes.take_window();
        (window.requests, window.failures)
    }

    fn latency(&self) -> Duration {
        self.endpoint.latency.average().unwrap_or_default()
    }
}

const GRPC: (&str, &str) = ("content-type", "application/grpc");

fn fields(fields: &[(&'static str, &'static str)]) -> HeaderMap {
    let field = |(name, value): &(&'static str, &'static str)| {
        (name.parse().expect("a name"), HeaderValue::from_static(value))
    };
    fields.iter().map(field).collect()
}

fn head(status: u16, lines: &[(&'static str, &'static str)]) -> ResponseHead {
    let status = StatusCode::from_u16(status).expect("a status");
    ResponseHead { status, headers: fields(lines) }
}

#[test]
fn a_call_is_judged_once_by_the_code_in_its_trailers() {
    let world = World::new();
    for (code, failures) in [("0", 0), ("5", 0), ("14", 1), ("13", 1), ("2", 1), ("99", 1)] {
        let mut watch = world.call(&[GRPC]);
        assert_eq!(world.outcomes(), (0, 0), "its head says nothing yet");
        watch.trailers(&fields(&[("grpc-status", code)]), world.started.after(HOUR));
        watch.ended(world.started.after(HOUR));
        drop(watch);
        assert_eq!(world.outcomes(), (1, failures), "code {code}");
    }
    let page = world.metrics.encode();
    let calls =
        "portcullis_upstream_grpc_responses_total{upstream=\"app\",endpoint=\"127.0.0.1:1\"";
    for (name, count) in [("ok", 1), ("not_found", 1), ("unavailable", 1), ("unknown", 2)] {
        let line = format!("{calls},grpc_status=\"{name}\"}} {count}\n");
        assert!(page.contains(&line), "{line} in\n{page}");
    }
}

#[test]
fn a_call_that_ends_without_a_code_failed_and_what_is_no_call_did_not() {
    let world = World::new();
    let kinds = [
        ("application/grpc", 1),
        ("application/grpc+proto", 1),
        ("application/grpc;x", 1),
        ("application/grpc-web+proto", 0),
        ("text/html", 0),
    ];
    for (kind, failures) in kinds {
        let mut watch = world.call(&[("content-type", kind)]);
        watch.trailers(&fields(&[("x-sum", "7")]), world.started);
        watch.ended(world.started);
        assert_eq!(world.outcomes(), (1, failures), "{kind}");
    }
    let mut watch = world.watch();
    watch.responded(&head(200, &[GRPC]), false, world.started);
    watch.ended(world.started);
    assert_eq!(world.outcomes(), (1, 0), "the client did not call");
}

#[test]
fn a_head_that_says_that_it_failed_settles_it() {
    let world = World::new();
    let heads = [
        (head(503, &[GRPC]), 1),
        (head(200, &[GRPC, ("grpc-status", "14")]), 1),
        (head(200, &[GRPC, ("grpc-status", "8")]), 0),
    ];
    for (head, failures) in heads {
        let mut watch = world.watch();
        watch.responded(&head, true, world.started);
        assert_eq!(world.outcomes(), (1, failures), "{:?}", head.headers);
        watch.trailers(&fields(&[("grpc-status", "0")]), world.started);
        watch.failed(Reason::UpstreamReset);
        watch.ended(world.started);
        drop(watch);
        assert_eq!(world.outcomes(), (0, 0), "once");
    }
}

#[test]
fn the_latency_is_the_time_to_the_head_however_long_a_stream_lasts() {
    let world = World::new();
    let mut watch = world.call(&[GRPC]);
    assert_eq!(world.latency(), MS * 10, "known at once");
    watch.trailers(&fields(&[("grpc-status", "0")]), world.started.after(HOUR));
    watch.ended(world.started.after(HOUR));
    assert_eq!(world.latency(), MS * 10);
    let mut watch = world.call(&[GRPC]);
    watch.trailers(&fields(&[("grpc-status", "14")]), world.started.after(HOUR));
    watch.ended(world.started.after(HOUR));
    assert_eq!(world.latency(), MS * 10, "a failure is no latency");
    let rule = LatencyRule::new(&PeakEwma::default());
    let expected = world.endpoint.latency.expected(&rule, world.started.after(HOUR));
    assert!(expected.is_some_and(|nanos| nanos > 4e9), "and counts as slow: {expected:?}");
}

#[test]
fn a_response_that_breaks_off_is_one_failure_and_one_that_is_left_none() {
    let world = World::new();
    let begun = || {
        let mut watch = world.watch();
        watch.responded(&head(200, &[]), false, world.started);
        watch
    };
    begun().failed(Reason::UpstreamReset);
    assert_eq!(world.outcomes(), (1, 1));
    begun().failed(Reason::RequestTimeout);
    assert_eq!(world.outcomes(), (0, 0), "it was answering");
    drop(begun());
    assert_eq!(world.outcomes(), (1, 0), "it was answered");
    drop(world.call(&[GRPC]));
    assert_eq!(world.outcomes(), (1, 0));
    drop(world.watch());
    assert_eq!(world.outcomes(), (0, 0), "nobody waited");
}

#[test]
fn a_row_of_responses_that_break_off_is_a_row() {
    let world = World::new();
    for _ in 0..5 {
        let mut watch = world.watch();
        watch.responded(&head(200, &[]), false, world.started);
        watch.failed(Reason::UpstreamIncomplete);
    }
    assert!(world.endpoint.outcomes.suspicion().is_some());
}

#[derive(Clone, Debug)]
enum Event {
    Trailers(Option<&'static str>),
    Ended,
    Failed(Reason),
    Stale,
}

fn codes() -> impl Strategy<Value = Option<&'static str>> {
    prop::sample::select(vec![None, Some("0"), Some("8"), Some("14"), Some("x")])
}

fn events() -> impl Strategy<Value = Event> {
    let reasons = [Reason::UpstreamReset, Reason::RequestTimeout, Reason::UpstreamIdleTimeout];
    prop_oneof![
        codes().prop_map(Event::Trailers),
        Just(Event::Ended),
        prop::sample::select(reasons.to_vec()).prop_map(Event::Failed),
        Just(Event::Stale),
    ]
}

proptest! {
    /// With a head or without, and in whatever order things happen then.
    #[test]
    fn an_attempt_has_at_most_one_outcome(
        answer in prop::option::of((
            prop::sample::select(vec![101u16, 200, 204, 404, 429, 503]),
            codes(),
            any::<bool>(),
        )),
        events in prop::collection::vec(events(), 0..6),
    ) {
        let world = World::new();
        let mut watch = world.watch();
        let status = |code: Option<&'static str>| match code {
            Some(code) => vec![GRPC, ("grpc-status", code)],
            None => vec![GRPC],
        };
        if let Some((number, code, grpc)) = answer {
            watch.responded(&head(number, &status(code)), grpc, world.started);
        }
        for event in events {
            match event {
                Event::Trailers(code) => watch.trailers(&fields(&status(code)), world.started),
                Event::Ended => watch.ended(world.started),
                Event::Failed(reason) => watch.failed(reason),
                Event::Stale => watch.went_stale(Reason::UpstreamReset),
            }
        }
        drop(watch);
        let (outcomes, failures) = world.outcomes();
        prop_assert!(outcomes <= 1 && failures <= outcomes, "{outcomes}, {failures}");
        prop_assert_eq!(world.endpoint.in_flight(), 0);
    }
}
