//! What passes the gate, read by the parser above it: the same requests, no more and no fewer.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::super::GateLimits;
use super::generate::stream;
use super::judge;
use super::reference::{self, Limits};

#[derive(Debug, PartialEq, Eq)]
struct Seen {
    method: String,
    target: String,
    fields: usize,
    body: Vec<u8>,
}

/// The complete requests a hyper server sees in `bytes`.
fn parse(bytes: &[u8]) -> Vec<Seen> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (mut client, server) = tokio::io::duplex(64 * 1024);
        let service = service_fn(|request: http::Request<Incoming>| {
            let seen = seen.clone();
            async move {
                let (head, body) = request.into_parts();
                if let Ok(body) = body.collect().await {
                    seen.lock().unwrap().push(Seen {
                        method: head.method.to_string(),
                        target: head.uri.to_string(),
                        fields: head.headers.len(),
                        body: body.to_bytes().to_vec(),
                    });
                }
                Ok::<_, Infallible>(http::Response::new(Empty::<Bytes>::new()))
            }
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .half_close(true)
            .serve_connection(TokioIo::new(server), service);
        let io = async {
            client.write_all(bytes).await.ok();
            client.shutdown().await.ok();
            client.read_to_end(&mut Vec::new()).await.ok();
        };
        let (_, ()) = tokio::join!(connection, io);
        std::mem::take(&mut *seen.lock().unwrap())
    })
}

/// The target in the form the parser prints: scheme in lower case, a path after an authority.
fn printed(target: &str) -> String {
    target.parse::<http::Uri>().unwrap().to_string()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn the_parser_reads_the_requests_that_passed_and_no_other(bytes in stream()) {
        let limits = GateLimits::default();
        let (_, passed) = judge(&bytes, &[], limits);
        let all = Limits(limits.head_size, limits.header_count, limits.target_size);
        let (requests, _) = reference::read(&passed, all);
        // The parser may close after an HTTP/1.0 request.
        let least = requests.iter().position(|request| request.http10).map(|index| index + 1);
        let least = least.unwrap_or(requests.len());
        let expected: Vec<Seen> = requests
            .into_iter()
            .map(|request| Seen {
                target: printed(&request.target),
                method: request.method,
                fields: request.fields.len(),
                body: request.body,
            })
            .collect();
        let seen = parse(&passed);
        prop_assert!(seen.len() >= least, "{:?} of {:?}", seen, expected);
        prop_assert_eq!(&seen[..], &expected[..seen.len().min(expected.len())]);
    }
}
