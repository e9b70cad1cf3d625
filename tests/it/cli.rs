//! The commands of the binary as a user types them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Command, Output};

use crate::harness::*;

const GOOD: &str = r#"
listeners: { web: { bind: "127.0.0.1:8080" } }
hosts:
  shop.example.com:
    routes:
      - { name: front, path: /, upstream: storefront }
      - { name: cart, path: /cart, upstream: cart, timeout: 5s }
      - { name: orders, path: /cart, methods: [POST], headers: { X-Beta: "1" }, upstream: cart }
upstreams:
  storefront: { endpoints: ["10.0.0.5:80"] }
  cart: { endpoints: ["10.0.0.7:80", "10.0.0.8:80"] }
"#;

/// Runs the binary with these arguments in `dir`.
fn run(dir: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(portcullis());
    for (name, _) in std::env::vars() {
        if name == "PORT" || name.starts_with("PORTCULLIS_") {
            command.env_remove(name);
        }
    }
    command.current_dir(dir).args(args).output().expect("the binary runs")
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn both(output: &Output) -> String {
    out(output) + &err(output)
}

fn with(name: &str, text: &str) -> tempfile::TempDir {
    let dir = tempfile::TempDir::new().expect("a directory");
    std::fs::write(dir.path().join(name), text).expect("it can be written");
    dir
}

#[test]
fn help_promises_only_what_is_there() {
    let dir = tempfile::tempdir().expect("a directory");
    let help = out(&run(dir.path(), &["--help"]));
    assert!(help.starts_with("An HTTP reverse proxy that never reloads\n"), "{help}");
    assert!(!help.contains("Kubernetes"), "{help}");
}

#[test]
fn the_arguments_of_ingress_nginx_are_taken_as_they_are_or_told_of() {
    let dir = tempfile::TempDir::new().expect("a directory");
    let shown = run(
        dir.path(),
        &[
            "ingress-nginx",
            "--dry-run",
            "/nginx-ingress-controller",
            "--publish-service=edge/ingress",
            "--configmap=edge/ingress",
            "--validating-webhook=:8443",
            "--shutdown-grace-period=30",
            "--pubish-service=edge/typo",
        ],
    );
    assert_eq!(shown.status.code(), Some(0), "{}", both(&shown));
    for argument in
        ["run --kubernetes", "--publish-service=edge/ingress", "--configmap=edge/ingress"]
    {
        assert!(out(&shown).contains(argument), "{}", out(&shown));
    }
    for said in [
        "--validating-webhook: is not honoured",
        "drain.grace",
        "did you mean `--publish-service`?",
    ] {
        assert!(err(&shown).contains(said), "{}", err(&shown));
    }
    let refused = run(dir.path(), &["ingress-nginx", "--watch-namespace-selector=team=edge"]);
    assert_eq!(refused.status.code(), Some(2), "{}", both(&refused));
}

#[test]
fn check_accepts_a_good_file() {
    let dir = with("good.yaml", GOOD);
    let output = run(dir.path(), &["check", "good.yaml"]);
    assert_eq!(output.status.code(), Some(0), "{}", both(&output));
}

#[test]
fn check_tells_every_mistake_with_its_place_and_how_to_mend_it() {
    let text = r#"listeners: { web: { bind: "127.0.0.1:8080" } }
hosts:
  shop.example.com:
    routes:
      - { pth: /, upstream: storefront }
      - { path: /b, upstream: storefrnt }
      - { path: /c, upstream: storefront, timeout: 5 }
upstreams:
  storefront: { endpoints: ["10.0.0.5:80"] }
"#;
    let dir = with("bad.yaml", text);
    let output = run(dir.path(), &["check", "bad.yaml"]);
    assert_eq!(output.status.code(), Some(3), "{}", both(&output));
    let told = both(&output);
    for part in [
        "bad.yaml:5:11",
        "did you mean `path`",
        "bad.yaml:6:",
        "`storefront`",
        "bad.yaml:7:",
        "`5s`",
    ] {
        assert!(told.contains(part), "no {part:?} in:\n{told}");
    }
}

#[test]
fn check_tells_where_yaml_is_broken() {
    let dir = with("broken.yaml", "listeners:\n  web: { bind: \"x\"\nhosts: {}\n");
    let output = run(dir.path(), &["check", "broken.yaml"]);
    assert_eq!(output.status.code(), Some(3), "{}", both(&output));
    assert!(both(&output).contains("broken.yaml:"), "{}", both(&output));
    let missing = run(dir.path(), &["check", "missing.yaml"]);
    assert_eq!(missing.status.code(), Some(3), "{}", both(&missing));
    assert!(both(&missing).contains("missing.yaml"), "{}", both(&missing));
}

#[test]
fn every_example_in_config_is_a_good_one() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    let files = std::fs::read_dir(&folder).expect("config/ is there");
    let files = files.map_while(Result::ok).map(|file| file.path());
    let examples: Vec<_> =
        files.filter(|file| file.extension().is_some_and(|e| e == "yaml")).collect();
    assert!(!examples.is_empty());
    let (ca, mut pairs) = (Ca::new(), BTreeMap::new());
    let revoked = ca.revoking(&[]);
    for example in examples {
        let text = std::fs::read_to_string(&example).expect("it can be read");
        let dir = with("example.yaml", &text);
        // Certificates, secrets and pages are the reader's own; here they are made up.
        for name in referenced(&text) {
            let path = dir.path().join(&name);
            std::fs::create_dir_all(path.parent().expect("below the folder")).expect("a folder");
            let stem = path.with_extension("");
            let pair = pairs
                .entry(stem.file_name().map(ToOwned::to_owned))
                .or_insert_with(|| ca.server(&["shop.example.com"]));
            let content = match path.extension().and_then(|extension| extension.to_str()) {
                Some("key") => pair.key.as_str(),
                Some("pem") if name.contains("revoked") => revoked.as_str(),
                Some("pem" | "crt") if name.contains("ca.") => ca.pem.as_str(),
                Some("pem" | "crt") => pair.cert.as_str(),
                Some("htpasswd") => "anna:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=\n",
                _ => "made up",
            };
            std::fs::write(path, content).expect("it can be written");
        }
        let output = run(dir.path(), &["check", "example.yaml"]);
        assert_eq!(output.status.code(), Some(0), "{}: {}", example.display(), both(&output));
    }
}

/// The files a configuration refers to: what stands in `${file:…}`, and words that end as files
/// do, outside comments.
fn referenced(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for line in text.lines() {
        let code = line.split(" #").next().unwrap_or_default();
        if code.trim_start().starts_with('#') {
            continue;
        }
        for piece in code.split("${file:").skip(1) {
            found.extend(piece.split('}').next().map(str::to_owned));
        }
        let words = code.split(|c: char| c.is_whitespace() || "{}[],\"'".contains(c));
        let endings = [".pem", ".crt", ".key", ".html", ".htpasswd"];
        let files = words.filter(|word| endings.iter().any(|ending| word.ends_with(ending)));
        found.extend(files.map(str::to_owned));
    }
    found
}

#[test]
fn run_with_a_bad_configuration_exits_3_and_says_why() {
    let dir = with("bad.yaml", "listenrs: {}\n");
    let output = run(dir.path(), &["run", "--config", "bad.yaml"]);
    assert_eq!(output.status.code(), Some(3), "{}", both(&output));
    let told = err(&output);
    assert!(told.contains("bad.yaml:1:1") && told.contains("listeners"), "{told}");
}

#[test]
fn wrong_usage_exits_2_and_shows_the_way() {
    let dir = tempfile::TempDir::new().expect("a directory");
    for (args, hint) in [
        (&["run"][..], "--config"),
        (&["frobnicate"], "Usage"),
        (&["check"], "Usage"),
        (&["run", "--nonsense"], "Usage"),
        (&["explain"], "Usage"),
        (&["explain", "not a url"], "URL"),
    ] {
        let output = run(dir.path(), args);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {}", both(&output));
        assert!(err(&output).contains(hint), "{args:?}: {}", err(&output));
    }
    let help = run(dir.path(), &["--help"]);
    assert_eq!(help.status.code(), Some(0));
    for command in
        ["demo", "run", "check", "explain", "routes", "status", "schema", "completions", "version"]
    {
        assert!(out(&help).contains(command), "no {command} in:\n{}", out(&help));
    }
}

#[test]
fn explain_tells_which_route_won_why_others_lost_and_where_it_leads() {
    let dir = with("good.yaml", GOOD);
    let url = "http://shop.example.com/cart/items";
    let output = run(dir.path(), &["explain", url, "--config", "good.yaml"]);
    assert_eq!(output.status.code(), Some(0), "{}", both(&output));
    let told = out(&output);
    for part in ["cart", "front", "orders", "10.0.0.7:80", "10.0.0.8:80", "5s", "method"] {
        assert!(told.contains(part), "no {part:?} in:\n{told}");
    }
    let post = run(
        dir.path(),
        &["explain", url, "-X", "POST", "-H", "X-Beta: 1", "--config", "good.yaml"],
    );
    let won = |told: &str, route: &str| {
        told.lines().any(|line| line.trim_start().starts_with(&format!("route    {route}:")))
    };
    assert!(won(&told, "cart"), "{told}");
    assert!(told.contains("the method is not POST"), "why orders lost: {told}");
    let told = out(&post);
    assert!(won(&told, "orders"), "{told}");

    let none = run(dir.path(), &["explain", "http://other.example/", "--config", "good.yaml"]);
    assert!(out(&none).contains("404"), "{}", both(&none));
}

#[test]
fn routes_lists_the_table() {
    let dir = with("good.yaml", GOOD);
    let output = run(dir.path(), &["routes", "--config", "good.yaml"]);
    assert_eq!(output.status.code(), Some(0), "{}", both(&output));
    let table = out(&output);
    for part in ["shop.example.com", "front", "/cart", "POST", "storefront"] {
        assert!(table.contains(part), "no {part:?} in:\n{table}");
    }
}

#[test]
fn schema_is_json_schema_that_knows_the_keys() {
    let dir = tempfile::TempDir::new().expect("a directory");
    let output = run(dir.path(), &["schema"]);
    assert_eq!(output.status.code(), Some(0), "{}", both(&output));
    let schema: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert!(schema["$schema"].is_string(), "{schema}");
    for key in ["listeners", "hosts", "upstreams", "access_log"] {
        assert!(schema["properties"][key].is_object(), "no {key}");
    }
}

#[test]
fn completions_are_printed_for_every_shell() {
    let dir = tempfile::TempDir::new().expect("a directory");
    for shell in ["bash", "zsh", "fish"] {
        let output = run(dir.path(), &["completions", shell]);
        assert_eq!(output.status.code(), Some(0), "{}", both(&output));
        assert!(out(&output).contains("portcullis") && out(&output).contains("explain"), "{shell}");
    }
}

#[test]
fn version_tells_itself_to_people_and_programs() {
    let dir = tempfile::TempDir::new().expect("a directory");
    let plain = run(dir.path(), &["version"]);
    assert_eq!(plain.status.code(), Some(0), "{}", both(&plain));
    assert!(out(&plain).contains(env!("CARGO_PKG_VERSION")), "{}", out(&plain));
    let json = run(dir.path(), &["version", "--json"]);
    let version: serde_json::Value = serde_json::from_slice(&json.stdout).expect("JSON");
    assert_eq!(version["version"], env!("CARGO_PKG_VERSION"));
}

#[tokio::test]
async fn explain_routes_and_status_ask_a_running_proxy() {
    let echo = Server::echo().await;
    let proxy = Proxy::to(echo.address()).await;
    let admin = proxy.addr("admin").to_string();
    let ask = async |args: Vec<&str>| {
        let args: Vec<String> = args.into_iter().map(str::to_owned).collect();
        let admin = admin.clone();
        let task = tokio::task::spawn_blocking(move || {
            let mut args: Vec<&str> = args.iter().map(String::as_str).collect();
            args.extend(["--admin", &admin]);
            run(Path::new("/"), &args)
        });
        let output = task.await.expect("no panic");
        assert_eq!(output.status.code(), Some(0), "{}", both(&output));
        out(&output)
    };
    let explained = ask(vec!["explain", "http://t/x"]).await;
    assert!(
        explained.contains("all") && explained.contains(&echo.address().to_string()),
        "{explained}"
    );
    let routes = ask(vec!["routes"]).await;
    assert!(routes.contains("all") && routes.contains("app"), "{routes}");
    let status = ask(vec!["status"]).await;
    assert!(status.contains("ready") && status.contains("generation 1"), "{status}");
    assert!(status.contains(&format!("web at {}", proxy.web())), "{status}");
    let nobody = reserve().to_string();
    let output = run(Path::new("/"), &["status", "--admin", &nobody]);
    assert_eq!(output.status.code(), Some(1), "{}", both(&output));
    assert!(err(&output).contains(&nobody), "{}", err(&output));
}

#[tokio::test]
async fn a_port_that_is_taken_is_exit_code_1_and_named() {
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = taken.local_addr().expect("bound");
    let admin = reserve();
    let text = format!(
        "admin: {{ bind: \"{admin}\" }}\nlisteners: {{ web: {{ bind: \"{address}\" }} }}\n\
         hosts: {{ \"*\": {{ routes: [ {{ respond: {{}} }} ] }} }}\n"
    );
    let dir = with("taken.yaml", &text);
    let path = dir.path().to_owned();
    let output =
        tokio::task::spawn_blocking(move || run(&path, &["run", "--config", "taken.yaml"]));
    let output = within(STEP, "it gives up", output).await.expect("no panic");
    assert_eq!(output.status.code(), Some(1), "{}", both(&output));
    assert!(err(&output).contains(&address.to_string()), "{}", err(&output));
}
