//! What dashboards and others ask Prometheus who were made for ingress-nginx.

use super::{SETTLE, World, have_data};
use crate::harness::*;

/// The labels by which the main dashboard picks a controller.
const WHO: &str = r#"controller_pod=~"edge-1",controller_class=~"k8s.io/ingress-nginx",controller_namespace=~"edge""#;
/// Those, and an Ingress.
const RULE: &str = r#"exported_namespace=~"shop",ingress=~"shop""#;

/// The queries: of the main dashboard, of the one on the handling of requests, of alerts that are
/// passed around, and of progressive delivery. `@` stands for the prefix, `WHO` and `RULE` for
/// the labels above.
const QUERIES: [&str; 44] = [
    // Main dashboard.
    "round(sum(irate(@requests{WHO,RULE}[2m])), 0.001)",
    r#"sum(avg_over_time(@nginx_process_connections{WHO,state="active"}[2m]))"#,
    r#"sum(rate(@requests{WHO,RULE,status!~"[4-5].*"}[2m])) / sum(rate(@requests{WHO,RULE}[2m]))"#,
    "avg(irate(@success{WHO}[1m])) * 60",
    "count(@config_last_reload_successful{WHO} == 0) OR vector(0)",
    "count(@config_last_reload_successful{WHO} == 1)",
    "round(sum(irate(@requests{WHO,RULE}[2m])) by (ingress), 0.001)",
    r#"sum(rate(@requests{WHO,RULE,status!~"[4-5].*"}[2m])) by (ingress) / sum(rate(@requests{WHO,RULE}[2m])) by (ingress)"#,
    "sum(irate(@request_size_sum{WHO}[2m]))",
    "- sum(irate(@response_size_sum{WHO}[2m]))",
    "avg(@nginx_process_resident_memory_bytes{WHO})",
    "avg(@nginx_process_virtual_memory_bytes{WHO})",
    "sum(rate(@nginx_process_cpu_seconds_total{WHO}[2m]))",
    r#"histogram_quantile(0.50, sum(rate(@request_duration_seconds_bucket{ingress!="",WHO,RULE}[2m])) by (le, ingress))"#,
    r#"histogram_quantile(0.90, sum(rate(@request_duration_seconds_bucket{ingress!="",WHO,RULE}[2m])) by (le, ingress))"#,
    r#"histogram_quantile(0.99, sum(rate(@request_duration_seconds_bucket{ingress!="",WHO,RULE}[2m])) by (le, ingress))"#,
    "sum(irate(@request_size_sum{WHO,RULE}[2m])) by (ingress)",
    "sum(irate(@response_size_sum{WHO,RULE}[2m])) by (ingress)",
    "avg(@ssl_expire_time_seconds{WHO}) by (host) - time()",
    "sum(increase(@request_duration_seconds_bucket{WHO,RULE}[2m])) by (le)",
    // Handling of requests.
    "histogram_quantile(0.5, sum by (le)(rate(@request_duration_seconds_bucket{RULE}[1m])))",
    "histogram_quantile(0.95, sum by (le)(rate(@request_duration_seconds_bucket{RULE}[1m])))",
    "histogram_quantile(0.5, sum by (le)(rate(@response_duration_seconds_bucket{RULE}[1m])))",
    "histogram_quantile(0.95, sum by (le)(rate(@response_duration_seconds_bucket{RULE}[1m])))",
    "histogram_quantile(0.99, sum by (le)(rate(@header_duration_seconds_bucket{RULE}[1m])))",
    "histogram_quantile(0.99, sum by (le)(rate(@connect_duration_seconds_bucket{RULE}[1m])))",
    "sum by (path)(rate(@request_duration_seconds_count{RULE}[1m]))",
    "histogram_quantile(.5, sum by (le, path)(rate(@response_duration_seconds_bucket{RULE}[1m])))",
    r#"sum by (path)(rate(@request_duration_seconds_count{RULE,status=~"[4-5].*"}[1m])) / sum by (path)(rate(@request_duration_seconds_count{RULE}[1m]))"#,
    "sum by (path)(rate(@response_duration_seconds_sum{RULE}[1m]))",
    "sum by (path)(rate(@response_size_sum{RULE}[1m])) / sum by (path)(rate(@response_size_count{RULE}[1m]))",
    "sum by (path, method, status)(rate(@requests{RULE}[1m]))",
    "histogram_quantile(0.9, sum by (le)(rate(@bytes_sent_bucket{RULE}[1m])))",
    // Connections and the process.
    "sum(@nginx_process_connections{WHO}) by (state)",
    "sum(rate(@nginx_process_connections_total{WHO}[1m])) by (state)",
    "sum(rate(@nginx_process_requests_total{WHO}[1m]))",
    "time() - @nginx_process_oldest_start_time_seconds{WHO}",
    "@nginx_process_num_procs{WHO} + rate(@nginx_process_write_bytes_total{WHO}[1m]) + rate(@nginx_process_read_bytes_total{WHO}[1m])",
    // Alerts.
    "time() - @config_last_reload_successful_timestamp_seconds{WHO} < 86400",
    r#"100 * sum(rate(@requests{status=~"5.+"}[1m])) by (host) / sum(rate(@requests[1m])) by (host) > 5"#,
    "sum(@orphan_ingress == 1) by (ingress, type)",
    "@leader_election_status{WHO} == 1",
    // Flagger and Argo Rollouts ask for the canary like this.
    r#"sum(rate(@requests{exported_namespace="shop",ingress="shop",canary!="",status!~"5.*"}[1m])) / sum(rate(@requests{exported_namespace="shop",ingress="shop",canary!=""}[1m])) * 100"#,
    r#"sum(@build_info{WHO}) + sum(@ssl_certificate_info{host="shop.example",public_key_algorithm="ECDSA"}) + sum(@config_hash{WHO})"#,
];

/// What the variables of the dashboard are made from, and a value that must be among them.
const VARIABLES: [(&str, &str, &str); 5] = [
    ("@config_hash", "controller_namespace", "edge"),
    ("@config_hash{controller_namespace=~\"edge\"}", "controller_class", "k8s.io/ingress-nginx"),
    ("@config_hash{WHO}", "controller_pod", "edge-1"),
    ("@requests{WHO}", "exported_namespace", "shop"),
    ("@requests{WHO,exported_namespace=~\"shop\"}", "ingress", "chat"),
];

fn query(text: &str) -> String {
    text.replace('@', "nginx_ingress_controller_").replace("WHO", WHO).replace("RULE", RULE)
}

/// Every query has data.
pub async fn check(prometheus: &Prometheus) {
    for (selector, label, value) in VARIABLES {
        let selector = query(selector);
        eventually(SETTLE, &format!("{label} of {selector}"), async || {
            let values = prometheus.label_values(&selector, label).await;
            values.expect("it can be asked").contains(value)
        })
        .await;
    }
    let queries = QUERIES.iter().map(|text| ("ingress-nginx".to_owned(), query(text)));
    have_data(prometheus, queries.collect()).await;
}

/// What one request of each kind comes to.
pub async fn check_counts(world: &World) {
    let name = |name: &str| format!("nginx_ingress_controller_{name}");
    let of_shop = [
        ("host", "shop.example"),
        ("path", "/"),
        ("namespace", "shop"),
        ("ingress", "shop"),
        ("service", "web"),
        ("controller_class", "k8s.io/ingress-nginx"),
        ("controller_namespace", "edge"),
        ("controller_pod", "edge-1"),
    ];
    eventually(STEP, "all are counted", async || {
        let metrics = world.metrics().await;
        metrics.sum(&name("requests"), &[("namespace", "shop")]) == 12.0
    })
    .await;
    let metrics = world.metrics().await;
    let of = |name: &str, more: &[(&str, &str)]| metrics.sum(name, &[&of_shop, more].concat());
    let requests = |method: &str, status: &str, canary: &str| {
        of(&name("requests"), &[("method", method), ("status", status), ("canary", canary)])
    };
    // Two in plain text, one over TLS.
    assert_eq!(requests("GET", "200", ""), 3.0);
    for status in ["302", "404", "503"] {
        assert_eq!(requests("GET", status, ""), 1.0, "{status}");
    }
    assert_eq!(requests("POST", "200", ""), 1.0);
    assert_eq!(requests("_OTHER", "200", ""), 1.0);
    assert_eq!(requests("GET", "200", "shop-web-next-80"), 1.0);
    let post = [("method", "POST")];
    assert_eq!(of(&name("request_size_sum"), &post), 25.0);
    assert!(of(&name("response_size_sum"), &[("method", "GET")]) > 5000.0);
    for phase in ["connect", "header", "request", "response"] {
        let count = name(&format!("{phase}_duration_seconds_count"));
        assert_eq!(of(&count, &post), 1.0, "{phase}");
    }
    let sum = |phase: &str| of(&name(&format!("{phase}_duration_seconds_sum")), &[]);
    assert!(sum("connect") <= sum("header"), "{} {}", sum("connect"), sum("header"));
    assert!(sum("header") <= sum("response"), "{} {}", sum("header"), sum("response"));
    assert!(sum("response") <= sum("request"), "{} {}", sum("response"), sum("request"));
    let of_ingress = |ingress: &str, status: &str| {
        metrics.sum(&name("requests"), &[("ingress", ingress), ("status", status)])
    };
    assert_eq!(of_ingress("chat", "101"), 1.0);
    assert_eq!((of_ingress("idle", "503"), of_ingress("lost", "503")), (1.0, 1.0));
    let orphan = |ingress: &str, what: &str| {
        metrics.sum(&name("orphan_ingress"), &[("ingress", ingress), ("type", what)])
    };
    assert_eq!((orphan("shop", "no-service"), orphan("shop", "no-endpoint")), (0.0, 0.0));
    assert_eq!((orphan("idle", "no-service"), orphan("idle", "no-endpoint")), (0.0, 1.0));
    assert_eq!((orphan("lost", "no-service"), orphan("lost", "no-endpoint")), (1.0, 0.0));
    let tls = [("host", "shop.example"), ("namespace", "shop"), ("secret_name", "shop-tls")];
    assert!(metrics.sum(&name("ssl_expire_time_seconds"), &tls) > 1.7e9);
    assert_eq!(metrics.sum(&name("ssl_certificate_info"), &tls), 1.0);
    assert!(metrics.sum(&name("success"), &[]) >= 1.0);
    assert_eq!(metrics.label_values(&name("requests"), "host").len(), 4);
}
