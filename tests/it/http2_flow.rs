//! Flow control over HTTP/2: a stream that stalls holds up itself and nothing else, however its
//! bytes are cut into frames.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use tokio::sync::Notify;

use crate::harness::*;

/// What a scripted back end and its test tell each other.
#[derive(Default)]
struct Cues {
    /// Body bytes sent, by all calls.
    sent: AtomicUsize,
    /// Calls to `/hang`.
    hanging: AtomicUsize,
    /// Ends one such call.
    go: Notify,
}

impl Cues {
    fn sent(&self) -> usize {
        self.sent.load(Ordering::SeqCst)
    }
}

async fn h2c_proxy(app: &H2Backend) -> Proxy {
    Proxy::start(
        r#"
workers: 1
listeners: { web: { bind: "@web@" } }
hosts: { "*": { routes: [ { path: /, upstream: app, retry: { attempts: 0 } } ] } }
upstreams: { app: { protocol: h2c, endpoints: ["@app@"] } }
"#,
        &[("app", &app.address())],
    )
    .await
}

/// Answers `/hang` when told so, sends `size` bytes of pattern in frames of `frame` bytes
/// elsewhere.
async fn sending(size: usize, frame: usize) -> (H2Backend, Arc<Cues>) {
    let cues = Arc::new(Cues::default());
    let told = Arc::clone(&cues);
    let app = H2Backend::script(move |mut call| {
        let cues = Arc::clone(&told);
        async move {
            match call.path() {
                "/hang" => {
                    cues.hanging.fetch_add(1, Ordering::SeqCst);
                    cues.go.notified().await;
                    call.say("released");
                }
                "/small" => call.say("small"),
                _ => {
                    let mut body = call.begin(200);
                    let bytes = body_pattern(size);
                    if send_frames(&mut body, &bytes, frame, &cues.sent).await {
                        let _ = body.send_data(Bytes::new(), true);
                    }
                }
            }
        }
    })
    .await;
    (app, cues)
}

#[tokio::test]
async fn a_body_whose_end_comes_in_an_empty_frame_ends() {
    let end = Arc::new(Notify::new());
    let told = Arc::clone(&end);
    let app = H2Backend::script(move |mut call| {
        let end = Arc::clone(&told);
        async move {
            let mut body = call.begin(200);
            let _ = body.send_data(Bytes::from_static(b"hello"), false);
            end.notified().await;
            let _ = body.send_data(Bytes::new(), true);
        }
    })
    .await;
    let proxy = h2c_proxy(&app).await;
    let mut h2 = H2::connect(proxy.web()).await;
    let (response, _) = h2.open(get_request("t", "/"), true).await.expect("a stream");
    let mut body = within(STEP, "the head", response).await.expect("a response").into_body();
    let data = within(STEP, "the data", body.data()).await.expect("open").expect("data");
    assert_eq!(data, "hello");
    end.notify_one();
    while let Some(data) = within(STEP, "the end", body.data()).await {
        assert_eq!(data.expect("the stream is not reset"), "");
    }
    assert!(body.trailers().await.expect("the stream is not reset").is_none());
}

#[tokio::test]
async fn slow_readers_do_not_hold_up_others_that_share_the_upstream_connection() {
    let (app, cues) = sending(1 << 20, 16 * 1024).await;
    let proxy = h2c_proxy(&app).await;
    let mut slow = H2::connect(proxy.web()).await;
    let mut unread = Vec::new();
    for number in 0..40 {
        let request = get_request("t", &format!("/{number}"));
        unread.push(slow.open(request, true).await.expect("a stream").0);
    }
    let enough = async || cues.sent() >= 4 << 20;
    eventually(STEP, "the windows of slow readers are filled", enough).await;
    let mut client = Client::connect(proxy.web()).await;
    for _ in 0..50 {
        assert_eq!(client.request("GET", "t", "/small").await.text(), "small");
    }
    assert_eq!(app.connections(), 1, "all of that on one connection");
}

#[tokio::test]
async fn a_connection_takes_no_more_streams_than_its_window_has_room_for() {
    let (app, cues) = sending(0, 1).await;
    let proxy = h2c_proxy(&app).await;
    let mut clients = Vec::new();
    for _ in 0..3 {
        let mut h2 = H2::connect(proxy.web()).await;
        let mut waiting = Vec::new();
        for _ in 0..90 {
            waiting.push(h2.open(get_request("t", "/hang"), true).await.expect("a stream").0);
        }
        clients.push((h2, waiting));
    }
    eventually(STEP, "all reach it", async || cues.hanging.load(Ordering::SeqCst) == 270).await;
    assert_eq!(app.connections(), 2, "256 streams of 256 KiB fit into 64 MiB");
}

#[tokio::test]
async fn a_stalled_download_in_tiny_frames_leaves_its_connection_alone_and_arrives_whole() {
    let size = 600_000;
    let (app, cues) = sending(size, 20).await;
    let proxy = h2c_proxy(&app).await;
    let mut other = H2::connect(proxy.web()).await;
    let (other, _) = other.open(get_request("t", "/hang"), true).await.expect("a stream");
    let other = tokio::spawn(collect(other));
    eventually(STEP, "it hangs", async || cues.hanging.load(Ordering::SeqCst) == 1).await;

    let mut slow = H2::connect(proxy.web()).await;
    let (response, _) = slow.open(get_request("t", "/tiny"), true).await.expect("a stream");
    let mut body = within(STEP, "the head", response).await.expect("a response").into_body();
    // The endpoint's window is full; what else went out is under way to the client.
    let stalled = async || cues.sent() >= 256 * 1024;
    eventually(STEP, "the download stalls", stalled).await;

    cues.go.notify_one();
    let other = within(STEP, "the other response", other).await.expect("no panic");
    assert_eq!(other.expect("its connection lives").text(), "released");
    let mut got = Vec::new();
    while let Some(data) = within(STEP, "the rest", body.data()).await {
        let data = data.expect("the stream is not reset");
        body.flow_control().release_capacity(data.len()).expect("received");
        got.extend_from_slice(&data);
    }
    assert_eq!(got.len(), size);
    assert!(got == body_pattern(size), "every byte in its place");
    assert_eq!(app.connections(), 1);
}

#[tokio::test]
async fn a_body_that_waited_while_much_else_passed_goes_on() {
    let next = Arc::new(Notify::new());
    let told = Arc::clone(&next);
    let app = H2Backend::script(move |mut call| {
        let next = Arc::clone(&told);
        async move {
            let mut body = call.begin(200);
            let (bytes, sent) = (body_pattern(1 << 20), AtomicUsize::new(0));
            if call.path() == "/much" {
                send_frames(&mut body, &bytes, 16 * 1024, &sent).await;
            } else {
                for _ in 0..3 {
                    next.notified().await;
                    let _ = body.send_data(Bytes::from_static(b"event"), false);
                }
            }
            let _ = body.send_data(Bytes::new(), true);
        }
    })
    .await;
    let proxy = h2c_proxy(&app).await;
    let mut h2 = H2::connect(proxy.web()).await;
    let (response, _) = h2.open(get_request("t", "/events"), true).await.expect("a stream");
    let mut events = within(STEP, "the head", response).await.expect("a response").into_body();
    for _ in 0..3 {
        assert_eq!(h2.get("t", "/much").await.body.len(), 1 << 20);
        next.notify_one();
        let event = within(STEP, "an event", events.data()).await.expect("open").expect("data");
        assert_eq!(event, "event");
    }
    assert!(
        within(STEP, "the end", events.data())
            .await
            .is_none_or(|end| end.expect("whole").is_empty())
    );
}

#[tokio::test]
async fn a_stalled_upload_in_tiny_frames_leaves_its_connection_alone_and_arrives_whole() {
    let read = Arc::new(Notify::new());
    let told = Arc::clone(&read);
    let app = H2Backend::script(move |mut call| {
        let read = Arc::clone(&told);
        async move {
            if call.path() != "/upload" {
                return call.say("other");
            }
            read.notified().await;
            let mut got = Vec::new();
            let body = call.request.body_mut();
            while let Some(Ok(data)) = body.data().await {
                let _ = body.flow_control().release_capacity(data.len());
                got.extend_from_slice(&data);
            }
            let same = got == body_pattern(240_000);
            call.say(if same { "whole" } else { "changed" });
        }
    })
    .await;
    let proxy = h2c_proxy(&app).await;
    let mut h2 = H2::connect(proxy.web()).await;
    let (response, mut upload) = h2.open(post_request("t", "/upload"), false).await.expect("open");
    let response = tokio::spawn(collect(response));
    let sent = AtomicUsize::new(0);
    let bytes = body_pattern(240_000);
    let whole = send_frames(&mut upload, &bytes, 15, &sent);
    assert!(within(STEP, "the window takes it", whole).await);
    // What comes behind it on the connection is served: the frames before it are all there.
    for _ in 0..3 {
        assert_eq!(h2.get("t", "/next").await.text(), "other");
    }
    upload.send_data(Bytes::new(), true).expect("the stream is open");
    read.notify_one();
    let response = within(STEP, "the response", response).await.expect("no panic");
    assert_eq!(response.expect("the stream lives").text(), "whole");
}
