//! Things that several have, and which of them somebody has now that nobody had before.

use std::collections::BTreeMap;

/// How many have each of some things.
pub(super) struct Counted<K> {
    counts: BTreeMap<K, usize>,
    /// What was added or removed since that was last asked, and whether somebody had it before.
    touched: BTreeMap<K, bool>,
}

impl<K> Default for Counted<K> {
    fn default() -> Self {
        Self { counts: BTreeMap::new(), touched: BTreeMap::new() }
    }
}

impl<K: Clone + Ord> Counted<K> {
    /// One more has it.
    pub fn add(&mut self, key: &K) {
        let count = self.counts.entry(key.clone()).or_insert(0);
        if !self.touched.contains_key(key) {
            self.touched.insert(key.clone(), *count > 0);
        }
        *count += 1;
    }

    /// One that had it has it no more.
    pub fn remove(&mut self, key: &K) {
        let Some(count) = self.counts.get_mut(key) else { return };
        if !self.touched.contains_key(key) {
            self.touched.insert(key.clone(), true);
        }
        *count -= 1;
        if *count == 0 {
            self.counts.remove(key);
        }
    }

    /// Whether anybody has it.
    pub fn contains(&self, key: &K) -> bool {
        self.counts.contains_key(key)
    }

    /// All that anybody has.
    pub fn keys(&self) -> impl Iterator<Item = &K> {
        self.counts.keys()
    }

    /// What somebody has now that nobody had when this was last asked, or the other way round.
    pub fn take_changed(&mut self) -> Vec<K> {
        let touched = std::mem::take(&mut self.touched).into_iter();
        touched.filter(|(key, had)| self.contains(key) != *had).map(|(key, _)| key).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_and_comes_again_has_not_changed() {
        let mut counted = Counted::default();
        ["a", "b", "b"].iter().for_each(|key| counted.add(key));
        assert_eq!(counted.take_changed(), ["a", "b"]);
        counted.remove(&"a");
        counted.add(&"a");
        counted.remove(&"b");
        assert_eq!(counted.take_changed(), [""; 0], "somebody still has them");
        counted.remove(&"b");
        counted.add(&"c");
        counted.add(&"d");
        counted.remove(&"d");
        assert_eq!(counted.take_changed(), ["b", "c"]);
        assert_eq!(counted.keys().collect::<Vec<_>>(), [&"a", &"c"]);
    }
}
