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

    /// What counts.
    pub fn finish(self) -> LoadReport {
        let named = self.named.iter().flatten().copied().reduce(f64::max);
        let utilization = match (self.application > 0.0, named) {
            (true, _) => self.application,
            (false, Some(named)) if named > 0.0 => named,
            (false, _) => self.cpu,
        };
        let qps = if self.rps > 0.0 { self.rps } else { self.rps_whole };
        LoadReport { utilization, qps, eps: self.eps }
    }
}

/// Takes the report out of a head or a trailer section; `None` where there is none. Reads it only
/// where `metrics` are given.
pub fn take(
    fields: &mut HeaderMap,
    metrics: Option<&[Arc<str>]>,
) -> Option<Result<LoadReport, Malformed>> {
    let mut found: Option<(Form, HeaderValue)> = None;
    let mut several = false;
    for form in [Form::Any, Form::Binary, Form::Json] {
        let name = form.field();
        if !fields.contains_key(&name) {
            continue;
        }
        several |= found.is_some() || fields.get_all(&name).iter().nth(1).is_some();
        found = fields.remove(&name).map(|value| (form, value));
    }
    let (form, value) = found?;
    let metrics = metrics?;
    if several {
        return Some(Err(Malformed::Several));
    }
    let mut digest = Digest::new(metrics);
    let mut note = |metric: Metric<'_>, value: f64| digest.note(metric, value);
    let parsed = match form {
        Form::Any => parse(value.as_bytes(), &mut note),
        Form::Binary => parse_binary(value.as_bytes(), &mut note),
        Form::Json => parse_json(value.as_bytes(), &mut note),
    };
    Some(parsed.map(|()| digest.finish()))
}

/// Takes the names of reports out of `Trailer`, which announces the trailer section's fields
/// (RFC 9110 §6.6.2).
pub fn forget_announcement(head: &mut HeaderMap) {
    let is_ours = |name: &[u8]| {
        let forms = [Form::Any, Form::Binary, Form::Json];
        forms.iter().any(|form| name.eq_ignore_ascii_case(form.field().as_str().as_bytes()))
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
    const fn field(self) -> HeaderName {
        match self {
            Self::Any => FIELD,
            Self::Binary => FIELD_BINARY,
            Self::Json => FIELD_JSON,
        }
    }
}
