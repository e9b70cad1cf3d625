//! What is written back to the cluster: statuses and events, and by whom.

use rustix::process::{Pid, Signal};
use serde_json::{Value, json};

use super::{TAKE_OVER, World, shop};
use crate::harness::*;

fn addresses(object: &Value) -> Value {
    object.pointer("/status/loadBalancer/ingress").cloned().unwrap_or_default()
}

fn holder(leases: &[Value]) -> &str {
    let lease = leases.first().and_then(|lease| lease.pointer("/spec/holderIdentity"));
    lease.and_then(Value::as_str).unwrap_or_default()
}

#[tokio::test]
async fn statuses_are_written_once_and_taken_back_at_the_end() {
    let app = Backend::saying("web").await;
    let cluster = shop(app.address()).await;
    let mut balancer = service("lb");
    balancer["spec"]["type"] = json!("LoadBalancer");
    balancer["status"] = json!({ "loadBalancer": { "ingress": [{ "ip": "192.0.2.7" }] } });
    cluster.put(balancer);
    let mut other = ingress("other", "other.example", "web");
    other["spec"]["ingressClassName"] = json!("someone-else");
    cluster.put(other);
    let mut world = World::start(&cluster, &["--publish-service=shop/lb"]).await;
    let published = json!([{ "ip": "192.0.2.7" }]);
    cluster
        .until("the status is written", "ingresses", |all| {
            all.iter().any(|ingress| addresses(ingress) == published)
        })
        .await;
    cluster.put(ingress("late", "late.example", "web"));
    cluster
        .until("that of a new one, too", "ingresses", |all| {
            all.iter().filter(|ingress| addresses(ingress) == published).count() == 2
        })
        .await;
    let other = cluster.get("ingresses", "shop", "other").expect("it is there");
    assert_eq!(addresses(&other), Value::Null, "that of another class is another's");
    let written = || cluster.asked().iter().filter(|(method, _)| method == "PATCH").count();
    assert_eq!(written(), 2, "each once");
    // Someone else's hand is corrected.
    let mut wrong = cluster.get("ingresses", "shop", "late").expect("it is there");
    wrong["status"] = json!({ "loadBalancer": { "ingress": [{ "ip": "203.0.113.1" }] } });
    cluster.put(wrong);
    cluster
        .until("it is put right", "ingresses", |all| {
            all.iter().filter(|ingress| addresses(ingress) == published).count() == 2
        })
        .await;
    let metrics = world.proxy.metrics().await;
    assert_eq!(metrics.sum("portcullis_kubernetes_leader", &[]), 1.0);
    let success = [("result", "success")];
    assert!(metrics.sum("portcullis_kubernetes_status_updates_total", &success) >= 3.0);
    assert!(!holder(&cluster.all("leases")).is_empty());

    world.proxy.signal(Signal::TERM);
    assert!(world.proxy.exited(STEP).await.success());
    let all = cluster.all("ingresses");
    assert!(all.iter().all(|ingress| addresses(ingress) != published), "{all:?}");
    assert_eq!(holder(&cluster.all("leases")), "", "the Lease is given back");
}

#[tokio::test]
async fn statuses_stay_when_one_process_follows_another() {
    let app = Backend::saying("web").await;
    let cluster = shop(app.address()).await;
    let config = "workers: 2\ndrain: { grace: 0s }\n";
    let mut world = World::beside(config, &cluster, &["--publish-status-address=192.0.2.7"], &[]);
    world.ready().await;
    let published = json!([{ "ip": "192.0.2.7" }]);
    let shows = |all: &[Value]| all.iter().any(|ingress| addresses(ingress) == published);
    cluster.until("the status is written", "ingresses", shows).await;
    let pid = world.proxy.hand_over().await;
    assert!(world.proxy.exited(STEP).await.success());
    let written = || cluster.asked().iter().filter(|(method, _)| method == "PATCH").count();
    assert_eq!(written(), 1, "nobody took the address away meanwhile");
    cluster.until("the second leads", "leases", |leases| !holder(leases).is_empty()).await;
    // Now nobody is left.
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).expect("a pid");
    rustix::process::kill_process(pid, Signal::TERM).expect("it runs");
    cluster.until("it takes the address away", "ingresses", |all| !shows(all)).await;
}

#[tokio::test]
async fn another_replica_takes_over_from_a_leader_that_dies() {
    let app = Backend::saying("web").await;
    let cluster = shop(app.address()).await;
    for name in ["one", "two"] {
        cluster.put(json!({
            "apiVersion": "v1", "kind": "Pod", "status": { "phase": "Running" },
            "metadata": { "name": name, "namespace": "edge", "labels": { "app": "portcullis" } },
        }));
    }
    let args = ["--publish-status-address=192.0.2.1"];
    let as_pod = |name: &'static str| {
        World::spawn(&cluster, &args, &[("POD_NAME", name), ("POD_NAMESPACE", "edge")])
    };
    let mut one = as_pod("one");
    one.ready().await;
    cluster.until("the first leads", "leases", |all| holder(all) == "one").await;
    let mut two = as_pod("two");
    two.ready().await;
    let published = json!([{ "ip": "192.0.2.1" }]);
    cluster
        .until("the status is written", "ingresses", |all| {
            all.iter().all(|ingress| addresses(ingress) == published)
        })
        .await;
    one.proxy.signal(Signal::KILL);
    one.proxy.exited(STEP).await;
    eventually(TAKE_OVER, "the second leads", async || holder(&cluster.all("leases")) == "two")
        .await;
    cluster.put(ingress("late", "late.example", "web"));
    cluster
        .until("the second writes", "ingresses", |all| {
            all.iter().all(|ingress| addresses(ingress) == published)
        })
        .await;
    // As far as is known the first still serves: its addresses stay.
    two.proxy.signal(Signal::TERM);
    assert!(two.proxy.exited(STEP).await.success());
    let all = cluster.all("ingresses");
    assert!(all.iter().all(|ingress| addresses(ingress) == published), "{all:?}");
    assert_eq!(holder(&cluster.all("leases")), "");
}

#[tokio::test]
async fn what_is_wrong_with_an_ingress_is_told_on_it_once() {
    let app = Backend::saying("web").await;
    let cluster = shop(app.address()).await;
    cluster.put(ingress("wrong", "wrong.example", "nobody"));
    let world = World::start(&cluster, &[]).await;
    let about = |event: &Value| event["involvedObject"]["name"] == "wrong";
    cluster.until("it is told", "events", |all| all.iter().any(about)).await;
    let event = cluster.all("events").into_iter().find(about).expect("it was there");
    assert_eq!(event["type"], "Warning");
    assert!(event["message"].as_str().is_some_and(|text| text.contains("nobody")), "{event}");
    let uid = &cluster.get("ingresses", "shop", "wrong").expect("it is there")["metadata"]["uid"];
    assert_eq!(&event["involvedObject"]["uid"], uid);
    // Other changes are no reason to tell it again.
    cluster.put(ingress("late", "late.example", "web"));
    world.serves("late.example", 200, "web").await;
    let told = cluster.all("events").len();
    let posts = cluster.asked().iter().filter(|(method, _)| method == "POST").count();
    assert_eq!(posts, told + 1, "each event once, and the Lease");
}
