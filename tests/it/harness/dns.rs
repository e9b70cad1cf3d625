//! A name server that says what the test wants, over UDP and TCP, and remembers what it was asked.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// The name server; it ends when dropped.
pub struct Dns {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    tasks: [JoinHandle<()>; 2],
}

/// Types of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    A = 1,
    Aaaa = 28,
    Srv = 33,
}

/// What is wrong with a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// It does not exist, and an hour-long SOA says so.
    NoSuchName,
    /// SERVFAIL.
    ServFail,
    /// No answer at all.
    Silence,
    /// Nothing but the truncation bit over UDP; the records over TCP.
    Truncated,
}

/// An SRV record: priority, weight, port, target.
pub type Srv<'a> = (u16, u16, u16, &'a str);

/// One question that came in.
#[derive(Clone, Debug)]
pub struct Asked {
    pub name: String,
    pub kind: u16,
    pub tcp: bool,
    pub at: Instant,
}

#[derive(Default)]
struct State {
    records: BTreeMap<(String, u16), Records>,
    additional: Vec<(String, IpAddr)>,
    troubles: BTreeMap<(String, Option<u16>), Trouble>,
    asked: Vec<Asked>,
}

struct Records {
    ttl: u32,
    data: Vec<Vec<u8>>,
}

impl Dns {
    /// A name server that knows no name yet.
    pub async fn start() -> Self {
        let (udp, tcp) = loop {
            let udp = UdpSocket::bind("127.0.0.1:0").await.expect("a free port");
            let address = udp.local_addr().expect("bound");
            if let Ok(tcp) = TcpListener::bind(address).await {
                break (udp, tcp);
            }
        };
        let address = udp.local_addr().expect("bound");
        let state = Arc::new(Mutex::new(State::default()));
        let tasks = [
            tokio::spawn(serve_udp(udp, Arc::clone(&state))),
            tokio::spawn(serve_tcp(tcp, Arc::clone(&state))),
        ];
        Self { address, state, tasks }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `name` has exactly these addresses from now on, A and AAAA.
    pub fn addresses(&self, name: &str, ttl: u32, addresses: &[IpAddr]) {
        let of = |v4: bool| addresses.iter().filter(move |ip| ip.is_ipv4() == v4).map(octets);
        self.set(name, Kind::A, ttl, of(true).collect());
        self.set(name, Kind::Aaaa, ttl, of(false).collect());
    }

    /// `name` has exactly these SRV records from now on.
    pub fn services(&self, name: &str, ttl: u32, records: &[Srv<'_>]) {
        let data = records.iter().map(|(priority, weight, port, target)| {
            let mut data = [*priority, *weight, *port].map(u16::to_be_bytes).concat();
            data.extend(labels(target));
            data
        });
        self.set(name, Kind::Srv, ttl, data.collect());
    }

    /// SRV answers bring this address of `target` along.
    pub fn bring_along(&self, target: &str, address: IpAddr) {
        self.lock().additional.push((target.into(), address));
    }

    /// Something is wrong with `name` from now on.
    pub fn trouble(&self, name: &str, trouble: Trouble) {
        self.lock().troubles.insert((name.into(), None), trouble);
    }

    /// Something is wrong with one type of records of `name` from now on.
    pub fn trouble_with(&self, name: &str, kind: Kind, trouble: Trouble) {
        self.lock().troubles.insert((name.into(), Some(kind as u16)), trouble);
    }

    /// All is well with `name` again.
    pub fn mend(&self, name: &str) {
        self.lock().troubles.retain(|(troubled, _), _| troubled != name);
    }

    /// The questions of one type about `name` so far.
    pub fn asked(&self, name: &str, kind: Kind) -> Vec<Asked> {
        let state = self.lock();
        let about = |asked: &&Asked| asked.name == name && asked.kind == kind as u16;
        state.asked.iter().filter(about).cloned().collect()
    }

    fn set(&self, name: &str, kind: Kind, ttl: u32, data: Vec<Vec<u8>>) {
        self.lock().records.insert((name.into(), kind as u16), Records { ttl, data });
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("no holder panics")
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

async fn serve_udp(socket: UdpSocket, state: Arc<Mutex<State>>) {
    let mut buffer = [0; 4096];
    while let Ok((length, peer)) = socket.recv_from(&mut buffer).await {
        if let Some(answer) = answer(&state, &buffer[..length], false) {
            let _ = socket.send_to(&answer, peer).await;
        }
    }
}

async fn serve_tcp(listener: TcpListener, state: Arc<Mutex<State>>) {
    let mut tasks = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        tasks.spawn(serve_stream(stream, Arc::clone(&state)));
    }
}

async fn serve_stream(mut stream: TcpStream, state: Arc<Mutex<State>>) {
    while let Ok(length) = stream.read_u16().await {
        let mut query = vec![0; length.into()];
        if stream.read_exact(&mut query).await.is_err() {
            return;
        }
        if let Some(answer) = answer(&state, &query, true) {
            let length = u16::try_from(answer.len()).expect("tests have short answers");
            let _ = stream.write_all(&[&length.to_be_bytes()[..], &answer].concat()).await;
        }
    }
}

/// The answer to a query (RFC 1035 §4.1); `None` for silence.
fn answer(state: &Mutex<State>, query: &[u8], tcp: bool) -> Option<Vec<u8>> {
    let (name, end) = question_name(query)?;
    let kind = u16::from_be_bytes([*query.get(end)?, *query.get(end + 1)?]);
    let question = query.get(12..end + 4)?;
    let mut state = state.lock().expect("no holder panics");
    let at = Instant::now();
    state.asked.push(Asked { name: name.clone(), kind, tcp, at });
    let trouble = [Some(kind), None]
        .into_iter()
        .find_map(|kind| state.troubles.get(&(name.clone(), kind)).copied());
    let exists = state.records.keys().any(|(known, _)| *known == name);
    let none = Records { ttl: 0, data: Vec::new() };
    let records = state.records.get(&(name.clone(), kind)).unwrap_or(&none);
    // Response, recursion desired and available.
    let (mut flags, records) = match trouble {
        Some(Trouble::Silence) => return None,
        Some(Trouble::ServFail) => (0x8182_u16, &none),
        Some(Trouble::NoSuchName) => (0x8183, &none),
        Some(Trouble::Truncated) if !tcp => (0x8380, &none),
        _ if !exists => (0x8183, &none),
        _ => (0x8180, records),
    };
    // The answer belongs to this question alone.
    flags |= u16::from(query[2] & 1) << 8;
    let extra = if kind == Kind::Srv as u16 { &state.additional[..] } else { &[] };
    let soa = matches!(flags & 0xf, 0 | 3) && flags & 0x200 == 0 && records.data.is_empty();
    let counts = [1, records.data.len(), usize::from(soa), if soa { 0 } else { extra.len() }];
    let mut out = [&query[..2], &flags.to_be_bytes()].concat();
    for count in counts {
        out.extend(u16::try_from(count).expect("few records").to_be_bytes());
    }
    out.extend(question);
    for data in &records.data {
        record(&mut out, &[0xc0, 12], kind, records.ttl, data);
    }
    if soa {
        // Serial, refresh, retry, expire, and the hour for which there is nothing (RFC 2308).
        let numbers = [1, 3600, 3600, 3600, 3600_u32].map(u32::to_be_bytes).concat();
        let data = [labels("ns.test"), labels("root.test"), numbers].concat();
        record(&mut out, &labels("test"), 6, 3600, &data);
    } else {
        for (target, address) in extra {
            let kind = if address.is_ipv4() { Kind::A } else { Kind::Aaaa };
            record(&mut out, &labels(target), kind as u16, records.ttl, &octets(address));
        }
    }
    Some(out)
}

fn record(out: &mut Vec<u8>, name: &[u8], kind: u16, ttl: u32, data: &[u8]) {
    out.extend(name);
    out.extend([kind, 1].map(u16::to_be_bytes).concat());
    out.extend(ttl.to_be_bytes());
    out.extend(u16::try_from(data.len()).expect("short data").to_be_bytes());
    out.extend(data);
}

/// The name in the question section, in lower case, and where it ends.
fn question_name(query: &[u8]) -> Option<(String, usize)> {
    let mut labels = Vec::new();
    let mut at = 12;
    loop {
        let length = usize::from(*query.get(at)?);
        at += 1;
        if length == 0 {
            return Some((labels.join("."), at));
        }
        let label = query.get(at..at + length)?;
        labels.push(String::from_utf8_lossy(label).to_ascii_lowercase());
        at += length;
    }
}

fn labels(name: &str) -> Vec<u8> {
    let mut out = Vec::new();
    for label in name.split('.').filter(|label| !label.is_empty()) {
        out.push(u8::try_from(label.len()).expect("a short label"));
        out.extend(label.as_bytes());
    }
    out.push(0);
    out
}

fn octets(address: &IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}
