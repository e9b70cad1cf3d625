//! POSTs without an end, each of them counted: what becomes of traffic while something else breaks.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use super::{Client, Network, STEP, eventually, pass};

/// Between two requests of a client: the machine has other work.
const PAUSE: Duration = Duration::from_millis(2);

/// Clients that send POSTs until told to stop: every other one keeps its connection for as long as
/// it may, the others make one for each.
pub struct Load {
    aim: Arc<Aim>,
    clients: Vec<tokio::task::JoinHandle<Counts>>,
}

struct Aim {
    network: Network,
    address: SocketAddr,
    host: String,
    targets: Vec<String>,
    stop: AtomicBool,
    sent: AtomicUsize,
}

/// What became of the requests.
#[derive(Debug, Default)]
pub struct Counts {
    /// How many were sent.
    pub sent: usize,
    /// How many of them reached no back end: answered 503, or 504 as nobody accepted a connection.
    pub unavailable: usize,
    /// What became of those that were answered otherwise than so and 200, or not at all.
    pub lost: Vec<String>,
}

impl Load {
    /// Begins, to each of `targets` in turn.
    pub fn start(
        network: Network,
        address: SocketAddr,
        host: &str,
        targets: &[&str],
        clients: usize,
    ) -> Self {
        let aim = Arc::new(Aim {
            network,
            address,
            host: host.to_owned(),
            targets: targets.iter().map(|target| (*target).to_owned()).collect(),
            stop: AtomicBool::new(false),
            sent: AtomicUsize::new(0),
        });
        let client = |number: usize| tokio::spawn(aim.clone().run(number));
        let clients = (0..clients).map(client).collect();
        Self { aim, clients }
    }

    /// Waits until so many more were sent.
    pub async fn more(&self, count: usize) {
        let until = self.aim.sent.load(Ordering::Relaxed) + count;
        let sent = async || self.aim.sent.load(Ordering::Relaxed) >= until;
        eventually(STEP * 3, "the load goes on", sent).await;
    }

    /// Stops, and tells what became of all.
    pub async fn end(self) -> Counts {
        self.aim.stop.store(true, Ordering::Relaxed);
        let mut all = Counts::default();
        for client in self.clients {
            let one = client.await.expect("it does not panic");
            all.sent += one.sent;
            all.unavailable += one.unavailable;
            all.lost.extend(one.lost);
        }
        all
    }
}

impl Counts {
    /// How many were sent; fails unless every one was answered 200.
    #[track_caller]
    pub fn all_served(&self) -> usize {
        let Self { sent, unavailable, lost } = self;
        assert!(lost.is_empty(), "{} of {sent} lost: {:?}", lost.len(), lost.first());
        assert_eq!(*unavailable, 0, "of {sent} reached no back end");
        assert!(*sent > 50, "only {sent} were sent");
        *sent
    }
}

impl Aim {
    async fn run(self: Arc<Self>, number: usize) -> Counts {
        let keeps = number.is_multiple_of(2);
        let (mut counts, mut kept) = (Counts::default(), None);
        let mut targets = self.targets.iter().cycle().skip(number);
        while !self.stop.load(Ordering::Relaxed) {
            let Some(target) = targets.next() else { break };
            self.sent.fetch_add(1, Ordering::Relaxed);
            counts.sent += 1;
            match self.post(target, kept.take(), keeps).await {
                Ok((true, connection)) => kept = connection,
                Ok((false, connection)) => {
                    counts.unavailable += 1;
                    kept = connection;
                }
                Err(why) => counts.lost.push(format!("{target}: {why}")),
            }
            pass(PAUSE).await;
        }
        counts
    }

    /// One POST: whether it was served, and the connection where it may be used again.
    async fn post(
        &self,
        target: &str,
        kept: Option<Client>,
        keep: bool,
    ) -> Result<(bool, Option<Client>), String> {
        let mut client = match kept {
            Some(client) => client,
            None => {
                let stream = self.network.try_tcp(self.address).await;
                Client::over(stream.map_err(|error| format!("connect: {error}"))?)
            }
        };
        let close = if keep { "" } else { "Connection: close\r\n" };
        let host = &self.host;
        let head = format!("POST {target} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 3\r\n");
        let request = format!("{head}{close}\r\nabc");
        client.try_send(request).await.map_err(|error| format!("sending: {error}"))?;
        let response = client.try_response(false).await.map_err(|error| format!("{error:?}"))?;
        let served = match response.status {
            200 => true,
            503 => false,
            504 if response.text().contains("connect_timeout") => false,
            _ => return Err(response.to_string()),
        };
        let closes = response.headers.get("connection").is_some_and(|value| value == "close");
        Ok((served, (keep && !closes).then_some(client)))
    }
}
