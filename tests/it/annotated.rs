//! Every annotation that is honoured, by requests through the shipped manifest on a real API server:
//! all Ingresses are applied at once, then each family asks for what its annotations promise.

mod access;
mod auth;
mod backend;
mod balance;
mod canary;
mod client_auth;
mod cors;
mod headers;
mod limits;
mod objects;
mod passthrough;
mod paths;
mod redirects;

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::ResourceExt;
use kube::api::{ListParams, LogParams};

use self::objects::Ingress;
use crate::harness::*;

/// What a family has: its Ingresses, requests that show what their annotations do, and the
/// annotations that its own checks show.
struct Family {
    ingresses: &'static [Ingress],
    rows: &'static [Row],
    checked: &'static [&'static str],
}

const FAMILIES: [Family; 12] = [
    paths::FAMILY,
    redirects::FAMILY,
    access::FAMILY,
    auth::FAMILY,
    cors::FAMILY,
    canary::FAMILY,
    balance::FAMILY,
    limits::FAMILY,
    backend::FAMILY,
    headers::FAMILY,
    client_auth::FAMILY,
    passthrough::FAMILY,
];

/// Annotations that need another back end, and the test that shows what they become by a request;
/// that they become it is in the golden files.
const SHOWN_ELSEWHERE: [(&str, &str); 7] = [
    ("affinity-mode", "affinity::a_session_cookie_leads_back_to_its_endpoint"),
    ("client-body-buffer-size", "retry::a_body_larger_than_the_buffer_is_sent_once"),
    ("limit-rate", "buffering::a_response_goes_no_faster_than_its_route_lets_it"),
    ("limit-rate-after", "buffering::a_response_goes_no_faster_than_its_route_lets_it"),
    (
        "proxy-connect-timeout",
        "faults::an_endpoint_that_accepts_nothing_is_a_504_after_the_connect_timeout",
    ),
    (
        "proxy-request-buffering",
        "buffering::a_slow_upload_reaches_a_back_end_once_it_is_whole_or_more_than_is_buffered",
    ),
    ("proxy-send-timeout", "faults::a_body_that_stalls_is_cut_off_visibly"),
];

/// A request, and what shows in its outcome that these annotations of its host are honoured.
struct Row {
    shows: &'static [&'static str],
    host: &'static str,
    /// Method and target.
    request: &'static str,
    /// Header lines, each ended by CRLF. A Content-Length is followed by as many bytes.
    fields: &'static str,
    expected: &'static [Expect],
}

const fn row(
    shows: &'static [&'static str],
    host: &'static str,
    request: &'static str,
    fields: &'static str,
    expected: &'static [Expect],
) -> Row {
    Row { shows, host, request, fields, expected }
}

/// What is looked at. `Seen` and those after it are what the back end tells of the request.
#[derive(Debug)]
enum Expect {
    Status(u16),
    /// A header of the response.
    Header(&'static str, &'static str),
    /// A header of the response that has this in it.
    Part(&'static str, &'static str),
    NoHeader(&'static str),
    Text(&'static str),
    /// The value at a pointer into the back end's answer.
    Told(&'static str, &'static str),
    /// A request header, named as the back end tells it.
    Seen(&'static str, &'static str),
    Unseen(&'static str),
}

impl Expect {
    fn holds(&self, response: &Response) -> bool {
        let json = || serde_json::from_slice::<serde_json::Value>(&response.body);
        let told = |pointer: &str| {
            json().ok().and_then(|json| Some(json.pointer(pointer)?.as_str()?.to_owned()))
        };
        let header = |name: &str| response.headers.has(name).then(|| response.headers.joined(name));
        match self {
            Self::Status(status) => response.status == *status,
            Self::Header(name, value) => header(name).as_deref() == Some(value),
            Self::Part(name, part) => header(name).is_some_and(|value| value.contains(part)),
            Self::NoHeader(name) => header(name).is_none(),
            Self::Text(text) => response.text() == *text,
            Self::Told(pointer, value) => told(pointer).as_deref() == Some(value),
            Self::Seen(name, value) => {
                told(&format!("/headers/{name}/0")).as_deref() == Some(value)
            }
            Self::Unseen(name) => json().is_ok() && told(&format!("/headers/{name}/0")).is_none(),
        }
    }
}

/// The cluster with everything in it.
struct World<'a> {
    cluster: &'a Cluster,
    space: &'a Namespace<'a>,
    controller: Controller<'a>,
    pki: objects::Pki,
}

impl<'a> World<'a> {
    /// Applies all of it, and waits until all pods are ready.
    async fn start(space: &'a Namespace<'a>) -> Self {
        let pki = objects::Pki::new();
        space.apply(&objects::config_maps()).await;
        space.apply(&objects::back_ends()).await;
        space.apply(&pki.secrets()).await;
        for ingress in FAMILIES.iter().flat_map(|family| family.ingresses) {
            space.apply(&ingress.object().to_string()).await;
        }
        let controller = Controller::start_one(space, "controller", "files").await;
        for (name, _) in objects::DEPLOYMENTS {
            space.rolled_out(name).await;
        }
        let cluster = space.cluster();
        for address in [controller.http, controller.https] {
            // The addresses of the Service follow the pods a little later.
            let open = async || cluster.try_tcp(address).await.is_ok();
            eventually(STEP, "the controller is reached", open).await;
        }
        Self { cluster, space, controller, pki }
    }

    /// One request on a connection of its own.
    async fn ask(&self, host: &str, request: &str, fields: &str) -> Response {
        let mut client = self.cluster.connect(self.controller.http).await;
        self.ask_over(&mut client, host, request, fields).await
    }

    async fn ask_over(
        &self,
        client: &mut Client,
        host: &str,
        request: &str,
        fields: &str,
    ) -> Response {
        let length = Headers::parse(fields).expect("header lines");
        let length = length.get("content-length").map_or(0, |text| text.parse().expect("a number"));
        let head = format!("{request} HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n");
        client.send([head.as_bytes(), &vec![b'x'; length]].concat()).await;
        client.response().await
    }

    /// A connection over TLS that shows this certificate.
    async fn secure(&self, host: &str, pair: Option<&Pair>) -> Client {
        let tls = TlsClient::with(&self.pki.ca, host, &["http/1.1"], pair, rustls::ALL_VERSIONS);
        let tcp = self.cluster.try_tcp(self.controller.https).await;
        let stream = within(STEP, "a handshake", tls.over(tcp.expect("connected"))).await;
        Client::over(stream.expect("shaken hands"))
    }

    /// The pods that answered so many equal requests, one after the other.
    async fn pods(&self, host: &str, target: &str, fields: &str, count: usize) -> Vec<String> {
        let mut pods = Vec::new();
        for _ in 0..count {
            let response = self.ask(host, &format!("GET {target}"), fields).await;
            let pod = response.headers.get("x-pod");
            pods.push(pod.unwrap_or_else(|| panic!("{host}{target}: {response}")).to_owned());
        }
        pods
    }

    /// What the controller has logged.
    async fn log(&self) -> String {
        let pods: Api<Pod> = self.space.api();
        let of = ListParams::default().labels("app=portcullis");
        let mut text = String::new();
        for pod in pods.list(&of).await.expect("a list") {
            text += &pods.logs(&pod.name_any(), &LogParams::default()).await.expect("a log");
        }
        text
    }

    /// Waits until the outcome of every row is as expected, and tells all that never were.
    async fn rows(&self) {
        let mut left: Vec<_> = FAMILIES.iter().flat_map(|family| family.rows).collect();
        let mut wrong = Vec::new();
        let deadline = tokio::time::Instant::now() + STEP;
        while !left.is_empty() && tokio::time::Instant::now() < deadline {
            wrong.clear();
            let mut again = Vec::new();
            for row in left {
                let response = self.ask(row.host, row.request, row.fields).await;
                let failed = row.expected.iter().find(|expected| !expected.holds(&response));
                if let Some(failed) = failed {
                    let what = format!("{:?} at {} {}", row.shows, row.host, row.request);
                    wrong.push(format!("{what}: not {failed:?} but {response}"));
                    again.push(row);
                }
            }
            left = again;
        }
        assert!(
            wrong.is_empty(),
            "{} rows:\n{}\n{}",
            wrong.len(),
            wrong.join("\n"),
            self.log().await
        );
    }
}

#[tokio::test]
async fn every_annotation_shows_in_a_request_through_the_cluster() {
    let space = Cluster::shared().await.namespace("annotated").await;
    let world = World::start(&space).await;
    let started = std::time::Instant::now();
    world.rows().await;
    println!("rows: {:?}", started.elapsed());
    auth::check(&world).await;
    canary::check(&world).await;
    balance::check(&world).await;
    limits::check(&world).await;
    backend::check(&world).await;
    headers::check(&world).await;
    client_auth::check(&world).await;
    passthrough::check(&world).await;
    println!("checks: {:?}", started.elapsed());
}

/// The names that the table calls honoured.
fn honoured() -> BTreeSet<String> {
    let path = "/src/provider/kubernetes/annotation/table.rs";
    let path = format!("{}{path}", env!("CARGO_MANIFEST_DIR"));
    let source = std::fs::read_to_string(path).expect("the table");
    let rows = source.split_once("const TABLE").expect("the table").1;
    let mut names = BTreeSet::new();
    for start in [" yes(", " but("] {
        for rest in rows.split(start).skip(1) {
            names.insert(rest.split('"').nth(1).expect("a name").to_owned());
        }
    }
    names
}

#[test]
fn every_honoured_annotation_is_shown_by_a_request() {
    let mut shown = BTreeSet::new();
    for family in &FAMILIES {
        let given = |name: &str, host: &str| {
            let mut of_host = family.ingresses.iter().filter(|ingress| ingress.host == host);
            of_host.any(|ingress| ingress.annotations.iter().any(|(given, _)| *given == name))
        };
        for row in family.rows {
            for name in row.shows {
                // Those that give a host another name are shown at that one.
                let renames = ["server-alias", "from-to-www-redirect"].contains(name);
                assert!(renames || given(name, row.host), "{name}: not at {}", row.host);
                shown.insert((*name).to_owned());
            }
        }
        for name in family.checked {
            let mut all = family.ingresses.iter().flat_map(|ingress| ingress.annotations);
            assert!(all.any(|(given, _)| given == name), "{name} is not given");
            shown.insert((*name).to_owned());
        }
    }
    for (name, test) in SHOWN_ELSEWHERE {
        let (file, function) = test.split_once("::").expect("file::function");
        let path = format!("{}/tests/it/{file}.rs", env!("CARGO_MANIFEST_DIR"));
        let source = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
        assert!(source.contains(&format!("async fn {function}()")), "{name}: no {test}");
        assert!(shown.insert(name.to_owned()), "{name} is shown here");
    }
    let honoured = honoured();
    assert!(honoured.len() > 100, "{honoured:?}");
    let missing: Vec<_> = honoured.difference(&shown).collect();
    let surplus: Vec<_> = shown.difference(&honoured).collect();
    assert!(
        missing.is_empty() && surplus.is_empty(),
        "not shown: {missing:?}, not honoured: {surplus:?}"
    );
}
