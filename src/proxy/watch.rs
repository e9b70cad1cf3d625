//! An eye on one attempt: counts it as in flight and reports how it went, exactly once, even
//! where nobody waits for it any more.

use std::sync::Arc;
use std::time::Instant;

use http::HeaderMap;

use crate::telemetry::{Reason, WorkerId};
use crate::upstream::h1::ResponseHead;
use crate::upstream::{Endpoint, InFlight, Observation, Upstream, Verdict};
use crate::util::moment::Moment;

/// One attempt at an endpoint.
pub struct Watch {
    upstream: Arc<Upstream>,
    in_flight: InFlight,
    worker: WorkerId,
    started: Instant,
    /// When the time of the whole request is up.
    due: Option<Instant>,
    /// Whether the endpoint is the one who is waited for.
    awaits: bool,
    reported: bool,
}

impl Watch {
    /// Watches an attempt that began at `started` and is broken off at `due`.
    pub fn new(
        upstream: Arc<Upstream>,
        in_flight: InFlight,
        worker: WorkerId,
        started: Instant,
        due: Option<Instant>,
    ) -> Self {
        in_flight.endpoint().metrics.attempt(worker);
        Self { upstream, in_flight, worker, started, due, awaits: true, reported: false }
    }

    /// Says whether the endpoint is waited for, rather than the client's body.
    pub fn set_awaits(&mut self, awaits: bool) {
        self.awaits = awaits;
    }

    /// The endpoint.
    pub fn endpoint(&self) -> &Arc<Endpoint> {
        self.in_flight.endpoint()
    }

    /// When the attempt began.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// Takes in the endpoint's report of load in a response's head or trailer section, where the
    /// balancer goes by it.
    pub fn read_report(&self, fields: &HeaderMap, now: Instant) {
        self.upstream.read_report(self.endpoint(), fields, self.worker, Moment::of(now));
    }

    /// Reports a final response head. Of a gRPC response that is headers only the code says how
    /// it went, not the status.
    pub fn responded(&mut self, head: &ResponseHead, is_grpc: bool, now: Instant) {
        let status = head.status.as_u16();
        let took = now.saturating_duration_since(self.started);
        self.endpoint().metrics.responded(self.worker, status, took);
        let code = head.headers.get("grpc-status").filter(|_| is_grpc && status == 200);
        let verdict = code.map_or(status, |code| grpc_as_http(code.as_bytes()));
        self.report(Verdict::Responded(verdict), now);
    }

    /// Reports that a connection turned out to be closed, most likely while it was idle: that
    /// says nothing of the endpoint.
    pub fn went_stale(&mut self, reason: Reason) {
        self.endpoint().metrics.failed(self.worker, reason);
        self.report(Verdict::Abandoned, Instant::now());
    }

    /// Reports a failure on the endpoint's side, before the response head or after.
    pub fn failed(&mut self, reason: Reason) {
        self.endpoint().metrics.failed(self.worker, reason);
        self.report(Verdict::Failed(reason), Instant::now());
    }

    fn report(&mut self, verdict: Verdict, now: Instant) {
        self.reported = true;
        let latency = now.saturating_duration_since(self.started);
        if verdict != Verdict::Abandoned {
            self.in_flight.answered(Moment::of(now));
        }
        let in_flight = self.in_flight.before();
        let observation = Observation { in_flight, latency, verdict };
        self.upstream.observe(self.in_flight.endpoint(), observation, Moment::of(now));
    }
}

/// The HTTP status that says the same as a gRPC code, as google.rpc.Code has it; an unknown code
/// is `UNKNOWN`.
fn grpc_as_http(code: &[u8]) -> u16 {
    match code {
        b"0" => 200,
        b"1" => 499,
        b"3" | b"9" | b"11" => 400,
        b"4" => 504,
        b"5" => 404,
        b"6" | b"10" => 409,
        b"7" => 403,
        b"8" => 429,
        b"12" => 501,
        b"14" => 503,
        b"16" => 401,
        _ => 500,
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if self.reported {
            return;
        }
        // An attempt that is dropped because the request's time is up was the endpoint's to end.
        if self.awaits && self.due.is_some_and(|due| Instant::now() >= due) {
            return self.failed(Reason::RequestTimeout);
        }
        self.report(Verdict::Abandoned, Instant::now());
    }
}
