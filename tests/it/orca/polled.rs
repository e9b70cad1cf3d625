//! Load that the proxy asks for: reports (ORCA) and Prequal's probes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::{SILENT, busy, endpoint, over, over_one, reports, share};
use crate::harness::*;

/// A back end that answers `GET /load` with `told`, formatted by `as_json`, and requests with its
/// name after `pause` and with a report in their head that says that it is idle. It tells nothing
/// while `told` is [`SILENT`].
async fn telling(
    name: &'static str,
    pause: Duration,
    told: Arc<AtomicUsize>,
    as_json: fn(usize) -> String,
) -> Backend {
    Backend::script(move |mut conn| {
        let told = told.clone();
        async move {
            while let Some(request) = conn.request().await {
                let (status, body) = match (&*request.target, told.load(Ordering::SeqCst)) {
                    ("/load", SILENT) => (503, String::new()),
                    ("/load", told) => (200, as_json(told)),
                    _ => {
                        pass(pause).await;
                        (200, name.into())
                    }
                };
                let length = body.len();
                let report = "Endpoint-Load-Metrics: TEXT cpu_utilization=0.01";
                conn.send(format!(
                    "HTTP/1.1 {status} X\r\nContent-Length: {length}\r\n{report}\r\n\r\n{body}"
                ))
                .await;
            }
        }
    })
    .await
}

fn utilization(percent: usize) -> String {
    format!("{{\"application_utilization\": {}}}", percent as f64 / 100.0)
}

#[tokio::test]
async fn load_is_polled_and_forgotten_when_it_is_no_longer_told() {
    let (busy_a, busy_b) = (busy(90), busy(10));
    let a = telling("a", Duration::ZERO, busy_a.clone(), utilization).await;
    let b = telling("b", Duration::ZERO, busy_b.clone(), utilization).await;
    let balance = "{ least_utilization: { poll: /load, interval: 200ms } }";
    let proxy = over(balance, &a, &b).await;
    eventually(STEP, "both are known", async || {
        endpoint(&proxy, &a).await["utilization"] == 0.9
            && endpoint(&proxy, &b).await["utilization"] == 0.1
    })
    .await;
    let mut client = Client::connect(proxy.web()).await;
    eventually(STEP, "all goes to b", async || share(&mut client, 20).await == (0, 20)).await;
    assert_eq!(endpoint(&proxy, &b).await["utilization"], 0.1, "only what is polled counts");
    busy_a.store(10, Ordering::SeqCst);
    busy_b.store(90, Ordering::SeqCst);
    eventually(STEP, "all goes to a", async || share(&mut client, 20).await == (20, 0)).await;
    busy_a.store(SILENT, Ordering::SeqCst);
    busy_b.store(SILENT, Ordering::SeqCst);
    eventually(STEP, "neither is known any more", async || {
        let (a, b) = share(&mut client, 20).await;
        a > 2 && b > 2
    })
    .await;
    assert!(reports(&proxy, "accepted").await >= 4.0);
    assert!(reports(&proxy, "failed").await >= 2.0);
}

#[tokio::test]
async fn weights_follow_load_that_is_polled() {
    fn report(rate: usize) -> String {
        format!("{{\"cpu_utilization\": 0.5, \"rps_fractional\": {rate}}}")
    }
    let (fast, slow) = (busy(300), busy(100));
    let a = telling("a", Duration::ZERO, fast, report).await;
    let b = telling("b", Duration::ZERO, slow.clone(), report).await;
    let balance =
        "{ weighted_by_load: { poll: /load, interval: 100ms, blackout: off, update: 100ms } }";
    let proxy = over(balance, &a, &b).await;
    let weighs = async |backend: &Backend, weight: f64| {
        let now = endpoint(&proxy, backend).await["effective_weight"].as_f64();
        now.is_some_and(|now| (now - weight).abs() < 0.01)
    };
    eventually(STEP, "a weighs three times as much", async || {
        weighs(&a, 1.5).await && weighs(&b, 0.5).await
    })
    .await;
    let mut client = Client::connect(proxy.web()).await;
    let (to_a, to_b) = share(&mut client, 80).await;
    assert!((57..=63).contains(&to_a), "{to_a} to {to_b}");
    slow.store(300, Ordering::SeqCst);
    eventually(STEP, "both weigh the same", async || {
        weighs(&a, 1.0).await && weighs(&b, 1.0).await
    })
    .await;
}

#[tokio::test]
async fn prequal_avoids_the_slow_endpoint() {
    let slow = telling("a", Duration::from_millis(100), busy(SILENT), utilization).await;
    let fast = telling("b", Duration::ZERO, busy(SILENT), utilization).await;
    let proxy = over("prequal", &slow, &fast).await;
    let mut client = Client::connect(proxy.web()).await;
    let (slow, fast) = share(&mut client, 100).await;
    assert!(slow <= 10, "{slow} to the slow one, {fast} to the fast one");
}

#[tokio::test]
async fn prequal_believes_probes_of_endpoints_that_others_load() {
    fn probe(rif: usize) -> String {
        format!("{{\"rif\": {rif}, \"latency_ms\": {rif}}}")
    }
    let (a, b) = (busy(500), busy(1));
    // As this proxy sees it b is the slower one.
    let one = telling("a", Duration::ZERO, a.clone(), probe).await;
    let two = telling("b", Duration::from_millis(20), b.clone(), probe).await;
    let balance = "{ prequal: { probe_path: /load, max_age: 1s } }";
    let proxy = over(balance, &one, &two).await;
    let mut client = Client::connect(proxy.web()).await;
    eventually(STEP, "all goes to b", async || share(&mut client, 20).await == (0, 20)).await;
    a.store(SILENT, Ordering::SeqCst);
    b.store(SILENT, Ordering::SeqCst);
    eventually(STEP, "all goes to a", async || share(&mut client, 20).await == (20, 0)).await;
    assert!(reports(&proxy, "accepted").await >= 2.0);
}

#[tokio::test]
async fn probes_that_make_no_sense_are_counted_and_ignored() {
    fn nonsense(number: usize) -> String {
        let bodies =
            ["", "{}", "{\"rif\": -1, \"latency_ms\": 1}", "{\"rif\": 1, \"latency_ms\": -1}"];
        bodies[number % bodies.len()].into()
    }
    let told = busy(0);
    let a = telling("a", Duration::ZERO, told.clone(), nonsense).await;
    let proxy = over_one("{ prequal: { probe_path: /load, max_age: 100ms } }", &a).await;
    for number in 1..4 {
        told.store(number, Ordering::SeqCst);
        let before = reports(&proxy, "malformed").await;
        eventually(STEP, "it is probed", async || {
            reports(&proxy, "malformed").await > before + 1.0
        })
        .await;
        assert_eq!(get(proxy.web(), "t", "/").await.status, 200);
    }
    assert_eq!(reports(&proxy, "accepted").await, 0.0);
}
