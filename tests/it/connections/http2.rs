//! Connections that many requests share.

use bytes::Bytes;

use super::*;

#[tokio::test]
async fn requests_share_a_connection_and_only_that_takes_a_place() {
    let app = Server::h2c().await;
    let upstream = "protocol: h2c, limits: { connections: 1, pending: 0 }";
    let proxy = Proxy::start(&config(1, r#""@app@""#, upstream), &[("app", &app.address())]).await;
    let mut clients = Vec::new();
    for _ in 0..20 {
        clients.push(send(&proxy, "/?delay_ms=50").await);
    }
    for client in &mut clients {
        assert_eq!(client.response().await.status, 200);
    }
    assert_eq!((app.connections(), app.requests()), (1, 20));
    taken(&proxy, 1).await;
}

#[tokio::test]
async fn an_idle_shared_connection_makes_room_for_one_to_another_endpoint() {
    let (a, b) = (Server::h2c().await, Server::h2c().await);
    let upstream = "protocol: h2c, limits: { connections: 1, pending: 0 }";
    let values: [(&str, &dyn std::fmt::Display); 2] = [("a", &a.address()), ("b", &b.address())];
    let proxy = Proxy::start(&config(1, r#""@a@", "@b@""#, upstream), &values).await;
    let mut client = Client::connect(proxy.web()).await;
    for _ in 0..10 {
        assert_eq!(client.request("GET", "t", "/").await.status, 200);
    }
    assert_eq!((a.connections(), b.connections()), (5, 5), "each in turn");
    taken(&proxy, 1).await;
}

/// An HTTP/2 back end that takes so many requests at once on a connection.
struct Narrow {
    address: SocketAddr,
    made: Arc<AtomicUsize>,
}

impl Narrow {
    async fn new(streams: u32) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let (address, made) = (listener.local_addr().expect("bound"), Arc::default());
        let counter: Arc<AtomicUsize> = Arc::clone(&made);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                counter.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(async move {
                    let mut builder = h2::server::Builder::new();
                    builder.max_concurrent_streams(streams);
                    let connection = builder.handshake::<_, Bytes>(stream).await;
                    let Ok(mut connection) = connection else { return };
                    while let Some(Ok((_, respond))) = connection.accept().await {
                        tokio::spawn(answer_late(respond));
                    }
                });
            }
        });
        Self { address, made }
    }
}

async fn answer_late(mut respond: h2::server::SendResponse<Bytes>) {
    pass(Duration::from_millis(10)).await;
    if let Ok(mut body) = respond.send_response(http::Response::new(()), false) {
        let _ = body.send_data(Bytes::from_static(b"ok"), true);
    }
}

#[tokio::test]
async fn requests_wait_for_streams_where_there_is_no_place_for_a_connection() {
    let app = Narrow::new(2).await;
    let upstream = "protocol: h2c, limits: { connections: 1, pending_timeout: 30s }";
    let proxy = Proxy::start(&config(1, r#""@app@""#, upstream), &[("app", &app.address)]).await;
    // Its settings have arrived once a request was answered.
    assert_eq!(get(proxy.web(), "t", "/").await.text(), "ok");
    let clients = (0..12).map(|_| {
        let address = proxy.web();
        tokio::spawn(async move {
            let mut client = Client::connect(address).await;
            for _ in 0..10 {
                assert_eq!(client.request("GET", "t", "/").await.text(), "ok");
            }
        })
    });
    for client in clients.collect::<Vec<_>>() {
        within(STEP, "every request is answered", client).await.expect("no failure");
    }
    assert_eq!(app.made.load(Ordering::SeqCst), 1);
    taken(&proxy, 1).await;
}

#[tokio::test]
async fn a_busy_shared_connection_goes_when_another_worker_waits_for_its_place() {
    let app = Narrow::new(100).await;
    let upstream = "protocol: h2c, limits: { connections: 1, pending_timeout: 30s }";
    let proxy = Proxy::start(&config(2, r#""@app@""#, upstream), &[("app", &app.address)]).await;
    all_get_their_share(&proxy, &app.made, 20).await;
    assert_eq!(proxy.metrics().await.sum("portcullis_upstream_shed_total", &APP), 0.0);
    taken(&proxy, 1).await;
}
