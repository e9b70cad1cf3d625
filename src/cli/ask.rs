//! Asking a running proxy's admin listener.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;
use http::header::HOST;
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;

use super::overrides::AdminBind;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// The port of the admin listener where nothing else is said.
const PORT: u16 = 9900;

/// Where an admin listener is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminUrl {
    host: String,
    port: u16,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// It answered with an error.
    #[error("{url} answered {status}: {message}")]
    Answer {
        /// Who.
        url: AdminUrl,
        /// Its status.
        status: StatusCode,
        /// What it said.
        message: String,
    },
    /// Something else went wrong on the way.
    #[error("cannot ask {url}: {cause}")]
    Failed {
        /// Whom.
        url: AdminUrl,
        /// What went wrong.
        cause: String,
    },
    /// It speaks, but not as expected.
    #[error("{url} does not answer like a portcullis of version {}: {cause}", env!("CARGO_PKG_VERSION"))]
    Foreign {
        /// Who.
        url: AdminUrl,
        /// What was wrong with the answer.
        cause: String,
    },
    /// Nobody is there.
    #[error("nothing listens at {0}: is portcullis running, and is its admin listener there?")]
    Nobody(AdminUrl),
    /// It took too long.
    #[error("no answer from {0} within {seconds} s", seconds = PATIENCE.as_secs())]
    Slow(AdminUrl),
}

impl AdminUrl {
    /// Where the proxy of this machine most likely is: as `PORTCULLIS_ADMIN` tells `run`, or at
    /// the usual place.
    pub fn here() -> Self {
        let told = std::env::var("PORTCULLIS_ADMIN").ok();
        match told.and_then(|told| told.parse().ok()) {
            Some(AdminBind::At(bind)) => Self::of(bind),
            _ => Self { host: Ipv4Addr::LOCALHOST.to_string(), port: PORT },
        }
    }

    /// How to reach a listener bound at `bind` from the same machine.
    fn of(bind: SocketAddr) -> Self {
        let ip = match bind.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
            ip => ip,
        };
        Self { host: ip.to_string(), port: bind.port() }
    }

    /// GETs `path` (with its query) and returns the body of a 200.
    pub fn get(&self, path: &str) -> Result<Bytes, AskError> {
        let failed = |cause: String| AskError::Failed { url: self.clone(), cause };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| failed(error.to_string()))?;
        let answer =
            runtime.block_on(async { tokio::time::timeout(PATIENCE, self.exchange(path)).await });
        // A name that is still being looked up must not hold up the end.
        runtime.shutdown_background();
        let (status, body) = answer.map_err(|_| AskError::Slow(self.clone()))??;
        if status != StatusCode::OK {
            return Err(AskError::Answer { url: self.clone(), status, message: message(&body) });
        }
        Ok(body)
    }

    /// GETs `path` and reads the JSON it answers with.
    pub fn get_json<T: DeserializeOwned>(&self, path: &str) -> Result<T, AskError> {
        let body = self.get(path)?;
        serde_json::from_slice(&body)
            .map_err(|error| AskError::Foreign { url: self.clone(), cause: error.to_string() })
    }

    async fn exchange(&self, path: &str) -> Result<(StatusCode, Bytes), AskError> {
        let tcp = TcpStream::connect((self.host.as_str(), self.port)).await;
        let tcp = tcp.map_err(|error| match error.kind() {
            io::ErrorKind::ConnectionRefused => AskError::Nobody(self.clone()),
            _ => AskError::Failed { url: self.clone(), cause: error.to_string() },
        })?;
        let foreign =
            |error: hyper::Error| AskError::Foreign { url: self.clone(), cause: error.to_string() };
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(tcp)).await.map_err(foreign)?;
        let request = Request::get(path)
            .header(HOST, self.authority())
            .body(Empty::<Bytes>::new())
            .map_err(|error| AskError::Failed { url: self.clone(), cause: error.to_string() })?;
        let exchange = async {
            let response = sender.send_request(request).await?;
            let status = response.status();
            Ok((status, response.into_body().collect().await?.to_bytes()))
        };
        let mut exchange = std::pin::pin!(exchange);
        tokio::select! {
            answer = &mut exchange => answer.map_err(foreign),
            ended = connection => {
                ended.map_err(foreign)?;
                exchange.await.map_err(foreign)
            }
        }
    }

    fn authority(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }
}

impl fmt::Display for AdminUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}", self.authority())
    }
}

impl FromStr for AdminUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let full = match text.contains("://") {
            true => text.to_owned(),
            false => format!("http://{text}"),
        };
        let wrong = || "write it as http://HOST:PORT".to_owned();
        let uri: Uri = full.parse().map_err(|_| wrong())?;
        if uri.scheme_str() != Some("http") {
            return Err("the admin listener speaks plain HTTP: write http://HOST:PORT".to_owned());
        }
        let plain = uri.path_and_query().is_none_or(|rest| rest.as_str() == "/");
        let authority = uri.authority().filter(|_| plain).ok_or_else(wrong)?;
        let host = authority.host();
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        if bare.is_empty() || authority.as_str().contains('@') {
            return Err(wrong());
        }
        Ok(Self { host: bare.to_owned(), port: authority.port_u16().unwrap_or(PORT) })
    }
}

/// What an error's body says.
fn message(body: &[u8]) -> String {
    let json: Option<serde_json::Value> = serde_json::from_slice(body).ok();
    let said = json.as_ref().and_then(|json| json.get("error")?.as_str());
    match said {
        Some(said) => said.to_owned(),
        None => String::from_utf8_lossy(body).trim().chars().take(200).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_admin_url_is_read_as_people_write_it() {
        for (text, shown) in [
            ("http://127.0.0.1:9900", "http://127.0.0.1:9900"),
            ("http://127.0.0.1:9901/", "http://127.0.0.1:9901"),
            ("localhost", "http://localhost:9900"),
            ("[::1]:99", "http://[::1]:99"),
        ] {
            assert_eq!(text.parse::<AdminUrl>().unwrap().to_string(), shown);
        }
        for text in ["https://x", "http://x/api", "http://", "a b", "u@x"] {
            assert!(text.parse::<AdminUrl>().is_err(), "{text}");
        }
    }

    #[test]
    fn where_nobody_listens_the_error_asks_whether_the_proxy_runs() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = AdminUrl::of(socket.local_addr().unwrap());
        drop(socket);
        let error = url.get("/readyz").unwrap_err().to_string();
        assert!(error.starts_with(&format!("nothing listens at {url}: is portcullis")), "{error}");
    }

    #[test]
    fn a_listener_on_every_address_is_asked_on_loopback() {
        assert_eq!(AdminUrl::of("0.0.0.0:1".parse().unwrap()).to_string(), "http://127.0.0.1:1");
        assert_eq!(AdminUrl::of("[::]:1".parse().unwrap()).to_string(), "http://[::1]:1");
    }
}
