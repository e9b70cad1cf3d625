//! The access log of a controller: there unless it is turned off, in the words of ingress-nginx.

use super::*;

fn config_map(data: &[(&str, &str)]) -> serde_json::Value {
    let data: std::collections::BTreeMap<_, _> = data.iter().copied().collect();
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": { "name": "controller", "namespace": "shop" }, "data": data,
    })
}

/// The line about a path that is asked for until there is one.
async fn line_about(world: &World, path: &str) -> String {
    assert_eq!(get(world.http, "shop.example", path).await.status, 200);
    world.proxy.stdout_line(&format!("a line about {path}"), |line| line.contains(path)).await
}

#[tokio::test]
async fn every_request_is_logged_as_ingress_nginx_does_it() {
    let app = Backend::saying("web").await;
    let cluster = shop(app.address()).await;
    let mut quiet = ingress("quiet", "quiet.example", "web");
    let annotation = "nginx.ingress.kubernetes.io/enable-access-log";
    quiet["metadata"]["annotations"] = json!({ annotation: "false" });
    cluster.put(quiet);
    cluster.put(config_map(&[]));
    let world = World::start(&cluster, &["--configmap=shop/controller"]).await;
    assert_eq!(get(world.http, "quiet.example", "/quiet").await.status, 200);
    let line = line_about(&world, "/first?a=b").await;
    let begin = "127.0.0.1 - - [";
    let end = format!(" [shop-web-80] [] {} 3 ", app.address());
    assert!(line.starts_with(begin) && line.contains(&end), "{line}");
    assert!(line.contains("] \"GET /first?a=b HTTP/1.1\" 200 3 \"-\" \"-\" 0 0."), "{line}");
    assert_eq!(get(world.http, "nobody.example", "/none").await.status, 404);
    world.proxy.stdout_line("what has no route", |l| l.contains("/none HTTP/1.1\" 404 ")).await;
    assert!(!world.proxy.stdout().iter().any(|line| line.contains("/quiet")));

    // The ConfigMap says how, and whether.
    let format = r#"{"path":"$uri","ns":"$namespace","ingress":"$ingress_name","x":"$http_x","status":$status}"#;
    cluster.put(config_map(&[("log-format-upstream", format), ("log-format-escape-json", "true")]));
    world.proxy.logs("log-format-upstream: `$http_x` has no value here").await;
    let line = line_about(&world, "/json").await;
    let told: serde_json::Value = serde_json::from_str(&line).expect("JSON");
    let expected =
        json!({ "path": "/json", "ns": "shop", "ingress": "shop", "x": "", "status": 200 });
    assert_eq!(told, expected);
    cluster.put(config_map(&[("disable-access-log", "true"), ("no-such-key", "x")]));
    world.proxy.logs("no-such-key").await;
    assert_eq!(get(world.http, "shop.example", "/silent").await.status, 200);
    cluster.put(config_map(&[]));
    eventually(STEP, "there is a log again", async || {
        get(world.http, "shop.example", "/loud").await;
        world.proxy.stdout().iter().any(|line| line.contains("/loud"))
    })
    .await;
    assert!(!world.proxy.stdout().iter().any(|line| line.contains("/silent")));
}

#[tokio::test]
async fn a_flag_stands_above_the_config_map_and_a_file_above_both() {
    let app = Backend::saying("web").await;
    let cluster = shop(app.address()).await;
    cluster.put(config_map(&[("log-format-upstream", "$status")]));
    let of_map = "--configmap=shop/controller";
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("access.log");
    let path = format!("--access-log-path={}", file.display());
    let world = World::start(&cluster, &[of_map, "--access-log=json", &path]).await;
    assert_eq!(get(world.http, "shop.example", "/file").await.status, 200);
    eventually(STEP, "a line in the file", async || {
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        text.lines().any(|line| {
            let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
            line["path"] == "/file" && line["upstream"] == "shop/web:80"
        })
    })
    .await;
    assert_eq!(world.proxy.stdout().iter().filter(|line| line.contains("/file")).count(), 0);

    for (config, args, wanted) in [
        ("workers: 1\n", &["--access-log=off"][..], None),
        ("access_log: false\n", &[], None),
        ("access_log: { format: \"file {path}\" }\n", &["--access-log=json"], Some("file /asked")),
        (
            "access_log: { format: ingress-nginx }\n",
            &["--access-log=json"],
            Some("\"GET /asked HTTP/1.1\" 200 "),
        ),
    ] {
        let (http, kubeconfig) = (reserve(), cluster.kubeconfig().display().to_string());
        let mut setup = Setup::new(config).arg("--kubernetes").arg("--kubeconfig").arg(&kubeconfig);
        setup = setup.arg(&format!("--http={http}")).arg("--https=off");
        for arg in args {
            setup = setup.arg(arg);
        }
        let mut world = World { proxy: setup.spawn(), http, https: http };
        world.ready().await;
        assert_eq!(get(world.http, "shop.example", "/asked").await.status, 200);
        if let Some(wanted) = wanted {
            let line = world.proxy.stdout_line(wanted, |line| line.contains("/asked")).await;
            assert!(line.contains(wanted), "{line}");
            continue;
        }
        // What was to be written is written when it ends.
        world.proxy.signal(Signal::TERM);
        assert!(world.proxy.exited(STEP).await.success());
        let told = world.proxy.stdout();
        assert!(!told.iter().any(|line| line.contains("/asked")), "{config} {told:?}");
    }
}
