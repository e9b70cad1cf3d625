//! An eye on one attempt: counts it as in flight and reports how it went, exactly once, even
//! where nobody waits for it any more.
//!
//! A head that says that the attempt failed settles that at once. Any other is only how long the
//! endpoint took to answer; how the attempt went shows at the end of the response, in trailers
//! for a gRPC call.

use std::sync::Arc;
use std::time::Duration;

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue};

use crate::telemetry::{GrpcCode, Reason, WorkerId};
use crate::upstream::h1::ResponseHead;
use crate::upstream::{Endpoint, InFlight, Observation, Upstream, Verdict};
use crate::util::moment::Moment;

/// One attempt at an endpoint.
pub struct Watch {
    upstream: Arc<Upstream>,
    in_flight: InFlight,
    worker: WorkerId,
    started: Moment,
    /// When the time of the whole request is up.
    due: Option<Moment>,
    /// Whether the endpoint is the one who is waited for.
    awaits: bool,
    /// Whether it is counted as an attempt.
    counted: bool,
    /// Whether it waits for a connection that is not the endpoint's to give.
    held: bool,
    state: State,
}

/// How far an attempt is.
enum State {
    /// It has no response head yet.
    Awaited,
    /// It goes well as far as its head says.
    Begun(Begun),
    /// It is settled how it went.
    Settled,
}

struct Begun {
    /// How it goes as far as is known.
    verdict: Verdict,
    /// From its start to its head.
    took: Duration,
    /// Whether trailers still have to say with which code the call ends.
    owes_code: bool,
}

impl Watch {
    /// Watches an attempt that began at `started` and is broken off at `due`.
    pub fn new(
        upstream: Arc<Upstream>,
        in_flight: InFlight,
        worker: WorkerId,
        started: Moment,
        due: Option<Moment>,
    ) -> Self {
        let (awaits, counted, held, state) = (true, false, false, State::Awaited);
        Self { upstream, in_flight, worker, started, due, awaits, counted, held, state }
    }

    /// Says that there is a connection. An attempt that ends before counts, too, but one that has
    /// to wait for its turn does not while it waits.
    pub fn begin(&mut self) {
        if !std::mem::replace(&mut self.counted, true) {
            self.endpoint().metrics.attempt(self.worker);
        }
    }

    /// Says that the attempt waits for its turn: nothing of that is the endpoint's doing.
    pub fn hold(&mut self) {
        self.held = true;
        self.in_flight.hold();
    }

    /// Says that the attempt goes on, as if it had begun now.
    pub fn go_on(&mut self) {
        self.held = false;
        self.started = Moment::now();
        self.in_flight.go_on(self.started);
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
    pub fn started(&self) -> Moment {
        self.started
    }

    /// Takes in a final response head: the endpoint's report of load, and how the attempt goes. Of
    /// a gRPC call that is a head only, the code says that and not the status.
    pub fn responded(&mut self, head: &ResponseHead, is_grpc: bool, now: Moment) {
        let status = head.status.as_u16();
        let took = now.since(self.started);
        self.endpoint().metrics.responded(self.worker, status, took);
        self.upstream.read_report(self.endpoint(), &head.headers, self.worker, now);
        self.in_flight.answered(now);
        let is_call = is_grpc && status == 200;
        let code = if is_call { head.headers.get("grpc-status") } else { None };
        let verdict = match code {
            Some(code) => self.called(GrpcCode::of(code.as_bytes())),
            None => Verdict::Responded(status),
        };
        let in_flight = self.in_flight.before();
        let seen = Observation { in_flight, latency: took, verdict };
        if verdict.is_success() {
            let owes_code = is_call && code.is_none() && ends_with_code(&head.headers);
            self.state = State::Begun(Begun { verdict, took, owes_code });
            self.upstream.observe_head(self.in_flight.endpoint(), seen, now);
        } else {
            self.state = State::Settled;
            self.upstream.observe(self.in_flight.endpoint(), seen, now);
        }
    }

    /// Says that the endpoint took the connection: all that is asked of it where what is said on it
    /// cannot be seen.
    pub fn connected(&mut self, now: Moment) {
        let took = now.since(self.started);
        self.in_flight.answered(now);
        let verdict = Verdict::Responded(200);
        let seen = Observation { in_flight: self.in_flight.before(), latency: took, verdict };
        self.begin();
        self.state = State::Begun(Begun { verdict, took, owes_code: false });
        self.upstream.observe_head(self.in_flight.endpoint(), seen, now);
    }

    /// Takes in the trailer section of the response: a report of load, and the code of a gRPC
    /// call.
    pub fn trailers(&mut self, trailers: &HeaderMap, now: Moment) {
        self.upstream.read_report(self.endpoint(), trailers, self.worker, now);
        if let State::Begun(Begun { owes_code: true, .. }) = self.state
            && let Some(code) = trailers.get("grpc-status")
        {
            self.note_code(GrpcCode::of(code.as_bytes()));
        }
    }

    /// Says that the response is complete.
    pub fn ended(&mut self, now: Moment) {
        if let State::Begun(Begun { owes_code: true, .. }) = self.state {
            self.note_code(GrpcCode::UNKNOWN);
        }
        if let State::Begun(Begun { verdict, .. }) = self.state {
            self.settle(verdict, now);
        }
    }

    /// Reports that a connection turned out to be closed, most likely while it was idle: that
    /// says nothing of the endpoint.
    pub fn went_stale(&mut self, reason: Reason) {
        self.endpoint().metrics.failed(self.worker, reason);
        self.settle(Verdict::Abandoned, Moment::now());
    }

    /// Reports a failure on the endpoint's side, before the response head or after.
    pub fn failed(&mut self, reason: Reason) {
        self.endpoint().metrics.failed(self.worker, reason);
        self.settle(Verdict::Failed(reason), Moment::now());
    }

    fn note_code(&mut self, code: GrpcCode) {
        let verdict = self.called(code);
        if let State::Begun(begun) = &mut self.state {
            (begun.verdict, begun.owes_code) = (verdict, false);
        }
    }

    fn called(&self, code: GrpcCode) -> Verdict {
        self.endpoint().metrics.called(self.worker, code);
        Verdict::of_call(code)
    }

    fn settle(&mut self, verdict: Verdict, now: Moment) {
        self.begin();
        let in_flight = self.in_flight.before();
        match std::mem::replace(&mut self.state, State::Settled) {
            State::Awaited => {
                if verdict != Verdict::Abandoned {
                    self.in_flight.answered(now);
                }
                let latency = now.since(self.started);
                let seen = Observation { in_flight, latency, verdict };
                self.upstream.observe(self.in_flight.endpoint(), seen, now);
            }
            State::Begun(Begun { took, .. }) => {
                let seen = Observation { in_flight, latency: took, verdict };
                self.upstream.observe_end(self.in_flight.endpoint(), seen, now);
            }
            State::Settled => {}
        }
    }
}

/// Whether a response with this head is gRPC's own, whose trailers have a code. Other forms of
/// gRPC have theirs in the body.
fn ends_with_code(head: &HeaderMap) -> bool {
    let kind = head.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    let rest = kind.and_then(|kind| kind.strip_prefix(b"application/grpc"));
    matches!(rest, Some([] | [b'+' | b';', ..]))
}

impl Drop for Watch {
    fn drop(&mut self) {
        if self.held {
            return;
        }
        match self.state {
            State::Settled => {}
            // An attempt that is dropped because the request's time is up was the endpoint's to
            // end.
            State::Awaited if self.awaits && self.due.is_some_and(|due| Moment::now() >= due) => {
                self.failed(Reason::RequestTimeout);
            }
            State::Awaited => self.settle(Verdict::Abandoned, Moment::now()),
            // Nobody waits for its end; it went well up to here.
            State::Begun(Begun { verdict, .. }) => self.settle(verdict, Moment::now()),
        }
    }
}

#[cfg(test)]
mod tests;
