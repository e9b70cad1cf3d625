//! Requests to the API server: one connection pool, credentials that are read again when they are
//! refused, and failures told apart by what has to be done about them.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use kube::client::{Body, ConfigExt};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde::Deserialize;
use tower::{BoxError, ServiceBuilder};

/// How long making a connection may take.
const CONNECT: Duration = Duration::from_secs(5);
/// How long a request may take that is no watch: up to its whole answer.
const ANSWER: Duration = Duration::from_secs(60);
/// A silent connection is asked for a sign of life after this, and again so often.
const KEEPALIVE: Duration = Duration::from_secs(10);
/// How long what was sent may stay unacknowledged before the connection counts as broken.
const UNACKNOWLEDGED: Duration = Duration::from_secs(30);
/// An answer larger than this is none that we asked for.
const LARGEST: usize = 256 << 20;

/// Why a request came to nothing.
#[derive(Clone, Debug)]
pub enum Fault {
    /// Nobody answered, or not to the end.
    Unreachable(String),
    /// The server said no.
    Refused {
        /// The status of its answer.
        status: u16,
        /// The reason in a word, as the API has it; may be empty.
        reason: String,
        /// What it said.
        message: String,
        /// When it wants to be asked again.
        retry_after: Option<Duration>,
    },
    /// What it said makes no sense.
    Malformed(String),
    /// What it said is not believed yet.
    Doubted(String),
}

impl Fault {
    /// The status of the server's answer; 0 where there was none.
    pub fn status(&self) -> u16 {
        match self {
            Self::Refused { status, .. } => *status,
            Self::Unreachable(_) | Self::Malformed(_) | Self::Doubted(_) => 0,
        }
    }

    /// When the server wants to be asked again, where it said so.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused { retry_after, .. } => *retry_after,
            Self::Unreachable(_) | Self::Malformed(_) | Self::Doubted(_) => None,
        }
    }

    /// Out of the closed set of reasons that metrics have.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Unreachable(_) => "unreachable",
            Self::Malformed(_) => "malformed",
            Self::Doubted(_) => "doubted",
            Self::Refused { status: 401, .. } => "unauthorized",
            Self::Refused { status: 403, .. } => "forbidden",
            Self::Refused { status: 410, .. } => "expired",
            Self::Refused { status: 429, .. } => "throttled",
            Self::Refused { .. } => "refused",
        }
    }

    /// A `Status` object, as an answer or in a watch.
    pub fn of_status(status: &ApiStatus) -> Self {
        Self::Refused {
            status: status.code,
            reason: status.reason.clone(),
            message: status.message.clone(),
            retry_after: None,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(why) => write!(f, "no answer: {why}"),
            Self::Doubted(why) => f.write_str(why),
            Self::Malformed(why) => write!(f, "an answer that makes no sense: {why}"),
            Self::Refused { status, reason, message, .. } => {
                write!(f, "{status} {reason}: {message}")
            }
        }
    }
}

/// What the API says instead of an object.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ApiStatus {
    /// The HTTP status it stands for.
    pub code: u16,
    /// What happened, for people.
    pub message: String,
    /// What happened, in a word.
    pub reason: String,
}

/// Which API server, and who asks it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// The kubeconfig file; `None` is the pod's service account, else what `kubectl` would take.
    pub kubeconfig: Option<PathBuf>,
    /// The context of a kubeconfig; `None` is its current one. With a context the pod's service
    /// account is not meant.
    pub context: Option<String>,
}

/// The API server.
pub struct Api {
    access: Access,
    /// How often credentials were read, and the client made of them.
    client: Mutex<(u64, Option<Client>)>,
}

impl Api {
    /// The server that `access` names. Nothing is read before the first request.
    pub fn new(access: Access) -> Self {
        Self { access, client: Mutex::default() }
    }

    /// Asks for `path`, which may have a query; the answer's whole body.
    pub async fn ask(
        &self,
        method: Method,
        path: &str,
        content: Option<(&'static str, Vec<u8>)>,
    ) -> Result<Bytes, Fault> {
        let exchange = async {
            let answer = self.send(method, path, content).await?;
            let body = http_body_util::Limited::new(answer, LARGEST).collect().await;
            body.map(http_body_util::Collected::to_bytes).map_err(|error| unreachable(&*error))
        };
        tokio::time::timeout(ANSWER, exchange)
            .await
            .unwrap_or_else(|_| Err(Fault::Unreachable(format!("not within {ANSWER:?}"))))
    }

    /// Asks for `path`, and reads the answer's JSON.
    pub async fn get<T: for<'de> Deserialize<'de>>(&self, path: &str) -> Result<T, Fault> {
        let body = self.ask(Method::GET, path, None).await?;
        serde_json::from_slice(&body).map_err(|error| Fault::Malformed(error.to_string()))
    }

    /// Asks for `path`; the answer's body as it comes. The caller bounds how long that may take.
    pub async fn open(&self, path: &str) -> Result<Body, Fault> {
        tokio::time::timeout(ANSWER, self.send(Method::GET, path, None))
            .await
            .unwrap_or_else(|_| Err(Fault::Unreachable(format!("not within {ANSWER:?}"))))
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        content: Option<(&'static str, Vec<u8>)>,
    ) -> Result<Body, Fault> {
        let (generation, client) = self.client().await?;
        let mut request = Request::builder().method(method).uri(path);
        let body = match content {
            Some((kind, body)) => {
                request = request.header(CONTENT_TYPE, kind);
                Body::from(body)
            }
            None => Body::empty(),
        };
        let request = request.body(body).map_err(|error| Fault::Malformed(error.to_string()))?;
        let answer = client.send(request).await.map_err(|error| unreachable(&error))?;
        if answer.status().is_success() {
            return Ok(answer.into_body());
        }
        if answer.status() == StatusCode::UNAUTHORIZED {
            self.forget(generation);
        }
        Err(refusal(answer).await)
    }

    /// The client, made anew where its credentials were refused.
    async fn client(&self) -> Result<(u64, Client), Fault> {
        {
            let known = self.client.lock().unwrap_or_else(PoisonError::into_inner);
            if let (generation, Some(client)) = &*known {
                return Ok((*generation, client.clone()));
            }
        }
        let client = connect(&self.access).await.map_err(Fault::Unreachable)?;
        let mut known = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        known.0 += 1;
        known.1 = Some(client.clone());
        Ok((known.0, client))
    }

    /// Has the credentials read again before the next request, unless someone has done so.
    fn forget(&self, generation: u64) {
        let mut known = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        if known.0 == generation {
            known.1 = None;
        }
    }
}

/// A client with the credentials of this moment.
async fn connect(access: &Access) -> Result<Client, String> {
    let options = KubeConfigOptions { context: access.context.clone(), ..Default::default() };
    let config = match &access.kubeconfig {
        Some(path) => {
            let shown = path.display().to_string();
            let file = Kubeconfig::read_from(path).map_err(|error| format!("{shown}: {error}"))?;
            let config = Config::from_custom_kubeconfig(file, &options).await;
            config.map_err(|error| format!("{shown}: {error}"))?
        }
        None if access.context.is_some() => {
            let config = Config::from_kubeconfig(&options).await;
            config.map_err(|error| error.to_string())?
        }
        None if std::env::var_os("KUBERNETES_SERVICE_HOST").is_some() => {
            Config::incluster().map_err(|error| error.to_string())?
        }
        None => Config::infer().await.map_err(|error| error.to_string())?,
    };
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(CONNECT));
    connector.set_keepalive(Some(KEEPALIVE));
    connector.set_keepalive_interval(Some(KEEPALIVE));
    connector.set_keepalive_retries(Some(2));
    #[cfg(target_os = "linux")]
    connector.set_tcp_user_timeout(Some(UNACKNOWLEDGED));
    let connector = config.rustls_https_connector_with_connector(connector);
    let connector = connector.map_err(|error| error.to_string())?;
    let http = legacy::Client::builder(TokioExecutor::new()).build(connector);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer().map_err(|error| error.to_string())?)
        .map_err(BoxError::from)
        .service(http);
    Ok(Client::new(service, config.default_namespace))
}

/// What a server said no with.
async fn refusal(answer: http::Response<Body>) -> Fault {
    let (head, body) = answer.into_parts();
    let body = http_body_util::Limited::new(body, 1 << 20).collect().await;
    let body = body.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let said: ApiStatus = serde_json::from_slice(&body).unwrap_or_else(|_| ApiStatus {
        message: String::from_utf8_lossy(&body).chars().take(200).collect(),
        ..ApiStatus::default()
    });
    let seconds = head.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok());
    let seconds = seconds.and_then(|text| text.parse().ok());
    Fault::Refused {
        status: head.status.as_u16(),
        reason: said.reason,
        message: said.message,
        // Not for ever: what a server asks for by mistake must not take us out of service.
        retry_after: seconds.map(|seconds: u64| Duration::from_secs(seconds.min(60))),
    }
}

/// An error with what led to it, which is where the system's own words are.
fn unreachable(error: &(dyn std::error::Error + 'static)) -> Fault {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.ends_with(&said) {
            text = format!("{text}: {said}");
        }
        cause = error.source();
    }
    Fault::Unreachable(text)
}
