//! A Kubernetes cluster of local processes (`tests/kube`): the real API server, pods with addresses
//! of their own, and clients inside its network. One is started for all tests that share it.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;

use kube::config::{AuthInfo, KubeConfigOptions, Kubeconfig};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde::Deserialize;
use tokio::net::{TcpListener, TcpStream, UnixStream};

use super::{Client, Namespace, Random, Response, STEP, portcullis};

/// A running cluster. It ends when this is dropped, and when the test process does.
pub struct Cluster {
    state: State,
    images: PathBuf,
    programs: PathBuf,
    process: Child,
    // Its end tells the cluster that its owner is gone.
    _owner: ChildStdin,
}

/// What the cluster says when it is up.
#[derive(Deserialize)]
struct State {
    pid: u32,
    dir: PathBuf,
    kubeconfig: PathBuf,
    millis: u64,
}

impl Cluster {
    /// The cluster that tests share; each takes a namespace of its own in it.
    pub async fn shared() -> &'static Self {
        static SHARED: OnceLock<Cluster> = OnceLock::new();
        let start = || SHARED.get_or_init(Self::start_now);
        tokio::task::spawn_blocking(start).await.expect("the cluster starts")
    }

    /// A cluster for one test: one that breaks the control plane.
    pub async fn start() -> Self {
        tokio::task::spawn_blocking(Self::start_now).await.expect("the cluster starts")
    }

    fn start_now() -> Self {
        let programs = PathBuf::from(script(&["build"]).trim());
        let dir = tempfile::Builder::new().prefix("portcullis-cluster-").tempdir();
        // The cluster removes it at its end, whichever way that comes.
        let dir = dir.expect("a temporary directory").keep();
        let images = dir.join("images.json");
        std::fs::write(&images, script(&["images"])).expect("written");
        let log = File::create(dir.join("node.log")).expect("a file");
        let mut command = Command::new(programs.join("node"));
        command.args(["run", "--owned", "--bin"]).arg(&programs).arg("--dir").arg(&dir);
        command.arg("--images").arg(&images);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log);
        let mut process = command.spawn().expect("the cluster's program starts");
        let owner = process.stdin.take().expect("stdin is piped");
        let mut line = String::new();
        let mut stdout = BufReader::new(process.stdout.take().expect("stdout is piped"));
        stdout.read_line(&mut line).expect("a pipe");
        let Ok(state) = serde_json::from_str::<State>(&line) else {
            let log = std::fs::read_to_string(dir.join("node.log")).unwrap_or_default();
            panic!("the cluster did not start: {log}\n{}", tails(&dir.join("logs")));
        };
        println!("cluster ready after {} ms: {}", state.millis, dir.display());
        Self { state, images, programs, process, _owner: owner }
    }

    /// A client of the API server, as an administrator.
    pub async fn client(&self) -> kube::Client {
        kube::Client::try_from(self.config().await).expect("a client")
    }

    /// A client that shows this bearer token.
    pub async fn client_with(&self, token: &str) -> kube::Client {
        let mut config = self.config().await;
        config.auth_info = AuthInfo { token: Some(token.to_owned().into()), ..Default::default() };
        kube::Client::try_from(config).expect("a client")
    }

    async fn config(&self) -> kube::Config {
        let config = Kubeconfig::read_from(self.kubeconfig()).expect("a kubeconfig");
        let options = KubeConfigOptions::default();
        let config = kube::Config::from_custom_kubeconfig(config, &options).await;
        config.expect("a whole kubeconfig")
    }

    /// A new namespace, named after `about` and chance; deleted when dropped.
    pub async fn namespace(&self, about: &str) -> Namespace<'_> {
        let name = format!("{about}-{:08x}", Random::seeded().draw() as u32);
        Namespace::create(self, name).await
    }

    /// How long the cluster took to start, in milliseconds.
    pub fn start_millis(&self) -> u64 {
        self.state.millis
    }

    /// The process that all others of the cluster descend from and end with.
    pub fn first_process(&self) -> u32 {
        self.state.pid
    }

    /// The kubeconfig of an administrator.
    pub fn kubeconfig(&self) -> &Path {
        &self.state.kubeconfig
    }

    /// The directory that is there while the cluster is; `logs/` in it are the control plane's.
    pub fn dir(&self) -> &Path {
        &self.state.dir
    }

    /// The file that says what image names stand for; containers started later see a change.
    pub fn images(&self) -> &Path {
        &self.images
    }

    /// `kubectl` as an administrator.
    pub fn kubectl(&self) -> Command {
        let mut command = Command::new(self.programs.join("kubectl"));
        command.env("KUBECONFIG", self.kubeconfig());
        command
    }

    /// A program that needs no cluster until it is told of one: `kubectl`, or `helm`, which is built
    /// when it is first asked for.
    pub fn tool(name: &str) -> Command {
        match name {
            "helm" => Command::new(script(&["build-helm"]).trim()),
            _ => Command::new(Path::new(script(&["build"]).trim()).join(name)),
        }
    }

    /// A program of this machine in the cluster's network, where all its addresses are.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.network().display())).arg("--").arg(program);
        command
    }

    /// `kubectl` as an administrator, which must succeed; what it writes.
    pub async fn kubectl_run(&self, arguments: &[&str]) -> String {
        let mut command = self.kubectl();
        command.args(arguments);
        // Not on this thread: the load goes on meanwhile.
        let output = tokio::task::spawn_blocking(move || command.output()).await;
        let output = output.expect("it does not panic").expect("kubectl runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {said}");
        String::from_utf8(output.stdout).expect("text")
    }

    /// The network in it, for whoever outlives a borrow.
    pub fn inside(&self) -> Network {
        Network(Some(self.network()))
    }

    /// Connects to an address inside the cluster.
    pub async fn try_tcp(&self, address: SocketAddr) -> io::Result<TcpStream> {
        self.inside().try_tcp(address).await
    }

    /// Connects to an address inside the cluster, or fails the test.
    pub async fn connect(&self, address: SocketAddr) -> Client {
        let stream = self.try_tcp(address).await;
        Client::over(stream.unwrap_or_else(|error| panic!("connecting to {address}: {error}")))
    }

    /// One GET on a connection of its own; `None` without a whole response.
    pub async fn try_get(&self, address: SocketAddr, host: &str, target: &str) -> Option<Response> {
        let mut client = Client::over(self.try_tcp(address).await.ok()?);
        let head = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        client.try_send(head).await.ok()?;
        client.try_response(false).await.ok()
    }

    /// One GET on a connection of its own, or fails the test.
    pub async fn get(&self, address: SocketAddr, host: &str, target: &str) -> Response {
        let response = self.try_get(address, host, target).await;
        response.unwrap_or_else(|| panic!("no response from {address}"))
    }

    /// An address on loopback that leads to `address` in the cluster while the test runs: for
    /// clients that connect by themselves.
    pub async fn forward(&'static self, address: SocketAddr) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let local = listener.local_addr().expect("bound");
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                tokio::spawn(async move {
                    if let Ok(mut far) = self.try_tcp(address).await {
                        let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
                    }
                });
            }
        });
        local
    }

    /// Does something to a program of the control plane (`etcd`, `apiserver`, `controllers`):
    /// `kill`, `stop`, `pause`, `resume`, or `start` with more arguments than its own.
    pub async fn control(&self, program: &str, action: &str, arguments: &[&str]) {
        let socket = self.dir().join("control.sock");
        let mut client = Client::over(UnixStream::connect(socket).await.expect("it listens"));
        let body = serde_json::to_string(arguments).expect("JSON");
        let head = format!("POST /{program}/{action} HTTP/1.1\r\nHost: c\r\n");
        client.send(format!("{head}Content-Length: {}\r\n\r\n{body}", body.len())).await;
        let response = client.response().await;
        assert_eq!(response.status, 200, "{program} {action}: {response}");
    }

    fn network(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/ns/net", self.state.pid))
    }
}

/// The network of a cluster, where all its addresses are, or that of the test itself.
#[derive(Clone)]
pub struct Network(Option<PathBuf>);

impl Network {
    /// That of the test.
    pub fn own() -> Self {
        Self(None)
    }

    /// Connects to an address in it.
    pub async fn try_tcp(&self, address: SocketAddr) -> io::Result<TcpStream> {
        let connect = move || std::net::TcpStream::connect_timeout(&address, STEP);
        let stream = self.run(connect).await??;
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        TcpStream::from_std(stream)
    }

    /// Calls `work` on a thread in the cluster's network. Sockets made there stay there.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<T> {
        let network = self.0.as_ref().map(File::open).transpose()?;
        // A thread of its own: one of a pool would take the network on to other work.
        let (done, result) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || {
            let entered = network.map_or(Ok(()), |network| {
                move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))
            });
            let _ = done.send(entered.map(|()| work()));
        });
        Ok(result.await.map_err(io::Error::other)??)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let pid = i32::try_from(self.process.id()).ok().and_then(rustix::process::Pid::from_raw);
        if let Some(pid) = pid {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let _ = self.process.wait();
    }
}

/// What `tests/cluster` prints.
fn script(args: &[&str]) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cluster");
    let mut command = Command::new(path);
    command.args(args).env("PORTCULLIS_BINARY", portcullis()).stderr(Stdio::inherit());
    let output = command.output().expect("tests/cluster runs");
    assert!(output.status.success(), "tests/cluster {args:?} failed");
    String::from_utf8(output.stdout).expect("text")
}

/// The last lines of every file in `dir`.
fn tails(dir: &Path) -> String {
    let files = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let tail = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        let from = lines.len().saturating_sub(20);
        format!("--- {}\n{}\n", path.display(), lines[from..].join("\n"))
    };
    files.map(|file| tail(file.path())).collect()
}
