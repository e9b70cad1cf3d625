//! Which endpoint a session belongs to.
//!
//! A session has a key, drawn when it began, and the token of the endpoint it was last served by.
//! A balanced session belongs to whichever endpoint its key hashes to, so that a share of the
//! sessions moves to an endpoint that is added; a persistent one stays where it was. Both stay
//! while their endpoint drains.

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::FixedState;

use super::{ConsistentHash, Member, Pick};
use crate::ir::{AffinityMode, HashPolicy, HashTable};
use crate::upstream::{Endpoint, EndpointId};
use crate::util::random::Random;

/// What a client shows of its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Session {
    /// Drawn when it began.
    pub key: u64,
    /// The token of the endpoint that served it last; `None` for a new session.
    pub bound: Option<u64>,
}

/// The sessions of an endpoint set.
pub struct Sessions {
    mode: AffinityMode,
    members: Box<[Member]>,
    by_token: HashMap<u64, u32, FixedState>,
    /// Those that take new sessions.
    open: Box<[Member]>,
    table: ConsistentHash,
}

/// Keys drawn in search of one that hashes to an endpoint.
const DRAWS: usize = 64;

impl Sessions {
    /// Sessions over `members`.
    pub fn new(mode: AffinityMode, members: &[Member]) -> Self {
        let takes_new =
            |member: &&Member| !member.draining && member.endpoint.availability.is_available();
        let open: Box<[Member]> = members.iter().filter(takes_new).cloned().collect();
        let policy = HashPolicy { on: vec![], table: HashTable::default(), bounded_load: None };
        let table = ConsistentHash::new(&policy, &open, members.len());
        let by_token = (0..).zip(members).map(|(n, member)| (member.endpoint.token, n)).collect();
        Self { mode, members: members.into(), by_token, open, table }
    }

    /// The endpoint of the request's session; `None` where it has none that can serve it.
    pub fn find(&self, pick: &Pick<'_>) -> Option<&Arc<Endpoint>> {
        let session = pick.session?;
        let bound = session.bound.and_then(|token| self.by_token.get(&token));
        let bound = bound.and_then(|index| self.members.get(*index as usize));
        if let Some(member) = bound
            && (member.draining || self.mode == AffinityMode::Persistent)
            && member.endpoint.availability.is_available()
            && !pick.has_tried(member)
        {
            return Some(&member.endpoint);
        }
        if self.mode == AffinityMode::Persistent {
            return None;
        }
        let index = self.table.pick(&self.open, &Pick { key: Some(session.key), ..*pick })?;
        self.open.get(index).map(|member| &member.endpoint)
    }

    /// A key that leads to `endpoint` in this set; `None` where none was found.
    pub fn key_for(&self, endpoint: &Endpoint, mut random: Random) -> Option<u64> {
        (0..DRAWS).map(|_| random.draw()).find(|key| self.owner(*key) == Some(endpoint.id))
    }

    /// Whether `endpoint` is where the session belongs by its key; a persistent one belongs
    /// wherever it is.
    pub fn is_home(&self, session: &Session, endpoint: &Endpoint) -> bool {
        self.mode == AffinityMode::Persistent || self.owner(session.key) == Some(endpoint.id)
    }

    fn owner(&self, key: u64) -> Option<EndpointId> {
        let member = self.table.owner(key).and_then(|index| self.open.get(index));
        member.map(|member| member.endpoint.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::WorkerId;
    use crate::upstream::balance::test_support::members;
    use crate::util::moment::Moment;

    fn pick<'a>(session: Session, tried: &'a [EndpointId]) -> Pick<'a> {
        Pick {
            worker: WorkerId(0),
            now: Moment(1),
            tried,
            key: None,
            session: Some(session),
            random: Random::new(1),
        }
    }

    fn token(sessions: &Sessions, session: Session) -> Option<u64> {
        sessions.find(&pick(session, &[])).map(|endpoint| endpoint.token)
    }

    #[test]
    fn a_persistent_session_stays_when_endpoints_are_added() {
        let all = members(&[1; 10]);
        let before = Sessions::new(AffinityMode::Persistent, &all[..5]);
        let after = Sessions::new(AffinityMode::Persistent, &all);
        for member in &all[..5] {
            let session = Session { key: 1, bound: Some(member.endpoint.token) };
            assert_eq!(token(&before, session), Some(member.endpoint.token));
            assert_eq!(token(&after, session), Some(member.endpoint.token));
        }
        let unknown = Session { key: 1, bound: Some(42) };
        assert_eq!(token(&after, unknown), None, "left to the balancer");
    }

    #[test]
    fn about_a_share_of_the_balanced_sessions_moves_to_what_is_added() {
        let all = members(&[1; 10]);
        let before = Sessions::new(AffinityMode::Balanced, &all[..9]);
        let after = Sessions::new(AffinityMode::Balanced, &all);
        let mut random = Random::new(11);
        let sessions = (0..5000).map(|_| Session { key: random.draw(), bound: None });
        let moved = sessions.filter(|session| token(&before, *session) != token(&after, *session));
        let share = moved.count() as f64 / 5000.0;
        assert!((0.08..0.2).contains(&share), "{share} moved");
    }

    #[test]
    fn a_session_stays_while_its_endpoint_drains_and_no_new_one_comes() {
        let mut all = members(&[1; 4]);
        all[2].draining = true;
        let leaving = all[2].endpoint.token;
        for mode in [AffinityMode::Balanced, AffinityMode::Persistent] {
            let sessions = Sessions::new(mode, &all);
            let session = Session { key: 5, bound: Some(leaving) };
            assert_eq!(token(&sessions, session), Some(leaving));
            let mut random = Random::new(3);
            for _ in 0..500 {
                let new = Session { key: random.draw(), bound: None };
                assert_ne!(token(&sessions, new), Some(leaving));
            }
        }
    }

    #[test]
    fn a_session_leaves_an_endpoint_that_failed_it_or_is_not_available() {
        let all = members(&[1; 4]);
        let home = &all[1].endpoint;
        for mode in [AffinityMode::Balanced, AffinityMode::Persistent] {
            let sessions = Sessions::new(mode, &all);
            let key = sessions.key_for(home, Random::new(1)).unwrap();
            let session = Session { key, bound: Some(home.token) };
            assert_eq!(token(&sessions, session), Some(home.token));
            let elsewhere = sessions.find(&pick(session, &[home.id]));
            assert_ne!(elsewhere.map(|endpoint| endpoint.id), Some(home.id));
        }
        all[1].endpoint.availability.eject(Moment(100));
        let sessions = Sessions::new(AffinityMode::Persistent, &all);
        assert_eq!(token(&sessions, Session { key: 1, bound: Some(home.token) }), None);
    }
}
