//! The composition root: the only place that constructs and wires long-lived objects.

mod attend;
mod inherited;
mod listeners;
mod notify;
mod readiness;
mod signals;
mod successor;

pub use attend::End;
pub use readiness::Readiness;

use std::cell::RefCell;
use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::Pin;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc};

use crate::control::{Control, ControlState, Discovered, Feed, Findings, Resolver, Said, merge};
use crate::ir::{Config, Severity};
use crate::server::Server;
use crate::snapshot::{Compiler, SnapshotHandle};
use crate::telemetry::{AccessLogger, Metrics};
use crate::tls::TlsShared;
use crate::upstream::health::HealthChecks;
use crate::upstream::polls::LoadPolls;
use crate::upstream::{Environment, Registry};
use crate::util::moment::Moment;
use attend::{Admin, Attendant};
use inherited::Inherited;
use listeners::{ServerListeners, Sockets};

/// How long the end of the process waits for providers.
const FAREWELL: Duration = Duration::from_secs(10);

/// Descriptors kept for everything that is not a client connection.
const RESERVED_DESCRIPTORS: u64 = 512;

/// How a run ends, as an exit code says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// The configuration cannot be used.
    Config = 3,
    /// Some requests were still in flight at the drain deadline, or when told to stop at once.
    Deadline = 4,
    /// Something the process needs could not be had.
    Failed = 1,
    /// Everything was finished.
    Ok = 0,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// A provider as the composition root sees it: how to have it send what it says under the index
/// it is given. Nothing is served before each has spoken.
pub enum Provider {
    /// Speaks at once; the process starts with its settings.
    Prompt(Start),
    /// May have to wait for something outside the process, which can be looked at meanwhile.
    Patient(Box<dyn FnOnce(usize, News, Live) -> Farewell>),
}

/// Has a provider send what it says, under the index it is given.
pub type Start = Box<dyn FnOnce(usize, News)>;

/// What a provider has to do at the end of the process.
pub type Farewell = Box<dyn FnOnce(End) -> Pin<Box<dyn Future<Output = ()>>>>;

/// Where providers send what they say, under their index.
pub type News = mpsc::Sender<(usize, Said)>;

/// What other parts of the process may look at while it runs.
#[derive(Clone)]
pub struct Live {
    /// The published snapshot.
    pub handle: Arc<SnapshotHandle>,
    /// All metrics.
    pub metrics: Metrics,
    /// What control did last.
    pub state: ControlState,
    /// Whether traffic should be sent here.
    pub readiness: Readiness,
}

/// Runs the proxy on `providers` until it is told to stop. `reload` is notified when the user
/// asks for a reload; `started` is called once it is ready, which it is when every listener is
/// open.
pub fn run(providers: Vec<Provider>, reload: Arc<Notify>, started: impl FnOnce(&Config)) -> Exit {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "cannot start the control runtime");
            return Exit::Failed;
        }
    };
    let exit = tokio::task::LocalSet::new().block_on(&runtime, serve(providers, reload, started));
    // Not by dropping it, which waits for what still blocks: a server that drains, a slow disk.
    runtime.shutdown_background();
    exit
}

async fn serve(
    providers: Vec<Provider>,
    reload: Arc<Notify>,
    started: impl FnOnce(&Config),
) -> Exit {
    // Before anything else: a signal that comes during start-up must not be lost.
    let mut signals = match signals::Signals::new() {
        Ok(signals) => signals,
        Err(error) => return failed("cannot watch for signals", &error),
    };
    let (sender, mut news) = mpsc::channel(16);
    let mut feeds = vec![Feed::default(); providers.len()];
    let (mut prompt, mut patient) = (Vec::new(), Vec::new());
    for (index, provider) in providers.into_iter().enumerate() {
        match provider {
            Provider::Prompt(start) => {
                start(index, sender.clone());
                prompt.push(index);
            }
            Provider::Patient(start) => patient.push((index, start)),
        }
    }
    if !first_word(&prompt, &mut feeds, &mut news).await {
        return Exit::Config;
    }
    let config = merged(&feeds);
    let workers = config.settings.workers.unwrap_or_else(default_workers).max(1);

    let metrics = Metrics::new(workers);
    let access_log = AccessLogger::new(metrics.clone());
    let handle = Arc::new(SnapshotHandle::new());
    let registry = Arc::new(Registry::new(
        metrics.clone(),
        environment(workers, config.settings.zone.clone()),
    ));
    let state = ControlState::default();
    let readiness = Readiness::default();
    let live = Live {
        handle: handle.clone(),
        metrics: metrics.clone(),
        state: state.clone(),
        readiness: readiness.clone(),
    };
    let (mut inherited, predecessor) = Inherited::from_env();
    let admin = match config.settings.admin.bind {
        Some(bind) => match open_admin(bind, &mut inherited, predecessor.is_some(), &live) {
            Ok(admin) => Some(admin),
            Err(error) => {
                return failed(&format!("cannot open the admin listener at {bind}"), &error);
            }
        },
        None => None,
    };
    let waited_for: Vec<_> = patient.iter().map(|(index, _)| *index).collect();
    let farewells: Vec<_> = patient
        .into_iter()
        .map(|(index, start)| start(index, sender.clone(), live.clone()))
        .collect();
    drop(sender);
    tokio::select! {
        spoken = first_word(&waited_for, &mut feeds, &mut news) => if !spoken {
            return Exit::Config;
        },
        () = stopped(&mut signals, &reload, &access_log) => {
            readiness.set_draining();
            part(farewells, End::Stopped).await;
            return finish(&access_log, Exit::Ok);
        }
    }
    let config = if waited_for.is_empty() { config } else { merged(&feeds) };
    let tls = match TlsShared::new() {
        Ok(tls) => tls,
        Err(error) => return failed("cannot set up TLS", &error),
    };
    let most = config.settings.limits.connections.unwrap_or_else(default_connections);
    let server = match Server::start(workers, &handle, &access_log, most) {
        Ok(server) => Arc::new(server),
        Err(error) => return failed("cannot start workers", &error),
    };
    let sockets = Rc::new(RefCell::new(Sockets::new(inherited)));
    let mut control = Control {
        compiler: Compiler::new(metrics.clone(), registry.clone(), tls, workers),
        handle: handle.clone(),
        registry: registry.clone(),
        listeners: ServerListeners::new(server.clone(), sockets.clone()),
        resolver: Resolver::new(metrics.clone()),
        discovered: Discovered::default(),
        metrics: metrics.clone(),
        access_log: access_log.clone(),
        state: state.clone(),
        findings: Findings::default(),
        started_with: config.settings.clone(),
    };
    let _ = control.apply(&feeds).await;
    if control.listeners.is_empty() {
        tracing::error!("no listener could be opened");
        return Exit::Failed;
    }
    let control = tokio::task::spawn_local(control.run(feeds, news));
    let checks = HealthChecks::new(RandomState::new().hash_one(std::process::id()));
    let polls = LoadPolls::new(RandomState::new().hash_one(std::process::id()));
    tokio::task::spawn_local(upkeep(registry, checks, polls));

    let mut attendant = Attendant { live, reload, access_log, sockets, admin, predecessor };
    let end = attendant.attend(&mut signals, || started(&config)).await;
    // As the configuration says by now, not as it did at the start.
    let drain = handle.load().map(|now| now.config.settings.drain.clone()).unwrap_or_default();
    readiness.set_draining();
    tracing::info!(grace = ?drain.grace, "draining");
    if end == End::Succeeded {
        // Whoever connects from now on is the other process's; who is connected already may
        // have the grace time to ask once more, and be told to go.
        control.abort();
        server.unlisten_all();
        attendant.close_all();
    }
    let access_log = &attendant.access_log;
    // At once, so that another process takes over what only one of them does.
    let parting = tokio::task::spawn_local(part(farewells, end));
    server.drain();
    tokio::select! {
        () = tokio::time::sleep(drain.grace) => {}
        () = signals.forced() => return finish(access_log, cut_off(&metrics)),
    }
    control.abort();
    let _ = control.await; // its listeners hold the server
    attendant.close_listeners();
    let left = server.connections();
    tracing::info!(connections = left, deadline = ?drain.deadline, "no longer accepting");
    let Some(server) = Arc::into_inner(server) else {
        return finish(access_log, Exit::Failed);
    };
    let closed = tokio::task::spawn_blocking(move || server.close(drain.deadline));
    let exit = async {
        let closed = closed.await;
        let _ = parting.await;
        if matches!(closed, Ok(true)) { Exit::Ok } else { Exit::Deadline }
    };
    let exit = tokio::select! {
        exit = exit => exit,
        () = signals.forced() => cut_off(&metrics),
    };
    if exit == Exit::Deadline {
        tracing::warn!("requests were cut off");
    }
    finish(access_log, exit)
}

/// How a run ends that is not given the time to finish.
fn cut_off(metrics: &Metrics) -> Exit {
    if metrics.requests_in_flight() > 0 { Exit::Deadline } else { Exit::Ok }
}

/// Opens the admin listener at `bind`: at once, unless the predecessor answers there for now.
fn open_admin(
    bind: SocketAddr,
    inherited: &mut Inherited,
    succeeds: bool,
    live: &Live,
) -> io::Result<Admin> {
    let socket = match inherited.take(bind).pop() {
        Some(socket) if succeeds => return Ok(Admin::Waiting(socket)),
        Some(socket) => socket,
        None => TcpListener::bind(bind)?,
    };
    Ok(Admin::Open(crate::admin::start(socket, live.clone())?))
}

/// Waits until the process is to stop before it serves anything.
async fn stopped(signals: &mut signals::Signals, reload: &Notify, access_log: &AccessLogger) {
    loop {
        match signals.next().await {
            signals::Signal::Reload => reload.notify_one(),
            signals::Signal::Reopen => reopen(access_log),
            signals::Signal::Succeed => tracing::warn!("not handed over: not ready yet"),
            signals::Signal::Stop => return,
        }
    }
}

fn reopen(access_log: &AccessLogger) {
    if let Err(error) = access_log.reopen() {
        tracing::error!(%error, "cannot open the access log again");
    }
}

/// Lets providers do what they have to do at the end, for as long as there is time.
async fn part(farewells: Vec<Farewell>, end: End) {
    let all = farewells.into_iter().map(|farewell| farewell(end));
    let all = futures_util::future::join_all(all);
    if tokio::time::timeout(FAREWELL, all).await.is_err() {
        tracing::warn!("a provider did not finish in time");
    }
}

/// What the feeds say, as one configuration.
fn merged(feeds: &[Feed]) -> Config {
    let fragments: Vec<_> = feeds.iter().filter_map(|feed| feed.fragment.clone()).collect();
    merge(&fragments).0
}

/// Waits until the providers `of` have spoken; false when one has nothing usable to say.
async fn first_word(
    of: &[usize],
    feeds: &mut [Feed],
    news: &mut mpsc::Receiver<(usize, Said)>,
) -> bool {
    let silent = |feeds: &[Feed]| {
        let feeds = of.iter().filter_map(|index| feeds.get(*index));
        feeds.filter(|feed| feed.fragment.is_none()).count() > 0
    };
    while silent(feeds) {
        let Some((index, said)) = news.recv().await else { return false };
        let feed = match said {
            Said::All(feed) => feed,
            Said::Endpoints { lists, .. } => {
                let place = feeds.get_mut(index).map(|feed| &mut feed.endpoints);
                place.into_iter().for_each(|known| Arc::make_mut(known).extend(lists.clone()));
                continue;
            }
        };
        if feed.fragment.is_none() {
            for problem in &feed.problems {
                match problem.severity {
                    Severity::Error => tracing::error!("{problem}"),
                    Severity::Warning => tracing::warn!("{problem}"),
                }
            }
            return false;
        }
        if let Some(place) = feeds.get_mut(index) {
            *place = feed;
        }
    }
    true
}

fn failed(what: &str, error: &dyn std::fmt::Display) -> Exit {
    tracing::error!(%error, "{what}");
    Exit::Failed
}

fn finish(access_log: &AccessLogger, exit: Exit) -> Exit {
    access_log.flush(Duration::from_secs(2));
    exit
}

/// The CPUs that affinity and cgroup allow.
fn default_workers() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Half of what the descriptor limit leaves: every request may need a second connection.
fn default_connections() -> usize {
    let limit = descriptor_limit().unwrap_or(1024);
    usize::try_from(limit.saturating_sub(RESERVED_DESCRIPTORS.min(limit / 2)) / 2).unwrap_or(256)
}

/// The soft limit on open files, as the kernel tells it.
fn descriptor_limit() -> Option<u64> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find(|line| line.starts_with("Max open files"))?;
    line.split_whitespace().nth(3)?.parse().ok()
}

/// The feed of a provider, from a value that changes.
pub fn watch_provider<T: Clone + Send + Sync + 'static>(
    mut watch: tokio::sync::watch::Receiver<T>,
    has_spoken: impl Fn(&T) -> bool + 'static,
    to_feed: impl Fn(T) -> Feed + 'static,
) -> Start {
    Box::new(move |index, news| {
        tokio::task::spawn_local(async move {
            loop {
                let said = watch.borrow_and_update().clone();
                if has_spoken(&said) && news.send((index, to_feed(said).into())).await.is_err() {
                    return;
                }
                if watch.changed().await.is_err() {
                    return;
                }
            }
        });
    })
}

/// Where this process stands: its zone is told by `PORTCULLIS_ZONE`.
fn environment(workers: usize, zone: Option<Arc<str>>) -> Environment {
    let seed = RandomState::new().hash_one(std::process::id());
    Environment::new(workers, seed).in_zone(zone)
}

/// Looks after the live state of upstreams: about ten times a second, at once when one asks.
async fn upkeep(registry: Arc<Registry>, mut checks: HealthChecks, mut polls: LoadPolls) {
    let mut tick = tokio::time::interval(Duration::from_millis(100));
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let all = tokio::select! {
            _ = tick.tick() => true,
            () = registry.upkeep_wanted() => false,
        };
        let now = Moment::now();
        let changed = registry.take_changed();
        checks.follow(&registry, &changed, now);
        polls.follow(&registry, &changed);
        match all {
            true => registry.upkeep(now),
            false => registry.upkeep_urgent(now),
        }
    }
}
