//! How an endpoint is picked.

use std::sync::Arc;
use std::time::Duration;

use ir::{
    Balance, BalancePolicy, HashInput, HashPolicy, HashTable, LeastRequest, OrcaPolicy, PeakEwma,
    PrequalPolicy, SlowStart, WeightedByLoad,
};

use super::context::{Context, shown};
use super::range::{at_least, count, factor, limit, share};
use super::settings::period;
use super::{affinity, or};
use crate::ir;
use crate::provider::file::field::{At, Field, List, OneOf, Text};
use crate::provider::file::raw::{self, Algorithm, HashWord, TableWord};
use crate::provider::file::scalar::{Factor, Period, Window};

/// Below this, measuring would be busier than serving.
const SHORTEST: Duration = Duration::from_millis(100);

pub(super) fn policy(context: &mut Context<'_>, raw: &raw::Upstream) -> BalancePolicy {
    let mut policy = BalancePolicy::default();
    if let Some(at) = raw.balance.given() {
        policy.algorithm = match &at.value {
            OneOf::Scalar(word) => algorithm(*word),
            OneOf::Map(map) => parameters(context, at, map),
        };
    }
    let sticky = affinity::affinity(context, &raw.affinity);
    if let (Some(ir::Affinity { by: ir::AffinityKey::Header(_), .. }), Balance::Hash(_), Some(at)) =
        (&sticky, &policy.algorithm, raw.affinity.given())
    {
        let hint = "keep one: both send equal requests to the same endpoint";
        context.error(at.place, "affinity by header beside a hash", Some(hint));
    }
    policy.affinity = sticky.map(Box::new);
    policy.zone_aware = or(&raw.zone_aware, policy.zone_aware);
    limit(context, "subset", &raw.subset, &mut policy.subset);
    slow_start(context, &raw.slow_start, &mut policy.slow_start);
    if let Some(text) = raw.panic_threshold.get() {
        policy.panic_threshold = text.0.0;
    }
    let range = 1000..=100_000;
    factor(context, "overprovision", &raw.overprovision, range, &mut policy.overprovision);
    policy
}

fn algorithm(word: Algorithm) -> Balance {
    match word {
        Algorithm::ClientIp => hash(vec![HashInput::ClientIp]),
        Algorithm::ClientSideWeightedRoundRobin | Algorithm::WeightedByLoad => {
            Balance::WeightedByLoad(WeightedByLoad::default())
        }
        Algorithm::LeastConnections | Algorithm::LeastRequest => {
            Balance::LeastRequest(LeastRequest::default())
        }
        Algorithm::LeastUtilization => Balance::LeastUtilization(OrcaPolicy::default()),
        Algorithm::PeakEwma => Balance::PeakEwma(PeakEwma::default()),
        Algorithm::Prequal => Balance::Prequal(PrequalPolicy::default()),
        Algorithm::Random => Balance::Random,
        Algorithm::RoundRobin => Balance::RoundRobin,
    }
}

fn hash(on: Vec<HashInput>) -> Balance {
    Balance::Hash(HashPolicy { on, table: HashTable::default(), bounded_load: None })
}

fn parameters(
    context: &mut Context<'_>,
    at: &At<OneOf<Algorithm, raw::Balance>>,
    raw: &raw::Balance,
) -> Balance {
    let places = [
        ("client_side_weighted_round_robin", raw.client_side_weighted_round_robin.place()),
        ("hash", raw.hash.place()),
        ("least_request", raw.least_request.place()),
        ("least_utilization", raw.least_utilization.place()),
        ("peak_ewma", raw.peak_ewma.place()),
        ("prequal", raw.prequal.place()),
        ("weighted_by_load", raw.weighted_by_load.place()),
    ];
    let mut given = places.iter().filter_map(|(key, place)| Some((*key, (*place)?)));
    let (first, second) = (given.next(), given.next());
    if let (Some((first, _)), Some((second, place))) = (first, second) {
        let message = format!("both `{first}` and `{second}`");
        context.error(place, message, Some("an upstream has one algorithm"));
    }
    if !matches!(first, Some(("hash", _))) && !matches!(raw.hash, Field::Bad) {
        for (key, place) in
            [("table", raw.table.place()), ("bounded_load", raw.bounded_load.place())]
        {
            let hint = "add what is hashed, as in `hash: { header: x-user }`";
            if let Some(place) = place {
                context.error(place, format!("`{key}` without `hash`"), Some(hint));
            }
        }
    }
    match (&raw.hash, &raw.least_request, &raw.least_utilization) {
        (Field::Given(at), _, _) => return hash_policy(context, &at.value.0, raw),
        (_, Field::Given(at), _) => return least_request(context, &at.value),
        (_, _, Field::Given(at)) => return least_utilization(context, &at.value),
        _ => {}
    }
    match (&raw.peak_ewma, &raw.prequal, &raw.weighted_by_load) {
        (Field::Given(at), _, _) => return peak_ewma(context, &at.value),
        (_, Field::Given(at), _) => return prequal(context, &at.value),
        (_, _, Field::Given(at)) => return weighted_by_load(context, &at.value),
        _ => {}
    }
    if let Some(weights) = raw.client_side_weighted_round_robin.get() {
        return weighted_by_load(context, weights);
    }
    if no_algorithm(raw) {
        let hint = "name one, as in `balance: least_request` or `balance: { peak_ewma: { decay: \
                    5s } }`";
        context.error(at.place, "`balance` names no algorithm", Some(hint));
    }
    Balance::default()
}

/// Whether nothing was said, rather than something that was reported already.
fn no_algorithm(raw: &raw::Balance) -> bool {
    raw.client_side_weighted_round_robin.is_absent()
        && raw.hash.is_absent()
        && raw.least_request.is_absent()
        && raw.least_utilization.is_absent()
        && raw.peak_ewma.is_absent()
        && raw.prequal.is_absent()
        && raw.weighted_by_load.is_absent()
        && raw.table.is_absent()
        && raw.bounded_load.is_absent()
}

fn least_request(context: &mut Context<'_>, raw: &raw::LeastRequest) -> Balance {
    let mut policy = LeastRequest::default();
    count(context, "choices", &raw.choices, 2..=100, &mut policy.choices);
    count(context, "full_scan", &raw.full_scan, 0..=1000, &mut policy.full_scan);
    Balance::LeastRequest(policy)
}

fn peak_ewma(context: &mut Context<'_>, raw: &raw::PeakEwma) -> Balance {
    let mut policy = PeakEwma::default();
    period(context, "decay", &raw.decay, &mut policy.decay);
    period(context, "default_latency", &raw.default_latency, &mut policy.default_latency);
    period(context, "failure_penalty", &raw.failure_penalty, &mut policy.failure_penalty);
    Balance::PeakEwma(policy)
}

fn least_utilization(context: &mut Context<'_>, raw: &raw::Orca) -> Balance {
    Balance::LeastUtilization(orca(context, &raw.interval, &raw.metrics, &raw.poll))
}

fn weighted_by_load(context: &mut Context<'_>, raw: &raw::WeightedByLoad) -> Balance {
    let mut policy = WeightedByLoad {
        orca: orca(context, &raw.interval, &raw.metrics, &raw.poll),
        ..WeightedByLoad::default()
    };
    window(&raw.blackout, &mut policy.blackout);
    period(context, "expiration", &raw.expiration, &mut policy.expiration);
    at_least(context, "update", &raw.update, SHORTEST, &mut policy.update);
    let most = 0..=1_000_000;
    factor(context, "error_penalty", &raw.error_penalty, most, &mut policy.error_penalty);
    Balance::WeightedByLoad(policy)
}

fn orca(
    context: &mut Context<'_>,
    interval: &Field<Text<Period>>,
    metrics: &Field<List<String>>,
    poll: &Field<String>,
) -> OrcaPolicy {
    let mut policy = OrcaPolicy::default();
    at_least(context, "interval", interval, SHORTEST, &mut policy.interval);
    policy.poll = poll.given().and_then(|at| target(context, "poll", at));
    for at in metrics.get().map(|list| list.0.as_slice()).unwrap_or_default() {
        if at.value.is_empty() {
            context.error(at.place, "a metric has no name", None);
        }
        policy.metrics.push(Arc::from(&*at.value));
    }
    policy
}

fn prequal(context: &mut Context<'_>, raw: &raw::Prequal) -> Balance {
    let mut policy = PrequalPolicy::default();
    share(context, "hot", &raw.hot, &mut policy.hot);
    period(context, "max_age", &raw.max_age, &mut policy.max_age);
    count(context, "pool", &raw.pool, 2..=64, &mut policy.pool);
    factor(context, "probes", &raw.probes, 1..=16_000, &mut policy.probes);
    policy.probe_path = raw.probe_path.given().and_then(|at| target(context, "probe_path", at));
    Balance::Prequal(policy)
}

fn hash_policy(
    context: &mut Context<'_>,
    on: &List<OneOf<HashWord, raw::HashPart>>,
    raw: &raw::Balance,
) -> Balance {
    if on.0.is_empty() && !on.1 {
        let place = raw.hash.place().unwrap_or_default();
        let hint = "for example `hash: { header: x-user }`";
        context.error(place, "nothing is hashed", Some(hint));
    }
    let on = on.0.iter().filter_map(|at| hash_input(context, at)).collect();
    let mut bounded_load = ir::Permille(1000);
    factor(context, "bounded_load", &raw.bounded_load, 1000..=100_000, &mut bounded_load);
    Balance::Hash(HashPolicy {
        on,
        table: table(context, &raw.table),
        bounded_load: raw.bounded_load.given().map(|_| bounded_load),
    })
}

fn hash_input(
    context: &mut Context<'_>,
    at: &At<OneOf<HashWord, raw::HashPart>>,
) -> Option<HashInput> {
    let part = match &at.value {
        OneOf::Scalar(HashWord::ClientIp) => return Some(HashInput::ClientIp),
        OneOf::Scalar(HashWord::Host) => return Some(HashInput::Host),
        OneOf::Scalar(HashWord::Path) => return Some(HashInput::Path),
        OneOf::Scalar(HashWord::Uri) => return Some(HashInput::Uri),
        OneOf::Map(part) => part,
    };
    match (&part.cookie, &part.header, &part.query) {
        (Field::Given(name), Field::Absent, Field::Absent) => {
            affinity::cookie_name(context, name).map(HashInput::Cookie)
        }
        (Field::Absent, Field::Given(name), Field::Absent) => {
            Some(HashInput::Header(name.value.0.0.clone()))
        }
        (Field::Absent, Field::Absent, Field::Given(name)) => {
            Some(HashInput::Query(Arc::from(&*name.value)))
        }
        (Field::Bad, _, _) | (_, Field::Bad, _) | (_, _, Field::Bad) => None,
        _ => {
            let hint = "write one of `{ cookie: … }`, `{ header: … }` and `{ query: … }`, or a \
                        list of them";
            context.error(at.place, "not one part of a request", Some(hint));
            None
        }
    }
}

fn table(context: &mut Context<'_>, field: &Field<OneOf<TableWord, raw::Table>>) -> HashTable {
    const RING: u32 = 160;
    let Some(at) = field.given() else { return HashTable::default() };
    let raw = match &at.value {
        OneOf::Scalar(TableWord::Maglev) => return HashTable::Maglev(None),
        OneOf::Scalar(TableWord::Ring) => return HashTable::Ring(RING),
        OneOf::Map(raw) => raw,
    };
    match (&raw.maglev, &raw.ring) {
        (Field::Given(size), Field::Absent) => {
            maglev_size(context, size);
            HashTable::Maglev(Some(size.value))
        }
        (Field::Absent, Field::Given(_)) => {
            let mut points = RING;
            count(context, "ring", &raw.ring, 1..=4096, &mut points);
            HashTable::Ring(points)
        }
        (Field::Bad, _) | (_, Field::Bad) => HashTable::default(),
        _ => {
            let hint = "write `maglev`, `ring`, `{ maglev: 65537 }` or `{ ring: 160 }`";
            context.error(at.place, "`table` is not one table", Some(hint));
            HashTable::default()
        }
    }
}

/// Every permutation of a Maglev table visits all its places only if their number is a prime.
fn maglev_size(context: &mut Context<'_>, at: &At<u32>) {
    const LEAST: u32 = 101;
    const MOST: u32 = 5_000_011;
    if !(LEAST..=MOST).contains(&at.value) {
        let message = format!("`maglev` must lie between {LEAST} and {MOST}");
        context.error(at.place, message, None);
    } else if !is_prime(at.value) {
        let next = (at.value..=MOST).find(|size| is_prime(*size)).unwrap_or(MOST);
        let hint = format!("the next prime is {next}");
        context.error(at.place, "`maglev` must be a prime", Some(&hint));
    }
}

fn is_prime(number: u32) -> bool {
    number >= 2 && (2..).take_while(|n| n * n <= number).all(|n| !number.is_multiple_of(n))
}

/// The path of a request the proxy makes itself, with a query where it has one.
pub(super) fn target(context: &mut Context<'_>, key: &str, at: &At<String>) -> Option<ir::Text> {
    let sound = at.value.bytes().all(|b| b.is_ascii_graphic() && b != b'#');
    if at.value.starts_with('/') && sound {
        return Some(ir::Text::new(&at.value, at.substituted));
    }
    let hint = "it starts with `/` and is percent-encoded";
    context.error(at.place, format!("{key}: {} is no path", shown(at)), Some(hint));
    None
}

fn slow_start(
    context: &mut Context<'_>,
    field: &Field<OneOf<Text<Window>, raw::SlowStart>>,
    policy: &mut SlowStart,
) {
    let raw = match field.get() {
        None => return,
        // A time is for both; whoever turns it off means both.
        Some(OneOf::Scalar(Text(Window(time)))) => {
            (policy.window, policy.recovery) = (*time, *time);
            return;
        }
        Some(OneOf::Map(raw)) => raw,
    };
    window(&raw.window, &mut policy.window);
    window(&raw.recovery, &mut policy.recovery);
    let aggression: &Field<Text<Factor>> = &raw.aggression;
    factor(context, "aggression", aggression, 100..=100_000, &mut policy.aggression);
    share(context, "least", &raw.least, &mut policy.least);
}

fn window(field: &Field<Text<Window>>, target: &mut Duration) {
    if let Some(text) = field.get() {
        *target = text.0.0;
    }
}
