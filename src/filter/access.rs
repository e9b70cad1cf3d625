//! Which client addresses may use a route.

use std::net::IpAddr;

use super::Networks;
use crate::ir;

/// An access list ready to ask.
#[derive(Debug)]
pub struct AccessList {
    allow: Networks,
    deny: Networks,
}

impl AccessList {
    /// Compiles a list.
    pub fn new(list: &ir::AccessList) -> Self {
        Self { allow: Networks::new(&list.allow), deny: Networks::new(&list.deny) }
    }

    /// Whether `client` may use the route: not where it is denied, nor where others are allowed
    /// and it is not.
    pub fn admits(&self, client: IpAddr) -> bool {
        !self.deny.contains(client) && (self.allow.is_empty() || self.allow.contains(client))
    }

    /// Whether `client` is among those that are named as allowed, and not merely not denied.
    pub fn names(&self, client: IpAddr) -> bool {
        !self.allow.is_empty() && self.admits(client)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn denied_comes_before_allowed_and_others_only_where_nobody_is_allowed() {
        let list = |allow: &[&str], deny: &[&str]| {
            let nets = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
            AccessList::new(&ir::AccessList { allow: nets(allow), deny: nets(deny) })
        };
        let admitted = |list: &AccessList| {
            ["10.0.0.1", "10.0.1.1", "192.0.2.1"].map(|text| list.admits(text.parse().unwrap()))
        };
        assert_eq!(admitted(&list(&[], &[])), [true; 3]);
        assert_eq!(admitted(&list(&["10.0.0.0/8"], &[])), [true, true, false]);
        assert_eq!(admitted(&list(&[], &["10.0.1.0/24"])), [true, false, true]);
        assert_eq!(admitted(&list(&["10.0.0.0/8"], &["10.0.1.0/24"])), [true, false, false]);
        assert_eq!(admitted(&list(&["10.0.1.1/32"], &["10.0.0.0/8"])), [false; 3]);
    }
}
