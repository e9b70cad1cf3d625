//! Session tickets: stateless resumption that all workers share.
//!
//! One rotating AES-256-GCM key serves the whole process. A ticket is
//! `key name (16) || nonce (12) || ciphertext || tag (16)`, sealed with the *scope* of the
//! configuration that issues it as associated data: a digest of the listener and its
//! client-certificate policy. A ticket from another scope does not open, so
//!
//! * a session made without a client certificate, or under other CAs, never resumes where one is
//!   demanded (rustls checks the server name on resumption, but not the client CA), and sessions do
//!   not move between listeners;
//! * a rebuilt configuration with the same policy has the same scope and keeps accepting the
//!   sessions of its predecessor: changing a certificate or a route costs nobody a full handshake.
//!
//! rustls' own `TicketRotator` is not used: it keeps a key per rotator, so every scope would need a
//! registry of live rotators, it rotates only when used, so that after a long silence it still
//! accepts a key of any age, and it takes a lock. Here a key issues tickets for six hours and opens
//! them for twelve by the monotonic clock. At 96-bit random nonces, 2^32 tickets per key keep the
//! chance of a repeated nonce below 2^-32 (NIST SP 800-38D §8.3); six hours at 10,000 handshakes a
//! second are a tenth of that.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::rand;
use rustls::server::ProducesTickets;

use super::TlsError;

/// How long a key issues tickets.
pub(super) const ROTATION: Duration = Duration::from_secs(6 * 3600);
/// How long a key opens them; also the lifetime that clients are told.
pub(super) const LIFETIME: Duration = Duration::from_secs(12 * 3600);

const NAME_LEN: usize = 16;

/// What a ticket is bound to.
pub(super) type Scope = [u8; 32];

/// The process's ticket keys.
pub(super) struct TicketKeys {
    generations: ArcSwap<Generations>,
}

impl TicketKeys {
    /// Fresh random keys.
    pub(super) fn new() -> Result<Self, TlsError> {
        Self::starting(Instant::now())
    }

    /// Fresh random keys whose life begins at `now`.
    pub(super) fn starting(now: Instant) -> Result<Self, TlsError> {
        let current = TicketKey::generate(now)
            .ok_or_else(|| TlsError::Crypto("no random bytes for ticket keys".into()))?;
        let generations = Generations { current: Arc::new(current), previous: None };
        Ok(Self { generations: ArcSwap::from_pointee(generations) })
    }

    /// Seals `plain` for `scope`; `None` sends no ticket.
    pub(super) fn seal(&self, scope: &Scope, plain: &[u8], now: Instant) -> Option<Vec<u8>> {
        let generations = self.at(now);
        let key = &generations.current;
        if now.saturating_duration_since(key.born) > ROTATION {
            return None;
        }
        let mut sealed = Vec::with_capacity(plain.len() + AES_256_GCM.tag_len());
        sealed.extend_from_slice(plain);
        let nonce = key.aead.seal_in_place_append_tag(Aad::from(scope), &mut sealed).ok()?;
        let mut ticket = Vec::with_capacity(NAME_LEN + NONCE_LEN + sealed.len());
        ticket.extend_from_slice(&key.name);
        ticket.extend_from_slice(nonce.as_ref());
        ticket.extend_from_slice(&sealed);
        Some(ticket)
    }

    /// Opens a ticket of `scope`; `None` for any other.
    pub(super) fn open(&self, scope: &Scope, ticket: &[u8], now: Instant) -> Option<Vec<u8>> {
        let (name, rest) = ticket.split_at_checked(NAME_LEN)?;
        let (nonce, sealed) = rest.split_at_checked(NONCE_LEN)?;
        let generations = self.at(now);
        let key = [Some(&generations.current), generations.previous.as_ref()]
            .into_iter()
            .flatten()
            .find(|key| key.name == name)?;
        if now.saturating_duration_since(key.born) > LIFETIME {
            return None;
        }
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut sealed = sealed.to_vec();
        let length = key.aead.open_in_place(nonce, Aad::from(scope), &mut sealed).ok()?.len();
        sealed.truncate(length);
        Some(sealed)
    }

    /// The keys of `now`, rotated when they are due. Of several threads that find them due one
    /// wins; the others use its keys.
    fn at(&self, now: Instant) -> Arc<Generations> {
        let present = self.generations.load_full();
        if now.saturating_duration_since(present.current.born) <= ROTATION {
            return present;
        }
        // Without random bytes the old keys stay until the next try; `seal` and `open` still
        // refuse what is too old.
        let Some(fresh) = TicketKey::generate(now) else { return present };
        let next = Arc::new(Generations {
            previous: (now.saturating_duration_since(present.current.born) <= LIFETIME)
                .then(|| Arc::clone(&present.current)),
            current: Arc::new(fresh),
        });
        self.generations.compare_and_swap(&present, next);
        self.generations.load_full()
    }
}

impl fmt::Debug for TicketKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TicketKeys")
    }
}

/// The tickets of one scope, as a rustls configuration wants them.
#[derive(Debug)]
pub(super) struct ScopedTickets {
    keys: Arc<TicketKeys>,
    scope: Scope,
}

impl ScopedTickets {
    /// Tickets of `scope` under the process's `keys`.
    pub(super) fn new(keys: Arc<TicketKeys>, scope: Scope) -> Self {
        Self { keys, scope }
    }
}

impl ProducesTickets for ScopedTickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        LIFETIME.as_secs() as u32
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.keys.seal(&self.scope, plain, Instant::now())
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        self.keys.open(&self.scope, cipher, Instant::now())
    }
}

struct Generations {
    current: Arc<TicketKey>,
    previous: Option<Arc<TicketKey>>,
}

struct TicketKey {
    /// Random; tells which key sealed a ticket without trying them.
    name: [u8; NAME_LEN],
    aead: RandomizedNonceKey,
    born: Instant,
}

impl TicketKey {
    fn generate(born: Instant) -> Option<Self> {
        let mut name = [0; NAME_LEN];
        let mut secret = [0; 32];
        rand::fill(&mut name).ok()?;
        rand::fill(&mut secret).ok()?;
        let aead = RandomizedNonceKey::new(&AES_256_GCM, &secret).ok()?;
        Some(Self { name, aead, born })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCOPE: Scope = [7; 32];

    #[test]
    fn a_ticket_opens_for_twelve_hours_and_not_longer() {
        let start = Instant::now();
        let keys = TicketKeys::starting(start).unwrap();
        let ticket = keys.seal(&SCOPE, b"session", start + ROTATION).unwrap();
        assert_eq!(keys.open(&SCOPE, &ticket, start).as_deref(), Some(&b"session"[..]));
        assert_eq!(keys.open(&SCOPE, &ticket, start + LIFETIME).as_deref(), Some(&b"session"[..]));
        assert_eq!(keys.open(&SCOPE, &ticket, start + LIFETIME + Duration::from_secs(1)), None);
    }

    #[test]
    fn a_ticket_does_not_outlive_its_key_through_a_silence() {
        let start = Instant::now();
        let keys = TicketKeys::starting(start).unwrap();
        let ticket = keys.seal(&SCOPE, b"session", start).unwrap();
        assert_eq!(keys.open(&SCOPE, &ticket, start + 10 * LIFETIME), None);
    }

    #[test]
    fn rotation_changes_the_key_and_keeps_the_one_before() {
        let start = Instant::now();
        let keys = TicketKeys::starting(start).unwrap();
        let first = keys.seal(&SCOPE, b"a", start).unwrap();
        let later = start + ROTATION + Duration::from_secs(1);
        let second = keys.seal(&SCOPE, b"b", later).unwrap();
        assert_ne!(first[..NAME_LEN], second[..NAME_LEN]);
        assert!(keys.open(&SCOPE, &first, later).is_some());
        let third = keys.seal(&SCOPE, b"c", later + ROTATION + Duration::from_secs(1)).unwrap();
        assert_ne!(second[..NAME_LEN], third[..NAME_LEN]);
    }

    #[test]
    fn a_ticket_of_another_scope_or_with_one_bit_changed_does_not_open() {
        let now = Instant::now();
        let keys = TicketKeys::starting(now).unwrap();
        let ticket = keys.seal(&SCOPE, b"session", now).unwrap();
        assert_eq!(keys.open(&[8; 32], &ticket, now), None);
        for index in 0..ticket.len() {
            let mut bent = ticket.clone();
            bent[index] ^= 1;
            assert_eq!(keys.open(&SCOPE, &bent, now), None, "byte {index}");
            assert_eq!(keys.open(&SCOPE, &ticket[..index], now), None, "cut at {index}");
        }
    }
}
