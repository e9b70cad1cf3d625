//! A back end that goes on only once it was heard: whoever holds back a piece of a response stops
//! all of it.

use std::sync::Arc;

use tokio::sync::Notify;

use super::{Backend, Client, H2, Proxy, STEP, eventually, get_request, within};

/// A back end whose response is events, each sent once the one before it was read.
pub struct Events {
    app: Backend,
    read: Arc<Notify>,
}

impl Events {
    /// Starts it; `fields` are lines of the response's head.
    pub async fn start(fields: &'static str) -> Self {
        let read = Arc::new(Notify::new());
        let app = Backend::script({
            let read = Arc::clone(&read);
            move |mut conn| {
                let read = Arc::clone(&read);
                async move {
                    let Some(_) = conn.request().await else { return };
                    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n";
                    conn.send(format!("{head}{fields}\r\n")).await;
                    for number in 0..4 {
                        read.notified().await;
                        let event = format!("data: {number}\n\n");
                        conn.send(format!("{:x}\r\n{event}\r\n", event.len())).await;
                    }
                    conn.stall().await;
                }
            }
        })
        .await;
        Self { app, read }
    }

    /// The back end.
    pub fn app(&self) -> &Backend {
        &self.app
    }

    /// Reads the events one by one over HTTP/1 and HTTP/2, and leaves: the back end has to hear of
    /// that.
    pub async fn arrive_by(&self, proxy: &Proxy) {
        let mut client = Client::connect(proxy.web()).await;
        client.send("GET /events HTTP/1.1\r\nHost: t\r\nAccept: text/event-stream\r\n\r\n").await;
        assert_eq!(client.head().await.status, 200);
        for number in 0..4 {
            self.read.notify_one();
            let event = client.chunk().await.expect("an event");
            assert_eq!(String::from_utf8_lossy(&event), format!("data: {number}\n\n"));
        }
        drop(client);
        let left = async || self.app.open() == 0;
        eventually(STEP, "the back end is told that nobody listens", left).await;

        let mut h2 = H2::connect(proxy.web()).await;
        let (response, _) = h2.open(get_request("t", "/events"), true).await.expect("a stream");
        let mut body = within(STEP, "the head", response).await.expect("a response").into_body();
        for number in 0..4 {
            self.read.notify_one();
            let data = within(STEP, "an event", body.data()).await.expect("open").expect("data");
            assert_eq!(String::from_utf8_lossy(&data), format!("data: {number}\n\n"));
        }
        drop(body);
        eventually(STEP, "a reset stream ends the back end's", left).await;
    }
}
