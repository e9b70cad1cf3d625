//! Servers that follow a script, byte by byte or over HTTP/2.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::AbortHandle;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::ir::{Certificate, ListenerTls, SecretBytes};
use crate::tls::ServerTls;

/// A server that answers every request head with the bytes its script says at that moment.
pub struct Scripted {
    pub address: SocketAddr,
    pub heads: Arc<Mutex<Vec<String>>>,
    pub connections: Arc<AtomicUsize>,
    script: Arc<Mutex<Script>>,
    task: AbortHandle,
}

/// What a server does with a connection.
#[derive(Clone)]
pub enum Script {
    /// Answers so as soon as there is a request, then closes.
    Answer(String),
    /// Says so at once, then waits for the client to go.
    Greet(&'static str),
    /// Closes at once.
    Hang,
    /// Reads and says nothing.
    Stall,
}

impl Scripted {
    pub async fn new(script: Script) -> Self {
        Self::over(script, None).await
    }

    pub async fn tls(script: Script, tls: &ServerTls) -> Self {
        Self::over(script, Some(TlsAcceptor::from(tls.config.clone()))).await
    }

    async fn over(script: Script, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let (heads, connections) = (Arc::<Mutex<Vec<_>>>::default(), Arc::<AtomicUsize>::default());
        let script = Arc::new(Mutex::new(script));
        let task = tokio::spawn({
            let (heads, connections, script) = (heads.clone(), connections.clone(), script.clone());
            async move {
                while let Ok((stream, _)) = listener.accept().await {
                    connections.fetch_add(1, Ordering::SeqCst);
                    let (heads, tls) = (heads.clone(), tls.clone());
                    let script = script.lock().expect("whole").clone();
                    tokio::spawn(async move {
                        match tls {
                            None => follow(stream, script, &heads).await,
                            Some(tls) => {
                                let Ok(stream) = tls.accept(stream).await else { return };
                                follow(stream, script, &heads).await;
                            }
                        }
                    });
                }
            }
        });
        Self { address, heads, connections, script, task: task.abort_handle() }
    }

    /// One that answers with this status and body.
    pub async fn answering(status: u16, body: &str) -> Self {
        Self::new(answer(status, body)).await
    }

    pub fn set(&self, script: Script) {
        *self.script.lock().expect("whole") = script;
    }

    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub fn answer(status: u16, body: &str) -> Script {
    let length = body.len();
    Script::Answer(format!("HTTP/1.1 {status} X\r\ncontent-length: {length}\r\n\r\n{body}"))
}

async fn follow(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    script: Script,
    heads: &Mutex<Vec<String>>,
) {
    match script {
        Script::Hang => return,
        Script::Greet(text) => {
            let _ = stream.write_all(text.as_bytes()).await;
        }
        Script::Answer(_) | Script::Stall => {}
    }
    let mut seen = Vec::new();
    let mut piece = [0; 1024];
    loop {
        match stream.read(&mut piece).await {
            Ok(0) | Err(_) => return,
            Ok(length) => seen.extend_from_slice(&piece[..length]),
        }
        if let Script::Answer(answer) = &script
            && seen.ends_with(b"\r\n\r\n")
        {
            heads.lock().expect("whole").push(String::from_utf8_lossy(&seen).into_owned());
            let _ = stream.write_all(answer.as_bytes()).await;
            let _ = stream.shutdown().await;
            return;
        }
    }
}

/// What an HTTP/2 server answers: status, fields, body, trailers.
#[derive(Clone, Default)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(&'static str, &'static str)>,
    pub body: Vec<u8>,
    pub trailers: Vec<(&'static str, &'static str)>,
}

/// A request an HTTP/2 server saw.
pub type SeenH2 = (http::request::Parts, Bytes);

/// An HTTP/2 server, in the clear or after TLS, that always answers the same.
pub async fn http2(reply: Reply, tls: Option<&ServerTls>) -> (SocketAddr, Arc<Mutex<Vec<SeenH2>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let seen = Arc::<Mutex<Vec<SeenH2>>>::default();
    let tls = tls.map(|tls| TlsAcceptor::from(tls.config.clone()));
    let requests = seen.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (reply, requests, tls) = (reply.clone(), requests.clone(), tls.clone());
            tokio::spawn(async move {
                match tls {
                    None => serve_h2(stream, reply, requests).await,
                    Some(tls) => {
                        let Ok(stream) = tls.accept(stream).await else { return };
                        serve_h2(stream, reply, requests).await;
                    }
                }
            });
        }
    });
    (address, seen)
}

async fn serve_h2(
    io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    reply: Reply,
    seen: Arc<Mutex<Vec<SeenH2>>>,
) {
    let service = service_fn(move |request: Request<Incoming>| {
        let (reply, seen) = (reply.clone(), seen.clone());
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await.expect("a whole request").to_bytes();
            seen.lock().expect("whole").push((head, body));
            let mut frames = Vec::new();
            if !reply.body.is_empty() {
                frames.push(Frame::data(Bytes::from(reply.body)));
            }
            if !reply.trailers.is_empty() {
                let mut trailers = HeaderMap::new();
                for (name, value) in reply.trailers {
                    trailers.insert(name, value.parse().expect("a value"));
                }
                frames.push(Frame::trailers(trailers));
            }
            let frames = frames.into_iter().map(Ok::<_, std::io::Error>);
            let mut response = Response::builder().status(reply.status);
            for (name, value) in reply.headers {
                response = response.header(name, value);
            }
            response.body(StreamBody::new(futures_util::stream::iter(frames)))
        }
    });
    let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    let _ = server.serve_connection(TokioIo::new(io), service).await;
}

/// A certificate authority's certificate as PEM, and a server with one of its certificates for
/// `127.0.0.1` and `app.test`.
pub fn tls() -> (String, Arc<ServerTls>) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key"));
    let ca = ca.expect("a certificate");
    let names = vec!["127.0.0.1".to_owned(), "app.test".to_owned()];
    let key = KeyPair::generate().expect("a key");
    let leaf = CertificateParams::new(names).expect("names").signed_by(&key, &ca);
    let certificate = Certificate {
        origin: Origin::default(),
        chain: Some(leaf.expect("a certificate").pem().as_str().into()),
        key: Some(SecretBytes::new(key.serialize_pem().into_bytes())),
        only_for: None,
    };
    let spec = ListenerTls { certificates: vec![certificate.into()], ..ListenerTls::default() };
    let shared = TlsShared::new().expect("TLS");
    (ca.pem(), ServerTls::build("web", &spec, true, &shared, None).0)
}
