//! Brings a request into its one form, or refuses it: here or never.

use std::net::IpAddr;
use std::time::SystemTime;

use futures_util::future::{Either, ready};
use http::header::{ACCEPT, CONTENT_TYPE, HOST, REFERER, USER_AGENT};
use http::uri::PathAndQuery;
use http::{HeaderValue, Method, Response};
use tower::{Service, service_fn};

use crate::error::ProxyError;
use crate::filter::RequestTarget;
use crate::proxy::hop::Present;
use crate::proxy::{
    Body, Context, Host, HttpVersion, Inbound, Request, RequestBody, Tried, Upgrade, forwarding,
    hop, websocket,
};
use crate::telemetry::{Reason, Record, RecordText};

/// One host, one target, no hop-by-hop fields, the client's address settled.
pub fn normalize<S>(
    mut inner: S,
) -> impl Service<Inbound, Response = Response<Body>, Error = ProxyError> + Clone
where
    S: Service<Box<Request>, Response = Response<Body>, Error = ProxyError> + Clone,
{
    service_fn(move |inbound: Inbound| {
        let context = inbound.context.clone();
        match judge(inbound) {
            Ok(request) => Either::Left(inner.call(request)),
            Err(error) => {
                context.routed(None);
                Either::Right(ready(Err(error)))
            }
        }
    })
}

fn judge(inbound: Inbound) -> Result<Box<Request>, ProxyError> {
    let Inbound { parts, body, context } = inbound;
    let mut headers = parts.headers;
    let mut present = Present::default();
    let mut suspect = false;
    for (name, _) in &headers {
        present.note(name);
        suspect |= forwarding::is_suspect(name);
    }
    context.prefers_json.set(present.accept && prefers_json(headers.get(ACCEPT)));
    context.is_grpc.set(present.content_type && is_grpc(headers.get(CONTENT_TYPE)));
    forwarding::receive(&context, &mut headers, suspect);

    let uri = parts.uri.into_parts();
    let field = if present.hosts > 0 { headers.remove(HOST) } else { None };
    let host = match present.hosts {
        0 | 1 => host(uri.authority.as_ref(), field.as_ref(), &context),
        _ => Err(bad_request("several Host fields")),
    };
    let path = uri.path_and_query.unwrap_or(PathAndQuery::from_static("/"));
    // What is refused for its host is logged, too.
    begin_record(&context, &parts.method, parts.version, host.as_ref().ok(), &path, &headers);
    let host = host?;
    let extended = parts.extensions.get::<h2::ext::Protocol>().map(h2::ext::Protocol::as_str);
    let mut upgrade = match (&parts.method, extended) {
        (&Method::CONNECT, Some(protocol)) => {
            Some(Upgrade { protocol: tunnelled(protocol)?, extended_connect: true })
        }
        (&Method::CONNECT | &Method::TRACE, _) => {
            return Err(ProxyError::proxy(Reason::MethodNotAllowed));
        }
        _ => None,
    };
    let target = RequestTarget::parse(path, context.conn.encoded_slashes);
    let target = target.map_err(bad_request)?;
    if target.path() == "*" && parts.method != Method::OPTIONS {
        return Err(bad_request("'*' is only for OPTIONS"));
    }
    let found = hop::strip_request(&mut headers, &present);
    let body = RequestBody::new(body, context.clone());
    // Upgrading is the server's choice (RFC 9110 §7.8): not in HTTP/1.0, which has none, and not
    // around a request body, whose end would have to be waited for first.
    if let Some(protocol) = found.upgrade
        && context.conn.version == HttpVersion::H1
        && parts.version == http::Version::HTTP_11
        && body.is_none()
    {
        upgrade = Some(Upgrade { protocol, extended_connect: false });
    }
    if let Some(upgrade) = &upgrade
        && upgrade.extended_connect
    {
        websocket::add_key(&context.worker, &mut headers);
    }
    Ok(Box::new(Request {
        method: parts.method,
        upstream_host: host.to_value(),
        host,
        target,
        asked: None,
        ruling: None,
        headers,
        body,
        upgrade,
        takes_trailers: found.takes_trailers,
        context,
        tried: Tried::default(),
        upstream: None,
        fresh: false,
        selection: None,
        owes_forwarding: false,
    }))
}

/// What an extended CONNECT asks for (RFC 8441 §4): one name of a protocol. Which ones there are is
/// for the endpoint to say; what carries HTTP again is not supported here (RFC 9220 §3).
fn tunnelled(protocol: &str) -> Result<HeaderValue, ProxyError> {
    if !hop::is_token(protocol.as_bytes()) {
        return Err(bad_request(":protocol is no token"));
    }
    if hop::carries_http(protocol.as_bytes()) {
        return Err(ProxyError::client(Reason::UpgradeUnsupported)
            .because("a tunnel must not carry HTTP past the proxy"));
    }
    HeaderValue::from_str(protocol).map_err(bad_request)
}

fn bad_request(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> ProxyError {
    ProxyError::client(Reason::BadRequest).because(error)
}

/// The one host of a request (RFC 9112 §3.2, RFC 9113 §8.3.1): the target's authority or `Host`,
/// and where both are there they must agree.
fn host(
    authority: Option<&http::uri::Authority>,
    field: Option<&HeaderValue>,
    context: &Context,
) -> Result<Host, ProxyError> {
    let from_field = match field {
        Some(value) => Some(Host::parse(value).ok_or_else(|| bad_request("bad Host"))?),
        None => None,
    };
    let from_target = match authority {
        Some(authority) => {
            let host = Host::from_authority(authority);
            Some(host.ok_or_else(|| bad_request("bad authority"))?)
        }
        None => None,
    };
    match (from_target, from_field) {
        (Some(target), Some(field)) if !target.same_place(&field, context.conn.secure) => {
            Err(bad_request("Host differs from the target's authority"))
        }
        (Some(host), _) | (None, Some(host)) => Ok(host),
        // HTTP/1.0 without a Host: the address it was sent to is all there is.
        (None, None) => {
            let address = match context.conn.local.ip() {
                IpAddr::V4(ip) => ip.to_string(),
                IpAddr::V6(ip) => format!("[{ip}]"),
            };
            let value = HeaderValue::try_from(address).map_err(bad_request)?;
            Host::parse(&value).ok_or_else(|| bad_request("no Host"))
        }
    }
}

/// Whether an error body should be JSON: the client names it and does not take text.
fn prefers_json(accept: Option<&HeaderValue>) -> bool {
    let Some(accept) = accept.and_then(|accept| accept.to_str().ok()) else { return false };
    accept.contains("json") && !accept.contains("text/")
}

fn is_grpc(kind: Option<&HeaderValue>) -> bool {
    kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

fn begin_record(
    context: &Context,
    method: &Method,
    version: http::Version,
    host: Option<&Host>,
    path: &PathAndQuery,
    headers: &http::HeaderMap,
) {
    context.begin_record(|| {
        let text = RecordText {
            host: host.map_or("", Host::name).as_bytes(),
            path: path.path().as_bytes(),
            query: path.query().map(str::as_bytes),
            request_id: context.request_id().as_bytes(),
            user_agent: headers.get(USER_AGENT).map(HeaderValue::as_bytes),
            referer: headers.get(REFERER).map(HeaderValue::as_bytes),
        };
        let listener = context.listener().map(|listener| listener.name.clone());
        Record::new(
            SystemTime::now(),
            context.conn.peer,
            listener.unwrap_or_default(),
            method.clone(),
            version,
            &text,
        )
    });
}
