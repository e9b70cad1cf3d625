//! The proxies: where their binaries are, how each is configured, started, checked and stopped.

mod envoy;
mod haproxy;
pub mod install;
mod nginx;
mod portcullis;

use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::certificate::Certificate;
use crate::load;
use crate::machine::Cores;
use crate::measure;

/// The headers that every proxy has to add before it may run: all do the same work.
const ADDED: [&str; 6] = [
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-real-ip",
    "x-request-id",
];

/// A column of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Another build of Portcullis (`PORTCULLIS_BENCH_BASELINE`).
    Baseline,
    Envoy,
    Haproxy,
    Nginx,
    Portcullis,
}

impl Kind {
    /// All, in the order they are shown.
    pub const ALL: [Kind; 5] =
        [Kind::Portcullis, Kind::Baseline, Kind::Nginx, Kind::Haproxy, Kind::Envoy];

    /// The name in `PORTCULLIS_BENCH_PEERS` and in the JSON.
    pub fn key(self) -> &'static str {
        match self {
            Kind::Baseline => "baseline",
            Kind::Envoy => "envoy",
            Kind::Haproxy => "haproxy",
            Kind::Nginx => "nginx",
            Kind::Portcullis => "portcullis",
        }
    }

    /// Whether it is somebody else's proxy: one to be compared with.
    pub fn is_peer(self) -> bool {
        !matches!(self, Kind::Baseline | Kind::Portcullis)
    }

    /// The version number within what the binary says of itself.
    pub fn version(self, binary: &Path) -> String {
        let argument = match self {
            Kind::Baseline | Kind::Portcullis => "version",
            Kind::Envoy => "--version",
            Kind::Haproxy | Kind::Nginx => "-v",
        };
        let Ok(output) = Command::new(binary).arg(argument).output() else {
            return "unknown".into();
        };
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        // "nginx/1.22.1", "HAProxy version 2.6.12-1 …", "envoy  version: <commit>/1.40.0/Clean/…"
        text.split([' ', '/', '-', '\n'])
            .find(|word| word.starts_with(|c: char| c.is_ascii_digit()) && word.contains('.'))
            .unwrap_or("unknown")
            .to_owned()
    }
}

/// What all proxies of a run share.
#[derive(Debug)]
pub struct Ground {
    pub backend: SocketAddr,
    pub certificate: Certificate,
    pub cores: Cores,
    /// Whether nginx and HAProxy get what an expert would set for large bodies.
    pub tuned: bool,
    /// Whether nginx works without a master: callgrind can only be told what to do in a process
    /// it started itself.
    pub single_process: bool,
}

/// What a proxy's configuration is made from.
#[derive(Debug)]
struct Setting<'a> {
    /// A directory of its own.
    dir: PathBuf,
    plain: SocketAddr,
    tls: SocketAddr,
    admin: SocketAddr,
    ground: &'a Ground,
}

impl Setting<'_> {
    fn write(&self, name: &str, text: &str) -> io::Result<PathBuf> {
        let path = self.dir.join(name);
        std::fs::write(&path, text)?;
        Ok(path)
    }
}

/// A running proxy; dropping it stops it.
#[derive(Debug)]
pub struct Proxy {
    pub plain: SocketAddr,
    pub tls: SocketAddr,
    child: Child,
    log: PathBuf,
}

impl Proxy {
    /// Starts `kind` on its core, with `wrapper` before its command line, and waits until it answers
    /// and adds every header.
    pub fn start(
        kind: Kind,
        binary: &Path,
        ground: &Ground,
        wrapper: &[String],
    ) -> io::Result<Self> {
        let dir = crate::options::scratch().join(kind.key());
        std::fs::create_dir_all(&dir)?;
        let [plain, tls, admin] = free_addresses()?;
        let setting = Setting { dir, plain, tls, admin, ground };
        let arguments = match kind {
            Kind::Baseline | Kind::Portcullis => portcullis::arguments(&setting)?,
            Kind::Envoy => envoy::arguments(&setting)?,
            Kind::Haproxy => haproxy::arguments(&setting)?,
            Kind::Nginx => nginx::arguments(&setting)?,
        };
        let log = setting.dir.join("log");
        let output = File::create(&log)?;
        // Both programs replace themselves, so the child is the proxy. The parent's death ends
        // it even when the parent is killed.
        let child = Command::new("taskset")
            .args(["--cpu-list", &ground.cores.proxy.to_string(), "setpriv", "--pdeathsig", "TERM"])
            .args(wrapper)
            .arg(binary)
            .args(arguments)
            .current_dir(&setting.dir)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .map_err(|error| io::Error::other(format!("taskset (util-linux): {error}")))?;
        let mut proxy = Self { plain, tls, child, log };
        proxy.wait_until_ready(if wrapper.is_empty() { 15 } else { 90 })?;
        Ok(proxy)
    }

    /// CPU time of its process tree so far.
    pub fn cpu_probe(&self) -> load::Probe {
        let pid = self.child.id();
        Box::new(move || measure::cpu_time(pid))
    }

    /// Memory of its process tree.
    pub fn memory(&self) -> io::Result<measure::Memory> {
        measure::memory(self.child.id())
    }

    /// The ids of its process tree.
    pub fn processes(&self) -> io::Result<Vec<u32>> {
        measure::tree(self.child.id())
    }

    /// Asks it to end, and makes it end after `patience`.
    fn stop(&mut self, patience: Duration) {
        if let Ok(Some(_)) = self.child.try_wait() {
            return;
        }
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline {
            if let Ok(Some(_)) = self.child.try_wait() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    fn wait_until_ready(&mut self, seconds: u64) -> io::Result<()> {
        let deadline = Instant::now() + Duration::from_secs(seconds);
        let echoed = loop {
            if let Some(status) = self.child.try_wait()? {
                return Err(self.failure(&format!("it ended before it was ready ({status})")));
            }
            match load::fetch(self.plain, "/r/57/head") {
                Ok(body) => break body,
                Err(error) if Instant::now() >= deadline => {
                    return Err(self.failure(&format!("it was not ready in {seconds} s: {error}")));
                }
                Err(_) => std::thread::sleep(Duration::from_millis(50)),
            }
        };
        let head = String::from_utf8_lossy(&echoed).to_lowercase();
        let missing: Vec<_> =
            ADDED.into_iter().filter(|name| !head.contains(&format!("\n{name}: "))).collect();
        match missing.is_empty() {
            true => Ok(()),
            false => Err(self.failure(&format!("it does not add {}", missing.join(", ")))),
        }
    }

    fn failure(&self, what: &str) -> io::Error {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = log.lines().filter(|line| !line.trim().is_empty()).collect();
        let tail = lines[lines.len().saturating_sub(5)..].join("\n    ");
        let tail =
            if tail.is_empty() { String::new() } else { format!("; its log ends\n    {tail}") };
        io::Error::other(format!("{what}{tail}"))
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stop(Duration::from_secs(2));
    }
}

/// Addresses that were free a moment ago; these proxies cannot take port 0 and tell.
fn free_addresses<const N: usize>() -> io::Result<[SocketAddr; N]> {
    let mut sockets = Vec::new();
    let mut addresses = [SocketAddr::from(([127, 0, 0, 1], 0)); N];
    for address in &mut addresses {
        let socket = TcpListener::bind(*address)?;
        *address = socket.local_addr()?;
        sockets.push(socket);
    }
    Ok(addresses)
}
