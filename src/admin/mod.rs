//! The admin listener: health, readiness and metrics, read-only, on a thread of its own.

use std::io;
use std::net::SocketAddr;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;

use crate::app::Live;

/// Opens the admin listener at `bind` and serves it until the process ends.
pub fn start(bind: SocketAddr, live: Live) -> io::Result<()> {
    let socket = std::net::TcpListener::bind(bind)?;
    socket.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("admin".to_owned()).spawn(move || {
        runtime.block_on(async move {
            match tokio::net::TcpListener::from_std(socket) {
                Ok(socket) => accept(socket, live).await,
                Err(error) => tracing::error!(%error, "cannot serve the admin listener"),
            }
        });
    })?;
    Ok(())
}

async fn accept(socket: tokio::net::TcpListener, live: Live) {
    loop {
        match socket.accept().await {
            Ok((tcp, _)) => {
                let live = live.clone();
                tokio::spawn(async move {
                    let service = service_fn(move |request: Request<Incoming>| {
                        std::future::ready(Ok::<_, std::convert::Infallible>(answer(
                            &request, &live,
                        )))
                    });
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(tcp), service)
                        .await;
                });
            }
            Err(error) => {
                tracing::warn!(%error, "admin listener cannot accept");
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        }
    }
}

fn answer(request: &Request<Incoming>, live: &Live) -> Response<Full<Bytes>> {
    match request.uri().path() {
        "/healthz" => text(StatusCode::OK, "ok\n".into()),
        "/readyz" => {
            let ready = live.readiness.is_ready();
            let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
            text(status, format!("{}\n", live.readiness.as_str()))
        }
        "/metrics" => text(StatusCode::OK, live.metrics.encode()),
        _ => text(StatusCode::NOT_FOUND, "not found\n".into()),
    }
}

fn text(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response
}
