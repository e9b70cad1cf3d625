//! How the process is doing.

use std::time::{Instant, SystemTime};

use serde::{Deserialize, Serialize};

use super::ProblemView;
use crate::app::Live;
use crate::control::ReloadReport;
use crate::snapshot::{CompiledListener, Snapshot};

/// How the process is doing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusView {
    /// The program's version.
    pub version: String,
    /// Its process id.
    pub pid: u32,
    /// `starting`, `ready` or `draining`.
    pub readiness: String,
    /// The generation of the configuration that is served; 0 before the first.
    pub generation: u64,
    /// How long the admin listener has been there, seconds.
    pub uptime: u64,
    /// The clock of this process.
    pub now: u64,
    /// Worker threads.
    pub workers: usize,
    /// Open client connections.
    pub connections: u64,
    /// The listeners.
    pub listeners: Vec<ListenerView>,
    /// How many routes there are.
    pub routes: usize,
    /// How many upstreams there are.
    pub upstreams: usize,
    /// The last attempt to take over a configuration.
    pub reload: ReloadView,
}

/// A listener.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListenerView {
    /// Its name.
    pub name: String,
    /// Where clients connect, with the port the system chose for port 0.
    pub address: String,
    /// The port that clients connect to, where that is another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_port: Option<u16>,
    /// Whether it accepts there; if not, the problems of the reload say why.
    pub open: bool,
    /// Whether it terminates TLS.
    pub tls: bool,
    /// Whether it speaks HTTP/2 beside HTTP/1.
    pub http2: bool,
    /// Whether every connection must begin with a PROXY protocol header.
    pub proxy_protocol: bool,
    /// Open connections.
    pub connections: u64,
    /// How many host patterns it answers for.
    pub hosts: usize,
    /// Whether every handshake is refused because client certificates cannot be verified.
    pub refuses_all: bool,
}

/// The last attempt to take over a configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReloadView {
    /// Whether what was read last is in use; if not, something older is.
    pub accepted: bool,
    /// When that was.
    pub at: u64,
    /// What is wrong with it, worst first.
    pub problems: Vec<ProblemView>,
}

impl StatusView {
    /// The status of a running process whose admin listener was opened at `opened`.
    pub fn new(live: &Live, opened: Instant) -> Self {
        let snapshot = live.handle.load();
        let snapshot = snapshot.as_deref();
        let report = live.state.report();
        let listeners = snapshot.iter().flat_map(|snapshot| snapshot.listeners());
        let listeners: Vec<_> =
            listeners.map(|listener| ListenerView::new(listener, &report)).collect();
        let connections = listeners.iter().map(|listener: &ListenerView| listener.connections);
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            readiness: live.readiness.as_str().to_owned(),
            generation: snapshot.map_or(0, |snapshot| snapshot.generation),
            uptime: opened.elapsed().as_secs(),
            now: now.map_or(0, |now| now.as_secs()),
            workers: live.metrics.workers(),
            connections: connections.sum(),
            routes: snapshot.map_or(0, |snapshot| snapshot.declared().count()),
            upstreams: snapshot.map_or(0, |snapshot: &Snapshot| snapshot.upstreams.len()),
            listeners,
            reload: ReloadView::from(&report),
        }
    }

    /// Whether traffic should be sent there.
    pub fn is_ready(&self) -> bool {
        self.readiness == "ready"
    }
}

impl ListenerView {
    fn new(listener: &CompiledListener, report: &ReloadReport) -> Self {
        let open = report.listeners.get(&listener.name).copied().flatten();
        Self {
            name: listener.name.to_string(),
            address: open.unwrap_or(listener.spec.bind).to_string(),
            public_port: listener.spec.public_port,
            open: open.is_some(),
            tls: listener.tls.is_some(),
            http2: listener.spec.protocols.http2,
            proxy_protocol: !listener.spec.proxy_protocol.is_empty(),
            connections: listener.metrics.connections(),
            hosts: listener.hosts.len(),
            refuses_all: listener.tls.as_ref().is_some_and(|tls| tls.refuses_all()),
        }
    }
}

impl From<&ReloadReport> for ReloadView {
    fn from(report: &ReloadReport) -> Self {
        Self {
            accepted: report.accepted,
            at: report.at,
            problems: report.problems.iter().map(ProblemView::from).collect(),
        }
    }
}
