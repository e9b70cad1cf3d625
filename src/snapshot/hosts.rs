//! Compiled virtual hosts, shared by snapshots for as long as nothing that they are made of changes:
//! an edit of one host costs the others a look.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::inner::Inner;
use super::{CompiledRoute, HostTable, Passage, RouteId, Snapshot};
use crate::ir::{Name, Problem, Route, VirtualHost};

/// A virtual host as requests see it.
pub struct CompiledHost {
    /// What it was compiled from.
    pub spec: Arc<VirtualHost>,
    /// Its routes, in the order of their declaration.
    pub routes: Box<[Arc<CompiledRoute>]>,
    /// Finds these.
    pub(super) table: Arc<HostTable>,
    /// What was found wrong with them.
    pub(super) problems: Vec<Problem>,
    /// The upstreams that they name, there or not.
    pub(super) uses: Vec<Name>,
    /// The routes of our own that they need.
    pub(super) inner: Vec<Inner>,
}

impl CompiledHost {
    /// Where TLS connections for it go, where they are not terminated here.
    pub fn passage(&self) -> Option<&Passage> {
        self.table.passage.as_deref()
    }

    /// Its routes and their declarations.
    pub fn declared(&self) -> impl Iterator<Item = (&CompiledRoute, &Route)> {
        self.routes.iter().map(|route| &**route).zip(&self.spec.routes)
    }
}

/// Those of `hosts` that can go on as they are in `previous`, by their place: the ones that were
/// compiled from this very declaration and name none of the upstreams in `changed`.
pub(super) fn standing<'p>(
    hosts: &[Arc<VirtualHost>],
    previous: Option<&'p Snapshot>,
    changed: &HashSet<Name>,
) -> Vec<Option<&'p Arc<CompiledHost>>> {
    let before = previous.map(|previous| &*previous.hosts).unwrap_or_default();
    let address = |host: &Arc<VirtualHost>| Arc::as_ptr(host).addr();
    let mut known: HashMap<usize, _, foldhash::fast::RandomState> = HashMap::default();
    known.extend(before.iter().map(|host| (address(&host.spec), host)));
    let stands = |host: &&Arc<CompiledHost>| {
        changed.is_empty() || !host.uses.iter().any(|name| changed.contains(name))
    };
    hosts.iter().map(|host| known.get(&address(host)).copied().filter(stands)).collect()
}

/// Routes by number. Those that go on keep theirs, for tables refer to them by it; others get
/// numbers that are free.
#[derive(Default)]
pub(super) struct Places {
    routes: Vec<Option<Arc<CompiledRoute>>>,
    /// Everything below is taken.
    next: usize,
}

impl Places {
    /// Puts a route where its number says.
    pub fn put(&mut self, route: &Arc<CompiledRoute>) {
        let index = route.id.index();
        if self.routes.len() <= index {
            self.routes.resize_with(index + 1, || None);
        }
        if let Some(place) = self.routes.get_mut(index) {
            *place = Some(route.clone());
        }
    }

    /// A number that nothing has. Whoever asks when all that stays has been put gets one that
    /// stays free for its route.
    pub fn number(&mut self) -> RouteId {
        while self.routes.get(self.next).is_some_and(Option::is_some) {
            self.next += 1;
        }
        let id = RouteId(u32::try_from(self.next).unwrap_or(u32::MAX));
        self.next += 1;
        id
    }

    /// All of them.
    pub fn finish(self) -> Box<[Option<Arc<CompiledRoute>>]> {
        self.routes.into()
    }
}
