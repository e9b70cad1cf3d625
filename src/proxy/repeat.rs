//! What a route's retry policy says of one outcome: is it to be repeated, and after which pause.

use std::time::{Duration, SystemTime};

use http::header::RETRY_AFTER;
use http::{HeaderMap, Method, StatusCode};

use crate::error::{ProxyError, Replay};
use crate::ir::Retry;
use crate::telemetry::Reason;
use crate::util::random::Random;

/// An outcome that the policy names, as the metrics tell it.
pub const STATUS: &str = "status";
/// The same of a gRPC code.
pub const GRPC_STATUS: &str = "grpc_status";

/// Which of the policy's conditions a response head meets.
pub fn unwelcome(policy: &Retry, status: StatusCode, headers: &HeaderMap) -> Option<&'static str> {
    if policy.on.statuses.contains(&status.as_u16()) {
        return Some(STATUS);
    }
    // In a head there is a code only where the response has no body ("Trailers-Only").
    if policy.on.grpc.is_empty() {
        return None;
    }
    let code: u8 = headers.get("grpc-status")?.to_str().ok()?.parse().ok()?;
    policy.on.grpc.contains(&code).then_some(GRPC_STATUS)
}

/// Whether an attempt may be repeated after its response head was read, so that the request's own
/// must be kept until then.
pub fn reads_heads(policy: &Retry) -> bool {
    let on = &policy.on;
    policy.attempts > 0 && (on.timeout || !on.statuses.is_empty() || !on.grpc.is_empty())
}

/// Whether a request that was written may be written again (RFC 9110 §9.2.2).
pub fn is_repeatable(policy: &Retry, method: &Method) -> bool {
    method.is_idempotent() || policy.non_idempotent
}

/// Whether keeping a request's body can be of use.
pub fn wants_body(policy: &Retry, method: &Method) -> bool {
    policy.attempts > 0
        && policy.buffer > 0
        && (policy.on.reset || reads_heads(policy))
        && is_repeatable(policy, method)
}

/// Whether the policy repeats an attempt that failed so.
pub fn wants(policy: &Retry, error: &ProxyError) -> bool {
    match error.replay {
        Replay::Never => false,
        Replay::Stale { written: false } | Replay::Refused | Replay::Unwritten => true,
        Replay::Stale { written: true } => policy.on.reset,
        Replay::Unanswered if error.reason == Reason::UpstreamReset => policy.on.reset,
        Replay::Unanswered => policy.on.timeout,
    }
}

/// The pause before repeat number `number`, the first being 0: the policy's, doubled each time up
/// to its most, less a random part of up to half ("equal jitter").
pub fn backoff(policy: &Retry, number: u32, random: u64) -> Duration {
    let doubled = policy.backoff.saturating_mul(1u32.checked_shl(number).unwrap_or(u32::MAX));
    let most = doubled.min(policy.max_backoff.max(policy.backoff));
    most.mul_f64(1.0 - Random::new(random).unit() / 2.0)
}

/// When a response wants the request again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    /// It does not say.
    AnyTime,
    /// Not before so long.
    After(Duration),
    /// Not at all.
    Never,
}

/// What `headers` say: `Retry-After` (RFC 9110 §10.2.3), or the push-back of a gRPC server (gRFC
/// A6).
pub fn again(headers: &HeaderMap, now: SystemTime) -> Again {
    if let Some(value) = headers.get("grpc-retry-pushback-ms") {
        let millis = value.to_str().ok().and_then(|text| text.parse().ok());
        return millis.map_or(Again::Never, |millis| Again::After(Duration::from_millis(millis)));
    }
    let Some(value) = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()) else {
        return Again::AnyTime;
    };
    let seconds = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    if seconds {
        return Again::After(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    match httpdate::parse_http_date(value) {
        Ok(date) => Again::After(date.duration_since(now).unwrap_or_default()),
        Err(_) => Again::AnyTime,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use proptest::prelude::*;

    fn headers(name: &'static str, value: &str) -> HeaderMap {
        let value = HeaderValue::from_str(value).expect("a value");
        HeaderMap::from_iter([(http::HeaderName::from_static(name), value)])
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = httpdate::parse_http_date("Sun, 22 Nov 2026 10:00:00 GMT").expect("a date");
        let rows = [
            ("0", Again::After(Duration::ZERO)),
            ("3", Again::After(Duration::from_secs(3))),
            ("99999999999999999999999", Again::After(Duration::from_secs(u64::MAX))),
            ("Sun, 22 Nov 2026 10:00:05 GMT", Again::After(Duration::from_secs(5))),
            ("Sun, 22 Nov 2026 09:00:00 GMT", Again::After(Duration::ZERO)),
            ("soon", Again::AnyTime),
            ("-1", Again::AnyTime),
            ("", Again::AnyTime),
        ];
        for (value, expected) in rows {
            assert_eq!(again(&headers("retry-after", value), now), expected, "{value:?}");
        }
        assert_eq!(again(&HeaderMap::new(), now), Again::AnyTime);
        let pushback = |value| again(&headers("grpc-retry-pushback-ms", value), now);
        assert_eq!(pushback("40"), Again::After(Duration::from_millis(40)));
        assert_eq!(pushback("-1"), Again::Never);
        assert_eq!(pushback("x"), Again::Never);
    }

    #[test]
    fn only_named_statuses_and_codes_are_unwelcome() {
        let mut policy = Retry::default();
        let of = |policy: &Retry, status: u16, headers: &HeaderMap| {
            unwelcome(policy, StatusCode::from_u16(status).expect("a status"), headers)
        };
        let (none, code) = (HeaderMap::new(), headers("grpc-status", "14"));
        assert_eq!(of(&policy, 503, &none), None);
        assert_eq!(of(&policy, 200, &code), None);
        policy.on.statuses = vec![502, 503];
        policy.on.grpc = vec![8, 14];
        assert_eq!(of(&policy, 503, &none), Some(STATUS));
        assert_eq!(of(&policy, 500, &none), None);
        assert_eq!(of(&policy, 200, &code), Some(GRPC_STATUS));
        assert_eq!(of(&policy, 200, &headers("grpc-status", "0")), None);
    }

    #[test]
    fn a_body_is_kept_only_where_that_can_be_of_use() {
        let policy = Retry::default();
        assert!(wants_body(&policy, &Method::PUT));
        assert!(!wants_body(&policy, &Method::POST), "never written twice");
        let off = Retry { attempts: 0, ..Retry::default() };
        assert!(!wants_body(&off, &Method::PUT));
        let anything = Retry { non_idempotent: true, ..Retry::default() };
        assert!(wants_body(&anything, &Method::POST));
    }

    #[test]
    fn failures_are_repeated_as_the_policy_says() {
        let error = |reason, replay| ProxyError::upstream(reason).replay(replay);
        let reset = error(Reason::UpstreamReset, Replay::Unanswered);
        let late = error(Reason::ResponseTimeout, Replay::Unanswered);
        let refused = error(Reason::ConnectFailed, Replay::Unwritten);
        let cut = error(Reason::UpstreamIncomplete, Replay::Never);
        let mut policy = Retry::default();
        let all = |policy: &Retry| [&reset, &late, &refused, &cut].map(|e| wants(policy, e));
        assert_eq!(all(&policy), [true, false, true, false]);
        policy.on.timeout = true;
        policy.on.reset = false;
        assert_eq!(all(&policy), [false, true, true, false]);
    }

    proptest! {
        #[test]
        fn pauses_double_up_to_their_most_and_lose_at_most_half(
            base in 1u64..500,
            most in 1u64..2_000,
            number in 0u32..70,
            random in any::<u64>(),
        ) {
            let policy = Retry {
                backoff: Duration::from_millis(base),
                max_backoff: Duration::from_millis(most),
                ..Retry::default()
            };
            let full = (u128::from(base) << number.min(40)).min(u128::from(most.max(base)));
            let full = Duration::from_millis(full as u64);
            let pause = backoff(&policy, number, random);
            prop_assert!(pause <= full && pause >= full / 2, "{:?} of {:?}", pause, full);
        }
    }
}
