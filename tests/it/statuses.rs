//! Whose addresses stand in the status of an Ingress, on a real API server.

use k8s_openapi::api::networking::v1::{Ingress, IngressClass};
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::harness::*;

const OBJECTS: &str = r#"
apiVersion: v1
kind: Service
metadata: { name: web }
spec: { ports: [ { port: 80 } ] }
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: { name: moved }
spec: { ingressClassName: "@namespace@", defaultBackend: { service: { name: web, port: { number: 80 } } } }
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: { name: taken }
spec: { ingressClassName: "@namespace@", defaultBackend: { service: { name: web, port: { number: 80 } } } }
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: { name: stays }
spec: { ingressClassName: "@namespace@", rules: [ { host: stays.example } ] }
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: { name: theirs }
spec: { ingressClassName: elsewhere, defaultBackend: { service: { name: web, port: { number: 80 } } } }
"#;

fn addresses(ingress: &Ingress) -> Vec<String> {
    let status = ingress.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let entries = status.and_then(|status| status.ingress.as_ref()).into_iter().flatten();
    entries.filter_map(|entry| entry.ip.clone()).collect()
}

#[tokio::test]
async fn what_we_wrote_goes_with_the_class_and_what_others_wrote_stays() {
    let cluster = Cluster::shared().await;
    let space = cluster.namespace("statuses").await;
    let controller = Controller::start(&space).await;
    space.apply(OBJECTS).await;
    let ours = vec![controller.http.ip().to_string()];
    let says = async |name: &str, wanted: &[String]| {
        space
            .wait::<Ingress>(name, &format!("has {wanted:?}"), |one| addresses(one) == wanted)
            .await
    };
    for name in ["moved", "taken", "stays"] {
        says(name, &ours).await;
    }
    let ingresses: Api<Ingress> = space.api();
    let by =
        |manager: &str| PatchParams { field_manager: Some(manager.into()), ..Default::default() };
    let status = |ips: &[String]| {
        let entries: Vec<Value> = ips.iter().map(|ip| json!({ "ip": ip })).collect();
        Patch::Merge(json!({ "status": { "loadBalancer": { "ingress": entries } } }))
    };
    // By somebody whose address is ours: a load balancer may stand before two controllers.
    let written = ingresses.patch_status("theirs", &by("someone"), &status(&ours)).await;
    written.expect("it is written");
    let class = |name: &str| Patch::Merge(json!({ "spec": { "ingressClassName": name } }));
    ingresses.patch("moved", &by("someone"), &class("elsewhere")).await.expect("patched");
    says("moved", &[]).await;
    // Another controller is faster than we are.
    let elsewhere = ["192.0.2.9".to_owned()];
    ingresses.patch("taken", &by("someone"), &class("elsewhere")).await.expect("patched");
    let written = ingresses.patch_status("taken", &by("someone"), &status(&elsewhere)).await;
    written.expect("it is written");
    // It comes back, and the class goes to another controller.
    ingresses.patch("moved", &by("someone"), &class(&space.name)).await.expect("patched");
    says("moved", &ours).await;
    let classes: Api<IngressClass> = Api::all(space.client());
    classes.delete(&space.name, &Default::default()).await.expect("deleted");
    let other = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "IngressClass",
        "metadata": { "name": space.name }, "spec": { "controller": "test.dev/another" },
    });
    let other = serde_json::from_value(other).expect("a class");
    classes.create(&Default::default(), &other).await.expect("created");
    for name in ["moved", "stays"] {
        says(name, &[]).await;
    }
    let now = async |name: &str| addresses(&ingresses.get(name).await.expect("it is there"));
    assert_eq!(now("theirs").await, ours, "another wrote them");
    assert_eq!(now("taken").await, elsewhere);
    classes.delete(&space.name, &Default::default()).await.expect("deleted");
}
