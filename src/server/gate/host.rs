//! `host[:port]` as it stands in Host and in the authority of a target.

use std::net::Ipv6Addr;

use super::class::{self, NAME};

/// A host and port that were checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct HostPort<'a> {
    /// As sent: case, brackets and a trailing dot kept.
    pub(super) host: &'a [u8],
    pub(super) port: Option<u16>,
}

impl<'a> HostPort<'a> {
    /// Takes a DNS name (letters, digits, `-`, `_`; labels of 1 to 63 bytes, 253 in all, one
    /// trailing dot), an IPv4 address or a bracketed IPv6 address without zone, and a port of
    /// 1 to 65535 without leading zeros. Narrower than RFC 3986's reg-name, whose other
    /// characters no resolvable host has.
    pub(super) fn parse(text: &'a [u8]) -> Option<Self> {
        let (host, port) = if text.first() == Some(&b'[') {
            let close = text.iter().position(|&byte| byte == b']')?;
            let (host, port) = text.split_at_checked(close + 1)?;
            let address = host.get(1..close)?;
            std::str::from_utf8(address).ok()?.parse::<Ipv6Addr>().ok()?;
            (host, port)
        } else {
            let end = class::run(text, NAME);
            let (host, port) = text.split_at_checked(end)?;
            check_name(host).then_some((host, port))?
        };
        let port = match port {
            [] => None,
            [b':', digits @ ..] => Some(parse_port(digits)?),
            _ => return None,
        };
        Some(Self { host, port })
    }

    /// Whether both name one host and port, where `default_port` stands for none.
    pub(super) fn same(self, other: HostPort<'_>, default_port: u16) -> bool {
        self.host.eq_ignore_ascii_case(other.host)
            && self.port.unwrap_or(default_port) == other.port.unwrap_or(default_port)
    }
}

fn check_name(name: &[u8]) -> bool {
    let name = name.strip_suffix(b".").unwrap_or(name);
    if name.len() > 253 {
        return false;
    }
    let mut label = 0_usize;
    for &byte in name {
        if byte != b'.' {
            label += 1;
        } else if label == 0 || label > 63 {
            return false;
        } else {
            label = 0;
        }
    }
    label != 0 && label <= 63
}

fn parse_port(digits: &[u8]) -> Option<u16> {
    if digits.first() == Some(&b'0') || digits.len() > 5 {
        return None;
    }
    let mut port = 0_u32;
    for &digit in digits {
        port = port * 10 + u32::from(digit.is_ascii_digit().then(|| digit - b'0')?);
    }
    u16::try_from(port).ok().filter(|&port| port != 0)
}
