//! Kubernetes manifests as the file-based commands read them.

use std::path::Path;
use std::process::{Command, Output};

use crate::harness::*;

const MANIFESTS: &str = r#"apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: web
  namespace: shop
  annotations:
    nginx.ingress.kubernetes.io/proxy-body-size: 8m
    nginx.ingress.kubernetes.io/mirror-target: https://mirror.example.com
spec:
  ingressClassName: nginx
  rules:
    - host: shop.example.com
      http:
        paths:
          - { path: /, pathType: Prefix, backend: { service: { name: front, port: { name: http } } } }
          - { path: /cart/, pathType: Prefix, backend: { service: { name: cart, port: { number: 80 } } } }
          - { path: /, pathType: Prefix, backend: { service: { name: other, port: { number: 80 } } } }
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: { name: theirs, namespace: shop }
spec: { ingressClassName: traefik, defaultBackend: { service: { name: front, port: { number: 80 } } } }
---
apiVersion: v1
kind: Service
metadata: { name: front, namespace: shop }
spec: { ports: [{ name: http, port: 80, targetPort: 8080 }] }
---
apiVersion: apps/v1
kind: Deployment
metadata: { name: front, namespace: shop }
"#;

fn run(directory: &Path, args: &[&str]) -> Output {
    Command::new(portcullis()).current_dir(directory).args(args).output().expect("the binary runs")
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn written(name: &str, text: &str) -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::write(directory.path().join(name), text).expect("it can be written");
    directory
}

#[test]
fn check_tells_what_becomes_of_each_ingress() {
    let directory = written("web.yaml", MANIFESTS);
    let output = run(directory.path(), &["check", "web.yaml"]);
    let told = text(&output);
    assert_eq!(output.status.code(), Some(3), "{told}");
    for part in [
        "Ingress shop/web (web.yaml:1): not honoured in all",
        "honoured      7  nginx.ingress.kubernetes.io/proxy-body-size\n",
        "left out      8  nginx.ingress.kubernetes.io/mirror-target: ",
        "difference   16  spec.rules[0].http.paths[1].path: ",
        "difference   16  spec.rules[0].http.paths[1].backend: there is no Service shop/cart",
        "refused      17  spec.rules[0].http.paths[2]: ",
        "Ingress shop/theirs (web.yaml:19): not served, there is no IngressClass `traefik`",
        "invalid: 2 listeners, 2 routes, 2 upstreams; 1 error, 3 warnings",
    ] {
        assert!(told.contains(part), "{part} is not in\n{told}");
    }
    let output = run(directory.path(), &["check", "--json", "web.yaml"]);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(report["valid"], false);
    let problem = &report["problems"][0];
    assert_eq!(
        (&problem["location"]["file"], &problem["location"]["line"]),
        (&"web.yaml".into(), &8.into())
    );
    assert_eq!(report["ingresses"][0]["verdict"], "ignored");
    assert_eq!(report["ingresses"][1]["verdict"], "refused");
    assert_eq!(
        report["ingresses"][1]["findings"][0]["subject"],
        "nginx.ingress.kubernetes.io/mirror-target"
    );
}

#[test]
fn an_ingress_whose_certificate_cannot_be_used_is_not_honoured_in_all() {
    let ca = Ca::new();
    let (good, other) = (ca.server(&["shop.example.com"]), ca.server(&["shop.example.com"]));
    let lines = |text: &str| text.trim_end().replace('\n', "\n    ");
    let secret = |key: &str| {
        format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{ name: shop-tls, namespace: shop }}\nstringData:\n  \
             tls.crt: |\n    {}\n  tls.key: |\n    {}\n---\n",
            lines(&good.cert),
            lines(key)
        )
    };
    let ingress = "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: { name: web, namespace: shop }\nspec:\n  \
                   ingressClassName: nginx\n  tls: [{ hosts: [shop.example.com], secretName: shop-tls }]\n  \
                   rules: [{ host: shop.example.com, http: { paths: [{ path: /, pathType: Prefix, backend: \
                   { service: { name: front, port: { number: 80 } } } }] } }]\n";
    for (key, code, parts) in [
        (
            &*good.key,
            0,
            &["Ingress shop/web (web.yaml:", "): honoured\n", "1 Ingress: 1 honoured\n"][..],
        ),
        (
            &*other.key,
            3,
            &[
                "): not honoured in all\n",
                "spec.tls[0].secretName: the certificate 'shop-tls' cannot be used",
                "(the default certificate is used until it is mended)",
                "1 Ingress: 1 not honoured in all\n",
            ],
        ),
        ("nothing", 3, &["1 Ingress: 1 not honoured in all\n"]),
    ] {
        let directory = written("web.yaml", &(secret(key) + ingress));
        let output = run(directory.path(), &["check", "web.yaml"]);
        let told = text(&output);
        assert_eq!(output.status.code(), Some(code), "{told}");
        for part in parts {
            assert!(told.contains(part), "{part} is not in\n{told}");
        }
    }
}

#[test]
fn manifests_without_fault_are_valid() {
    let good = MANIFESTS
        .replace("    nginx.ingress.kubernetes.io/mirror-target: https://mirror.example.com\n", "")
        .replace("          - { path: /, pathType: Prefix, backend: { service: { name: other, port: { number: 80 } } } }\n", "")
        .replace("/cart/", "/cart")
        .replace("name: cart", "name: front");
    let directory = written("web.yaml", &good);
    let output = run(directory.path(), &["check", "web.yaml"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert!(
        text(&output).contains("Ingress shop/web (web.yaml:1): honoured\n"),
        "{}",
        text(&output)
    );
}

#[test]
fn what_is_wrong_with_a_manifest_is_shown_in_its_place() {
    let bad = MANIFESTS
        .replace("proxy-body-size: 8m", "proxy-body-size: 8")
        .replace("spec:\n", "spec:\n  tls: yes\n");
    let directory = written("web.yaml", &bad);
    let told = text(&run(directory.path(), &["check", "web.yaml"]));
    for part in [
        "proxy-body-size: the value is not text\n --> web.yaml:7:50",
        "put it in quotes: \"8\"",
        "this is no Ingress: invalid type: string \"yes\", expected a sequence",
    ] {
        assert!(told.contains(part), "{part} is not in\n{told}");
    }
    let directory = written("web.yaml", "apiVersion: v1\nkind: [\n");
    let output = run(directory.path(), &["check", "web.yaml"]);
    assert_eq!(output.status.code(), Some(3));
    assert!(text(&output).contains("this is not YAML"), "{}", text(&output));
}

#[test]
fn routes_and_explain_read_manifests_and_mix_them_with_configuration() {
    let directory = written("web.yaml", MANIFESTS);
    let own = "hosts: { extra.example.com: { routes: [{ name: extra, path: /, respond: { body: x } }] } }\n";
    std::fs::write(directory.path().join("own.yaml"), own).expect("it can be written");
    let told = text(&run(directory.path(), &["routes", "-c", "web.yaml,own.yaml"]));
    assert!(told.contains("shop/web/shop.example.com/cart"), "{told}");
    assert!(told.contains("extra.example.com"), "{told}");
    let url = "http://shop.example.com/cart/x";
    let told = text(&run(directory.path(), &["explain", url, "-c", "web.yaml"]));
    assert!(told.contains("kubernetes/Ingress/shop/web/shop.example.com/cart"), "{told}");
    assert!(told.contains("body 8388608 bytes"), "{told}");
    let told =
        text(&run(directory.path(), &["explain", "http://other.example/", "-c", "web.yaml"]));
    assert!(told.contains("404"), "{told}");
}

#[test]
fn routes_and_explain_serve_the_class_that_run_and_check_would_where_it_would_be_listened_for() {
    let directory = written("web.yaml", MANIFESTS);
    let told = |args: &[&str]| text(&run(directory.path(), &[args, &["-c", "web.yaml"]].concat()));
    let routes = told(&["routes"]);
    assert!(routes.contains("Ingress/shop/web") && !routes.contains("theirs"), "{routes}");
    let routes = told(&["routes", "--ingress-class", "traefik"]);
    assert!(routes.contains("shop/theirs") && !routes.contains("shop/web"), "{routes}");
    let url = "http://shop.example.com/cart/x";
    let explained = told(&["explain", url]);
    assert!(explained.contains("listener http ([::]:8080)"), "{explained}");
    let explained = told(&["explain", url, "--ingress-class=traefik"]);
    assert!(explained.contains("shop/theirs"), "{explained}");
    let by_variable = Command::new(portcullis())
        .current_dir(directory.path())
        .args(["routes", "-c", "web.yaml"])
        .env("PORTCULLIS_INGRESS_CLASS", "traefik")
        .output();
    let by_variable = text(&by_variable.expect("the binary runs"));
    assert!(by_variable.contains("shop/theirs") && !by_variable.contains("shop/web"));
}
