//! Outliers of an interval by their rates.

use crate::ir::{FailurePercentage, Outlier, Permille, SuccessRate};
use crate::upstream::EjectionReason;
use crate::upstream::endpoint::Window;

/// How far below the mean a success rate must be at least.
pub(super) const LEAST_GAP: f64 = 0.05;

/// The outliers among `windows`, the worst first, with the index that came with each window.
pub(super) fn outliers(
    policy: &Outlier,
    windows: &[(usize, Window)],
) -> Vec<(usize, EjectionReason)> {
    let mut found = Vec::new();
    if let Some(policy) = &policy.success_rate {
        by_success_rate(policy, windows, &mut found);
    }
    if let Some(policy) = &policy.failure_percentage {
        by_failures(policy, windows, &mut found);
    }
    let rate = |index: usize| {
        let window = windows.iter().find(|(at, _)| *at == index);
        window.map_or(1.0, |(_, window)| success_rate(*window))
    };
    let mut found: Vec<_> = found.into_iter().map(|(at, why)| (rate(at), at, why)).collect();
    found.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    found.into_iter().map(|(_, at, why)| (at, why)).collect()
}

/// Rates below `mean - factor × standard deviation` of those with enough requests.
fn by_success_rate(
    policy: &SuccessRate,
    windows: &[(usize, Window)],
    found: &mut Vec<(usize, EjectionReason)>,
) {
    let Some(enough) = enough(windows, policy.min_requests, policy.min_endpoints) else { return };
    let count = enough.len() as f64;
    let mean = enough.iter().map(|(_, window)| success_rate(*window)).sum::<f64>() / count;
    let squares = enough.iter().map(|(_, window)| (success_rate(*window) - mean).powi(2));
    let deviation = (squares.sum::<f64>() / count).sqrt();
    let bound = (mean - policy.factor.factor() * deviation).min(mean - LEAST_GAP);
    for (index, Window { requests, failures }) in enough {
        if success_rate(Window { requests, failures }) < bound {
            let bound = Permille((bound * 1000.0).round() as u32);
            found.push((index, EjectionReason::SuccessRate { failures, requests, bound }));
        }
    }
}

/// Shares of failures at or above the threshold, of those with enough requests.
fn by_failures(
    policy: &FailurePercentage,
    windows: &[(usize, Window)],
    found: &mut Vec<(usize, EjectionReason)>,
) {
    let Some(enough) = enough(windows, policy.min_requests, policy.min_endpoints) else { return };
    for (index, Window { requests, failures }) in enough {
        let over =
            u64::from(failures) * 1000 >= u64::from(policy.threshold.0) * u64::from(requests);
        if over && failures > 0 && found.iter().all(|(at, _)| *at != index) {
            found.push((index, EjectionReason::FailurePercentage { failures, requests }));
        }
    }
}

/// The windows with enough requests, if those are enough.
fn enough(
    windows: &[(usize, Window)],
    requests: u32,
    endpoints: u32,
) -> Option<Vec<(usize, Window)>> {
    let has_enough = |(_, window): &&(usize, Window)| window.requests >= requests.max(1);
    let enough: Vec<_> = windows.iter().filter(has_enough).copied().collect();
    (enough.len() >= endpoints.max(1) as usize).then_some(enough)
}

fn success_rate(window: Window) -> f64 {
    let succeeded = window.requests.saturating_sub(window.failures);
    f64::from(succeeded) / f64::from(window.requests.max(1))
}
