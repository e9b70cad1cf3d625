//! The real binary as a child process: configuration into a directory of its own, free ports,
//! readiness, signals, output, and the end of it when the test ends.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::io::{BufRead, BufReader, Read};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use command_fds::{CommandFdExt, FdMapping};
use rustix::process::{Pid, Signal};
use tempfile::TempDir;

use super::{Client, Metrics, Response, eventually};

/// How long the binary may take to become ready.
const START: Duration = Duration::from_secs(30);

/// A proxy about to be started. In the configuration `@name@` stands for the value given for
/// `name`, `@dir@` for the directory of the test, and any other `@name@` for an address with a
/// free port (`@name.port@` for the port alone). An `admin` section is added where there is none.
pub struct Setup {
    config: String,
    values: BTreeMap<String, String>,
    files: Vec<(String, Vec<u8>)>,
    env: Vec<(String, String)>,
    args: Vec<String>,
    program: Option<String>,
    sockets: Vec<TcpListener>,
}

impl Setup {
    pub fn new(config: &str) -> Self {
        Self {
            config: config.into(),
            values: BTreeMap::new(),
            files: Vec::new(),
            env: Vec::new(),
            args: Vec::new(),
            program: None,
            sockets: Vec::new(),
        }
    }

    /// Hands `socket` to the binary, as systemd does.
    pub fn socket(mut self, socket: TcpListener) -> Self {
        self.sockets.push(socket);
        self
    }

    /// Starts the binary under this name in the directory of the test, where another may take its
    /// place.
    pub fn program(mut self, name: &str) -> Self {
        self.program = Some(name.into());
        self
    }

    /// `@name@` stands for `value`.
    pub fn with(mut self, name: &str, value: impl Display) -> Self {
        self.values.insert(name.into(), value.to_string());
        self
    }

    /// A file beside the configuration.
    pub fn file(mut self, name: &str, content: impl Into<Vec<u8>>) -> Self {
        self.files.push((name.into(), content.into()));
        self
    }

    /// One more argument after `run --config FILE`.
    pub fn arg(mut self, arg: &str) -> Self {
        self.args.push(arg.into());
        self
    }

    /// An environment variable; `@name@` is replaced in it as in the configuration.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Starts the binary and waits until it is ready.
    pub async fn start(self) -> Proxy {
        // A port found free can be taken before the proxy binds it; then others are tried.
        for _ in 0..4 {
            let mut proxy = self.spawn();
            if proxy.become_ready().await {
                return proxy;
            }
        }
        panic!("no free ports");
    }

    /// Starts the binary without waiting for anything.
    pub fn spawn(&self) -> Proxy {
        let dir = TempDir::with_prefix("portcullis-it-").expect("a temporary directory");
        for (name, content) in &self.files {
            write_file(&dir.path().join(name), content);
        }
        let mut values = self.values.clone();
        values.insert("dir".into(), dir.path().display().to_string());
        let mut config = self.config.clone();
        if !config.lines().any(|line| line.starts_with("admin:")) {
            config.push_str("\nadmin: { bind: \"@admin@\" }\n");
        }
        let config = fill(&config, &mut values);
        let path = dir.path().join("portcullis.yaml");
        write_file(&path, config.as_bytes());
        let mut command = match &self.program {
            Some(name) => {
                let link = dir.path().join(name);
                std::os::unix::fs::symlink(portcullis(), &link).expect("a link");
                Command::new(link)
            }
            None => Command::new(portcullis()),
        };
        command.arg("run").arg("--config").arg(&path).args(&self.args);
        for (name, _) in std::env::vars() {
            if name == "PORT" || name.starts_with("PORTCULLIS_") {
                command.env_remove(name);
            }
        }
        for (name, value) in &self.env {
            command.env(name, fill(value, &mut values));
        }
        if !self.sockets.is_empty() {
            command.env("LISTEN_FDS", self.sockets.len().to_string());
            let clones = self.sockets.iter().map(|socket| socket.try_clone().expect("a clone"));
            let mappings = clones
                .zip(3..)
                .map(|(socket, child_fd)| FdMapping { parent_fd: socket.into(), child_fd });
            command.fd_mappings(mappings.collect()).expect("different descriptors");
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the portcullis binary starts");
        let stdout = Lines::follow(child.stdout.take().expect("stdout is piped"));
        let stderr = Lines::follow(child.stderr.take().expect("stderr is piped"));
        Proxy { child, dir, path, values, stdout, stderr, hands_over: false }
    }
}

/// A running proxy; killed when dropped.
pub struct Proxy {
    child: Child,
    dir: TempDir,
    path: PathBuf,
    values: BTreeMap<String, String>,
    stdout: Lines,
    stderr: Lines,
    hands_over: bool,
}

impl Proxy {
    /// Starts a proxy with `config`, in which `values` stand for their `@names@`.
    pub async fn start(config: &str, values: &[(&str, &dyn Display)]) -> Self {
        let mut setup = Setup::new(config);
        for (name, value) in values {
            setup = setup.with(name, value);
        }
        setup.start().await
    }

    /// One plain listener `web`, one upstream `app` for everything.
    pub async fn to(app: SocketAddr) -> Self {
        Self::start(
            r#"
listeners: { web: { bind: "@web@" } }
hosts: { "*": { routes: [ { name: all, path: /, upstream: app } ] } }
upstreams: { app: { endpoints: ["@app@"] } }
"#,
            &[("app", &app)],
        )
        .await
    }

    /// The address of `listener`.
    pub fn addr(&self, listener: &str) -> SocketAddr {
        let value = self.values.get(listener);
        let value = value.unwrap_or_else(|| panic!("no @{listener}@ in the configuration"));
        value.parse().expect("an address")
    }

    /// The address of listener `web`.
    pub fn web(&self) -> SocketAddr {
        self.addr("web")
    }

    /// The configuration file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A file in the directory of the configuration.
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a file beside the configuration, as a whole: no reader sees half of it.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        write_file(&self.dir.path().join(name), content.as_ref());
    }

    /// Replaces the configuration file, with the same `@names@` as at the start.
    pub fn rewrite(&mut self, config: &str) {
        let mut config = config.to_owned();
        if !config.lines().any(|line| line.starts_with("admin:")) {
            config.push_str("\nadmin: { bind: \"@admin@\" }\n");
        }
        let config = fill(&config, &mut self.values);
        write_file(&self.path, config.as_bytes());
    }

    /// A GET on the admin listener.
    pub async fn admin(&self, path: &str) -> Response {
        admin_of(self.addr("admin"), path).await.expect("the admin listener answers")
    }

    /// The metrics page.
    pub async fn metrics(&self) -> Metrics {
        let page = self.admin("/metrics").await;
        assert_eq!(page.status, 200);
        Metrics::parse(&page.text())
    }

    /// Waits until the metrics satisfy `check`.
    pub async fn metrics_until(&self, what: &str, mut check: impl FnMut(&Metrics) -> bool) {
        eventually(super::STEP, what, async || check(&self.metrics().await)).await;
    }

    /// Sends a signal to the process.
    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a pid");
        rustix::process::kill_process(pid, signal).expect("the process is there");
    }

    /// Has the process that serves hand over to a new one; returns the process id of that.
    pub async fn hand_over(&mut self) -> u32 {
        let old = self.serving().await.expect("it serves");
        self.hands_over = true;
        let pid = i32::try_from(old).ok().and_then(Pid::from_raw).expect("a pid");
        rustix::process::kill_process(pid, Signal::USR2).expect("the process is there");
        let mut new = None;
        eventually(super::STEP, "another process serves", async || {
            new = self.serving().await.filter(|pid| *pid != old);
            new.is_some()
        })
        .await;
        new.expect("set when the wait ended")
    }

    /// The process that answers on the admin listener.
    pub async fn serving(&self) -> Option<u32> {
        let status = admin_of(self.addr("admin"), "/api/status").await?.json();
        status["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok())
    }

    /// Kills every process that runs with this configuration.
    fn kill_all(&self) {
        let config = self.path.as_os_str().as_encoded_bytes();
        for process in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
            let line = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
            let pid = process.file_name().to_str().and_then(|pid| pid.parse().ok());
            if line.split(|byte| *byte == 0).any(|argument| argument == config)
                && let Some(pid) = pid.and_then(Pid::from_raw)
            {
                let _ = rustix::process::kill_process(pid, Signal::KILL);
            }
        }
    }

    /// Waits for the end of the process.
    pub async fn exited(&mut self, limit: Duration) -> ExitStatus {
        let mut status = None;
        eventually(limit, "the process ends", async || {
            status = self.child.try_wait().expect("the child can be waited for");
            status.is_some()
        })
        .await;
        status.expect("set when the wait ended")
    }

    /// Whether the process still runs.
    pub fn runs(&mut self) -> bool {
        self.child.try_wait().expect("the child can be waited for").is_none()
    }

    /// Lines on standard output so far.
    pub fn stdout(&self) -> Vec<String> {
        self.stdout.lines()
    }

    /// Standard error so far.
    pub fn stderr(&self) -> String {
        self.stderr.lines().join("\n")
    }

    /// Waits until `text` stands on standard error, which another thread reads.
    #[track_caller]
    pub fn logs(&self, text: &str) -> impl Future<Output = ()> {
        let caller = std::panic::Location::caller();
        async move {
            let deadline = tokio::time::Instant::now() + super::STEP;
            while !self.stderr().contains(text) {
                let in_time = tokio::time::Instant::now() < deadline;
                assert!(in_time, "no {text:?} in the log ({caller}): {}", self.stderr());
                super::pass(std::time::Duration::from_millis(5)).await;
            }
        }
    }

    /// Waits for a line on standard output that satisfies `wanted`.
    pub async fn stdout_line(&self, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        let mut found = None;
        eventually(super::STEP, what, async || {
            found = self.stdout.lines().into_iter().find(|line| wanted(line));
            found.is_some()
        })
        .await;
        found.expect("set when the wait ended")
    }

    /// Resident memory in bytes.
    pub fn rss(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let status = status.expect("the process runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().next());
        1024 * kib.and_then(|kib| kib.parse::<u64>().ok()).expect("a figure in kB")
    }

    /// Open file descriptors.
    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).expect("it runs").count()
    }

    /// Waits for `/readyz`; false when a port was taken and others must be tried.
    async fn become_ready(&mut self) -> bool {
        let admin = self.addr("admin");
        let deadline = tokio::time::Instant::now() + START;
        loop {
            if let Some(response) = admin_of(admin, "/readyz").await
                && response.status == 200
            {
                return true;
            }
            if let Some(status) = self.child.try_wait().expect("the child can be waited for") {
                self.stderr.finish();
                let stderr = self.stderr();
                if is_taken(&stderr) {
                    return false;
                }
                panic!("portcullis ended with {status}:\n{stderr}");
            }
            // With one of several ports taken it runs, and waits for that one.
            if is_taken(&self.stderr()) {
                return false;
            }
            if tokio::time::Instant::now() > deadline {
                panic!("not ready within {START:?}");
            }
            super::pass(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if self.hands_over {
            self.kill_all();
        }
        if std::thread::panicking() {
            self.stderr.finish();
            let lines = self.stderr.lines();
            let from = lines.len().saturating_sub(60);
            eprintln!("--- portcullis, end of stderr ---\n{}\n---", lines[from..].join("\n"));
        }
    }
}

/// Whether a log tells of an address that somebody else has (EADDRINUSE).
fn is_taken(log: &str) -> bool {
    log.contains("os error 98")
}

/// A GET on the admin listener at `admin`; `None` while nothing listens there.
pub async fn admin_of(admin: SocketAddr, path: &str) -> Option<Response> {
    let mut client = Client::try_connect(admin).await.ok()?;
    let head = format!("GET {path} HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n");
    client.try_send(head).await.ok()?;
    client.try_response(false).await.ok()
}

/// The binary under test.
pub fn portcullis() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_portcullis"))
}

/// An address with a port nobody listens on now, and that no other test gets. From below the
/// range the system gives to outgoing connections, so that none of those takes it.
pub fn reserve() -> SocketAddr {
    static TAKEN: LazyLock<Mutex<(u32, BTreeSet<u16>)>> = LazyLock::new(|| {
        let time = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let seed = time.map_or(0, |time| time.subsec_nanos()) ^ std::process::id();
        Mutex::new((seed | 1, BTreeSet::new()))
    });
    let mut taken = TAKEN.lock().expect("no test panics in here");
    loop {
        // xorshift32 (Marsaglia 2003).
        let mut state = taken.0;
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        taken.0 = state;
        let port = 12_000 + u16::try_from(state % 20_000).expect("below 20,000");
        let address = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
        if taken.1.insert(port) && TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}

fn fill(text: &str, values: &mut BTreeMap<String, String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('@') {
        out.push_str(before);
        let is_name = |name: &str| {
            !name.is_empty()
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
        };
        match after.split_once('@').filter(|(name, _)| is_name(name)) {
            Some((name, tail)) => {
                let (base, port_only) = match name.strip_suffix(".port") {
                    Some(base) => (base, true),
                    None => (name, false),
                };
                let value =
                    values.entry(base.into()).or_insert_with(|| reserve().to_string()).clone();
                if port_only {
                    out.push_str(value.rsplit(':').next().unwrap_or_default());
                } else {
                    out.push_str(&value);
                }
                rest = tail;
            }
            None => {
                out.push('@');
                rest = after;
            }
        }
    }
    out.push_str(rest);
    out
}

fn write_file(path: &Path, content: &[u8]) {
    let name = path.file_name().expect("a file name").to_string_lossy().into_owned();
    let aside = path.with_file_name(format!(".{name}.new"));
    std::fs::write(&aside, content).expect("the test's directory can be written");
    std::fs::rename(&aside, path).expect("a rename within a directory");
}

/// The lines of a pipe as they come.
#[derive(Clone)]
struct Lines(Arc<Mutex<Vec<String>>>, Arc<Mutex<Option<std::thread::JoinHandle<()>>>>);

impl Lines {
    fn follow(pipe: impl Read + Send + 'static) -> Self {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let reader = std::thread::spawn({
            let lines = Arc::clone(&lines);
            move || {
                for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                    lines.lock().expect("no holder panics").push(line);
                }
            }
        });
        Self(lines, Arc::new(Mutex::new(Some(reader))))
    }

    fn lines(&self) -> Vec<String> {
        self.0.lock().expect("no holder panics").clone()
    }

    /// Waits for the end of the pipe: only after the end of the process.
    fn finish(&self) {
        if let Some(reader) = self.1.lock().expect("no holder panics").take() {
            let _ = reader.join();
        }
    }
}
