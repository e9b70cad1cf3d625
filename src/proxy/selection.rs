//! What of a request decides its endpoint: the key of consistent hashing, and its session.

use std::net::IpAddr;

use http::HeaderValue;
use http::header::{COOKIE, SET_COOKIE};
use http::{HeaderMap, HeaderName};

use super::{Context, Request};
use crate::filter::RequestTarget;
use crate::ir::{AffinityMode, Balance, HashInput, HashPolicy};
use crate::upstream::balance::Session;
use crate::upstream::{Affinity, Endpoint, Upstream};
use crate::util::random::Random;

/// What of a request may decide its endpoint.
#[derive(Clone, Copy, Debug)]
pub struct Sight<'a> {
    /// The client's address as far as it is believed; `None` where there is no client yet.
    pub client: Option<IpAddr>,
    /// The host asked for, without port.
    pub host: &'a str,
    /// The target.
    pub target: &'a RequestTarget,
    /// The header fields.
    pub headers: &'a HeaderMap,
}

/// What decides the endpoint of one request; the same for all of its attempts.
#[derive(Clone, Copy, Debug, Default)]
pub struct Selection {
    /// The hash of what the upstream hashes.
    pub key: Option<u64>,
    /// The session.
    pub session: Option<Session>,
    /// Whether the client showed the session, rather than being given it now.
    pub shown: bool,
}

impl Selection {
    /// What `upstream` looks at in `request`.
    pub fn of(upstream: &Upstream, request: &Request) -> Self {
        // Most upstreams look at nothing.
        if upstream.affinity.is_none()
            && !matches!(upstream.spec.balance.algorithm, Balance::Hash(_))
        {
            return Self::default();
        }
        let sight = Sight {
            client: Some(request.context.client.get()),
            host: request.host.name(),
            target: &request.target,
            headers: &request.headers,
        };
        Self::at_sight(upstream, &sight, || request.context.worker.random())
    }

    /// What `upstream` looks at in a request that looks like that; `random` draws the key of a
    /// new session.
    pub fn at_sight(upstream: &Upstream, sight: &Sight<'_>, random: impl FnOnce() -> u64) -> Self {
        let key = match &upstream.spec.balance.algorithm {
            Balance::Hash(policy) => key(policy, sight),
            _ => None,
        };
        let Some(affinity) = &upstream.affinity else {
            return Self { key, ..Self::default() };
        };
        match affinity {
            Affinity::Cookie(cookie) => {
                let shown = cookie.read(sight.headers);
                let mode = upstream.spec.balance.affinity.as_ref().map(|affinity| affinity.mode);
                // A persistent session begins wherever the balancer sends it.
                let new = (mode == Some(AffinityMode::Balanced))
                    .then(|| Session { key: random(), bound: None });
                Self { key, session: shown.or(new), shown: shown.is_some() }
            }
            Affinity::Header(name) => {
                let mut hash = Hash::default();
                let found = hash.header(sight.headers, name);
                let session = found.then(|| Session { key: hash.finish(), bound: None });
                Self { key, session, shown: true }
            }
        }
    }

    /// Gives the client its session where `endpoint`, which answered, is not the one it showed.
    pub fn remember(
        &self,
        upstream: &Upstream,
        endpoint: &Endpoint,
        context: &Context,
        headers: &mut HeaderMap,
    ) {
        let Some(Affinity::Cookie(cookie)) = &upstream.affinity else { return };
        let bound = Some(endpoint.token);
        if self.shown && self.session.is_some_and(|session| session.bound == bound) {
            return;
        }
        let random = Random::new(context.worker.random());
        let set = upstream.endpoints();
        let leads_here = |session: &Session| set.is_home(session, endpoint);
        let key = match self.session {
            Some(session) if leads_here(&session) => session.key,
            // Its endpoint failed it just now; whether the session moves for good is a choice.
            Some(_) if self.shown && !cookie.changes_on_failure() => return,
            _ => set.key_for(endpoint, random).unwrap_or(context.worker.random()),
        };
        let session = Session { key, bound };
        if let Some(value) = cookie.write(session, context.conn.secure) {
            headers.append(SET_COOKIE, value);
        }
    }
}

/// The hash of what `policy` names; `None` where the request has none of it.
fn key(policy: &HashPolicy, sight: &Sight<'_>) -> Option<u64> {
    let mut hash = Hash::default();
    let mut found = false;
    for input in &policy.on {
        found |= match input {
            HashInput::ClientIp => sight.client.is_some_and(|client| hash.client(client)),
            HashInput::Cookie(name) => hash.cookie(sight.headers, name),
            HashInput::Header(name) => hash.header(sight.headers, name),
            HashInput::Host => hash.bytes(sight.host.as_bytes()),
            HashInput::Path => hash.bytes(sight.target.path().as_bytes()),
            HashInput::Query(name) => hash.query(sight.target.query(), name),
            HashInput::Uri => hash.bytes(sight.target.as_str().as_bytes()),
        };
        hash.separate();
    }
    found.then(|| hash.finish())
}

/// FNV-1a with MurmurHash3's finalizer: the same in every process, which replicas rely on.
struct Hash(u64);

impl Default for Hash {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hash {
    fn bytes(&mut self, bytes: &[u8]) -> bool {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        true
    }

    /// Keeps parts apart: no byte of a text has this value.
    fn separate(&mut self) {
        self.0 = (self.0 ^ 0x1ff).wrapping_mul(0x0000_0100_0000_01b3);
    }

    /// One provider gives one household or server a /64, in which addresses change.
    fn client(&mut self, client: std::net::IpAddr) -> bool {
        match client.to_canonical() {
            std::net::IpAddr::V4(address) => self.bytes(&address.octets()),
            std::net::IpAddr::V6(address) => {
                self.bytes(address.octets().get(..8).unwrap_or_default())
            }
        }
    }

    /// Fields of one name count as one list.
    fn header(&mut self, headers: &HeaderMap, name: &HeaderName) -> bool {
        let mut fields = headers.get_all(name).iter().map(HeaderValue::as_bytes);
        let found = fields.next().is_some_and(|first| self.bytes(first));
        for field in fields {
            self.bytes(b", ");
            self.bytes(field);
        }
        found
    }

    fn cookie(&mut self, headers: &HeaderMap, name: &str) -> bool {
        let fields = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes);
        let mut pairs = fields.flat_map(|field| field.split(|byte| *byte == b';'));
        let value = pairs.find_map(|pair| {
            let pair = pair.trim_ascii();
            pair.strip_prefix(name.as_bytes()).and_then(|rest| rest.strip_prefix(b"="))
        });
        value.is_some_and(|value| self.bytes(value))
    }

    /// The raw text: whoever writes a value in two ways may meet two endpoints.
    fn query(&mut self, query: Option<&str>, name: &str) -> bool {
        let mut pairs = query.unwrap_or_default().split('&');
        let value = pairs.find_map(|pair| match pair.split_once('=') {
            Some((key, value)) => (key == name).then_some(value),
            None => (pair == name && !name.is_empty()).then_some(""),
        });
        value.is_some_and(|value| self.bytes(value.as_bytes()))
    }

    fn finish(self) -> u64 {
        let mut z = self.0;
        z = (z ^ (z >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        z = (z ^ (z >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
        z ^ (z >> 33)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hashed(feed: impl FnOnce(&mut Hash) -> bool) -> Option<u64> {
        let mut hash = Hash::default();
        feed(&mut hash).then(|| hash.finish())
    }

    fn client(text: &str) -> Option<u64> {
        hashed(|hash| hash.client(text.parse().unwrap()))
    }

    #[test]
    fn addresses_of_one_ipv6_network_are_one_client() {
        assert_eq!(client("2001:db8:1:2::1"), client("2001:db8:1:2:ffff::9"));
        assert_ne!(client("2001:db8:1:2::1"), client("2001:db8:1:3::1"));
        assert_ne!(client("10.0.0.1"), client("10.0.0.2"));
        assert_eq!(client("::ffff:10.0.0.1"), client("10.0.0.1"));
    }

    #[test]
    fn a_cookie_is_found_by_its_whole_name() {
        let headers = HeaderMap::from_iter([(
            COOKIE,
            HeaderValue::from_static("xuser=1; user=anna; user=berta"),
        )]);
        let find = |name: &str| hashed(|hash| hash.cookie(&headers, name));
        assert_eq!(find("user"), hashed(|hash| hash.bytes(b"anna")));
        assert_eq!(find("use"), None);
    }

    #[test]
    fn a_query_parameter_is_found_by_its_whole_name() {
        let find = |query, name: &str| hashed(|hash| hash.query(query, name));
        assert_eq!(find(Some("xid=1&id=7&id=8"), "id"), hashed(|hash| hash.bytes(b"7")));
        assert_eq!(find(Some("id"), "id"), hashed(|hash| hash.bytes(b"")));
        assert_eq!(find(Some("idx=1"), "id"), None);
        assert_eq!(find(None, "id"), None);
    }

    #[test]
    fn parts_do_not_run_into_each_other() {
        let two = |a: &[u8], b: &[u8]| {
            hashed(|hash| {
                hash.bytes(a);
                hash.separate();
                hash.bytes(b)
            })
        };
        assert_ne!(two(b"ab", b"c"), two(b"a", b"bc"));
    }
}
