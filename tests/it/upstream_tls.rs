//! TLS towards upstreams: verified unless told otherwise.

use crate::harness::*;

fn config(tls: &str) -> String {
    format!(
        r#"
listeners: {{ web: {{ bind: "@web@" }} }}
hosts: {{ "*": {{ routes: [ {{ path: /, upstream: app }} ] }} }}
upstreams: {{ app: {{ endpoints: ["@app@"], tls: {tls} }} }}
"#
    )
}

async fn proxy(app: &Server, tls: &str, ca: &Ca) -> Proxy {
    let setup = Setup::new(&config(tls)).with("app", app.address());
    setup.file("ca.pem", ca.pem.as_str()).start().await
}

#[tokio::test]
async fn the_certificate_must_be_signed_by_the_ca_and_for_the_name() {
    let (ca, stranger) = (Ca::new(), Ca::new());
    let app = Server::tls(server_config(&ca.server(&["inner.example"]), &[], None)).await;

    let good = proxy(&app, "{ ca: ca.pem, server_name: inner.example }", &ca).await;
    let echoed = Echoed::of(&get(good.web(), "shop.example", "/").await.body);
    assert_eq!(echoed.sni.as_deref(), Some("inner.example"));
    assert_eq!(echoed.host, "shop.example", "the name is for TLS; Host stays");

    let wrong_ca = proxy(&app, "{ ca: ca.pem, server_name: inner.example }", &stranger).await;
    get(wrong_ca.web(), "t", "/").await.assert_refused(502, "upstream_tls");

    let wrong_name = proxy(&app, "{ ca: ca.pem, server_name: other.example }", &ca).await;
    get(wrong_name.web(), "t", "/").await.assert_refused(502, "upstream_tls");

    let system = proxy(&app, "true", &ca).await;
    get(system.web(), "inner.example", "/").await.assert_refused(502, "upstream_tls");

    let by_host = proxy(&app, "{ ca: ca.pem }", &ca).await;
    let echoed = Echoed::of(&get(by_host.web(), "inner.example", "/").await.body);
    assert_eq!(echoed.sni.as_deref(), Some("inner.example"), "the request's host is the name");
    get(by_host.web(), "other.example", "/").await.assert_refused(502, "upstream_tls");

    let unverified = proxy(&app, "{ verify: false, server_name: any.example }", &stranger).await;
    assert_eq!(get(unverified.web(), "t", "/").await.status, 200, "turned off in so many words");
    assert_eq!(app.requests(), 3);
}

#[tokio::test]
async fn a_connection_verified_for_one_name_is_not_used_for_another() {
    let ca = Ca::new();
    let app = Server::tls(server_config(&ca.server(&["inner.example"]), &[], None)).await;
    let proxy = proxy(&app, "{ ca: ca.pem }", &ca).await;
    let mut client = Client::connect(proxy.web()).await;
    assert_eq!(client.request("GET", "inner.example", "/").await.status, 200);
    client.request("GET", "other.example", "/").await.assert_refused(502, "upstream_tls");
    assert_eq!(client.request("GET", "inner.example", "/").await.status, 200);
}

#[tokio::test]
async fn a_client_certificate_is_shown_to_the_upstream() {
    let (ca, clients) = (Ca::new(), Ca::new());
    let tls = server_config(&ca.server(&["inner.example"]), &[], Some(&clients));
    let app = Server::tls(tls).await;
    let pair = clients.client("portcullis");
    let setup = Setup::new(&config(
        "{ ca: ca.pem, server_name: inner.example, \
         client_certificate: { cert: client.pem, key: client.key } }",
    ));
    let setup = setup.with("app", app.address()).file("ca.pem", ca.pem.as_str());
    let setup = setup.file("client.pem", pair.cert).file("client.key", pair.key);
    let with = setup.start().await;
    assert!(Echoed::of(&get(with.web(), "t", "/").await.body).client_certificate);
    let without = proxy(&app, "{ ca: ca.pem, server_name: inner.example }", &ca).await;
    let response = get(without.web(), "t", "/").await;
    assert_eq!(response.status, 502, "{response}");
}

#[tokio::test]
async fn the_protocol_is_what_alpn_agrees_on_unless_one_is_demanded() {
    let ca = Ca::new();
    let pair = ca.server(&["inner.example"]);
    let both = Server::tls(server_config(&pair, &["h2", "http/1.1"], None)).await;
    let old = Server::tls(server_config(&pair, &["http/1.1"], None)).await;
    for (app, protocol, expected) in [
        (&both, "auto", "HTTP/2.0"),
        (&old, "auto", "HTTP/1.1"),
        (&both, "http1", "HTTP/1.1"),
        (&both, "h2", "HTTP/2.0"),
    ] {
        let setup = Setup::new(&format!(
            r#"
listeners: {{ web: {{ bind: "@web@" }} }}
hosts: {{ "*": {{ routes: [ {{ path: /, upstream: app }} ] }} }}
upstreams:
  app:
    protocol: {protocol}
    endpoints: ["@app@"]
    tls: {{ ca: ca.pem, server_name: inner.example }}
"#
        ));
        let setup = setup.with("app", app.address()).file("ca.pem", ca.pem.as_str());
        let proxy = setup.start().await;
        let mut client = Client::connect(proxy.web()).await;
        for _ in 0..3 {
            let echoed = Echoed::of(&client.request("GET", "shop.example", "/").await.body);
            assert_eq!(echoed.version, expected, "{protocol}");
            assert_eq!(echoed.host, "shop.example");
        }
    }
}

#[tokio::test]
async fn an_endpoint_without_tls_is_a_502() {
    let ca = Ca::new();
    let app = Backend::script(|mut conn| async move {
        conn.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
        conn.stall().await;
    })
    .await;
    let setup = Setup::new(&config("{ ca: ca.pem, server_name: inner.example }"));
    let proxy = setup.with("app", app.address()).file("ca.pem", ca.pem.as_str()).start().await;
    get(proxy.web(), "t", "/").await.assert_refused(502, "upstream_tls");
    assert!(!app.received().starts_with(b"GET"), "nothing was said in the clear");
}

#[tokio::test]
async fn without_its_client_certificate_an_upstream_is_not_spoken_to() {
    let ca = Ca::new();
    // It would let anonymous clients in, and serve them as such.
    let app = Server::tls(server_config(&ca.server(&["inner.example"]), &[], None)).await;
    let tls = "{ ca: ca.pem, server_name: inner.example, \
               client_certificate: { cert: client.pem, key: client.key } }";
    let pair = Ca::new().client("portcullis");
    let proxy = proxy(&app, tls, &ca).await;
    get(proxy.web(), "t", "/").await.assert_refused(500, "config_error");
    proxy.write("client.pem", &pair.cert);
    let status = async || proxy.admin("/api/status").await.text();
    eventually(STEP, "the key is still missing", async || !status().await.contains("client.pem`"))
        .await;
    get(proxy.web(), "t", "/").await.assert_refused(500, "config_error");
    assert_eq!(app.requests(), 0);
    proxy.write("client.key", &pair.key);
    let web = proxy.web();
    eventually(STEP, "with both it is", async || get(web, "t", "/").await.status == 200).await;
}

/// Edits until `said` is what `/said` answers.
async fn edit(proxy: &mut Proxy, tls: &str, said: &str) {
    let route = format!("{{ path: /said, respond: {{ body: {said} }} }}, {{ path: /, ");
    proxy.rewrite(&config(tls).replace("{ path: /, ", &route));
    let web = proxy.web();
    eventually(STEP, "the edit is live", async || get(web, "t", "/said").await.text() == said)
        .await;
}

#[tokio::test]
async fn tls_settings_that_cannot_be_used_close_what_was_open() {
    let ca = Ca::new();
    let app = Server::tls(server_config(&ca.server(&["inner.example"]), &[], None)).await;
    let clear = Server::echo().await;
    for (before, app) in [("false", &clear), ("{ verify: false }", &app)] {
        let mut proxy = proxy(app, before, &ca).await;
        assert_eq!(get(proxy.web(), "inner.example", "/").await.status, 200);
        for said in ["one", "two"] {
            edit(&mut proxy, "{ ca: missing.pem, server_name: inner.example }", said).await;
            let before = app.requests();
            get(proxy.web(), "t", "/").await.assert_refused(500, "config_error");
            let status = async || proxy.admin("/api/status").await.text();
            eventually(STEP, "it is told of", async || status().await.contains("upstream 'app'"))
                .await;
            assert_eq!(app.requests(), before, "{said}: nothing gets there");
        }
    }
}

#[tokio::test]
async fn tls_settings_that_cannot_be_used_leave_the_last_good_ones_to_new_endpoints_too() {
    let ca = Ca::new();
    let pair = ca.server(&["inner.example"]);
    let one = Server::tls(server_config(&pair, &[], None)).await;
    let two = Server::tls(server_config(&pair, &[], None)).await;
    let good = "{ ca: ca.pem, server_name: inner.example }";
    let setup = Setup::new(&config(good)).with("app", one.address());
    let mut proxy = setup.with("two", two.address()).file("ca.pem", ca.pem.as_str()).start().await;
    assert_eq!(get(proxy.web(), "t", "/").await.status, 200);
    let broken = "{ ca: missing.pem, server_name: inner.example }";
    edit(&mut proxy, broken, "broken").await;
    assert_eq!(get(proxy.web(), "t", "/").await.status, 200, "still verified");
    let moved = config(broken).replace("@app@", "@two@");
    proxy.rewrite(&moved);
    let web = proxy.web();
    eventually(STEP, "the other endpoint is used", async || {
        get(web, "t", "/").await;
        two.requests() > 0
    })
    .await;
    let status = proxy.admin("/api/status").await.text();
    assert!(status.contains("upstream 'app'"), "not forgotten by the next edit: {status}");
    proxy.write("missing.pem", Ca::new().pem);
    eventually(STEP, "what is there is used", async || get(web, "t", "/").await.status == 502)
        .await;
}

#[tokio::test]
async fn the_name_is_verified_and_not_sent_where_sni_is_turned_off() {
    let ca = Ca::new();
    let app = Server::tls(server_config(&ca.server(&["inner.example"]), &[], None)).await;
    let good = proxy(&app, "{ ca: ca.pem, server_name: inner.example, sni: false }", &ca).await;
    let echoed = Echoed::of(&get(good.web(), "shop.example", "/").await.body);
    assert_eq!(echoed.sni, None);
    let wrong = proxy(&app, "{ ca: ca.pem, server_name: other.example, sni: false }", &ca).await;
    get(wrong.web(), "inner.example", "/").await.assert_refused(502, "upstream_tls");
}
