//! Back ends that close a kept connection just as the next request comes: whatever the moment, no
//! GET notices, and no POST is acted upon twice.
//!
//! What is exact, and asserted of every single request: a GET is answered; a POST is read by a back
//! end at most once, once exactly where it is answered; and a POST fails only where a connection
//! was closed after the POST was sent. From there on the proxy cannot know whether it was read: the
//! end of the connection may come right after it made sure that there was none.

mod lane;
mod peer;
mod streams;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use tokio::sync::Barrier;

use self::lane::{Answer, Head, Lane, exchange};
use crate::harness::*;

/// Requests altogether, and how they are spread: several back ends, each of which keeps a score of
/// its own, with one client at a time or a few.
const TRIALS: u64 = 100_000;
const CLIENTS: [usize; 10] = [1, 1, 1, 1, 1, 1, 1, 1, 3, 3];

/// What came of the POSTs and GETs of all clients.
#[derive(Default)]
struct Score {
    gets: AtomicU64,
    posts: AtomicU64,
    /// POSTs whose pooled connection had been closed before they were sent.
    after_end: AtomicU64,
    /// POSTs that failed, and those among them that no back end had read.
    failed: AtomicU64,
    failed_unread: AtomicU64,
    /// What must not happen.
    faults: Mutex<Vec<String>>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_hundred_thousand_requests_that_meet_the_end_of_their_connection() {
    let mut random = Random::seeded();
    let lanes: Vec<Arc<Lane>> = CLIENTS.iter().map(|_| Lane::open(Random(random.draw()))).collect();
    let proxy = Proxy::start(&config(&lanes), &[]).await;
    let (web, score, start) = (proxy.web(), Score::default(), Instant::now());
    let per_client = TRIALS.div_ceil(CLIENTS.iter().sum::<usize>() as u64);
    std::thread::scope(|scope| {
        for (number, (lane, clients)) in lanes.iter().zip(CLIENTS).enumerate() {
            for client in 0..clients {
                let random = Random(random.draw());
                let first = (number * 10 + client) as u64 * per_client;
                let ids = first..first + per_client;
                let score = &score;
                scope.spawn(move || Caller { web, number, lane, random, score }.run(ids));
            }
        }
    });
    lanes.iter().for_each(|lane| lane.shut());
    let count = |counter: &AtomicU64| counter.load(Ordering::SeqCst);
    let (failed, unread) = (count(&score.failed), count(&score.failed_unread));
    let metrics = proxy.metrics().await;
    let retries = metrics.sum("portcullis_upstream_retries_total", &[]);
    println!(
        "{} GETs, {} POSTs ({} behind an end, {failed} failed, {unread} of those not read), \
         {retries} retries in {:?}",
        count(&score.gets),
        count(&score.posts),
        count(&score.after_end),
        start.elapsed(),
    );
    let faults = score.faults.lock().expect("no holder panics");
    let some = &faults[..faults.len().min(20)];
    assert!(some.is_empty(), "{} faults, of them\n{}", faults.len(), some.join("\n"));
    let told = metrics.sum("portcullis_requests_total", &[("code", "5xx")]);
    assert_eq!(told, failed as f64, "the proxy counts the same failures as its clients");
    assert!(count(&score.after_end) > 3_000, "closed connections were met");
    assert!(retries > 5_000.0 && failed > 1_000, "and such as were closed in the very moment");
}

fn config(lanes: &[Arc<Lane>]) -> String {
    let mut config = String::from(
        "workers: 2\nlisteners: { web: { bind: \"@web@\" } }\nhosts:\n  \"*\":\n    routes:\n",
    );
    for number in 0..lanes.len() {
        config.push_str(&format!("      - {{ path: /{number}, upstream: lane-{number} }}\n"));
    }
    config.push_str("upstreams:\n");
    for (number, lane) in lanes.iter().enumerate() {
        config.push_str(&format!("  lane-{number}: {{ endpoints: [\"{}\"] }}\n", lane.address()));
    }
    config
}

/// One client of a lane.
struct Caller<'a> {
    web: SocketAddr,
    number: usize,
    lane: &'a Lane,
    random: Random,
    score: &'a Score,
}

impl Caller<'_> {
    /// Sends a request for each of `ids`, one after the other.
    fn run(mut self, ids: std::ops::Range<u64>) {
        let mut stream = lane::client(self.web);
        for id in ids {
            let post = self.random.below(2) == 0;
            let (alone, ended) = (self.lane.is_alone(), self.lane.ended());
            let answer = exchange(&mut stream, self.number, &Head { post, id });
            let begun = self.lane.begun();
            if answer.last {
                stream = lane::client(self.web);
            }
            match (post, answer) {
                (false, answer) => self.judge_get(id, &answer),
                (true, answer) => {
                    self.score.after_end.fetch_add(u64::from(alone), Ordering::SeqCst);
                    self.judge_post(id, &answer, begun > ended);
                }
            }
        }
    }

    fn judge_get(&self, id: u64, answer: &Answer) {
        self.score.gets.fetch_add(1, Ordering::SeqCst);
        if (answer.status, answer.body.as_str()) != (200, id.to_string().as_str()) {
            self.fault(format!("GET {id}: {answer:?}"));
        }
    }

    /// `raced`: a connection was closed while the POST was on its way.
    fn judge_post(&self, id: u64, answer: &Answer, raced: bool) {
        self.score.posts.fetch_add(1, Ordering::SeqCst);
        let read = self.lane.times_read(id);
        let failed = answer.status == 502 && answer.body.contains("upstream_reset");
        if failed {
            self.score.failed.fetch_add(1, Ordering::SeqCst);
            self.score.failed_unread.fetch_add(u64::from(read == 0), Ordering::SeqCst);
        }
        let fault = match answer.status {
            200 if answer.body == id.to_string() && read == 1 => return,
            _ if failed && raced && read <= 1 => return,
            _ if failed && read <= 1 => "although no connection was ending",
            _ => "",
        };
        self.fault(format!("POST {id}, read {read} times: {answer:?} {fault}"));
    }

    fn fault(&self, fault: String) {
        self.score.faults.lock().expect("no holder panics").push(fault);
    }
}

/// A back end that answers the first request of each connection with its name, and ends the
/// connection without a word once it has read the next one.
async fn once_each(name: &'static str) -> Backend {
    Backend::script(move |mut conn| async move {
        if conn.request().await.is_some() {
            let length = name.len();
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{name}");
            conn.send(head).await;
            conn.request().await;
        }
    })
    .await
}

#[tokio::test]
async fn a_session_stays_where_it_is_when_a_connection_had_ended() {
    let (one, two) = (once_each("one").await, once_each("two").await);
    for policy in ["affinity: cookie", "balance: { hash: path }"] {
        let config = format!(
            r#"
workers: 1
listeners: {{ web: {{ bind: "@web@" }} }}
hosts: {{ "*": {{ routes: [ {{ path: /, upstream: app }} ] }} }}
upstreams: {{ app: {{ endpoints: ["@one@", "@two@"], {policy} }} }}
"#
        );
        let values: [(&str, &dyn std::fmt::Display); 2] =
            [("one", &one.address()), ("two", &two.address())];
        let proxy = Proxy::start(&config, &values).await;
        for session in 0..8 {
            let mut client = Client::connect(proxy.web()).await;
            let first = client.request("GET", "t", &format!("/{session}")).await;
            let cookie = first.headers.get("set-cookie").unwrap_or_default();
            let cookie = cookie.split(';').next().unwrap_or_default();
            for _ in 0..4 {
                let head =
                    format!("GET /{session} HTTP/1.1\r\nHost: t\r\nCookie: {cookie}\r\n\r\n");
                client.send(head).await;
                let response = client.response().await;
                assert_eq!((response.status, response.text()), (200, first.text()), "{policy}");
                assert_eq!(response.headers.get("set-cookie"), None, "{policy}: it moved");
            }
        }
        let retries = proxy.metrics().await;
        let retries = retries.sum("portcullis_upstream_retries_total", &[("upstream", "app")]);
        assert!(retries >= 16.0, "{policy}: {retries}");
    }
}

#[tokio::test]
async fn a_connection_that_had_ended_is_neither_an_attempt_nor_a_failure() {
    // Of three connections in turn one is ended under a request, one is reset under its first,
    // and one answers.
    let app = Backend::script(|mut conn| async move {
        match conn.index % 3 {
            1 => {
                if conn.request().await.is_some() {
                    conn.reset();
                }
            }
            _ => {
                if conn.request().await.is_some() {
                    conn.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
                    conn.request().await;
                }
            }
        }
    })
    .await;
    let config = r#"
workers: 1
access_log: true
listeners: { web: { bind: "@web@" } }
hosts: { "*": { routes: [ { path: /, upstream: app, retry: { attempts: 1, backoff: 1ms } } ] } }
upstreams: { app: { endpoints: ["@app@"], retry_budget: { ratio: 100%, min_per_second: 0 } } }
"#;
    let proxy = Proxy::start(config, &[("app", &app.address())]).await;
    let mut client = Client::connect(proxy.web()).await;
    for number in 0..20 {
        let response = client.request("GET", "t", &format!("/{number}")).await;
        assert_eq!((response.status, response.text().as_str()), (200, "ok"), "{number}");
    }
    let line = proxy.stdout_line("three attempts", |line| line.contains(r#""attempts":3"#)).await;
    assert!(line.contains(r#""status":200"#), "{line}");
}

#[tokio::test]
async fn the_next_attempt_trusts_no_other_free_connection() {
    // The first four answer together, and are all free and all ended then.
    let together = Arc::new(Barrier::new(4));
    let app = Backend::script(move |mut conn| {
        let together = together.clone();
        async move {
            while conn.request().await.is_some() {
                if conn.index < 4 {
                    together.wait().await;
                }
                conn.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
                if conn.index < 4 {
                    conn.request().await;
                    return;
                }
            }
        }
    })
    .await;
    let config = r#"
workers: 1
access_log: true
listeners: { web: { bind: "@web@" } }
hosts: { "*": { routes: [ { path: /, upstream: app } ] } }
upstreams: { app: { endpoints: ["@app@"] } }
"#;
    let proxy = Proxy::start(config, &[("app", &app.address())]).await;
    let mut clients = Vec::new();
    for _ in 0..4 {
        let mut client = Client::connect(proxy.web()).await;
        client.send("GET / HTTP/1.1\r\nHost: t\r\n\r\n").await;
        clients.push(client);
    }
    for client in &mut clients {
        assert_eq!(client.response().await.text(), "ok");
    }
    assert_eq!(get(proxy.web(), "t", "/last").await.text(), "ok");
    let line = proxy.stdout_line("its line", |line| line.contains("/last")).await;
    assert!(line.contains(r#""attempts":2"#), "{line}");
    assert_eq!((app.connections(), app.requests().len()), (5, 6));
}

#[tokio::test]
async fn connections_that_had_ended_are_not_held_against_the_budget() {
    let app = once_each("ok").await;
    let config = r#"
workers: 1
listeners: { web: { bind: "@web@" } }
hosts: { "*": { routes: [ { path: /, upstream: app } ] } }
upstreams: { app: { endpoints: ["@app@"], retry_budget: { ratio: 0%, min_per_second: 0 } } }
"#;
    let proxy = Proxy::start(config, &[("app", &app.address())]).await;
    let mut client = Client::connect(proxy.web()).await;
    for number in 0..20 {
        let response = client.request("GET", "t", &format!("/{number}")).await;
        assert_eq!((response.status, response.text().as_str()), (200, "ok"), "{number}");
    }
    // What was written and is not idempotent stays where it is.
    client.send("POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 5\r\n\r\nhello").await;
    client.response().await.assert_refused(502, "upstream_reset");
    assert_eq!(app.requests().iter().filter(|seen| seen.method == "POST").count(), 1);
}
