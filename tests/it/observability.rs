//! What operators see: metrics, the access log, readiness, the admin API.

use std::collections::BTreeSet;

use rustix::process::Signal;

use crate::harness::*;

const CONFIG: &str = r#"
access_log: true
listeners: { web: { bind: "@web@" } }
hosts:
  "*":
    routes:
      - { name: all, path: /, upstream: app }
      - { name: fixed, path: /fixed, respond: { status: 418, body: teapot } }
      - { name: quiet, path: /quiet, access_log: false, upstream: app }
upstreams: { app: { balance: round_robin, endpoints: ["@app@", "@dead@"] } }
"#;

async fn start(app: &Server) -> Proxy {
    Proxy::start(CONFIG, &[("app", &app.address()), ("dead", &reserve())]).await
}

#[tokio::test]
async fn metrics_tell_what_happened_by_listener_route_upstream_and_endpoint() {
    let app = Server::echo().await;
    let proxy = start(&app).await;
    let mut client = Client::connect(proxy.web()).await;
    for _ in 0..10 {
        assert_eq!(client.request("GET", "t", "/").await.status, 200);
    }
    client.send("POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 1000\r\n\r\n").await;
    client.send(vec![b'x'; 1000]).await;
    assert_eq!(client.response().await.status, 200);
    assert_eq!(client.request("GET", "t", "/?status=503").await.status, 503);
    assert_eq!(client.request("GET", "t", "/fixed").await.status, 418);
    let response = client.request("GET", "t", "/?size=50000").await;
    assert_eq!(response.body.len(), 50_000);

    proxy
        .metrics_until("everything is counted", |metrics| {
            metrics.sum("portcullis_requests_total", &[("listener", "web")]) >= 14.0
        })
        .await;
    let metrics = proxy.metrics().await;
    let requests = |labels: &[(&str, &str)]| metrics.sum("portcullis_requests_total", labels);
    assert_eq!(requests(&[("route", "all"), ("code", "2xx"), ("reason", "-")]), 12.0);
    assert_eq!(requests(&[("route", "all"), ("code", "5xx"), ("reason", "-")]), 1.0);
    assert_eq!(requests(&[("route", "fixed"), ("code", "4xx"), ("reason", "respond")]), 1.0);
    let on_all = [("listener", "web"), ("route", "all")];
    assert_eq!(metrics.sum("portcullis_request_bytes_total", &on_all), 1000.0);
    assert!(metrics.sum("portcullis_response_bytes_total", &on_all) >= 50_000.0);
    assert_eq!(metrics.sum("portcullis_request_duration_seconds_count", &on_all), 13.0);
    assert_eq!(
        metrics
            .sum("portcullis_request_duration_seconds_bucket", &[("route", "all"), ("le", "+Inf")]),
        13.0
    );
    assert_eq!(metrics.sum("portcullis_requests_in_flight", &on_all), 0.0);
    let address = app.address().to_string();
    let on_app = [("upstream", "app"), ("endpoint", address.as_str())];
    assert_eq!(metrics.sum("portcullis_upstream_attempts_total", &on_app), 13.0);
    assert_eq!(metrics.sum("portcullis_upstream_responses_total", &on_app), 13.0);
    assert!(metrics.sum("portcullis_upstream_retries_total", &[("upstream", "app")]) >= 1.0);
    assert!(
        metrics.sum("portcullis_upstream_connect_seconds_count", &[("upstream", "app")]) >= 1.0
    );
    assert_eq!(
        metrics.sum("portcullis_upstream_response_seconds_count", &[("upstream", "app")]),
        13.0
    );
    assert!(metrics.sum("portcullis_upstream_connections", &on_app) >= 1.0);
    assert_eq!(metrics.sum("portcullis_endpoint_up", &on_app), 1.0);
    assert_eq!(metrics.sum("portcullis_connections", &[("listener", "web")]), 1.0);
    assert!(metrics.sum("portcullis_connections_total", &[("listener", "web")]) >= 1.0);
    assert!(metrics.sum("portcullis_config_generation", &[]) >= 1.0);
    assert_eq!(metrics.sum("portcullis_config_last_reload_successful", &[]), 1.0);
    assert!(metrics.sum("portcullis_config_last_reload_success_timestamp_seconds", &[]) > 1.7e9);
    assert_eq!(
        metrics.sum("portcullis_build_info", &[("version", env!("CARGO_PKG_VERSION"))]),
        1.0
    );
    assert!(metrics.sum("process_resident_memory_bytes", &[]) > 1e6);
    assert!(metrics.has("process_cpu_seconds_total", &[]) && metrics.has("process_open_fds", &[]));
    for family in metrics.families().filter(|family| family.ends_with("_total")) {
        assert_eq!(metrics.kind(family), Some("counter"), "{family}");
    }
}

#[tokio::test]
async fn a_request_under_way_is_seen_in_flight() {
    let app = Backend::script(|mut conn| async move {
        let Some(_) = conn.request().await else { return };
        conn.stall().await;
    })
    .await;
    let proxy = Proxy::to(app.address()).await;
    let mut client = Client::connect(proxy.web()).await;
    client.send("GET / HTTP/1.1\r\nHost: t\r\n\r\n").await;
    let labels = [("listener", "web"), ("route", "all")];
    let in_flight = |metrics: &Metrics| metrics.sum("portcullis_requests_in_flight", &labels);
    proxy.metrics_until("one in flight", |metrics| in_flight(metrics) == 1.0).await;
    drop(client);
    proxy.metrics_until("none in flight", |metrics| in_flight(metrics) == 0.0).await;
    proxy
        .metrics_until("no connection open", |metrics| {
            metrics.sum("portcullis_connections", &[("listener", "web")]) == 0.0
        })
        .await;
}

#[tokio::test]
async fn nothing_a_client_sends_becomes_a_label() {
    let app = Server::echo().await;
    let proxy = start(&app).await;
    let mut client = Client::connect(proxy.web()).await;
    client.request("GET", "leaky.example", "/fixed").await;
    client.request("GET", "leaky.example", "/").await;
    let before = proxy.metrics().await.len();
    for number in 0..50 {
        client
            .request("GET", &format!("leaky-{number}.example"), &format!("/leaky-{number}"))
            .await;
        client.request(&format!("LEAKY{number}"), "t", "/").await;
        client.request("GET", "t", "/fixed?leaky").await;
    }
    let metrics = proxy.metrics().await;
    assert!(metrics.all_values().all(|value| !value.to_lowercase().contains("leaky")));
    assert!(metrics.len() <= before + 20, "{} samples, then {}", before, metrics.len());
}

#[tokio::test]
async fn series_of_removed_routes_go_away() {
    let app = Server::echo().await;
    let mut proxy = start(&app).await;
    get(proxy.web(), "t", "/fixed").await;
    let fixed = [("route", "fixed")];
    proxy
        .metrics_until("counted", |metrics| metrics.has("portcullis_requests_total", &fixed))
        .await;
    let without: String = CONFIG
        .lines()
        .filter(|line| !line.contains("fixed"))
        .map(|line| format!("{line}\n"))
        .collect();
    proxy.rewrite(&without);
    proxy.metrics_until("gone", |metrics| !metrics.has("portcullis_requests_total", &fixed)).await;
}

#[tokio::test]
async fn the_access_log_has_a_json_line_for_every_request() {
    let app = Server::echo().await;
    let proxy = start(&app).await;
    let mut client = Client::connect(proxy.web()).await;
    client
        .send(
            "POST /a%20b?q=1 HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 5\r\n\
             User-Agent: curl/8\r\nReferer: http://r.example/\r\n\r\nhello",
        )
        .await;
    let response = client.response().await;
    let line = proxy.stdout_line("a line", |line| line.contains("/a%20b")).await;
    let entry: serde_json::Value = serde_json::from_str(&line).expect("JSON");
    let text = |field: &str| entry[field].as_str().unwrap_or_default().to_owned();
    assert_eq!(text("method"), "POST");
    assert_eq!((text("path"), text("query")), ("/a%20b".into(), "q=1".into()));
    assert_eq!((text("host"), text("scheme")), ("shop.example".into(), "http".into()));
    assert_eq!(text("version"), "HTTP/1.1");
    assert_eq!(
        (text("listener"), text("route"), text("upstream")),
        ("web".into(), "all".into(), "app".into())
    );
    assert_eq!(text("endpoint"), app.address().to_string());
    assert_eq!(text("client"), "127.0.0.1");
    assert_eq!(text("peer"), client.local.to_string());
    assert_eq!(
        (text("user_agent"), text("referer")),
        ("curl/8".into(), "http://r.example/".into())
    );
    assert_eq!(text("reason"), "-");
    assert_eq!(entry["status"], 200);
    assert_eq!(entry["request_bytes"], 5);
    assert_eq!(entry["response_bytes"], response.body.len());
    assert!(entry["duration_ms"].as_f64().is_some_and(|ms| ms > 0.0 && ms < 60_000.0), "{entry}");
    assert!(entry["attempts"].as_u64().is_some_and(|attempts| attempts >= 1));
    assert!(text("time").starts_with("20") && text("time").ends_with('Z'), "{entry}");
    let echoed = Echoed::of(&response.body);
    assert_eq!(Some(text("request_id").as_str()), echoed.header("x-request-id"));

    assert!(entry["connect_ms"].as_f64().is_some_and(|ms| ms > 0.0), "{entry}");
    client.request("GET", "t", "/again").await;
    let line = proxy.stdout_line("another line", |line| line.contains("/again")).await;
    assert!(!line.contains("connect_ms"), "on a connection that was open: {line}");

    client.request("GET", "t", "/quiet/one").await;
    client.request("GET", "t", "/fixed?mark").await;
    let line = proxy.stdout_line("the proxy's own answers too", |line| line.contains("mark")).await;
    let entry: serde_json::Value = serde_json::from_str(&line).expect("JSON");
    assert_eq!((&entry["status"], &entry["reason"]), (&418.into(), &"respond".into()));
    assert!(!proxy.stdout().iter().any(|line| line.contains("/quiet")), "not where turned off");
}

#[tokio::test]
async fn an_error_body_and_the_log_name_the_same_request() {
    let proxy = Proxy::start(
        r#"
access_log: true
listeners: { web: { bind: "@web@" } }
hosts: { a.example: { routes: [ { path: /a, respond: { body: a } } ] } }
"#,
        &[],
    )
    .await;
    let mut client = Client::connect(proxy.web()).await;
    client.send("GET /x HTTP/1.1\r\nHost: a.example\r\nAccept: application/json\r\n\r\n").await;
    let error = client.response().await.json();
    let id = error["request_id"].as_str().expect("an id").to_owned();
    let line = proxy.stdout_line("a line with the id", |line| line.contains(&id)).await;
    let entry: serde_json::Value = serde_json::from_str(&line).expect("JSON");
    assert_eq!((&entry["status"], &entry["reason"]), (&404.into(), &"no_route".into()));
}

#[tokio::test]
async fn log_lines_cannot_be_forged() {
    let app = Server::echo().await;
    let formats = ["json", "combined", "{method} {path} {user_agent}"];
    for format in formats {
        let proxy = Proxy::start(
            &CONFIG.replace(
                "access_log: true\n",
                &format!("access_log: {{ format: \"{format}\" }}\n"),
            ),
            &[("app", &app.address()), ("dead", &reserve())],
        )
        .await;
        let mut client = Client::connect(proxy.web()).await;
        client
            .send(
                b"GET /%0aforged%22 HTTP/1.1\r\nHost: t\r\n\
                  User-Agent: \" 200 forged\xc2\x9b2J\xe2\x80\xa8\\x\r\n\r\n",
            )
            .await;
        client.response().await;
        let line = proxy.stdout_line("a line", |line| line.contains("forged")).await;
        assert!(line.chars().all(|c| !c.is_control() && c != '\u{2028}'), "{format}: {line:?}");
        if format == "json" {
            let entry: serde_json::Value = serde_json::from_str(&line).expect("JSON");
            assert!(entry["user_agent"].as_str().is_some_and(|agent| agent.starts_with("\" 200")));
        }
    }
}

#[tokio::test]
async fn the_combined_format_and_templates_are_written_as_asked() {
    let app = Server::echo().await;
    for (format, expected) in [
        ("combined", "\"GET /x?y=1 HTTP/1.1\" 200 "),
        ("{status} {method} {path} -> {upstream} {reason}", "200 GET /x -> app -"),
    ] {
        let proxy = Proxy::start(
            &CONFIG.replace(
                "access_log: true\n",
                &format!("access_log: {{ format: \"{format}\" }}\n"),
            ),
            &[("app", &app.address()), ("dead", &reserve())],
        )
        .await;
        let mut client = Client::connect(proxy.web()).await;
        client.send("GET /x?y=1 HTTP/1.1\r\nHost: t\r\nUser-Agent: ua/1\r\n\r\n").await;
        client.response().await;
        let line = proxy.stdout_line(format, |line| line.contains(expected)).await;
        if format == "combined" {
            assert!(line.starts_with("127.0.0.1 - - ["), "{line}");
            assert!(line.ends_with("\"-\" \"ua/1\""), "{line}");
        } else {
            assert_eq!(line, expected);
        }
    }
}

#[tokio::test]
async fn a_log_file_is_opened_again_on_sigusr1() {
    let app = Server::echo().await;
    let config = CONFIG.replace("access_log: true\n", "access_log: { path: access.log }\n");
    let proxy = Proxy::start(&config, &[("app", &app.address()), ("dead", &reserve())]).await;
    let (current, rotated) = (proxy.file("access.log"), proxy.file("access.log.1"));
    let holds = |path: &std::path::Path, text: &str| {
        std::fs::read_to_string(path).is_ok_and(|log| log.contains(text))
    };
    get(proxy.web(), "t", "/first").await;
    eventually(STEP, "the line is in the file", async || holds(&current, "/first")).await;
    std::fs::rename(&current, &rotated).expect("it is there");
    proxy.signal(Signal::USR1);
    eventually(STEP, "a new file is there", async || current.exists()).await;
    get(proxy.web(), "t", "/second").await;
    eventually(STEP, "the line is in the new file", async || holds(&current, "/second")).await;
    assert!(!holds(&rotated, "/second"));
}

#[tokio::test]
async fn a_log_file_whose_directory_is_missing_is_tried_again() {
    let app = Server::echo().await;
    let logging = |path: &str| {
        CONFIG
            .replace("access_log: true\n", &format!("access_log: {{ path: {path}/access.log }}\n"))
    };
    let values: [(&str, &dyn std::fmt::Display); 2] =
        [("app", &app.address()), ("dead", &reserve())];
    let mut proxy = Proxy::start(&logging("one"), &values).await;
    let status = async |proxy: &Proxy| proxy.admin("/api/status").await.text();
    let said = status(&proxy).await;
    assert!(said.contains("No such file or directory"), "{said}");
    let create = |directory: &std::path::Path| std::fs::create_dir(directory).expect("a directory");
    let logged = async |proxy: &Proxy, directory: &str| {
        get(proxy.web(), "t", &format!("/to-{directory}")).await;
        let log = std::fs::read_to_string(proxy.file(directory).join("access.log"));
        log.is_ok_and(|log| log.contains(&format!("/to-{directory}")))
    };
    create(&proxy.file("one"));
    proxy.signal(Signal::HUP);
    eventually(STEP, "SIGHUP tries again", async || logged(&proxy, "one").await).await;
    assert!(!status(&proxy).await.contains("No such file"), "it is no problem any more");
    proxy.rewrite(&logging("two"));
    eventually(STEP, "the next one is missing, too", async || {
        status(&proxy).await.contains("two/access.log")
    })
    .await;
    create(&proxy.file("two"));
    proxy.signal(Signal::USR1);
    eventually(STEP, "SIGUSR1 opens what is wanted", async || logged(&proxy, "two").await).await;
}

#[tokio::test]
async fn a_log_that_cannot_be_written_is_counted_and_costs_no_request() {
    let app = Server::echo().await;
    let config = CONFIG.replace("access_log: true\n", "access_log: { path: /dev/full }\n");
    let proxy = Proxy::start(&config, &[("app", &app.address()), ("dead", &reserve())]).await;
    for _ in 0..20 {
        assert_eq!(get(proxy.web(), "t", "/").await.status, 200);
    }
    proxy
        .metrics_until("the lost lines are counted", |metrics| {
            metrics.sum("portcullis_access_log_dropped_total", &[]) >= 20.0
        })
        .await;
}

#[tokio::test]
async fn operations_logs_are_json_when_nobody_watches() {
    let app = Server::echo().await;
    let proxy = start(&app).await;
    eventually(STEP, "it says that it started", async || !proxy.stderr().is_empty()).await;
    let stderr = proxy.stderr();
    for line in stderr.lines() {
        let entry: serde_json::Value =
            serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}"));
        assert!(entry["level"].is_string() && entry["timestamp"].is_string(), "{line}");
    }
}

#[tokio::test]
async fn the_admin_api_shows_configuration_routes_upstreams_and_certificates() {
    let ca = Ca::new();
    let pair = ca.server(&["shop.example"]);
    let app = Server::echo().await;
    let setup = Setup::new(
        r#"
listeners:
  web: { bind: "@web@" }
  secure: { bind: "@secure@", tls: { certificates: [ { cert: shop.pem, key: shop.key } ] } }
hosts:
  shop.example:
    routes:
      - { name: front, path: /, upstream: app }
      - { name: hidden, path: /token, upstream: app, request_headers: { set: { authorization: "Bearer ${file:token}" } } }
upstreams: { app: { endpoints: ["@app@"] } }
"#,
    );
    let setup = setup.with("app", app.address()).file("token", "s3cr3t-t0ken");
    let proxy = setup.file("shop.pem", pair.cert).file("shop.key", pair.key.as_str()).start().await;
    get(proxy.web(), "shop.example", "/").await;
    let key_line = pair.key.lines().nth(1).expect("a PEM body").to_owned();
    for (path, parts) in [
        ("/api/config", vec!["front", "shop.example"]),
        ("/api/routes", vec!["front", "hidden", "shop.example", "/token"]),
        ("/api/upstreams", vec!["app"]),
        ("/api/certificates", vec!["shop.example"]),
    ] {
        let response = proxy.admin(path).await;
        assert_eq!(response.status, 200, "{path}: {response}");
        let text = response.json().to_string();
        for part in parts {
            assert!(text.contains(part), "no {part:?} at {path}: {text}");
        }
        assert!(!text.contains("s3cr3t-t0ken"), "{path} shows a secret");
        assert!(!text.contains(&key_line), "{path} shows a key");
    }
    let upstreams = proxy.admin("/api/upstreams").await.json().to_string();
    assert!(upstreams.contains(&app.address().to_string()), "{upstreams}");
    assert_eq!(proxy.admin("/nothing").await.status, 404);
    let mut client = Client::connect(proxy.addr("admin")).await;
    client.send("POST /api/config HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n").await;
    assert_eq!(client.response().await.status, 405, "the admin listener only reads");
    assert!(!proxy.stderr().contains("s3cr3t-t0ken"));
}

#[tokio::test]
async fn a_running_proxy_explains_where_a_request_goes() {
    let app = Server::echo().await;
    let proxy = start(&app).await;
    let response = proxy.admin("/api/explain?url=http://shop.example/fixed/x").await;
    assert_eq!(response.status, 200, "{response}");
    let text = response.json().to_string();
    assert!(text.contains("fixed") && text.contains("all"), "{text}");
    let response = proxy.admin("/api/explain?url=http://shop.example/other").await;
    let text = response.json().to_string();
    assert!(text.contains(&app.address().to_string()), "the upstream with its endpoints: {text}");
    assert_eq!(proxy.admin("/api/explain").await.status, 400);
}

#[tokio::test]
async fn label_sets_are_as_declared() {
    let app = Server::echo().await;
    let proxy = start(&app).await;
    get(proxy.web(), "t", "/").await;
    proxy
        .metrics_until("counted", |metrics| {
            metrics.sum("portcullis_requests_total", &[("route", "all")]) >= 1.0
        })
        .await;
    let metrics = proxy.metrics().await;
    for (family, labels) in [
        ("portcullis_requests_total", &["code", "listener", "reason", "route"][..]),
        ("portcullis_request_bytes_total", &["listener", "route"]),
        ("portcullis_requests_in_flight", &["listener", "route"]),
        ("portcullis_upstream_attempts_total", &["endpoint", "upstream"]),
        ("portcullis_upstream_responses_total", &["code", "endpoint", "upstream"]),
        ("portcullis_endpoint_up", &["endpoint", "upstream"]),
        ("portcullis_connections", &["listener"]),
    ] {
        let expected: BTreeSet<String> = labels.iter().map(|label| (*label).to_owned()).collect();
        assert_eq!(metrics.label_names(family), expected, "{family}");
    }
}

#[tokio::test]
async fn requests_refused_before_they_were_understood_are_logged_with_the_rule_they_broke() {
    let app = Server::echo().await;
    let proxy = start(&app).await;
    for (request, status, path, rule) in [
        ("GET /one HTTP/1.1\r\nHost: a b\r\n\r\n", 400, "/one", "bad_host"),
        ("PUT /two?x HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400, "/two", "repeated_host"),
        ("GET /three HTTP/1.1\r\n\r\n", 400, "/three", "no_host"),
        ("CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", 405, "-", "connect"),
        ("BR{KEN\r\n\r\n", 400, "-", "bad_method"),
    ] {
        let mut client = Client::connect(proxy.web()).await;
        client.send(request).await;
        assert_eq!(client.response().await.status, status, "{request:?}");
        let local = client.local.to_string();
        let line = proxy.stdout_line(request, |line| line.contains(&local)).await;
        let entry: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(entry["status"], status, "{entry}");
        assert_eq!(entry["reason"], "bad_request", "{entry}");
        assert_eq!(entry["detail"], rule, "{entry}");
        assert_eq!(entry["path"].as_str().unwrap_or("-"), path, "{entry}");
        assert_eq!(entry["listener"], "web");
        assert!(entry["route"].is_null() && entry["upstream"].is_null(), "{entry}");
    }
    // Over HTTP/2 the same: a Host that contradicts the authority.
    let mut h2 = H2::connect(proxy.web()).await;
    let request = http::Request::get("http://a.example/four").header("host", "b.example");
    let response = h2.request(request.body(()).expect("a request"), None, None).await;
    assert_eq!(response.status, 400);
    let line = proxy.stdout_line("a line", |line| line.contains("/four")).await;
    let entry: serde_json::Value = serde_json::from_str(&line).expect("JSON");
    assert_eq!((&entry["status"], &entry["reason"]), (&400.into(), &"bad_request".into()));
    // And a request behind a good one on the same connection is one line of its own.
    let mut client = Client::connect(proxy.web()).await;
    client
        .send("GET /good HTTP/1.1\r\nHost: t\r\n\r\nGET /bad HTTP/1.1\r\nHost: a b\r\n\r\n")
        .await;
    assert_eq!(client.response().await.status, 200);
    assert_eq!(client.response().await.status, 400);
    let line = proxy.stdout_line("a line", |line| line.contains("/bad")).await;
    assert!(line.contains("bad_host") && !line.contains("/good"), "{line}");
}

#[tokio::test]
async fn a_response_without_a_body_is_complete_however_http_2_ends_it() {
    // Heads of their own, the end in an empty DATA frame behind them, as some servers do.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut connection) = h2::server::handshake(stream).await else { continue };
            tokio::spawn(async move {
                while let Some(Ok((request, mut respond))) = connection.accept().await {
                    let status: u16 = request.uri().path()[1..].parse().expect("a status");
                    let response = http::Response::builder().status(status).body(());
                    let response = response.expect("a response");
                    let mut send = respond.send_response(response, false).expect("open");
                    tokio::spawn(async move {
                        pass(std::time::Duration::from_millis(50)).await;
                        let _ = send.send_data(bytes::Bytes::new(), true);
                    });
                }
            });
        }
    });
    let proxy = Proxy::start(
        &CONFIG
            .replace("endpoints: [\"@app@\", \"@dead@\"]", "protocol: h2c, endpoints: [\"@app@\"]"),
        &[("app", &address)],
    )
    .await;
    for (method, path) in [("HEAD", "/200"), ("GET", "/204"), ("GET", "/304")] {
        let mut client = Client::connect(proxy.web()).await;
        client.send(format!("{method} {path}?h1 HTTP/1.1\r\nHost: t\r\n\r\n")).await;
        let response = client.try_response(true).await.expect("a response");
        assert_eq!(response.status.to_string(), path[1..]);
        let mut h2 = H2::connect(proxy.web()).await;
        let request = http::Request::builder().method(method).uri(format!("http://t{path}?h2"));
        let response = h2.request(request.body(()).expect("a request"), None, None).await;
        assert_eq!(response.status.to_string(), path[1..]);
        for client in ["h1", "h2"] {
            let mark = format!("\"query\":\"{client}\"");
            let is_it = |line: &str| line.contains(path) && line.contains(&mark);
            let line = proxy.stdout_line("a line", is_it).await;
            let entry: serde_json::Value = serde_json::from_str(&line).expect("JSON");
            assert_eq!(entry["reason"], "-", "{method} {entry}");
        }
    }
}

#[tokio::test]
async fn what_came_out_of_a_secret_file_shows_in_no_dump_but_works() {
    let setup = Setup::new(
        r#"
listeners: { web: { bind: "@web@" } }
hosts:
  "*":
    routes:
      - { name: key, path: /key, headers: { x-key: { regex: "${file:token}[0-9]" } }, respond: { body: in } }
      - { name: ask, path: /ask, query: { key: { regex: "${file:token}[0-9]" } }, respond: { body: in } }
      - { name: text, path: /text, respond: { body: "this is ${file:token}" } }
      - { name: json, path: /json, respond: { json: { a: [ "${file:token}" ] } } }
      - { name: open, path: /open, respond: { body: public } }
"#,
    );
    let proxy = setup.file("token", "s3cr3t-t0ken").start().await;
    let mut client = Client::connect(proxy.web()).await;
    client.send("GET /key HTTP/1.1\r\nHost: t\r\nX-Key: s3cr3t-t0ken7\r\n\r\n").await;
    assert_eq!(client.response().await.text(), "in");
    assert_eq!(client.request("GET", "t", "/key").await.status, 404);
    assert_eq!(client.request("GET", "t", "/ask?key=s3cr3t-t0ken7").await.text(), "in");
    assert_eq!(client.request("GET", "t", "/text").await.text(), "this is s3cr3t-t0ken");
    let json = client.request("GET", "t", "/json").await;
    assert_eq!(json.json()["a"][0], "s3cr3t-t0ken");
    for path in [
        "/api/config",
        "/api/routes",
        "/api/explain?url=http://t/key",
        "/api/explain?url=http://t/ask%3Fkey=1",
        "/api/explain?url=http://t/text",
    ] {
        let response = proxy.admin(path).await;
        assert_eq!(response.status, 200, "{path}: {response}");
        assert!(!response.text().contains("s3cr3t"), "{path} shows a secret: {response}");
    }
    assert!(proxy.admin("/api/config").await.text().contains("public"), "the others are shown");
    let output = tokio::task::spawn_blocking({
        let admin = proxy.addr("admin").to_string();
        move || {
            let mut command = std::process::Command::new(portcullis());
            command.args(["explain", "http://t/key", "--admin", &admin]).output()
        }
    });
    let output = output.await.expect("no panic").expect("the binary starts");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("key") && !text.contains("s3cr3t"), "{text}");
}
