//! Bodies that are held in memory: what for, and how much of it they take.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::harness::*;

/// One route to `app`, with `route` as its settings.
async fn one_route(app: &Backend, route: &str) -> Proxy {
    let config = format!(
        r#"
workers: 1
access_log: true
listeners: {{ web: {{ bind: "@web@" }} }}
hosts: {{ "*": {{ routes: [ {{ path: /, upstream: app, {route} }} ] }} }}
upstreams: {{ app: {{ endpoints: ["@app@"] }} }}
"#
    );
    Proxy::start(&config, &[("app", &app.address())]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_is_kept_byte_by_byte_takes_no_more_memory_than_it_has_bytes() {
    const CLIENTS: usize = 8;
    const SIZE: usize = 64 << 10;
    let whole = Arc::new(AtomicUsize::new(0));
    let app = Backend::script({
        let whole = Arc::clone(&whole);
        move |mut conn| {
            let whole = Arc::clone(&whole);
            async move {
                let Some(_) = conn.head().await else { return };
                let mut end = Vec::new();
                while !end.ends_with(b"0\r\n\r\n") {
                    let bytes = conn.some().await;
                    if bytes.is_empty() {
                        return;
                    }
                    end.extend_from_slice(&bytes);
                    end.drain(..end.len().saturating_sub(5));
                }
                whole.fetch_add(1, Ordering::SeqCst);
                conn.stall().await;
            }
        }
    })
    .await;
    let proxy = one_route(&app, "retry: { buffer: 1MiB }").await;
    let mut upload = "PUT / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned();
    upload.push_str(&"1\r\nx\r\n".repeat(SIZE));
    upload.push_str("0\r\n\r\n");
    let before = proxy.rss();
    let mut clients = Vec::new();
    for number in 1..=CLIENTS {
        let mut client = Client::connect(proxy.web()).await;
        client.send(&upload).await;
        eventually(STEP, "it is sent", async || whole.load(Ordering::SeqCst) == number).await;
        clients.push(client);
    }
    // None is answered, so that all of them are kept.
    let grown = proxy.rss().saturating_sub(before);
    println!("{} KiB for {} KiB", grown >> 10, (CLIENTS * SIZE) >> 10);
    assert!(grown < 24 << 20, "{grown} bytes");
}
