//! One request on a fresh connection and what comes back, as far as a check wants it.
//!
//! Not the data path's clients, which belong to a worker and its pools: hyper and h2 as they are.

use std::pin::pin;

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;

use super::error::CheckError;
use crate::upstream::pool::UpstreamIo;

/// How much of a body is read.
pub(super) const MAX_BODY: usize = 64 * 1024;
/// How large the head of a response over HTTP/2 may be.
const MAX_HEAD: u32 = 64 * 1024;

/// A response.
pub(super) struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    /// The beginning of the body: no more than [`MAX_BODY`], and nothing where it was not wanted.
    pub body: Vec<u8>,
    /// The trailers, if the body was read to its end.
    pub trailers: Option<HeaderMap>,
}

/// Over HTTP/1.1.
pub(super) async fn over_h1(
    io: UpstreamIo,
    request: Request<Bytes>,
    wants_body: bool,
) -> Result<Answer, CheckError> {
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(io)).await;
    let (mut send, connection) = handshake.map_err(CheckError::protocol)?;
    let exchange = async {
        let response = send.send_request(request.map(Full::new)).await;
        let (head, mut body) = response.map_err(CheckError::protocol)?.into_parts();
        let mut answer = Answer::new(head);
        while wants_body && answer.body.len() < MAX_BODY {
            let Some(frame) = body.frame().await else { break };
            if let Ok(data) = frame.map_err(CheckError::protocol)?.into_data() {
                answer.take(&data);
            }
        }
        Ok(answer)
    };
    beside(connection, exchange).await
}

/// Over HTTP/2.
pub(super) async fn over_h2(
    io: UpstreamIo,
    request: Request<Bytes>,
    wants_body: bool,
) -> Result<Answer, CheckError> {
    let handshake = h2::client::Builder::new()
        .enable_push(false)
        .max_header_list_size(MAX_HEAD)
        .handshake::<_, Bytes>(io)
        .await;
    let (send, connection) = handshake.map_err(CheckError::protocol)?;
    let exchange = async {
        let mut send = send.ready().await.map_err(CheckError::protocol)?;
        let (head, body) = request.into_parts();
        let request = Request::from_parts(head, ());
        let (response, mut stream) =
            send.send_request(request, body.is_empty()).map_err(CheckError::protocol)?;
        if !body.is_empty() {
            stream.send_data(body, true).map_err(CheckError::protocol)?;
        }
        let (head, mut body) = response.await.map_err(CheckError::protocol)?.into_parts();
        let mut answer = Answer::new(head);
        while wants_body && answer.body.len() < MAX_BODY {
            let Some(data) = body.data().await else {
                answer.trailers = body.trailers().await.map_err(CheckError::protocol)?;
                break;
            };
            let data = data.map_err(CheckError::protocol)?;
            let _ = body.flow_control().release_capacity(data.len());
            answer.take(&data);
        }
        Ok(answer)
    };
    beside(connection, exchange).await
}

impl Answer {
    fn new(head: http::response::Parts) -> Self {
        Self { status: head.status, headers: head.headers, body: Vec::new(), trailers: None }
    }

    fn take(&mut self, data: &[u8]) {
        let room = MAX_BODY.saturating_sub(self.body.len()).min(data.len());
        self.body.extend(data.iter().take(room));
    }
}

/// `exchange`, with `connection` moving its bytes for as long as it does.
async fn beside<T>(connection: impl Future, exchange: impl Future<Output = T>) -> T {
    let (mut connection, mut exchange) = (pin!(connection), pin!(exchange));
    tokio::select! {
        biased;
        output = &mut exchange => output,
        _ = &mut connection => exchange.await,
    }
}
