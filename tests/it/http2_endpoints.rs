//! HTTP/2 endpoints that leave, break rules or say too much: what becomes of the requests on
//! their connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use tokio::sync::Notify;

use crate::harness::*;

async fn h2c_proxy(address: std::net::SocketAddr, route: &str) -> Proxy {
    let config = format!(
        r#"
workers: 1
listeners: {{ web: {{ bind: "@web@" }} }}
hosts: {{ "*": {{ routes: [ {{ path: /, upstream: app, {route} }} ] }} }}
upstreams: {{ app: {{ protocol: h2c, endpoints: ["@app@"] }} }}
"#
    );
    Proxy::start(&config, &[("app", &address)]).await
}

#[tokio::test]
async fn an_endpoint_that_leaves_costs_the_next_request_nothing() {
    let end = Arc::new(Notify::new());
    let told = Arc::clone(&end);
    let app = H2Backend::script(move |mut call| {
        let end = Arc::clone(&told);
        async move {
            if call.path() != "/stay" {
                return call.say("next");
            }
            let mut body = call.begin(200);
            call.leave().await;
            let _ = body.send_data(Bytes::from_static(b"first,"), false);
            end.notified().await;
            let _ = body.send_data(Bytes::from_static(b"last"), true);
        }
    })
    .await;
    let proxy = h2c_proxy(app.address(), "retry: { attempts: 0 }").await;
    let mut h2 = H2::connect(proxy.web()).await;
    let (response, _) = h2.open(get_request("t", "/stay"), true).await.expect("a stream");
    let mut body = within(STEP, "the head", response).await.expect("a response").into_body();
    // Sent after the GOAWAY, so that has arrived, too.
    let data = within(STEP, "the data", body.data()).await.expect("open").expect("data");
    assert_eq!(data, "first,");

    for _ in 0..3 {
        let next = get(proxy.web(), "t", "/next").await;
        assert_eq!((next.status, next.text().as_str()), (200, "next"));
    }
    assert_eq!(app.connections(), 2, "on a new connection");
    let metrics = proxy.metrics().await;
    assert_eq!(metrics.sum("portcullis_upstream_errors_total", &[]), 0.0);

    end.notify_one();
    let data = within(STEP, "the rest", body.data()).await.expect("open").expect("data");
    assert_eq!(data, "last", "the stream under way goes on to its end");
    assert!(within(STEP, "the end", body.data()).await.is_none());
}

/// A frame (RFC 9113 §4.1) of up to 255 bytes on a stream of a low number.
fn raw_frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).expect("a short frame");
    [&[0, 0, length, kind, flags, 0, 0, 0, stream], payload].concat()
}

#[tokio::test]
async fn a_request_on_a_connection_that_breaks_the_rules_is_repeated_where_that_is_safe() {
    const HEADERS: u8 = 1;
    const SETTINGS: u8 = 4;
    let connections = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&connections);
    let app = Backend::script(move |mut conn| {
        let broken = counter.fetch_add(1, Ordering::SeqCst) == 0;
        async move {
            if conn.exactly(24).await.is_none() {
                return;
            }
            conn.send(raw_frame(SETTINGS, 0, 0, b"")).await;
            while let Some(head) = conn.exactly(9).await {
                let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
                let _ = conn.exactly(length).await;
                match (head[3], head[4] & 1) {
                    (SETTINGS, 0) => conn.send(raw_frame(SETTINGS, 1, 0, b"")).await,
                    // DATA belongs to a stream, and this to none.
                    (HEADERS, _) if broken => conn.send(raw_frame(0, 0, 0, b"x")).await,
                    // `:status: 200`, the end of the header section and of the stream.
                    (HEADERS, _) => conn.send(raw_frame(HEADERS, 5, head[8], &[0x88])).await,
                    _ => {}
                }
            }
        }
    })
    .await;
    let proxy = h2c_proxy(app.address(), "retry: { attempts: 1 }").await;
    assert_eq!(get(proxy.web(), "t", "/").await.status, 200);
    assert_eq!(app.connections(), 2);

    connections.store(0, Ordering::SeqCst);
    let proxy = h2c_proxy(app.address(), "retry: { attempts: 1 }").await;
    let mut client = Client::connect(proxy.web()).await;
    client.send("POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 0\r\n\r\n").await;
    client.response().await.assert_refused(502, "upstream_reset");
    assert_eq!(app.connections(), 3, "what may have been acted upon is not sent twice");
}

#[tokio::test]
async fn a_switch_of_protocols_over_http_2_is_an_upstream_fault() {
    let app = H2Backend::script(|mut call| async move {
        call.interim(101, "x-evil", "1");
        call.say("after it");
    })
    .await;
    let proxy = h2c_proxy(app.address(), "retry: { attempts: 0 }").await;
    let mut client = Client::connect(proxy.web()).await;
    client.send("GET / HTTP/1.1\r\nHost: t\r\n\r\n").await;
    client.response().await.assert_refused(502, "upstream_protocol");
}

#[tokio::test]
async fn interim_responses_over_http_2_are_relayed_but_not_without_end() {
    let app = H2Backend::script(|mut call| async move {
        let count = call.path().trim_start_matches('/').parse().expect("a number");
        for _ in 0..count {
            call.interim(103, "link", "</style.css>");
        }
        call.say("page");
    })
    .await;
    let proxy = h2c_proxy(app.address(), "retry: { attempts: 0 }").await;
    let few = get(proxy.web(), "t", "/16").await;
    assert_eq!((few.status, few.interim.len()), (200, 16));
    get(proxy.web(), "t", "/17").await.assert_refused(502, "upstream_protocol");
    get(proxy.web(), "t", "/5000").await.assert_refused(502, "upstream_protocol");
}

#[tokio::test]
async fn a_client_gets_interim_responses_of_a_sound_size_together() {
    let hint = format!("<{}>", "z".repeat(20 * 1024));
    let app = H2Backend::script(move |mut call| {
        let hint = hint.clone();
        async move {
            for _ in 0..16 {
                call.interim(103, "link", &hint);
            }
            call.say("page");
        }
    })
    .await;
    let proxy = h2c_proxy(app.address(), "retry: { attempts: 0 }").await;
    let mut h2 = H2::connect(proxy.web()).await;
    let response = h2.get("t", "/").await;
    assert_eq!((response.status, response.text().as_str()), (200, "page"));
    assert_eq!(response.interim.len(), 3, "64 KiB of them");
}
