//! Members for the tests of algorithms.

use std::net::SocketAddr;
use std::sync::Arc;

use super::Member;
use crate::ir::Name;
use crate::telemetry::Metrics;
use crate::upstream::{Common, Endpoint};
use crate::util::moment::Moment;

/// Endpoints of one upstream with these weights, counted in total.
pub fn members(weights: &[u32]) -> Vec<Member> {
    let metrics = Metrics::new(1);
    let common = Arc::<Common>::default();
    common.total.want();
    let member = |(n, weight): (u16, &u32)| {
        let address = SocketAddr::from(([127, 0, 0, 1], 1000 + n));
        let counters = metrics.endpoint(&Name::from("test"), &address.to_string());
        let endpoint = Endpoint::new(address, None, counters, common.clone(), Moment(1));
        let (endpoint, weight) = (Arc::new(endpoint), *weight);
        Member { endpoint, weight, priority: 0, zone: None, draining: false }
    };
    (0..).zip(weights).map(member).collect()
}
