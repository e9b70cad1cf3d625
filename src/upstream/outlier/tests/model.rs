//! Ejection written down as it is told: the whole history is kept, and every question is answered
//! by reading it again.

use super::*;
use crate::ir::SuccessRate;

pub struct Model {
    policy: Outlier,
    panic: Permille,
    pub endpoints: Vec<Modelled>,
    next_sweep: Moment,
}

pub struct Modelled {
    pub healthy: bool,
    pub draining: bool,
    /// Reason and end.
    pub ejected: Option<(EjectionReason, Moment)>,
    pub times: u32,
    back_since: Moment,
    row: Vec<Verdict>,
    interval: Vec<Verdict>,
}

impl Modelled {
    pub fn new(draining: bool) -> Self {
        Self {
            healthy: true,
            draining,
            ejected: None,
            times: 0,
            back_since: Moment(0),
            row: Vec::new(),
            interval: Vec::new(),
        }
    }

    fn is_available(&self) -> bool {
        self.healthy && self.ejected.is_none()
    }

    /// The first row that was too long, in order of time.
    fn too_long(&self, policy: &Outlier) -> Option<EjectionReason> {
        for end in 1..=self.row.len() {
            let history = &self.row[..end];
            if is_success(history[end - 1]) || !counts(history[end - 1]) {
                continue;
            }
            for (limit, cause, belongs) in [
                (policy.consecutive_local, EjectionCause::ConsecutiveLocal, is_local as Kind),
                (policy.consecutive_gateway, EjectionCause::ConsecutiveGateway, is_gateway),
                (policy.consecutive_5xx, EjectionCause::Consecutive5xx, is_error),
            ] {
                let backwards = history.iter().rev().filter(|verdict| counts(**verdict));
                let count = backwards.take_while(|verdict| belongs(**verdict)).count() as u32;
                if limit > 0 && count >= limit {
                    return Some(EjectionReason::Consecutive { cause, count });
                }
            }
        }
        None
    }
}

type Kind = fn(Verdict) -> bool;

fn counts(verdict: Verdict) -> bool {
    is_success(verdict) || is_error(verdict)
}

fn is_success(verdict: Verdict) -> bool {
    matches!(verdict, Verdict::Responded(status) if status < 500)
}

fn is_error(verdict: Verdict) -> bool {
    matches!(verdict, Verdict::Responded(500..)) || is_local(verdict)
}

fn is_gateway(verdict: Verdict) -> bool {
    matches!(verdict, Verdict::Responded(502..=504)) || is_local(verdict)
}

fn is_local(verdict: Verdict) -> bool {
    let Verdict::Failed(reason) = verdict else { return false };
    let local = [
        "connect_failed",
        "connect_timeout",
        "request_timeout",
        "response_timeout",
        "upstream_incomplete",
        "upstream_protocol",
        "upstream_reset",
        "upstream_tls",
    ];
    local.contains(&reason.as_str())
}

impl Model {
    pub fn new(policy: Outlier, panic: Permille, endpoints: Vec<Modelled>, now: Moment) -> Self {
        let next_sweep = now.after(policy.interval);
        Self { policy, panic, endpoints, next_sweep }
    }

    pub fn see(&mut self, endpoint: usize, verdict: Verdict) {
        self.endpoints[endpoint].row.push(verdict);
        if self.policy.success_rate.is_some() || self.policy.failure_percentage.is_some() {
            self.endpoints[endpoint].interval.push(verdict);
        }
    }

    pub fn most(&self) -> usize {
        let share = self.endpoints.len() as f64 * f64::from(self.policy.max_ejected.0) / 1000.0;
        (share.ceil() as usize).min(self.endpoints.len() - 1)
    }

    pub fn upkeep(&mut self, now: Moment) {
        for index in 0..self.endpoints.len() {
            if self.endpoints[index].ejected.is_some_and(|(_, until)| until <= now) {
                self.readmit(index, now);
            }
        }
        for index in 0..self.endpoints.len() {
            if let Some(reason) = self.endpoints[index].too_long(&self.policy) {
                self.eject(index, reason, now);
                self.endpoints[index].row.clear();
            }
        }
        if now >= self.next_sweep {
            self.next_sweep = now.after(self.policy.interval);
            self.sweep(now);
        }
        while self.out() > self.most() || self.serving(None) == 0 {
            let over = self.out() > self.most();
            let last_resort = self.last_resort();
            let first = (0..self.endpoints.len())
                .filter(|index| {
                    let endpoint = &self.endpoints[*index];
                    let of_use = endpoint.healthy && (last_resort || !endpoint.draining);
                    endpoint.ejected.is_some() && (over || of_use)
                })
                .min_by_key(|index| self.endpoints[*index].ejected.map(|(_, until)| until));
            let Some(first) = first else { break };
            self.readmit(first, now);
        }
    }

    fn sweep(&mut self, now: Moment) {
        let mut figures = Vec::new();
        for (index, endpoint) in self.endpoints.iter_mut().enumerate() {
            let interval = std::mem::take(&mut endpoint.interval);
            if endpoint.ejected.is_some() {
                continue;
            }
            if now.since(endpoint.back_since) >= self.policy.interval {
                endpoint.times = endpoint.times.saturating_sub(1);
            }
            let requests = interval.iter().filter(|verdict| counts(**verdict)).count() as u32;
            let failures = interval.iter().filter(|verdict| is_error(**verdict)).count() as u32;
            figures.push((index, requests, failures));
        }
        let mut outliers: Vec<(usize, u32, u32, EjectionReason)> = Vec::new();
        if let Some(SuccessRate { min_endpoints, min_requests, factor }) = self.policy.success_rate
        {
            let busy: Vec<_> = figures
                .iter()
                .filter(|(_, requests, _)| *requests >= min_requests.max(1))
                .collect();
            let rates: Vec<f64> = busy
                .iter()
                .map(|(_, requests, failures)| {
                    f64::from(requests - failures) / f64::from(*requests)
                })
                .collect();
            if rates.len() >= min_endpoints.max(1) as usize {
                let mean = rates.iter().sum::<f64>() / rates.len() as f64;
                let variance = rates.iter().map(|rate| (rate - mean).powi(2)).sum::<f64>()
                    / rates.len() as f64;
                let sigma = mean - factor.factor() * variance.sqrt();
                for ((index, requests, failures), rate) in busy.into_iter().zip(rates) {
                    if rate < sigma && rate < mean - rates::LEAST_GAP {
                        let bound = (sigma.min(mean - rates::LEAST_GAP) * 1000.0).round() as u32;
                        let (failures, requests) = (*failures, *requests);
                        let bound = Permille(bound);
                        let reason = EjectionReason::SuccessRate { failures, requests, bound };
                        outliers.push((*index, requests, failures, reason));
                    }
                }
            }
        }
        if let Some(policy) = &self.policy.failure_percentage {
            let busy =
                figures.iter().filter(|(_, requests, _)| *requests >= policy.min_requests.max(1));
            if busy.clone().count() >= policy.min_endpoints.max(1) as usize {
                for (index, requests, failures) in busy {
                    let enough = *failures > 0
                        && u64::from(*failures) * 1000
                            >= u64::from(*requests) * u64::from(policy.threshold.0);
                    if enough && outliers.iter().all(|(known, ..)| known != index) {
                        let (failures, requests) = (*failures, *requests);
                        let reason = EjectionReason::FailurePercentage { failures, requests };
                        outliers.push((*index, requests, failures, reason));
                    }
                }
            }
        }
        // The worst first: a/b against c/d without division.
        outliers.sort_by(|a, b| {
            let (left, right) = (u64::from(b.2) * u64::from(a.1), u64::from(a.2) * u64::from(b.1));
            left.cmp(&right).then(a.0.cmp(&b.0))
        });
        for (index, _, _, reason) in outliers {
            self.eject(index, reason, now);
        }
    }

    fn eject(&mut self, index: usize, reason: EjectionReason, now: Moment) {
        let may = self.endpoints[index].ejected.is_none()
            && self.out() < self.most()
            && self.serving(Some(index)) > 0
            && !self.panics(self.serving(Some(index)));
        if !may {
            return;
        }
        let policy = &self.policy;
        let endpoint = &mut self.endpoints[index];
        endpoint.times += 1;
        while policy.ejection * (endpoint.times - 1) >= policy.max_ejection && endpoint.times > 1 {
            endpoint.times -= 1;
        }
        let length = (policy.ejection * endpoint.times).min(policy.max_ejection);
        endpoint.ejected = Some((reason, now.after(length)));
        endpoint.row.clear();
        endpoint.interval.clear();
    }

    fn readmit(&mut self, index: usize, now: Moment) {
        let endpoint = &mut self.endpoints[index];
        endpoint.ejected = None;
        endpoint.back_since = now;
        endpoint.row.clear();
        endpoint.interval.clear();
    }

    fn out(&self) -> usize {
        self.endpoints.iter().filter(|endpoint| endpoint.ejected.is_some()).count()
    }

    /// Whether so many are too few.
    fn panics(&self, serving: usize) -> bool {
        let last_resort = self.last_resort();
        let group = self.endpoints.iter().filter(|endpoint| last_resort || !endpoint.draining);
        serving as f64 / (group.count() as f64) < self.panic.factor()
    }

    /// Whether those going away have to do.
    fn last_resort(&self) -> bool {
        self.endpoints.iter().all(|endpoint| endpoint.draining || !endpoint.healthy)
    }

    /// How many get requests, without one of them.
    fn serving(&self, without: Option<usize>) -> usize {
        let last_resort = self.last_resort();
        let serves = |(index, endpoint): &(usize, &Modelled)| {
            Some(*index) != without
                && endpoint.is_available()
                && (last_resort || !endpoint.draining)
        };
        self.endpoints.iter().enumerate().filter(serves).count()
    }
}
