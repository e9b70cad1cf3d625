//! Upstreams at run time: the live state of endpoints, how one is picked, and the connections to
//! them. All of it outlives snapshots.
//!
//! Endpoint state is shared between workers in atomics and held per endpoint identity, never per
//! route. Connections belong to one worker. This module knows nothing of routes, filters or
//! clients.

mod adaptive;
mod affinity;
mod attention;
pub mod balance;
pub mod budget;
mod endpoint;
pub mod h1;
pub mod h2;
pub mod health;
mod hedging;
mod latencies;
pub mod limits;
mod live;
mod load;
mod observation;
pub mod orca;
pub mod outlier;
pub mod polls;
pub mod pool;
mod registry;
mod set;

pub use affinity::{Affinity, SessionCookie};
pub use endpoint::{
    Availability, Common, Ejection, EjectionReason, Endpoint, EndpointId, InFlight, LastCheck,
    Latency, LatencyRule, Outcomes, Probe, Reported,
};
pub use hedging::Hedging;
pub use live::{Transport, Upstream};
pub use observation::{Observation, Verdict};
pub use registry::{Environment, Registry, Target};
pub use set::{Circumstances, EndpointSet, Group, Member};
