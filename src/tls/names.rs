//! Host names as certificates state them, and the table that finds who covers a name.
//!
//! Names are compared as lower-case ASCII without a trailing dot. A wildcard is a whole first label
//! and stands for exactly one (RFC 9525 §6.3); `w*.example.com` and a bare `*` match nothing.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::net::Ipv6Addr;

/// A name of a certificate that can be matched.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum CertificateName {
    /// This host (or address, in its usual text form).
    Exact(Box<str>),
    /// One label before this suffix, kept without the star.
    Wildcard(Box<str>),
}

impl CertificateName {
    /// Reads the name as a certificate states it; `None` for what can match no host.
    pub(super) fn parse(name: &str) -> Option<Self> {
        let name = fold(name);
        match name.strip_prefix("*.") {
            Some(suffix) => is_host(suffix).then(|| Self::Wildcard(suffix.into())),
            None => is_host(&name).then(|| Self::Exact(name.into())),
        }
    }

    /// Whether a certificate of this name is valid for every host that `other` stands for.
    pub(super) fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Wildcard(suffix), Self::Exact(host)) => host
                .split_once('.')
                .is_some_and(|(label, rest)| !label.is_empty() && *rest == **suffix),
            (own, other) => own == other,
        }
    }
}

impl fmt::Display for CertificateName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(host) => f.write_str(host),
            Self::Wildcard(suffix) => write!(f, "*.{suffix}"),
        }
    }
}

/// Which certificates, by index, cover a name.
#[derive(Debug, Default)]
pub(super) struct NameTable {
    exact: HashMap<Box<str>, Vec<u32>, foldhash::fast::RandomState>,
    wildcard: HashMap<Box<str>, Vec<u32>, foldhash::fast::RandomState>,
}

/// The certificates that cover one name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Covering<'a> {
    /// Those that state the name itself.
    pub(super) exact: &'a [u32],
    /// Those that cover it by a wildcard.
    pub(super) wildcard: &'a [u32],
}

impl<'a> Covering<'a> {
    /// Whether no certificate covers the name.
    pub(super) fn is_empty(self) -> bool {
        self.exact.is_empty() && self.wildcard.is_empty()
    }

    /// Those that state the name, then those with a wildcard.
    pub(super) fn iter(self) -> impl Iterator<Item = u32> + Clone + use<'a> {
        self.exact.iter().chain(self.wildcard).copied()
    }
}

impl NameTable {
    /// Adds certificate `index`. Within one name the order of insertion is kept.
    pub(super) fn insert(&mut self, name: &CertificateName, index: u32) {
        let entry = match name {
            CertificateName::Exact(host) => self.exact.entry(host.clone()),
            CertificateName::Wildcard(suffix) => self.wildcard.entry(suffix.clone()),
        };
        let covering = entry.or_default();
        if !covering.contains(&index) {
            covering.push(index);
        }
    }

    /// Which certificates cover `name`, in any letter case, an IPv6 address with or without
    /// brackets. Allocates only when the name is not in its usual form.
    pub(super) fn lookup(&self, name: &str) -> Covering<'_> {
        let name = canonical(name);
        let exact = self.exact.get(&*name).map_or(&[][..], Vec::as_slice);
        let wildcard = match name.split_once('.') {
            Some((label, suffix)) if !label.is_empty() => {
                self.wildcard.get(suffix).map_or(&[][..], Vec::as_slice)
            }
            _ => &[],
        };
        Covering { exact, wildcard }
    }
}

/// Whether `a` and `b` are the same host.
pub(super) fn same_host(a: &str, b: &str) -> bool {
    let (a, b) = (without_dot(a), without_dot(b));
    a.eq_ignore_ascii_case(b) || (a.contains(':') && canonical(a) == canonical(b))
}

fn canonical(name: &str) -> Cow<'_, str> {
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    match bare.parse::<Ipv6Addr>() {
        Ok(address) => Cow::Owned(address.to_string()),
        Err(_) => fold(name),
    }
}

fn fold(name: &str) -> Cow<'_, str> {
    let name = without_dot(name);
    if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(name.to_ascii_lowercase())
    } else {
        Cow::Borrowed(name)
    }
}

fn without_dot(name: &str) -> &str {
    name.strip_suffix('.').unwrap_or(name)
}

fn is_host(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 253
        && name.split('.').all(|label| !label.is_empty())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b':'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// RFC 9525 §6.3 label by label, with nothing shared with the table.
    fn covers(pattern: &str, host: &str) -> bool {
        let pattern = pattern.to_ascii_lowercase();
        let host = host.to_ascii_lowercase();
        let (pattern, host) = (pattern.trim_end_matches('.'), host.trim_end_matches('.'));
        let pattern: Vec<&str> = pattern.split('.').collect();
        let host: Vec<&str> = host.split('.').collect();
        pattern.len() == host.len()
            && pattern.iter().zip(&host).enumerate().all(|(index, (p, h))| match *p {
                "*" => index == 0 && pattern.len() > 1 && !h.is_empty(),
                _ => !p.contains('*') && p == h,
            })
    }

    fn label() -> impl Strategy<Value = String> {
        prop_oneof!["[ab]", "[AB]", Just("xn--a".to_owned())]
    }

    fn host() -> impl Strategy<Value = String> {
        (prop::collection::vec(label(), 1..4), prop_oneof![Just(""), Just(".")])
            .prop_map(|(labels, dot)| labels.join(".") + dot)
    }

    fn pattern() -> impl Strategy<Value = String> {
        prop_oneof![
            host(),
            host().prop_map(|host| format!("*.{host}")),
            host().prop_map(|host| format!("a*.{host}")),
            host().prop_map(|host| format!("a.*.{host}")),
            Just("*".to_owned()),
        ]
    }

    proptest! {
        #[test]
        fn the_table_covers_what_a_label_by_label_reading_covers(
            patterns in prop::collection::vec(pattern(), 0..12),
            host in host(),
        ) {
            let mut table = NameTable::default();
            for (index, pattern) in patterns.iter().enumerate() {
                if let Some(name) = CertificateName::parse(pattern) {
                    table.insert(&name, index as u32);
                }
            }
            let mut found: Vec<u32> = table.lookup(&host).iter().collect();
            found.sort_unstable();
            let expected: Vec<u32> = (0..)
                .zip(&patterns)
                .filter(|(_, pattern)| covers(pattern, &host))
                .map(|(index, _)| index)
                .collect();
            prop_assert_eq!(found, expected);
        }
    }

    #[test]
    fn an_address_is_found_however_it_is_written() {
        let mut table = NameTable::default();
        table.insert(&CertificateName::parse("2001:db8::1").unwrap(), 0);
        table.insert(&CertificateName::parse("10.0.0.1").unwrap(), 1);
        assert_eq!(table.lookup("[2001:DB8:0::1]").exact, [0]);
        assert_eq!(table.lookup("10.0.0.1").exact, [1]);
        assert!(same_host("[2001:db8::1]", "2001:db8:0::1"));
    }
}
