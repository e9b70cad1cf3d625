//! The Kubernetes provider against an API server that follows a script: what objects say is served,
//! and goes on being served whatever becomes of the API server.

mod alike;
mod annotations;
mod closed;
mod log;
mod names;
mod tls;
mod writes;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;
use tokio::task::JoinSet;

use crate::harness::*;

/// A proxy that follows a cluster.
struct World {
    proxy: Proxy,
    http: SocketAddr,
    https: SocketAddr,
}

impl World {
    /// Started, and ready.
    async fn start(cluster: &ApiServer, args: &[&str]) -> Self {
        let world = Self::spawn(cluster, args, &[]);
        world.ready().await;
        world
    }

    /// Started, whether or not it becomes ready.
    fn spawn(cluster: &ApiServer, args: &[&str], env: &[(&str, &str)]) -> Self {
        Self::beside("workers: 2\n", cluster, args, env)
    }

    /// Started with a file beside the cluster.
    fn beside(config: &str, cluster: &ApiServer, args: &[&str], env: &[(&str, &str)]) -> Self {
        let (http, https) = (reserve(), reserve());
        let mut setup = Setup::new(config)
            .arg("--kubernetes")
            .arg("--kubeconfig")
            .arg(&cluster.kubeconfig().display().to_string())
            .arg(&format!("--http={http}"))
            .arg(&format!("--https={https}"));
        for arg in args {
            setup = setup.arg(arg);
        }
        for (name, value) in env {
            setup = setup.env(name, value);
        }
        Self { proxy: setup.spawn(), http, https }
    }

    async fn ready(&self) {
        let admin = self.proxy.addr("admin");
        eventually(STEP, "the proxy is ready", async || {
            admin_of(admin, "/readyz").await.is_some_and(|answer| answer.status == 200)
        })
        .await;
    }

    /// Waits until a request to `host` is answered like this.
    #[track_caller]
    fn serves<'a>(
        &'a self,
        host: &'a str,
        status: u16,
        text: &'a str,
    ) -> impl Future<Output = ()> + 'a {
        let what = format!("{host} is answered {status} {text:?}");
        let check = async move || {
            let answer = get(self.http, host, "/").await;
            answer.status == status && (text.is_empty() || answer.text() == text)
        };
        async move { eventually(STEP, &what, check).await }
    }
}

/// A cluster with a class, a Service `web` with one endpoint, and an Ingress for `shop.example`.
async fn shop(endpoint: SocketAddr) -> ApiServer {
    let cluster = ApiServer::start().await;
    cluster.put(ingress_class());
    cluster.put(service("web"));
    cluster.put(slice("web", endpoint));
    cluster.put(ingress("shop", "shop.example", "web"));
    cluster
}

#[tokio::test]
async fn routes_come_and_go_with_their_ingresses() {
    let app = Backend::saying("web").await;
    let cluster = shop(app.address()).await;
    let world = World::start(&cluster, &[]).await;
    assert_eq!(get(world.http, "shop.example", "/").await.text(), "web", "once it is ready");
    world.serves("blog.example", 404, "").await;
    cluster.put(ingress("blog", "blog.example", "web"));
    world.serves("blog.example", 200, "web").await;
    let mut moved = ingress("blog", "news.example", "web");
    moved["metadata"]["annotations"] = json!({ "x": "y" });
    cluster.put(moved);
    world.serves("news.example", 200, "web").await;
    world.serves("blog.example", 404, "").await;
    cluster.delete("ingresses", "shop", "blog");
    world.serves("news.example", 404, "").await;
    assert_eq!(get(world.http, "shop.example", "/").await.status, 200);
    let metrics = world.proxy.metrics().await;
    assert_eq!(metrics.sum("portcullis_kubernetes_objects", &[("kind", "Ingress")]), 1.0);
    let change = [("change", "configuration")];
    assert!(metrics.sum("portcullis_config_propagation_seconds_count", &change) >= 3.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endpoints_come_and_go_without_a_request_lost() {
    let apps = [Backend::saying("a").await, Backend::saying("b").await];
    let cluster = shop(apps[0].address()).await;
    let world = World::start(&cluster, &[]).await;
    let compiled = world.proxy.metrics().await.sum("portcullis_config_generation", &[]);
    let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut clients = JoinSet::new();
    for _ in 0..3 {
        let (stop, sent, http) = (stop.clone(), sent.clone(), world.http);
        clients.spawn(async move {
            let mut client = Client::connect(http).await;
            while !stop.load(Ordering::Relaxed) {
                client
                    .send("POST / HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 2\r\n\r\nhi")
                    .await;
                let answer = client.response().await;
                assert_eq!(answer.status, 200, "{}", answer.text());
                sent.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    for round in 0..10 {
        let (old, new) = (&apps[round % 2], &apps[(round + 1) % 2]);
        cluster.put(slice("web", new.address()));
        cluster.put(slice_in_state("web", old.address(), "terminating"));
        let text = if round % 2 == 0 { "b" } else { "a" };
        // Only the new one is picked as soon as the old one drains.
        eventually(STEP, "the new endpoint serves alone", async || {
            for _ in 0..4 {
                if get(world.http, "shop.example", "/").await.text() != text {
                    return false;
                }
            }
            true
        })
        .await;
        cluster.delete("endpointslices", "shop", &slice_name("web", old.address()));
        let enough = sent.load(Ordering::Relaxed) + 20;
        eventually(STEP, "load goes on", async || sent.load(Ordering::Relaxed) >= enough).await;
    }
    stop.store(true, Ordering::Relaxed);
    while let Some(client) = clients.join_next().await {
        client.expect("no request was lost");
    }
    let metrics = world.proxy.metrics().await;
    assert_eq!(metrics.sum("portcullis_config_generation", &[]), compiled, "nothing was compiled");
    let change = [("change", "endpoints")];
    assert!(metrics.sum("portcullis_config_propagation_seconds_count", &change) >= 10.0);
}

#[tokio::test]
async fn a_new_route_never_meets_an_upstream_without_its_endpoints() {
    let app = Backend::saying("web").await;
    let cluster = shop(app.address()).await;
    let world = World::start(&cluster, &[]).await;
    for number in 0..10 {
        let (name, host) = (format!("s{number}"), format!("s{number}.example"));
        cluster.put(service(&name));
        cluster.put(slice(&name, app.address()));
        cluster.put(ingress(&name, &host, &name));
        let mut status = 404;
        eventually(STEP, "the route is there", async || {
            status = get(world.http, &host, "/").await.status;
            status != 404
        })
        .await;
        assert_eq!(status, 200, "round {number}");
    }
}

#[tokio::test]
async fn a_forgotten_history_is_followed_by_a_list_in_pages_without_a_gap() {
    let app = Backend::saying("web").await;
    let cluster = shop(app.address()).await;
    cluster.page(2);
    for number in 0..5 {
        cluster.put(ingress(&format!("i{number}"), &format!("i{number}.example"), "web"));
    }
    let world = World::start(&cluster, &[]).await;
    for number in 0..5 {
        assert_eq!(get(world.http, &format!("i{number}.example"), "/").await.status, 200);
    }
    let before = cluster.lists("ingresses");
    assert!(before >= 3, "six objects, two on a page: {before}");
    cluster.forget();
    cluster.put(ingress("late", "late.example", "web"));
    world.serves("late.example", 200, "web").await;
    assert!(cluster.lists("ingresses") > before);
    let expired = [("kind", "Ingress"), ("reason", "expired")];
    world
        .proxy
        .metrics_until("the restart is counted", |metrics| {
            metrics.sum("portcullis_kubernetes_watch_restarts_total", &expired) >= 1.0
        })
        .await;
}

#[tokio::test]
async fn a_list_that_says_that_everything_is_gone_is_not_believed_at_once() {
    let app = Backend::saying("web").await;
    let cluster = shop(app.address()).await;
    let world = World::start(&cluster, &["--watch-timeout=3"]).await;
    cluster.lie(true);
    cluster.forget();
    world.proxy.logs("a list lacks 1 of 1 objects").await;
    assert_eq!(get(world.http, "shop.example", "/").await.text(), "web");
    cluster.lie(false);
    cluster.put(ingress("late", "late.example", "web"));
    world.serves("late.example", 200, "web").await;
    assert_eq!(get(world.http, "shop.example", "/").await.text(), "web");
    // What goes on being said is the truth.
    cluster.lose("ingresses");
    cluster.forget();
    world.serves("shop.example", 404, "").await;
}

#[tokio::test]
async fn a_watch_that_breaks_off_or_goes_silent_is_taken_up_where_it_was() {
    let app = Backend::saying("web").await;
    let cluster = shop(app.address()).await;
    let world = World::start(&cluster, &["--watch-timeout=1"]).await;
    let lists = cluster.lists("ingresses");
    cluster.break_off();
    cluster.put(ingress("one", "one.example", "web"));
    world.serves("one.example", 200, "web").await;
    cluster.go_silent();
    cluster.put(ingress("two", "two.example", "web"));
    world.serves("two.example", 200, "web").await;
    assert_eq!(cluster.lists("ingresses"), lists, "no list was needed");
    // And one that ends as it should.
    let watches = cluster.watches("ingresses");
    eventually(STEP, "watches follow one another", async || {
        cluster.watches("ingresses") > watches + 1
    })
    .await;
    cluster.delete("ingresses", "shop", "one");
    world.serves("one.example", 404, "").await;
}

#[tokio::test]
async fn nothing_changes_for_traffic_while_the_api_server_is_away() {
    let app = Backend::saying("web").await;
    let cluster = shop(app.address()).await;
    let world = World::start(&cluster, &[]).await;
    cluster.go_away();
    world.proxy.logs("no answer").await;
    for _ in 0..50 {
        assert_eq!(get(world.http, "shop.example", "/").await.text(), "web");
    }
    assert_eq!(world.proxy.admin("/readyz").await.status, 200);
    cluster.put(ingress("late", "late.example", "web"));
    cluster.come_back();
    world.serves("late.example", 200, "web").await;
}

#[tokio::test]
async fn a_start_while_the_api_server_is_away_serves_what_was_known() {
    use std::os::unix::fs::PermissionsExt;
    let app = Backend::saying("web").await;
    let cluster = shop(app.address()).await;
    let directory = tempfile::tempdir().expect("a temporary directory");
    let directory = directory.path().join("state");
    let argument = format!("--state-dir={}", directory.display());
    let mut first = World::start(&cluster, &[&argument]).await;
    let file = directory.join("cluster.json");
    cluster.put(ingress("late", "late.example", "web"));
    eventually(STEP, "what is known is written down", async || {
        std::fs::read_to_string(&file).is_ok_and(|text| text.contains("late.example"))
    })
    .await;
    let mode = std::fs::metadata(&file).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    first.proxy.signal(Signal::KILL);
    first.proxy.exited(STEP).await;

    cluster.go_away();
    let second = World::start(&cluster, &[&argument]).await;
    assert_eq!(get(second.http, "shop.example", "/").await.text(), "web");
    assert_eq!(get(second.http, "late.example", "/").await.text(), "web");
    second.proxy.logs("what an earlier process wrote down").await;
    assert_eq!(second.proxy.metrics().await.sum("portcullis_kubernetes_synced", &[]), 0.0);
    cluster.delete("ingresses", "shop", "late");
    cluster.come_back();
    second.serves("late.example", 404, "").await;
    assert_eq!(get(second.http, "shop.example", "/").await.text(), "web");
    second
        .proxy
        .metrics_until("it is in step again", |metrics| {
            metrics.sum("portcullis_kubernetes_synced", &[]) == 1.0
        })
        .await;
}

#[tokio::test]
async fn without_anything_known_it_waits_and_can_be_asked_and_ended() {
    let cluster = ApiServer::start().await;
    cluster.go_away();
    let mut world = World::spawn(&cluster, &[], &[]);
    world.proxy.logs("no answer").await;
    let admin = world.proxy.addr("admin");
    eventually(STEP, "the admin listener answers", async || {
        admin_of(admin, "/readyz").await.is_some_and(|answer| answer.status == 503)
    })
    .await;
    assert_eq!(world.proxy.admin("/healthz").await.status, 200);
    world.proxy.signal(Signal::TERM);
    assert!(world.proxy.exited(STEP).await.success());
}

#[tokio::test]
async fn a_server_that_refuses_while_it_starts_is_told_of_calmly() {
    let app = Backend::saying("web").await;
    let cluster = shop(app.address()).await;
    for resource in ["ingresses", "ingressclasses", "services", "endpointslices", "leases"] {
        cluster.refuse(resource, 403, None);
    }
    let world = World::spawn(&cluster, &["--publish-status-address=192.0.2.1"], &[]);
    world.proxy.logs("does not let us list services in the cluster").await;
    world.proxy.logs("cannot be had").await;
    world.proxy.logs("It may be starting; it is asked again").await;
    for resource in ["ingresses", "ingressclasses", "services", "endpointslices", "leases"] {
        cluster.allow(resource);
    }
    world.ready().await;
    world.serves("shop.example", 200, "web").await;
    cluster.until("the Lease is taken", "leases", |all| !all.is_empty()).await;
    let log = world.proxy.stderr();
    assert!(!log.contains("ERROR") && !log.contains("Give a"), "{log}");
}

#[tokio::test]
async fn what_may_not_be_read_is_said_with_the_rule_that_is_missing() {
    let app = Backend::saying("web").await;
    let cluster = shop(app.address()).await;
    cluster.refuse("endpointslices", 403, None);
    let world = World::spawn(&cluster, &[], &[]);
    world.proxy.logs("does not let us list endpointslices in the cluster").await;
    world.proxy.logs("Give a ClusterRole of our service account the rule").await;
    assert_eq!(world.proxy.admin("/readyz").await.status, 503);
    cluster.allow("endpointslices");
    world.ready().await;
    world.serves("shop.example", 200, "web").await;
    // A right that is taken away later leaves what is known.
    cluster.refuse("endpointslices", 403, None);
    world.proxy.logs("does not let us watch endpointslices").await;
    assert_eq!(get(world.http, "shop.example", "/").await.text(), "web");
}

#[tokio::test]
async fn one_namespace_is_served_with_a_role_alone() {
    let app = Backend::saying("web").await;
    let cluster = shop(app.address()).await;
    cluster.refuse("ingressclasses", 403, None);
    let args = ["--watch-namespace=shop", "--ingress-class-by-name"];
    let world = World::start(&cluster, &args).await;
    assert_eq!(get(world.http, "shop.example", "/").await.text(), "web");
    let mut elsewhere = ingress("other", "other.example", "web");
    elsewhere["metadata"]["namespace"] = json!("elsewhere");
    cluster.put(elsewhere);
    cluster.put(ingress("late", "late.example", "web"));
    world.serves("late.example", 200, "web").await;
    assert_eq!(get(world.http, "other.example", "/").await.status, 404);
    let wide = |target: &String| !target.contains("/namespaces/") && !target.contains("classes");
    let asked = cluster.asked();
    assert!(!asked.iter().any(|(_, target)| wide(target)), "{asked:?}");
}

#[tokio::test]
async fn credentials_are_read_again_where_they_are_refused_and_throttling_is_obeyed() {
    let app = Backend::saying("web").await;
    let cluster = shop(app.address()).await;
    cluster.take_token("first");
    let world = World::start(&cluster, &["--watch-timeout=1"]).await;
    cluster.give_token("second");
    cluster.take_token("second");
    cluster.put(ingress("late", "late.example", "web"));
    cluster.break_off();
    world.serves("late.example", 200, "web").await;
    cluster.refuse("ingresses", 429, Some(1));
    let throttled = [("kind", "Ingress"), ("reason", "throttled")];
    world
        .proxy
        .metrics_until("it was throttled", |metrics| {
            metrics.sum("portcullis_kubernetes_watch_restarts_total", &throttled) >= 1.0
        })
        .await;
    cluster.allow("ingresses");
    cluster.put(ingress("later", "later.example", "web"));
    world.serves("later.example", 200, "web").await;
}

#[tokio::test]
async fn an_object_that_makes_no_sense_hurts_only_itself() {
    let app = Backend::saying("web").await;
    let cluster = shop(app.address()).await;
    let mut odd = ingress("odd", "odd.example", "web");
    odd["spec"]["rules"] = json!("none");
    cluster.put(odd.clone());
    let world = World::start(&cluster, &[]).await;
    world.proxy.logs("Ingress shop/odd cannot be understood").await;
    assert_eq!(get(world.http, "shop.example", "/").await.text(), "web");
    // One that was good stays as it was.
    odd["metadata"]["name"] = json!("shop");
    cluster.put(odd);
    cluster.put(ingress("late", "late.example", "web"));
    world.serves("late.example", 200, "web").await;
    world.proxy.logs("Ingress shop/shop cannot be understood").await;
    assert_eq!(get(world.http, "shop.example", "/").await.text(), "web");
}

#[tokio::test]
async fn secrets_are_read_by_name_where_something_refers_to_them() {
    let app = Backend::saying("web").await;
    let cluster = shop(app.address()).await;
    let ca = Ca::new();
    let secret = |name: &str, pair: &Pair| {
        use base64::Engine;
        let base64 = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
        json!({
            "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
            "metadata": { "name": name, "namespace": "shop" },
            "data": { "tls.crt": base64(&pair.cert), "tls.key": base64(&pair.key) },
        })
    };
    cluster.put(secret("cert", &ca.server(&["shop.example"])));
    cluster.put(secret("private", &ca.server(&["private.example"])));
    let mut with_tls = ingress("shop", "shop.example", "web");
    with_tls["spec"]["tls"] = json!([{ "hosts": ["shop.example"], "secretName": "cert" }]);
    cluster.put(with_tls);
    let world = World::start(&cluster, &["--watch-timeout=1"]).await;
    let tls = TlsClient::new(&ca, "shop.example", &["http/1.1"]);
    let mut client = Client::tls(world.https, &tls).await;
    assert_eq!(client.request("GET", "shop.example", "/").await.text(), "web");
    let asked = cluster.asked();
    let of_secrets: Vec<_> =
        asked.iter().filter(|(_, target)| target.contains("/secrets")).collect();
    assert!(!of_secrets.is_empty());
    for (_, target) in of_secrets {
        let narrow = target.starts_with("/api/v1/namespaces/shop/secrets")
            && target.contains("metadata.name%3Dcert");
        assert!(narrow, "{target}");
    }
    let metrics = world.proxy.metrics().await;
    assert_eq!(metrics.sum("portcullis_kubernetes_objects", &[("kind", "Secret")]), 1.0);
}

#[tokio::test]
async fn without_a_configuration_file_flags_are_enough() {
    let app = Backend::saying("web").await;
    let cluster = shop(app.address()).await;
    let (http, admin) = (reserve(), reserve());
    let mut child = std::process::Command::new(portcullis())
        .args(["run", "--kubernetes", "--https=off"])
        .arg(format!("--kubeconfig={}", cluster.kubeconfig().display()))
        .arg(format!("--http={http}"))
        .arg(format!("--admin={admin}"))
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("it starts");
    eventually(STEP, "it serves", async || {
        let ready = admin_of(admin, "/readyz").await;
        ready.is_some_and(|answer| answer.status == 200)
    })
    .await;
    let text = get(http, "shop.example", "/").await.text();
    child.kill().expect("it runs");
    child.wait().expect("it ends");
    assert_eq!(text, "web");
}

#[tokio::test]
async fn a_directory_that_cannot_be_used_ends_the_start() {
    let cluster = ApiServer::start().await;
    let mut world = World::spawn(&cluster, &["--state-dir=/dev/null/state"], &[]);
    assert_eq!(world.proxy.exited(STEP).await.code(), Some(3));
    world.proxy.logs("the cluster cannot be followed").await;
}

/// Prints how long changes take among many routes; the machine is shared, so only that they arrive
/// is asserted.
#[tokio::test]
async fn changes_among_a_thousand_routes() {
    const ROUTES: usize = 1_000;
    let apps = [Backend::saying("a").await, Backend::saying("b").await];
    let cluster = shop(apps[0].address()).await;
    for number in 0..ROUTES {
        let name = format!("s{number}");
        cluster.put(service(&name));
        cluster.put(slice(&name, apps[0].address()));
        cluster.put(ingress(&name, &format!("{name}.example"), &name));
    }
    let started = std::time::Instant::now();
    let world = World::start(&cluster, &[]).await;
    println!("ready after {:?}, {} KiB resident", started.elapsed(), world.proxy.rss() / 1024);
    for round in 0..20 {
        let name = format!("s{round}");
        cluster.put(slice(&name, apps[1].address()));
        cluster.delete("endpointslices", "shop", &slice_name(&name, apps[0].address()));
        world.serves(&format!("{name}.example"), 200, "b").await;
        let host = format!("new{round}.example");
        cluster.put(ingress(&format!("new{round}"), &host, &name));
        world.serves(&host, 200, "b").await;
    }
    let metrics = world.proxy.metrics().await;
    let compiled = metrics.sum("portcullis_config_compile_seconds_sum", &[]);
    let times = metrics.sum("portcullis_config_compile_seconds_count", &[]);
    println!("compiled {times} times, {:.2} ms each", 1e3 * compiled / times);
    for change in ["endpoints", "configuration"] {
        let of = |what: &str| {
            let name = format!("portcullis_config_propagation_seconds_{what}");
            metrics.sum(&name, &[("change", change)])
        };
        let (sum, count) = (of("sum"), of("count"));
        println!("{change}: {count} changes, {:.2} ms each", 1e3 * sum / count);
        // Changes that come together count once.
        assert!(count > 0.0);
    }
}

/// What it costs to wait for the leader's Lease to run out.
const TAKE_OVER: Duration = Duration::from_secs(60);
