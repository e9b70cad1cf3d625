//! Who may ask: keeps web pages of elsewhere from reading a listener on loopback.
//!
//! A page can make a browser send requests to 127.0.0.1 under its own name (DNS rebinding) and
//! read the answers. Such a request carries the page's name as its host; one by a person or a
//! tool on this machine carries an address or `localhost`.

use std::net::{IpAddr, SocketAddr};

use http::header::HOST;
use http::uri::Authority;
use http::{HeaderMap, Uri};

/// Whether the host of a request may be answered by the listener at `bound`.
pub(super) fn admits(bound: SocketAddr, uri: &Uri, headers: &HeaderMap) -> bool {
    if !bound.ip().is_loopback() {
        return true;
    }
    uri.authority().is_none_or(is_local)
        && headers.get_all(HOST).iter().all(|value| {
            Authority::try_from(value.as_bytes()).is_ok_and(|authority| is_local(&authority))
        })
}

fn is_local(authority: &Authority) -> bool {
    let host = authority.host();
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    bare.parse::<IpAddr>().is_ok() || host.eq_ignore_ascii_case("localhost")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admitted(bound: &str, host: &'static str) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, http::HeaderValue::from_static(host));
        admits(bound.parse().unwrap(), &Uri::from_static("/api/status"), &headers)
    }

    #[test]
    fn on_loopback_only_addresses_and_localhost_are_answered() {
        for host in ["127.0.0.1:9900", "[::1]:9900", "localhost:9900", "LOCALHOST", "10.0.0.1"] {
            assert!(admitted("127.0.0.1:9900", host), "{host}");
        }
        for host in
            ["evil.example", "evil.example:9900", "localhost.evil.example", "127.0.0.1.x", ""]
        {
            assert!(!admitted("127.0.0.1:9900", host), "{host}");
            assert!(!admitted("[::1]:9900", host), "{host}");
        }
    }

    #[test]
    fn a_listener_the_network_reaches_has_names() {
        assert!(admitted("0.0.0.0:9900", "portcullis.edge.svc"));
    }

    #[test]
    fn the_host_of_an_absolute_target_counts_as_well() {
        let bound = "127.0.0.1:9900".parse().unwrap();
        let uri = Uri::from_static("http://evil.example/api/status");
        assert!(!admits(bound, &uri, &HeaderMap::new()));
    }
}
