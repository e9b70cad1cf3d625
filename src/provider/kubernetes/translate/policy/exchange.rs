//! Timeouts, repeated attempts, bodies.

use std::num::NonZeroU64;
use std::time::Duration;

use ir::RetryOn;

use super::Mapping;
use crate::ir;
use crate::provider::kubernetes::annotation::{Body, Limit, NextUpstream, Timeouts};
use crate::provider::kubernetes::report::Verdict;

/// How often a request is sent where ingress-nginx has no bound.
const MANY: u32 = 10;
/// How much of a request's body is read before a back end has any of it, at least: all that
/// ingress-nginx lets in by default.
const REQUEST_BUFFER: u64 = 1 << 20;
/// How much of a response is read ahead of its client where ingress-nginx has a file for what does not
/// fit into its buffers, at least.
const RESPONSE_BUFFER: u64 = 1 << 20;
/// The most of one body that an annotation can have read ahead. What ingress-nginx has beyond its
/// buffers it writes to disk.
const MOST: u64 = 16 << 20;

impl Mapping<'_> {
    pub(super) fn timeouts(&mut self, values: &Timeouts) {
        self.mapped.extend([
            "proxy-connect-timeout",
            "proxy-next-upstream",
            "proxy-next-upstream-timeout",
            "proxy-next-upstream-tries",
            "proxy-read-timeout",
            "proxy-send-timeout",
        ]);
        let timeouts = &mut self.policy.timeouts;
        if let Some(connect) = values.connect {
            timeouts.connect = Some(connect);
        }
        if let Some(read) = values.read {
            timeouts.response = Some(read);
        }
        // There are two idle timers in ingress-nginx and one here, for either direction.
        if values.read.is_some() || values.send.is_some() {
            const DEFAULT: Duration = Duration::from_secs(60);
            let longer = values.read.unwrap_or(DEFAULT).max(values.send.unwrap_or(DEFAULT));
            timeouts.idle = Some(longer);
            timeouts.tunnel_idle = Some(longer);
        }
        if let Some(conditions) = &values.next_upstream {
            self.conditions(conditions);
        }
        let retry = &mut self.policy.retry;
        let off = values.next_upstream.as_ref().is_some_and(Vec::is_empty);
        match values.next_upstream_tries {
            _ if off => retry.attempts = 0,
            Some(0) => retry.attempts = MANY,
            Some(tries) => retry.attempts = tries - 1,
            None => {}
        }
        if let Some(limit) = values.next_upstream_timeout {
            retry.max_elapsed = Some(limit).filter(|limit| !limit.is_zero());
        }
    }

    fn conditions(&mut self, conditions: &[NextUpstream]) {
        let mut on = RetryOn { reset: false, ..RetryOn::default() };
        let mut non_idempotent = false;
        let mut invalid = false;
        for condition in conditions {
            match condition {
                NextUpstream::Error => on.reset = true,
                NextUpstream::Timeout => on.timeout = true,
                NextUpstream::InvalidHeader => invalid = true,
                NextUpstream::Status(status) => on.statuses.push(*status),
                NextUpstream::NonIdempotent => non_idempotent = true,
            }
        }
        on.statuses.sort_unstable();
        on.statuses.dedup();
        self.policy.retry.on = on;
        self.policy.retry.non_idempotent = non_idempotent;
        if invalid {
            let text =
                "is honoured but for `invalid_header`: a response that is none is not repeated";
            self.note("proxy-next-upstream", Verdict::Differs, text);
        }
    }

    pub(super) fn body(&mut self, values: &Body) {
        self.mapped.extend([
            "client-body-buffer-size",
            "proxy-body-size",
            "proxy-buffer-size",
            "proxy-buffering",
            "proxy-buffers-number",
            "proxy-max-temp-file-size",
            "proxy-request-buffering",
        ]);
        match values.limit {
            Some(0) => self.policy.body_limit = None,
            Some(limit) => self.policy.body_limit = Some(limit),
            None => {}
        }
        if let Some(buffer) = values.request_buffer {
            self.policy.retry.buffer = buffer;
        }
        let wanted = values.request_buffer.unwrap_or(0).clamp(REQUEST_BUFFER, MOST);
        let on = values.request_buffering != Some(false);
        self.policy.bodies.request_buffer = on.then_some(wanted);
        self.policy.bodies.response_buffer = Some(ir::ResponseBuffer {
            size: response_buffer(values),
            by_default: values.response_buffering == Some(true),
        });
    }

    /// How fast a response goes. In ingress-nginx it needs `proxy-buffering`; here it does not.
    pub(super) fn rate(&mut self, values: &Limit) {
        self.mapped.extend(["limit-rate", "limit-rate-after"]);
        let bytes = values.rate.and_then(NonZeroU64::new);
        let after = values.rate_after.unwrap_or(0);
        self.policy.bodies.response_rate = bytes.map(|bytes| ir::ResponseRate { bytes, after });
    }
}

/// How much of a response is read ahead: what fits into the buffers, and a little of what would go to
/// a file behind them.
fn response_buffer(values: &Body) -> NonZeroU64 {
    let number = values.response_buffers.unwrap_or(4);
    let buffers = values.response_buffer.unwrap_or(4 << 10).saturating_mul(number.into());
    let file = values.response_file.unwrap_or(1 << 30);
    let wanted = buffers.saturating_add(file).min(buffers.max(RESPONSE_BUFFER)).min(MOST);
    NonZeroU64::new(wanted).unwrap_or(NonZeroU64::MIN)
}
