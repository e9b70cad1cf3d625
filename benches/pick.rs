//! What a pick costs, by algorithm and number of endpoints.
//!
//! `cargo bench --bench pick` prints nanoseconds of a pick by the proxy's own upstreams: the median
//! of several rounds and the best of them, and allocations. Then those of an attempt's whole
//! bookkeeping (picked, counted in flight, answered, observed), by one worker alone and by two at
//! once who write the same endpoints' state. It checks that neither allocates; that neither takes
//! a lock is so by construction: sets of endpoints are behind an `ArcSwap`, the rest is atomics.
//!
//! Endpoints have answered before in 5 to 35 ms and have up to three requests in flight; keys
//! are drawn uniformly. Words of the command line choose algorithms by their names.

use std::collections::VecDeque;
use std::hint::black_box;
use std::net::SocketAddr;
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderValue};
use portcullis::ir::{
    self, Balance, BalancePolicy, HashInput, HashPolicy, HashTable, LeastRequest, Name, OrcaPolicy,
    Origin, Outlier, PeakEwma, Permille, PoolOptions, PrequalPolicy, UpstreamLimits,
    UpstreamProtocol, WeightedByLoad,
};
use portcullis::telemetry::{Metrics, WorkerId};
use portcullis::upstream::balance::Pick;
use portcullis::upstream::{
    Environment, InFlight, Observation, Registry, Target, Transport, Upstream, Verdict, orca,
};
use portcullis::util::moment::Moment;
use portcullis::util::random::Random;

const ROUNDS: usize = 15;
const PICKS: u64 = 100_000;
/// The endpoints have been known for a while.
const START: Moment = Moment(100_000_000_000);
/// Between two picks of a worker.
const STEP: u64 = 2_000;
/// What a worker has in flight.
const IN_FLIGHT: usize = 64;

fn main() {
    let wanted: Vec<String> =
        std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    println!("{:<36}{:^30}{:^26}", "", "pick", "attempt, ns");
    println!(
        "{:<26}{:>10}{:>10}{:>10}{:>10}{:>12}{:>14}",
        "", "endpoints", "ns", "best", "allocs", "alone", "two at once"
    );
    for (name, balance) in algorithms() {
        if !wanted.is_empty() && !wanted.iter().any(|word| name.contains(word.as_str())) {
            continue;
        }
        for count in [3, 100, 5_000] {
            let world = World::new(&balance, count);
            let pick = world.measure_picks();
            let alone = world.measure_attempts(1);
            let both = world.measure_attempts(2);
            println!(
                "{name:<26}{count:>10}{:>10.1}{:>10.1}{:>10.2}{alone:>12.1}{both:>14.1}",
                pick.median, pick.best, pick.allocations
            );
        }
    }
}

fn algorithms() -> Vec<(&'static str, Balance)> {
    let hash = |table, bounded_load| {
        Balance::Hash(HashPolicy { on: vec![HashInput::ClientIp], table, bounded_load })
    };
    let by_load = WeightedByLoad { blackout: Duration::ZERO, ..WeightedByLoad::default() };
    vec![
        ("peak_ewma (default)", Balance::PeakEwma(PeakEwma::default())),
        ("least_request", Balance::LeastRequest(LeastRequest::default())),
        ("round_robin", Balance::RoundRobin),
        ("random", Balance::Random),
        ("hash, maglev", hash(HashTable::Maglev(None), None)),
        ("hash, maglev, bounded", hash(HashTable::Maglev(None), Some(Permille(1250)))),
        ("hash, ring", hash(HashTable::Ring(160), None)),
        ("least_utilization", Balance::LeastUtilization(OrcaPolicy::default())),
        ("weighted_by_load", Balance::WeightedByLoad(by_load)),
        ("prequal", Balance::Prequal(PrequalPolicy::default())),
    ]
}

/// An upstream whose endpoints have worked for a while.
struct World {
    upstream: Arc<Upstream>,
    /// Requests that stay in flight.
    _busy: Vec<InFlight>,
    _registry: Registry,
}

struct Row {
    median: f64,
    best: f64,
    allocations: f64,
}

impl World {
    fn new(balance: &Balance, count: usize) -> Self {
        let registry = Registry::new(Metrics::new(2), Environment::new(2, 1));
        let transport = Transport {
            protocol: UpstreamProtocol::Http1,
            tls: None,
            pool: PoolOptions::default(),
        };
        let (name, before) = (Name::from("bench"), Moment(1_000_000_000));
        let upstream = registry.obtain(
            &name,
            &Arc::new(spec(balance.clone())),
            transport,
            &targets(count),
            before,
        );
        let mut random = Random::new(42);
        let mut busy = Vec::new();
        for member in upstream.endpoints().members() {
            for in_flight in 0..5 {
                upstream.observe(&member.endpoint, answer(in_flight, &mut random), START);
            }
            upstream.read_report(&member.endpoint, &report(&mut random), WorkerId(0), START);
            let more = random.below(4);
            busy.extend((0..more).map(|_| InFlight::new(member.endpoint.clone(), START)));
        }
        // Weights follow reports when a set is built.
        upstream.mark_stale();
        upstream.upkeep(START);
        Self { upstream, _busy: busy, _registry: registry }
    }

    fn measure_picks(&self) -> Row {
        let picks = || {
            for n in 0..PICKS {
                black_box(self.upstream.pick(&mut pick(WorkerId(0), n)));
            }
        };
        let allocations = allocation_counter::measure(picks).count_total;
        assert_eq!(allocations, 0, "a pick allocated");
        let mut rounds: Vec<f64> = (0..ROUNDS).map(|_| nanoseconds(picks)).collect();
        rounds.sort_by(f64::total_cmp);
        let allocations = allocations as f64 / PICKS as f64;
        Row { median: rounds[ROUNDS / 2], best: rounds[0], allocations }
    }

    /// The median of what an attempt takes each of so many workers at once.
    fn measure_attempts(&self, workers: usize) -> f64 {
        let barrier = Barrier::new(workers);
        let worker = |worker| {
            let mut flying = VecDeque::with_capacity(IN_FLIGHT + 1);
            self.attempts(worker, &mut flying);
            let counted = allocation_counter::measure(|| self.attempts(worker, &mut flying));
            assert_eq!(counted.count_total, 0, "an attempt's bookkeeping allocated");
            let rounds = (0..ROUNDS).map(|_| {
                barrier.wait();
                nanoseconds(|| self.attempts(worker, &mut flying))
            });
            rounds.collect::<Vec<f64>>()
        };
        let mut rounds: Vec<f64> = std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..workers).map(|n| scope.spawn(move || worker(WorkerId(n)))).collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap_or_default()).collect()
        });
        rounds.sort_by(f64::total_cmp);
        rounds[rounds.len() / 2]
    }

    fn attempts(&self, worker: WorkerId, flying: &mut VecDeque<InFlight>) {
        let mut random = Random::new(worker.0 as u64);
        for n in 0..PICKS {
            let mut pick = pick(worker, n);
            let Some(endpoint) = self.upstream.pick(&mut pick) else { continue };
            flying.push_back(InFlight::new(endpoint, pick.now));
            if flying.len() > IN_FLIGHT
                && let Some(mut answered) = flying.pop_front()
            {
                answered.answered(pick.now);
                let observation = answer(answered.before(), &mut random);
                self.upstream.observe(answered.endpoint(), observation, pick.now);
            }
        }
    }
}

fn spec(algorithm: Balance) -> ir::Upstream {
    ir::Upstream {
        origin: Origin::default(),
        endpoints: Vec::new(),
        discovered: false,
        balance: BalancePolicy { algorithm, ..BalancePolicy::default() }.into(),
        health: None,
        outlier: Some(Outlier::default().into()),
        limits: UpstreamLimits::default().into(),
        protocol: UpstreamProtocol::Http1,
        tls: None,
        pool: PoolOptions::default(),
    }
}

fn targets(count: usize) -> Vec<Target> {
    let target = |index| {
        let [_, _, high, low] = u32::try_from(index).unwrap_or(0).to_be_bytes();
        let address = SocketAddr::from(([127, 1, high, low], 80));
        Target { address, host: None, weight: 1, priority: 0, zone: None, draining: false }
    };
    (0..count).map(target).collect()
}

fn pick(worker: WorkerId, number: u64) -> Pick<'static> {
    let mut random = Random::new(number ^ (worker.0 as u64) << 32);
    let now = Moment(START.0 + number * STEP);
    Pick { worker, now, tried: &[], key: Some(random.draw()), session: None, random }
}

fn answer(in_flight: u32, random: &mut Random) -> Observation {
    let latency = Duration::from_micros(5_000 + random.below(30_000) as u64);
    Observation { in_flight, latency, verdict: Verdict::Responded(200) }
}

fn report(random: &mut Random) -> HeaderMap {
    let report = format!("TEXT cpu_utilization={:.2},rps_fractional=100", random.unit());
    let mut fields = HeaderMap::new();
    fields.extend(HeaderValue::try_from(report).map(|report| (orca::FIELD, report)));
    fields
}

fn nanoseconds(picks: impl FnOnce()) -> f64 {
    let start = Instant::now();
    picks();
    start.elapsed().as_nanos() as f64 / PICKS as f64
}
