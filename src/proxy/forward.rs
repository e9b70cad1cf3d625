//! One attempt: pick an endpoint, get a connection, send the request, wait for the response head.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use http::header::{CONNECTION, CONTENT_LENGTH, HOST, SEC_WEBSOCKET_KEY, TE, UPGRADE};
use http::uri::Scheme;
use http::{HeaderValue, Method, Response, StatusCode, Uri, Version};

use super::exchange::{Exchange, ExchangeBody, HeadDeadline};
use super::tunnel::{Far, Tunnel, TunnelBody};
use super::watch::Watch;
use super::{Body, Context, Request, forwarding, hop, websocket};
use crate::error::{ProxyError, Replay, Side};
use crate::ir::UpstreamProtocol;
use crate::snapshot::{Action, CompiledRoute};
use crate::telemetry::Reason;
use crate::upstream::balance::Pick;
use crate::upstream::h1::{Framing, H1Conn, H1Exchange, HeadEvent, RequestHead, ResponseHead};
use crate::upstream::h2::H2Conn;
use crate::upstream::pool::Connection;
use crate::upstream::{Endpoint, Upstream};
use crate::util::moment::Moment;
use crate::util::random::Random;
use crate::util::wheel::timeout;

/// An attempt that failed, and the request where it can still be used.
pub struct Failed {
    /// What went wrong.
    pub error: ProxyError,
    /// The request, if it may be sent again.
    pub request: Option<Box<Request>>,
}

impl From<ProxyError> for Failed {
    fn from(error: ProxyError) -> Self {
        Self { error, request: None }
    }
}

/// Sends `request` to an endpoint of its route and returns the response once its head is there.
pub async fn forward(mut request: Box<Request>) -> Result<Response<Body>, Failed> {
    let context = request.context.clone();
    let Some((route, upstream)) = destination(&context, &request) else {
        return Err(ProxyError::proxy(Reason::ConfigError).into());
    };
    request.upstream = Some(upstream.clone());
    let worker = context.worker.id;
    let mut pick = Pick {
        worker,
        now: Moment::of(context.started),
        tried: &request.tried,
        key: None,
        session: None,
        random: Random::new(context.worker.random()),
    };
    let Some(endpoint) = upstream.pick(&mut pick) else {
        // Where some were tried the story is theirs: there was an endpoint.
        if request.tried.is_empty() {
            upstream.metrics.no_endpoint(worker);
            context.upstream.replace(Some((upstream, None)));
        }
        return Err(ProxyError::proxy(Reason::NoEndpoint).into());
    };
    context.upstream.replace(Some((upstream.clone(), Some(endpoint.clone()))));
    context.attempts.set(context.attempts.get() + 1);
    // The first attempt begins with the request, as near as makes no difference.
    let first = context.attempts.get() == 1;
    let started = if first { context.started } else { Instant::now() };
    let due = route.timeouts.request.map(|limit| context.started + limit);
    let mut watch = Watch::new(upstream.clone(), endpoint.clone(), worker, started, due);
    let connection = match connect(&context, route, &request, &upstream, &endpoint).await {
        Ok(connection) => connection,
        Err(error) => {
            if error.side == Side::Upstream {
                watch.failed(error.reason);
            }
            request.tried.push(endpoint.id);
            return Err(Failed { error, request: Some(request) });
        }
    };
    let attempt = Attempt { context: &context, route, watch };
    match connection {
        Connection::H1(conn) => attempt.over_h1(conn, request).await,
        Connection::H2(conn) => attempt.over_h2(conn, request).await,
    }
}

fn destination<'a>(
    context: &'a Context,
    request: &Request,
) -> Option<(&'a CompiledRoute, Arc<Upstream>)> {
    let route = context.route()?;
    let Action::Forward(targets) = &route.action else { return None };
    // Another attempt of a request stays with the upstream its first attempt drew.
    let upstream = match &request.upstream {
        Some(upstream) => upstream.clone(),
        None => targets.pick(context.worker.id)?.clone(),
    };
    Some((route, upstream))
}

async fn connect(
    context: &Context,
    route: &CompiledRoute,
    request: &Request,
    upstream: &Upstream,
    endpoint: &Arc<Endpoint>,
) -> Result<Connection, ProxyError> {
    let transport = &upstream.transport;
    let per_host = transport.tls.as_ref().is_some_and(|tls| tls.per_host());
    let server_name = per_host.then(|| match &endpoint.host {
        Some(host) => host.clone(),
        None => host_name(&request.upstream_host),
    });
    let limit = route.timeouts.connect;
    let pools = &context.worker.pools;
    let wheel = &context.worker.wheel;
    let name = server_name.as_ref();
    // A connection that was open when it was last looked at and failed the last attempt is not
    // the one to try again.
    let h1_only = transport.protocol != UpstreamProtocol::Http2
        && request.upgrade.as_ref().is_some_and(|upgrade| !upgrade.extended_connect);
    let certain = request.body.is_some() || !request.method.is_idempotent();
    let wish = crate::upstream::pool::Wish { fresh: request.fresh, certain, h1_only };
    let obtain = pools.obtain(endpoint, transport, name, wish, wheel, limit);
    unless_closed(context, obtain).await?
}

fn host_name(host: &HeaderValue) -> Arc<str> {
    match super::Host::parse(host) {
        Some(host) => Arc::from(host.name()),
        None => Arc::from(""),
    }
}

/// `future`, unless the client goes away first.
async fn unless_closed<F: Future>(context: &Context, future: F) -> Result<F::Output, ProxyError> {
    let mut future = std::pin::pin!(future);
    std::future::poll_fn(|cx| {
        if let std::task::Poll::Ready(output) = future.as_mut().poll(cx) {
            return std::task::Poll::Ready(Ok(output));
        }
        context.link.poll_closed(cx).map(|()| Err(ProxyError::client(Reason::ClientClosed)))
    })
    .await
}

/// An attempt that has its connection.
struct Attempt<'a> {
    context: &'a Rc<Context>,
    route: &'a CompiledRoute,
    watch: Watch,
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
        let connection = match &request.upgrade {
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
        };
        let own = request.owes_forwarding.then(|| forwarding::Lines::new(&request));
        let had_body = body.is_some();
        let own = |out: &mut Vec<u8>| own.iter().for_each(|lines| lines.encode(out));
        let mut exchange = Exchange::H1(H1Exchange::new(conn, &head, own, body, upgrade));
        match self.wait(&mut exchange, &mut request).await {
            Ok(head) if head.status == StatusCode::SWITCHING_PROTOCOLS => {
                Ok(self.switch(exchange, head, client, extended)?)
            }
            // To an extended CONNECT a 2xx says that the tunnel is open (RFC 8441 §5).
            Ok(head) if extended && head.status.is_success() => {
                let error = ProxyError::upstream(Reason::UpstreamProtocol)
                    .because("the endpoint did not switch protocols");
                Err(self.failed(error, request, had_body))
            }
            Ok(head) => Ok(self.respond(exchange, head, false)),
            Err(error) => {
                if let Exchange::H1(exchange) = exchange {
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
        let had_body = body.is_some();
        let started = match key {
            Some(_) => conn.open(head).await.map_err(|error| (error, None)),
            None => conn.start(head, body).await,
        };
        match started {
            Ok(exchange) => {
                let mut exchange = Exchange::H2(exchange);
                match (self.wait(&mut exchange, &mut request).await, key) {
                    (Ok(mut head), Some(key)) if head.status.is_success() => {
                        websocket::consent(&mut head, &key);
                        Ok(self.switch(exchange, head, None, false)?)
                    }
                    (Ok(head), _) => {
                        let tunnel = request.upgrade.is_some() && head.status.is_success();
                        Ok(self.respond(exchange, head, tunnel))
                    }
                    (Err(error), _) => Err(self.failed(error, request, had_body)),
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
        let _ = unless_closed(self.context, settled).await?;
        Ok(conn.takes_extended_connect())
    }

    /// Waits for the final head; interim ones are relayed on the way.
    async fn wait(
        &mut self,
        exchange: &mut Exchange,
        request: &mut Request,
    ) -> Result<ResponseHead, ProxyError> {
        let timeouts = &self.route.timeouts;
        let (context, watch) = (self.context, &mut self.watch);
        let mut deadline = HeadDeadline::new(timeouts.idle, timeouts.response);
        loop {
            let event = std::future::poll_fn(|cx| {
                let polled = exchange.poll_head(cx, &mut request.headers);
                if polled.is_ready() {
                    return polled;
                }
                if context.link.poll_closed(cx).is_ready() {
                    let gone = ProxyError::client(Reason::ClientClosed);
                    return std::task::Poll::Ready(Err(gone));
                }
                watch.set_awaits(exchange.is_sent());
                let reason = deadline.poll(cx, context, exchange);
                reason.map(|reason| Err(ProxyError::upstream(reason)))
            })
            .await?;
            match event {
                HeadEvent::Final(mut head) => {
                    let now = Instant::now();
                    let took = now.saturating_duration_since(watch.started());
                    context.response_at.set(Some(now));
                    context.response_time.set(Some(took));
                    watch.take_report(&mut head.headers, now);
                    watch.responded(head.status.as_u16(), now);
                    return Ok(head);
                }
                // The 100 a client waits for is sent when its body is first wanted.
                HeadEvent::Interim(head) if head.status == StatusCode::CONTINUE => {}
                HeadEvent::Interim(mut head) => {
                    hop::strip_interim(&mut head.headers);
                    context.link.send_interim(head.status, &head.headers);
                }
            }
        }
    }

    fn respond(
        self,
        mut exchange: Exchange,
        mut head: ResponseHead,
        tunnel: bool,
    ) -> Response<Body> {
        hop::strip_response(&mut head.headers, false);
        let timeouts = &self.route.timeouts;
        let (idle, total) = match tunnel {
            true => (timeouts.tunnel_idle, None),
            false => (timeouts.idle, timeouts.request.map(|limit| self.context.started + limit)),
        };
        let whole = match &mut exchange {
            Exchange::H1(exchange) => exchange.take_whole_body(),
            Exchange::H2(_) => None,
        };
        let context = self.context.clone();
        let body = ExchangeBody::new(exchange, context, self.watch, idle, total);
        let mut response = Response::new(match whole {
            Some(whole) => Body::full(whole),
            None => Body::upstream(body),
        });
        *response.status_mut() = head.status;
        *response.headers_mut() = head.headers;
        response
    }

    /// Answers a 101, or an HTTP/2 endpoint's consent: the connection becomes a tunnel.
    fn switch(
        self,
        exchange: Exchange,
        mut head: ResponseHead,
        client: Option<super::RequestBody>,
        extended: bool,
    ) -> Result<Response<Body>, ProxyError> {
        let taken = Far::take_over(exchange);
        let (stream, early) = taken.ok_or_else(|| ProxyError::proxy(Reason::Internal))?;
        let idle = self.route.timeouts.tunnel_idle;
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

    fn failed(&mut self, error: ProxyError, request: Box<Request>, had_body: bool) -> Failed {
        match (error.side, error.replay) {
            (Side::Upstream, Replay::Stale) => self.watch.went_stale(error.reason),
            (Side::Upstream, _) => self.watch.failed(error.reason),
            _ => {}
        }
        let whole = !had_body || request.body.is_some();
        let again = match error.replay {
            Replay::Unwritten => whole,
            Replay::Stale => !had_body && request.method.is_idempotent(),
            Replay::Never => false,
        };
        Failed { error, request: again.then_some(request) }
    }
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
