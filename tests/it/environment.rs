//! Configuration from variables and files, names for addresses, and the demo.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};

use crate::harness::*;

#[tokio::test]
async fn variables_fallbacks_and_files_are_put_in_and_cannot_change_the_structure() {
    let app = Backend::saying("fine").await;
    let setup = Setup::new(
        r#"
listeners: { web: { bind: "127.0.0.1:${PORT}" } }
hosts:
  "*":
    routes:
      - path: ${BASE:-/base}
        upstream: app
        request_headers:
          set:
            x-token: ${file:secret.txt}
            x-literal: $${HOME}
            x-injected: ${EVIL}
upstreams: { app: { endpoints: ["${APP:-127.0.0.1:1}"] } }
# The address is here for the test alone: @web@
"#,
    );
    let setup = setup.with("backend", app.address()).file("secret.txt", "s3cr3t\n");
    let setup = setup.env("PORT", "@web.port@").env("APP", "@backend@");
    let proxy = setup.env("EVIL", "a\", x-more: \"b").start().await;
    assert_eq!(get(proxy.web(), "t", "/base/x").await.text(), "fine");
    assert_eq!(get(proxy.web(), "t", "/").await.status, 404);
    let seen = app.last().headers;
    assert_eq!(seen.get("x-token"), Some("s3cr3t"));
    assert_eq!(seen.get("x-literal"), Some("${HOME}"));
    assert_eq!(seen.get("x-injected"), Some("a\", x-more: \"b"));
    assert!(!seen.has("x-more"));
    proxy.write("secret.txt", "fresh\n");
    eventually(STEP, "a changed secret is picked up", async || {
        get(proxy.web(), "t", "/base").await;
        app.last().headers.get("x-token") == Some("fresh")
    })
    .await;
}

#[tokio::test]
async fn a_platform_needs_no_arguments() {
    let app = Backend::saying("fine").await;
    let dir = tempfile::TempDir::new().expect("a directory");
    let (web, admin) = (reserve(), reserve());
    let config = dir.path().join("portcullis.yaml");
    let text = format!(
        "admin: {{ bind: \"{admin}\" }}\nlisteners: {{ web: {{ bind: \"0.0.0.0:${{PORT}}\" }} }}\n\
         hosts: {{ \"*\": {{ routes: [ {{ upstream: app }} ] }} }}\n\
         upstreams: {{ app: {{ endpoints: [\"{}\"] }} }}\n",
        app.address()
    );
    std::fs::write(&config, text).expect("it can be written");
    let mut child = Command::new(portcullis())
        .arg("run")
        .env("PORT", web.port().to_string())
        .env("PORTCULLIS_CONFIG", &config)
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts");
    let ready =
        async || admin_of(admin, "/readyz").await.is_some_and(|response| response.status == 200);
    eventually(STEP, "it is ready", ready).await;
    assert_eq!(get(web, "t", "/").await.text(), "fine");
    child.kill().expect("it runs");
    child.wait().expect("it ends");
}

#[tokio::test]
async fn empty_variables_say_nothing_and_a_port_for_nobody_is_warned_of() {
    let config = "listeners: { main: { bind: \"@web@\" } }\n\
                  hosts: { \"*\": { routes: [ { respond: { body: x } } ] } }\n";
    let mut setup = Setup::new(config);
    for name in [
        "PORT",
        "PORTCULLIS_ADMIN",
        "PORTCULLIS_WORKERS",
        "PORTCULLIS_ZONE",
        "PORTCULLIS_LOG",
        "PORTCULLIS_KUBERNETES",
        "PORTCULLIS_KUBECONFIG",
        "PORTCULLIS_HTTP",
        "PORTCULLIS_CONFIGMAP",
        "PORTCULLIS_WATCH_TIMEOUT",
    ] {
        setup = setup.env(name, "");
    }
    let proxy = setup.start().await;
    assert_eq!(get(proxy.web(), "t", "/").await.text(), "x");
    assert!(!proxy.admin("/api/status").await.text().contains("PORT"));

    let proxy = Setup::new(config).env("PORT", "1").start().await;
    let status = proxy.admin("/api/status").await.text();
    assert!(status.contains("PORT is 1"), "{status}");
}

#[tokio::test]
async fn an_endpoint_may_be_a_name() {
    let app = Backend::saying("by name").await;
    let proxy = Proxy::start(
        r#"
listeners: { web: { bind: "@web@" } }
hosts:
  "*":
    routes:
      - { path: /, upstream: named }
      - { path: /nowhere, upstream: nowhere }
upstreams:
  named: { endpoints: ["localhost:@app.port@"] }
  nowhere: { endpoints: ["does-not-exist.invalid:80"] }
"#,
        &[("app", &app.address())],
    )
    .await;
    eventually(STEP, "the name is resolved", async || {
        get(proxy.web(), "t", "/").await.status == 200
    })
    .await;
    assert_eq!(get(proxy.web(), "t", "/").await.text(), "by name");
    get(proxy.web(), "t", "/nowhere").await.assert_refused(503, "no_endpoint");
}

#[tokio::test]
async fn the_demo_serves_a_shop_over_http_and_https_and_says_what_to_try() {
    let ports: BTreeMap<_, _> =
        ["http", "https", "admin"].into_iter().map(|name| (name, reserve())).collect();
    let mut child = Command::new(portcullis())
        .arg("demo")
        .args(["--http", &ports["http"].port().to_string()])
        .args(["--https", &ports["https"].port().to_string()])
        .args(["--admin", &ports["admin"].to_string()])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts");
    let shown = std::io::BufReader::new(child.stdout.take().expect("stdout is piped"));
    let lines = std::sync::Arc::new(std::sync::Mutex::new(Vec::<String>::new()));
    std::thread::spawn({
        let lines = std::sync::Arc::clone(&lines);
        move || {
            use std::io::BufRead;
            for line in shown.lines().map_while(Result::ok) {
                lines.lock().expect("no holder panics").push(line);
            }
        }
    });
    let shown = || lines.lock().expect("no holder panics").join("\n");
    let ready = async || {
        admin_of(ports["admin"], "/readyz").await.is_some_and(|response| response.status == 200)
    };
    eventually(STEP, "it is ready", ready).await;
    let mut client = Client::connect(ports["http"]).await;
    for path in ["/", "/products", "/cart", "/orders", "/reviews"] {
        let response = client.request("GET", "localhost", path).await;
        assert!((200..300).contains(&response.status), "{path}: {response}");
    }
    let tls = TlsClient::gullible("localhost", &["h2"]);
    let mut h2 = H2::tls(ports["https"], &tls).await;
    assert_eq!(h2.get("localhost", "/").await.status, 200);
    eventually(STEP, "six things to try, and requests as they flow", async || {
        let shown = shown();
        shown.matches("curl").count() >= 5
            && shown.contains(&ports["http"].port().to_string())
            && shown.contains("GET /products")
    })
    .await;
    let pid = rustix::process::Pid::from_raw(i32::try_from(child.id()).expect("a pid"));
    rustix::process::kill_process(pid.expect("a pid"), rustix::process::Signal::INT)
        .expect("it runs");
    eventually(STEP, "ctrl-c ends it", async || {
        child.try_wait().expect("it can be waited for").is_some()
    })
    .await;
}
