//! The provider against real files: every way people and systems change them.

use std::fs;
use std::os::unix::fs::symlink;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};

use super::*;

/// Far above what anything here takes; a test that runs into it has failed.
const DEADLINE: Duration = Duration::from_secs(10);

/// A running provider and the directory it reads.
struct Bench {
    directory: tempfile::TempDir,
    updates: watch::Receiver<Update>,
    reload: Arc<Notify>,
}

impl Bench {
    /// Starts the provider on `path` in a directory prepared by `prepare`. Polling is as good as
    /// off, so that what is seen is seen by events.
    fn start(path: &str, prepare: impl FnOnce(&Path)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        prepare(directory.path());
        let mut options = Options::new(vec![directory.path().join(path)], BTreeMap::new());
        options.poll = Duration::from_secs(3600);
        let (sender, updates) = watch::channel(Update::default());
        let reload = Arc::new(Notify::new());
        tokio::spawn(run(options, reload.clone(), sender));
        Self { directory, updates, reload }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    async fn until(&self, what: &str, condition: impl FnMut(&Update) -> bool) -> Update {
        let mut updates = self.updates.clone();
        match tokio::time::timeout(DEADLINE, updates.wait_for(condition)).await {
            Ok(update) => update.expect("the provider ended").clone(),
            Err(_) => panic!("{what} did not come: {:?}", *self.updates.borrow()),
        }
    }

    async fn until_port(&self, port: u16) -> Update {
        self.until(&format!("port {port}"), |update| ports(update) == [port]).await
    }
}

fn ports(update: &Update) -> Vec<u16> {
    let fragment = update.fragment.as_ref();
    fragment.map_or(Vec::new(), |f| f.listeners.values().map(|l| l.bind.port()).collect())
}

fn config(port: u16) -> String {
    format!("listeners: {{ web: {{ bind: ':{port}' }} }}\n")
}

#[tokio::test]
async fn a_file_renamed_over_the_old_one_is_live_in_a_tenth_of_a_second() {
    let bench = Bench::start("watched/a.yaml", |d| {
        fs::create_dir(d.join("watched")).unwrap();
        fs::write(d.join("watched/a.yaml"), config(1)).unwrap();
    });
    bench.until_port(1).await;
    let mut times = Vec::new();
    for port in 2..13 {
        // Prepared where nobody watches, so that only the renaming is seen.
        fs::create_dir_all(bench.path("elsewhere")).unwrap();
        fs::write(bench.path("elsewhere/new"), config(port)).unwrap();
        let start = Instant::now();
        fs::rename(bench.path("elsewhere/new"), bench.path("watched/a.yaml")).unwrap();
        bench.until_port(port).await;
        times.push(start.elapsed());
    }
    times.sort();
    let median = times[times.len() / 2];
    assert!(median < Duration::from_millis(100), "{times:?}");
    eprintln!("live after {median:?}, at worst {:?}", times[times.len() - 1]);
}

#[tokio::test]
async fn a_file_written_in_place_is_read_again() {
    let bench = Bench::start("a.yaml", |d| fs::write(d.join("a.yaml"), config(1)).unwrap());
    bench.until_port(1).await;
    for port in 2..9 {
        fs::write(bench.path("a.yaml"), config(port)).unwrap();
        bench.until_port(port).await;
    }
}

#[tokio::test]
async fn a_config_map_swap_is_seen() {
    let bench = Bench::start("mount/a.yaml", |d| {
        for (version, port) in [("v1", 1), ("v2", 2), ("v3", 3)] {
            fs::create_dir_all(d.join("mount").join(version)).unwrap();
            fs::write(d.join("mount").join(version).join("a.yaml"), config(port)).unwrap();
        }
        symlink("v1", d.join("mount/..data")).unwrap();
        symlink("..data/a.yaml", d.join("mount/a.yaml")).unwrap();
    });
    bench.until_port(1).await;
    for (version, port) in [("v2", 2), ("v3", 3), ("v1", 1)] {
        symlink(version, bench.path("mount/..tmp")).unwrap();
        fs::rename(bench.path("mount/..tmp"), bench.path("mount/..data")).unwrap();
        bench.until_port(port).await;
    }
}

#[tokio::test]
async fn a_swapped_link_to_the_whole_directory_is_seen() {
    let bench = Bench::start("current", |d| {
        for (release, port) in [("one", 1), ("two", 2)] {
            fs::create_dir_all(d.join(release)).unwrap();
            fs::write(d.join(release).join("a.yaml"), config(port)).unwrap();
        }
        symlink("one", d.join("current")).unwrap();
    });
    bench.until_port(1).await;
    symlink("two", bench.path("next")).unwrap();
    fs::rename(bench.path("next"), bench.path("current")).unwrap();
    bench.until_port(2).await;
    // The new directory is watched now.
    fs::write(bench.path("two/a.yaml"), config(3)).unwrap();
    bench.until_port(3).await;
}

#[tokio::test]
async fn files_come_to_and_go_from_a_directory() {
    let bench = Bench::start("conf.d", |d| {
        fs::create_dir(d.join("conf.d")).unwrap();
        fs::write(d.join("conf.d/a.yaml"), config(1)).unwrap();
        fs::write(d.join("conf.d/ignored.txt"), "{").unwrap();
    });
    bench.until_port(1).await;
    fs::write(bench.path("conf.d/b.yml"), "listeners: { other: { bind: ':2' } }").unwrap();
    bench.until("a second listener", |update| ports(update) == [2, 1]).await;
    fs::remove_file(bench.path("conf.d/a.yaml")).unwrap();
    bench.until_port(2).await;
}

#[tokio::test]
async fn a_broken_edit_changes_nothing_and_says_why() {
    let bench = Bench::start("a.yaml", |d| fs::write(d.join("a.yaml"), config(1)).unwrap());
    let good = bench.until_port(1).await;
    assert!(good.accepted && good.problems.is_empty() && good.loads == 1 && good.rejected == 0);
    // A file that is written in place is empty for a moment, so that what was rejected is told by
    // its message and not by counting.
    for (broken, says) in [
        ("listeners: {", "not YAML"),
        ("listners: {}", "listners"),
        ("", "empty"),
        ("listeners: { web: {} }", "has no `bind`"),
    ] {
        fs::write(bench.path("a.yaml"), broken).unwrap();
        let rejects = |update: &Update| {
            !update.accepted && update.problems.iter().any(|p| p.message.contains(says))
        };
        let bad = bench.until(&format!("the rejection of {broken:?}"), rejects).await;
        assert!(bad.rejected > 0);
        assert!(Arc::ptr_eq(good.fragment.as_ref().unwrap(), bad.fragment.as_ref().unwrap()));
    }
    fs::remove_file(bench.path("a.yaml")).unwrap();
    let missing = |update: &Update| {
        update.problems.iter().any(|problem| problem.message.contains("no such file"))
    };
    let gone = bench.until("the file's end", missing).await;
    assert!(!gone.accepted);
    assert_eq!(ports(&gone), [1]);
    fs::write(bench.path("a.yaml"), config(2)).unwrap();
    let mended = bench.until_port(2).await;
    assert!(mended.accepted && mended.problems.is_empty());
}

#[tokio::test]
async fn a_configuration_that_is_not_there_yet_is_picked_up() {
    let bench = Bench::start("later/a.yaml", |_| {});
    let first = bench.until("the first report", |update| update.loads == 1).await;
    assert!(first.fragment.is_none() && !first.accepted && first.rejected == 1);
    fs::create_dir(bench.path("later")).unwrap();
    fs::write(bench.path("later/a.yaml"), config(1)).unwrap();
    bench.until_port(1).await;
}

#[tokio::test]
async fn a_missing_certificate_hurts_only_itself_and_is_picked_up_when_it_appears() {
    let bench = Bench::start("a.yaml", |d| {
        let tls = "tls: { certificates: [{ cert: certs/a.pem, key: certs/a.key }] }";
        let text = format!("listeners: {{ web: {{ bind: ':1', {tls} }} }}\n");
        fs::write(d.join("a.yaml"), text).unwrap();
    });
    let chain = |update: &Update| {
        let fragment = update.fragment.as_ref()?;
        fragment.listeners.values().next()?.tls.as_ref()?.certificates.first()?.chain.clone()
    };
    let first = bench.until_port(1).await;
    assert!(first.accepted && first.problems.len() == 2 && chain(&first).is_none());
    fs::create_dir(bench.path("certs")).unwrap();
    fs::write(bench.path("certs/a.pem"), "CHAIN").unwrap();
    fs::write(bench.path("certs/a.key"), "KEY").unwrap();
    let both = bench.until("the certificate", |update| update.problems.is_empty()).await;
    assert_eq!(chain(&both).as_deref(), Some("CHAIN"));
    fs::write(bench.path("certs/new"), "RENEWED").unwrap();
    fs::rename(bench.path("certs/new"), bench.path("certs/a.pem")).unwrap();
    bench.until("the renewed one", |update| chain(update).as_deref() == Some("RENEWED")).await;
}

#[tokio::test]
async fn a_vanished_ca_of_an_upstream_stays_as_it_was() {
    let bench = Bench::start("a.yaml", |d| {
        let text = "upstreams: { a: { endpoints: ['a:1'], tls: { ca: ca.pem } } }\n";
        fs::write(d.join("a.yaml"), text).unwrap();
        fs::write(d.join("ca.pem"), "CA").unwrap();
    });
    let first = bench.until("the first", |update| update.accepted).await;
    fs::remove_file(bench.path("ca.pem")).unwrap();
    let second = bench.until("the problem", |update| !update.problems.is_empty()).await;
    assert!(second.accepted);
    assert_eq!(first.fragment, second.fragment);
}

#[tokio::test]
async fn asking_reads_again_even_where_nothing_changed() {
    let bench = Bench::start("a.yaml", |d| fs::write(d.join("a.yaml"), config(1)).unwrap());
    let first = bench.until_port(1).await;
    bench.reload.notify_one();
    let second = bench.until("another load", |update| update.loads == 2).await;
    assert!(Arc::ptr_eq(first.fragment.as_ref().unwrap(), second.fragment.as_ref().unwrap()));
}

#[tokio::test]
async fn polling_alone_finds_changes_too() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.yaml");
    fs::write(&path, config(1)).unwrap();
    let mut loaded = inputs::load_after(std::slice::from_ref(&path), &BTreeMap::new(), None);
    let differs =
        |loaded: &inputs::Loaded| loaded.marks.differ(std::slice::from_ref(&path), &loaded.inputs);
    // Right after it was written a file does not count as settled.
    let deadline = Instant::now() + DEADLINE;
    while differs(&loaded) {
        assert!(Instant::now() < deadline, "the file never settles");
        loaded = inputs::load_after(std::slice::from_ref(&path), &BTreeMap::new(), None);
    }
    fs::write(&path, config(2)).unwrap();
    assert!(differs(&loaded));
}

#[tokio::test]
async fn the_provider_ends_when_nobody_listens() {
    let directory = tempfile::tempdir().unwrap();
    let options = Options::new(vec![directory.path().to_owned()], BTreeMap::new());
    let (sender, updates) = watch::channel(Update::default());
    let task = tokio::spawn(run(options, Arc::new(Notify::new()), sender));
    drop(updates);
    tokio::time::timeout(DEADLINE, task).await.expect("it goes on").unwrap();
}
