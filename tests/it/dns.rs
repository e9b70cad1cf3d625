//! Endpoints by DNS name and SRV, with a name server that changes its mind.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::net::TcpListener;

use crate::harness::*;

const ONE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 1));
const TWO: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
const THREE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 3));
const SIX: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

/// One upstream whose endpoint is `endpoint`, looked up as `options` say beside the name server.
fn config(endpoint: &str, options: &str) -> String {
    format!(
        r#"
resolver: {{ nameservers: ["@dns@"], timeout: 500ms, {options} }}
listeners: {{ web: {{ bind: "@web@" }} }}
hosts:
  "*":
    routes:
      - {{ path: /, upstream: app }}
      - {{ path: /said, respond: {{ body: "something" }} }}
upstreams: {{ app: {{ balance: round_robin, endpoints: ["{endpoint}"] }} }}
"#
    )
}

async fn proxy(dns: &Dns, endpoint: &str, options: &str) -> Proxy {
    Proxy::start(&config(endpoint, options), &[("dns", &dns.address())]).await
}

/// Back ends on the same port of several addresses; each says its address.
async fn back_ends(addresses: &[IpAddr]) -> (u16, Vec<Backend>) {
    'port: loop {
        let port = reserve().port();
        let mut listeners = Vec::new();
        for address in addresses {
            match TcpListener::bind(SocketAddr::new(*address, port)).await {
                Ok(listener) => listeners.push(listener),
                Err(_) => continue 'port,
            }
        }
        let back_ends = listeners.into_iter().map(|listener| {
            let text = listener.local_addr().expect("bound").ip().to_string();
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{text}", text.len());
            Backend::script_on(listener, move |mut conn| {
                let answer = answer.clone();
                async move {
                    while conn.request().await.is_some() {
                        conn.send(&answer).await;
                    }
                }
            })
        });
        return (port, back_ends.collect());
    }
}

/// Who answered how many of `count` requests.
async fn shares(proxy: &Proxy, count: usize) -> BTreeMap<String, usize> {
    let mut client = Client::connect(proxy.web()).await;
    let mut shares = BTreeMap::new();
    for _ in 0..count {
        let response = client.request("GET", "t", "/").await;
        assert_eq!(response.status, 200, "{response}");
        *shares.entry(response.text()).or_default() += 1;
    }
    shares
}

fn expected<const N: usize>(shares: [(IpAddr, usize); N]) -> BTreeMap<String, usize> {
    shares.into_iter().map(|(address, share)| (address.to_string(), share)).collect()
}

/// Waits until exactly these answer, in these shares.
async fn until_shares<const N: usize>(proxy: &Proxy, what: &str, wanted: [(IpAddr, usize); N]) {
    let wanted = expected(wanted);
    let count = wanted.values().sum();
    eventually(STEP, what, async || {
        let response = get(proxy.web(), "t", "/").await;
        response.status == 200 && shares(proxy, count).await == wanted
    })
    .await;
}

fn looked_up(metrics: &Metrics, name: &str, result: &str) -> f64 {
    metrics.sum("portcullis_dns_lookups_total", &[("name", name), ("result", result)])
}

/// Waits for `count` more look-ups of `name` with this result.
async fn looked_up_again(proxy: &Proxy, name: &str, result: &str, count: f64) {
    let before = looked_up(&proxy.metrics().await, name, result);
    let what = format!("{name} is looked up: {result}");
    proxy.metrics_until(&what, |metrics| looked_up(metrics, name, result) >= before + count).await;
}

#[tokio::test]
async fn the_addresses_of_a_name_are_endpoints_and_share_the_requests() {
    let dns = Dns::start().await;
    let (port, _back_ends) = back_ends(&[ONE, TWO, THREE]).await;
    dns.addresses("app.test", 60, &[ONE, TWO, THREE]);
    let proxy = proxy(&dns, &format!("app.test:{port}"), "").await;
    assert_eq!(shares(&proxy, 30).await, expected([(ONE, 10), (TWO, 10), (THREE, 10)]));
    assert_eq!(looked_up(&proxy.metrics().await, "app.test", "answered"), 1.0);
    assert_eq!(dns.asked("app.test", Kind::A).len(), 1);
}

#[tokio::test]
async fn a_changed_answer_moves_traffic_without_a_reload_and_without_a_lost_request() {
    let dns = Dns::start().await;
    let (port, back_ends) = back_ends(&[ONE, TWO]).await;
    dns.addresses("app.test", 1, &[ONE]);
    let proxy = proxy(&dns, &format!("app.test:{port}"), "").await;
    let generation = |metrics: &Metrics| metrics.sum("portcullis_config_generation", &[]);
    let before = generation(&proxy.metrics().await);
    let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let load: Vec<_> = (0..4)
        .map(|_| {
            let (stop, done, web) = (Arc::clone(&stop), Arc::clone(&done), proxy.web());
            tokio::spawn(async move {
                while !stop.load(Ordering::SeqCst) {
                    let mut client = Client::connect(web).await;
                    for _ in 0..50 {
                        let response = client.request("GET", "t", "/").await;
                        assert_eq!(response.status, 200, "{response}");
                        done.fetch_add(1, Ordering::SeqCst);
                    }
                }
            })
        })
        .collect();
    for (there, gone, address) in [(1, 0, TWO), (0, 1, ONE), (1, 0, TWO)] {
        dns.addresses("app.test", 1, &[address]);
        eventually(STEP, "traffic has moved", async || {
            let (new, old) = (back_ends[there].requests().len(), back_ends[gone].requests().len());
            let more = done.load(Ordering::SeqCst) + 40;
            eventually(STEP, "requests go on", async || done.load(Ordering::SeqCst) > more).await;
            back_ends[gone].requests().len() == old && back_ends[there].requests().len() > new
        })
        .await;
        eventually(STEP, "old connections are closed", async || back_ends[gone].open() == 0).await;
    }
    stop.store(true, Ordering::SeqCst);
    for task in load {
        task.await.expect("no request was lost");
    }
    assert_eq!(generation(&proxy.metrics().await), before, "no configuration was compiled");
}

#[tokio::test]
async fn srv_records_give_ports_and_weights_and_the_lowest_priority_serves() {
    let dns = Dns::start().await;
    let (port, _first) = back_ends(&[ONE, TWO]).await;
    let (other, _second) = back_ends(&[THREE]).await;
    let (spare, spares) = back_ends(&[ONE]).await;
    dns.addresses("one.test", 1, &[ONE]);
    dns.addresses("two.test", 1, &[TWO]);
    dns.bring_along("three.test", THREE);
    let records: [Srv<'_>; 4] = [
        (10, 5, port, "one.test"),
        (10, 3, port, "two.test"),
        (10, 2, other, "three.test"),
        (20, 9, spare, "one.test"),
    ];
    dns.services("_http._tcp.app.test", 1, &records);
    let proxy = proxy(&dns, "srv:_http._tcp.app.test", "").await;
    assert_eq!(shares(&proxy, 100).await, expected([(ONE, 50), (TWO, 30), (THREE, 20)]));
    assert_eq!(spares[0].connections(), 0);
    assert!(!dns.asked("one.test", Kind::A).is_empty(), "not in the answer, so asked for");
    assert!(dns.asked("three.test", Kind::A).is_empty(), "the additional section had it");
    // Other weights, another port, a target less.
    let records = [(10, 1, port, "one.test"), (10, 3, other, "three.test")];
    dns.services("_http._tcp.app.test", 1, &records);
    until_shares(&proxy, "new weights", [(ONE, 10), (THREE, 30)]).await;
    // A target without addresses is left out; where no one of a priority has any, the next serves.
    let records = [(10, 1, port, "two.test"), (10, 1, port, "nowhere.test")];
    dns.services("_http._tcp.app.test", 1, &records);
    until_shares(&proxy, "one of two targets", [(TWO, 4)]).await;
    dns.services(
        "_http._tcp.app.test",
        1,
        &[(10, 1, port, "nowhere.test"), (20, 1, spare, "one.test")],
    );
    until_shares(&proxy, "the next priority", [(ONE, 4)]).await;
    assert!(spares[0].connections() > 0);
    // "Decidedly not available" (RFC 2782) is an answer too.
    dns.services("_http._tcp.app.test", 1, &[(0, 0, 0, ".")]);
    eventually(STEP, "no endpoint is left", async || {
        get(proxy.web(), "t", "/").await.status == 503
    })
    .await;
}

#[tokio::test]
async fn an_srv_target_whose_server_fails_keeps_its_addresses_beside_the_others() {
    let dns = Dns::start().await;
    let (port, _back_ends) = back_ends(&[ONE, TWO, THREE]).await;
    dns.addresses("one.test", 1, &[ONE]);
    dns.addresses("two.test", 1, &[TWO]);
    let records = [(0, 1, port, "one.test"), (0, 1, port, "two.test")];
    dns.services("_http._tcp.app.test", 1, &records);
    let proxy = proxy(&dns, "srv:_http._tcp.app.test", "").await;
    assert_eq!(shares(&proxy, 10).await, expected([(ONE, 5), (TWO, 5)]));
    dns.trouble("two.test", Trouble::ServFail);
    dns.addresses("one.test", 1, &[THREE]);
    until_shares(&proxy, "only one of them has moved", [(THREE, 5), (TWO, 5)]).await;
}

#[tokio::test]
async fn whatever_dns_does_after_a_good_answer_its_endpoints_stay() {
    let dns = Dns::start().await;
    let (port, _back_ends) = back_ends(&[ONE, TWO]).await;
    dns.addresses("app.test", 1, &[ONE]);
    let proxy = proxy(&dns, &format!("app.test:{port}"), "").await;
    for (trouble, result) in [
        (Trouble::ServFail, "failed"),
        (Trouble::Silence, "failed"),
        (Trouble::NoSuchName, "not_found"),
    ] {
        dns.trouble("app.test", trouble);
        looked_up_again(&proxy, "app.test", result, 2.0).await;
        assert_eq!(shares(&proxy, 4).await, expected([(ONE, 4)]), "{trouble:?}");
        dns.mend("app.test");
        looked_up_again(&proxy, "app.test", "answered", 1.0).await;
    }
    proxy.logs("the endpoints of the last answer stay").await;
    proxy.logs("DNS answers again").await;
    let metrics = proxy.metrics().await;
    assert!(metrics.sum("portcullis_dns_last_answer_timestamp_seconds", &[]) > 1.7e9);
    // And the name is still followed.
    dns.addresses("app.test", 1, &[TWO]);
    until_shares(&proxy, "traffic moves", [(TWO, 4)]).await;
}

#[tokio::test]
async fn a_name_that_does_not_exist_yet_is_answered_503_until_it_does() {
    let dns = Dns::start().await;
    let (port, _back_ends) = back_ends(&[ONE]).await;
    let mut proxy = proxy(&dns, &format!("app.test:{port}"), "").await;
    let response = get(proxy.web(), "t", "/").await;
    assert_eq!(response.status, 503);
    assert!(response.text().contains("no_endpoint"), "{response}");
    proxy.logs("there are no endpoints by this name yet").await;
    assert_eq!(proxy.metrics().await.sum("portcullis_dns_last_answer_timestamp_seconds", &[]), 0.0);
    // It is not waited for again when something else is edited.
    let edited = config(&format!("app.test:{port}"), "").replace("something", "another");
    proxy.rewrite(&edited);
    let what = "an edit is live although a name is missing";
    eventually(Duration::from_millis(1500), what, async || {
        get(proxy.web(), "t", "/said").await.text() == "another"
    })
    .await;
    // The SOA of the answer so far says that it holds for an hour.
    dns.addresses("app.test", 1, &[ONE]);
    until_shares(&proxy, "the name is found", [(ONE, 4)]).await;
}

#[tokio::test]
async fn a_server_that_does_not_answer_does_not_hold_up_the_start() {
    let dns = Dns::start().await;
    let (port, _back_ends) = back_ends(&[ONE]).await;
    dns.trouble("app.test", Trouble::Silence);
    let proxy = proxy(&dns, &format!("app.test:{port}"), "").await;
    assert_eq!(get(proxy.web(), "t", "/").await.status, 503);
    assert_eq!(get(proxy.web(), "t", "/said").await.status, 200);
    dns.mend("app.test");
    dns.addresses("app.test", 1, &[ONE]);
    until_shares(&proxy, "the server answers", [(ONE, 4)]).await;
}

#[tokio::test]
async fn a_ttl_of_0_is_asked_for_once_a_second_and_no_more() {
    let dns = Dns::start().await;
    let (port, _back_ends) = back_ends(&[ONE]).await;
    dns.addresses("app.test", 0, &[ONE]);
    let _proxy = proxy(&dns, &format!("app.test:{port}"), "").await;
    eventually(STEP, "it is asked again", async || dns.asked("app.test", Kind::A).len() >= 4).await;
    let asked = dns.asked("app.test", Kind::A);
    for pair in asked.windows(2) {
        let pause = pair[1].at - pair[0].at;
        assert!(pause > Duration::from_millis(950), "asked again after {pause:?}");
    }
}

#[tokio::test]
async fn a_ttl_of_a_day_is_cut_to_what_the_configuration_allows() {
    let dns = Dns::start().await;
    let (port, _back_ends) = back_ends(&[ONE, TWO]).await;
    dns.addresses("app.test", 86_400, &[ONE]);
    let proxy = proxy(&dns, &format!("app.test:{port}"), "max_ttl: 1s").await;
    assert_eq!(shares(&proxy, 4).await, expected([(ONE, 4)]));
    dns.addresses("app.test", 86_400, &[TWO]);
    until_shares(&proxy, "a day has passed quickly", [(TWO, 4)]).await;
}

#[tokio::test]
async fn the_family_says_which_of_a_names_addresses_serve() {
    let dns = Dns::start().await;
    let (port, _back_ends) = back_ends(&[ONE, SIX]).await;
    dns.addresses("app.test", 1, &[ONE, SIX]);
    dns.addresses("six.test", 1, &[SIX]);
    let app = format!("app.test:{port}");
    let mut proxy = proxy(&dns, &app, "").await;
    assert_eq!(shares(&proxy, 10).await, expected([(ONE, 10)]), "mostly they are one server");
    proxy.rewrite(&config(&app, "family: both"));
    until_shares(&proxy, "both", [(ONE, 5), (SIX, 5)]).await;
    proxy.rewrite(&config(&app, "family: ipv6"));
    until_shares(&proxy, "IPv6 alone", [(SIX, 5)]).await;
    proxy.rewrite(&config(&app, "family: ipv4"));
    until_shares(&proxy, "IPv4 alone", [(ONE, 5)]).await;
    proxy.rewrite(&config(&format!("six.test:{port}"), ""));
    until_shares(&proxy, "there is no A", [(SIX, 5)]).await;
}

#[tokio::test]
async fn trouble_with_one_family_moves_nothing_to_the_other() {
    let dns = Dns::start().await;
    let (port, _back_ends) = back_ends(&[ONE, SIX, TWO]).await;
    dns.addresses("app.test", 1, &[ONE, SIX]);
    let app = format!("app.test:{port}");
    let mut proxy = proxy(&dns, &app, "").await;
    dns.trouble_with("app.test", Kind::A, Trouble::ServFail);
    looked_up_again(&proxy, "app.test", "failed", 2.0).await;
    assert_eq!(shares(&proxy, 4).await, expected([(ONE, 4)]), "A may still be there");
    dns.mend("app.test");
    proxy.rewrite(&config(&app, "family: both"));
    until_shares(&proxy, "both", [(ONE, 5), (SIX, 5)]).await;
    dns.trouble_with("app.test", Kind::Aaaa, Trouble::ServFail);
    dns.addresses("app.test", 1, &[TWO]);
    until_shares(&proxy, "A has moved, AAAA stays", [(TWO, 5), (SIX, 5)]).await;
    dns.mend("app.test");
    until_shares(&proxy, "AAAA is gone", [(TWO, 5)]).await;
}

#[tokio::test]
async fn an_answer_too_long_for_udp_is_fetched_over_tcp() {
    let dns = Dns::start().await;
    let (port, _back_ends) = back_ends(&[ONE]).await;
    dns.addresses("app.test", 60, &[ONE]);
    dns.trouble("app.test", Trouble::Truncated);
    let proxy = proxy(&dns, &format!("app.test:{port}"), "").await;
    assert_eq!(shares(&proxy, 4).await, expected([(ONE, 4)]));
    assert!(dns.asked("app.test", Kind::A).iter().any(|asked| asked.tcp));
}

#[tokio::test]
async fn a_name_of_a_thousand_addresses_has_a_thousand_endpoints() {
    let dns = Dns::start().await;
    // All of 127.0.0.0/8 is this machine.
    let any = TcpListener::bind("0.0.0.0:0").await.expect("a free port");
    let port = any.local_addr().expect("bound").port();
    let back_end = Backend::script_on(any, |mut conn| async move {
        while conn.request().await.is_some() {
            conn.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
        }
    });
    let addresses: Vec<IpAddr> = (0..1000u16)
        .map(|n| Ipv4Addr::new(127, 1, (n / 250) as u8, (n % 250) as u8 + 1).into())
        .collect();
    dns.addresses("app.test", 60, &addresses);
    dns.trouble("app.test", Trouble::Truncated); // they only fit over TCP
    let proxy = proxy(&dns, &format!("app.test:{port}"), "").await;
    assert_eq!(proxy.metrics().await.sum("portcullis_endpoint_up", &[]), 1000.0);
    let mut client = Client::connect(proxy.web()).await;
    for _ in 0..1000 {
        assert_eq!(client.request("GET", "t", "/").await.status, 200);
    }
    assert_eq!(back_end.connections(), 1000, "each had its turn");
}

#[tokio::test]
async fn other_name_servers_are_asked_as_soon_as_the_configuration_says_so() {
    let (dns, other) = (Dns::start().await, Dns::start().await);
    let (port, _back_ends) = back_ends(&[ONE, TWO]).await;
    dns.addresses("app.test", 3600, &[ONE]);
    other.addresses("app.test", 3600, &[TWO]);
    let app = format!("app.test:{port}");
    let mut proxy = proxy(&dns, &app, "").await;
    assert_eq!(shares(&proxy, 4).await, expected([(ONE, 4)]));
    let edited = config(&app, "").replace("@dns@", &other.address().to_string());
    proxy.rewrite(&edited);
    until_shares(&proxy, "the other one's answer", [(TWO, 4)]).await;
}
