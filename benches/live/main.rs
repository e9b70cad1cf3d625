//! `cargo bench --bench live [-- INGRESSES]`: what a change in a large cluster takes until it is
//! served, with a real API server before the proxy and a client behind it.
//!
//! Everything is in a network of its own that ends with the bench. See `benches/README.md`.

mod client;
mod cluster;
mod objects;
mod report;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use client::{Back, Client, Reply};
use cluster::{Cluster, Proxy};
use objects::Objects;
use report::Times;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// How many changes of a kind are measured.
const CHANGES: usize = 200;
/// How long it rests after each: longer than changes are gathered.
const REST: Duration = Duration::from_millis(50);
/// How long a change may take before the bench gives up.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long it is left alone before memory is looked at.
const SETTLE: Duration = Duration::from_secs(5);
/// How long all of it may take.
const DEADLINE: Duration = Duration::from_secs(900);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if !arguments.iter().any(|argument| argument == "--bench") {
        // `cargo test --all-targets` runs this binary, too; it must start no cluster there.
        println!("live: run me with `cargo bench --bench live`");
        return ExitCode::SUCCESS;
    }
    let count = arguments.iter().find_map(|arg| arg.parse().ok()).unwrap_or(5_000);
    std::thread::spawn(|| {
        std::thread::sleep(DEADLINE);
        eprintln!("live: not finished after {} s, giving up", DEADLINE.as_secs());
        // The cluster and the proxy end with their owner.
        std::process::exit(1);
    });
    // Before there are other threads than that one: those to come are in the cluster's network.
    let cluster = match Cluster::start() {
        Ok(cluster) => cluster,
        Err(error) => return failed(&*error),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let ran = runtime.map_err(Failure::from).and_then(|rt| rt.block_on(run(&cluster, count)));
    match ran {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&*error),
    }
}

fn failed(error: &dyn std::error::Error) -> ExitCode {
    eprintln!("live: {error}");
    ExitCode::FAILURE
}

async fn run(cluster: &Cluster, count: usize) -> Result<(), Failure> {
    let back = Back::start(cluster::ADDRESS)?;
    let objects = Objects::new(&cluster.kubeconfig).await?;
    let began = Instant::now();
    objects.fill(count).await?;
    println!(
        "{count} Ingresses and Services, {} endpoints, made in {:.0?}",
        count * objects::ENDPOINTS,
        began.elapsed(),
    );
    let mut proxy = Proxy::start(cluster)?;
    let ready = proxy.ready()?;
    println!("start to ready, lists and all: {:.2} s", ready.as_secs_f64());
    settle().await;
    println!("resident: {} MB", proxy.resident()?);
    let before = proxy.cpu()?;
    settle().await;
    println!(
        "CPU at rest: {:.2} % of a core",
        (proxy.cpu()? - before) / SETTLE.as_secs_f64() * 100.0
    );
    let mut client = Client::new(proxy.http());
    println!("from the API server's answer to the first request served (from asking it):");
    endpoints(&objects, &mut client, &back).await?.print("an endpoint became ready");
    created(&objects, &mut client).await?.print("an Ingress came");
    changed(&objects, &mut client).await?.print("an Ingress changed");
    println!("from what the watch said to its being served, as the proxy counts it:");
    report::propagation(&proxy.metrics()?);
    settle().await;
    println!("resident at the end: {} MB", proxy.resident()?);
    proxy.end();
    Ok(())
}

/// Waits until what a change took is given back.
async fn settle() {
    tokio::time::sleep(SETTLE).await;
}

async fn endpoints(objects: &Objects, client: &mut Client, back: &Back) -> Result<Times, Failure> {
    let mut times = Times::default();
    let host = "back.example.com";
    objects.create_back(host, back.address).await?;
    served(client, host, |reply| reply.status == 503)?;
    for _ in 0..CHANGES {
        let asked = Instant::now();
        objects.set_ready(back.address, true).await?;
        let answered = Instant::now();
        served(client, host, |reply| reply.status == 200)?;
        times.add(asked, answered);
        objects.set_ready(back.address, false).await?;
        served(client, host, |reply| reply.status == 503)?;
        tokio::time::sleep(REST).await;
    }
    // For those that come after it.
    objects.set_ready(back.address, true).await?;
    served(client, host, |reply| reply.status == 200)?;
    Ok(times)
}

async fn created(objects: &Objects, client: &mut Client) -> Result<Times, Failure> {
    let mut times = Times::default();
    for number in 0..CHANGES {
        let host = format!("new{number}.example.com");
        let asked = Instant::now();
        objects.create(&format!("new{number}"), &host).await?;
        let answered = Instant::now();
        served(client, &host, |reply| reply.status == 200)?;
        times.add(asked, answered);
        tokio::time::sleep(REST).await;
    }
    Ok(times)
}

async fn changed(objects: &Objects, client: &mut Client) -> Result<Times, Failure> {
    let mut times = Times::default();
    for number in 0..CHANGES {
        let name = format!("new{}", number * 7919 % CHANGES);
        let (host, target) =
            (format!("{name}.example.com"), format!("https://to{number}.example/"));
        let asked = Instant::now();
        objects.redirect_to(&name, &target).await?;
        let answered = Instant::now();
        served(client, &host, |reply| reply.location.as_deref() == Some(&target))?;
        times.add(asked, answered);
        tokio::time::sleep(REST).await;
    }
    Ok(times)
}

/// Asks until the answer is what is waited for.
fn served(client: &mut Client, host: &str, done: impl Fn(&Reply) -> bool) -> Result<(), Failure> {
    let began = Instant::now();
    loop {
        let reply = client.get(host)?;
        if done(&reply) {
            return Ok(());
        }
        if began.elapsed() > PATIENCE {
            return Err(format!("{host}: still {reply:?} after {PATIENCE:?}").into());
        }
        // The proxy and the API server have work to do on the same cores.
        std::thread::sleep(Duration::from_micros(200));
    }
}
