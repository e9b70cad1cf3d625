//! The provider at work: reads the configuration, and reads it again whenever a file changes.
//!
//! Directories are watched rather than files, so that editors that rename a new file over the old
//! one, and ConfigMaps that swap a symbolic link, are seen. File systems that tell nothing (NFS,
//! some container mounts) are covered by looking at every file's state now and then.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ir::{Fragment, Problem};
use notify::event::{AccessKind, AccessMode, EventKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::inputs::{Loaded, load_after};
use crate::ir;

/// The longest a burst of changes may put off reading.
const PATIENCE: Duration = Duration::from_millis(50);

/// How many symbolic links a path may lead through, as in the kernel.
const LINKS: usize = 40;

/// What to read and when to look.
#[derive(Clone)]
pub struct Options {
    /// Files, and directories of `*.yaml` and `*.yml`.
    pub paths: Vec<PathBuf>,
    /// The variables for `${…}`.
    pub env: BTreeMap<String, String>,
    /// How often every file's state is looked at, beside the events. Default 2 s.
    pub poll: Duration,
    /// How long to wait for further changes after one. Default 10 ms.
    pub debounce: Duration,
}

impl Options {
    /// The defaults, for `paths`.
    pub fn new(paths: Vec<PathBuf>, env: BTreeMap<String, String>) -> Self {
        Self { paths, env, poll: Duration::from_secs(2), debounce: Duration::from_millis(10) }
    }
}

/// The state of the provider. It is level-triggered: whoever misses one sees all of it in the
/// next.
#[derive(Clone, Debug, Default)]
pub struct Update {
    /// The last configuration that could be used; `None` before there was one.
    pub fragment: Option<Arc<Fragment>>,
    /// What was found when the files were last read, used or not.
    pub problems: Vec<Problem>,
    /// Whether what was last read is in use. If not, `fragment` is older than the files.
    pub accepted: bool,
    /// How often files were read and found changed, or were read because someone asked; 0 before
    /// the first time.
    pub loads: u64,
    /// How many of these were not usable.
    pub rejected: u64,
}

/// Publishes the configuration at `options.paths` in `out`, now and whenever a file changes or
/// `reload` is notified. Returns when nobody listens to `out` any more.
///
/// Runs on any tokio runtime with time; file I/O happens on its blocking threads.
pub async fn run(options: Options, reload: Arc<Notify>, out: watch::Sender<Update>) {
    let options = Arc::new(options);
    let (events, mut changes) = mpsc::channel(1);
    let mut watcher = Watcher::new(events);
    let mut poll = interval(options.poll);
    poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last: Option<Arc<Loaded>> = None;
    let mut asked = true;
    loop {
        if asked || differs(&options, last.as_ref()).await {
            let loaded = load(&options, last.clone()).await;
            match loaded {
                Ok(loaded) => {
                    let loaded = Arc::new(loaded);
                    let news = last.as_ref().is_none_or(|last| last.inputs != loaded.inputs);
                    if asked || news {
                        publish(&out, &loaded);
                    }
                    last = Some(loaded);
                }
                Err(problem) => reject(&out, vec![problem]),
            }
        }
        asked = false;
        // A change between reading and watching would go unnoticed, so with something new to
        // watch everything is looked at once more.
        if let Some(last) = &last
            && watcher.follow(directories(&options.paths, last))
        {
            continue;
        }
        tokio::select! {
            () = out.closed() => return,
            () = reload.notified() => asked = true,
            _ = changes.recv() => settle(&mut changes, options.debounce).await,
            _ = poll.tick() => {}
        }
    }
}

async fn differs(options: &Arc<Options>, last: Option<&Arc<Loaded>>) -> bool {
    let Some(last) = last.cloned() else { return true };
    let options = options.clone();
    let look = move || last.marks.differ(&options.paths, &last.inputs);
    // Where looking fails, reading tells why.
    tokio::task::spawn_blocking(look).await.unwrap_or(true)
}

async fn load(options: &Arc<Options>, last: Option<Arc<Loaded>>) -> Result<Loaded, Problem> {
    let options = options.clone();
    let read =
        move || load_after(&options.paths, &options.env, last.as_ref().map(|last| &last.inputs));
    tokio::task::spawn_blocking(read).await.map_err(|_| {
        Problem::error("reading the configuration failed in an unforeseen way")
            .hint("this is a bug; the configuration in use stays")
    })
}

fn publish(out: &watch::Sender<Update>, loaded: &Loaded) {
    let translation = &loaded.translation;
    if !translation.usable {
        reject(out, translation.problems.clone());
        return;
    }
    out.send_modify(|update| {
        // An equal fragment keeps its handle, so that whoever compares handles sees no change.
        if update.fragment.as_deref() != Some(&translation.fragment) {
            update.fragment = Some(Arc::new(translation.fragment.clone()));
        }
        update.problems.clone_from(&translation.problems);
        update.accepted = true;
        update.loads += 1;
    });
}

fn reject(out: &watch::Sender<Update>, problems: Vec<Problem>) {
    out.send_modify(|update| {
        update.problems = problems;
        update.accepted = false;
        update.loads += 1;
        update.rejected += 1;
    });
}

/// Waits until changes pause, but not for ever.
async fn settle(changes: &mut mpsc::Receiver<()>, pause: Duration) {
    let end = Instant::now() + PATIENCE.max(pause);
    while Instant::now() < end && matches!(timeout(pause, changes.recv()).await, Ok(Some(()))) {}
}

/// Directories under watch.
struct Watcher {
    /// `None` where the system has no watches to give; then polling has to do.
    inner: Option<RecommendedWatcher>,
    /// Device and inode of each, since a watch stays with the inode and not with the path.
    watched: BTreeMap<PathBuf, (u64, u64)>,
    /// Keeps `changes.recv()` pending where there is no watcher.
    _events: mpsc::Sender<()>,
}

impl Watcher {
    fn new(events: mpsc::Sender<()>) -> Self {
        let sender = events.clone();
        let handler = move |event: notify::Result<notify::Event>| {
            if event.as_ref().map_or(true, |event| is_change(event.kind)) {
                // A full channel holds a wake-up already.
                let _ = sender.try_send(());
            }
        };
        let inner = notify::recommended_watcher(handler)
            .inspect_err(|error| tracing::warn!(%error, "no file events; polling instead"))
            .ok();
        Self { inner, watched: BTreeMap::new(), _events: events }
    }

    /// Watches exactly `directories`; returns whether any of them is new.
    fn follow(&mut self, directories: BTreeSet<PathBuf>) -> bool {
        let Some(watcher) = &mut self.inner else { return false };
        let now: BTreeMap<_, _> = directories
            .into_iter()
            .filter_map(|directory| {
                let metadata = std::fs::metadata(&directory).ok()?;
                Some((directory, (metadata.dev(), metadata.ino())))
            })
            .collect();
        for (directory, id) in &self.watched {
            if now.get(directory) != Some(id) {
                // It is gone already where the directory is.
                let _ = watcher.unwatch(directory);
            }
        }
        let mut news = false;
        let before = std::mem::take(&mut self.watched);
        for (directory, id) in now {
            if before.get(&directory) != Some(&id) {
                if let Err(error) = watcher.watch(&directory, RecursiveMode::NonRecursive) {
                    let directory = directory.display();
                    tracing::warn!(%directory, %error, "no file events here; polling instead");
                }
                news = true;
            }
            self.watched.insert(directory, id);
        }
        news
    }
}

/// Whether an event may mean other content; reading a file, as we do, is none.
fn is_change(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(access) => access == AccessKind::Close(AccessMode::Write),
        EventKind::Any
        | EventKind::Create(_)
        | EventKind::Modify(_)
        | EventKind::Remove(_)
        | EventKind::Other => true,
    }
}

/// Every directory in which a change can change what is read.
fn directories(paths: &[PathBuf], loaded: &Loaded) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    for path in paths {
        if path.is_dir() {
            found.insert(path.clone());
        }
        trace(path, &mut found);
    }
    for path in loaded.inputs.documents().chain(loaded.inputs.references()) {
        trace(path, &mut found);
    }
    found
}

/// Adds the directory of `path` and those of all symbolic links on the way to it; where a
/// directory is not there, the closest one that is.
fn trace(path: &Path, found: &mut BTreeSet<PathBuf>) {
    let mut rest: Vec<PathBuf> = vec![path.to_owned()];
    let mut links = 0;
    while let Some(path) = rest.pop() {
        if let Some(parent) = path.ancestors().skip(1).find(|parent| or_here(parent).is_dir()) {
            found.insert(or_here(parent).to_owned());
        }
        let mut prefix = PathBuf::new();
        let mut components = path.components();
        while let Some(component) = components.next() {
            prefix.push(component);
            if matches!(component, Component::RootDir | Component::CurDir) {
                continue;
            }
            let Ok(target) = std::fs::read_link(&prefix) else { continue };
            links += 1;
            if links > LINKS {
                return;
            }
            let parent = prefix.parent().unwrap_or(Path::new(""));
            found.insert(or_here(parent).to_owned());
            rest.push(parent.join(target).join(components.as_path()));
            break;
        }
    }
}

/// The directory an empty parent stands for.
fn or_here(path: &Path) -> &Path {
    if path.as_os_str().is_empty() { Path::new(".") } else { path }
}
