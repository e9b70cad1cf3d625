//! An HTTP/2 client on the `h2` crate.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::{Bytes, BytesMut};
use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request, Response};
use tokio::net::TcpStream;

use super::{Echoed, Io, STEP, TlsClient, within};

/// What the library may count for small DATA frames that nobody reads; its own default would end
/// a connection whose other side sends frames as small as it got them.
pub const SMALL_FRAMES: usize = 64 << 20;

/// One HTTP/2 connection.
pub struct H2 {
    /// Opens streams.
    pub send: SendRequest<Bytes>,
}

/// A whole response.
#[derive(Debug)]
pub struct H2Response {
    /// The status code.
    pub status: u16,
    /// The header section.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// The trailer section.
    pub trailers: Option<HeaderMap>,
    /// Interim responses before it.
    pub interim: Vec<Response<()>>,
}

impl H2Response {
    /// A header field as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// A trailer field as text.
    pub fn trailer(&self, name: &str) -> Option<&str> {
        self.trailers.as_ref()?.get(name).and_then(|value| value.to_str().ok())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as the echo back end wrote it.
    #[track_caller]
    pub fn echoed(&self) -> Echoed {
        assert_eq!(self.status, 200, "{}", self.text());
        Echoed::of(&self.body)
    }
}

impl H2 {
    /// Connects by prior knowledge.
    pub async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("the listener accepts");
        stream.set_nodelay(true).expect("a TCP socket");
        Self::over(stream).await
    }

    /// Connects with TLS.
    pub async fn tls(address: SocketAddr, tls: &TlsClient) -> Self {
        let stream = tls.connect(address).await.expect("the handshake succeeds");
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]), "h2 was agreed on");
        Self::over(stream).await
    }

    /// Speaks over a stream that is already there.
    pub async fn over(io: impl Io + 'static) -> Self {
        let mut builder = h2::client::Builder::new();
        builder.enable_push(false).data_frame_budget(SMALL_FRAMES);
        let handshake = builder.handshake(io);
        let (send, connection) =
            within(STEP, "an HTTP/2 handshake", handshake).await.expect("HTTP/2 is spoken");
        // How the connection ends shows on its streams.
        tokio::spawn(async { drop(connection.await) });
        Self { send }
    }

    /// Opens a stream.
    pub async fn open(
        &mut self,
        request: Request<()>,
        end: bool,
    ) -> Result<(ResponseFuture, SendStream<Bytes>), h2::Error> {
        let ready = self.send.clone().ready();
        self.send = within(STEP, "a stream is free", ready).await?;
        self.send.send_request(request, end)
    }

    /// Sends a request and reads the whole response.
    pub async fn request(
        &mut self,
        request: Request<()>,
        body: Option<&[u8]>,
        trailers: Option<HeaderMap>,
    ) -> H2Response {
        match self.try_request(request, body, trailers).await {
            Ok(response) => response,
            Err(error) => panic!("no whole response: {error}"),
        }
    }

    /// Sends a request and reads the whole response.
    pub async fn try_request(
        &mut self,
        request: Request<()>,
        body: Option<&[u8]>,
        trailers: Option<HeaderMap>,
    ) -> Result<H2Response, h2::Error> {
        let end = body.is_none() && trailers.is_none();
        let (response, mut stream) = self.open(request, end).await?;
        if let Some(body) = body {
            stream.send_data(Bytes::copy_from_slice(body), trailers.is_none())?;
        }
        if let Some(trailers) = trailers {
            stream.send_trailers(trailers)?;
        }
        within(STEP, "a response", collect(response)).await
    }

    /// GET.
    pub async fn get(&mut self, host: &str, path: &str) -> H2Response {
        self.request(get_request(host, path), None, None).await
    }
}

impl Drop for H2Tunnel {
    fn drop(&mut self) {
        self.send.send_reset(h2::Reason::CANCEL);
    }
}

/// A GET of `path` at `host`.
pub fn get_request(host: &str, path: &str) -> Request<()> {
    Request::get(authority(host, path)).body(()).expect("a request")
}

/// A POST to `path` at `host`.
pub fn post_request(host: &str, path: &str) -> Request<()> {
    Request::post(authority(host, path)).body(()).expect("a request")
}

/// The URI whose `:authority` is `host`.
pub fn authority(host: &str, path: &str) -> String {
    format!("http://{host}{path}")
}

/// Reads a whole response with its interim ones and its trailers.
pub async fn collect(mut response: ResponseFuture) -> Result<H2Response, h2::Error> {
    let mut interim = Vec::new();
    while let Some(early) = poll_fn(|context| response.poll_informational(context)).await {
        interim.push(early?);
    }
    let (head, mut body) = response.await?.into_parts();
    let mut bytes = BytesMut::new();
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        bytes.extend_from_slice(&data);
    }
    let trailers = body.trailers().await?;
    Ok(H2Response {
        status: head.status.as_u16(),
        headers: head.headers,
        body: bytes.freeze(),
        trailers,
        interim,
    })
}

/// Sends `body` in frames of at most `size` bytes as the peer's window allows, counting what went
/// out in `sent`; false where the stream ends before.
pub async fn send_frames(
    stream: &mut SendStream<Bytes>,
    body: &[u8],
    size: usize,
    sent: &AtomicUsize,
) -> bool {
    let mut rest = body;
    while !rest.is_empty() {
        stream.reserve_capacity(size.min(rest.len()));
        let Some(Ok(granted)) = poll_fn(|context| stream.poll_capacity(context)).await else {
            return false;
        };
        let (now, later) = rest.split_at(granted.min(size).min(rest.len()));
        if stream.send_data(Bytes::copy_from_slice(now), false).is_err() {
            return false;
        }
        sent.fetch_add(now.len(), Ordering::SeqCst);
        rest = later;
    }
    true
}

/// A tunnel over one stream (RFC 8441).
pub struct H2Tunnel {
    send: SendStream<Bytes>,
    receive: RecvStream,
    /// Bytes received and not yet taken.
    pub buffer: BytesMut,
}

impl H2Tunnel {
    /// Wraps the two halves of a stream.
    pub fn new(send: SendStream<Bytes>, receive: RecvStream) -> Self {
        Self { send, receive, buffer: BytesMut::new() }
    }

    /// Sends bytes.
    pub fn send(&mut self, bytes: Vec<u8>) {
        self.send.send_data(bytes.into(), false).expect("the stream is open");
    }

    /// Ends the sending direction.
    pub fn finish(&mut self) {
        self.send.send_data(Bytes::new(), true).expect("the stream is open");
    }

    /// Reads more into the buffer; false at the end.
    pub async fn fill(&mut self) -> bool {
        match within(STEP, "bytes through the tunnel", self.receive.data()).await {
            Some(Ok(data)) => {
                self.receive.flow_control().release_capacity(data.len()).expect("it was received");
                self.buffer.extend_from_slice(&data);
                true
            }
            Some(Err(_)) | None => false,
        }
    }
}
