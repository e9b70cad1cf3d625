//! Endpoints that providers tell apart from their fragments, because they come and go too often to
//! compile for.
//!
//! What is known stands in the feeds; here is what was given to the upstreams, so that only those
//! whose endpoints are others hear of it.

use std::collections::btree_map::{self, BTreeMap};
use std::iter::Peekable;
use std::sync::Arc;
use std::time::Instant;

use super::Feed;
use crate::ir::{Config, EndpointSpec, Name, Upstream};

/// The endpoints of upstreams that are `discovered`, by the upstream's name. Their addresses are
/// sockets: names are not looked up.
pub type EndpointLists = BTreeMap<Name, Arc<[EndpointSpec]>>;

/// What a provider sends.
#[derive(Clone, Debug)]
pub enum Said {
    /// The whole of what it says, the endpoints of its upstreams included: a route and the
    /// endpoints behind it come together.
    All(Feed),
    /// Other endpoints of some of its upstreams.
    Endpoints {
        /// The whole list of each of these.
        lists: EndpointLists,
        /// When the oldest of these changes became known.
        since: Instant,
    },
}

impl From<Feed> for Said {
    fn from(feed: Feed) -> Self {
        Self::All(feed)
    }
}

/// A burst of messages, taken in as one change.
#[derive(Debug, Default)]
pub(super) struct Burst {
    /// Whether a provider said everything anew.
    pub anew: bool,
    /// Whether one of them was asked to, as with a file that someone edits.
    pub asked: bool,
    /// Upstreams that got other endpoints.
    pub endpoints: Vec<Name>,
    /// When the oldest of these changes became known, where that was told.
    pub since: Option<Instant>,
}

impl Burst {
    /// Puts what was said into the feed of the provider that said it.
    pub fn take(&mut self, feed: &mut Feed, said: Said) {
        let since = match said {
            Said::All(other) => {
                *feed = other;
                self.anew = true;
                self.asked |= feed.since.is_none();
                feed.since
            }
            Said::Endpoints { lists, since } => {
                let known = |name: &Name| {
                    let said = feed.fragment.as_ref();
                    said.is_some_and(|fragment| fragment.upstreams.contains_key(name))
                };
                for (name, list) in lists {
                    // An upstream that is gone again has no use for endpoints.
                    if known(&name) {
                        self.endpoints.push(name.clone());
                        Arc::make_mut(&mut feed.endpoints).insert(name, list);
                    }
                }
                Some(since)
            }
        };
        self.since = [self.since, since].into_iter().flatten().min();
    }
}

/// The value of `name` in what is left of a map that is walked through in order.
fn find<'m, T>(left: &mut Peekable<btree_map::Iter<'m, Name, T>>, name: &Name) -> Option<&'m T> {
    while left.next_if(|(other, _)| *other < name).is_some() {}
    left.next_if(|(other, _)| *other == name).map(|(_, value)| value)
}

/// What upstreams were given.
#[derive(Debug, Default)]
pub struct Discovered {
    lists: EndpointLists,
    /// The upstreams and lists that this was made from, which are kept from becoming others.
    from: Option<(Declared, Vec<Arc<EndpointLists>>)>,
}

/// The upstreams of a configuration.
type Declared = Arc<BTreeMap<Name, Arc<Upstream>>>;

impl Discovered {
    /// Takes over what the feeds say of the upstreams of `config`; returns those for which it is
    /// something else than before. What was known of others is dropped.
    pub fn follow(&mut self, config: &Config, feeds: &[Feed]) -> Vec<Name> {
        let told = || feeds.iter().map(|feed| &feed.endpoints);
        let same = |lists: &[Arc<EndpointLists>]| {
            lists.len() == feeds.len() && lists.iter().zip(told()).all(|(a, b)| Arc::ptr_eq(a, b))
        };
        let from = self.from.as_ref();
        if from.is_some_and(|(of, lists)| Arc::ptr_eq(of, &config.upstreams) && same(lists)) {
            return Vec::new();
        }
        self.from = Some((config.upstreams.clone(), told().cloned().collect()));
        let before = std::mem::take(&mut self.lists);
        // All are in order: thousands of look-ups would cost more than the rest.
        let mut known = before.iter().peekable();
        let mut said: Vec<_> = feeds
            .iter()
            .filter_map(|feed| Some((&feed.fragment.as_ref()?.provider, feed.endpoints.iter())))
            .map(|(provider, lists)| (provider, lists.peekable()))
            .collect();
        let (mut changed, mut lists) = (Vec::new(), Vec::new());
        for (name, upstream) in config.upstreams.iter().filter(|(_, spec)| spec.discovered) {
            // Of two providers that declare one name, the one whose upstream it is.
            let by = said.iter_mut().find(|(provider, _)| **provider == upstream.origin.provider);
            let list = by.and_then(|(_, lists)| find(lists, name));
            let list = list.cloned().unwrap_or_default();
            if find(&mut known, name) != Some(&list) {
                changed.push(name.clone());
            }
            lists.push((name.clone(), list));
        }
        self.lists = lists.into_iter().collect();
        changed
    }

    /// Takes over what `feeds` say of `names` alone; returns those for which it is something else
    /// than before. An upstream that is not in use is left out.
    pub fn update(&mut self, names: Vec<Name>, feeds: &[Feed]) -> Vec<Name> {
        let mut changed = Vec::new();
        for name in names {
            let list = feeds.iter().find_map(|feed| feed.endpoints.get(&name));
            let (Some(list), Some(known)) = (list, self.lists.get_mut(&name)) else { continue };
            if known != list {
                *known = list.clone();
                changed.push(name);
            }
        }
        changed
    }

    /// The endpoints of upstream `name`.
    pub fn list(&self, name: &Name) -> &[EndpointSpec] {
        self.lists.get(name).map(|list| &**list).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::{EndpointAddress, Fragment, Origin};

    fn list(ports: &[u16]) -> Arc<[EndpointSpec]> {
        let one = |port: &u16| EndpointSpec {
            address: EndpointAddress::Socket(([127, 0, 0, 1], *port).into()),
            weight: 1,
            priority: 0,
            zone: None,
            draining: false,
        };
        ports.iter().map(one).collect()
    }

    fn upstream(provider: &str) -> Upstream {
        Upstream {
            origin: Origin { provider: provider.into(), ..Origin::default() },
            endpoints: Vec::new(),
            discovered: true,
            balance: Default::default(),
            health: None,
            outlier: None,
            limits: Default::default(),
            protocol: Default::default(),
            tls: None,
            pool: Default::default(),
        }
    }

    fn feed(provider: &str, upstreams: &[(&str, &[u16])]) -> Feed {
        let declared =
            upstreams.iter().map(|(name, _)| ((*name).into(), Arc::new(upstream(provider))));
        let fragment = Fragment {
            provider: provider.into(),
            upstreams: Arc::new(declared.collect()),
            ..Fragment::default()
        };
        let endpoints = upstreams.iter().map(|(name, ports)| ((*name).into(), list(ports)));
        let endpoints = Arc::new(endpoints.collect());
        Feed { fragment: Some(Arc::new(fragment)), endpoints, accepted: true, ..Feed::default() }
    }

    fn config(feeds: &[Feed]) -> Config {
        let fragments: Vec<_> = feeds.iter().filter_map(|feed| feed.fragment.clone()).collect();
        crate::control::merge(&fragments).0
    }

    #[test]
    fn a_burst_is_one_change_since_the_oldest() {
        let (early, late) = (Instant::now(), Instant::now() + std::time::Duration::from_secs(1));
        let mut known = Feed::default();
        let mut burst = Burst::default();
        let first = Feed { since: Some(late), ..feed("k", &[("a", &[1])]) };
        burst.take(&mut known, first.into());
        let lists = [("a".into(), list(&[1, 2])), ("gone".into(), list(&[3]))].into();
        burst.take(&mut known, Said::Endpoints { lists, since: early });
        assert!(burst.anew);
        assert_eq!((burst.since, burst.endpoints), (Some(early), vec![Name::from("a")]));
        assert_eq!(known.endpoints.len(), 1, "what no upstream has is not kept");
        assert_eq!(known.endpoints[&Name::from("a")], list(&[1, 2]));
    }

    #[test]
    fn only_upstreams_whose_endpoints_are_others_hear_of_it() {
        let mut feeds = vec![feed("k", &[("a", &[1]), ("b", &[2])])];
        let mut discovered = Discovered::default();
        assert_eq!(discovered.follow(&config(&feeds), &feeds).len(), 2);
        assert!(discovered.follow(&config(&feeds), &feeds).is_empty());
        Arc::make_mut(&mut feeds[0].endpoints).insert("b".into(), list(&[2, 3]));
        let names = vec![Name::from("a"), Name::from("b"), Name::from("nobody")];
        assert_eq!(discovered.update(names, &feeds), [Name::from("b")]);
        assert_eq!(discovered.list(&"b".into()), &*list(&[2, 3]));
        assert!(discovered.list(&"nobody".into()).is_empty());
    }

    #[test]
    fn what_was_known_of_an_upstream_goes_with_it_and_lists_follow_their_provider() {
        let feeds = vec![feed("k", &[("a", &[1])]), feed("b", &[("a", &[9])])];
        let mut discovered = Discovered::default();
        discovered.follow(&config(&feeds), &feeds);
        assert_eq!(discovered.list(&"a".into()), &*list(&[9]), "b is merged before k");
        let feeds = vec![feed("k", &[])];
        assert!(discovered.follow(&config(&feeds), &feeds).is_empty());
        assert!(discovered.list(&"a".into()).is_empty());
    }
}
