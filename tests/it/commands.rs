//! What commands tell programs and of a running proxy, what stands above the file, and who may
//! ask the admin listener. (What a user types and reads otherwise is in `cli`.)

use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::harness::*;

const CONFIG: &str = r#"
listeners: { web: { bind: "@web@" } }
hosts:
  "*":
    routes:
      - { name: all, path: /, upstream: app }
      - { name: fixed, path: /fixed, respond: { status: 418, body: teapot } }
upstreams: { app: { endpoints: ["@app@"] } }
"#;

/// Runs the binary with nothing of this process's environment that it would heed.
fn portcullis_with(args: &[&str], env: &[(&str, &str)]) -> Output {
    let mut command = Command::new(portcullis());
    for (name, _) in std::env::vars() {
        if name == "PORT" || name.starts_with("PORTCULLIS_") {
            command.env_remove(name);
        }
    }
    let command = command.args(args).envs(env.iter().copied()).stdin(Stdio::null());
    command.output().expect("the binary runs")
}

fn command(args: &[&str]) -> Output {
    portcullis_with(args, &[])
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn json(output: &Output) -> serde_json::Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("no JSON: {}", out(output)))
}

fn file(directory: &Path, name: &str, text: &str) -> String {
    let path = directory.join(name);
    std::fs::write(&path, text).expect("the directory can be written");
    path.to_string_lossy().into_owned()
}

/// A command against a running proxy, off the runtime that serves its back ends.
async fn asked(proxy: &Proxy, args: &[&str]) -> Output {
    let admin = format!("http://{}", proxy.addr("admin"));
    let args: Vec<String> =
        args.iter().map(|arg| (*arg).to_owned()).chain(["--admin".into(), admin]).collect();
    let run = move || command(&args.iter().map(String::as_str).collect::<Vec<_>>());
    tokio::task::spawn_blocking(run).await.expect("the command ends")
}

#[test]
fn an_invalid_file_is_invalid_for_programs_and_other_commands_too() {
    let directory = tempfile::tempdir().expect("a directory");
    let text = "listeners: { web: { bind: \":8080\" } }\nhosts:\n  x.example:\n    routes:\n      - { pth: /, respond: { body: x } }\n";
    let path = file(directory.path(), "x.yaml", text);
    let output = command(&["check", "--json", &path]);
    assert_eq!(output.status.code(), Some(3));
    let problem = &json(&output)["problems"][0];
    assert_eq!(
        (&problem["location"]["line"], &problem["location"]["column"]),
        (&5.into(), &11.into())
    );
    // Those that need a configuration say the same.
    for args in [&["routes", "--config", &path][..], &["explain", "http://x.example/", "-c", &path]]
    {
        let output = command(args);
        assert_eq!(output.status.code(), Some(3), "{args:?}");
        assert!(err(&output).contains("x.yaml:5:11"), "{}", err(&output));
    }
    assert_eq!(
        command(&["check", &directory.path().join("none").to_string_lossy()]).status.code(),
        Some(3)
    );
}

#[test]
fn a_directory_without_files_is_no_configuration() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().to_string_lossy().into_owned();
    for args in [&["check", &path][..], &["run", "--config", &path]] {
        let output = command(args);
        assert_eq!(output.status.code(), Some(3), "{args:?}: {}", err(&output));
        let told = out(&output) + &err(&output);
        assert!(told.contains("there is no configuration file in it"), "{told}");
        assert!(told.contains(&path), "{told}");
    }
}

#[test]
fn check_looks_into_certificates_as_well() {
    let directory = tempfile::tempdir().expect("a directory");
    let (one, other) = (Ca::new().server(&["a.example"]), Ca::new().server(&["a.example"]));
    file(directory.path(), "a.pem", &one.cert);
    file(directory.path(), "a.key", &other.key);
    let text = "listeners: { web: { bind: \":8443\", tls: { certificates: [ { cert: a.pem, key: a.key } ] } } }\n";
    let path = file(directory.path(), "x.yaml", text);
    let output = command(&["check", &path]);
    assert_eq!(output.status.code(), Some(3), "a key of another certificate: {}", out(&output));
    assert!(out(&output).contains("x.yaml:1:"), "{}", out(&output));
    let key_line = other.key.lines().nth(1).expect("a PEM body");
    assert!(!out(&output).contains(key_line) && !err(&output).contains(key_line));
}

#[test]
fn check_points_at_the_file_of_client_cas_or_revoked_certificates_that_is_damaged() {
    let directory = tempfile::tempdir().expect("a directory");
    file(directory.path(), "ca.pem", &Ca::new().pem);
    file(directory.path(), "damaged.pem", "-----BEGIN NOTHING-----\n");
    let text = r#"
listeners: { web: { bind: ":8443", tls: {} } }
hosts:
  a.example:
    client_auth:
      ca: ca.pem
      crl: damaged.pem
    routes: [ { respond: {} } ]
  b.example: { client_auth: { ca: damaged.pem }, routes: [ { respond: {} } ] }
"#;
    let path = file(directory.path(), "x.yaml", text);
    let output = command(&["check", &path]);
    assert_eq!(output.status.code(), Some(3), "{}", out(&output));
    for (place, form) in [("x.yaml:7:12", "BEGIN X509 CRL"), ("x.yaml:9:35", "BEGIN CERTIFICATE")] {
        let of = out(&output).split("error: ").find(|part| part.contains(place)).map(str::to_owned);
        let told = of.unwrap_or_else(|| panic!("nothing at {place}: {}", out(&output)));
        assert!(told.contains(form) && told.contains("503"), "{told}");
    }
}

#[test]
fn wrong_usage_exits_2_and_a_proxy_that_is_not_there_1() {
    assert_eq!(command(&["run", "--upstream", "no port"]).status.code(), Some(2));
    assert_eq!(command(&["run", "--config", "x", "--upstream", "x:1"]).status.code(), Some(2));
    for (name, value) in [("PORT", "x"), ("PORTCULLIS_ADMIN", "x"), ("PORTCULLIS_WORKERS", "0")] {
        let output = portcullis_with(&["run", "--upstream", "127.0.0.1:1"], &[(name, value)]);
        assert_eq!(output.status.code(), Some(2), "{name}={value}");
        let told = err(&output);
        assert!(told.contains(&format!("{name}={value}")), "{told}");
    }
    let directory = tempfile::tempdir().expect("a directory");
    let path = file(directory.path(), "x.yaml", "listeners: { main: { bind: \"127.0.0.1:1\" } }\n");
    let output = command(&["run", "--config", &path, "--port", "80"]);
    assert_eq!(output.status.code(), Some(2), "a port for nobody: {}", err(&output));
    let nobody = reserve().to_string();
    for args in [&["status"][..], &["routes"], &["explain", "http://x/"], &["top", "--once"]] {
        let output = command(&[args, &["--admin", nobody.as_str()]].concat());
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        assert!(err(&output).contains("is portcullis running"), "{}", err(&output));
    }
}

#[tokio::test]
async fn a_running_proxy_tells_its_status_routes_explanations_and_traffic() {
    let app = Server::echo().await;
    let mut proxy = Proxy::start(CONFIG, &[("app", &app.address())]).await;
    let status = asked(&proxy, &["status"]).await;
    assert_eq!(status.status.code(), Some(0), "{}", err(&status));
    assert!(out(&status).contains(": ready") && out(&status).contains("listener       web"));
    for text in [", 1 upstream\n", ", 0 connections\n"] {
        assert!(out(&status).contains(text), "no {text:?}: {}", out(&status));
    }
    let routes = asked(&proxy, &["routes"]).await;
    assert!(out(&routes).contains("fixed") && out(&routes).contains("respond 418"));
    let web = proxy.web();
    let url = format!("http://{web}/x?y=z&a=%20b");
    let explained = asked(&proxy, &["explain", &url, "-H", "x: a b&c"]).await;
    assert!(out(&explained).contains(&app.address().to_string()), "{}", out(&explained));
    assert!(out(&explained).contains("sends    /x?y=z&a=%20b"), "{}", out(&explained));
    get(web, "t", "/").await;
    let top = asked(&proxy, &["top", "--once"]).await;
    assert_eq!(top.status.code(), Some(0), "{}", err(&top));
    assert!(out(&top).contains("ROUTE") && out(&top).contains("app"), "{}", out(&top));

    proxy.rewrite(&CONFIG.replace("path: /fixed", "pth: /fixed"));
    eventually(STEP, "the refusal shows", async || {
        let status = asked(&proxy, &["status"]).await;
        out(&status).contains("REFUSED") && out(&status).contains("did you mean `path`")
    })
    .await;
    let status = asked(&proxy, &["status", "--json"]).await;
    assert_eq!(status.status.code(), Some(0), "the last good configuration serves");
    let problem = &json(&status)["reload"]["problems"][0];
    assert!(problem["location"]["line"].as_u64().is_some_and(|line| line == 7), "{problem}");
}

#[tokio::test]
async fn flags_and_variables_stand_above_the_file() {
    let app = Server::echo().await;
    let moved = reserve();
    let port = moved.port().to_string();
    let proxy = Setup::new(CONFIG)
        .with("app", app.address())
        .env("PORT", &port)
        .env("PORTCULLIS_WORKERS", "3")
        .arg("--workers")
        .arg("1")
        .start()
        .await;
    assert_eq!(get(moved, "t", "/fixed").await.status, 418);
    let status = proxy.admin("/api/status").await.json();
    assert_eq!(
        (&status["workers"], &status["listeners"][0]["address"]),
        (&1.into(), &moved.to_string().into())
    );
}

#[tokio::test]
async fn without_a_file_everything_goes_to_one_upstream() {
    let app = Server::echo().await;
    let (web, admin) = (reserve(), reserve());
    let mut child = Command::new(portcullis())
        .arg("run")
        .env_remove("PORTCULLIS_CONFIG")
        .env("PORTCULLIS_UPSTREAM", app.address().to_string())
        .env("PORTCULLIS_ADMIN", admin.to_string())
        .env("PORT", web.port().to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the binary starts");
    eventually(STEP, "it is ready", async || {
        admin_of(admin, "/readyz").await.is_some_and(|response| response.status == 200)
    })
    .await;
    let response = get(web, "anything.example", "/x").await;
    child.kill().expect("it runs");
    child.wait().expect("it ends");
    assert_eq!(response.status, 200);
    assert_eq!(Echoed::of(&response.body).header("host"), Some("anything.example"));
}

#[tokio::test]
async fn a_page_from_elsewhere_cannot_read_the_admin_listener() {
    let app = Server::echo().await;
    let proxy = Proxy::to(app.address()).await;
    for (host, status) in [("localhost:9900", 200), ("127.0.0.1", 200), ("evil.example", 403)] {
        for path in ["/", "/api/config", "/metrics", "/healthz"] {
            let mut client = Client::connect(proxy.addr("admin")).await;
            client.send(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
            assert_eq!(client.response().await.status, status, "{host} {path}");
        }
    }
}

#[tokio::test]
async fn the_dashboard_needs_nothing_from_elsewhere() {
    let app = Server::echo().await;
    let proxy = Proxy::to(app.address()).await;
    let page = proxy.admin("/").await;
    assert_eq!(page.status, 200);
    let text = page.text();
    assert!(text.contains("<title>Portcullis</title>"));
    for outside in ["src=\"", "@import", "url(", "rel=\"stylesheet\""] {
        assert!(!text.contains(outside), "{outside}");
    }
    let links = text.split("href=\"").skip(1);
    assert!(links.into_iter().all(|link| link.starts_with('/') || link.starts_with("data:")));
    let mut client = Client::connect(proxy.addr("admin")).await;
    client.send("HEAD /api/status HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    let head = client.try_response(true).await.expect("a head");
    assert_eq!((head.status, head.body.len()), (200, 0));
}

#[tokio::test]
async fn connections_that_never_ask_do_not_keep_probes_out() {
    let proxy = Proxy::start(CONFIG, &[("app", &reserve())]).await;
    let admin = proxy.addr("admin");
    let mut silent = Vec::new();
    for _ in 0..80 {
        silent.push(Client::connect(admin).await);
    }
    let start = std::time::Instant::now();
    let health = within(STEP, "an answer", admin_of(admin, "/healthz")).await;
    assert_eq!(health.expect("an answer").status, 200);
    let waited = start.elapsed();
    assert!(waited < std::time::Duration::from_secs(11), "{waited:?}");
}
