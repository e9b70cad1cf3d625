//! What is asked, and the answer.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use serde::Serialize;
use serde_json::json;

use super::explain::{Question, explain};
use super::guard;
use super::view::{self, StatusView};
use crate::app::Live;
use crate::snapshot::Snapshot;
use crate::telemetry::metrics;
use crate::util::moment::Moment;

/// An answer, whole.
pub(super) type Answer = Response<Full<Bytes>>;

const JSON: &str = "application/json; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";
const HTML: &str = "text/html; charset=utf-8";

/// The page and nothing else: no script, style or frame from elsewhere, no request to elsewhere.
const PAGE_POLICY: &str = "default-src 'none'; script-src 'unsafe-inline'; \
     style-src 'unsafe-inline'; connect-src 'self'; img-src data:; base-uri 'none'; \
     form-action 'none'; frame-ancestors 'none'";

/// The dashboard.
const PAGE: &str = include_str!("page.html");

/// What answers.
pub(super) struct Admin {
    live: Live,
    bound: SocketAddr,
    opened: Instant,
}

impl Admin {
    /// What shows `live` at `bound`.
    pub(super) fn new(live: Live, bound: SocketAddr) -> Self {
        Self { live, bound, opened: Instant::now() }
    }

    /// The answer to a request. Probes and the page are answered at once; what grows with the
    /// configuration is put together on a helper thread.
    pub(super) async fn answer<B>(self: &Arc<Self>, request: &Request<B>) -> Answer {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut answer = error(StatusCode::METHOD_NOT_ALLOWED, "this listener only reads");
            answer.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return answer;
        }
        if !guard::admits(self.bound, request.uri(), request.headers()) {
            let message = "on loopback the host must be an address or localhost";
            return error(StatusCode::FORBIDDEN, message);
        }
        match request.uri().path() {
            "/" => page(),
            "/healthz" => text(StatusCode::OK, "ok\n"),
            "/readyz" => {
                let ready = self.live.readiness.is_ready();
                let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
                text(status, format!("{}\n", self.live.readiness.as_str()))
            }
            path @ ("/metrics" | "/api/certificates" | "/api/config" | "/api/explain"
            | "/api/routes" | "/api/status" | "/api/upstreams") => {
                let (admin, path) = (self.clone(), path.to_owned());
                let query = request.uri().query().map(str::to_owned);
                let look = move || admin.look(&path, query.as_deref());
                tokio::task::spawn_blocking(look).await.unwrap_or_else(|failure| {
                    tracing::error!(%failure, "an admin answer could not be made");
                    error(StatusCode::INTERNAL_SERVER_ERROR, "see the log")
                })
            }
            _ => error(StatusCode::NOT_FOUND, "nothing here; / lists what there is"),
        }
    }

    /// Blocks for as long as it takes.
    fn look(&self, path: &str, query: Option<&str>) -> Answer {
        match path {
            "/metrics" => {
                respond(StatusCode::OK, metrics::CONTENT_TYPE, self.live.metrics.encode())
            }
            "/api/status" => json(&StatusView::new(&self.live, self.opened)),
            _ => match self.live.handle.load() {
                Some(snapshot) => self.show(path, query, &snapshot),
                None => error(StatusCode::SERVICE_UNAVAILABLE, "no configuration is in use yet"),
            },
        }
    }

    fn show(&self, path: &str, query: Option<&str>, snapshot: &Snapshot) -> Answer {
        match path {
            "/api/certificates" => json(&view::certificates(snapshot)),
            "/api/config" => json(&*snapshot.config),
            "/api/explain" => match question(query.unwrap_or_default()) {
                Ok(question) => json(&explain(snapshot, &question)),
                Err(message) => error(StatusCode::BAD_REQUEST, message),
            },
            "/api/routes" => json(&view::routes(snapshot)),
            _ => json(&view::upstreams(snapshot, Moment::now())),
        }
    }
}

/// `url=…&method=…&from=…&header=…`, the last one as often as there are headers.
fn question(query: &str) -> Result<Question, String> {
    let (mut url, mut method, mut headers) = (None, "GET".to_owned(), Vec::new());
    let mut client = None;
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        match &*name {
            "url" => url = Some(value.into_owned()),
            "method" => method = value.into_owned(),
            "header" => headers.push(value.into_owned()),
            "from" => {
                let address = value.parse().map_err(|_| format!("`{value}` is no IP address"))?;
                client = Some(address);
            }
            other => {
                return Err(format!("no parameter is called `{other}`: url, method, header, from"));
            }
        }
    }
    let url =
        url.ok_or("which URL? ?url=http://host/path, and if need be method=, header= and from=")?;
    let question = Question::new(&url, &method, &headers).map_err(|error| error.to_string())?;
    Ok(question.from(client))
}

fn page() -> Answer {
    let mut answer = respond(StatusCode::OK, HTML, PAGE);
    let headers = answer.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(PAGE_POLICY));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    answer
}

fn json(value: &impl Serialize) -> Answer {
    match serde_json::to_vec(value) {
        Ok(body) => respond(StatusCode::OK, JSON, body),
        Err(failure) => {
            tracing::error!(%failure, "an admin answer cannot be written");
            error(StatusCode::INTERNAL_SERVER_ERROR, "see the log")
        }
    }
}

fn error(status: StatusCode, message: impl AsRef<str>) -> Answer {
    respond(status, JSON, json!({ "error": message.as_ref() }).to_string())
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    respond(status, TEXT, body)
}

fn respond(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}
