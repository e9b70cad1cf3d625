//! Names that objects of a cluster lead to, and what DNS makes of them.

use std::net::{IpAddr, Ipv4Addr};

use serde_json::json;

use super::annotations::annotated;
use super::{World, shop};
use crate::harness::*;

/// Nobody is there (RFC 5737).
const ELSEWHERE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

#[tokio::test]
async fn no_answer_of_dns_leads_to_this_machine() {
    let inner = Server::echo().await;
    let (port, dns) = (inner.address().port(), Dns::start().await);
    for name in ["rebound.example", "auth.example"] {
        dns.addresses(name, 300, &[inner.address().ip()]);
    }
    dns.addresses("both.example", 300, &[inner.address().ip(), ELSEWHERE]);
    let app = Backend::saying("web").await;
    let cluster = shop(app.address()).await;
    for name in ["rebound", "both"] {
        let mut external = service(name);
        external["spec"] = json!({
            "type": "ExternalName", "externalName": format!("{name}.example"),
            "ports": [{ "port": port }],
        });
        cluster.put(external);
        let mut object = ingress(name, &format!("{name}.test"), name);
        let path = &mut object["spec"]["rules"][0]["http"]["paths"][0];
        path["backend"]["service"]["port"] = json!({ "number": port });
        cluster.put(object);
    }
    let url = format!("http://auth.example:{port}/");
    cluster.put(annotated("asks.test", "/", &[("auth-url", &url)]));
    let config = format!("workers: 2\nresolver: {{ nameservers: [\"{}\"] }}\n", dns.address());
    let world = World::beside(&config, &cluster, &["--allow-external-name"], &[]);
    world.ready().await;
    world.serves("rebound.test", 503, "").await;
    assert_ne!(get(world.http, "asks.test", "/").await.status, 200);
    assert_eq!(inner.requests(), 0, "nobody got there");
    world.proxy.logs("DNS leads to this machine").await;
    cluster.put(ingress("more", "more.test", "web"));
    world.serves("more.test", 200, "web").await;
    let told = world.proxy.stderr().matches("DNS leads to this machine").count();
    assert_eq!(told, 3, "once for each name, not with each change of something else");
    let upstreams = world.proxy.admin("/api/upstreams").await.text();
    assert!(upstreams.contains(&format!("{ELSEWHERE}:{port}")), "{upstreams}");
    assert!(!upstreams.contains(&inner.address().to_string()), "{upstreams}");
}
