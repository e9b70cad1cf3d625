//! How long a lookup takes and how much it allocates, beside the naive oracle and matchit.
//!
//! `cargo bench --bench router` prints nanoseconds per lookup, the median of several rounds and
//! the best of them (what neighbours on the machine disturbed least), and allocations per lookup.
//! Requests are prepared before the clock starts and drawn uniformly from all hosts and paths, the worst case for the caches;
//! the second line of a size draws from a hundred hosts, the usual case. It checks that everything
//! finds the same routes and that a lookup allocates nothing, and nothing by time.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderName, Method};
use portcullis::ir::{self, HeaderMatch, HostPattern, PathMatch, RouteMatch, ValueMatch};
use portcullis::snapshot::{HostIndex, HostTable, RequestFacts, RouteId};

#[path = "../src/snapshot/oracle.rs"]
mod oracle;

const ROUNDS: usize = 15;
const REQUESTS: usize = 100_000;

fn main() {
    println!(
        "{:<44}{:>12}{:>10}{:>14}{:>12}{:>12}",
        "", "ns, median", "ns, best", "allocs/lookup", "build ms", "bytes/route"
    );
    for hosts in [1, 1_000, 100_000] {
        bench_hosts(hosts);
    }
    for paths in [5, 100, 10_000] {
        bench_paths(paths);
    }
    bench_hostile();
}

const PATHS: [&str; 5] = ["/", "/products", "/cart", "/orders", "/reviews"];

/// Hosts with the five routes of a shop each, one of a hundred by wildcard.
fn bench_hosts(hosts: usize) {
    let routes: Vec<RouteMatch> = PATHS.iter().map(|path| prefix(path)).collect();
    let ids: Vec<(RouteId, &RouteMatch)> = (0..).map(RouteId).zip(&routes).collect();
    let pattern = |n: usize| match n % 100 {
        99 => HostPattern::parse(&format!("*.wild-{n}.example.com")),
        _ => HostPattern::parse(&format!("shop-{n}.example.com")),
    };
    let mut index = None;
    let build = measure_build(|| {
        let tables =
            (0..hosts).filter_map(|n| Some((pattern(n).ok()?, Arc::new(HostTable::build(&ids).0))));
        index = Some(HostIndex::build(tables));
    });
    let Some(index) = index else { return };
    for (label, popular) in [("", hosts), (", a hundred of them asked for", hosts.min(100))] {
        if popular == hosts && !label.is_empty() {
            continue;
        }
        let mut random = Random(42);
        let spread = hosts / popular;
        let requests: Vec<(String, String)> = (0..REQUESTS)
            .map(|_| {
                let n = random.below(popular) * spread;
                let host = match n % 100 {
                    99 => format!("a.wild-{n}.example.com"),
                    _ => format!("shop-{n}.example.com"),
                };
                (host, format!("{}/item/7", PATHS[random.below(PATHS.len())]).replace("//", "/"))
            })
            .collect();
        let lookup = |(host, path): &(String, String)| {
            index.lookup(host.as_bytes()).and_then(|table| table.lookup(&get(path)))
        };
        for request in &requests {
            assert_eq!(lookup(request), oracle::lookup(&ids, &get(&request.1)));
        }
        let row = measure(&requests, lookup);
        assert_eq!(row.allocations, 0.0, "a lookup allocated");
        row.print(&format!("{hosts} hosts x 5 paths{label}"), Some((build, hosts * 5)));
        if label.is_empty() {
            let only_host =
                measure(&requests, |(host, _)| index.lookup(host.as_bytes()).map(|_| RouteId(0)));
            only_host.print("  the host alone", None);
            one_read(build.bytes, &requests).print("  one read at random in as much memory", None);
        }
    }
}

/// What the machine takes for a single read in as much memory as the tables take: a lookup of a host
/// that is in no cache makes two that wait for each other, one in the index and one in the host's table.
fn one_read<T>(bytes: i64, requests: &[T]) -> Row {
    let memory = vec![0_u8; usize::try_from(bytes).unwrap_or(0).max(1)];
    let mut random = Random(43);
    let places: Vec<usize> = requests.iter().map(|_| random.below(memory.len())).collect();
    // Where the next read goes depends on what the last one found.
    let found = std::cell::Cell::new(0);
    measure(&places, |place| {
        found.set(usize::from(memory[(place + found.get()) % memory.len()]));
        None
    })
}

/// One host with many prefixes of three segments.
fn bench_paths(paths: usize) {
    let mut routes: Vec<RouteMatch> =
        (1..paths).map(|n| prefix(&format!("/api/v{}/resource-{n}", n % 10))).collect();
    routes.push(prefix("/"));
    let ids: Vec<(RouteId, &RouteMatch)> = (0..).map(RouteId).zip(&routes).collect();
    let mut table = None;
    let build = measure_build(|| table = Some(HostTable::build(&ids).0));
    let Some(table) = table else { return };
    let mut random = Random(42);
    let requests: Vec<String> = (0..REQUESTS)
        .map(|_| {
            let n = random.below(paths);
            format!("/api/v{}/resource-{n}/7", n % 10)
        })
        .collect();
    let few = &requests[..requests.len().min(2_000_000 / paths)];
    for path in few {
        assert_eq!(table.lookup(&get(path)), oracle::lookup(&ids, &get(path)));
    }
    let row = measure(&requests, |path| table.lookup(&get(path)));
    assert_eq!(row.allocations, 0.0, "a lookup allocated");
    row.print(&format!("1 host x {paths} paths"), Some((build, paths)));
    measure(few, |path| oracle::lookup(&ids, &get(path))).print("  the naive oracle", None);

    let catch_all = matchit_of(&routes, |prefix| {
        [prefix.to_owned(), format!("{prefix}/"), format!("{prefix}/{{*rest}}")]
    });
    measure(&requests, |path| catch_all.at(path).ok().map(|found| *found.value))
        .print("  matchit, catch-alls, no fallback", None);
    let exact = matchit_of(&routes, |prefix| [format!("{prefix}/7")]);
    measure(&requests, |path| exact.at(path).ok().map(|found| *found.value))
        .print("  matchit, static paths only", None);
}

/// Paths of 8 KiB against a host that has a prefix at each of 4,096 depths.
fn bench_hostile() {
    let routes: Vec<RouteMatch> = (1..=4_096)
        .map(|depth| with_header(prefix(&"/a".repeat(depth)), "x-never"))
        .chain([prefix("/")])
        .collect();
    let ids: Vec<(RouteId, &RouteMatch)> = (0..).map(RouteId).zip(&routes).collect();
    let (table, _) = HostTable::build(&ids);
    for (label, path) in [
        ("8 KiB of slashes", "/".repeat(8_192)),
        ("8 KiB in one segment", format!("/{}", "b".repeat(8_191))),
        ("8 KiB of unknown segments", "/b".repeat(4_096)),
        ("8 KiB down 4,096 prefixes and back", "/a".repeat(4_096)),
    ] {
        let requests = vec![path; 100];
        measure(&requests, |path| table.lookup(&get(path))).print(label, None);
    }
}

fn matchit_of<const N: usize>(
    routes: &[RouteMatch],
    expand: impl Fn(&str) -> [String; N],
) -> matchit::Router<RouteId> {
    let mut router = matchit::Router::new();
    for (n, route) in (0..).zip(routes) {
        let PathMatch::Prefix(prefix) = &route.path else { continue };
        for path in expand(prefix.trim_end_matches('/')) {
            if !path.is_empty() {
                router.insert(path, RouteId(n)).expect("distinct prefixes do not conflict");
            }
        }
    }
    router
}

fn prefix(path: &str) -> RouteMatch {
    RouteMatch::of(PathMatch::Prefix(path.into()))
}

fn with_header(route: RouteMatch, name: &'static str) -> RouteMatch {
    let name = HeaderName::from_static(name);
    let headers = vec![HeaderMatch { name, value: ValueMatch::Present }];
    RouteMatch { headers, ..route }
}

fn get(path: &str) -> RequestFacts<'_> {
    static HEADERS: std::sync::OnceLock<HeaderMap> = std::sync::OnceLock::new();
    let headers = HEADERS.get_or_init(HeaderMap::new);
    RequestFacts { method: &Method::GET, path, query: None, headers }
}

struct Row {
    median: f64,
    best: f64,
    allocations: f64,
}

impl Row {
    fn print(&self, label: &str, build: Option<(Build, usize)>) {
        print!("{label:<44}{:>12.1}{:>10.1}{:>14.2}", self.median, self.best, self.allocations);
        if let Some((build, routes)) = build {
            let milliseconds = build.time.as_secs_f64() * 1e3;
            print!("{milliseconds:>12.1}{:>12}", build.bytes / routes as i64);
        }
        println!();
    }
}

#[derive(Clone, Copy)]
struct Build {
    time: Duration,
    bytes: i64,
}

fn measure_build(build: impl FnOnce()) -> Build {
    let mut time = Duration::ZERO;
    let counted = allocation_counter::measure(|| {
        let start = Instant::now();
        build();
        time = start.elapsed();
    });
    Build { time, bytes: counted.bytes_current }
}

fn measure<T>(requests: &[T], lookup: impl Fn(&T) -> Option<RouteId>) -> Row {
    let once = || {
        for request in requests {
            black_box(lookup(black_box(request)));
        }
    };
    let counted = allocation_counter::measure(once);
    let mut rounds: Vec<Duration> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            once();
            start.elapsed()
        })
        .collect();
    rounds.sort();
    let nanoseconds = |round: Duration| round.as_nanos() as f64 / requests.len() as f64;
    Row {
        median: nanoseconds(rounds[ROUNDS / 2]),
        best: nanoseconds(rounds[0]),
        allocations: counted.count_total as f64 / requests.len() as f64,
    }
}

/// A linear congruential generator (Knuth, MMIX): the same requests in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) as usize % limit
    }
}
