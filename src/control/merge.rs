//! Fragments of several providers into one configuration.
//!
//! Independent of the order in which providers spoke: fragments are taken by provider name, and
//! of two things with one name the first wins and the other is reported.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use crate::ir::{
    Config, Fragment, HostPattern, Listener, Name, Origin, Problem, Upstream, VirtualHost,
};

/// Merges `fragments`. What comes from one fragment alone is shared with it.
pub fn merge(fragments: &[Arc<Fragment>]) -> (Config, Vec<Problem>) {
    let mut fragments: Vec<_> = fragments.iter().collect();
    fragments.sort_by(|a, b| a.provider.cmp(&b.provider));
    let mut config = Config::default();
    let mut problems = Vec::new();
    for fragment in &fragments {
        for (name, listener) in &fragment.listeners {
            add_listener(&mut config.listeners, name, listener, &mut problems);
        }
    }
    add_upstreams(&mut config.upstreams, &fragments, &mut problems);
    config.hosts = hosts(fragments.iter().flat_map(|fragment| &fragment.hosts));
    if let Some(settings) = fragments.iter().find_map(|fragment| fragment.settings.clone()) {
        config.settings = settings;
    }
    let settings = &mut config.settings;
    if settings.access_log.is_none() && !settings.no_access_log {
        settings.access_log = fragments.iter().find_map(|fragment| fragment.access_log.clone());
    }
    (config, problems)
}

/// Takes out of `before` whatever of `config` is the same there, so that what has not changed is
/// known by its address: it is neither compared nor compiled again.
pub fn share(config: &mut Config, before: &Config) {
    share_values(&mut config.listeners, &before.listeners);
    if config.upstreams == before.upstreams {
        config.upstreams.clone_from(&before.upstreams);
    } else {
        share_values(Arc::make_mut(&mut config.upstreams), &before.upstreams);
    }
    let mut old = before.hosts.iter().peekable();
    for host in &mut config.hosts {
        if old.next_if(|old| Arc::ptr_eq(old, host)).is_some() {
            continue;
        }
        while old.next_if(|old| order(old) < order(host)).is_some() {}
        // Several may be of one pattern and object.
        let alike = old.clone().take_while(|old| order(old) == order(host));
        if let Some(same) = { alike }.find(|old| Arc::ptr_eq(old, host) || ***old == **host) {
            host.clone_from(same);
        }
    }
}

fn share_values<T: Eq>(values: &mut BTreeMap<Name, Arc<T>>, before: &BTreeMap<Name, Arc<T>>) {
    let mut old = before.iter().peekable();
    for (name, value) in values {
        if old.next_if(|(_, old)| Arc::ptr_eq(old, value)).is_some() {
            continue;
        }
        while old.next_if(|(old, _)| *old < name).is_some() {}
        if let Some((_, same)) = old.next_if(|(old, same)| *old == name && *same == value) {
            value.clone_from(same);
        }
    }
}

fn add_listener(
    listeners: &mut BTreeMap<Name, Arc<Listener>>,
    name: &Name,
    listener: &Arc<Listener>,
    problems: &mut Vec<Problem>,
) {
    if let Some(first) = listeners.get(name) {
        problems.push(twice("listener", name, &first.origin, &listener.origin));
        return;
    }
    // Port 0 is "any": two of them are two ports.
    let same = |other: &&Arc<Listener>| other.bind == listener.bind && listener.bind.port() != 0;
    if let Some(first) = listeners.values().find(same) {
        let message = format!("listener '{name}': {} is taken by {}", listener.bind, first.origin);
        let hint = "give each listener an address and port of its own";
        problems.push(Problem::error(message).about(&listener.origin).hint(hint));
        return;
    }
    listeners.insert(name.clone(), listener.clone());
}

fn add_upstreams(
    upstreams: &mut Arc<BTreeMap<Name, Arc<Upstream>>>,
    fragments: &[&Arc<Fragment>],
    problems: &mut Vec<Problem>,
) {
    for fragment in fragments.iter().filter(|fragment| !fragment.upstreams.is_empty()) {
        if upstreams.is_empty() {
            upstreams.clone_from(&fragment.upstreams);
            continue;
        }
        let upstreams = Arc::make_mut(upstreams);
        for (name, upstream) in &*fragment.upstreams {
            match upstreams.entry(name.clone()) {
                Entry::Vacant(place) => {
                    place.insert(upstream.clone());
                }
                Entry::Occupied(first) => {
                    problems.push(twice("upstream", name, &first.get().origin, &upstream.origin));
                }
            }
        }
    }
}

fn twice(kind: &str, name: &Name, first: &Origin, second: &Origin) -> Problem {
    let message = format!("{kind} '{name}' is declared twice; {first} is used");
    Problem::error(message).about(second).hint("rename one of the two")
}

/// Hosts in their order. Routes of one host on the same listeners come together, in order.
fn hosts<'f>(all: impl Iterator<Item = &'f Arc<VirtualHost>>) -> Vec<Arc<VirtualHost>> {
    let mut all: Vec<&Arc<VirtualHost>> = all.collect();
    // Stable: there may be a hundred thousand, and those of one pattern are few.
    all.sort_by(|a, b| a.pattern.cmp(&b.pattern));
    if all.is_sorted_by(|a, b| a.pattern < b.pattern) {
        // No two of one pattern: there is nothing to bring together.
        return all.into_iter().cloned().collect();
    }
    let mut hosts: Vec<Arc<VirtualHost>> = Vec::with_capacity(all.len());
    for host in all {
        let same = |first: &&mut Arc<VirtualHost>| first.listeners == host.listeners;
        let of_pattern = hosts.iter_mut().rev().take_while(|first| first.pattern == host.pattern);
        match { of_pattern }.find(same) {
            Some(first) => {
                let first = Arc::make_mut(first);
                if first.client_auth.is_none() {
                    first.client_auth.clone_from(&host.client_auth);
                }
                if first.tls_passthrough.is_none() {
                    first.tls_passthrough.clone_from(&host.tls_passthrough);
                }
                first.rules.extend(host.rules.iter().cloned());
                first.routes.extend(host.routes.iter().cloned());
            }
            None => hosts.push(host.clone()),
        }
    }
    hosts.sort_by(|a, b| order(a).cmp(&order(b)));
    hosts
}

fn order(host: &VirtualHost) -> (&HostPattern, &Origin) {
    (&host.pattern, &host.origin)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::{
        Action, ListenerSelector, PathMatch, Route, RouteMatch, Timeouts, TlsPassthrough,
    };

    fn fragment(provider: &str, listener: &str, bind: &str, host: &str) -> Arc<Fragment> {
        let origin = Origin { provider: provider.into(), ..Origin::default() };
        let listener_spec = Listener {
            origin: origin.clone(),
            bind: bind.parse().expect("an address"),
            public_port: None,
            tls: None,
            proxy_protocol: Vec::new(),
            trusted_proxies: Vec::new(),
            encoded_slashes: Default::default(),
            forwarding: Default::default(),
            protocols: Default::default(),
            http2: Default::default(),
        };
        Arc::new(Fragment {
            provider: provider.into(),
            listeners: [(listener.into(), Arc::new(listener_spec))].into(),
            hosts: vec![Arc::new(VirtualHost {
                pattern: HostPattern::parse(host).expect("a host"),
                listeners: ListenerSelector::All,
                client_auth: None,
                tls_passthrough: None,
                rules: Vec::new(),
                routes: Vec::new(),
                origin,
            })],
            ..Fragment::default()
        })
    }

    #[test]
    fn the_order_of_fragments_does_not_matter() {
        let a = fragment("a", "web", "127.0.0.1:1", "x.example");
        let b = fragment("b", "other", "127.0.0.1:2", "y.example");
        assert_eq!(merge(&[a.clone(), b.clone()]).0, merge(&[b, a]).0);
    }

    #[test]
    fn a_hundred_thousand_hosts_are_merged_in_no_time_and_in_order() {
        let mut many = (*fragment("a", "web", "127.0.0.1:1", "x.example")).clone();
        let host = many.hosts.pop().expect("one");
        many.hosts = (0..100_000)
            .map(|number| {
                let name = format!("h{}.example", number * 7 % 100_000);
                let pattern = HostPattern::parse(&name).expect("a host");
                Arc::new(VirtualHost { pattern, ..(*host).clone() })
            })
            .collect();
        let started = std::time::Instant::now();
        let (config, _) = merge(&[Arc::new(many)]);
        let took = started.elapsed();
        eprintln!("merged in {took:?}");
        assert!(took < std::time::Duration::from_secs(5), "took {took:?}");
        assert_eq!(config.hosts.len(), 100_000);
        assert!(config.hosts.is_sorted_by(|a, b| order(a) <= order(b)));
    }

    #[test]
    fn routes_of_one_host_come_together_in_order_unless_their_listeners_differ() {
        let route = |name: &str| Route {
            name: name.into(),
            origin: Arc::default(),
            guard: Default::default(),
            cors: None,
            matches: RouteMatch::of(PathMatch::Prefix("/".into())).into(),
            auth: None,
            error_pages: None,
            rules: Vec::new(),
            filters: Vec::new(),
            action: Action::Forward(Vec::new()),
            timeouts: Default::default(),
            retry: Default::default(),
            hedge: None,
            https_redirect: None,
            hsts: None,
            body_limit: None,
            bodies: Default::default(),
            sticky: false,
            access_log: true,
            rule: None,
        };
        let with = |provider: &str, bind: &str, routes: &[&str], listeners: ListenerSelector| {
            let mut said = (*fragment(provider, provider, bind, "x.example")).clone();
            let host = Arc::make_mut(&mut said.hosts[0]);
            host.routes = routes.iter().map(|name| route(name)).collect();
            host.listeners = listeners;
            Arc::new(said)
        };
        let named = ListenerSelector::Named(Arc::new(["a".into()].into()));
        let (config, _) = merge(&[
            with("b", "127.0.0.1:2", &["3"], ListenerSelector::All),
            with("a", "127.0.0.1:1", &["1", "2"], ListenerSelector::All),
            with("c", "127.0.0.1:3", &["4"], named),
        ]);
        let names: Vec<Vec<_>> = config
            .hosts
            .iter()
            .map(|host| host.routes.iter().map(|route| route.name.as_str()).collect())
            .collect();
        assert_eq!(names, [vec!["1", "2", "3"], vec!["4"]]);
    }

    #[test]
    fn of_a_host_that_several_declare_the_first_says_where_its_tls_goes() {
        let with = |provider: &str, bind: &str, upstream: Option<&str>| {
            let mut said = (*fragment(provider, provider, bind, "x.example")).clone();
            let to = |name: &str| TlsPassthrough::new(name.into(), &Timeouts::default());
            Arc::make_mut(&mut said.hosts[0]).tls_passthrough = upstream.map(to).map(Box::new);
            Arc::new(said)
        };
        let (config, _) = merge(&[
            with("c", "127.0.0.1:3", Some("late")),
            with("b", "127.0.0.1:2", Some("vault")),
            with("a", "127.0.0.1:1", None),
        ]);
        let [host] = config.hosts.as_slice() else { panic!("{:?}", config.hosts) };
        let upstream =
            host.tls_passthrough.as_ref().map(|passthrough| passthrough.upstream.as_str());
        assert_eq!(upstream, Some("vault"));
    }

    #[test]
    fn of_two_listeners_with_one_name_or_address_the_first_wins() {
        let a = fragment("a", "web", "127.0.0.1:1", "x.example");
        let same_name = fragment("b", "web", "127.0.0.1:2", "y.example");
        let same_address = fragment("c", "late", "127.0.0.1:1", "z.example");
        let (config, problems) = merge(&[same_address, same_name, a]);
        assert_eq!(config.listeners.len(), 1);
        assert_eq!(config.listeners.values().next().map(|l| l.bind.port()), Some(1));
        assert_eq!(problems.len(), 2);
    }
}
