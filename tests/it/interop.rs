//! Clients that others wrote: what our own harness and the proxy both take for granted would
//! show here.

use std::process::{Command, Output};

use crate::harness::*;

/// Runs a tool that `tests/run` brings in, off the test's own runtime.
async fn tool(name: &str, args: &[&str]) -> Output {
    let (name, args) = (name.to_owned(), args.iter().map(|arg| (*arg).to_owned()));
    let args: Vec<String> = args.collect();
    let run = tokio::task::spawn_blocking(move || {
        let output = Command::new(&name).args(args).output();
        output.unwrap_or_else(|error| panic!("{name} is missing; tests/run installs it: {error}"))
    });
    within(STEP * 3, "the tool ends", run).await.expect("no panic")
}

const CONFIG: &str = r#"
listeners:
  web: { bind: "@web@" }
  secure: { bind: "@secure@", tls: { certificates: [ { cert: shop.pem, key: shop.key } ] } }
hosts: { "*": { routes: [ { path: /, upstream: app } ] } }
upstreams: { app: { endpoints: ["@app@"] } }
"#;

async fn start(ca: &Ca, app: &Server) -> Proxy {
    let pair = ca.server(&["shop.example"]);
    let setup = Setup::new(CONFIG).with("app", app.address()).file("ca.pem", ca.pem.as_str());
    setup.file("shop.pem", pair.cert).file("shop.key", pair.key).start().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn curl_speaks_every_version_with_it() {
    let ca = Ca::new();
    let app = Server::echo().await;
    let proxy = start(&ca, &app).await;
    let (web, secure) = (proxy.web(), proxy.addr("secure"));
    let resolve = format!("shop.example:{}:127.0.0.1", secure.port());
    let ca_file = proxy.file("ca.pem").display().to_string();
    let plain = format!("http://{web}/a?b=c");
    let tls = format!("https://shop.example:{}/a?b=c", secure.port());
    let body = "x".repeat(300_000);
    proxy.write("body", &body);
    let upload = format!("@{}", proxy.file("body").display());
    let rows: &[(&str, &[&str])] = &[
        ("1.1", &["--http1.1", &plain]),
        ("1.0", &["--http1.0", &plain]),
        ("h2c", &["--http2-prior-knowledge", &plain]),
        ("upgrade to h2c declined", &["--http2", &plain]),
        ("TLS 1.3 h2", &["--http2", "--tlsv1.3", &tls]),
        ("TLS 1.2 h2", &["--http2", "--tls-max", "1.2", &tls]),
        ("TLS 1.1", &["--http1.1", &tls]),
        ("upload", &["--http1.1", "--data-binary", &upload, &plain]),
        (
            "chunked",
            &["--http1.1", "-H", "Transfer-Encoding: chunked", "--data-binary", &upload, &plain],
        ),
        ("expect", &["--http1.1", "-H", "Expect: 100-continue", "--data-binary", &upload, &plain]),
        ("h2 upload", &["--http2", "--data-binary", &upload, &tls]),
    ];
    for (name, args) in rows {
        let common =
            ["-sS", "--fail", "--max-time", "20", "--cacert", &ca_file, "--resolve", &resolve];
        let output = tool("curl", &[&common, *args].concat()).await;
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
        let echoed = Echoed::of(&output.stdout);
        assert_eq!(echoed.target, "/a?b=c", "{name}");
        if args.contains(&upload.as_str()) {
            assert_eq!(
                (echoed.length, echoed.fingerprint),
                (body.len() as u64, fingerprint(body.as_bytes())),
                "{name}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h2load_gets_every_response_over_http_1_and_2() {
    let ca = Ca::new();
    let app = Server::echo().await;
    let proxy = start(&ca, &app).await;
    let plain = format!("http://{}/", proxy.web());
    let tls = format!("https://{}/", proxy.addr("secure"));
    for args in [
        &["--h1", "-n2000", "-c8", "-t1", plain.as_str()][..],
        &["-n2000", "-c4", "-m20", "-t1", &plain],
        &["-n2000", "-c4", "-m20", "-t1", &tls],
    ] {
        let output = tool("h2load", args).await;
        let report = String::from_utf8_lossy(&output.stdout).into_owned();
        let line = report.lines().find(|line| line.starts_with("requests:"));
        let line = line.unwrap_or_else(|| panic!("{report}"));
        assert!(
            line.contains("2000 succeeded, 0 failed, 0 errored, 0 timeout"),
            "{args:?}: {line}"
        );
        assert!(report.contains("status codes: 2000 2xx"), "{report}");
    }
}
