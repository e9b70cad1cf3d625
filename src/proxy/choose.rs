//! Which endpoint an attempt goes to.

use smallvec::SmallVec;

use super::selection::Selection;
use super::{Tried, Worker};
use crate::telemetry::Reason;
use crate::upstream::balance::Pick;
use crate::upstream::{EndpointId, InFlight, Upstream};
use crate::util::moment::Moment;
use crate::util::random::Random;

/// How many endpoints are looked at for one that is not full.
const MOST_LOOKED_AT: usize = 64;

/// An endpoint that the request has not been to; where no other is left, one it has been to that
/// took the request then. The attempt is counted in.
pub fn choose(
    worker: &Worker,
    now: Moment,
    upstream: &Upstream,
    selection: Selection,
    tried: &Tried,
) -> Result<InFlight, Reason> {
    let choice = among_others(worker, now, upstream, selection, tried.all());
    match choice {
        Err(Reason::NoEndpoint) if tried.all().len() > tried.hopeless().len() => {
            among_others(worker, now, upstream, selection, tried.hopeless())
        }
        choice => choice,
    }
}

fn among_others(
    worker: &Worker,
    now: Moment,
    upstream: &Upstream,
    selection: Selection,
    tried: &[EndpointId],
) -> Result<InFlight, Reason> {
    let mut pick = Pick {
        worker: worker.id,
        now,
        tried,
        key: selection.key,
        session: selection.session,
        random: Random::new(worker.random()),
    };
    let endpoint = upstream.pick(&mut pick).ok_or(Reason::NoEndpoint)?;
    let Some(most) = upstream.limits.spec.requests_per_endpoint else {
        return Ok(InFlight::new(endpoint, now));
    };
    let mut endpoint = endpoint;
    let mut passed: SmallVec<[EndpointId; 8]> = SmallVec::from(tried);
    for _ in 0..MOST_LOOKED_AT {
        passed.push(endpoint.id);
        if let Some(in_flight) = InFlight::within(endpoint, most, now) {
            return Ok(in_flight);
        }
        let mut pick = Pick { tried: &passed, ..pick };
        let Some(other) = upstream.pick(&mut pick) else { break };
        endpoint = other;
    }
    upstream.metrics.shed(worker.id, Reason::Overloaded);
    Err(Reason::Overloaded)
}
