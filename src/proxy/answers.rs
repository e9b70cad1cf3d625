//! What authentication services answered a moment ago, for requests that are alike.
//!
//! Each worker has its own, in bounded memory; when that is full, answers go that were not asked for
//! lately. What requests are alike by (passwords, cookies) is in it only as a tag: HMAC-SHA-256 under a
//! key that never leaves this process, all of it, so that nobody can find another request with the
//! same tag.

use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use aws_lc_rs::hmac::{Context, HMAC_SHA256, Key};
use aws_lc_rs::rand::SystemRandom;
use http::{HeaderMap, HeaderName, StatusCode};

use crate::util::moment::Moment;

/// The most answers that one worker keeps.
const ENTRIES: usize = 8192;
/// The most memory that they take, about, in bytes.
const BYTES: usize = 4 << 20;
/// What an answer takes beside its fields, about.
const OVERHEAD: usize = 256;

/// Stands for what makes requests alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tag([u8; 32]);

/// What is kept of an answer.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Those of its fields that go on to somebody.
    pub headers: HeaderMap,
    /// The fields of requests that it depends on (`Vary`), and the tag of those it was an answer to.
    pub vary: Option<(Box<[HeaderName]>, Tag)>,
}

/// The answers that a worker keeps.
#[derive(Default)]
pub struct Answers {
    /// `None` where the system has no random numbers: nothing is kept.
    key: OnceCell<Option<Key>>,
    table: RefCell<Table>,
}

impl Answers {
    /// The tag of these parts, none of which can run into the next; `None` where there is no key.
    pub fn tag<P: AsRef<[u8]>>(&self, parts: impl IntoIterator<Item = P>) -> Option<Tag> {
        let make = || Key::generate(HMAC_SHA256, &SystemRandom::new()).ok();
        let mut context = Context::with_key(self.key.get_or_init(make).as_ref()?);
        for part in parts {
            let part = part.as_ref();
            context.update(&(part.len() as u64).to_le_bytes());
            context.update(part);
        }
        Some(Tag(context.sign().as_ref().try_into().ok()?))
    }

    /// The tag of the fields called `names` among `headers`.
    pub fn tag_of(&self, names: &[HeaderName], headers: &HeaderMap) -> Option<Tag> {
        let fields = names.iter().flat_map(|name| {
            let values = headers.get_all(name).iter().map(|value| value.as_bytes());
            let count = headers.get_all(name).iter().count().to_le_bytes();
            let values = values.map(<[u8]>::to_vec);
            std::iter::once(count.to_vec()).chain(values)
        });
        self.tag(fields)
    }

    /// The answer to requests with this tag and, as far as it depends on them, fields.
    pub fn find(&self, tag: Tag, headers: &HeaderMap, now: Moment) -> Option<Rc<Answer>> {
        let found = self.table.borrow_mut().find(tag, now)?;
        match &found.vary {
            Some((names, of)) => (self.tag_of(names, headers)? == *of).then_some(found),
            None => Some(found),
        }
    }

    /// Keeps an answer for so long.
    pub fn keep(&self, tag: Tag, answer: Answer, time: Duration, now: Moment) {
        let bytes = answer.headers.iter().map(|(name, value)| name.as_str().len() + value.len());
        let bytes = OVERHEAD + bytes.sum::<usize>();
        self.table.borrow_mut().insert(tag, Rc::new(answer), bytes, now.after(time), now);
    }
}

/// Answers by tag, replaced by the clock algorithm.
struct Table {
    places: HashMap<Tag, usize>,
    slots: Vec<Slot>,
    /// Where the clock's hand stands.
    hand: usize,
    bytes: usize,
    most_entries: usize,
    most_bytes: usize,
}

struct Slot {
    tag: Tag,
    answer: Rc<Answer>,
    bytes: usize,
    until: Moment,
    /// Whether it was asked for since the hand went by.
    used: bool,
}

impl Default for Table {
    fn default() -> Self {
        Self::new(ENTRIES, BYTES)
    }
}

impl Table {
    fn new(most_entries: usize, most_bytes: usize) -> Self {
        let (places, slots) = (HashMap::new(), Vec::new());
        Self { places, slots, hand: 0, bytes: 0, most_entries, most_bytes }
    }

    fn find(&mut self, tag: Tag, now: Moment) -> Option<Rc<Answer>> {
        let place = *self.places.get(&tag)?;
        let slot = self.slots.get_mut(place)?;
        if slot.until <= now {
            self.remove(place);
            return None;
        }
        slot.used = true;
        Some(slot.answer.clone())
    }

    fn insert(&mut self, tag: Tag, answer: Rc<Answer>, bytes: usize, until: Moment, now: Moment) {
        if let Some(place) = self.places.get(&tag) {
            self.remove(*place);
        }
        // One that fills a good part of all of it would push out everything else.
        if bytes > self.most_bytes / 16 || self.most_entries == 0 {
            return;
        }
        while self.slots.len() >= self.most_entries || self.bytes + bytes > self.most_bytes {
            self.evict(now);
        }
        self.bytes += bytes;
        self.places.insert(tag, self.slots.len());
        self.slots.push(Slot { tag, answer, bytes, until, used: false });
    }

    /// Removes the next that was not asked for lately, or is over.
    fn evict(&mut self, now: Moment) {
        loop {
            if self.hand >= self.slots.len() {
                self.hand = 0;
            }
            match self.slots.get_mut(self.hand) {
                Some(slot) if slot.used && slot.until > now => slot.used = false,
                _ => return self.remove(self.hand),
            }
            self.hand += 1;
        }
    }

    /// Removes what stands at `place`; the last takes it.
    fn remove(&mut self, place: usize) {
        if place >= self.slots.len() {
            return;
        }
        let gone = self.slots.swap_remove(place);
        self.bytes -= gone.bytes;
        self.places.remove(&gone.tag);
        if let Some(moved) = self.slots.get(place) {
            self.places.insert(moved.tag, place);
        }
    }
}

#[cfg(test)]
mod tests;
