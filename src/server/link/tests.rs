//! What a link keeps for a client that does not read.

use tokio::net::{TcpListener, TcpStream};

use super::*;

/// A link whose socket takes little, and the client's side of it.
async fn narrow() -> (Rc<H1Link>, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let client = TcpStream::connect(listener.local_addr().expect("bound")).await;
    let (stream, _) = listener.accept().await.expect("a connection");
    socket2::SockRef::from(&stream).set_send_buffer_size(4096).expect("a TCP socket");
    let later = Duration::from_secs(60);
    let timeouts =
        ClientTimeouts { first_head: Moment::now().after(later), head: later, keep_alive: later };
    let transport = Transport::tcp(stream);
    let link = H1Link::new(transport, GateLimits::default(), timeouts, &Wheel::new());
    (link, client.expect("it listens"))
}

#[tokio::test]
async fn interim_responses_that_a_client_does_not_read_are_left_out() {
    let (link, _client) = narrow().await;
    let mut headers = HeaderMap::new();
    headers.insert("link", "z".repeat(48 * 1024).parse().expect("a value"));
    for _ in 0..200 {
        link.send_interim(StatusCode::EARLY_HINTS, &headers);
    }
    let kept = link.front.borrow().len();
    assert!(kept > 0, "the client does not read");
    assert!(kept <= 2 * INTERIM_AHEAD, "{kept} bytes for 10 MB of hints");
}
