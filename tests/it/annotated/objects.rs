//! What is applied beside the controller: its ConfigMap, back ends, Secrets, Ingresses.

use serde_json::{Value, json};

use crate::harness::*;

/// The back ends and how many pods each has.
pub const DEPLOYMENTS: [(&str, usize); 4] = [("echo", 2), ("next", 1), ("flaky", 2), ("secure", 1)];

/// The ConfigMap of the controller, one that an Ingress refers to, and the controller's files.
pub fn config_maps() -> String {
    let config = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "controller" },
        "data": {
            "allow-snippet-annotations": "true",
            "custom-http-errors": "418",
            "no-auth-locations": "/public",
            "add-headers": "@namespace@/answers",
            "proxy-set-headers": "@namespace@/questions",
            "global-allowed-response-headers": "X-Shop",
            "global-auth-url": "http://next.@namespace@.svc.cluster.local/?status=$arg_verdict",
        },
    });
    let headers = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "headers" },
        "data": { "X-Shop": "one" },
    });
    let answers = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "answers" },
        "data": { "X-Answered-By": "$service_name for $host" },
    });
    let questions = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "questions" },
        "data": { "X-Asked-As": "$ingress_name in $namespace: $arg_a" },
    });
    let files = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "files" },
        "data": { "portcullis.yaml": "access_log: true\n" },
    });
    let all = [config, headers, answers, questions, files];
    all.map(|map| map.to_string()).join("\n---\n")
}

/// The Deployments and their Services.
pub fn back_ends() -> String {
    let objects = DEPLOYMENTS.iter().flat_map(|(name, replicas)| {
        let secure = *name == "secure";
        let mut env = vec![
            json!({ "name": "POD_NAME", "valueFrom": { "fieldRef": { "fieldPath": "metadata.name" } } }),
            json!({ "name": "SERVICE_NAME", "value": name }),
        ];
        let (mut mounts, mut volumes) = (Vec::new(), Vec::new());
        if secure {
            env.push(json!({ "name": "TLS_CERT", "value": "/tls/tls.crt" }));
            env.push(json!({ "name": "TLS_KEY", "value": "/tls/tls.key" }));
            mounts.push(json!({ "name": "tls", "mountPath": "/tls" }));
            volumes.push(json!({ "name": "tls", "secret": { "secretName": "of-secure" } }));
        }
        let labels = json!({ "app": name });
        let deployment = json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": name },
            "spec": {
                "replicas": replicas,
                "selector": { "matchLabels": labels },
                "template": { "metadata": { "labels": labels }, "spec": {
                    "terminationGracePeriodSeconds": 1,
                    "volumes": volumes,
                    "containers": [{
                        "name": "echo", "image": "echo:1", "env": env, "volumeMounts": mounts,
                        "readinessProbe": { "httpGet": { "path": "/readyz", "port": 8080 }, "periodSeconds": 1 },
                    }],
                } },
            },
        });
        let port = if secure { 8443 } else { 8080 };
        let service = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": { "name": name },
            "spec": { "selector": labels, "ports": [{ "name": "web", "port": 80, "targetPort": port }] },
        });
        [deployment.to_string(), service.to_string()]
    });
    objects.collect::<Vec<_>>().join("\n---\n")
}

/// The authorities of a test, and who has certificates of them.
pub struct Pki {
    /// Has signed what servers show.
    pub ca: Ca,
    /// Signs clients.
    pub clients: Ca,
    of_proxy: Pair,
}

impl Pki {
    pub fn new() -> Self {
        let (ca, clients) = (Ca::new(), Ca::new());
        let of_proxy = clients.client("portcullis");
        Self { ca, clients, of_proxy }
    }

    /// All Secrets.
    pub fn secrets(&self) -> String {
        let hosts = self.ca.server(&["*.example", "*.tls.example"]);
        let secure = self.ca.server(&["secure.example", "passed.example"]);
        // Anna's password is `secret`.
        let anna = "{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=";
        let all: [(&str, Vec<(&str, &str)>); 6] = [
            ("cert", vec![("tls.crt", &hosts.cert), ("tls.key", &hosts.key)]),
            ("of-secure", vec![("tls.crt", &secure.cert), ("tls.key", &secure.key)]),
            (
                "to-secure",
                vec![
                    ("tls.crt", &self.of_proxy.cert),
                    ("tls.key", &self.of_proxy.key),
                    ("ca.crt", &self.ca.pem),
                ],
            ),
            ("clients", vec![("ca.crt", &self.clients.pem)]),
            ("file", vec![("auth", "anna:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=")]),
            ("map", vec![("anna", anna)]),
        ];
        let objects = all.map(|(name, fields)| {
            let data: serde_json::Map<String, Value> = fields
                .into_iter()
                .map(|(key, value)| (key.to_owned(), json!(value)))
                .collect();
            let object = json!({
                "apiVersion": "v1", "kind": "Secret", "metadata": { "name": name }, "stringData": data,
            });
            object.to_string()
        });
        objects.join("\n---\n")
    }
}

/// An Ingress with one rule.
#[derive(Clone, Copy)]
pub struct Ingress {
    pub host: &'static str,
    pub path: &'static str,
    pub service: &'static str,
    pub tls: bool,
    /// Names without prefix.
    pub annotations: &'static [(&'static str, &'static str)],
}

/// One for `/` of a host, before the Service `echo`.
pub const fn at(
    host: &'static str,
    annotations: &'static [(&'static str, &'static str)],
) -> Ingress {
    Ingress { host, path: "/", service: "echo", tls: false, annotations }
}

impl Ingress {
    pub const fn path(self, path: &'static str) -> Self {
        Self { path, ..self }
    }

    pub const fn to(self, service: &'static str) -> Self {
        Self { service, ..self }
    }

    /// With a certificate.
    pub const fn tls(self) -> Self {
        Self { tls: true, ..self }
    }

    /// The object. Where it does not say otherwise it is not for the controller's global
    /// authentication.
    pub fn object(&self) -> Value {
        let named = |name: &str| format!("nginx.ingress.kubernetes.io/{name}");
        let mut annotations = serde_json::Map::new();
        annotations.insert(named("enable-global-auth"), json!("false"));
        for (name, value) in self.annotations {
            annotations.insert(named(name), json!(value));
        }
        let kind = if self.path.contains(['(', '[']) { "ImplementationSpecific" } else { "Prefix" };
        let name = format!("{}-{}", self.host.replace('.', "-"), self.service);
        let mut object = json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
            "metadata": { "name": name, "annotations": annotations },
            "spec": { "ingressClassName": "@namespace@", "rules": [{ "host": self.host, "http": { "paths": [{
                "path": self.path, "pathType": kind,
                "backend": { "service": { "name": self.service, "port": { "number": 80 } } },
            }] } }] },
        });
        if self.tls {
            object["spec"]["tls"] = json!([{ "hosts": [self.host], "secretName": "cert" }]);
        }
        object
    }
}
