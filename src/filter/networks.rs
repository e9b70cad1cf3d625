//! A set of networks that is asked about one address at a time.

use std::net::IpAddr;

use ipnet::IpNet;

/// Networks as sorted ranges that do not touch: a look-up is a binary search, however many
/// networks there are, and allocates nothing.
#[derive(Debug, Default)]
pub struct Networks {
    v4: Box<[(u32, u32)]>,
    v6: Box<[(u128, u128)]>,
}

impl Networks {
    /// The set of `networks`. An IPv4 network written in IPv6 (`::ffff:10.0.0.0/104`) is the IPv4
    /// network, as its addresses are.
    pub fn new(networks: &[IpNet]) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for network in networks {
            let (first, last) = (network.network(), network.broadcast());
            match (first.to_canonical(), last.to_canonical()) {
                (IpAddr::V4(first), IpAddr::V4(last)) => {
                    v4.push((u32::from(first), u32::from(last)));
                }
                (IpAddr::V6(first), IpAddr::V6(last)) => {
                    v6.push((u128::from(first), u128::from(last)));
                }
                // It begins or ends in IPv4's part of IPv6 and is larger than that.
                _ => {
                    if let (IpAddr::V6(first), IpAddr::V6(last)) = (first, last) {
                        v6.push((u128::from(first), u128::from(last)));
                    }
                }
            }
        }
        Self { v4: merged(v4), v6: merged(v6) }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }

    /// Whether one of them has `address`. An IPv4 address in IPv6 is the IPv4 address.
    pub fn contains(&self, address: IpAddr) -> bool {
        match address.to_canonical() {
            IpAddr::V4(address) => has(&self.v4, u32::from(address)),
            IpAddr::V6(address) => has(&self.v6, u128::from(address)),
        }
    }
}

fn merged<T: Copy + Ord>(mut ranges: Vec<(T, T)>) -> Box<[(T, T)]> {
    ranges.sort_unstable();
    let mut merged: Vec<(T, T)> = Vec::with_capacity(ranges.len());
    for (first, last) in ranges {
        match merged.last_mut() {
            Some(before) if first <= before.1 => before.1 = before.1.max(last),
            _ => merged.push((first, last)),
        }
    }
    merged.into()
}

fn has<T: Copy + Ord>(ranges: &[(T, T)], address: T) -> bool {
    let after = ranges.partition_point(|(first, _)| *first <= address);
    after.checked_sub(1).and_then(|at| ranges.get(at)).is_some_and(|(_, last)| address <= *last)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn networks(texts: &[&str]) -> Networks {
        Networks::new(&texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<_>>())
    }

    #[test]
    fn both_spellings_of_an_ipv4_address_are_one() {
        let set = networks(&["10.0.0.0/8", "::ffff:192.0.2.0/120", "fd00::/8"]);
        for inside in ["10.1.2.3", "::ffff:10.1.2.3", "192.0.2.255", "::ffff:192.0.2.1", "fdff::1"]
        {
            assert!(set.contains(inside.parse().unwrap()), "{inside}");
        }
        for outside in ["11.0.0.0", "9.255.255.255", "192.0.3.0", "::10.1.2.3", "fe00::"] {
            assert!(!set.contains(outside.parse().unwrap()), "{outside}");
        }
        assert!(!networks(&["::/0"]).contains("10.0.0.1".parse().unwrap()));
        assert!(networks(&[]).is_empty() && !set.is_empty());
    }

    fn network() -> impl Strategy<Value = IpNet> {
        // Few distinct addresses, so that networks overlap, touch and hit.
        let v4 = (0_u32..64, 22_u8..=32)
            .prop_map(|(bits, len)| format!("10.0.{}.{}/{len}", bits / 8, (bits % 8) * 32));
        let v6 = (0_u32..32, 110_u8..=128).prop_map(|(bits, len)| format!("fd00::{bits:x}/{len}"));
        let mapped =
            (0_u32..8, 118_u8..=128).prop_map(|(bits, len)| format!("::ffff:10.0.{bits}.0/{len}"));
        prop_oneof![v4, v6, mapped].prop_map(|text| text.parse::<IpNet>().unwrap().trunc())
    }

    fn address() -> impl Strategy<Value = IpAddr> {
        let v4 = (0_u8..9, any::<u8>()).prop_map(|(a, b)| format!("10.0.{a}.{b}"));
        let mapped = (0_u8..9, any::<u8>()).prop_map(|(a, b)| format!("::ffff:10.0.{a}.{b}"));
        let v6 = (0_u32..64).prop_map(|bits| format!("fd00::{bits:x}"));
        prop_oneof![v4, mapped, v6].prop_map(|text| text.parse().unwrap())
    }

    /// The plain reading: one network after the other, an address and a network in one family.
    fn scan(networks: &[IpNet], address: IpAddr) -> bool {
        networks.iter().any(|network| {
            network.contains(&address.to_canonical())
                || match address.to_canonical() {
                    IpAddr::V4(v4) => {
                        network.prefix_len() >= 96
                            && network.contains(&IpAddr::V6(v4.to_ipv6_mapped()))
                    }
                    IpAddr::V6(_) => false,
                }
        })
    }

    proptest! {
        #[test]
        fn a_set_says_what_a_scan_of_its_networks_says(
            networks in prop::collection::vec(network(), 0..40),
            addresses in prop::collection::vec(address(), 1..60),
        ) {
            let set = Networks::new(&networks);
            for address in addresses {
                prop_assert_eq!(set.contains(address), scan(&networks, address), "{}", address);
            }
        }
    }
}
