//! Where every error becomes a response, once.

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderName, HeaderValue, Response, StatusCode};

use super::forwarding::X_REQUEST_ID;
use super::{Body, Context};
use crate::error::{ProxyError, Side};
use crate::ir::ErrorFormat;
use crate::telemetry::Reason;

/// What a 405 says is allowed (RFC 9110 §15.5.6): everything but CONNECT and TRACE.
pub const ALLOWED_METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";

/// The response for `error`: a body a person can read, or JSON where the client asks for it.
pub fn response(error: &ProxyError, context: &Context) -> Response<Body> {
    context.failed(error);
    if context.is_grpc.get() {
        return grpc(error, context);
    }
    let status = error.status();
    let phrase = status.canonical_reason().unwrap_or("Client Closed Request");
    let message = message(error.reason);
    let id = context.request_id();
    let id_text = id.as_str();
    let reason = error.reason.as_str();
    let by_default =
        context.settings().is_some_and(|settings| settings.errors == ErrorFormat::Json);
    let (kind, body) = if by_default || context.prefers_json.get() {
        let body = serde_json::json!({
            "status": status.as_u16(),
            "error": phrase,
            "reason": reason,
            "message": message,
            "request_id": id_text,
        });
        ("application/json", format!("{body}\n"))
    } else {
        let code = status.as_u16();
        let body = format!("{code} {phrase}\n{message} ({reason})\nrequest id: {id_text}\n");
        ("text/plain; charset=utf-8", body)
    };
    let mut response = Response::new(Body::full(Bytes::from(body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_REQUEST_ID, id.to_value());
    if status == StatusCode::METHOD_NOT_ALLOWED {
        headers.insert(ALLOW, HeaderValue::from_static(ALLOWED_METHODS));
    }
    if let Some(wait) = error.retry_after {
        // In whole seconds, and never too early.
        let rounded = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        headers.insert(RETRY_AFTER, HeaderValue::from(rounded.max(1)));
    } else if status == StatusCode::SERVICE_UNAVAILABLE {
        headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    // What is left of a request that was not read to its end must not be taken for the next one.
    if error.side == Side::Client {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// A gRPC client reads its status from trailers, and a response of trailers only is one head
/// (the "Trailers-Only" form of the gRPC protocol).
fn grpc(error: &ProxyError, context: &Context) -> Response<Body> {
    const UNKNOWN: &str = "2";
    let code = match error.status().as_u16() {
        400 => "13", // INTERNAL, as the protocol's own table maps HTTP statuses
        401 => "16",
        403 => "7",
        404 => "12",
        408 | 504 => "4",
        413 => "8",
        429 | 502 | 503 => "14",
        _ => UNKNOWN,
    };
    let mut response = Response::new(Body::empty());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(HeaderName::from_static("grpc-status"), HeaderValue::from_static(code));
    let message = HeaderValue::from_static(error.reason.as_str());
    headers.insert(HeaderName::from_static("grpc-message"), message);
    headers.insert(X_REQUEST_ID, context.request_id().to_value());
    response
}

fn message(reason: Reason) -> &'static str {
    match reason {
        Reason::AccessDenied => "This client may not use this route.",
        Reason::AuthFailed => "Who may use this route could not be found out.",
        Reason::AuthUnavailable => "Who may use this route cannot be checked right now.",
        Reason::BadRequest => "The request is malformed.",
        Reason::BodyTooLarge => "The request body is larger than this route allows.",
        Reason::ClientBodyTimeout => "The request body stopped arriving.",
        Reason::ClientCertificate => "This host demands a valid client certificate.",
        Reason::ClientClosed => "The client went away.",
        Reason::ClientWriteTimeout => "The client stopped reading.",
        Reason::ConfigError => "This route is misconfigured.",
        Reason::ConnectFailed => "No endpoint accepted a connection.",
        Reason::ConnectTimeout => "No endpoint accepted a connection in time.",
        Reason::ConnectionLimited => "This client has too many requests at once.",
        Reason::Draining => "This server is shutting down.",
        Reason::Forbidden => "This client may not use this route.",
        Reason::LengthRequired => "The length of the request body must be said.",
        Reason::Loop => "The request has passed through this server before.",
        Reason::MethodNotAllowed => "This method is not served.",
        Reason::Misdirected => "This host is not served on this connection.",
        Reason::NoEndpoint => "The service has no endpoint right now.",
        Reason::NoRoute => "No route matches this host and path.",
        Reason::Overloaded => "Too many requests at once.",
        Reason::QueueTimeout => "Too many requests at once; this one waited for too long.",
        Reason::RateLimited => "This client sends requests too fast.",
        Reason::RequestTimeout => "The request took longer than this route allows.",
        Reason::ResponseTimeout => "The service did not answer in time.",
        Reason::TunnelIdle => "The connection was idle for too long.",
        Reason::Unauthorized => "This route asks who you are.",
        Reason::UpgradeUnsupported => "The service takes no such switch of protocols.",
        Reason::UpstreamIdleTimeout => "The service stopped in the middle of its answer.",
        Reason::UpstreamIncomplete => "The service broke off its answer.",
        Reason::UpstreamProtocol => "The service sent an answer that is not valid HTTP.",
        Reason::UpstreamReset => "The service closed the connection.",
        Reason::UpstreamTls => "The service could not be verified.",
        Reason::CorsPreflight
        | Reason::Internal
        | Reason::None
        | Reason::Redirect
        | Reason::Respond => "Something went wrong in this server.",
    }
}
