//! Serving an HTTP/1 client connection.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt;
use http::header::{CONNECTION, UPGRADE};
use http::{HeaderValue, Response, StatusCode, Version};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt;

use super::connections::Place;
use super::gate::GateLimits;
use super::link::{ClientTimeouts, GateIo, H1Link, RawIo, Refusal};
use super::refusal::Refused;
use super::{Transport, WorkerCx};
use crate::ir::Limits;
use crate::proxy::{ALLOWED_METHODS, Body, ClientConn, Context, Inbound, IncomingBody, Stack};
use crate::util::wheel::timeout;

/// How long and how much is still read after this side is done, so that the client gets to see
/// the last response instead of a reset: clients look for it when they have sent all of a body that
/// was refused by its first bytes.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 16 * 1024 * 1024;
/// How long a connection that was accepted before the shutdown, and has not said anything yet, may
/// still bring its request.
const LAST_CALL: Duration = Duration::from_secs(1);

/// Serves requests until either side is done.
pub async fn serve<S: Stack>(
    worker: &WorkerCx<S>,
    conn: Rc<ClientConn>,
    transport: Transport,
    timeouts: ClientTimeouts,
    limits: &Limits,
    place: &Place,
) {
    let gate = GateLimits {
        head_size: limits.head_size,
        header_count: limits.header_count,
        target_size: limits.target_size,
    };
    let link = H1Link::new(transport, gate, timeouts, &worker.proxy.wheel);
    let mut received = Bytes::new();
    // The parser and its buffers are there while there is something to parse.
    while rest(worker, &link, place).await {
        match Box::pin(converse(worker, &conn, &link, limits, place)).await {
            Some(unread) => received = unread,
            None => continue,
        }
        break;
    }
    let tunnel = conn.tunnel.borrow_mut().take();
    if let Some(tunnel) = tunnel {
        let mut received = BytesMut::from(&received[..]);
        received.unsplit(link.take_held());
        Box::pin(tunnel.run(&mut RawIo(link), received.freeze())).await;
        return;
    }
    if let Some(refusal) = link.refusal() {
        Box::pin(refuse(worker, &conn, &link, refusal)).await;
    }
    close(worker, &link).await;
}

/// Waits for the next request; false when none comes any more.
async fn rest<S: Stack>(worker: &WorkerCx<S>, link: &H1Link, place: &Place) -> bool {
    let woken = poll_fn(|cx| {
        place.watch(cx);
        match link.poll_rest(cx) {
            Poll::Ready(()) => Poll::Ready(true),
            Poll::Pending if place.is_closing() => Poll::Ready(false),
            Poll::Pending => Poll::Pending,
        }
    })
    .await;
    // Between requests a client knows that the connection may close; before the first it does not.
    let woken = woken
        || link.is_new()
            && timeout(&worker.proxy.wheel, Some(LAST_CALL), poll_fn(|cx| link.poll_rest(cx)))
                .await
                .is_ok();
    woken && !link.is_at_end()
}

/// Serves requests for as long as they come; `None` when the connection rests, and what was read
/// and not used when it ends.
async fn converse<S: Stack>(
    worker: &WorkerCx<S>,
    conn: &Rc<ClientConn>,
    link: &Rc<H1Link>,
    limits: &Limits,
    place: &Place,
) -> Option<Bytes> {
    let service = service_fn(|request: http::Request<hyper::body::Incoming>| {
        call(worker, conn, link, request)
    });
    let mut builder = http1::Builder::new();
    // Deadlines, limits and the client's disappearance are the link's business.
    builder.half_close(true).header_read_timeout(None).max_buf_size(64 * 1024);
    const DEFAULT_HEADERS: usize = 100;
    if limits.header_count > DEFAULT_HEADERS {
        builder.max_headers(limits.header_count);
    }
    let mut connection = builder.serve_connection(TokioIo::new(GateIo(link.clone())), service);
    let mut leaving = false;
    let ended = poll_fn(|cx| {
        place.watch(cx);
        let mut polled = Pin::new(&mut connection).poll(cx);
        // Only now: what has come by now is read, and a request in it is answered.
        if polled.is_pending() && !leaving && place.is_closing() {
            leaving = true;
            Pin::new(&mut connection).graceful_shutdown();
            polled = Pin::new(&mut connection).poll(cx);
        }
        match polled {
            Poll::Ready(ended) => Poll::Ready(Some(ended)),
            // What it has read was all used: the link knows that no request has begun.
            Poll::Pending if link.can_rest() => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await?;
    if let Err(error) = ended {
        tracing::debug!(peer = %conn.peer, %error, "client connection broken");
    }
    Some(connection.into_parts().read_buf)
}

fn call<S: Stack>(
    worker: &WorkerCx<S>,
    conn: &Rc<ClientConn>,
    link: &Rc<H1Link>,
    request: http::Request<hyper::body::Incoming>,
) -> impl Future<Output = Result<Response<Body>, Infallible>> + use<S> {
    let (parts, body) = request.into_parts();
    link.begin(parts.version == Version::HTTP_10);
    let upgrade = is_held_for_upgrade(&parts);
    let proxy = worker.proxy.clone();
    let Some(context) = Context::new(conn.clone(), proxy.clone(), link.clone()) else {
        return futures_util::future::Either::Left(std::future::ready(Ok(not_ready())));
    };
    let inbound = Inbound { parts, body: IncomingBody::H1(body), context };
    let link = link.clone();
    let response = worker.calls.start(|| worker.stack.clone().call(inbound));
    futures_util::future::Either::Right(response.map(move |outcome| {
        let Ok(mut response) = outcome;
        if upgrade && response.status() != StatusCode::SWITCHING_PROTOCOLS {
            link.resume_http();
        }
        if proxy.is_draining() && response.status() != StatusCode::SWITCHING_PROTOCOLS {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        Ok(response)
    }))
}

/// Whether the gate holds what follows this request until it is answered.
fn is_held_for_upgrade(parts: &http::request::Parts) -> bool {
    let is_option = |option: &[u8]| option.trim_ascii().eq_ignore_ascii_case(b"upgrade");
    parts.version != Version::HTTP_10
        && parts.headers.get_all(UPGRADE).iter().any(|value| !value.is_empty())
        && parts
            .headers
            .get_all(CONNECTION)
            .iter()
            .any(|value| value.as_bytes().split(|byte| *byte == b',').any(is_option))
}

/// Before the first snapshot there is nothing to serve by.
fn not_ready() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    response
}

/// Answers what never reached the request path.
async fn refuse<S: Stack>(
    worker: &WorkerCx<S>,
    conn: &ClientConn,
    link: &Rc<H1Link>,
    refusal: Refusal,
) {
    let (status, reason, answered) = match refusal {
        Refusal::Gate(reject) => (reject.status(), reject.reason.as_str(), reject.mid_body),
        Refusal::HeadTimeout => (408, "head_timeout", false),
    };
    if answered {
        // Its head had passed: the answer and the story were the request path's.
        let snapshot = worker.proxy.snapshot();
        if let Some(listener) = snapshot.as_ref().and_then(|s| s.listener(conn.listener)) {
            listener.metrics.rejected(worker.proxy.id, reason);
        }
        tracing::debug!(peer = %conn.peer, status, reason, "request body refused");
        return;
    }
    Refused::from_line(status, reason, &link.begun_line()).tell(&worker.proxy, conn);
    let phrase = StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
    let phrase = phrase.unwrap_or("Bad Request");
    let body = format!("{status} {phrase}\nThe request was refused ({reason}).\n");
    let length = body.len();
    let allow = if status == 405 { format!("allow: {ALLOWED_METHODS}\r\n") } else { String::new() };
    let answer = format!(
        "HTTP/1.1 {status} {phrase}\r\ncontent-type: text/plain; charset=utf-8\r\n{allow}\
         content-length: {length}\r\nconnection: close\r\n\r\n{body}"
    );
    let mut io = RawIo(link.clone());
    let write = async { io.write_all(answer.as_bytes()).await };
    let _ = timeout(&worker.proxy.wheel, Some(LINGER), write).await;
}

/// Closes without cutting off what the client has yet to read.
async fn close<S: Stack>(worker: &WorkerCx<S>, link: &Rc<H1Link>) {
    let mut io = RawIo(link.clone());
    let close = async {
        io.shutdown().await?;
        let mut left = LINGER_BYTES;
        poll_fn(|cx| link.poll_drain(cx, &mut left)).await;
        Ok::<_, std::io::Error>(())
    };
    let _ = timeout(&worker.proxy.wheel, Some(LINGER), close).await;
}
