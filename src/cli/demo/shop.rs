//! The shop as a whole: bound sockets, one thread, and an end.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::sync::oneshot;

use super::counter::{Counter, Store};
use super::plan::{PLANS, Pace, Plan};

/// Where the shop's endpoints are bound.
#[derive(Clone, Copy, Debug)]
pub struct ShopOptions {
    /// The address of every endpoint. Default 127.0.0.1.
    pub address: IpAddr,
    /// The first port: service `i`'s endpoint `j` (both from 0) gets `first + 10 i + j`. `None`,
    /// the default, takes any free ports.
    pub first_port: Option<u16>,
}

impl Default for ShopOptions {
    fn default() -> Self {
        Self { address: Ipv4Addr::LOCALHOST.into(), first_port: None }
    }
}

/// Why the shop does not open.
#[derive(Debug, thiserror::Error)]
pub enum ShopError {
    /// An endpoint's address could not be bound.
    #[error("cannot bind the shop's endpoint {endpoint} to {address}: {source}")]
    Bind {
        /// The endpoint's name.
        endpoint: String,
        /// What it should have been bound to.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// The first port leaves no room below 65536 for the others.
    #[error("the shop needs ports {0} to {0} + 69, which do not all exist")]
    Ports(u16),
    /// The thread or its runtime could not be made.
    #[error("cannot start the shop's thread: {0}")]
    Thread(#[from] io::Error),
}

/// The open shop. Dropping it closes every connection and socket and ends its thread.
#[derive(Debug)]
pub struct Shop {
    services: Vec<Service>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// One service of the shop.
#[derive(Clone, Debug)]
pub struct Service {
    /// Its name, and its upstream's.
    pub name: &'static str,
    /// The path prefixes it answers.
    pub paths: &'static [&'static str],
    /// Its endpoints.
    pub endpoints: Vec<ShopEndpoint>,
}

/// One endpoint of a service.
#[derive(Clone, Debug)]
pub struct ShopEndpoint {
    /// What it calls itself in `x-endpoint` and JSON: `catalog-2`.
    pub name: String,
    /// Where it listens.
    pub address: SocketAddr,
    /// Its share of the service's requests.
    pub weight: u32,
    /// The shortest and the longest time it works on a request.
    pub speed: (Duration, Duration),
}

impl Shop {
    /// Binds every endpoint, then serves them from a thread and runtime of their own, so that
    /// the shop's work is never on a worker of the proxy.
    pub fn start(options: ShopOptions) -> Result<Self, ShopError> {
        let mut services = Vec::with_capacity(PLANS.len());
        // All ports exist, or none is bound.
        port(options.first_port, PLANS.len() * 10 - 1)?;
        let store = Arc::new(Store::default());
        let mut sockets = Vec::new();
        for (index, plan) in PLANS.iter().enumerate() {
            let (service, bound) = bind(index, plan, options, &store)?;
            services.push(service);
            sockets.extend(bound);
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel();
        let thread = thread::Builder::new().name("shop".to_owned()).spawn(move || {
            // The runtime owns every task; when this thread lets go of it, they all end.
            runtime.block_on(async {
                for (listener, counter) in sockets {
                    tokio::spawn(counter.serve(listener));
                }
                let _ = stopped.await;
            });
        })?;
        Ok(Self { services, stop: Some(stop), thread: Some(thread) })
    }

    /// The services in the order of the plan.
    pub fn services(&self) -> &[Service] {
        &self.services
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn bind(
    index: usize,
    plan: &'static Plan,
    options: ShopOptions,
    store: &Arc<Store>,
) -> Result<(Service, Vec<(TcpListener, Counter)>), ShopError> {
    let mut sockets = Vec::with_capacity(plan.endpoints.len());
    let mut endpoints = Vec::with_capacity(plan.endpoints.len());
    for (number, &speed) in plan.endpoints.iter().enumerate() {
        let name = format!("{}-{}", plan.name, number + 1);
        let wanted =
            SocketAddr::new(options.address, port(options.first_port, index * 10 + number)?);
        let (listener, address) = listen(wanted).map_err(|source| ShopError::Bind {
            endpoint: name.clone(),
            address: wanted,
            source,
        })?;
        let pace = Pace::new(speed, (index * 10 + number) as u64);
        sockets.push((listener, Counter::new(&name, plan.department, pace, Arc::clone(store))));
        let base = Duration::from_millis(speed.base.into());
        let jitter = Duration::from_millis(speed.jitter.into());
        endpoints.push(ShopEndpoint {
            name,
            address,
            weight: speed.weight,
            speed: (base, base + jitter),
        });
    }
    Ok((Service { name: plan.name, paths: plan.paths, endpoints }, sockets))
}

fn listen(address: SocketAddr) -> io::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    let bound = listener.local_addr()?;
    Ok((listener, bound))
}

/// The port of the endpoint at `offset`; 0 is any.
fn port(first_port: Option<u16>, offset: usize) -> Result<u16, ShopError> {
    let Some(first) = first_port else { return Ok(0) };
    let offset = u16::try_from(offset).map_err(|_| ShopError::Ports(first))?;
    first.checked_add(offset).ok_or(ShopError::Ports(first))
}
