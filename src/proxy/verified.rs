//! Which passwords were found right a moment ago, so that the next request of the same client
//! need not be held up by a slow hash.
//!
//! Shared by all workers without a lock: a table of fixed size whose entries are tags made with a
//! key that never leaves this process. Neither a password nor anything to guess one by is in it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aws_lc_rs::hmac::{Context, HMAC_SHA256, Key};
use aws_lc_rs::rand::SystemRandom;

use crate::util::moment::Moment;

/// How long a password that was right counts as right. One that is changed or taken out of the
/// configuration ends at once: the stored hash is part of the tag.
const LIFETIME: Duration = Duration::from_secs(60);
/// How many places a tag may stand at.
const WAYS: usize = 4;
const SETS: usize = 512;

/// Stands for a user, a password and the stored hash that it fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag([u64; 2]);

/// The tags of passwords that were right.
pub struct Verified {
    key: Key,
    places: Box<[[Entry; WAYS]]>,
}

/// A tag, and until when it counts; 0 is never. Its parts may be of two tags for a moment, while
/// two threads write. Then it is equal to no tag that anybody can show.
#[derive(Default)]
struct Entry {
    until: AtomicU64,
    tag: [AtomicU64; 2],
}

impl Verified {
    /// Nothing yet, under a key of its own; `None` where the system has no random numbers.
    pub fn new() -> Option<Self> {
        let key = Key::generate(HMAC_SHA256, &SystemRandom::new()).ok()?;
        let places = (0..SETS).map(|_| Default::default()).collect();
        Some(Self { key, places })
    }

    /// The tag of what a client shows and the hash that stands for it.
    pub fn tag(&self, user: &[u8], password: &[u8], stored: &[u8]) -> Tag {
        let mut context = Context::with_key(&self.key);
        for part in [user, password, stored] {
            context.update(&(part.len() as u64).to_le_bytes());
            context.update(part);
        }
        let made = context.sign();
        let mut halves = made
            .as_ref()
            .chunks_exact(8)
            .map(|half| half.iter().fold(0, |number: u64, byte| number << 8 | u64::from(*byte)));
        Tag([halves.next().unwrap_or_default(), halves.next().unwrap_or_default()])
    }

    /// Whether it was right a moment ago.
    pub fn knows(&self, tag: Tag, now: Moment) -> bool {
        self.set(tag).iter().any(|entry| {
            entry.until.load(Ordering::Acquire) > now.0
                && entry.tag[0].load(Ordering::Relaxed) == tag.0[0]
                && entry.tag[1].load(Ordering::Relaxed) == tag.0[1]
        })
    }

    /// Notes that it is right. The oldest of those that share its places goes.
    pub fn note(&self, tag: Tag, now: Moment) {
        let oldest = self.set(tag).iter().min_by_key(|entry| entry.until.load(Ordering::Relaxed));
        let Some(entry) = oldest else { return };
        entry.until.store(0, Ordering::Release);
        entry.tag[0].store(tag.0[0], Ordering::Relaxed);
        entry.tag[1].store(tag.0[1], Ordering::Relaxed);
        entry.until.store(now.after(LIFETIME).0, Ordering::Release);
    }

    fn set(&self, tag: Tag) -> &[Entry] {
        let set = self.places.get(tag.0[0] as usize % SETS);
        set.map(|entries| &entries[..]).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment(1).after(Duration::from_secs(seconds))
    }

    #[test]
    fn a_password_counts_for_its_time_and_only_as_it_was_shown() {
        let verified = Verified::new().expect("random numbers");
        let tag = verified.tag(b"ann", b"secret", b"hash");
        assert!(!verified.knows(tag, at(0)));
        verified.note(tag, at(0));
        assert!(verified.knows(tag, at(0)) && verified.knows(tag, at(59)));
        assert!(!verified.knows(tag, at(60)));
        for (user, password, stored) in [
            ("ann", "secret", "other"),
            ("ann", "secrets", "hash"),
            ("bob", "secret", "hash"),
            ("anns", "ecret", "hash"),
            ("ann", "secreth", "ash"),
        ] {
            let other = verified.tag(user.as_bytes(), password.as_bytes(), stored.as_bytes());
            assert!(!verified.knows(other, at(1)), "{user} {password} {stored}");
        }
        let elsewhere = Verified::new().expect("random numbers");
        assert_ne!(elsewhere.tag(b"ann", b"secret", b"hash"), tag, "another key");
    }

    #[test]
    fn the_oldest_make_room() {
        let verified = Verified::new().expect("random numbers");
        let tags: Vec<_> = (0..SETS * WAYS * 4)
            .map(|n| verified.tag(n.to_string().as_bytes(), b"", b""))
            .collect();
        for (second, tag) in tags.iter().enumerate() {
            verified.note(*tag, Moment(second as u64 + 1));
            assert!(verified.knows(*tag, Moment(second as u64 + 1)));
        }
        let kept = tags.iter().filter(|tag| verified.knows(**tag, Moment(9_000))).count();
        assert!(kept <= SETS * WAYS && kept > SETS * WAYS / 2, "{kept}");
    }
}
