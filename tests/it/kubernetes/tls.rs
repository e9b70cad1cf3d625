//! TLS of Ingresses: which Secret a server name gets, and what clients must show.

use rustls::pki_types::CertificateDer;
use serde_json::Value;

use super::*;

/// A Secret with these fields.
fn secret(name: &str, fields: &[(&str, &str)]) -> Value {
    use base64::Engine;
    let base64 = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    let data: serde_json::Map<_, _> =
        fields.iter().map(|(name, text)| ((*name).to_owned(), json!(base64(text)))).collect();
    json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": { "name": name, "namespace": "shop" }, "data": data,
    })
}

fn pair(name: &str, pair: &Pair) -> Value {
    secret(name, &[("tls.crt", &pair.cert), ("tls.key", &pair.key)])
}

/// An Ingress of one host with TLS, and these annotations of ingress-nginx.
fn tls_ingress(name: &str, host: &str, secret: &str, annotations: &[(&str, &str)]) -> Value {
    let mut ingress = ingress(name, host, "web");
    ingress["spec"]["tls"] = json!([{ "hosts": [host], "secretName": secret }]);
    for (key, value) in annotations {
        let key = format!("nginx.ingress.kubernetes.io/{key}");
        ingress["metadata"]["annotations"][key] = json!(value);
    }
    ingress
}

/// The certificate shown to a client that asks for `name`; none where the handshake fails.
async fn shown(https: SocketAddr, name: &str) -> Option<CertificateDer<'static>> {
    let stream = TlsClient::gullible(name, &[]).connect(https).await.ok()?;
    let chain = stream.get_ref().1.peer_certificates()?;
    Some(chain.first()?.clone().into_owned())
}

fn leaf(pair: &Pair) -> CertificateDer<'static> {
    certificates(&pair.cert).remove(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn server_names_get_the_certificates_of_their_secrets_and_changes_lose_no_handshake() {
    let app = Backend::saying("web").await;
    let cluster = shop(app.address()).await;
    let ca = Ca::new();
    let (a, wild, default) =
        (ca.server(&["a.example"]), ca.server(&["*.wild.example"]), ca.server(&["default"]));
    for (name, of) in [("a", &a), ("wild", &wild), ("default", &default)] {
        cluster.put(pair(name, of));
    }
    cluster.put(tls_ingress("a", "a.example", "a", &[]));
    cluster.put(tls_ingress("wild", "*.wild.example", "wild", &[]));
    // Not valid for the host, and not there: the default serves both.
    cluster.put(tls_ingress("other", "b.example", "a", &[]));
    cluster.put(tls_ingress("gone", "c.example", "gone", &[]));
    let flag = "--default-ssl-certificate=shop/default";
    let world = World::start(&cluster, &["--watch-timeout=1", flag]).await;
    for (name, expected) in [
        ("a.example", &a),
        ("x.wild.example", &wild),
        ("y.x.wild.example", &default),
        ("b.example", &default),
        ("c.example", &default),
        ("nobody.example", &default),
    ] {
        assert_eq!(shown(world.https, name).await, Some(leaf(expected)), "{name}");
    }

    let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut clients = JoinSet::new();
    for _ in 0..2 {
        let (stop, sent, https) = (stop.clone(), sent.clone(), world.https);
        let tls = TlsClient::new(&ca, "a.example", &["http/1.1"]);
        clients.spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                let mut client = Client::tls(https, &tls).await;
                assert_eq!(client.request("GET", "a.example", "/").await.status, 200);
                sent.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    for _ in 0..5 {
        let next = ca.server(&["a.example"]);
        cluster.put(pair("a", &next));
        let wanted = Some(leaf(&next));
        let live = async || shown(world.https, "a.example").await == wanted;
        eventually(STEP, "the new certificate is shown", live).await;
    }
    stop.store(true, Ordering::Relaxed);
    while let Some(done) = clients.join_next().await {
        done.expect("no handshake and no request was lost");
    }
    eprintln!("{} handshakes, 0 lost", sent.load(Ordering::Relaxed));
}

#[tokio::test]
async fn without_any_usable_secret_a_certificate_of_last_resort_is_shown() {
    let app = Backend::saying("web").await;
    let cluster = shop(app.address()).await;
    cluster.put(tls_ingress("gone", "a.example", "gone", &[]));
    let world = World::start(&cluster, &["--watch-timeout=1"]).await;
    let first = shown(world.https, "a.example").await.expect("a certificate");
    assert_eq!(shown(world.https, "b.example").await, Some(first));
    let ca = Ca::new();
    let mended = ca.server(&["a.example"]);
    cluster.put(pair("gone", &mended));
    let live = async || shown(world.https, "a.example").await == Some(leaf(&mended));
    eventually(STEP, "the Secret that came later is used", live).await;
}

#[tokio::test]
async fn clients_show_what_auth_tls_annotations_demand() {
    let app = Backend::saying("web").await;
    let cluster = shop(app.address()).await;
    let (ca, clients) = (Ca::new(), Ca::new());
    cluster.put(pair("cert", &ca.server(&["a.example", "b.example", "c.example"])));
    cluster.put(secret("clients", &[("ca.crt", &clients.pem)]));
    let asks = [("auth-tls-secret", "shop/clients")];
    let told = [asks[0], ("auth-tls-verify-client", "optional")];
    let lost = [("auth-tls-secret", "shop/later")];
    cluster.put(tls_ingress("a", "a.example", "cert", &asks));
    cluster.put(tls_ingress("b", "b.example", "cert", &told));
    cluster.put(tls_ingress("c", "c.example", "cert", &lost));
    let world = World::start(&cluster, &["--watch-timeout=1"]).await;
    let alice = clients.client("alice");
    let ask = async |name: &str, pair: Option<&Pair>| {
        let tls = TlsClient::with(&ca, name, &["http/1.1"], pair, rustls::ALL_VERSIONS);
        Client::tls(world.https, &tls).await.request("GET", name, "/").await.status
    };
    assert_eq!(ask("a.example", None).await, 400);
    assert_eq!(ask("a.example", Some(&alice)).await, 200);
    assert_eq!(app.last().headers.joined("ssl-client-subject-dn"), "CN=alice");
    assert_eq!(ask("b.example", None).await, 200);
    assert_eq!(app.last().headers.joined("ssl-client-verify"), "NONE");
    assert_eq!(ask("c.example", Some(&alice)).await, 503, "the Secret is not there");
    cluster.put(secret("later", &[("ca.crt", &clients.pem)]));
    let open = async || ask("c.example", Some(&alice)).await == 200;
    eventually(STEP, "the Secret that came later opens the host", open).await;
    assert_eq!(ask("c.example", None).await, 400);
    cluster.delete("secrets", "shop", "later");
    let closed = async || ask("c.example", Some(&alice)).await == 503;
    eventually(STEP, "without its Secret the host is closed again", closed).await;
}

#[tokio::test]
async fn a_wildcard_with_tls_sends_the_hosts_it_covers_to_https_for_as_long_as_it_is_there() {
    let app = Backend::saying("web").await;
    let cluster = shop(app.address()).await;
    let wild = Ca::new().server(&["*.w.example"]);
    cluster.put(pair("wild", &wild));
    for host in ["a.w.example", "b.a.w.example"] {
        cluster.put(ingress(&host.replace('.', "-"), host, "web"));
    }
    let world = World::start(&cluster, &[]).await;
    world.serves("a.w.example", 200, "web").await;
    cluster.put(tls_ingress("wild", "*.w.example", "wild", &[]));
    world.serves("a.w.example", 308, "").await;
    let moved = get(world.http, "a.w.example", "/x").await;
    assert_eq!(moved.headers.get("location"), Some("https://a.w.example/x"), "{moved}");
    assert_eq!(shown(world.https, "a.w.example").await, Some(leaf(&wild)));
    world.serves("b.a.w.example", 200, "web").await;
    cluster.delete("ingresses", "shop", "wild");
    world.serves("a.w.example", 200, "web").await;
}
