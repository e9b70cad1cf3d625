//! What is configured, printed and written in files: that it all says the same.

use std::collections::BTreeMap;

use super::super::plan::PLANS;
use super::super::*;
use super::shop;
use crate::ir::{Action, EndpointAddress, EndpointSpec, Fragment, Route, SecretBytes, Severity};
use crate::provider::file::{self, Inputs};

#[test]
fn fixed_ports_are_ten_apart_or_do_not_fit() {
    let options = ShopOptions { first_port: Some(65_500), ..ShopOptions::default() };
    assert!(matches!(Shop::start(options), Err(ShopError::Ports(65_500))));
}

/// What a file of this repository says; it must say it without an error.
fn translate(path: &str, text: &str) -> Fragment {
    let inputs = Inputs::from_text(path, text, BTreeMap::new());
    let translation = file::translate(&inputs);
    let faulty = translation.problems.iter().any(|problem| problem.severity == Severity::Error);
    assert!(!faulty, "{}", file::render(&translation.problems, &inputs, false));
    translation.fragment
}

fn repository_file(path: &str) -> String {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(path).expect("the file is there")
}

#[test]
fn the_configuration_in_deploy_is_that_of_the_demo_with_fixed_ports() {
    let path = "deploy/shop/portcullis.yaml";
    let filed = translate(path, &repository_file(path));
    let shop = shop();
    let demo = fragment(&shop, &DemoListeners::new("", SecretBytes::new(*b"")));
    let routes = |fragment: &Fragment| -> Vec<_> {
        let routes = fragment.hosts.iter().flat_map(|host| host.routes.clone());
        let plain = |route: Route| Route { origin: Default::default(), ..route };
        routes.map(plain).collect()
    };
    assert_eq!(routes(&filed), routes(&demo));
    let log = |fragment: &Fragment| fragment.settings.clone().and_then(|s| s.access_log);
    assert_eq!(log(&filed), log(&demo));
    for (index, plan) in (0u16..).zip(&PLANS) {
        let endpoints = (0u16..).zip(plan.endpoints).map(|(number, speed)| {
            let port = args::FIRST_PORT + 10 * index + number;
            let address = EndpointAddress::Socket(([127, 0, 0, 1], port).into());
            EndpointSpec { address, weight: speed.weight, priority: 0, zone: None, draining: false }
        });
        assert_eq!(filed.upstreams[plan.name].endpoints, endpoints.collect::<Vec<_>>());
    }
}

#[test]
fn the_configuration_in_the_readme_is_one() {
    let readme = repository_file("README.md");
    let blocks = readme.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next());
    // The others are of the tools of a cluster.
    let blocks: Vec<&str> = blocks.filter(|block| block.contains("hosts:")).collect();
    assert!(!blocks.is_empty(), "the README shows a configuration");
    for block in blocks {
        assert!(!translate("README.md", block).hosts.is_empty());
    }
}

#[test]
fn the_configuration_leads_to_every_endpoint_and_only_to_upstreams_that_exist() {
    let shop = shop();
    let listeners = DemoListeners::new("chain", SecretBytes::new(*b"key"));
    let fragment = fragment(&shop, &listeners);
    assert_eq!(fragment.listeners["web"].bind.port(), 8080);
    let tls = fragment.listeners["websecure"].tls.as_ref().expect("TLS");
    assert_eq!(tls.certificates[0].chain.as_deref(), Some("chain"));
    let mut used = Vec::new();
    for route in &fragment.hosts[0].routes {
        if let Action::Forward(backends) = &route.action {
            used.extend(backends.iter().map(|backend| backend.upstream.clone()));
        }
    }
    for service in shop.services() {
        let upstream = &fragment.upstreams[service.name];
        let addresses: Vec<_> = upstream.endpoints.iter().map(|e| e.address.clone()).collect();
        let expected: Vec<_> =
            service.endpoints.iter().map(|e| EndpointAddress::Socket(e.address)).collect();
        assert_eq!(addresses, expected);
        assert!(used.iter().any(|name| name.as_str() == service.name), "{}", service.name);
    }
    assert!(used.iter().all(|name| fragment.upstreams.contains_key(name)));
}

#[test]
fn the_guide_names_the_ports_it_is_given() {
    let mut listeners = DemoListeners::new("", SecretBytes::new(*b""));
    listeners.address = [0, 0, 0, 0].into();
    (listeners.http, listeners.https) = (1111, 2222);
    let shop = shop();
    let greeting = greeting(&shop, &listeners);
    assert!(greeting.contains("http://127.0.0.1:1111/"), "{greeting}");
    assert!(greeting.contains("https://127.0.0.1:2222/"), "{greeting}");
    assert!(greeting.contains("http://127.0.0.1:9900/metrics"), "{greeting}");
    assert!(greeting.contains("\n6. ") && !greeting.contains("\n7. "), "{greeting}");
    for endpoint in shop.services().iter().flat_map(|service| &service.endpoints) {
        assert!(greeting.contains(&endpoint.address.to_string()), "{greeting}");
    }
}

#[test]
fn options_without_values_are_the_ports_by_habit() {
    #[derive(clap::Parser)]
    struct Command {
        #[command(flatten)]
        demo: DemoArgs,
    }
    let parse = |args: &[&str]| <Command as clap::Parser>::try_parse_from(args);
    let demo = parse(&["demo"]).expect("no option is needed").demo;
    let (given, habit) = (SecretBytes::new(*b"k"), SecretBytes::new(*b"k"));
    let listeners = demo.listeners("chain", given);
    assert_eq!(format!("{listeners:?}"), format!("{:?}", DemoListeners::new("chain", habit)));
    assert!(!demo.backends_only);
    let demo = parse(&["demo", "--backends-only", "--address", "::1"]).expect("known").demo;
    assert!(demo.backends_only && demo.address.is_ipv6());
}
