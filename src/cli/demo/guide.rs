//! What the demo prints when it starts: the shop's endpoints, and six things to try.

use std::fmt::Write;

use super::config::DemoListeners;
use super::shop::Shop;

/// The whole greeting of `portcullis demo`; access log lines follow it.
pub fn greeting(shop: &Shop, listeners: &DemoListeners) -> String {
    let (web, websecure) = urls(listeners);
    let mut out = format!("The shop's back ends:\n{}", backends_table(shop));
    // Here and below: writing to a String cannot fail.
    let _ = writeln!(out, "\nPortcullis serves them on {web} and {websecure}. Six things to try:");
    for (number, entry) in (1..).zip(what_to_try(listeners)) {
        let _ = writeln!(out, "\n{number}. {}", entry.title);
        for command in entry.commands {
            let _ = writeln!(out, "   {command}");
        }
    }
    out.push_str("\nRequests as they come (Ctrl-C ends):\n");
    out
}

/// Something to try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Try {
    /// What it shows.
    pub title: String,
    /// Shell commands, in order; a browser is a `#` line.
    pub commands: Vec<String>,
}

/// Six things to try.
pub fn what_to_try(listeners: &DemoListeners) -> [Try; 6] {
    let (web, websecure) = urls(listeners);
    let look = match listeners.admin {
        Some(admin) => vec![
            format!("curl -s http://{admin}/metrics | grep '^portcullis_requests'"),
            format!("curl -s 'http://{admin}/api/explain?url={web}/api/products/brass-key'"),
        ],
        None => {
            vec!["# restart with --admin 127.0.0.1:9900 to have metrics and explain".to_owned()]
        }
    };
    let entry = |title: &str, commands: Vec<String>| Try { title: title.to_owned(), commands };
    [
        entry(
            "The shop in a browser; one visit in ten is sent to the new storefront",
            vec![format!("# open {web}/ and press reload a few times")],
        ),
        entry(
            "Balancing and request ids: other endpoints, other ids",
            vec![format!("for i in 1 2 3 4; do curl -s {web}/products/brass-key | head -3; done")],
        ),
        entry(
            "A cart by cookie, then an order: 201 with a Location",
            vec![
                format!(
                    "curl -s -c /tmp/shop.jar -b /tmp/shop.jar -d product=storm-lantern {web}/cart"
                ),
                format!("curl -si -b /tmp/shop.jar -X POST {web}/orders"),
            ],
        ),
        entry(
            "HTTPS and HTTP/2; from plain to secure by a redirect",
            vec![
                format!(
                    "curl -sk --http2 -o /dev/null -w '%{{http_version}} %{{http_code}}\\n' {websecure}/"
                ),
                format!("curl -sI {web}/secure"),
            ],
        ),
        entry(
            "Streams: server-sent events, and a WebSocket to talk over",
            vec![
                format!("curl -sN --max-time 5 {web}/reviews/live"),
                format!("# open {web}/support twice and talk to yourself"),
            ],
        ),
        entry("What the proxy saw, and why a request goes where it goes", look),
    ]
}

/// The services, their endpoints and their speeds, a line each.
pub fn backends_table(shop: &Shop) -> String {
    let mut out = String::new();
    for service in shop.services() {
        for endpoint in &service.endpoints {
            let (from, to) = (endpoint.speed.0.as_millis(), endpoint.speed.1.as_millis());
            let speed = format!("{from}-{to} ms");
            let (name, address) = (&endpoint.name, endpoint.address);
            let paths = service.paths.join(" ");
            let _ = writeln!(out, "  {name:<18} {paths:<10} {address:<22} {speed:>10}");
        }
    }
    out
}

/// The base URLs of `web` and `websecure`.
fn urls(listeners: &DemoListeners) -> (String, String) {
    let host = host(listeners);
    (format!("http://{host}:{}", listeners.http), format!("https://{host}:{}", listeners.https))
}

/// The address a client on this machine uses.
fn host(listeners: &DemoListeners) -> String {
    match listeners.address {
        address if address.is_unspecified() => "127.0.0.1".to_owned(),
        std::net::IpAddr::V4(address) => address.to_string(),
        std::net::IpAddr::V6(address) => format!("[{address}]"),
    }
}
