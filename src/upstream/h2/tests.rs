//! Connections against peers on the `h2` crate.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use http::{Request, Response, StatusCode};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::LocalSet;

use super::H2Conn;
use crate::error::Replay;
use crate::telemetry::{Metrics, WorkerId};
use crate::upstream::Endpoint;
use crate::upstream::h1::HeadEvent;
use crate::upstream::pool::{UpstreamIo, Waitlist};
use crate::util::moment::Moment;

/// Answers every request with 200 and without a body.
async fn peer() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    tokio::task::spawn_local(async move {
        let (stream, _) = listener.accept().await.expect("a connection");
        let handshake = h2::server::handshake(stream);
        let mut connection = handshake.await.expect("HTTP/2 is spoken");
        while let Some(Ok((_, mut respond))) = connection.accept().await {
            respond.send_response(Response::new(()), true).expect("the stream is open");
        }
    });
    address
}

async fn connect(address: SocketAddr) -> H2Conn {
    let metrics = Metrics::new(1).endpoint(&"up".into(), "peer");
    let endpoint = Arc::new(Endpoint::new(address, None, metrics, Arc::default(), Moment::now()));
    let io = UpstreamIo::Tcp(TcpStream::connect(address).await.expect("it listens"));
    let waitlist = Rc::new(Waitlist::new(WorkerId(0), Arc::default()));
    let wheel = crate::util::wheel::Wheel::new();
    let conn = H2Conn::handshake(io, endpoint, None, WorkerId(0), None, waitlist, wheel).await;
    conn.expect("HTTP/2 is spoken")
}

async fn ask(conn: &H2Conn, request: Request<()>) -> StatusCode {
    let mut exchange = conn.open(request).await.expect("a stream");
    match std::future::poll_fn(|cx| exchange.poll_head(cx)).await.expect("a response") {
        HeadEvent::Final(head) => head.status,
        HeadEvent::Interim(_) => panic!("no interim response was sent"),
    }
}

#[tokio::test]
async fn a_request_that_http_2_does_not_take_leaves_its_connection_in_use() {
    let work = async {
        let conn = connect(peer().await).await;
        let sound = || Request::get("http://t/").body(()).expect("a request");
        assert_eq!(ask(&conn, sound()).await, StatusCode::OK);
        let mut forbidden = sound();
        forbidden.headers_mut().insert("upgrade", "websocket".parse().expect("a value"));
        match conn.open(forbidden).await {
            Err(error) => assert_eq!(error.replay, Replay::Unwritten, "{error}"),
            Ok(_) => panic!("RFC 9113 8.2.2"),
        }
        assert!(conn.has_room() && !conn.is_closed());
        assert_eq!(ask(&conn, sound()).await, StatusCode::OK);
    };
    LocalSet::new().run_until(work).await;
}
