//! A part of a large set, stable as the set changes.
//!
//! Random subsetting by rendezvous hashing (gRFC A68): each process puts the endpoints in an
//! order of its own by the hash of its seed and the address, and takes the first. When an
//! endpoint comes or goes at most one in the subset is exchanged.

use std::net::{IpAddr, SocketAddr};

use super::Member;
use crate::util::random::Random;

/// At most `count` of `members`, in declaration order.
pub(super) fn subset(count: Option<u32>, members: Vec<Member>, seed: u64) -> Vec<Member> {
    let Some(count) = count.map(|count| count.max(1) as usize) else { return members };
    if members.len() <= count {
        return members;
    }
    let mut ranks: Vec<(u64, SocketAddr)> = members
        .iter()
        .map(|Member { endpoint, .. }| (rank(endpoint.address, seed), endpoint.address))
        .collect();
    let (_, last, _) = ranks.select_nth_unstable(count - 1);
    let last = *last;
    let is_in = |member: &Member| {
        let address = member.endpoint.address;
        (rank(address, seed), address) <= last
    };
    members.into_iter().filter(is_in).collect()
}

fn rank(address: SocketAddr, seed: u64) -> u64 {
    let ip = match address.ip() {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    };
    let bits = u128::from(ip);
    let parts = [(bits >> 64) as u64, bits as u64, u64::from(address.port())];
    parts.into_iter().fold(seed, |hash, part| Random::new(hash ^ part).draw())
}
