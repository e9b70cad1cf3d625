//! Weights while endpoints are new.
//!
//! Envoy's slow start: `weight × max(least, (t / window) ^ (1 / aggression))`. Where more than
//! half of the endpoints are new none is spared: there is nobody to take the load.

use std::time::Duration;

use super::Member;
use crate::ir::SlowStart;
use crate::util::moment::Moment;

/// The weights of this moment.
pub(super) struct Weights {
    /// One for each member; scaled where one of them starts slowly.
    pub(super) weights: Vec<u32>,
    /// Whether they are scaled.
    scaled: bool,
    /// When they should be computed again.
    pub(super) refresh: Option<Duration>,
}

/// While an endpoint starts slowly weights are this much finer.
const SCALE: f64 = 1000.0;

/// The weights of `members` at `now`.
pub(super) fn weights(policy: &SlowStart, members: &[Member], now: Moment) -> Weights {
    let windows: Vec<Option<Window>> =
        members.iter().map(|member| Window::of(policy, member, now)).collect();
    let new = windows.iter().flatten().count();
    if new == 0 || 2 * new > members.len() {
        let weights = members.iter().map(|member| member.weight).collect();
        return Weights { weights, scaled: false, refresh: None };
    }
    let weight = |(member, window): (&Member, &Option<Window>)| {
        let factor = window.as_ref().map_or(1.0, |window| window.factor(policy));
        // Saturates.
        ((f64::from(member.weight) * factor * SCALE).round() as u32).max(1)
    };
    let refresh = windows.iter().flatten().map(Window::refresh).min();
    let weights = members.iter().zip(&windows).map(weight).collect();
    Weights { weights, scaled: true, refresh }
}

impl Weights {
    /// The weights as shares of a configured weight of 1.
    pub(super) fn unscaled(&self) -> Box<[f32]> {
        let scale = if self.scaled { SCALE as f32 } else { 1.0 };
        self.weights.iter().map(|weight| *weight as f32 / scale).collect()
    }
}

/// How far an endpoint is on its way.
struct Window {
    /// How long it has been available.
    age: Duration,
    length: Duration,
}

impl Window {
    fn of(policy: &SlowStart, member: &Member, now: Moment) -> Option<Self> {
        let availability = &member.endpoint.availability;
        let recovered = availability.is_recovered();
        let length = if recovered { policy.recovery } else { policy.window };
        let age = now.since(availability.since());
        (age < length).then_some(Self { age, length })
    }

    fn factor(&self, policy: &SlowStart) -> f64 {
        let progress = self.age.as_secs_f64() / self.length.as_secs_f64();
        let aggression = policy.aggression.factor().max(0.001);
        progress.powf(1.0 / aggression).max(policy.least.factor()).min(1.0)
    }

    fn refresh(&self) -> Duration {
        (self.length / 50).clamp(Duration::from_millis(100), Duration::from_secs(1))
    }
}
