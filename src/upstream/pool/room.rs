//! Room for connections to an upstream that bears only so many: whose connections hold places that
//! others need, and which of them go.

use std::rc::Rc;
use std::sync::Arc;

use super::{Connection, EndpointPool, Pools};
use crate::upstream::h1::H1Conn;
use crate::upstream::h2::H2Conn;
use crate::upstream::limits::{Place, Turnstile};
use crate::util::moment::Moment;

impl Pools {
    /// A place for one more connection: a free one, or that of the connection of this worker that
    /// has been idle for longest, which is closed. `None` where there is neither, or others wait
    /// already.
    pub async fn place(&self, turnstile: &Arc<Turnstile>) -> Option<Place> {
        if let Some(place) = Place::take(turnstile) {
            return Some(place);
        }
        while turnstile.waiting() == 0 && turnstile.has_idle(self.worker) {
            let place = self.close_oldest(turnstile).await?;
            if turnstile.taken() <= turnstile.limit() {
                return Some(place);
            }
        }
        None
    }

    /// Closes idle connections whose places others wait for; runs as long as the worker does.
    pub async fn make_room(self: Rc<Self>) {
        loop {
            self.keeper.notified().await;
            for turnstile in self.turnstiles() {
                let mut missed = turnstile.take_missed();
                while missed > 0 || turnstile.is_short() {
                    missed = missed.saturating_sub(1);
                    if self.close_oldest(&turnstile).await.is_none() {
                        break;
                    }
                }
            }
        }
    }

    /// Closes the connection with a place at `turnstile` that has been idle for longest, and
    /// returns its place.
    async fn close_oldest(&self, turnstile: &Arc<Turnstile>) -> Option<Place> {
        match self.take_oldest(turnstile) {
            None => {
                turnstile.note_busy(self.worker);
                None
            }
            Some(Connection::H1(mut conn)) => conn.place.take(),
            Some(Connection::H2(conn)) => conn.close().await,
        }
    }

    fn take_oldest(&self, turnstile: &Arc<Turnstile>) -> Option<Connection> {
        let mut endpoints = self.endpoints.borrow_mut();
        let pools = endpoints.values_mut().filter(|pool| pool.takes_places_at(turnstile));
        let idle = pools.filter_map(|pool| pool.oldest().map(|oldest| (oldest, pool)));
        let (oldest, pool) = idle.min_by_key(|(oldest, _)| oldest.since)?;
        Some(match oldest.h2 {
            false => Connection::H1(pool.h1.remove(oldest.index)),
            true => Connection::H2(pool.h2.remove(oldest.index)),
        })
    }

    /// Where connections of this worker have places.
    fn turnstiles(&self) -> Vec<Arc<Turnstile>> {
        let mut all: Vec<Arc<Turnstile>> = Vec::new();
        for pool in self.endpoints.borrow().values() {
            if let Some(turnstile) = pool.endpoint.common.connections.limited()
                && !all.iter().any(|known| Arc::ptr_eq(known, turnstile))
            {
                all.push(turnstile.clone());
            }
        }
        all
    }
}

impl EndpointPool {
    fn takes_places_at(&self, turnstile: &Arc<Turnstile>) -> bool {
        let limited = self.endpoint.common.connections.limited();
        limited.is_some_and(|own| Arc::ptr_eq(own, turnstile))
    }

    /// The connection with a place that has been idle for longest.
    fn oldest(&self) -> Option<Oldest> {
        // They stand in the order in which they became idle.
        let h1 = self.h1.iter().enumerate().find(|(_, conn)| conn.place.is_some());
        let h1 = h1.map(|(index, conn)| Oldest { since: conn.idle_since, h2: false, index });
        // One that somebody was told of is as good as in use.
        let idle =
            |conn: &H2Conn| conn.is_idle() && conn.has_place() && !self.waitlist.has_called();
        let h2 = self.h2.iter().enumerate().filter(|(_, conn)| idle(conn));
        let h2 = h2.map(|(index, conn)| Oldest { since: conn.idle_since(), h2: true, index });
        h2.chain(h1).min_by_key(|oldest| oldest.since)
    }

    /// Gives places to idle connections that were made before there was a limit, and closes those
    /// that get none; those that the endpoint closed need theirs no more. Returns whether there
    /// are too few for all.
    pub(super) fn settle(&mut self) -> bool {
        let limited = self.endpoint.common.connections.limited();
        let Some(turnstile) = limited.cloned() else { return false };
        self.h1.retain_mut(|conn| {
            if conn.place.is_none() {
                conn.place = Place::take(&turnstile);
            }
            conn.place.is_some() && conn.is_alive(false)
        });
        self.h2.retain(|conn| {
            if !conn.has_place()
                && let Some(place) = Place::take(&turnstile)
            {
                conn.settle(place);
            }
            conn.has_place()
        });
        if self.oldest().is_some() {
            self.waitlist.note_idle(&turnstile);
        }
        turnstile.is_short()
    }

    /// Takes back a connection, or gives it or its place to those who wait.
    pub(super) fn keep(&mut self, mut conn: Box<H1Conn>) {
        if conn.place.is_none() {
            let limited = conn.endpoint.common.connections.limited();
            conn.place = limited.and_then(Place::take);
        }
        let Some(place) = &conn.place else { return };
        if self.waitlist.comes_after_others(place, conn.created) {
            return;
        }
        if place.turnstile().waiting() > 0 {
            return self.waitlist.give(conn);
        }
        self.waitlist.note_idle(place.turnstile());
        self.h1.push(conn);
    }
}

/// An idle connection.
struct Oldest {
    since: Moment,
    h2: bool,
    index: usize,
}
