//! A request as the shop reads it, and the forms its answers take.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, COOKIE, LOCATION, VARY,
};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body::Frame;
use http_body_util::{BodyExt, Either, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::page;

/// The body of an answer: one piece, or events as they come.
pub(super) type Body = Either<Full<Bytes>, Events>;

/// A body of one piece.
pub(super) fn full(text: impl Into<Bytes>) -> Body {
    Either::Left(Full::new(text.into()))
}

/// A body that ends when its sender does.
pub(super) struct Events(pub(super) mpsc::Receiver<Bytes>);

impl http_body::Body for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|piece| piece.map(|bytes| Ok(Frame::data(bytes))))
    }
}

/// A request, read whole.
pub(super) struct Ask {
    /// Who answers.
    pub(super) endpoint: Arc<str>,
    pub(super) method: Method,
    pub(super) version: Version,
    pub(super) path: String,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    /// What the connection becomes, should the request be upgraded.
    pub(super) upgrade: OnUpgrade,
    query: String,
}

impl Ask {
    /// Reads the body within size and time; what does not fit comes back as the refusal.
    pub(super) async fn read(
        endpoint: Arc<str>,
        mut request: Request<Incoming>,
    ) -> Result<Self, Response<Body>> {
        let upgrade = hyper::upgrade::on(&mut request);
        let (parts, body) = request.into_parts();
        let mut ask = Self {
            endpoint,
            method: parts.method,
            version: parts.version,
            path: parts.uri.path().to_owned(),
            query: parts.uri.query().unwrap_or_default().to_owned(),
            headers: parts.headers,
            body: Bytes::new(),
            upgrade,
        };
        let body = Limited::new(body, BODY_LIMIT).collect();
        match tokio::time::timeout(BODY_TIME, body).await {
            Ok(Ok(body)) => ask.body = body.to_bytes(),
            Ok(Err(error)) if error.is::<LengthLimitError>() => {
                return Err(ask.problem(StatusCode::PAYLOAD_TOO_LARGE, "64 KiB is enough here"));
            }
            Ok(Err(_)) => {
                return Err(ask.problem(StatusCode::BAD_REQUEST, "the body broke off"));
            }
            Err(_) => {
                return Err(ask.problem(StatusCode::REQUEST_TIMEOUT, "the body took too long"));
            }
        }
        Ok(ask)
    }

    /// The path below `prefix`: `Some("")` for the collection, `Some("id")` for a member, `None`
    /// for anything else.
    pub(super) fn below(&self, prefix: &str) -> Option<&str> {
        let rest = self.path.strip_prefix(prefix)?;
        match rest.strip_prefix('/') {
            Some(member) if !member.contains('/') => Some(member),
            None if rest.is_empty() => Some(""),
            _ => None,
        }
    }

    /// Whether the method only reads.
    pub(super) fn reads(&self) -> bool {
        self.method == Method::GET || self.method == Method::HEAD
    }

    /// The first query parameter of that name, decoded.
    pub(super) fn query(&self, name: &str) -> Option<String> {
        form_urlencoded::parse(self.query.as_bytes())
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.into_owned())
    }

    /// The body as a JSON object: as sent, or made of a form's fields. `None` where it is
    /// neither.
    pub(super) fn object(&self) -> Option<Value> {
        let kind = self.header("content-type").split(';').next().unwrap_or_default().trim();
        if kind.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
            let fields = form_urlencoded::parse(&self.body)
                .map(|(key, value)| (key.into_owned(), Value::String(value.into_owned())));
            return Some(Value::Object(fields.collect()));
        }
        serde_json::from_slice(&self.body).ok().filter(Value::is_object)
    }

    /// The value of a header; empty where it is missing or no text.
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The value of a cookie.
    pub(super) fn cookie(&self, name: &str) -> Option<&str> {
        self.headers
            .get_all(COOKIE)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(';'))
            .filter_map(|pair| pair.trim().split_once('='))
            .find_map(|(key, value)| (key == name).then_some(value))
    }

    /// Whether the client would rather have HTML than JSON (RFC 9110 §12.5.1, without
    /// wildcards: a client that takes anything gets JSON).
    pub(super) fn wants_html(&self) -> bool {
        let accept = self.headers.get(ACCEPT).and_then(|value| value.to_str().ok());
        let quality = |kind: &str| accept.map_or(0.0, |accept| quality(accept, kind));
        let html = quality("text/html");
        html > 0.0 && html >= quality("application/json")
    }
}

// The forms of answers.
impl Ask {
    /// `fields` as JSON, with who answered and to which request before them.
    pub(super) fn json(&self, status: StatusCode, fields: Value) -> Response<Body> {
        let mut object = serde_json::Map::new();
        object.insert("endpoint".to_owned(), json!(&*self.endpoint));
        let request_id = self.header("x-request-id");
        if !request_id.is_empty() {
            object.insert("request_id".to_owned(), json!(request_id));
        }
        if let Value::Object(fields) = fields {
            object.extend(fields);
        }
        let body = format!("{:#}\n", Value::Object(object));
        answer(status, "application/json", body)
    }

    /// An HTML page.
    pub(super) fn html(&self, status: StatusCode, title: &str, body: &str) -> Response<Body> {
        self.accented(status, title, body, page::Accent::Current)
    }

    /// An HTML page in the colours of one storefront or the other.
    pub(super) fn accented(
        &self,
        status: StatusCode,
        title: &str,
        body: &str,
        accent: page::Accent,
    ) -> Response<Body> {
        let text = page::page(self, title, body, accent);
        let mut response = answer(status, "text/html; charset=utf-8", text);
        let headers = response.headers_mut();
        headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(CONTENT_POLICY));
        response
    }

    /// What is wrong, as JSON or HTML.
    pub(super) fn problem(&self, status: StatusCode, message: &str) -> Response<Body> {
        if self.wants_html() {
            let body = format!("<p>{}</p>", page::escape(message));
            let title = status.canonical_reason().unwrap_or("Problem");
            return self.html(status, title, &body);
        }
        self.json(status, json!({ "error": message }))
    }

    /// 404.
    pub(super) fn not_found(&self) -> Response<Body> {
        self.problem(StatusCode::NOT_FOUND, "there is nothing here by that name")
    }

    /// 405 with the methods there are.
    pub(super) fn not_allowed(&self, methods: &'static str) -> Response<Body> {
        let message = format!("only {methods} here");
        let mut response = self.problem(StatusCode::METHOD_NOT_ALLOWED, &message);
        response.headers_mut().insert(ALLOW, HeaderValue::from_static(methods));
        response
    }

    /// 303 to `path`, for a form that was sent from a page.
    pub(super) fn see_other(&self, path: &str) -> Response<Body> {
        let body = json!({ "see": path });
        with_location(self.json(StatusCode::SEE_OTHER, body), path)
    }
}

/// `response` with a `Location`; left out where `path` is no header value.
pub(super) fn with_location(mut response: Response<Body>, path: &str) -> Response<Body> {
    if let Ok(value) = HeaderValue::from_str(path) {
        response.headers_mut().insert(LOCATION, value);
    }
    response
}

fn answer(status: StatusCode, kind: &'static str, body: String) -> Response<Body> {
    let mut response = Response::new(full(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(VARY, HeaderValue::from_static("accept, cookie"));
    response
}

fn quality(accept: &str, kind: &str) -> f32 {
    accept
        .split(',')
        .filter_map(|range| {
            let mut parts = range.split(';').map(str::trim);
            parts.next().filter(|name| name.eq_ignore_ascii_case(kind))?;
            let q = parts.find_map(|part| part.strip_prefix("q="));
            Some(q.map_or(1.0, |q| q.parse().unwrap_or(0.0)))
        })
        .fold(0.0, f32::max)
}

const BODY_LIMIT: usize = 64 * 1024;
const BODY_TIME: Duration = Duration::from_secs(10);
const CONTENT_POLICY: &str = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; \
     script-src 'unsafe-inline'; connect-src 'self'; form-action 'self'";
