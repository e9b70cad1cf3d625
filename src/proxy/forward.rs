//! One attempt: pick an endpoint, get a connection, send the request, wait for the response head.

use std::rc::Rc;
use std::time::Duration;

use http::header::{CONNECTION, CONTENT_LENGTH, HOST, SEC_WEBSOCKET_KEY, TE, UPGRADE};
use http::uri::Scheme;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Uri, Version};

use super::choose::choose;
use super::connection::{Missed, connect};
use super::exchange::{Exchange, ExchangeBody, HeadDeadline, give_back};
use super::selection::Selection;
use super::tunnel::{Far, Tunnel, TunnelBody};
use super::watch::Watch;
use super::{Body, Context, Request, RequestBody, forwarding, hop, repeat, websocket};
use crate::error::{ProxyError, Replay, Side};
use crate::snapshot::CompiledRoute;
use crate::telemetry::Reason;
use crate::upstream::h1::{Framing, H1Conn, H1Exchange, HeadEvent, RequestHead, ResponseHead};
use crate::upstream::h2::H2Conn;
use crate::upstream::pool::Connection;
use crate::util::moment::Moment;
use crate::util::wheel::timeout;

/// An attempt that did not bring the response to pass on.
pub struct Failed {
    /// What it brought.
    pub unwelcome: Unwelcome,
    /// The request, if it may be sent again.
    pub request: Option<Box<Request>>,
}

/// What an attempt brought instead of a response to pass on.
pub enum Unwelcome {
    /// No response.
    Error(ProxyError),
    /// A response that the route's retry policy names, and why it does.
    Response(Box<Response<Body>>, &'static str),
}

impl Unwelcome {
    /// The error, where it is one.
    pub fn error(&self) -> Option<&ProxyError> {
        match self {
            Self::Error(error) => Some(error),
            Self::Response(..) => None,
        }
    }

    /// Whether there was no endpoint to go to, or no connection to be had.
    pub fn is_none_left(&self) -> bool {
        self.error().is_some_and(|error| {
            error.side == Side::Proxy
                && matches!(
                    error.reason,
                    Reason::NoEndpoint | Reason::Overloaded | Reason::QueueTimeout
                )
        })
    }

    /// What it was, as metrics tell it.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Error(error) => error.reason.as_str(),
            Self::Response(_, why) => why,
        }
    }
}

impl Failed {
    fn new(error: ProxyError, request: Option<Box<Request>>) -> Self {
        Self { unwelcome: Unwelcome::Error(error), request }
    }
}

impl From<ProxyError> for Failed {
    fn from(error: ProxyError) -> Self {
        Self::new(error, None)
    }
}

/// Sends `request` to an endpoint of its upstream and returns the response once its head is
/// there.
pub async fn forward(mut request: Box<Request>) -> Result<Response<Body>, Failed> {
    let context = request.context.clone();
    let snapshot = context.snapshot();
    let route =
        snapshot.as_ref().zip(context.route_id()).and_then(|(snapshot, id)| snapshot.route(id));
    let (Some(route), Some(upstream)) = (route, request.upstream.clone()) else {
        return Err(ProxyError::proxy(Reason::ConfigError).into());
    };
    let worker = context.worker.id;
    let selection = match request.selection {
        Some(selection) => selection,
        None => Selection::of(&upstream, &request),
    };
    request.selection = Some(selection);
    let first = request.tried.all().is_empty() && context.attempts.get() == 0;
    let now = if first { context.forwarded.get() } else { Moment::now() };
    let choice = choose(&context.worker, now, &upstream, selection, &request.tried);
    let in_flight = match choice {
        Ok(in_flight) => in_flight,
        Err(reason) => {
            // Where some were tried the story is theirs: there was an endpoint.
            if request.tried.all().is_empty() {
                if reason == Reason::NoEndpoint {
                    upstream.metrics.no_endpoint(worker);
                }
                context.upstream.replace(Some((upstream, None)));
            }
            return Err(ProxyError::proxy(reason).into());
        }
    };
    let endpoint = in_flight.endpoint().clone();
    let before = context.upstream.replace(Some((upstream.clone(), Some(endpoint.clone()))));
    context.attempts.set(context.attempts.get() + 1);
    let due = route.timeouts.request.map(|limit| context.started.after(limit));
    let mut watch = Watch::new(upstream.clone(), in_flight, worker, now, due);
    let connection =
        match connect(&context, route, &request, &upstream, &endpoint, &mut watch).await {
            Ok(connection) => connection,
            Err(Missed::Left) => {
                // Through nobody's fault: no attempt was made.
                context.attempts.set(context.attempts.get() - 1);
                context.upstream.replace(before);
                drop(watch);
                request.tried.refused(endpoint.id);
                return Box::pin(forward(request)).await;
            }
            Err(Missed::Failed(error)) if error.side == Side::Upstream => {
                watch.failed(error.reason);
                request.tried.refused(endpoint.id);
                return Err(Failed::new(error, Some(request)));
            }
            Err(Missed::Failed(error)) => {
                if error.side == Side::Proxy {
                    // Turned away: no attempt was made.
                    context.attempts.set(context.attempts.get() - 1);
                    context.upstream.replace(before.or(Some((upstream, None))));
                }
                return Err(error.into());
            }
        };
    watch.begin();
    let attempt = Attempt { context: &context, route, watch, relayed: false };
    let mut outcome = match connection {
        Connection::H1(conn) => attempt.over_h1(conn, request).await,
        Connection::H2(conn) => attempt.over_h2(conn, request).await,
    };
    let response = match &mut outcome {
        Ok(response) => Some(response),
        Err(Failed { unwelcome: Unwelcome::Response(response, _), .. }) => Some(&mut **response),
        Err(_) => None,
    };
    if let Some(response) = response {
        selection.remember(&upstream, &endpoint, &context, response.headers_mut());
    }
    outcome
}

/// An attempt that has its connection.
struct Attempt<'a> {
    context: &'a Rc<Context>,
    route: &'a CompiledRoute,
    watch: Watch,
    /// Whether the client got an interim response of it.
    relayed: bool,
}

impl Attempt<'_> {
    async fn over_h1(
        mut self,
        conn: Box<H1Conn>,
        mut request: Box<Request>,
    ) -> Result<Response<Body>, Failed> {
        let upgrade = request.upgrade.is_some();
        let extended = request.upgrade.as_ref().is_some_and(|upgrade| upgrade.extended_connect);
        // In a tunnel over HTTP/2 the client's bytes are no request body.
        let client = if extended { request.body.take() } else { None };
        let body = request.body.take();
        let framing = match body.as_ref().map(|body| body.length()) {
            Some(Some(length)) => Framing::Length(length),
            Some(None) => Framing::Chunked,
            None if expects_body(&request.method) => Framing::Length(0),
            None => Framing::None,
        };
        let upstream = request.upstream.as_ref();
        let http10 = upstream.is_some_and(|upstream| upstream.transport.speaks_http10());
        let connection = match &request.upgrade {
            _ if http10 => Some("close"),
            Some(upgrade) => {
                request.headers.insert(UPGRADE, upgrade.protocol.clone());
                Some("upgrade")
            }
            None if request.takes_trailers => {
                request.headers.insert(TE, HeaderValue::from_static("trailers"));
                Some("te")
            }
            None => None,
        };
        let extended_connect = Method::GET;
        let head = RequestHead {
            method: if extended { &extended_connect } else { &request.method },
            target: request.target.as_str(),
            host: request.upstream_host.as_bytes(),
            headers: &request.headers,
            framing,
            connection,
            http10,
        };
        let own = request.owes_forwarding.then(|| forwarding::Lines::new(&request));
        let (had_body, spare) = (body.is_some(), body.as_ref().and_then(RequestBody::again));
        let own = |out: &mut Vec<u8>| own.iter().for_each(|lines| lines.encode(out));
        let mut exchange = Exchange::H1(H1Exchange::new(conn, &head, own, body, upgrade));
        match self.wait(&mut exchange, &mut request, had_body).await {
            Ok(head) if head.status == StatusCode::SWITCHING_PROTOCOLS => {
                Ok(self.switch(exchange, head, client, extended)?)
            }
            // To an extended CONNECT a 2xx says that the tunnel is open (RFC 8441 §5).
            Ok(head) if extended && head.status.is_success() => {
                let error = ProxyError::upstream(Reason::UpstreamProtocol)
                    .because("the endpoint did not switch protocols");
                Err(self.failed(error, request, had_body))
            }
            Ok(head) => {
                request.body = spare.and_then(|body| body.again());
                self.judge(exchange, head, request, had_body)
            }
            Err(error) => {
                request.body = spare.and_then(|body| body.again());
                if let Exchange::H1(exchange) = exchange
                    && request.body.is_none()
                    && matches!(error.replay, Replay::Stale { written: false } | Replay::Unwritten)
                {
                    let (body, piece) = exchange.into_request_body();
                    request.body = body.or(client);
                    if let Some(body) = &mut request.body {
                        body.put_back(piece);
                    }
                }
                Err(self.failed(error, request, had_body))
            }
        }
    }

    async fn over_h2(
        mut self,
        conn: H2Conn,
        mut request: Box<Request>,
    ) -> Result<Response<Body>, Failed> {
        // HTTP/2 has a form of its own for WebSocket only.
        if let Some(upgrade) = &request.upgrade
            && !((upgrade.extended_connect || websocket::is_meant(&upgrade.protocol))
                && self.takes_extended_connect(&conn).await?)
        {
            let error = ProxyError::upstream(Reason::UpgradeUnsupported)
                .because("the endpoint speaks HTTP/2 and takes no extended CONNECT for this");
            self.watch.failed(error.reason);
            return Err(error.into());
        }
        if std::mem::take(&mut request.owes_forwarding) {
            forwarding::send(&mut request);
        }
        // The key of a client that speaks HTTP/1, which waits for its proof.
        let from_h1 = request.upgrade.as_ref().is_some_and(|upgrade| !upgrade.extended_connect);
        let key = request.headers.get(SEC_WEBSOCKET_KEY).filter(|_| from_h1).cloned();
        let head = h2_head(&request).filter(|_| from_h1 == key.is_some());
        let Some(head) = head else {
            return Err(ProxyError::client(Reason::BadRequest).into());
        };
        let body = request.body.take();
        let (had_body, spare) = (body.is_some(), body.as_ref().and_then(RequestBody::again));
        let started = match key {
            Some(_) => conn.open(head).await.map_err(|error| (error, None)),
            None => conn.start(head, body).await,
        };
        match started {
            Ok(exchange) => {
                let mut exchange = Exchange::H2(exchange);
                let outcome = self.wait(&mut exchange, &mut request, had_body).await;
                match (outcome, key) {
                    (Ok(mut head), Some(key)) if head.status.is_success() => {
                        websocket::consent(&mut head, &key);
                        Ok(self.switch(exchange, head, None, false)?)
                    }
                    (Ok(head), _) if request.upgrade.is_some() && head.status.is_success() => {
                        Ok(self.respond(exchange, head, true))
                    }
                    (Ok(head), _) => {
                        request.body = spare.and_then(|body| body.again());
                        self.judge(exchange, head, request, had_body)
                    }
                    (Err(error), _) => {
                        request.body = spare.and_then(|body| body.again());
                        Err(self.failed(error, request, had_body))
                    }
                }
            }
            Err((error, body)) => {
                request.body = body;
                Err(self.failed(error, request, had_body))
            }
        }
    }

    /// A fresh connection has to hear from its peer first.
    async fn takes_extended_connect(&self, conn: &H2Conn) -> Result<bool, ProxyError> {
        let limit = self.route.timeouts.connect;
        let settled = timeout(&self.context.worker.wheel, limit, conn.settled());
        let _ = self.context.unless_closed(settled).await?;
        Ok(conn.takes_extended_connect())
    }

    /// Waits for the final head; interim ones are relayed on the way.
    async fn wait(
        &mut self,
        exchange: &mut Exchange,
        request: &mut Request,
        had_body: bool,
    ) -> Result<ResponseHead, ProxyError> {
        let mut deadline = self.head_deadline(had_body);
        let (context, watch) = (self.context, &mut self.watch);
        // The response's fields take the place of the request's, where nobody needs those again.
        let mut own = HeaderMap::new();
        let needed = repeat::reads_heads(&self.route.retry);
        let spare = if needed { &mut own } else { &mut request.headers };
        loop {
            let event = std::future::poll_fn(|cx| {
                let polled = exchange.poll_head(cx, spare);
                if polled.is_ready() {
                    return polled;
                }
                if context.link.poll_closed(cx).is_ready() {
                    let gone = ProxyError::client(Reason::ClientClosed);
                    return std::task::Poll::Ready(Err(gone));
                }
                watch.set_awaits(exchange.is_sent());
                let reason = deadline.poll(cx, context, exchange);
                let late = |reason| ProxyError::upstream(reason).replay(Replay::Unanswered);
                reason.map(|reason| Err(late(reason)))
            })
            .await?;
            match event {
                HeadEvent::Final(head) => {
                    let now = Moment::now();
                    let took = now.since(watch.started());
                    context.response_at.set(Some(now));
                    context.response_time.set(Some(took));
                    watch.responded(&head, context.is_grpc.get(), now);
                    return Ok(head);
                }
                // The 100 a client waits for is sent when its body is first wanted.
                HeadEvent::Interim(head) if head.status == StatusCode::CONTINUE => {}
                HeadEvent::Interim(mut head) => {
                    hop::strip_interim(&mut head.headers);
                    context.link.send_interim(head.status, &head.headers);
                    self.relayed = true;
                }
            }
        }
    }

    /// What is left of the attempt's own time is counted from where nothing but the endpoint's
    /// answer is missing.
    fn head_deadline(&self, had_body: bool) -> HeadDeadline {
        let timeouts = &self.route.timeouts;
        let left = self.route.retry.per_try.map(|limit| match had_body {
            true => limit,
            false => limit.saturating_sub(self.watch.started().elapsed()),
        });
        HeadDeadline::new(timeouts.idle, sooner(timeouts.response, left))
    }

    /// A response, or one that the route would rather not pass on.
    #[inline]
    fn judge(
        self,
        exchange: Exchange,
        head: ResponseHead,
        mut request: Box<Request>,
        had_body: bool,
    ) -> Result<Response<Body>, Failed> {
        let why = repeat::unwelcome(&self.route.retry, head.status, &head.headers);
        let Some(why) = why.filter(|_| self.may_repeat(&request, had_body)) else {
            return Ok(self.respond(exchange, head, false));
        };
        request.tried.disappointed(self.watch.endpoint().id);
        let response = Box::new(self.respond(exchange, head, false));
        let unwelcome = Unwelcome::Response(response, why);
        Err(Failed { unwelcome, request: Some(request) })
    }

    /// Whether a request that was written may be written again.
    fn may_repeat(&self, request: &Request, had_body: bool) -> bool {
        let whole = !had_body || request.body.is_some();
        whole && !self.relayed && repeat::is_repeatable(&self.route.retry, &request.method)
    }

    #[inline]
    fn respond(
        mut self,
        mut exchange: Exchange,
        mut head: ResponseHead,
        tunnel: bool,
    ) -> Response<Body> {
        hop::strip_response(&mut head.headers, false);
        // An HTTP/1 exchange knows its length itself.
        let length = match &exchange {
            Exchange::H1(_) => None,
            Exchange::H2(_) => head.headers.get(CONTENT_LENGTH),
        };
        let length = length.and_then(|length| length.to_str().ok()?.parse().ok());
        let timeouts = &self.route.timeouts;
        let (idle, total) = match tunnel {
            true => (timeouts.tunnel_idle, None),
            false => {
                (timeouts.idle, timeouts.request.map(|limit| self.context.started.after(limit)))
            }
        };
        // What follows the consent to a tunnel is no part of the answer.
        if tunnel {
            self.watch.ended(Moment::now());
        }
        let whole = match &mut exchange {
            Exchange::H1(exchange) => exchange.take_whole_body(),
            Exchange::H2(_) => None,
        };
        let mut response = Response::new(match whole {
            // Nothing is left to read: the connection is free before the client has the answer.
            Some(whole) => {
                if exchange.is_over() {
                    let now = self.context.response_at.get().unwrap_or_else(Moment::now);
                    give_back(&mut exchange, self.context, now);
                    self.watch.ended(now);
                }
                Body::full(whole)
            }
            None => {
                let context = self.context.clone();
                let body = ExchangeBody::new(exchange, context, self.watch, length, idle, total);
                Body::upstream(body)
            }
        });
        *response.status_mut() = head.status;
        *response.headers_mut() = head.headers;
        response
    }

    /// Answers a 101, or an HTTP/2 endpoint's consent: the connection becomes a tunnel.
    fn switch(
        mut self,
        exchange: Exchange,
        mut head: ResponseHead,
        client: Option<RequestBody>,
        extended: bool,
    ) -> Result<Response<Body>, ProxyError> {
        let taken = Far::take_over(exchange);
        let (stream, early) = taken.ok_or_else(|| ProxyError::proxy(Reason::Internal))?;
        let idle = self.route.timeouts.tunnel_idle;
        self.watch.ended(Moment::now());
        let tunnel = Tunnel::new(stream, early, self.context.clone(), idle, self.watch);
        hop::strip_response(&mut head.headers, !extended);
        head.headers.remove(CONTENT_LENGTH);
        let mut response = if extended {
            head.headers.remove("sec-websocket-accept");
            Response::new(Body::tunnel(TunnelBody::new(tunnel, client)))
        } else {
            head.headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
            self.context.conn.tunnel.replace(Some(tunnel));
            Response::new(Body::empty())
        };
        *response.status_mut() = if extended { StatusCode::OK } else { head.status };
        *response.headers_mut() = head.headers;
        Ok(response)
    }

    fn failed(&mut self, error: ProxyError, mut request: Box<Request>, had_body: bool) -> Failed {
        match error.side {
            Side::Upstream if error.is_stale() => self.watch.went_stale(error.reason),
            Side::Upstream => self.watch.failed(error.reason),
            _ => {}
        }
        // Who closed a connection while it was idle did not disappoint: what belongs to it by
        // session or hash goes there again.
        if !error.is_stale() {
            request.tried.disappointed(self.watch.endpoint().id);
        }
        let again = match error.replay {
            Replay::Stale { written: false } | Replay::Refused | Replay::Unwritten => {
                !had_body || request.body.is_some()
            }
            Replay::Stale { written: true } | Replay::Unanswered => {
                self.may_repeat(&request, had_body)
            }
            Replay::Never => false,
        };
        Failed::new(error, again.then_some(request))
    }
}

/// The shorter of two times that may not be limited.
fn sooner(one: Option<Duration>, other: Option<Duration>) -> Option<Duration> {
    one.into_iter().chain(other).min()
}

/// Methods whose requests say `Content-Length: 0` when they have no body (RFC 9110 §8.6).
fn expects_body(method: &Method) -> bool {
    matches!(*method, Method::POST | Method::PUT | Method::PATCH)
}

fn h2_head(request: &Request) -> Option<http::Request<()>> {
    let secure = request.upstream.as_ref().is_some_and(|up| up.transport.tls.is_some());
    let uri = Uri::builder()
        .scheme(if secure { Scheme::HTTPS } else { Scheme::HTTP })
        .authority(request.upstream_host.as_bytes())
        .path_and_query(request.target.as_path_and_query().clone())
        .build()
        .ok()?;
    let mut head = http::Request::new(());
    *head.method_mut() = request.method.clone();
    *head.uri_mut() = uri;
    *head.version_mut() = Version::HTTP_2;
    *head.headers_mut() = request.headers.clone();
    let headers = head.headers_mut();
    headers.remove(HOST);
    headers.remove(SEC_WEBSOCKET_KEY);
    // An attempt at an HTTP/1 endpoint left it, and HTTP/2 forbids it.
    headers.remove(UPGRADE);
    if request.takes_trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    if let Some(length) = request.body.as_ref().and_then(|body| body.length()) {
        headers.insert(CONTENT_LENGTH, length.into());
    }
    if let Some(upgrade) = &request.upgrade {
        let protocol = upgrade.protocol.to_str().ok()?;
        *head.method_mut() = Method::CONNECT;
        head.extensions_mut().insert(h2::ext::Protocol::from(protocol));
    }
    Some(head)
}
