//! A discrete-event simulation of clients, the real balancer and servers.
//!
//! Everything happens in virtual time and all chance comes from one seed, so a run is the same
//! every time and anywhere. What is simulated is only the world around: picks, observations,
//! ejection, retries' budgets and upkeep are the proxy's own code.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use portcullis::ir::{self, Name};
use portcullis::telemetry::{Metrics, Reason, WorkerId};
use portcullis::upstream::balance::Pick;
use portcullis::upstream::{
    Endpoint, EndpointId, Environment, InFlight, Observation, Registry, Target, Transport,
    Upstream, Verdict, orca,
};
use portcullis::util::moment::Moment;
use portcullis::util::random::Random;

use super::server::{Behaviour, Server};

/// One way over the network.
const NETWORK: Duration = Duration::from_micros(250);
/// How often the upkeep runs, as in the proxy.
const UPKEEP: Duration = Duration::from_millis(100);
/// How often requests in flight are looked at.
const SAMPLE: Duration = Duration::from_millis(10);
/// Where virtual time begins: 0 means "never" in packed state.
const START: Moment = Moment(1_000_000_000);
const ATTEMPTS: u32 = 3;

/// A change of the world at some time after the start.
#[derive(Clone, Debug)]
pub enum Change {
    /// A server behaves differently.
    Behave(usize, Behaviour),
    /// The servers from the first up to, not including, the second are the endpoints now.
    Members(usize, usize),
    /// A server becomes so many times as slow as usual.
    Slow(usize, f64),
}

/// A world and what happens in it.
pub struct Scenario {
    /// Its name.
    pub name: &'static str,
    /// What it shows.
    pub about: &'static str,
    /// The servers; which of them are endpoints at first is `members`.
    pub servers: Vec<(Duration, usize)>,
    /// How many of the servers are endpoints at first.
    pub members: usize,
    /// Requests a second.
    pub rate: f64,
    /// How long requests come.
    pub length: Duration,
    /// How long clients wait.
    pub patience: Duration,
    /// What happens when.
    pub changes: Vec<(Duration, Change)>,
    /// Only requests that begin in this span count.
    pub window: (Duration, Duration),
    /// The share of requests that any server answers 500, for reasons of the request's own.
    pub errors: f64,
    /// Only these servers count for the spread of requests in flight.
    pub spread: Vec<usize>,
}

/// What a run showed.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Latencies of requests that ended in success, sorted, in nanoseconds; others count as the
    /// patience they cost, failures as what they took.
    pub latencies: Vec<u64>,
    /// Requests answered below 500 in time.
    pub successes: u64,
    /// Requests counted.
    pub requests: u64,
    /// Attempts beyond the first.
    pub retries: u64,
    /// The mean requests in flight of each server.
    pub in_flight: Vec<f64>,
    /// Attempts each server got.
    pub attempts: Vec<u64>,
    /// The highest over the mean of the requests in flight, of the servers that count.
    pub spread: f64,
}

impl Outcome {
    /// The share of successes.
    pub fn success(&self) -> f64 {
        self.successes as f64 / self.requests.max(1) as f64
    }

    /// A quantile of the latency in milliseconds.
    pub fn quantile(&self, q: f64) -> f64 {
        let last = self.latencies.len().saturating_sub(1);
        let index = ((last as f64) * q).round() as usize;
        self.latencies.get(index).copied().unwrap_or(0) as f64 / 1e6
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Answer { attempt: u64 },
    Arrive { attempt: u64 },
    Change(usize),
    Finish { attempt: u64 },
    GiveUp { request: u64 },
    Request,
    Sample,
    Upkeep,
}

struct Request {
    began: Moment,
    worker: WorkerId,
    key: u64,
    tried: Vec<EndpointId>,
    attempts: u32,
    over: bool,
}

struct Attempt {
    request: u64,
    server: usize,
    began: Moment,
    in_flight: Option<InFlight>,
    /// Requests in flight to the endpoint when it began.
    load: u32,
    verdict: Verdict,
}

/// A running simulation.
pub struct Sim<'a> {
    scenario: &'a Scenario,
    workers: usize,
    random: Random,
    now: Moment,
    agenda: BinaryHeap<Reverse<(Moment, u64, Event)>>,
    sequence: u64,
    registry: Registry,
    upstream: Arc<Upstream>,
    servers: Vec<Server>,
    by_address: HashMap<SocketAddr, usize>,
    requests: HashMap<u64, Request>,
    attempts: HashMap<u64, Attempt>,
    next: u64,
    samples: u64,
    outcome: Outcome,
}

impl<'a> Sim<'a> {
    /// A simulation of `scenario` with this policy.
    pub fn new(scenario: &'a Scenario, spec: &ir::Upstream, workers: usize, seed: u64) -> Self {
        let metrics = Metrics::new(workers);
        let registry = Registry::new(metrics, Environment::new(workers, seed));
        let servers: Vec<Server> =
            scenario.servers.iter().map(|(mean, slots)| Server::new(*mean, *slots)).collect();
        let by_address = (0..servers.len()).map(|index| (address(index), index)).collect();
        let transport = Transport {
            protocol: ir::UpstreamProtocol::Http1,
            tls: None,
            pool: ir::PoolOptions::default(),
        };
        let targets = targets(0..scenario.members);
        let upstream =
            registry.obtain(&name(), &Arc::new(spec.clone()), transport, &targets, START);
        let count = servers.len();
        let outcome =
            Outcome { in_flight: vec![0.0; count], attempts: vec![0; count], ..Outcome::default() };
        Self {
            scenario,
            workers,
            random: Random::new(seed),
            now: START,
            agenda: BinaryHeap::new(),
            sequence: 0,
            registry,
            upstream,
            servers,
            by_address,
            requests: HashMap::new(),
            attempts: HashMap::new(),
            next: 0,
            samples: 0,
            outcome,
        }
    }

    /// Runs to the end.
    pub fn run(mut self) -> Outcome {
        for (index, (when, _)) in self.scenario.changes.iter().enumerate() {
            self.schedule(*when, Event::Change(index));
        }
        self.schedule(Duration::ZERO, Event::Request);
        self.schedule(UPKEEP, Event::Upkeep);
        self.schedule(SAMPLE, Event::Sample);
        while let Some(Reverse((when, _, event))) = self.agenda.pop() {
            self.now = when;
            self.step(event);
            // The proxy's upkeep is woken when there is something to do.
            self.upstream.upkeep(when);
        }
        self.report()
    }

    fn step(&mut self, event: Event) {
        match event {
            Event::Answer { attempt } => self.answer(attempt),
            Event::Arrive { attempt } => self.arrive(attempt),
            Event::Change(index) => self.change(index),
            Event::Finish { attempt } => self.finish(attempt),
            Event::GiveUp { request } => self.give_up(request),
            Event::Request => self.request(),
            Event::Sample => self.sample(),
            Event::Upkeep => {
                self.registry.upkeep(self.now);
                if self.is_going_on() {
                    self.schedule(UPKEEP, Event::Upkeep);
                }
            }
        }
    }

    /// A client begins a request, and the next one is due.
    fn request(&mut self) {
        let gap = -(1.0 - self.random.unit()).ln() / self.scenario.rate;
        if self.is_going_on() {
            self.schedule(Duration::from_secs_f64(gap), Event::Request);
        }
        let id = self.next;
        self.next += 1;
        // A few users make most of the requests, as they do.
        let user = (self.random.unit().powi(3) * 10_000.0) as u64;
        let request = Request {
            began: self.now,
            worker: WorkerId(self.random.below(self.workers)),
            key: Random::new(user).draw(),
            tried: Vec::new(),
            attempts: 0,
            over: false,
        };
        self.requests.insert(id, request);
        self.schedule(self.scenario.patience, Event::GiveUp { request: id });
        self.attempt(id);
    }

    /// Sends a request to an endpoint.
    fn attempt(&mut self, id: u64) {
        let random = Random::new(self.random.draw());
        let Some(request) = self.requests.get_mut(&id) else { return };
        let mut pick = Pick {
            worker: request.worker,
            now: self.now,
            tried: &request.tried,
            key: Some(request.key),
            session: None,
            random,
        };
        let Some(endpoint) = self.upstream.pick(&mut pick) else {
            self.end(id, false);
            return;
        };
        request.attempts += 1;
        request.tried.push(endpoint.id);
        let Some(&server) = self.by_address.get(&endpoint.address) else { return };
        let attempt = self.next;
        self.next += 1;
        if self.counts(self.now) {
            self.outcome.attempts[server] += 1;
        }
        let in_flight = InFlight::new(endpoint, self.now);
        let load = in_flight.before();
        let in_flight = Some(in_flight);
        let verdict = Verdict::Responded(200);
        let began = self.now;
        self.attempts
            .insert(attempt, Attempt { request: id, server, began, in_flight, load, verdict });
        self.schedule(NETWORK, Event::Arrive { attempt });
    }

    /// A request reaches its server.
    fn arrive(&mut self, id: u64) {
        let Some(attempt) = self.attempts.get_mut(&id) else { return };
        let server = &mut self.servers[attempt.server];
        match server.behaviour {
            Behaviour::Refuse => {
                attempt.verdict = Verdict::Failed(Reason::ConnectFailed);
                self.schedule(NETWORK, Event::Answer { attempt: id });
            }
            Behaviour::FailFast(after) => {
                attempt.verdict = Verdict::Responded(503);
                self.schedule(after + NETWORK, Event::Answer { attempt: id });
            }
            Behaviour::Stuck(time) => self.schedule(time + NETWORK, Event::Answer { attempt: id }),
            Behaviour::Serve if server.busy < server.slots => {
                server.occupy(server.busy + 1, self.now);
                let work = server.work(&mut self.random);
                if self.random.unit() < self.scenario.errors {
                    attempt.verdict = Verdict::Responded(500);
                }
                self.schedule(work, Event::Finish { attempt: id });
            }
            Behaviour::Serve | Behaviour::Pause => server.queue.push_back(id),
        }
    }

    /// A server is done with a request and takes the next one that somebody waits for.
    fn finish(&mut self, id: u64) {
        let Some(server_index) = self.attempts.get(&id).map(|attempt| attempt.server) else {
            return;
        };
        self.schedule(NETWORK, Event::Answer { attempt: id });
        let server = &mut self.servers[server_index];
        server.occupy(server.busy - 1, self.now);
        self.begin_queued(server_index);
    }

    /// A server with free slots begins what has waited, as far as somebody still waits for it.
    fn begin_queued(&mut self, index: usize) {
        while self.servers[index].has_room() {
            let Some(next) = self.servers[index].queue.pop_front() else { return };
            if self.attempts.get(&next).is_none_or(|next| next.in_flight.is_none()) {
                self.attempts.remove(&next);
                continue;
            }
            let server = &mut self.servers[index];
            server.occupy(server.busy + 1, self.now);
            let work = server.work(&mut self.random);
            self.schedule(work, Event::Finish { attempt: next });
        }
    }

    /// An answer reaches the proxy.
    fn answer(&mut self, id: u64) {
        let Some(attempt) = self.attempts.remove(&id) else { return };
        let Some(mut in_flight) = attempt.in_flight else { return };
        in_flight.answered(self.now);
        let latency = self.now.since(attempt.began);
        let observation =
            Observation { latency, verdict: attempt.verdict, in_flight: attempt.load };
        self.upstream.observe(in_flight.endpoint(), observation, self.now);
        if let Verdict::Responded(status) = attempt.verdict {
            let server = &mut self.servers[attempt.server];
            server.occupy(server.busy, self.now);
            server.meter.answer(status >= 500);
            let report = server.meter.report();
            let worker = self.requests.get(&attempt.request).map_or(WorkerId(0), |r| r.worker);
            self.take_report(in_flight.endpoint(), &report, worker);
        }
        drop(in_flight);
        let Some(request) = self.requests.get(&attempt.request) else { return };
        if request.over {
            return;
        }
        match attempt.verdict {
            Verdict::Responded(status) => self.end(attempt.request, status < 500),
            // As in the proxy: a refused connection goes elsewhere, whatever the method.
            _ if request.attempts < ATTEMPTS => {
                if self.counts(request.began) {
                    self.outcome.retries += 1;
                }
                self.attempt(attempt.request);
            }
            _ => self.end(attempt.request, false),
        }
    }

    /// The report of load in an answer's head, where the policy reads it.
    fn take_report(&self, endpoint: &Endpoint, report: &str, worker: WorkerId) {
        if self.upstream.orca().is_some() {
            let mut head = HeaderMap::new();
            head.insert(orca::FIELD, report.try_into().expect("a report is a value"));
            self.upstream.read_report(endpoint, &head, worker, self.now);
        }
    }

    /// A client's patience is over.
    fn give_up(&mut self, id: u64) {
        if self.requests.get(&id).is_some_and(|request| !request.over) {
            for attempt in self.attempts.values_mut().filter(|attempt| attempt.request == id) {
                let Some(in_flight) = attempt.in_flight.take() else { continue };
                let latency = self.now.since(attempt.began);
                let observation =
                    Observation { latency, verdict: Verdict::Abandoned, in_flight: attempt.load };
                self.upstream.observe(in_flight.endpoint(), observation, self.now);
            }
            self.end(id, false);
        }
        self.requests.remove(&id);
    }

    fn end(&mut self, id: u64, success: bool) {
        let Some(request) = self.requests.get_mut(&id) else { return };
        request.over = true;
        let (began, took) = (request.began, self.now.since(request.began));
        if self.counts(began) {
            self.outcome.requests += 1;
            self.outcome.successes += u64::from(success);
            self.outcome.latencies.push(took.as_nanos() as u64);
        }
    }

    fn change(&mut self, index: usize) {
        match self.scenario.changes[index].1.clone() {
            Change::Behave(server, behaviour) => {
                self.servers[server].behaviour = behaviour;
                self.begin_queued(server);
            }
            Change::Members(from, to) => {
                self.registry.update_endpoints(&name(), &targets(from..to), self.now);
            }
            Change::Slow(server, factor) => self.servers[server].slowdown = factor,
        }
    }

    fn sample(&mut self) {
        if self.is_going_on() {
            self.schedule(SAMPLE, Event::Sample);
        }
        if !self.counts(self.now) {
            return;
        }
        self.samples += 1;
        let set = self.upstream.endpoints();
        for member in set.members() {
            if let Some(&server) = self.by_address.get(&member.endpoint.address) {
                self.outcome.in_flight[server] += f64::from(member.endpoint.in_flight());
            }
        }
    }

    fn report(mut self) -> Outcome {
        let samples = self.samples.max(1) as f64;
        self.outcome.in_flight.iter_mut().for_each(|sum| *sum /= samples);
        self.outcome.latencies.sort_unstable();
        let counted: Vec<f64> =
            self.scenario.spread.iter().map(|server| self.outcome.in_flight[*server]).collect();
        let mean = counted.iter().sum::<f64>() / counted.len().max(1) as f64;
        let most = counted.iter().copied().fold(0.0, f64::max);
        self.outcome.spread = if mean > 0.0 { most / mean } else { 0.0 };
        self.outcome
    }

    fn is_going_on(&self) -> bool {
        self.now.since(START) < self.scenario.length
    }

    fn counts(&self, began: Moment) -> bool {
        let (from, to) = self.scenario.window;
        let at = began.since(START);
        from <= at && at < to
    }

    fn schedule(&mut self, after: Duration, event: Event) {
        self.sequence += 1;
        self.agenda.push(Reverse((self.now.after(after), self.sequence, event)));
    }
}

fn name() -> Name {
    Name::from("simulated")
}

fn address(index: usize) -> SocketAddr {
    let [_, _, high, low] = u32::try_from(index).unwrap_or(0).to_be_bytes();
    SocketAddr::from(([127, 1, high, low], 80))
}

fn targets(servers: std::ops::Range<usize>) -> Vec<Target> {
    let target = |index| Target {
        address: address(index),
        host: None,
        weight: 1,
        priority: 0,
        zone: None,
        draining: false,
    };
    servers.map(target).collect()
}
