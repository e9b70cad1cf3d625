//! The control loop.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::mpsc;

use super::discovered::{Burst, Discovered};
use super::findings::{self, Findings};
use super::{ControlState, Feed, Question, Resolver, Said, merge, served, share};
use crate::ir::{Config, Fragment, Name, Problem, Settings, Upstream};
use crate::snapshot::{Compiler, ListenerId, Snapshot, SnapshotHandle};
use crate::telemetry::{AccessLogger, Change, Metrics};
use crate::upstream::{Registry, Target};
use crate::util::memory;
use crate::util::moment::Moment;

/// How often old snapshots are looked at for being out of use, and addresses that were taken for
/// being free.
const TIDY: Duration = Duration::from_secs(1);

/// How long after a change what it took and does not keep is given back to the system, together
/// with what others took meanwhile.
const GIVE_BACK: Duration = Duration::from_secs(2);

/// How often certificates that run out are told of.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The server's sockets as control sees them.
pub trait Listeners {
    /// Accepts at `address` for listener `id`; a listener that already does so is left alone. One
    /// that accepts elsewhere and cannot accept there goes on as it is.
    fn open(&mut self, id: ListenerId, address: SocketAddr) -> io::Result<()>;

    /// Where listener `id` accepts, with the port the system chose for port 0.
    fn address(&self, id: ListenerId) -> Option<SocketAddr>;

    /// Closes every listener that is not in `wanted`.
    fn keep_only(&mut self, wanted: &[ListenerId]);

    /// Serves so many client connections at once; `None` is what the process can afford.
    fn limit_connections(&mut self, most: Option<usize>);
}

/// Everything the control loop works with.
pub struct Control<L> {
    /// What it compiles with.
    pub compiler: Compiler,
    /// Where it publishes.
    pub handle: Arc<SnapshotHandle>,
    /// The upstreams that outlive snapshots.
    pub registry: Arc<Registry>,
    /// The server's sockets.
    pub listeners: L,
    /// Endpoints by name.
    pub resolver: Resolver,
    /// Endpoints that providers tell apart.
    pub discovered: Discovered,
    /// Where it counts.
    pub metrics: Metrics,
    /// The access log, configured like everything else.
    pub access_log: AccessLogger,
    /// What it did last.
    pub state: ControlState,
    /// What is wrong.
    pub findings: Findings,
    /// The settings the process was started with.
    pub started_with: Settings,
}

impl<L: Listeners> Control<L> {
    /// Publishes what the feeds say, and again whenever one of them says something else. Returns
    /// when all senders are gone.
    pub async fn run(mut self, mut feeds: Vec<Feed>, mut news: mpsc::Receiver<(usize, Said)>) {
        let mut retired: Vec<Arc<Snapshot>> = Vec::new();
        let mut tidy = tokio::time::interval(TIDY);
        // The feeds were taken over once before.
        let mut worked = Some(Instant::now());
        loop {
            tokio::select! {
                said = news.recv() => {
                    let Some(said) = said else { return };
                    let mut said = Some(said);
                    let mut burst = Burst::default();
                    while let Some((index, message)) = said {
                        if let Some(feed) = feeds.get_mut(index) {
                            burst.take(feed, message);
                        }
                        said = news.try_recv().ok();
                    }
                    retired.extend(self.take(burst, &feeds).await);
                    worked.get_or_insert_with(Instant::now);
                    // Changes that follow one another closely would gather a large one each.
                    retired.retain(|snapshot| Arc::strong_count(snapshot) > 1);
                    self.count_snapshots(&retired);
                }
                resolved = self.resolver.changed() => self.endpoints_changed(&resolved),
                _ = tidy.tick() => {
                    self.tidy(&mut retired);
                    self.look_again();
                    if worked.take_if(|at| at.elapsed() >= GIVE_BACK).is_some() {
                        memory::give_back();
                    }
                }
            }
        }
    }

    /// Takes over what a burst of messages changed in `feeds`. Returns the snapshot that was
    /// replaced.
    async fn take(&mut self, burst: Burst, feeds: &[Feed]) -> Option<Arc<Snapshot>> {
        if burst.asked {
            // Whoever edits a file wants to hear all that is wrong with it, each time.
            self.findings.told.clear();
        }
        let (before, change) = if burst.anew {
            (self.apply(feeds).await, Change::Configuration)
        } else {
            let changed = self.discovered.update(burst.endpoints, feeds);
            self.hand_out(&changed);
            (None, Change::Endpoints)
        };
        if let Some(since) = burst.since {
            self.metrics.control().propagated(change, since.elapsed());
        }
        before
    }

    /// Takes over what the feeds say. Returns the snapshot that was replaced.
    pub async fn apply(&mut self, feeds: &[Feed]) -> Option<Arc<Snapshot>> {
        let fragments: Option<Vec<Arc<Fragment>>> =
            feeds.iter().map(|feed| feed.fragment.clone()).collect();
        let mut problems: Vec<Problem> =
            feeds.iter().flat_map(|feed| feed.problems.iter().cloned()).collect();
        let accepted = feeds.iter().all(|feed| feed.accepted);
        self.metrics.control().reload(accepted);
        // Nothing is served before every provider has spoken.
        let Some(fragments) = fragments else {
            self.findings.reload = problems;
            self.report(accepted);
            return None;
        };
        let (mut config, mut conflicts) = merge(&fragments);
        problems.append(&mut conflicts);
        problems.extend(fixed_at_start(&self.started_with, &config.settings));
        // Even where nothing changed: a directory that was not there may be by now.
        if let Err(error) = self.access_log.configure(config.settings.access_log.as_ref()) {
            let problem = Problem::error(format!("access log: {error}"));
            problems.push(problem.hint("SIGHUP and every edit try again"));
        }
        let current = self.handle.load();
        if let Some(current) = &current {
            share(&mut config, &current.config);
        }
        if let Some(current) = &current
            && *current.config == config
        {
            problems.extend(current.problems.iter().cloned());
            self.findings.reload = problems;
            let changed = self.discovered.follow(&current.config, feeds);
            self.hand_out(&changed);
            self.reconcile(current);
            self.report(accepted);
            return None;
        }
        let started = Instant::now();
        let config = Arc::new(config);
        self.resolver.follow(&config).await;
        let changed = self.discovered.follow(&config, feeds);
        let snapshot = self.compiler.compile(
            config.clone(),
            current.as_deref(),
            targets(&self.resolver, &self.discovered),
        );
        let snapshot = Arc::new(snapshot);
        problems.extend(snapshot.problems.iter().cloned());
        let before = self.handle.publish(snapshot.clone());
        // Upstreams that stay as they are were not given theirs.
        self.hand_out(&changed);
        if self.resolver.follows_any() {
            let by_name = config.upstreams.iter().filter(|(_, spec)| Resolver::follows(spec));
            self.hand_out_of(&config, by_name.map(|(name, _)| name));
        }
        self.metrics.control().compiled(started.elapsed());
        served::tell(&snapshot, current.as_deref(), &self.metrics);
        self.findings.reload = problems;
        self.reconcile(&snapshot);
        let same =
            |current: &Arc<Snapshot>| Arc::ptr_eq(&current.config.upstreams, &config.upstreams);
        if !current.as_ref().is_some_and(same) {
            self.registry.forget_unused(|name| config.upstreams.contains_key(name));
        }
        self.report(accepted);
        before
    }

    /// Opens and closes listeners so that they are those of `snapshot`. One that cannot be opened
    /// does not stop the others; it is tried again every second.
    fn reconcile(&mut self, snapshot: &Snapshot) {
        let mut wanted = Vec::new();
        self.findings.listeners.clear();
        self.findings.open.clear();
        for listener in snapshot.listeners() {
            wanted.push(listener.id);
            let opened = self.listeners.open(listener.id, listener.spec.bind);
            let address = self.listeners.address(listener.id);
            listener.metrics.set_up(opened.is_ok());
            self.findings.open.insert(listener.name.clone(), address);
            let Err(error) = opened else { continue };
            let (name, bind) = (&listener.name, listener.spec.bind);
            let message = format!("listener '{name}': cannot bind {bind}: {error}");
            let hint = match address {
                Some(address) => format!("it stays at {address} and tries again every second"),
                None => "it tries again every second".to_owned(),
            };
            let problem = Problem::error(message).hint(hint).about(&listener.spec.origin);
            self.findings.listeners.push(problem);
        }
        self.listeners.keep_only(&wanted);
        self.listeners.limit_connections(snapshot.config.settings.limits.connections);
    }

    /// Looks at what may have changed by itself, and tells what did.
    fn look_again(&mut self) {
        let Some(snapshot) = self.handle.load() else { return };
        let mut news = Vec::new();
        let due = self.findings.next_look.is_some_and(|at| at <= Instant::now());
        if due {
            self.look_at_certificates();
            news.clone_from(&self.findings.certificates);
        } else if self.findings.listeners.is_empty() {
            return;
        }
        let before = self.findings.listeners.clone();
        self.reconcile(&snapshot);
        let listeners = self.findings.listeners.iter().filter(|found| !before.contains(found));
        news.iter().chain(listeners).for_each(findings::log);
        self.show();
    }

    fn look_at_certificates(&mut self) {
        let Some(snapshot) = self.handle.load() else { return };
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        self.findings.certificates = snapshot.validity(now.as_secs().cast_signed());
        self.findings.next_look = Some(Instant::now() + DAY);
    }

    fn report(&mut self, accepted: bool) {
        self.look_at_certificates();
        let found = &mut self.findings;
        let now: Vec<Problem> = found.reload.iter().chain(&found.certificates).cloned().collect();
        let news = findings::new_ones(&found.told, &now);
        news.into_iter().chain(&found.listeners).for_each(findings::log);
        found.told = now;
        let generation = self.handle.generation();
        if accepted {
            tracing::info!(generation, "configuration in use");
        } else {
            tracing::error!(generation, "configuration refused, the last good one stays");
        }
        self.state.reloaded(accepted, generation);
        self.show();
    }

    fn show(&self) {
        let problems = self.findings.all().cloned().collect();
        self.state.set(problems, self.findings.open.clone());
    }

    /// Endpoints go straight to their upstreams: no compile, no new generation.
    fn endpoints_changed(&self, changed: &[Question]) {
        let Some(snapshot) = self.handle.load() else { return };
        let concerned = snapshot.config.upstreams.iter();
        let concerned = concerned.filter(|(_, upstream)| self.resolver.concerns(upstream, changed));
        self.hand_out_of(&snapshot.config, concerned.map(|(name, _)| name));
    }

    /// Gives the upstreams `names` the endpoints that are known now.
    fn hand_out(&self, names: &[Name]) {
        if let Some(snapshot) = self.handle.load().filter(|_| !names.is_empty()) {
            self.hand_out_of(&snapshot.config, names.iter());
        }
    }

    fn hand_out_of<'a>(&self, config: &Config, names: impl Iterator<Item = &'a Name>) {
        let targets = targets(&self.resolver, &self.discovered);
        let now = Moment::now();
        for name in names {
            if let Some(upstream) = config.upstreams.get(name) {
                self.registry.update_endpoints(name, &targets(name, upstream), now);
            }
        }
    }

    /// Frees old snapshots here, once no worker holds them.
    fn tidy(&self, retired: &mut Vec<Arc<Snapshot>>) {
        retired.retain(|snapshot| Arc::strong_count(snapshot) > 1);
        self.registry.tidy();
        self.count_snapshots(retired);
    }

    fn count_snapshots(&self, retired: &[Arc<Snapshot>]) {
        let in_use = usize::from(self.handle.generation() > 0);
        self.metrics.control().set_snapshots(retired.len() + in_use);
    }
}

/// Tells the endpoints of an upstream, resolved.
fn targets(
    resolver: &Resolver,
    discovered: &Discovered,
) -> impl Fn(&Name, &Upstream) -> Vec<Target> {
    |name, upstream| {
        let told = if upstream.discovered { discovered.list(name) } else { &upstream.endpoints };
        resolver.targets(told)
    }
}

/// What is wanted otherwise than at the start and cannot be changed since.
fn fixed_at_start(then: &Settings, now: &Settings) -> impl Iterator<Item = Problem> {
    let changed = [
        ("admin", then.admin != now.admin),
        ("workers", then.workers != now.workers),
        ("zone", then.zone != now.zone),
    ];
    changed.into_iter().filter(|(_, changed)| *changed).map(|(key, _)| {
        let message = format!("`{key}` is not what the process was started with");
        Problem::warning(message).hint("it takes effect at the next start")
    })
}
