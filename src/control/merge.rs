//! Fragments of several providers into one configuration.
//!
//! Independent of the order in which providers spoke: fragments are taken by provider name, and
//! of two things with one name the first wins and the other is reported.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::ir::{
    Config, Fragment, HostPattern, Listener, ListenerSelector, Name, Origin, Problem, VirtualHost,
};

/// Merges `fragments`.
pub fn merge(fragments: &[Arc<Fragment>]) -> (Config, Vec<Problem>) {
    let mut fragments: Vec<_> = fragments.iter().collect();
    fragments.sort_by(|a, b| a.provider.cmp(&b.provider));
    let mut config = Config::default();
    let mut problems = Vec::new();
    let mut places = Places::new();
    for fragment in &fragments {
        for (name, listener) in &fragment.listeners {
            add_listener(&mut config.listeners, name, listener, &mut problems);
        }
        for (name, upstream) in &fragment.upstreams {
            match config.upstreams.entry(name.clone()) {
                Entry::Vacant(place) => {
                    place.insert(upstream.clone());
                }
                Entry::Occupied(first) => {
                    problems.push(twice("upstream", name, &first.get().origin, &upstream.origin));
                }
            }
        }
        for host in &fragment.hosts {
            add_host(&mut config.hosts, &mut places, host);
        }
    }
    config.hosts.sort_by(|a, b| order(a).cmp(&order(b)));
    if let Some(settings) = fragments.iter().find_map(|fragment| fragment.settings.clone()) {
        config.settings = settings;
    }
    (config, problems)
}

fn add_listener(
    listeners: &mut BTreeMap<Name, Listener>,
    name: &Name,
    listener: &Listener,
    problems: &mut Vec<Problem>,
) {
    if let Some(first) = listeners.get(name) {
        problems.push(twice("listener", name, &first.origin, &listener.origin));
        return;
    }
    // Port 0 is "any": two of them are two ports.
    let same = |other: &&Listener| other.bind == listener.bind && listener.bind.port() != 0;
    if let Some(first) = listeners.values().find(same) {
        let message = format!("listener '{name}': {} is taken by {}", listener.bind, first.origin);
        let hint = "give each listener an address and port of its own";
        problems.push(Problem::error(message).about(&listener.origin).hint(hint));
        return;
    }
    listeners.insert(name.clone(), listener.clone());
}

fn twice(kind: &str, name: &Name, first: &Origin, second: &Origin) -> Problem {
    let message = format!("{kind} '{name}' is declared twice; {first} is used");
    Problem::error(message).about(second).hint("rename one of the two")
}

/// Where in the list a host stands. There may be a hundred thousand.
type Places<'a> = HashMap<(&'a HostPattern, &'a ListenerSelector), usize>;

/// Routes of one host on the same listeners come together, in order.
fn add_host<'a>(hosts: &mut Vec<VirtualHost>, places: &mut Places<'a>, host: &'a VirtualHost) {
    let place = *places.entry((&host.pattern, &host.listeners)).or_insert(hosts.len());
    match hosts.get_mut(place) {
        Some(first) => {
            first.rules.extend(host.rules.iter().cloned());
            first.routes.extend(host.routes.iter().cloned());
        }
        None => hosts.push(host.clone()),
    }
}

fn order(host: &VirtualHost) -> (&HostPattern, &Origin) {
    (&host.pattern, &host.origin)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::{Action, PathMatch, Route, RouteMatch};
    fn fragment(provider: &str, listener: &str, bind: &str, host: &str) -> Arc<Fragment> {
        let origin = Origin { provider: provider.into(), ..Origin::default() };
        let listener_spec = Listener {
            origin: origin.clone(),
            bind: bind.parse().expect("an address"),
            tls: None,
            proxy_protocol: Vec::new(),
            trusted_proxies: Vec::new(),
            protocols: Default::default(),
            http2: Default::default(),
        };
        Arc::new(Fragment {
            provider: provider.into(),
            listeners: [(listener.into(), listener_spec)].into(),
            hosts: vec![VirtualHost {
                pattern: HostPattern::parse(host).expect("a host"),
                listeners: ListenerSelector::All,
                rules: Vec::new(),
                routes: Vec::new(),
                origin,
            }],
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
            .map(|number| VirtualHost {
                pattern: HostPattern::parse(&format!("h{}.example", number * 7 % 100_000))
                    .expect("a host"),
                ..host.clone()
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
            origin: Origin::default(),
            guard: Default::default(),
            cors: None,
            matches: RouteMatch::of(PathMatch::Prefix("/".into())),
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
            access_log: true,
        };
        let with = |provider: &str, bind: &str, routes: &[&str], listeners: ListenerSelector| {
            let mut said = (*fragment(provider, provider, bind, "x.example")).clone();
            said.hosts[0].routes = routes.iter().map(|name| route(name)).collect();
            said.hosts[0].listeners = listeners;
            Arc::new(said)
        };
        let named = ListenerSelector::Named(["a".into()].into());
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
