//! What is done about endpoints that fail: health checks, ejection, limits, retries, hedging.

use std::sync::Arc;

use ir::{
    AdaptiveConcurrency, FailurePercentage, HealthCheck, Hedge, HedgeAfter, HttpProbe, Outlier,
    Permille, Probe, Retry, RetryBudget, RetryOn, SuccessRate, UpstreamLimits,
};

use super::context::Context;
use super::range::{count, factor, limit, share};
use super::settings::period;
use super::{balance, header, or, route};
use crate::ir;
use crate::provider::file::field::{At, Field, List, OneOf, Text};
use crate::provider::file::node::Place;
use crate::provider::file::raw::{self, HealthKind};
use crate::provider::file::scalar::{Factor, HealthWord, HedgeWord, RetryCondition, Switch};

/// The largest body kept for a retry; it is memory of every request in flight.
const LARGEST_BUFFER: u64 = 64 << 20;

// === health checks ===

pub(super) fn health(
    context: &mut Context<'_>,
    field: &Field<OneOf<Text<HealthWord>, raw::HealthCheck>>,
) -> Option<HealthCheck> {
    let at = field.given()?;
    let raw = match &at.value {
        OneOf::Map(raw) => raw,
        OneOf::Scalar(Text(word)) => {
            return Some(HealthCheck::new(match word {
                HealthWord::Off => return None,
                HealthWord::Grpc => Probe::Grpc { service: "".into() },
                HealthWord::Http => Probe::Http(HttpProbe::default()),
                HealthWord::Path(path) => {
                    let path =
                        At { value: path.clone(), place: at.place, substituted: at.substituted };
                    let path = balance::target(context, "health", &path)?;
                    Probe::Http(HttpProbe { path, ..HttpProbe::default() })
                }
                HealthWord::Tcp => Probe::Tcp,
            }));
        }
    };
    let mut check = HealthCheck::new(probe(context, raw));
    period(context, "interval", &raw.interval, &mut check.interval);
    // Whoever checks more often than every second does not mean to do so less often in trouble.
    check.unhealthy_interval = check.unhealthy_interval.map(|fast| fast.min(check.interval));
    if raw.unhealthy_interval.given().is_some() {
        let mut interval = check.interval;
        period(context, "unhealthy_interval", &raw.unhealthy_interval, &mut interval);
        check.unhealthy_interval = Some(interval);
    }
    period(context, "timeout", &raw.timeout, &mut check.timeout);
    count(context, "rise", &raw.rise, 1..=1000, &mut check.rise);
    count(context, "fall", &raw.fall, 1..=1000, &mut check.fall);
    if let Some(text) = raw.jitter.get() {
        check.jitter = text.0.0;
    }
    if let Some(at) = raw.port.given() {
        if at.value == 0 {
            context.error(at.place, "`port` must not be 0", None);
        }
        check.port = Some(at.value);
    }
    Some(check)
}

fn probe(context: &mut Context<'_>, raw: &raw::HealthCheck) -> Probe {
    let kind = match raw.kind.get() {
        Some(kind) => *kind,
        None if raw.service.given().is_some() => HealthKind::Grpc,
        None => HealthKind::Http,
    };
    let of_http = [
        ("body", raw.body.place()),
        ("headers", raw.headers.place()),
        ("host", raw.host.place()),
        ("method", raw.method.place()),
        ("path", raw.path.place()),
        ("status", raw.status.place()),
    ];
    let foreign = match kind {
        HealthKind::Http => &[("service", raw.service.place())][..],
        HealthKind::Grpc | HealthKind::Tcp => &of_http[..],
    };
    let name = match kind {
        HealthKind::Grpc => "grpc",
        HealthKind::Http => "http",
        HealthKind::Tcp => "tcp",
    };
    for (key, place) in foreign {
        unfit(context, key, *place, name);
    }
    match kind {
        HealthKind::Grpc => Probe::Grpc { service: raw.service.get().map_or("", |s| s).into() },
        HealthKind::Http => Probe::Http(http(context, raw)),
        HealthKind::Tcp => {
            unfit(context, "service", raw.service.place(), name);
            Probe::Tcp
        }
    }
}

fn unfit(context: &mut Context<'_>, key: &str, place: Option<Place>, kind: &str) {
    if let Some(place) = place {
        let message = format!("`{key}` has no meaning for a check of type `{kind}`");
        context.error(place, message, Some("leave it out, or change `type`"));
    }
}

fn http(context: &mut Context<'_>, raw: &raw::HealthCheck) -> HttpProbe {
    let mut probe = HttpProbe::default();
    if let Some(method) = raw.method.get() {
        probe.method = method.0.0.as_str().into();
    }
    if let Some(path) = raw.path.given().and_then(|at| balance::target(context, "path", at)) {
        probe.path = path;
    }
    probe.host = raw.host.given().and_then(|at| route::host_name(context, at, true));
    probe.headers = header::fields(context, &raw.headers);
    if let Some(at) = raw.status.given() {
        let List(ranges, left_out) = &at.value.0;
        if ranges.is_empty() && !left_out {
            let hint = "leave it out for 200 to 399";
            context.error(at.place, "no status means healthy", Some(hint));
        }
        let ranges = ranges.iter().map(|at| (at.value.0.0, at.value.0.1));
        probe.expect_status = ranges.collect();
    }
    probe.expect_body = raw.body.get().filter(|text| !text.is_empty()).map(|t| Arc::from(&**t));
    probe
}

// === ejection ===

pub(super) fn outlier(
    context: &mut Context<'_>,
    field: &Field<OneOf<Text<Switch>, raw::Outlier>>,
) -> Option<Outlier> {
    let mut outlier = Outlier::default();
    let raw = match field.get() {
        None => return Some(outlier),
        Some(OneOf::Scalar(Text(Switch(on)))) => return on.then_some(outlier),
        Some(OneOf::Map(raw)) => raw,
    };
    outlier.consecutive_5xx = or(&raw.consecutive_5xx, outlier.consecutive_5xx);
    outlier.consecutive_gateway = or(&raw.consecutive_gateway, outlier.consecutive_gateway);
    outlier.consecutive_local = or(&raw.consecutive_local, outlier.consecutive_local);
    period(context, "interval", &raw.interval, &mut outlier.interval);
    period(context, "ejection", &raw.ejection, &mut outlier.ejection);
    outlier.max_ejection = outlier.max_ejection.max(outlier.ejection);
    period(context, "max_ejection", &raw.max_ejection, &mut outlier.max_ejection);
    if let Some(place) =
        raw.max_ejection.place().filter(|_| outlier.max_ejection < outlier.ejection)
    {
        let hint = "the first ejection already lasts longer";
        context.error(place, "`max_ejection` is shorter than `ejection`", Some(hint));
    }
    if let Some(text) = raw.max_ejected.get() {
        outlier.max_ejected = text.0.0;
    }
    outlier.success_rate = match raw.success_rate.get() {
        None | Some(OneOf::Scalar(Text(Switch(true)))) => Some(SuccessRate::default()),
        Some(OneOf::Scalar(Text(Switch(false)))) => None,
        Some(OneOf::Map(raw)) => Some(success_rate(context, raw)),
    };
    outlier.failure_percentage = match raw.failure_percentage.get() {
        None | Some(OneOf::Scalar(Text(Switch(false)))) => None,
        Some(OneOf::Scalar(Text(Switch(true)))) => Some(FailurePercentage::default()),
        Some(OneOf::Map(raw)) => Some(failure_percentage(context, raw)),
    };
    Some(outlier)
}

fn success_rate(context: &mut Context<'_>, raw: &raw::SuccessRate) -> SuccessRate {
    let mut rule = SuccessRate::default();
    factor(context, "factor", &raw.factor, 1..=100_000, &mut rule.factor);
    // Among fewer than two there is nothing to compare.
    count(context, "min_endpoints", &raw.min_endpoints, 2..=u32::MAX, &mut rule.min_endpoints);
    count(context, "min_requests", &raw.min_requests, 1..=u32::MAX, &mut rule.min_requests);
    rule
}

fn failure_percentage(
    context: &mut Context<'_>,
    raw: &raw::FailurePercentage,
) -> FailurePercentage {
    let mut rule = FailurePercentage::default();
    share(context, "threshold", &raw.threshold, &mut rule.threshold);
    count(context, "min_endpoints", &raw.min_endpoints, 1..=u32::MAX, &mut rule.min_endpoints);
    count(context, "min_requests", &raw.min_requests, 1..=u32::MAX, &mut rule.min_requests);
    rule
}

// === limits ===

pub(super) fn limits(context: &mut Context<'_>, raw: &raw::Upstream) -> UpstreamLimits {
    let mut limits = UpstreamLimits::default();
    retry_budget(context, &raw.retry_budget, &mut limits.retry_budget);
    let Some(raw) = raw.limits.get() else { return limits };
    limit(context, "connections", &raw.connections, &mut limits.connections);
    limit(context, "requests", &raw.requests, &mut limits.requests);
    let per_endpoint = &raw.requests_per_endpoint;
    limit(context, "requests_per_endpoint", per_endpoint, &mut limits.requests_per_endpoint);
    limits.pending = or(&raw.pending, limits.pending);
    period(context, "pending_timeout", &raw.pending_timeout, &mut limits.pending_timeout);
    limits.retries = raw.retries.get().copied();
    limits.adaptive = match raw.adaptive.get() {
        None | Some(OneOf::Scalar(Text(Switch(false)))) => None,
        Some(OneOf::Scalar(Text(Switch(true)))) => Some(AdaptiveConcurrency::default()),
        Some(OneOf::Map(raw)) => Some(adaptive(context, raw)),
    };
    if let (Some(requests), Some(each), Some(at)) =
        (limits.requests, limits.requests_per_endpoint, raw.requests_per_endpoint.given())
        && each > requests
    {
        let hint = "the whole upstream may have fewer: swap the two, or leave one out";
        context.error(at.place, "`requests_per_endpoint` is more than `requests`", Some(hint));
    }
    limits
}

fn adaptive(context: &mut Context<'_>, raw: &raw::Adaptive) -> AdaptiveConcurrency {
    const MOST: u32 = 1_000_000;
    let mut rule = AdaptiveConcurrency::default();
    count(context, "min", &raw.min, 1..=MOST, &mut rule.min);
    count(context, "max", &raw.max, 1..=MOST, &mut rule.max);
    // Bounds that leave the usual start out move it.
    rule.initial = rule.initial.min(rule.max).max(rule.min.min(rule.max));
    count(context, "initial", &raw.initial, 1..=MOST, &mut rule.initial);
    if let Some(at) = raw.initial.given().or(raw.max.given()).or(raw.min.given())
        && !(rule.min <= rule.initial && rule.initial <= rule.max)
    {
        let message = format!(
            "{} to {} with {} to begin with makes no sense",
            rule.min, rule.max, rule.initial
        );
        context.error(at.place, message, Some("`min`, `initial` and `max` go upwards"));
    }
    factor(context, "tolerance", &raw.tolerance, 1000..=100_000, &mut rule.tolerance);
    share(context, "smoothing", &raw.smoothing, &mut rule.smoothing);
    period(context, "interval", &raw.interval, &mut rule.interval);
    rule
}

fn retry_budget(
    context: &mut Context<'_>,
    field: &Field<OneOf<Text<Factor>, raw::RetryBudget>>,
    budget: &mut RetryBudget,
) {
    const MOST: Permille = Permille(10_000);
    let Some(at) = field.given() else { return };
    let place = match &at.value {
        OneOf::Scalar(Text(Factor(ratio))) => {
            budget.ratio = *ratio;
            Some(at.place)
        }
        OneOf::Map(raw) => {
            budget.min_per_second = or(&raw.min_per_second, budget.min_per_second);
            budget.ratio = raw.ratio.get().map_or(budget.ratio, |text| text.0.0);
            raw.ratio.place()
        }
    };
    if let Some(place) = place.filter(|_| budget.ratio > MOST) {
        let whole = budget.ratio.0 / 1000;
        let hint = format!("did you mean `{whole}%`?");
        let message = format!("a retry budget of {whole} retries a request is none");
        context.error(place, message, Some(&hint));
    }
}

// === retries and hedging ===

pub(super) fn retry(
    context: &mut Context<'_>,
    field: &Field<OneOf<Text<Switch>, raw::Retry>>,
    defaults: &Retry,
) -> Retry {
    let mut retry = defaults.clone();
    let raw = match field.get() {
        None => return retry,
        Some(OneOf::Scalar(Text(Switch(false)))) => return Retry { attempts: 0, ..retry },
        Some(OneOf::Scalar(Text(Switch(true)))) => {
            // On again where `defaults` turned it off.
            if retry.attempts == 0 {
                retry.attempts = Retry::default().attempts;
            }
            return retry;
        }
        Some(OneOf::Map(raw)) => raw,
    };
    count(context, "attempts", &raw.attempts, 0..=100, &mut retry.attempts);
    if let Some(text) = raw.per_try.get() {
        retry.per_try = text.0.0;
    }
    if let Some(text) = raw.max_elapsed.get() {
        retry.max_elapsed = text.0.0;
    }
    if raw.backoff.given().is_some() {
        period(context, "backoff", &raw.backoff, &mut retry.backoff);
        retry.max_backoff = retry.backoff.saturating_mul(10);
    }
    period(context, "max_backoff", &raw.max_backoff, &mut retry.max_backoff);
    if let Some(place) = raw.max_backoff.place().filter(|_| retry.max_backoff < retry.backoff) {
        let hint = "the first pause is already longer";
        context.error(place, "`max_backoff` is shorter than `backoff`", Some(hint));
    }
    period(context, "max_retry_after", &raw.max_retry_after, &mut retry.max_retry_after);
    retry.non_idempotent = or(&raw.non_idempotent, retry.non_idempotent);
    if let Some(at) = raw.buffer.given() {
        retry.buffer = at.value.0.0;
        if retry.buffer > LARGEST_BUFFER {
            let hint = "every request in flight may take that much memory";
            context.error(at.place, "`buffer` must be at most 64MiB", Some(hint));
        }
    }
    if let Some(at) = raw.on.given() {
        retry.on = conditions(&at.value.0);
    }
    retry
}

fn conditions(list: &List<Text<RetryCondition>>) -> RetryOn {
    let mut on = RetryOn { reset: false, timeout: false, statuses: Vec::new(), grpc: Vec::new() };
    for at in &list.0 {
        match at.value.0 {
            RetryCondition::GatewayError => on.statuses.extend([502, 503, 504]),
            RetryCondition::Grpc(code) => on.grpc.push(code),
            RetryCondition::Reset => on.reset = true,
            RetryCondition::Status(status) => on.statuses.push(status),
            RetryCondition::Timeout => on.timeout = true,
        }
    }
    on.statuses.sort_unstable();
    on.statuses.dedup();
    on.grpc.sort_unstable();
    on.grpc.dedup();
    on
}

pub(super) fn hedge(
    context: &mut Context<'_>,
    field: &Field<OneOf<Text<HedgeWord>, raw::Hedge>>,
    defaults: &Option<Hedge>,
) -> Option<Hedge> {
    let usual = || Hedge { after: HedgeAfter::Quantile(Permille(950)), budget: Permille(50) };
    let raw = match field.get() {
        None => return defaults.clone(),
        Some(OneOf::Scalar(Text(HedgeWord::Off))) => return None,
        Some(OneOf::Scalar(Text(HedgeWord::On))) => {
            return Some(defaults.clone().unwrap_or_else(usual));
        }
        Some(OneOf::Scalar(Text(HedgeWord::After(after)))) => {
            let usual = defaults.clone().unwrap_or_else(usual);
            return Some(Hedge { after: after.clone(), ..usual });
        }
        Some(OneOf::Map(raw)) => raw,
    };
    let mut hedge = defaults.clone().unwrap_or_else(usual);
    if let Some(text) = raw.after.get() {
        hedge.after = text.0.0.clone();
    }
    share(context, "budget", &raw.budget, &mut hedge.budget);
    Some(hedge)
}
