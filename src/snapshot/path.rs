//! The exact and prefix paths of one host: owns the index that finds both in one walk.
//!
//! A trie with one node per path segment. Every node points at the next shorter prefix that has
//! candidates, so falling back to it costs one step and no shorter prefix is repeated in a longer
//! one. A walk ends at the first segment nobody configured and never looks at a segment longer
//! than the longest configured one, so its cost is bounded by the configuration and by the length
//! of the path, whatever a client sends. It never allocates.
//!
//! (matchit was measured first: it has no fallback to shorter prefixes, and with catch-alls, which
//! prefixes need, each of its lookups allocates. The figures are in `benches/router.rs`.)
//!
//! Knows places and positions only, nothing of routes, methods or headers.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Range;

use foldhash::fast::RandomState;

/// What remains of `path` below `prefix`, counted in whole segments: empty or with a leading
/// slash. `None` where the prefix does not hold. Slashes at the end of the prefix do not count,
/// and so `/` leaves the whole path.
pub fn below<'p>(prefix: &str, path: &'p str) -> Option<&'p str> {
    let prefix = prefix.trim_end_matches('/');
    let rest = path.strip_prefix(prefix)?;
    (prefix.is_empty() || rest.is_empty() || rest.starts_with('/')).then_some(rest)
}

/// Where something is placed: a path of the index, beginning with a slash.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place<'a> {
    /// The whole path.
    Exact(&'a str),
    /// The path and everything below it.
    Prefix(&'a str),
}

/// The index. What stands at a place is a range of positions in a list that belongs to the caller
/// and is ordered as [`PathIndex::build`] says.
#[derive(Clone, Debug)]
pub(super) struct PathIndex {
    nodes: Box<[Node]>,
    /// The segments of all nodes, one after the other.
    text: Box<str>,
    /// Children by segment, of the nodes that have more than [`NARROW`] of them.
    wide: Box<[HashMap<Box<str>, u32, RandomState>]>,
    longest_segment: usize,
}

/// What one walk found.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found {
    exact: Span,
    deepest: u32,
}

impl PathIndex {
    /// Builds the index from items in rank order. The second value is the order in which the
    /// caller has to keep them: its element `k` is the item that stands at position `k`.
    pub(super) fn build(places: &[(Place<'_>, u32)]) -> (Self, Vec<u32>) {
        flatten(&draft(places))
    }

    /// Walks down along `path` as far as something is configured.
    pub(super) fn walk(&self, path: &str) -> Found {
        let mut found = Found { exact: Span::default(), deepest: ROOT };
        let Some(mut rest) = path.strip_prefix('/') else {
            return found;
        };
        let Some(mut node) = self.nodes.first() else {
            return found;
        };
        loop {
            let limit = self.longest_segment.saturating_add(1);
            let slash = rest.bytes().take(limit).position(|b| b == b'/');
            let segment = match slash {
                Some(end) => rest.get(..end).unwrap_or(rest),
                None => rest,
            };
            let Some((child, next)) = self.child(node, segment) else {
                return found;
            };
            node = next;
            found.deepest = child;
            match slash.and_then(|end| rest.get(end + 1..)) {
                Some(below) => rest = below,
                None => {
                    found.exact = node.exact;
                    return found;
                }
            }
        }
    }

    /// The positions of the items whose prefix holds, the longest prefix first.
    pub(super) fn prefixes(&self, found: Found) -> impl Iterator<Item = Range<usize>> {
        let mut next = found.deepest;
        std::iter::from_fn(move || {
            let node = self.nodes.get(next as usize)?;
            next = node.above;
            Some(node.prefix.range())
        })
    }

    fn child(&self, node: &Node, segment: &str) -> Option<(u32, &Node)> {
        if node.wide != NONE {
            let child = *self.wide.get(node.wide as usize)?.get(segment)?;
            return Some((child, self.nodes.get(child as usize)?));
        }
        let children = self.nodes.get(node.children.range())?;
        let position = children.iter().position(|child| {
            child.segment.len as usize == segment.len()
                && self.text.get(child.segment.range()) == Some(segment)
        })?;
        Some((node.children.start + narrow(position), children.get(position)?))
    }
}

impl Found {
    /// The positions of the items whose whole path this is.
    pub(super) fn exact(self) -> Range<usize> {
        self.exact.range()
    }
}

/// Up to so many children are compared one by one; beyond, they are hashed.
const NARROW: usize = 8;
const ROOT: u32 = 0;
const NONE: u32 = u32::MAX;

#[derive(Clone, Debug)]
struct Node {
    segment: Span,
    /// Siblings stand side by side.
    children: Span,
    /// Index into `wide`, or [`NONE`].
    wide: u32,
    exact: Span,
    prefix: Span,
    /// The next shorter prefix that has items, or [`NONE`].
    above: u32,
}

#[derive(Clone, Copy, Debug, Default)]
struct Span {
    start: u32,
    len: u32,
}

impl Span {
    fn new(start: usize, len: usize) -> Self {
        Self { start: narrow(start), len: narrow(len) }
    }

    fn range(self) -> Range<usize> {
        self.start as usize..self.start as usize + self.len as usize
    }
}

/// Positions are 32 bits wide; a configuration with more places than that does not fit in memory.
fn narrow(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(NONE)
}

#[derive(Default)]
struct Draft<'a> {
    children: BTreeMap<&'a str, usize>,
    exact: Vec<u32>,
    prefix: Vec<u32>,
}

fn draft<'a>(places: &[(Place<'a>, u32)]) -> Vec<Draft<'a>> {
    let mut drafts = vec![Draft::default()];
    for &(place, item) in places {
        let path = match place {
            Place::Exact(path) => path,
            Place::Prefix(path) => path.trim_end_matches('/'),
        };
        let mut at = 0;
        // The empty text before the first slash is the root itself.
        for segment in path.split('/').skip(1) {
            let next = drafts.len();
            let Some(parent) = drafts.get_mut(at) else { break };
            at = *parent.children.entry(segment).or_insert(next);
            if at == next {
                drafts.push(Draft::default());
            }
        }
        if let Some(draft) = drafts.get_mut(at) {
            match place {
                Place::Exact(_) => draft.exact.push(item),
                Place::Prefix(_) => draft.prefix.push(item),
            }
        }
    }
    drafts
}

/// Lays the drafts out breadth first, so that siblings stand side by side.
fn flatten(drafts: &[Draft<'_>]) -> (PathIndex, Vec<u32>) {
    let mut nodes: Vec<Node> = Vec::with_capacity(drafts.len());
    let mut text = String::new();
    let mut wide = Vec::new();
    let mut order = Vec::new();
    let mut longest_segment = 0;
    // Draft, its segment, and the nearest prefix above it.
    let mut queue = VecDeque::from([(0, "", NONE)]);
    let mut queued = 1;
    while let Some((index, segment, above)) = queue.pop_front() {
        let Some(draft) = drafts.get(index) else { continue };
        let position = narrow(nodes.len());
        let mut place = |items: &[u32]| {
            let span = Span::new(order.len(), items.len());
            order.extend_from_slice(items);
            span
        };
        let node = Node {
            segment: Span::new(text.len(), segment.len()),
            children: Span::new(queued, draft.children.len()),
            wide: if draft.children.len() > NARROW { narrow(wide.len()) } else { NONE },
            exact: place(&draft.exact),
            prefix: place(&draft.prefix),
            above,
        };
        if node.wide != NONE {
            let first = queued;
            let keyed = draft.children.keys().enumerate();
            wide.push(keyed.map(|(k, key)| (Box::from(*key), narrow(first + k))).collect());
        }
        text.push_str(segment);
        longest_segment = longest_segment.max(segment.len());
        queued += draft.children.len();
        let above = if draft.prefix.is_empty() { above } else { position };
        queue.extend(draft.children.iter().map(|(key, &child)| (child, *key, above)));
        nodes.push(node);
    }
    let index =
        PathIndex { nodes: nodes.into(), text: text.into(), wide: wide.into(), longest_segment };
    (index, order)
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

    #[test]
    fn a_walk_finds_the_exact_path_and_every_prefix_from_the_longest() {
        let places = [
            (Place::Exact("/a/b"), 10),
            (Place::Prefix("/a/b/"), 11),
            (Place::Prefix("/a"), 12),
            (Place::Prefix("/a"), 13),
            (Place::Prefix("/"), 14),
            (Place::Exact("/a/b/c/d"), 15),
        ];
        let (index, order) = PathIndex::build(&places);
        let at = |path: &str| {
            let found = index.walk(path);
            let prefixes: Vec<u32> = index.prefixes(found).flatten().map(|k| order[k]).collect();
            (order[found.exact()].to_vec(), prefixes)
        };
        assert_eq!(at("/a/b"), (vec![10], vec![11, 12, 13, 14]));
        assert_eq!(at("/a/b/"), (vec![], vec![11, 12, 13, 14]));
        assert_eq!(at("/a/b/c"), (vec![], vec![11, 12, 13, 14]));
        assert_eq!(at("/a/b/c/d"), (vec![15], vec![11, 12, 13, 14]));
        assert_eq!(at("/a/bc"), (vec![], vec![12, 13, 14]));
        assert_eq!(at("/"), (vec![], vec![14]));
        assert_eq!(at("*"), (vec![], vec![14]));
    }
}
