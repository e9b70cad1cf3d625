//! What an upstream makes of the load of its endpoints, as far as its algorithm wants it.

use http::HeaderMap;

use super::orca::{self, LoadReport, Malformed};
use super::{Endpoint, Observation, Upstream, Verdict};
use crate::ir::{Balance, OrcaPolicy};
use crate::telemetry::{ReportResult, WorkerId};
use crate::util::moment::Moment;

impl Upstream {
    /// Where reports of load come from; `None` where the algorithm has no use for them.
    pub fn orca(&self) -> Option<&OrcaPolicy> {
        match &self.spec.balance.algorithm {
            Balance::LeastUtilization(policy) => Some(policy),
            Balance::WeightedByLoad(policy) => Some(&policy.orca),
            _ => None,
        }
    }

    /// Takes in the report of load in a response's head or trailer section. Where they are polled
    /// those in responses are not read, as gRFC A58 has it: a report of one request and one of the
    /// server as a whole do not average.
    #[inline]
    pub fn read_report(
        &self,
        endpoint: &Endpoint,
        fields: &HeaderMap,
        worker: WorkerId,
        now: Moment,
    ) {
        if let Some(policy) = self.orca().filter(|policy| policy.poll.is_none())
            && let Some(report) = orca::find(fields, &policy.metrics)
        {
            self.metrics.reported(worker, self.note_report(endpoint, report, now));
        }
    }

    /// Takes in a report that was polled.
    pub fn note_polled(
        &self,
        endpoint: &Endpoint,
        report: Result<LoadReport, Malformed>,
        now: Moment,
    ) {
        self.metrics.polled(self.note_report(endpoint, report, now));
    }

    fn note_report(
        &self,
        endpoint: &Endpoint,
        report: Result<LoadReport, Malformed>,
        now: Moment,
    ) -> ReportResult {
        let report = match report {
            Ok(report) => report,
            Err(error) => {
                let (upstream, endpoint) = (&self.name, endpoint.address);
                tracing::debug!(%upstream, %endpoint, "a report of load was ignored: {error}");
                return ReportResult::Malformed;
            }
        };
        if let Some(policy) = self.orca() {
            endpoint.load.record(&report, policy.interval, now);
        }
        if let Balance::WeightedByLoad(policy) = &self.spec.balance.algorithm {
            endpoint.reported_weight.record(&report, policy, now);
        }
        ReportResult::Accepted
    }

    /// Takes in how an attempt went, where the algorithm wants to know.
    #[inline]
    pub(super) fn note_load(&self, endpoint: &Endpoint, observation: Observation, now: Moment) {
        match &self.spec.balance.algorithm {
            Balance::LeastUtilization(policy) => {
                if let Verdict::Responded(_) = observation.verdict {
                    endpoint.load.answered(observation.in_flight, policy.interval, now);
                }
                endpoint.load.ended(observation.verdict, now);
            }
            Balance::Prequal(_) => {
                if let Some(samples) = endpoint.samples() {
                    samples.observe(observation, now);
                }
            }
            _ => {}
        }
    }

    /// The same of an attempt that goes well as far as its response head says.
    #[inline]
    pub(super) fn note_load_at_head(&self, endpoint: &Endpoint, seen: Observation, now: Moment) {
        match &self.spec.balance.algorithm {
            Balance::LeastUtilization(policy) => {
                endpoint.load.answered(seen.in_flight, policy.interval, now);
            }
            _ => self.note_load(endpoint, seen, now),
        }
    }

    /// The same of such an attempt at its end.
    #[inline]
    pub(super) fn note_load_at_end(&self, endpoint: &Endpoint, seen: Observation, now: Moment) {
        match &self.spec.balance.algorithm {
            Balance::LeastUtilization(_) => endpoint.load.ended(seen.verdict, now),
            Balance::Prequal(_) if !seen.verdict.is_success() => {
                // Twice: its head was remembered as a success, and an endpoint that fails every
                // time must look like one.
                if let Some(samples) = endpoint.samples() {
                    samples.observe(seen, now);
                    samples.observe(seen, now);
                }
            }
            _ => {}
        }
    }
}
