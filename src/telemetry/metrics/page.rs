//! The metrics page under construction: samples into the `prometheus` crate's families.
//!
//! Samples are placed by their full label values; the crate's own vectors, which key a series by
//! a hash of its values without separators, are not used.

use prometheus::proto;

use super::histogram::Distribution;
use crate::telemetry::escape;
use crate::telemetry::families::{DURATION_BOUNDS, Family, Kind};

/// Samples of every family, in the making.
pub(super) struct Page(Vec<Vec<proto::Metric>>);

impl Page {
    /// An empty page.
    pub(super) fn new() -> Self {
        Self(Family::ALL.iter().map(|_| Vec::new()).collect())
    }

    /// A sample of a counter.
    pub(super) fn counter(&mut self, family: Family, labels: &[&str], value: f64) {
        let mut counter = proto::Counter::default();
        counter.set_value(value);
        let mut metric = metric(family, Kind::Counter, labels);
        metric.set_counter(counter);
        self.add(family, metric);
    }

    /// A sample of a gauge.
    pub(super) fn gauge(&mut self, family: Family, labels: &[&str], value: f64) {
        let mut gauge = proto::Gauge::default();
        gauge.set_value(value);
        let mut metric = metric(family, Kind::Gauge, labels);
        metric.set_gauge(gauge);
        self.add(family, metric);
    }

    /// A histogram.
    pub(super) fn histogram(&mut self, family: Family, labels: &[&str], sum: &Distribution) {
        let mut cumulative = 0;
        let buckets = DURATION_BOUNDS.iter().zip(sum.buckets).map(|(bound, count)| {
            cumulative += count;
            let mut bucket = proto::Bucket::default();
            bucket.set_upper_bound(*bound as f64 / 1e9);
            bucket.set_cumulative_count(cumulative);
            bucket
        });
        let mut histogram = proto::Histogram::default();
        histogram.set_bucket(buckets.collect());
        histogram.set_sample_count(sum.count());
        histogram.set_sample_sum(sum.micros as f64 / 1e6);
        let mut metric = metric(family, Kind::Histogram, labels);
        metric.set_histogram(histogram);
        self.add(family, metric);
    }

    /// The families that have samples.
    pub(super) fn into_families(self) -> Vec<proto::MetricFamily> {
        Family::ALL.iter().zip(self.0).map(|(family, samples)| finish(*family, samples)).collect()
    }

    fn add(&mut self, family: Family, metric: proto::Metric) {
        if let Some(samples) = self.0.get_mut(family as usize) {
            samples.push(metric);
        }
    }
}

fn finish(family: Family, samples: Vec<proto::Metric>) -> proto::MetricFamily {
    let declaration = family.declaration();
    let mut finished = proto::MetricFamily::default();
    finished.set_name(declaration.name.to_owned());
    finished.set_help(declaration.help.to_owned());
    finished.set_field_type(match declaration.kind {
        Kind::Counter => proto::MetricType::COUNTER,
        Kind::Gauge => proto::MetricType::GAUGE,
        Kind::Histogram => proto::MetricType::HISTOGRAM,
    });
    finished.set_metric(samples);
    finished
}

fn metric(family: Family, kind: Kind, values: &[&str]) -> proto::Metric {
    let declaration = family.declaration();
    debug_assert_eq!(declaration.kind, kind, "{family:?}");
    debug_assert_eq!(declaration.labels.len(), values.len(), "{family:?}");
    let labels = declaration.labels.iter().zip(values).map(|(name, value)| {
        let mut label = proto::LabelPair::default();
        label.set_name((*name).to_owned());
        label.set_value(escape::distinct(value).into_owned());
        label
    });
    proto::Metric::from_label(labels.collect())
}
