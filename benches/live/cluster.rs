//! The cluster and the proxy in its network; both end with the bench.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde::Deserialize;

use crate::Failure;
use crate::client::Client;

/// The cluster's own address in its network: as good as any for an endpoint.
pub const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 50, 0, 1));
/// Where the proxy listens. The network is the bench's own, so that every port is free.
const HTTP: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);
const ADMIN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9900);

/// A real API server, etcd and controllers.
pub struct Cluster {
    pub kubeconfig: PathBuf,
    dir: PathBuf,
    process: Child,
    /// Its end tells the cluster that its owner is gone.
    _owner: ChildStdin,
}

/// What the cluster says when it is up.
#[derive(Deserialize)]
struct State {
    pid: u32,
    dir: PathBuf,
    kubeconfig: PathBuf,
}

impl Cluster {
    /// Starts one, and takes this thread into its network.
    pub fn start() -> Result<Self, Failure> {
        let programs = PathBuf::from(script("build")?.trim());
        let dir = tempfile::Builder::new().prefix("portcullis-bench-").tempdir()?.keep();
        let images = dir.join("images.json");
        std::fs::write(&images, script("images")?)?;
        let mut command = Command::new(programs.join("node"));
        command.args(["run", "--owned", "--bin"]).arg(&programs).arg("--dir").arg(&dir);
        command.arg("--images").arg(&images).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.stderr(File::create(dir.join("node.log"))?).spawn()?;
        let owner = process.stdin.take().ok_or("no pipe")?;
        let mut line = String::new();
        BufReader::new(process.stdout.take().ok_or("no pipe")?).read_line(&mut line)?;
        let state: State = serde_json::from_str(&line)
            .map_err(|_| format!("the cluster did not start: see {}", dir.display()))?;
        let network = File::open(format!("/proc/{}/ns/net", state.pid))?;
        move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))?;
        let kubeconfig = state.dir.join("bench.kubeconfig");
        std::fs::write(&kubeconfig, inside(&std::fs::read_to_string(state.kubeconfig)?))?;
        Ok(Self { kubeconfig, dir: state.dir, process, _owner: owner })
    }
}

/// A kubeconfig for the cluster's network: from outside, the server is at another address.
fn inside(kubeconfig: &str) -> String {
    let line = |line: &str| match line.split_once("server: ") {
        Some((before, _)) => format!("{before}server: https://{ADDRESS}:6443\n"),
        None => format!("{line}\n"),
    };
    kubeconfig.lines().map(line).collect()
}

impl Drop for Cluster {
    fn drop(&mut self) {
        end(&mut self.process);
    }
}

/// What `tests/cluster` prints.
fn script(command: &str) -> Result<String, Failure> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cluster");
    let output = Command::new(path).arg(command).stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        return Err(format!("tests/cluster {command} failed").into());
    }
    Ok(String::from_utf8(output.stdout)?)
}

fn end(process: &mut Child) {
    let pid = i32::try_from(process.id()).ok().and_then(Pid::from_raw);
    if let Some(pid) = pid {
        let _ = kill_process(pid, Signal::TERM);
    }
    let _ = process.wait();
}

/// The proxy under test.
pub struct Proxy {
    process: Child,
    started: Instant,
}

impl Proxy {
    /// Starts it as an administrator, so that no pod has to be made first.
    pub fn start(cluster: &Cluster) -> Result<Self, Failure> {
        let binary = std::env::var_os("PORTCULLIS_BENCH_BINARY");
        let binary = binary.unwrap_or_else(|| env!("CARGO_BIN_EXE_portcullis").into());
        let mut command = Command::new(binary);
        command.args(["run", "--kubernetes", "--kubeconfig"]).arg(&cluster.kubeconfig);
        command.args([format!("--http={HTTP}"), "--https=off".to_owned()]);
        command.args([format!("--admin={ADMIN}"), "--ingress-class-by-name".to_owned()]);
        command.stderr(File::create(cluster.dir.join("portcullis.log"))?).stdout(Stdio::null());
        let started = Instant::now();
        Ok(Self { process: command.spawn()?, started })
    }

    /// Waits until it is ready; how long that took since its start.
    pub fn ready(&mut self) -> Result<Duration, Failure> {
        loop {
            if let Ok((200, _)) = Client::page(ADMIN, "/readyz") {
                return Ok(self.started.elapsed());
            }
            if let Some(status) = self.process.try_wait()? {
                return Err(format!("the proxy ended: {status}").into());
            }
            if self.started.elapsed() > Duration::from_secs(60) {
                return Err("the proxy was not ready after a minute".into());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Where it serves.
    pub fn http(&self) -> SocketAddr {
        HTTP
    }

    /// Its page of metrics.
    pub fn metrics(&self) -> Result<String, Failure> {
        Ok(Client::page(ADMIN, "/metrics")?.1)
    }

    /// Its resident memory in MB.
    pub fn resident(&self) -> Result<u64, Failure> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        Ok(kib.ok_or("no VmRSS")? * 1024 / 1_000_000)
    }

    /// The CPU time it took so far, in seconds.
    pub fn cpu(&self) -> Result<f64, Failure> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.process.id()))?;
        // Behind the name, which may hold anything: user and system time are fields 14 and 15.
        let (_, fields) = stat.rsplit_once(')').ok_or("no name")?;
        let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<u64>);
        let ticks: u64 = ticks.sum::<Result<_, _>>()?;
        Ok(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
    }

    /// Ends it in good order.
    pub fn end(mut self) {
        end(&mut self.process);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
