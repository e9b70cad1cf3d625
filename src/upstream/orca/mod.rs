//! Reports of load as endpoints make them (ORCA, Open Request Cost Aggregation): where they
//! stand in a response, how they are read, and what of them counts.
//!
//! A report is the message `xds.data.orca.v3.OrcaLoadReport`, in one of the forms of [`parse()`].
//! It comes with a response, in its head or in its trailer section, or is polled by the control
//! side. Nothing in here knows what algorithms make of it.

mod json;
mod parse;
mod proto;
mod text;

#[cfg(test)]
mod tests;

pub use parse::{Malformed, Metric, Note, parse, parse_binary, parse_json};

use std::sync::Arc;

use http::header::TRAILER;
use http::{HeaderMap, HeaderName, HeaderValue};
use smallvec::SmallVec;

/// The field that carries a report as text, JSON or base64, told by a word before it.
pub const FIELD: HeaderName = HeaderName::from_static("endpoint-load-metrics");
/// The field that carries a report as protobuf in base64.
pub const FIELD_BINARY: HeaderName = HeaderName::from_static("endpoint-load-metrics-bin");
/// The field that carries a report as JSON.
pub const FIELD_JSON: HeaderName = HeaderName::from_static("endpoint-load-metrics-json");

/// The greatest utilisation that is believed; metrics such as queue lengths may serve as one.
const MAX_UTILIZATION: f64 = 1e6;
/// The most requests and errors a second that are believed.
const MAX_RATE: f64 = 1e9;

/// What counts of one report.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LoadReport {
    /// How busy the endpoint is, 1 being fully; 0 where it does not say.
    pub utilization: f64,
    /// Requests a second, from all its clients; 0 where it does not say.
    pub qps: f64,
    /// Failed requests a second; 0 where it does not say.
    pub eps: f64,
}

/// Reads a report into what counts of it. The utilisation is chosen as gRFC A58 and A64 have it:
/// the application's own where it is above 0, else the highest of `metrics` the report has, else
/// the processor's.
#[derive(Clone, Debug, Default)]
pub struct Digest<'a> {
    metrics: &'a [Arc<str>],
    application: f64,
    cpu: f64,
    /// In the order of `metrics`; the last of a name counts.
    named: SmallVec<[Option<f64>; 4]>,
    rps: f64,
    rps_whole: f64,
    eps: f64,
}

impl<'a> Digest<'a> {
    /// Nothing read yet. `metrics` name entries as `named_metrics.key`, `utilization.key` or
    /// `request_cost.key`, or plain fields such as `mem_utilization`; a bare key is one of
    /// `named_metrics`.
    pub fn new(metrics: &'a [Arc<str>]) -> Self {
        Self { metrics, named: SmallVec::from_elem(None, metrics.len()), ..Self::default() }
    }

    /// Takes in one metric.
    pub fn note(&mut self, metric: Metric<'_>, value: f64) {
        match metric {
            Metric::Application => self.application = value,
            Metric::Cpu => self.cpu = value,
            Metric::Eps => self.eps = value,
            Metric::Rps => self.rps = value,
            Metric::RpsWhole => self.rps_whole = value,
            Metric::Memory | Metric::Named(_) | Metric::RequestCost(_) | Metric::Utilization(_) => {
            }
        }
        for (wanted, place) in self.metrics.iter().zip(&mut self.named) {
            if metric.is_called(wanted) {
                *place = Some(value);
            }
        }
    }

    /// What counts. An absurd number is a server's mistake: it would stand in averages for long,
    /// and as a weight it would leave the others nothing.
    pub fn finish(self) -> Result<LoadReport, Malformed> {
        let named = self.named.iter().flatten().copied().reduce(f64::max);
        let utilization = match (self.application > 0.0, named) {
            (true, _) => self.application,
            (false, Some(named)) if named > 0.0 => named,
            (false, _) => self.cpu,
        };
        let qps = if self.rps > 0.0 { self.rps } else { self.rps_whole };
        let report = LoadReport { utilization, qps, eps: self.eps };
        let absurd = utilization > MAX_UTILIZATION || qps.max(report.eps) > MAX_RATE;
        if absurd { Err(Malformed::Value) } else { Ok(report) }
    }
}

/// Whether a field carries a report.
#[inline]
pub fn is_report(name: &HeaderName) -> bool {
    name.as_str().starts_with(FIELD.as_str()) && Form::ALL.iter().any(|form| *name == form.field())
}

/// Takes reports out of a head or a trailer section unread.
pub fn strip(fields: &mut HeaderMap) {
    for form in Form::ALL {
        fields.remove(form.field());
    }
}

/// Reads the report in a head or a trailer section; `None` where there is none.
pub fn find(fields: &HeaderMap, metrics: &[Arc<str>]) -> Option<Result<LoadReport, Malformed>> {
    let each = |form: Form| fields.get_all(form.field()).iter().map(move |value| (form, value));
    let mut reports = Form::ALL.into_iter().flat_map(each);
    let (form, value) = reports.next()?;
    if reports.next().is_some() {
        return Some(Err(Malformed::Several));
    }
    let mut digest = Digest::new(metrics);
    let mut note = |metric: Metric<'_>, value: f64| digest.note(metric, value);
    let parsed = match form {
        Form::Any => parse(value.as_bytes(), &mut note),
        Form::Binary => parse_binary(value.as_bytes(), &mut note),
        Form::Json => parse_json(value.as_bytes(), &mut note),
    };
    Some(parsed.and_then(|()| digest.finish()))
}

/// Takes the names of reports out of `Trailer`, which announces the trailer section's fields
/// (RFC 9110 §6.6.2).
pub fn forget_announcement(head: &mut HeaderMap) {
    let is_ours = |name: &[u8]| {
        let is = |form: &Form| name.eq_ignore_ascii_case(form.field().as_str().as_bytes());
        Form::ALL.iter().any(is)
    };
    let names = |value: &HeaderValue| -> Vec<Vec<u8>> {
        let names = value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
        names.map(<[u8]>::to_vec).collect()
    };
    let announced: Vec<_> = head.get_all(TRAILER).iter().flat_map(names).collect();
    if !announced.iter().any(|name| is_ours(name)) {
        return;
    }
    head.remove(TRAILER);
    let left: Vec<_> = announced.into_iter().filter(|name| !is_ours(name)).collect();
    if !left.is_empty()
        && let Ok(left) = HeaderValue::from_bytes(&left.join(&b", "[..]))
    {
        head.insert(TRAILER, left);
    }
}

#[derive(Clone, Copy)]
enum Form {
    Any,
    Binary,
    Json,
}

impl Form {
    const ALL: [Self; 3] = [Self::Any, Self::Binary, Self::Json];

    const fn field(self) -> HeaderName {
        match self {
            Self::Any => FIELD,
            Self::Binary => FIELD_BINARY,
            Self::Json => FIELD_JSON,
        }
    }
}
