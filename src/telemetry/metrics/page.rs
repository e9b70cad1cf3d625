//! The metrics page under construction: samples into the `prometheus` crate's families.
//!
//! Samples are placed by their full label values; the crate's own vectors, which key a series by
//! a hash of its values without separators, are not used.

use std::marker::PhantomData;

use prometheus::proto;

use super::histogram::Distribution;
use crate::telemetry::escape;
use crate::telemetry::families::{DURATION_BOUNDS, Declaration, Family, Kind};

/// A closed set of families.
pub(super) trait Declared: Copy + std::fmt::Debug + 'static {
    /// All of them, in the order of their numbers.
    const ALL: &'static [Self];

    /// The family's number, from 0.
    fn index(self) -> usize;

    /// Its name, type, help and labels.
    fn declaration(self) -> Declaration;
}

impl Declared for Family {
    const ALL: &'static [Self] = &Self::ALL;

    fn index(self) -> usize {
        self as usize
    }

    fn declaration(self) -> Declaration {
        Self::declaration(self)
    }
}

/// Samples of every family of a set, in the making.
pub(super) struct Page<F = Family> {
    samples: Vec<Vec<proto::Metric>>,
    /// Labels that every sample has after its own.
    constant: Vec<proto::LabelPair>,
    families: PhantomData<F>,
}

impl<F: Declared> Page<F> {
    /// An empty page.
    pub(super) fn new() -> Self {
        Self::with(&[])
    }

    /// An empty page on which every sample has these labels, too.
    pub(super) fn with(constant: &[(&str, &str)]) -> Self {
        Self {
            samples: F::ALL.iter().map(|_| Vec::new()).collect(),
            constant: constant.iter().map(|(name, value)| label(name, value)).collect(),
            families: PhantomData,
        }
    }

    /// A sample of a counter.
    pub(super) fn counter(&mut self, family: F, labels: &[&str], value: f64) {
        let mut counter = proto::Counter::default();
        counter.set_value(value);
        let mut metric = self.metric(family, Kind::Counter, labels);
        metric.set_counter(counter);
        self.add(family, metric);
    }

    /// A sample of a gauge.
    pub(super) fn gauge(&mut self, family: F, labels: &[&str], value: f64) {
        let mut gauge = proto::Gauge::default();
        gauge.set_value(value);
        let mut metric = self.metric(family, Kind::Gauge, labels);
        metric.set_gauge(gauge);
        self.add(family, metric);
    }

    /// A histogram of durations over [`DURATION_BOUNDS`].
    pub(super) fn histogram(&mut self, family: F, labels: &[&str], sum: &Distribution) {
        let mut cumulative = 0;
        let buckets = DURATION_BOUNDS.iter().zip(sum.buckets).map(|(bound, count)| {
            cumulative += count;
            (*bound as f64 / 1e9, cumulative)
        });
        self.buckets(family, labels, buckets, sum.count(), sum.micros as f64 / 1e6);
    }

    /// A histogram by its upper bounds and the cumulative counts at them.
    pub(super) fn buckets(
        &mut self,
        family: F,
        labels: &[&str],
        buckets: impl Iterator<Item = (f64, u64)>,
        count: u64,
        sum: f64,
    ) {
        let buckets = buckets.map(|(bound, count)| {
            let mut bucket = proto::Bucket::default();
            bucket.set_upper_bound(bound);
            bucket.set_cumulative_count(count);
            bucket
        });
        let mut histogram = proto::Histogram::default();
        histogram.set_bucket(buckets.collect());
        histogram.set_sample_count(count);
        histogram.set_sample_sum(sum);
        let mut metric = self.metric(family, Kind::Histogram, labels);
        metric.set_histogram(histogram);
        self.add(family, metric);
    }

    /// The families; those without samples are left out by the encoder.
    pub(super) fn into_families(self) -> Vec<proto::MetricFamily> {
        F::ALL.iter().zip(self.samples).map(|(family, samples)| finish(*family, samples)).collect()
    }

    fn add(&mut self, family: F, metric: proto::Metric) {
        if let Some(samples) = self.samples.get_mut(family.index()) {
            samples.push(metric);
        }
    }

    fn metric(&self, family: F, kind: Kind, values: &[&str]) -> proto::Metric {
        let declaration = family.declaration();
        debug_assert_eq!(declaration.kind, kind, "{family:?}");
        debug_assert_eq!(declaration.labels.len(), values.len(), "{family:?}");
        let labels = declaration.labels.iter().zip(values).map(|(name, value)| label(name, value));
        proto::Metric::from_label(labels.chain(self.constant.iter().cloned()).collect())
    }
}

fn finish(family: impl Declared, samples: Vec<proto::Metric>) -> proto::MetricFamily {
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

fn label(name: &str, value: &str) -> proto::LabelPair {
    let mut label = proto::LabelPair::default();
    label.set_name(name.to_owned());
    label.set_value(escape::distinct(value).into_owned());
    label
}
