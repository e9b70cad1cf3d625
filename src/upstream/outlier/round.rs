//! One look at all members: who goes, who comes back, and that enough stay.

use super::{Change, Findings, rates};
use crate::ir::{Outlier, Permille};
use crate::upstream::{EjectionReason, Member};
use crate::util::moment::Moment;

/// A look at the members of one upstream.
pub(super) struct Round<'a> {
    members: &'a [Member],
    now: Moment,
    /// How many may be ejected at once.
    most: usize,
    ejected: usize,
    /// How many would get requests.
    serving: usize,
    /// How many have to, so that the group does not panic and uses the ejected again.
    least: usize,
    /// Those going away have to do, because nobody else is healthy.
    only_draining: bool,
    changes: Vec<Change>,
}

impl<'a> Round<'a> {
    pub fn new(
        policy: Option<&Outlier>,
        panic: Permille,
        members: &'a [Member],
        now: Moment,
    ) -> Self {
        let most = policy.map_or(0, |policy| most(policy, members.len()));
        let staying = |member: &Member| !member.draining && is_healthy(member);
        let only_draining = !members.iter().any(staying);
        let counts = |member: &&Member| {
            (only_draining || !member.draining) && !member.endpoint.availability.is_unproven()
        };
        let group = members.iter().filter(counts).count() as u64;
        let least = (group * u64::from(panic.0)).div_ceil(1000).max(1);
        let least = usize::try_from(least).unwrap_or(usize::MAX);
        let (ejected, serving, changes) = (0, 0, Vec::new());
        let mut round =
            Self { members, now, most, ejected, serving, least, only_draining, changes };
        round.ejected = members.iter().filter(|member| is_ejected(member)).count();
        round.serving = members.iter().filter(|member| round.serves(member)).count();
        round
    }

    /// Ends the ejections that are over.
    pub fn release(&mut self) {
        for member in self.members {
            let until = member.endpoint.availability.ejected_until();
            if until.is_some_and(|until| until <= self.now) {
                self.readmit(member);
            }
        }
    }

    /// Ejects those with too many failures in a row, in the order of the members.
    pub fn judge_rows(&mut self, policy: &Outlier) {
        for member in self.members {
            let outcomes = &member.endpoint.outcomes;
            let Some(suspicion) = outcomes.suspicion() else { continue };
            let (cause, count) = (suspicion.cause, suspicion.count);
            if !self.eject(member, EjectionReason::Consecutive { cause, count }, policy) {
                // It may stay for now; the next row begins from nothing.
                outcomes.clear_rows();
            }
        }
    }

    /// Ejects those whose interval sticks out, and forgives those who were in for all of it.
    pub fn judge_rates(&mut self, policy: &Outlier) {
        let mut windows = Vec::new();
        for (index, member) in self.members.iter().enumerate() {
            let window = member.endpoint.outcomes.take_window();
            if !is_ejected(member) {
                windows.push((index, window));
                member.endpoint.forgive(policy.interval, self.now);
            }
        }
        for (index, reason) in rates::outliers(policy, &windows) {
            if let Some(member) = self.members.get(index) {
                self.eject(member, reason, policy);
            }
        }
    }

    /// Takes back what is more than may be ejected: members went away, or health checks took
    /// those who were to stay.
    pub fn relieve(&mut self) {
        while self.ejected > self.most {
            let Some(member) = self.first_back(|_| true) else { break };
            self.readmit(member);
        }
        while self.serving == 0 {
            let only_draining = self.only_draining;
            let of_use =
                |member: &Member| is_healthy(member) && (only_draining || !member.draining);
            let Some(member) = self.first_back(of_use) else { break };
            self.readmit(member);
        }
    }

    /// When the next ejection ends.
    pub fn next_release(&self) -> Option<Moment> {
        let ends = self.members.iter();
        ends.filter_map(|member| member.endpoint.availability.ejected_until()).min()
    }

    /// Whether nobody else can be ejected.
    pub fn is_crowded(&self) -> bool {
        self.ejected >= self.most || self.serving <= self.least
    }

    pub fn into_findings(self) -> Findings {
        Findings { changes: self.changes, ejected: self.ejected }
    }

    fn eject(&mut self, member: &Member, reason: EjectionReason, policy: &Outlier) -> bool {
        let others = self.serving - usize::from(self.serves(member));
        if is_ejected(member) || self.ejected >= self.most || others < self.least {
            return false;
        }
        let ejection = member.endpoint.eject(reason, policy, self.now);
        self.ejected += 1;
        self.serving = others;
        self.changes.push(Change::Ejected(member.endpoint.clone(), ejection));
        true
    }

    fn readmit(&mut self, member: &Member) {
        member.endpoint.readmit(self.now);
        self.ejected -= 1;
        self.serving += usize::from(self.serves(member));
        self.changes.push(Change::Readmitted(member.endpoint.clone()));
    }

    /// The one among the ejected whose time is up first.
    fn first_back(&self, of_use: impl Fn(&Member) -> bool) -> Option<&'a Member> {
        let ejected = self.members.iter().filter(|member| of_use(member)).filter_map(|member| {
            member.endpoint.availability.ejected_until().map(|until| (until, member))
        });
        ejected.min_by_key(|(until, _)| *until).map(|(_, member)| member)
    }

    fn serves(&self, member: &Member) -> bool {
        member.endpoint.availability.is_available() && (self.only_draining || !member.draining)
    }
}

fn is_ejected(member: &Member) -> bool {
    member.endpoint.availability.ejected_until().is_some()
}

fn is_healthy(member: &Member) -> bool {
    member.endpoint.availability.is_healthy()
}

/// The share rounded up, at least one and never all; nobody where the share is nothing.
fn most(policy: &Outlier, members: usize) -> usize {
    let share = members as u64 * u64::from(policy.max_ejected.0);
    let share = usize::try_from(share.div_ceil(1000)).unwrap_or(usize::MAX);
    share.min(members.saturating_sub(1))
}
