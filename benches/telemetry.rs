//! What telemetry costs: recording on a worker, and making the page.
//!
//! `cargo bench --bench telemetry` prints nanoseconds per operation, the median of rounds.

use std::hint::black_box;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant, SystemTime};

use http::{Method, Version};
use portcullis::ir::{AccessLog, AccessLogFormat, AccessLogTarget, Name};
use portcullis::telemetry::{
    AccessLogger, Exchange, Metrics, Reason, Record, RecordText, WorkerId,
};

const ROUNDS: usize = 21;
const WORKER: WorkerId = WorkerId(0);

fn main() {
    let metrics = Metrics::new(2);
    record_exchanges(&metrics);
    record_lines(&metrics);
    for routes in [1_000, 10_000] {
        make_page(routes);
    }
}

fn exchange(index: usize, reason: Reason) -> Exchange {
    let duration = Duration::from_nanos((index as u64 * 7_919) % 6_000_000);
    Exchange { status: 200, reason, duration, request_bytes: 0, response_bytes: 64 }
}

fn record_exchanges(metrics: &Metrics) {
    let route = metrics.route(&"web".into(), &"shop".into());
    timed("started + finished, 2xx", 1_000_000, |index| {
        route.started(WORKER);
        route.finished(WORKER, black_box(&exchange(index, Reason::None)));
    });
    timed("started + finished, with a reason", 1_000_000, |index| {
        route.started(WORKER);
        route.finished(WORKER, black_box(&exchange(index, Reason::Redirect)));
    });
    let endpoint = metrics.endpoint(&"shop".into(), "127.0.0.1:80");
    timed("attempt + reused + responded", 1_000_000, |index| {
        endpoint.attempt(WORKER);
        endpoint.reused(WORKER);
        endpoint.responded(WORKER, 200, black_box(exchange(index, Reason::None).duration));
    });
}

fn record_lines(metrics: &Metrics) {
    let log = AccessLogger::new(metrics.clone());
    let target = AccessLogTarget::File("/dev/null".into());
    if let Err(error) = log.configure(Some(&AccessLog { target, format: AccessLogFormat::Json })) {
        eprintln!("no access log: {error}");
        return;
    }
    let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, 51000));
    let listener = Name::from("web");
    let text = RecordText {
        host: b"shop.example.com",
        path: b"/products/123",
        query: Some(b"colour=red"),
        request_id: b"0123456789abcdef0123456789abcdef",
        user_agent: Some(b"Mozilla/5.0 (X11; Linux x86_64) Gecko/20100101 Firefox/140.0"),
        referer: None,
    };
    let start = SystemTime::now();
    let record = |_| {
        let mut record =
            Record::new(start, peer, listener.clone(), Method::GET, Version::HTTP_11, &text);
        record.status = 200;
        record.route = Some(listener.clone());
        record.upstream = Some(listener.clone());
        log.record(WORKER, black_box(record));
    };
    timed_with("access log record, made and queued", 1_000, record, || {
        log.flush(Duration::from_secs(10));
    });
    println!("{:<36} {:>10}", "lines lost", metrics.control().access_log_lost());
}

fn make_page(routes: usize) {
    let metrics = Metrics::new(2);
    let listener = Name::from("web");
    let handles: Vec<_> = (0..routes)
        .map(|route| metrics.route(&listener, &Name::from(format!("shop/route-{route}"))))
        .collect();
    for handle in &handles {
        handle.started(WORKER);
        handle.finished(WORKER, &exchange(1, Reason::None));
    }
    let start = Instant::now();
    let page = metrics.encode();
    let name = format!("page of {routes} busy routes");
    println!("{name:<36} {:>10.1?}, {} KiB", start.elapsed(), page.len() / 1024);
}

fn timed(name: &str, count: usize, operation: impl FnMut(usize)) {
    timed_with(name, count, operation, || ());
}

/// As [`timed`]; what is done between rounds takes no part.
fn timed_with(name: &str, count: usize, mut operation: impl FnMut(usize), between: impl Fn()) {
    let mut rounds: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            (0..count).for_each(&mut operation);
            let elapsed = start.elapsed();
            between();
            elapsed.as_nanos() as f64 / count as f64
        })
        .collect();
    rounds.sort_by(f64::total_cmp);
    println!("{name:<36} {:>10.1} ns", rounds[ROUNDS / 2]);
}
