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
                    let mut number = 0;
                    while let Some(Ok((_, respond))) = connection.accept().await {
                        number += 1;
                        tokio::spawn(answer_late(respond, 5 + number * 7 % 11));
                    }
                });
            }
        });
        Self { address, made }
    }
}

async fn answer_late(mut respond: h2::server::SendResponse<Bytes>, milliseconds: u64) {
    pass(Duration::from_millis(milliseconds)).await;
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
    all_get_their_share(&proxy, &app.made, 8, 20).await;
    assert_eq!(proxy.metrics().await.sum("portcullis_upstream_shed_total", &APP), 0.0);
    taken(&proxy, 1).await;
}

/// An HTTP/2 back end that takes one request on its first connection, which it breaks off when it
/// is told to, and on others answers once six have come.
async fn broken_once(stop: Arc<Semaphore>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.expect("a connection");
        let mut builder = h2::server::Builder::new();
        builder.max_concurrent_streams(1);
        let mut first = builder.handshake::<_, Bytes>(stream).await.expect("HTTP/2");
        let (_, mut respond) = first.accept().await.expect("a request").expect("a sound one");
        respond.send_response(http::Response::new(()), true).expect("sent");
        let held = first.accept().await;
        tokio::select! {
            _ = stop.acquire() => drop((held, first)),
            _ = std::future::poll_fn(|cx| first.poll_closed(cx)) => {}
        }
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let Ok(mut connection) = h2::server::handshake(stream).await else { return };
                let mut waiting = Vec::new();
                while let Some(Ok((_, respond))) = connection.accept().await {
                    waiting.push(respond);
                    if waiting.len() == 6 {
                        waiting
                            .drain(..)
                            .for_each(|respond| drop(tokio::spawn(answer_late(respond, 0))));
                    }
                }
            });
        }
    });
    address
}

#[tokio::test]
async fn all_who_wait_share_the_connection_that_one_of_them_makes() {
    let stop = Arc::new(Semaphore::new(0));
    let app = broken_once(stop.clone()).await;
    let upstream = "protocol: h2c, limits: { connections: 1, pending_timeout: 30s }";
    let proxy = Proxy::start(&config(1, r#""@app@""#, upstream), &[("app", &app)]).await;
    assert_eq!(get(proxy.web(), "t", "/").await.status, 200);
    let mut clients = Vec::new();
    for number in 0..6 {
        clients.push(send(&proxy, &format!("/{number}")).await);
    }
    waiting(&proxy, 5.0).await;
    stop.add_permits(1);
    for client in &mut clients {
        assert_eq!(client.response().await.text(), "ok");
    }
    taken(&proxy, 1).await;
}
