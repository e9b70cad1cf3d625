//! Endpoints that come and go under load: at random and without a word, or one after another and
//! in good order.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::harness::*;

/// A back end that can be stopped and started again at the same address. Stopped it refuses
/// connections, and those it had are closed.
struct Site {
    address: SocketAddr,
    running: Option<Backend>,
    served: Arc<AtomicUsize>,
}

impl Site {
    async fn up() -> Self {
        let mut site =
            Self { address: reserve(), running: None, served: Arc::new(AtomicUsize::new(0)) };
        site.start().await;
        site
    }

    async fn start(&mut self) {
        let mut listener = None;
        eventually(STEP, "the address is free again", async || {
            listener = TcpListener::bind(self.address).await.ok();
            listener.is_some()
        })
        .await;
        let served = self.served.clone();
        let script = move |mut conn: Conn| {
            let served = served.clone();
            async move {
                while conn.request().await.is_some() {
                    served.fetch_add(1, Ordering::SeqCst);
                    conn.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
                }
            }
        };
        self.running = listener.map(|listener| Backend::script_on(listener, script));
    }

    async fn stop(&mut self) {
        self.running = None;
        let address = self.address;
        let closed = async || tokio::net::TcpStream::connect(address).await.is_err();
        eventually(STEP, "it refuses", closed).await;
    }

    fn served(&self) -> usize {
        self.served.load(Ordering::SeqCst)
    }
}

/// Clients that go on until they are told to stop, and count.
struct Load {
    done: Arc<AtomicBool>,
    requests: Arc<AtomicUsize>,
    tasks: Vec<JoinHandle<()>>,
}

impl Load {
    /// `requests` are sent in turn by each of `clients`; each is to be answered 200.
    fn start(web: SocketAddr, clients: usize, requests: &'static [&'static str]) -> Self {
        let (done, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let tasks = (0..clients).map(|_| {
            let (done, count) = (done.clone(), count.clone());
            tokio::spawn(async move {
                let mut client = Client::connect(web).await;
                for request in requests.iter().cycle() {
                    if done.load(Ordering::SeqCst) {
                        return;
                    }
                    client.send(request).await;
                    let response = client.response().await;
                    assert_eq!((response.status, response.text().as_str()), (200, "ok"));
                    count.fetch_add(1, Ordering::SeqCst);
                    // A connection has only so many requests; its last response says so.
                    if response.headers.joined("connection").eq_ignore_ascii_case("close") {
                        client = Client::connect(web).await;
                    }
                }
            })
        });
        let tasks = tasks.collect();
        Self { done, requests: count, tasks }
    }

    fn goes_on(&self) -> bool {
        self.tasks.iter().all(|task| !task.is_finished())
    }

    async fn end(self) -> usize {
        self.done.store(true, Ordering::SeqCst);
        for task in self.tasks {
            task.await.expect("every request was answered");
        }
        self.requests.load(Ordering::SeqCst)
    }
}

const GET: &str = "GET / HTTP/1.1\r\nHost: t\r\n\r\n";
const POST: &str = "POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 5\r\n\r\nhello";

const SITES: usize = 20;
/// So many of them flap.
const FLAPPING: usize = 6;
/// So many may be ejected at once: 20 %.
const MOST_EJECTED: f64 = 4.0;
const FLAPPING_FOR: Duration = Duration::from_secs(8);

/// In turn, so that all of them are asked; with so many repeats that one of those that stand is
/// always reached.
const CONFIG: &str = r#"
workers: 2
listeners: { web: { bind: "@web@" } }
hosts: { "*": { routes: [ { path: /, upstream: app, retry: { attempts: 6 } } ] } }
upstreams:
  app:
    balance: round_robin
    outlier: { consecutive_local: 3, ejection: 200ms, max_ejection: 2s, max_ejected: 20% }
    pool: { idle_timeout: 1s }
    endpoints: [@endpoints@]
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endpoints_that_flap_cost_no_request_no_descriptor_and_no_memory() {
    let mut random = Random::seeded();
    let mut sites = Vec::new();
    for _ in 0..SITES {
        sites.push(Site::up().await);
    }
    let endpoints: Vec<String> = sites.iter().map(|site| format!("\"{}\"", site.address)).collect();
    let proxy = Proxy::start(&CONFIG.replace("@endpoints@", &endpoints.join(", ")), &[]).await;
    let idle = proxy.descriptors();
    let load = Load::start(proxy.web(), 8, &[GET]);

    let (start, mut settled) = (Instant::now(), None);
    while start.elapsed() < FLAPPING_FOR {
        let site = &mut sites[random.below(FLAPPING as u64) as usize];
        match site.running {
            Some(_) => site.stop().await,
            None => site.start().await,
        }
        pass(Duration::from_millis(5 + random.below(60))).await;
        assert!(load.goes_on(), "failed after {:?}", start.elapsed());
        let ejected = proxy.metrics().await.sum("portcullis_upstream_ejected", &[]);
        assert!(ejected <= MOST_EJECTED, "{ejected} are ejected");
        if settled.is_none() && start.elapsed() > FLAPPING_FOR / 4 {
            settled = Some(proxy.rss());
        }
    }
    let grown = proxy.rss().saturating_sub(settled.expect("time passed"));
    let lengths = ejections(&proxy);
    for site in &mut sites[..FLAPPING] {
        if site.running.is_none() {
            site.start().await;
        }
    }
    let before: Vec<usize> = sites.iter().map(Site::served).collect();
    eventually(STEP, "all of them are back", async || {
        proxy.metrics().await.sum("portcullis_endpoint_up", &[]) == SITES as f64
            && sites.iter().zip(&before).all(|(site, before)| site.served() > before + 10)
    })
    .await;
    let requests = load.end().await;
    let metrics = proxy.metrics().await;
    let retries = metrics.sum("portcullis_upstream_retries_total", &[]);
    println!("{requests} requests, {retries} retries, ejections of {lengths:?} ms");
    assert_eq!(metrics.sum("portcullis_requests_total", &[("code", "5xx")]), 0.0);
    assert!(requests > 1_000 && retries > 20.0, "{requests} requests, {retries} retries");
    assert!(lengths.len() > FLAPPING, "{lengths:?}");
    assert!(lengths.iter().any(|length| *length >= 600), "they get longer: {lengths:?}");
    assert!(lengths.iter().all(|length| (200..=2_000).contains(length)), "{lengths:?}");
    assert!(grown < 12 << 20, "memory grew by {grown} bytes");
    eventually(STEP, "every connection is closed", async || proxy.descriptors() <= idle).await;
}

/// The lengths of all ejections so far, in milliseconds.
fn ejections(proxy: &Proxy) -> Vec<u64> {
    let stderr = proxy.stderr();
    let lengths = stderr.lines().filter_map(|line| {
        let (_, after) = line.split_once("ejected for ")?;
        let (length, _) = after.split_once(':')?;
        match length.strip_suffix("ms") {
            Some(millis) => millis.parse().ok(),
            None => Some((length.strip_suffix('s')?.parse::<f64>().ok()? * 1_000.0) as u64),
        }
    });
    lengths.collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endpoints_that_drain_and_restart_one_after_another_lose_no_request_not_even_a_post() {
    let mut sites = Vec::new();
    for _ in 0..4 {
        sites.push(Site::up().await);
    }
    let addresses: Vec<SocketAddr> = sites.iter().map(|site| site.address).collect();
    let config = |leaving: Option<usize>| {
        let endpoints = addresses.iter().enumerate().map(|(number, address)| {
            let draining = leaving == Some(number);
            format!("{{ address: \"{address}\", draining: {draining} }}")
        });
        // Without a repeat anything that meets a closed door would be seen.
        let config = CONFIG.replace("retry: { attempts: 6 }", "retry: off");
        config.replace("@endpoints@", &endpoints.collect::<Vec<_>>().join(", "))
    };
    let mut proxy = Proxy::start(&config(None), &[]).await;
    let load = Load::start(proxy.web(), 6, &[POST, GET]);
    let in_use = async |proxy: &Proxy, leaving: Option<usize>| {
        let upstreams = proxy.admin("/api/upstreams").await.json();
        let endpoints = upstreams[0]["endpoints"].as_array().expect("endpoints").clone();
        endpoints.iter().enumerate().all(|(number, endpoint)| {
            let draining = leaving == Some(number);
            endpoint["draining"] == draining && (!draining || endpoint["in_flight"] == 0)
        })
    };
    for round in 0..12 {
        let leaving = round % sites.len();
        proxy.rewrite(&config(Some(leaving)));
        let what = "it has nothing more to do";
        eventually(STEP, what, async || in_use(&proxy, Some(leaving)).await).await;
        let served = sites[leaving].served();
        sites[leaving].stop().await;
        sites[leaving].start().await;
        assert_eq!(sites[leaving].served(), served, "round {round}");
        proxy.rewrite(&config(None));
        eventually(STEP, "it is back", async || in_use(&proxy, None).await).await;
        eventually(STEP, "it is used", async || sites[leaving].served() > served).await;
        assert!(load.goes_on(), "failed in round {round}");
    }
    assert!(load.end().await > 500);
    let metrics = proxy.metrics().await;
    assert_eq!(metrics.sum("portcullis_requests_total", &[("code", "5xx")]), 0.0);
}
