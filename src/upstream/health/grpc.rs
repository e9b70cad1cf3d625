//! Checks by the gRPC health protocol: `grpc.health.v1.Health/Check`.
//!
//! Its two messages are small enough to be written by hand: the request has one field, the
//! service's name, the response one field, its status.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use http::header::{CONTENT_TYPE, TE, USER_AGENT};
use http::{HeaderMap, Method, Request, StatusCode, Uri, Version};

use super::error::CheckError;
use super::exchange::{Answer, over_h2};
use super::prober::{Target, no_h2};
use crate::telemetry::CheckResult;

const PATH: &str = "/grpc.health.v1.Health/Check";
/// The tag of field 1 as a varint, and as a length and its bytes.
const VARINT: u64 = 1 << 3;
const BYTES: u8 = 1 << 3 | 2;

/// Asks `target` for the status of `service`. Without TLS it speaks HTTP/2 by prior knowledge,
/// whatever the upstream's protocol: there is no gRPC otherwise.
pub(super) async fn check(
    target: &Target,
    service: &str,
    timeout: Duration,
) -> Result<String, CheckError> {
    let io = target.connect().await?;
    if target.tls.is_some() && !io.negotiated_h2() {
        return Err(no_h2());
    }
    let scheme = if target.tls.is_some() { "https" } else { "http" };
    let uri = Uri::builder().scheme(scheme).authority(&*target.authority).path_and_query(PATH);
    let request = Request::builder()
        .method(Method::POST)
        .version(Version::HTTP_2)
        .uri(uri.build().map_err(CheckError::protocol)?)
        .header(CONTENT_TYPE, "application/grpc")
        .header(TE, "trailers")
        .header("grpc-timeout", format!("{}m", timeout.as_millis().clamp(1, 99_999_999)))
        .header(USER_AGENT, "portcullis-health")
        .body(message(service))
        .map_err(CheckError::protocol)?;
    judge(&over_h2(io, request, true).await?)
}

/// `HealthCheckRequest { service }` behind its gRPC prefix.
fn message(service: &str) -> Bytes {
    let mut field = BytesMut::new();
    if !service.is_empty() {
        field.put_u8(BYTES);
        let mut length = service.len();
        while length >= 0x80 {
            field.put_u8(length as u8 | 0x80);
            length >>= 7;
        }
        field.put_u8(length as u8);
        field.put_slice(service.as_bytes());
    }
    let mut out = BytesMut::with_capacity(5 + field.len());
    out.put_u8(0);
    out.put_u32(u32::try_from(field.len()).unwrap_or(u32::MAX));
    out.put_slice(&field);
    out.freeze()
}

fn judge(answer: &Answer) -> Result<String, CheckError> {
    if answer.status != StatusCode::OK {
        let text = format!("status {}", answer.status.as_u16());
        return Err(CheckError::new(CheckResult::Status, text));
    }
    // A response that is headers only has its gRPC status there.
    let code = |fields: &HeaderMap| {
        let value = fields.get("grpc-status")?.to_str().ok()?;
        value.parse::<u32>().ok()
    };
    match answer.trailers.as_ref().and_then(code).or_else(|| code(&answer.headers)) {
        Some(0) => {}
        Some(code) => {
            let text = format!("gRPC status {code}{}", code_name(code));
            return Err(CheckError::new(CheckResult::NotServing, text));
        }
        None => return Err(CheckError::new(CheckResult::Protocol, "no gRPC status")),
    }
    match serving_status(&answer.body) {
        Some(1) => Ok("SERVING".to_owned()),
        Some(2) => Err(CheckError::new(CheckResult::NotServing, "NOT_SERVING")),
        Some(3) => Err(CheckError::new(CheckResult::NotServing, "SERVICE_UNKNOWN")),
        Some(_) => Err(CheckError::new(CheckResult::NotServing, "UNKNOWN")),
        None => Err(CheckError::new(CheckResult::Protocol, "no HealthCheckResponse")),
    }
}

/// The names of those codes a health service is likely to answer.
fn code_name(code: u32) -> &'static str {
    match code {
        4 => " (DEADLINE_EXCEEDED)",
        5 => " (NOT_FOUND: no such service)",
        7 => " (PERMISSION_DENIED)",
        12 => " (UNIMPLEMENTED: no health service)",
        13 => " (INTERNAL)",
        14 => " (UNAVAILABLE)",
        16 => " (UNAUTHENTICATED)",
        _ => "",
    }
}

/// `status` of the `HealthCheckResponse` in `body`, 0 where it is left out; `None` where there is
/// no such message.
fn serving_status(body: &[u8]) -> Option<u64> {
    let (prefix, rest) = body.split_at_checked(5)?;
    let &[0, a, b, c, d] = prefix else { return None };
    let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).ok()?;
    let mut message = rest.get(..length)?;
    let mut status = 0;
    while !message.is_empty() {
        let tag = varint(&mut message)?;
        match (tag, tag & 7) {
            (VARINT, _) => status = varint(&mut message)?,
            (_, 0) => _ = varint(&mut message)?,
            (_, 1) => message = message.get(8..)?,
            (_, 2) => {
                let length = usize::try_from(varint(&mut message)?).ok()?;
                message = message.get(length..)?;
            }
            (_, 5) => message = message.get(4..)?,
            _ => return None,
        }
    }
    Some(status)
}

/// Takes a base 128 varint of at most ten bytes off the front.
fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..70).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A message of these fields, told apart by their wire type, behind its prefix.
    fn encode(fields: &[(u64, Field)]) -> Vec<u8> {
        let mut out = Vec::new();
        for (number, field) in fields {
            match field {
                Field::Varint(value) => {
                    push_varint(&mut out, number << 3);
                    push_varint(&mut out, *value);
                }
                Field::Fixed64(value) => {
                    push_varint(&mut out, number << 3 | 1);
                    out.extend(value.to_le_bytes());
                }
                Field::Bytes(bytes) => {
                    push_varint(&mut out, number << 3 | 2);
                    push_varint(&mut out, bytes.len() as u64);
                    out.extend(bytes);
                }
                Field::Fixed32(value) => {
                    push_varint(&mut out, number << 3 | 5);
                    out.extend(value.to_le_bytes());
                }
            }
        }
        let mut framed = vec![0];
        framed.extend((out.len() as u32).to_be_bytes());
        framed.extend(out);
        framed
    }

    #[derive(Clone, Debug)]
    enum Field {
        Varint(u64),
        Fixed64(u64),
        Bytes(Vec<u8>),
        Fixed32(u32),
    }

    fn push_varint(out: &mut Vec<u8>, value: u64) {
        let groups = (64 - value.leading_zeros()).div_ceil(7).max(1);
        for group in 0..groups {
            let more = if group + 1 < groups { 0x80 } else { 0 };
            out.push((value >> (7 * group)) as u8 & 0x7f | more);
        }
    }

    fn field() -> impl Strategy<Value = Field> {
        prop_oneof![
            any::<u64>().prop_map(Field::Varint),
            any::<u64>().prop_map(Field::Fixed64),
            prop::collection::vec(any::<u8>(), 0..200).prop_map(Field::Bytes),
            any::<u32>().prop_map(Field::Fixed32),
        ]
    }

    proptest! {
        #[test]
        fn the_status_is_found_among_fields_nobody_knows(
            status in any::<u64>(),
            before in prop::collection::vec((2..1000u64, field()), 0..5),
            after in prop::collection::vec((2..1000u64, field()), 0..5),
        ) {
            let fields = [before, vec![(1, Field::Varint(status))], after].concat();
            let bytes = encode(&fields);
            prop_assert_eq!(serving_status(&bytes), Some(status));
            for cut in 0..bytes.len() {
                prop_assert_eq!(serving_status(&bytes[..cut]), None, "cut at {}", cut);
            }
        }

        #[test]
        fn any_bytes_are_read_without_harm(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = serving_status(&bytes);
        }

        #[test]
        fn the_request_is_a_message_with_the_name(service in "[a-z.]{0,300}") {
            let mut fields = Vec::new();
            if !service.is_empty() {
                fields.push((1, Field::Bytes(service.clone().into_bytes())));
            }
            prop_assert_eq!(message(&service).to_vec(), encode(&fields));
        }
    }

    #[test]
    fn an_empty_message_is_an_unknown_status() {
        assert_eq!(serving_status(&[0, 0, 0, 0, 0]), Some(0));
        assert_eq!(serving_status(&[1, 0, 0, 0, 0]), None, "compressed, which nobody asked for");
        assert_eq!(serving_status(&[0, 0, 0, 0, 2, 8, 1]), Some(1));
    }
}
