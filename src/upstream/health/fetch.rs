//! What else is asked of endpoints from the control side, the way checks are made.

use std::time::Duration;

use super::http;
use super::prober::Target;
use crate::ir::{HttpProbe, Text};
use crate::upstream::{Endpoint, Transport};

/// GETs `path` from `endpoint` on a connection of its own, within `limit`, and returns the body
/// of a 200, of which no more than 64 KiB are read. The error says what went wrong.
pub(in crate::upstream) async fn fetch(
    transport: &Transport,
    endpoint: &Endpoint,
    path: &Text,
    limit: Duration,
) -> Result<Vec<u8>, String> {
    let target = Target::new(transport, endpoint, None, None);
    let probe = HttpProbe { path: path.clone(), ..HttpProbe::default() };
    match tokio::time::timeout(limit, http::ask(&target, &probe, true)).await {
        Ok(Ok(answer)) if answer.status == 200 => Ok(answer.body),
        Ok(Ok(answer)) => Err(format!("status {}", answer.status.as_u16())),
        Ok(Err(error)) => Err(error.text),
        Err(_) => Err(format!("no answer within {limit:?}")),
    }
}
