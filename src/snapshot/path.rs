//! The exact and prefix paths of one host: owns the index that finds both in one walk.
//! Prefixes are of whole segments or of bytes.
//!
//! A trie with one node per path segment. Every node points at the next shorter prefix that has
//! a value, so falling back to it costs one step and no shorter prefix is repeated in a longer
//! one. A walk ends at the first segment nobody configured and never looks at a segment longer
//! than the longest configured one, so its cost is bounded by the configuration and by the length
//! of the path, whatever a client sends. It never allocates.
//!
//! A prefix of bytes may end inside a segment. It stands at the node of its last whole segment, in
//! a list of its own that few nodes have: longer than that node's prefix, and never longer than what
//! stands further down on the same path.
//!
//! (matchit was measured first: it has no fallback to shorter prefixes, and with catch-alls, which
//! prefixes need, each of its lookups allocates. The figures are in `benches/router.rs`.)
//!
//! Knows places and values only, nothing of routes, methods or headers.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::collections::{BTreeMap, HashMap, VecDeque};

use foldhash::fast::RandomState;
use smallvec::SmallVec;

/// What remains of `path` below `prefix`, counted in whole segments: empty or with a leading
/// slash. `None` where the prefix does not hold. Slashes at the end of the prefix do not count,
/// and so `/` leaves the whole path.
pub fn below<'p>(prefix: &str, path: &'p str) -> Option<&'p str> {
    let prefix = prefix.trim_end_matches('/');
    let rest = path.strip_prefix(prefix)?;
    (prefix.is_empty() || rest.is_empty() || rest.starts_with('/')).then_some(rest)
}

/// Where a value is placed: a path of the index, beginning with a slash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place<'a> {
    /// The whole path.
    Exact(&'a str),
    /// The path and everything below it.
    Prefix(&'a str),
    /// Whatever begins with this text.
    Start(&'a str),
}

impl Place<'_> {
    /// The same place in the one form in which it is compared: slashes at the end of a prefix do
    /// not count.
    pub(super) fn normal(self) -> Self {
        match self {
            Self::Exact(path) => Self::Exact(path),
            Self::Prefix(path) => Self::Prefix(path.trim_end_matches('/')),
            Self::Start(text) => Self::Start(text),
        }
    }
}

/// No value stands at a place.
pub(super) const NONE: u32 = u32::MAX;

/// The index: one value, any but [`NONE`], for each place.
///
/// Nodes are small and stand breadth first, and the few nodes of a usual host stand in the index
/// itself: with many hosts the memory's latency is nearly all that a lookup costs, and lines that
/// stand side by side are fetched together.
#[derive(Clone, Debug)]
pub(super) struct PathIndex {
    /// The root first; after the last node one more that only ends its predecessor's ranges.
    nodes: SmallVec<[Node; 7]>,
    /// The segments of all nodes, one after the other.
    text: SmallVec<[u8; 40]>,
    /// What few nodes have.
    more: Box<[More]>,
    longest_segment: u32,
    /// How many children the root has; its first is the second node. Known here, they are fetched
    /// from memory together with the root rather than after it.
    top: u32,
}

/// What one walk found.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found {
    /// The value of the exact path, or [`NONE`].
    pub(super) exact: u32,
    deepest: u32,
}

impl PathIndex {
    /// Builds the index. Of values at equal places the last stays.
    pub(super) fn build<'a>(places: impl IntoIterator<Item = (Place<'a>, u32)>) -> Self {
        flatten(&draft(places))
    }

    /// Walks down along `path` as far as something is configured.
    pub(super) fn walk(&self, path: &str) -> Found {
        let mut found = Found { exact: NONE, deepest: ROOT };
        let Some(mut rest) = path.strip_prefix('/') else {
            return found;
        };
        let limit = (self.longest_segment as usize).saturating_add(1);
        loop {
            let slash = rest.bytes().take(limit).position(|b| b == b'/');
            let segment = match slash {
                Some(end) => rest.get(..end).unwrap_or(rest),
                None => rest,
            };
            let Some(child) = self.child(found.deepest, segment) else {
                return found;
            };
            found.deepest = child;
            match slash.and_then(|end| rest.get(end + 1..)) {
                Some(below) => rest = below,
                None => {
                    found.exact = self.nodes.get(child as usize).map_or(NONE, |node| node.exact);
                    return found;
                }
            }
        }
    }

    /// What `pick` makes of the values of the prefixes that hold for `path`, the longest first,
    /// until it makes something of one.
    pub(super) fn longest<R>(
        &self,
        found: Found,
        path: &str,
        mut pick: impl FnMut(u32) -> Option<R>,
    ) -> Option<R> {
        let mut next = found.deepest;
        while let Some(node) = self.nodes.get(next as usize) {
            if node.more != NONE
                && let Some(more) = self.more.get(node.more as usize)
                && let Some(picked) = more.starts.longest(path, &mut pick)
            {
                return Some(picked);
            }
            if node.prefix != NONE
                && let Some(picked) = pick(node.prefix)
            {
                return Some(picked);
            }
            next = node.above;
        }
        None
    }

    fn child(&self, parent: u32, segment: &str) -> Option<u32> {
        let (first, count) = match parent {
            ROOT => (1, self.top),
            _ => match self.nodes.get(parent as usize..)? {
                [node, after, ..] => (node.children, after.children - node.children),
                _ => return None,
            },
        };
        if count as usize > NARROW {
            let more = self.nodes.get(parent as usize)?.more;
            return self.more.get(more as usize)?.wide.get(segment).copied();
        }
        // A child's segment ends where the next node's begins.
        let ends = first as usize..=first as usize + count as usize;
        let position = self.nodes.get(ends)?.windows(2).position(|pair| match pair {
            [child, next] => {
                (next.text - child.text) as usize == segment.len()
                    && self.text.get(child.text as usize..next.text as usize)
                        == Some(segment.as_bytes())
            }
            _ => false,
        })?;
        Some(first + narrow(position))
    }
}

/// Up to so many children are compared one by one; beyond, they are hashed.
const NARROW: usize = 8;
const ROOT: u32 = 0;

#[derive(Clone, Debug)]
struct Node {
    /// Where its segment begins in the text.
    text: u32,
    /// Its first child; the last stands before the next node's first.
    children: u32,
    /// Index into `more`, or [`NONE`].
    more: u32,
    exact: u32,
    prefix: u32,
    /// The node of the next shorter prefix that has a value, or [`NONE`].
    above: u32,
}

/// What few nodes have; kept apart so that the others are small.
#[derive(Clone, Debug, Default)]
struct More {
    /// Children by segment, where there are more than [`NARROW`].
    wide: HashMap<Box<str>, u32, RandomState>,
    starts: Starts,
}

/// Prefixes of bytes that share their whole segments, in the order of their texts.
#[derive(Clone, Debug, Default)]
struct Starts(Box<[Start]>);

#[derive(Clone, Debug)]
struct Start {
    text: Box<str>,
    value: u32,
    /// The longest other one that this one begins with, or [`NONE`].
    shorter: u32,
}

impl Starts {
    fn new(texts: &BTreeMap<&str, u32>) -> Self {
        let mut starts: Vec<Start> = Vec::with_capacity(texts.len());
        // Those that the text before begins with, and it itself.
        let mut open: Vec<u32> = Vec::new();
        for (&text, &value) in texts {
            let begins = |&last: &u32| {
                starts.get(last as usize).is_some_and(|start| text.starts_with(&*start.text))
            };
            while open.last().is_some_and(|last| !begins(last)) {
                open.pop();
            }
            let shorter = open.last().copied().unwrap_or(NONE);
            open.push(narrow(starts.len()));
            starts.push(Start { text: text.into(), value, shorter });
        }
        Self(starts.into())
    }

    /// As [`PathIndex::longest`]. Whatever `path` begins with sorts before it, and all between the
    /// longest of these and `path` begin with it: so it is found by following the links of the
    /// last text that sorts before `path`.
    fn longest<R>(&self, path: &str, mut pick: impl FnMut(u32) -> Option<R>) -> Option<R> {
        let mut next = self.0.partition_point(|start| *start.text <= *path).checked_sub(1)?;
        while let Some(start) = self.0.get(next) {
            if path.starts_with(&*start.text)
                && let Some(picked) = pick(start.value)
            {
                return Some(picked);
            }
            next = start.shorter as usize;
        }
        None
    }
}

/// Positions are 32 bits wide; a configuration with more places than that does not fit in memory.
fn narrow(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(NONE)
}

struct Draft<'a> {
    children: BTreeMap<&'a str, usize>,
    starts: BTreeMap<&'a str, u32>,
    exact: u32,
    prefix: u32,
}

impl Draft<'_> {
    fn new() -> Self {
        Self { children: BTreeMap::new(), starts: BTreeMap::new(), exact: NONE, prefix: NONE }
    }
}

fn draft<'a>(places: impl IntoIterator<Item = (Place<'a>, u32)>) -> Vec<Draft<'a>> {
    let mut drafts = vec![Draft::new()];
    for (place, value) in places {
        let path = match place.normal() {
            Place::Exact(path) | Place::Prefix(path) => path,
            Place::Start(text) => text.rsplit_once('/').map_or("", |(segments, _)| segments),
        };
        let mut at = 0;
        // The empty text before the first slash is the root itself.
        for segment in path.split('/').skip(1) {
            let next = drafts.len();
            let Some(parent) = drafts.get_mut(at) else { break };
            at = *parent.children.entry(segment).or_insert(next);
            if at == next {
                drafts.push(Draft::new());
            }
        }
        match (drafts.get_mut(at), place) {
            (Some(draft), Place::Exact(_)) => draft.exact = value,
            (Some(draft), Place::Prefix(_)) => draft.prefix = value,
            (Some(draft), Place::Start(text)) => {
                draft.starts.insert(text, value);
            }
            (None, _) => {}
        }
    }
    drafts
}

/// Lays the drafts out breadth first, so that siblings stand side by side.
fn flatten(drafts: &[Draft<'_>]) -> PathIndex {
    let mut nodes = SmallVec::with_capacity(drafts.len() + 1);
    let mut text = SmallVec::new();
    let mut more = Vec::new();
    let mut longest_segment = 0;
    // Draft, its segment, and the nearest prefix above it.
    let mut queue = VecDeque::from([(0, "", NONE)]);
    let mut queued = 1;
    while let Some((index, segment, above)) = queue.pop_front() {
        let Some(draft) = drafts.get(index) else { continue };
        let position = narrow(nodes.len());
        let mut node = Node {
            text: narrow(text.len()),
            children: narrow(queued),
            more: NONE,
            exact: draft.exact,
            prefix: draft.prefix,
            above,
        };
        let wide = draft.children.len() > NARROW;
        if wide || !draft.starts.is_empty() {
            node.more = narrow(more.len());
            let keyed = draft.children.keys().enumerate().filter(|_| wide);
            more.push(More {
                wide: keyed.map(|(k, key)| (Box::from(*key), narrow(queued + k))).collect(),
                starts: Starts::new(&draft.starts),
            });
        }
        nodes.push(node);
        text.extend_from_slice(segment.as_bytes());
        longest_segment = longest_segment.max(segment.len());
        queued += draft.children.len();
        let empty = draft.prefix == NONE && draft.starts.is_empty();
        let above = if empty { above } else { position };
        queue.extend(draft.children.iter().map(|(key, &child)| (child, *key, above)));
    }
    let (text_end, children) = (narrow(text.len()), narrow(queued));
    let end = Node { text: text_end, children, more: NONE, exact: NONE, prefix: NONE, above: NONE };
    nodes.push(end);
    text.shrink_to_fit();
    PathIndex {
        nodes,
        text,
        more: more.into(),
        longest_segment: narrow(longest_segment),
        top: narrow(drafts.first().map_or(0, |root| root.children.len())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_counts_in_whole_segments() {
        assert_eq!(below("/cart", "/cart"), Some(""));
        assert_eq!(below("/cart", "/cart/"), Some("/"));
        assert_eq!(below("/cart", "/cart/x"), Some("/x"));
        assert_eq!(below("/cart", "/cartoon"), None);
        assert_eq!(below("/cart/", "/cart"), Some(""));
        assert_eq!(below("/cart//", "/cart/x"), Some("/x"));
        assert_eq!(below("/", "/cart"), Some("/cart"));
        assert_eq!(below("/", "*"), Some("*"));
    }

    fn all(index: &PathIndex, found: Found, path: &str) -> Vec<u32> {
        let mut values = Vec::new();
        index.longest(found, path, |value| -> Option<()> {
            values.push(value);
            None
        });
        values
    }

    #[test]
    fn prefixes_of_bytes_stand_between_those_of_segments_by_length() {
        let index = PathIndex::build([
            (Place::Start("/a/b"), 20),
            (Place::Start("/a/bc"), 21),
            (Place::Start("/a/bcde"), 22),
            (Place::Start("/a/bcx"), 23),
            (Place::Start("/a/"), 24),
            (Place::Start("/"), 25),
            (Place::Start("/a"), 26),
            (Place::Prefix("/a"), 10),
            (Place::Prefix("/a/bc"), 11),
            (Place::Prefix("/"), 12),
        ]);
        let at = |path: &str| all(&index, index.walk(path), path);
        assert_eq!(at("/a/bc/x"), [11, 21, 20, 24, 10, 26, 25, 12]);
        assert_eq!(at("/a/bcdx"), [21, 20, 24, 10, 26, 25, 12]);
        assert_eq!(at("/a/bcdef/x"), [22, 21, 20, 24, 10, 26, 25, 12]);
        assert_eq!(at("/a/"), [24, 10, 26, 25, 12]);
        assert_eq!(at("/a"), [10, 26, 25, 12]);
        assert_eq!(at("/ab"), [26, 25, 12]);
        assert_eq!(at("/"), [25, 12]);
        assert_eq!(at("*"), [12]);
    }

    #[test]
    fn a_walk_finds_the_exact_path_and_every_prefix_from_the_longest() {
        let index = PathIndex::build([
            (Place::Exact("/a/b"), 10),
            (Place::Prefix("/a/b/"), 11),
            (Place::Prefix("/a"), 12),
            (Place::Prefix("/"), 14),
            (Place::Exact("/a/b/c/d"), 15),
        ]);
        let at = |path: &str| {
            let found = index.walk(path);
            (found.exact, all(&index, found, path))
        };
        assert_eq!(at("/a/b"), (10, vec![11, 12, 14]));
        assert_eq!(at("/a/b/"), (NONE, vec![11, 12, 14]));
        assert_eq!(at("/a/b/c"), (NONE, vec![11, 12, 14]));
        assert_eq!(at("/a/b/c/d"), (15, vec![11, 12, 14]));
        assert_eq!(at("/a/bc"), (NONE, vec![12, 14]));
        assert_eq!(at("/"), (NONE, vec![14]));
        assert_eq!(at("*"), (NONE, vec![14]));
    }
}
