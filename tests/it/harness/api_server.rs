//! A Kubernetes API server that follows a script: objects, pages, watches with bookmarks and a
//! history that can be forgotten, conflicts, refusals, and every way to go wrong that watchers must
//! bear. It knows no schema and no rules.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::time::Instant;

use super::{Backend, Conn, STEP, Seen, eventually};

/// What a collection is: its resource, and the namespace of an object in it.
type Place = (String, String, String);

/// The server; it goes when dropped.
pub struct ApiServer {
    backend: Backend,
    shared: Arc<Shared>,
    dir: TempDir,
}

struct Shared {
    state: Mutex<State>,
    /// Counts everything that watches must look at.
    changed: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    version: u64,
    objects: BTreeMap<Place, Value>,
    history: Vec<(u64, &'static str, Place, Value)>,
    /// Versions up to here are forgotten.
    forgotten: u64,
    /// What requests for a resource are answered with instead.
    refusals: BTreeMap<String, (u16, Option<u64>)>,
    /// The token that requests must show.
    token: Option<String>,
    /// Whether lists are empty, whatever there is.
    empty: bool,
    away: bool,
    /// Watches that began before this many changes of the faults say nothing more.
    silenced: u64,
    /// The same for those that are cut off in the middle of an event.
    broken: u64,
    /// The same for those that are told that their version is forgotten.
    expired: u64,
    faults: u64,
    /// The largest page; 0 is what the client asks for.
    page: usize,
    /// How many lists were answered, by resource.
    lists: BTreeMap<String, usize>,
    /// How many watches began, by resource.
    watches: BTreeMap<String, usize>,
}

impl ApiServer {
    /// An empty cluster.
    pub async fn start() -> Self {
        let (changed, _) = watch::channel(0);
        let shared = Arc::new(Shared { state: Mutex::default(), changed });
        let backend = Backend::script({
            let shared = shared.clone();
            move |conn| serve(conn, shared.clone())
        })
        .await;
        let dir = TempDir::with_prefix("portcullis-cluster-").expect("a temporary directory");
        let cluster = Self { backend, shared, dir };
        cluster.write_kubeconfig();
        cluster
    }

    fn write_kubeconfig(&self) {
        std::fs::write(self.dir.path().join("token"), "first").expect("a file");
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "it",
            "clusters": [{ "name": "it", "cluster": { "server": format!("http://{}", self.address()) } }],
            "users": [{ "name": "it", "user": { "tokenFile": self.dir.path().join("token") } }],
            "contexts": [{ "name": "it", "context": { "cluster": "it", "user": "it" } }],
        });
        std::fs::write(self.kubeconfig(), config.to_string()).expect("a file");
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.backend.address()
    }

    /// The kubeconfig file of a client.
    pub fn kubeconfig(&self) -> PathBuf {
        self.dir.path().join("kubeconfig")
    }

    /// The token that the client finds from now on.
    pub fn give_token(&self, token: &str) {
        std::fs::write(self.dir.path().join("token"), token).expect("a file");
    }

    /// Takes only requests with this token from now on.
    pub fn take_token(&self, token: &str) {
        self.edit(|state| state.token = Some(token.to_owned()));
    }

    /// Makes an object, or replaces it.
    pub fn put(&self, object: Value) {
        self.edit(|state| state.put(object));
    }

    /// Takes an object away.
    pub fn delete(&self, resource: &str, namespace: &str, name: &str) {
        let place = (resource.to_owned(), namespace.to_owned(), name.to_owned());
        self.edit(|state| state.delete(&place));
    }

    /// Takes away everything of a resource without a word in any watch, as one that came up with
    /// old data would.
    pub fn lose(&self, resource: &str) {
        self.edit(|state| state.objects.retain(|place, _| place.0 != resource));
    }

    /// An object as it is now.
    pub fn get(&self, resource: &str, namespace: &str, name: &str) -> Option<Value> {
        let place = (resource.to_owned(), namespace.to_owned(), name.to_owned());
        self.lock().objects.get(&place).cloned()
    }

    /// All objects of a resource.
    pub fn all(&self, resource: &str) -> Vec<Value> {
        let state = self.lock();
        let all = state.objects.iter().filter(|(place, _)| place.0 == resource);
        all.map(|(_, object)| object.clone()).collect()
    }

    /// Answers requests for `resource` with `status`, and `Retry-After` seconds where given.
    pub fn refuse(&self, resource: &str, status: u16, after: Option<u64>) {
        self.edit(|state| {
            state.refusals.insert(resource.to_owned(), (status, after));
        });
        self.fault(|state, faults| state.broken = faults);
    }

    /// Answers them again.
    pub fn allow(&self, resource: &str) {
        self.edit(|state| {
            state.refusals.remove(resource);
        });
    }

    /// Resets every connection, and those that come.
    pub fn go_away(&self) {
        self.edit(|state| state.away = true);
    }

    /// Is there again.
    pub fn come_back(&self) {
        self.edit(|state| state.away = false);
    }

    /// Says nothing more on the watches of now, which stay open.
    pub fn go_silent(&self) {
        self.fault(|state, faults| state.silenced = faults);
    }

    /// Ends the watches of now in the middle of an event.
    pub fn break_off(&self) {
        self.fault(|state, faults| state.broken = faults);
    }

    /// Forgets the history: watches are told so, and those that come with an old version.
    pub fn forget(&self) {
        self.fault(|state, faults| {
            state.forgotten = state.version;
            state.expired = faults;
        });
    }

    /// Answers lists with nothing, or again with what there is.
    pub fn lie(&self, empty: bool) {
        self.edit(|state| state.empty = empty);
    }

    /// Has no more than this on a page.
    pub fn page(&self, size: usize) {
        self.edit(|state| state.page = size);
    }

    /// How many lists of a resource were answered.
    pub fn lists(&self, resource: &str) -> usize {
        self.lock().lists.get(resource).copied().unwrap_or(0)
    }

    /// How many watches of a resource began.
    pub fn watches(&self, resource: &str) -> usize {
        self.lock().watches.get(resource).copied().unwrap_or(0)
    }

    /// Requests so far: method and target.
    pub fn asked(&self) -> Vec<(String, String)> {
        self.backend.requests().into_iter().map(|seen| (seen.method, seen.target)).collect()
    }

    /// Waits until `check` holds of the objects of `resource`.
    pub async fn until(&self, what: &str, resource: &str, check: impl Fn(&[Value]) -> bool) {
        eventually(STEP, what, async || check(&self.all(resource))).await;
    }

    fn fault(&self, edit: impl FnOnce(&mut State, u64)) {
        self.edit(|state| {
            state.faults += 1;
            let faults = state.faults;
            edit(state, faults);
        });
    }

    fn edit(&self, edit: impl FnOnce(&mut State)) {
        edit(&mut self.lock());
        self.shared.changed.send_modify(|count| *count += 1);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.lock()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder panics")
    }
}

impl State {
    fn put(&mut self, mut object: Value) {
        let place = place_of(&object);
        self.version += 1;
        let version = self.version;
        let before = self.objects.get(&place).cloned();
        let metadata = object["metadata"].as_object_mut().expect("metadata");
        metadata.insert("resourceVersion".into(), json!(version.to_string()));
        metadata.insert("managedFields".into(), json!([{ "manager": "it" }]));
        let kept = |name: &str| before.as_ref().map(|object| object["metadata"][name].clone());
        let uid = kept("uid").unwrap_or_else(|| json!(format!("uid-{version}")));
        let created = kept("creationTimestamp").unwrap_or_else(|| {
            json!(format!(
                "2026-01-01T{:02}:{:02}:{:02}Z",
                version / 3600 % 24,
                version / 60 % 60,
                version % 60
            ))
        });
        metadata.insert("uid".into(), uid);
        metadata.entry("creationTimestamp").or_insert(created);
        let kind = if before.is_some() { "MODIFIED" } else { "ADDED" };
        self.history.push((version, kind, place.clone(), object.clone()));
        self.objects.insert(place, object);
    }

    fn delete(&mut self, place: &Place) {
        let Some(mut object) = self.objects.remove(place) else { return };
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.history.push((self.version, "DELETED", place.clone(), object));
    }
}

/// Where the API has an object.
fn place_of(object: &Value) -> Place {
    let kind = object["kind"].as_str().expect("a kind");
    let resource = match kind {
        "Ingress" => "ingresses".to_owned(),
        "IngressClass" => "ingressclasses".to_owned(),
        other => format!("{}s", other.to_lowercase()),
    };
    let field = |name: &str| object["metadata"][name].as_str().unwrap_or_default().to_owned();
    (resource, field("namespace"), field("name"))
}

/// What a request is about.
struct Asked {
    resource: String,
    namespace: Option<String>,
    name: Option<String>,
    status: bool,
    query: BTreeMap<String, String>,
}

impl Asked {
    fn parse(target: &str) -> Option<Self> {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let rest = path.strip_prefix("/api/v1/").or_else(|| {
            let (_, rest) = path.strip_prefix("/apis/")?.split_once('/')?;
            rest.strip_prefix("v1/")
        })?;
        let mut parts: Vec<&str> = rest.split('/').collect();
        let namespace = (parts.len() > 2 && parts[0] == "namespaces").then(|| parts[1].to_owned());
        if namespace.is_some() {
            parts.drain(..2);
        }
        let query = form_urlencoded::parse(query.as_bytes());
        Some(Self {
            resource: (*parts.first()?).to_owned(),
            namespace,
            name: parts.get(1).map(|name| (*name).to_owned()),
            status: parts.get(2) == Some(&"status"),
            query: query.map(|(name, value)| (name.into_owned(), value.into_owned())).collect(),
        })
    }

    fn place(&self) -> Place {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        (self.resource.clone(), text(&self.namespace), text(&self.name))
    }

    fn holds(&self, place: &Place, object: &Value) -> bool {
        let named = self.query.get("fieldSelector").and_then(|text| text.split_once('='));
        let labels = self.query.get("labelSelector").map(String::as_str).unwrap_or_default();
        let mut labels = labels.split(',').filter_map(|label| label.split_once('='));
        place.0 == self.resource
            && self.namespace.as_ref().is_none_or(|namespace| *namespace == place.1)
            && named.is_none_or(|(_, name)| name == place.2)
            && labels.all(|(name, value)| object["metadata"]["labels"][name] == value)
    }
}

async fn serve(mut conn: Conn, shared: Arc<Shared>) {
    let mut changed = shared.changed.subscribe();
    loop {
        let seen = tokio::select! {
            biased;
            () = away(&mut changed, &shared) => None,
            seen = conn.head() => Some(seen),
        };
        let Some(seen) = seen else { return conn.reset() };
        let Some(mut seen) = seen else { return };
        if let Some(length) = seen.headers.get("content-length") {
            let Some(body) = conn.exactly(length.parse().expect("a length")).await else { return };
            seen.body = body;
        }
        let answer = answer(&seen, &shared);
        match answer {
            Answer::Json(status, body, after) => {
                let body = body.to_string();
                let after = after.map(|s| format!("Retry-After: {s}\r\n")).unwrap_or_default();
                let head = format!(
                    "HTTP/1.1 {status} Status\r\nContent-Type: application/json\r\n{after}Content-Length: {}\r\n\r\n",
                    body.len()
                );
                conn.send(head + &body).await;
            }
            Answer::Watch(asked, version) => {
                if !watch(&mut conn, &shared, &asked, version).await {
                    return conn.reset();
                }
            }
        }
    }
}

/// Ready once the server is away.
async fn away(changed: &mut watch::Receiver<u64>, shared: &Shared) {
    while !shared.lock().away {
        if changed.changed().await.is_err() {
            return;
        }
    }
}

enum Answer {
    Json(u16, Value, Option<u64>),
    Watch(Asked, u64),
}

fn no(status: u16, reason: &str) -> Answer {
    let message = format!("{reason} by the script");
    let body = json!({ "kind": "Status", "code": status, "reason": reason, "message": message });
    Answer::Json(status, body, None)
}

fn answer(seen: &Seen, shared: &Shared) -> Answer {
    let mut state = shared.lock();
    let authorization = seen.headers.joined("authorization");
    if state.token.as_ref().is_some_and(|token| authorization != format!("Bearer {token}")) {
        return no(401, "Unauthorized");
    }
    let Some(asked) = Asked::parse(&seen.target) else { return no(404, "NotFound") };
    if let Some((status, after)) = state.refusals.get(&asked.resource).copied() {
        let reason = if status == 403 { "Forbidden" } else { "Refused" };
        let Answer::Json(status, body, _) = no(status, reason) else { return no(500, "") };
        return Answer::Json(status, body, after);
    }
    let place = asked.place();
    let body = serde_json::from_slice::<Value>(&seen.body).unwrap_or_default();
    let answer = match (seen.method.as_str(), &asked.name) {
        ("GET", Some(_)) => match state.objects.get(&place) {
            Some(object) => Answer::Json(200, object.clone(), None),
            None => no(404, "NotFound"),
        },
        ("GET", None) if asked.query.contains_key("watch") => {
            *state.watches.entry(asked.resource.clone()).or_default() += 1;
            let version = asked.query.get("resourceVersion").and_then(|text| text.parse().ok());
            match version {
                Some(version) if version >= state.forgotten => Answer::Watch(asked, version),
                _ => no(410, "Expired"),
            }
        }
        ("GET", None) => list(&mut state, &asked),
        ("POST", _) => {
            let place = place_of(&body);
            if state.objects.contains_key(&place) {
                no(409, "AlreadyExists")
            } else {
                state.put(body);
                Answer::Json(201, state.objects[&place].clone(), None)
            }
        }
        ("PUT", Some(_)) => match state.objects.get(&place) {
            None => no(404, "NotFound"),
            Some(now)
                if body["metadata"]["resourceVersion"] != now["metadata"]["resourceVersion"] =>
            {
                no(409, "Conflict")
            }
            Some(_) => {
                state.put(body);
                Answer::Json(200, state.objects[&place].clone(), None)
            }
        },
        ("PATCH", Some(_)) => match state.objects.get(&place).cloned() {
            None => no(404, "NotFound"),
            Some(mut object) => {
                let only_status = body
                    .as_object()
                    .is_some_and(|fields| fields.contains_key("status") && fields.len() == 1);
                assert_eq!(asked.status, only_status, "{}", seen.target);
                merge(&mut object, &body);
                state.put(object);
                Answer::Json(200, state.objects[&place].clone(), None)
            }
        },
        _ => no(405, "MethodNotAllowed"),
    };
    drop(state);
    if seen.method != "GET" {
        shared.changed.send_modify(|count| *count += 1);
    }
    answer
}

fn list(state: &mut State, asked: &Asked) -> Answer {
    *state.lists.entry(asked.resource.clone()).or_default() += 1;
    let all = state.objects.iter().filter(|(place, object)| asked.holds(place, object));
    let all: Vec<&Value> = if state.empty { Vec::new() } else { all.map(|(_, o)| o).collect() };
    let number = |name: &str| asked.query.get(name).and_then(|text| text.parse::<usize>().ok());
    let from = number("continue").unwrap_or(0);
    let limit = match (number("limit"), state.page) {
        (Some(limit), 0) => limit,
        (Some(limit), page) => limit.min(page),
        (None, _) => usize::MAX,
    };
    let items: Vec<_> = all.iter().skip(from).take(limit).collect();
    let end = from + items.len();
    let next = if end < all.len() { json!(end.to_string()) } else { Value::Null };
    let metadata = json!({ "resourceVersion": state.version.to_string(), "continue": next });
    // `null` for no items at all, as some servers have it.
    let items = if items.is_empty() { Value::Null } else { json!(items) };
    Answer::Json(200, json!({ "kind": "List", "metadata": metadata, "items": items }), None)
}

/// RFC 7396.
fn merge(object: &mut Value, patch: &Value) {
    let Some(fields) = patch.as_object() else {
        *object = patch.clone();
        return;
    };
    if !object.is_object() {
        *object = json!({});
    }
    let target = object.as_object_mut().expect("made one");
    for (name, value) in fields {
        if value.is_null() {
            target.remove(name);
        } else {
            merge(target.entry(name).or_insert(Value::Null), value);
        }
    }
}

/// Sends events until the client's time is up; whether the connection can be used further.
async fn watch(conn: &mut Conn, shared: &Shared, asked: &Asked, mut version: u64) -> bool {
    let mut changed = shared.changed.subscribe();
    let began = shared.lock().faults;
    let seconds = asked.query.get("timeoutSeconds").and_then(|text| text.parse().ok());
    let end = Instant::now() + Duration::from_secs(seconds.unwrap_or(300));
    let head =
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
    if !conn.try_send(head).await {
        return false;
    }
    loop {
        let (lines, over) = {
            let state = shared.lock();
            if state.away {
                return false;
            }
            let mut lines: Vec<String> = Vec::new();
            let mut over = None;
            if state.silenced > began {
                over = Some(Over::Silent);
            } else if state.broken > began {
                over = Some(Over::Broken);
            } else if state.expired > began {
                over = Some(Over::Expired);
            } else {
                for (at, kind, place, object) in &state.history {
                    if *at > version && asked.holds(place, object) {
                        lines.push(json!({ "type": kind, "object": object }).to_string());
                    }
                }
                version = state.version;
            }
            (lines, over)
        };
        for line in lines {
            if !conn.try_send(chunk(&(line + "\n"))).await {
                return false;
            }
        }
        match over {
            None => {}
            Some(Over::Silent) => {
                conn.stall().await;
                return false;
            }
            Some(Over::Broken) => {
                conn.send(chunk("{\"type\":\"ADDED\",\"object\":{\"meta")).await;
                return false;
            }
            Some(Over::Expired) => {
                let said = json!({ "kind": "Status", "code": 410, "reason": "Expired" });
                let line = json!({ "type": "ERROR", "object": said }).to_string() + "\n";
                conn.send(chunk(&line) + "0\r\n\r\n").await;
                return true;
            }
        }
        tokio::select! {
            news = changed.changed() => if news.is_err() { return false },
            () = tokio::time::sleep_until(end) => {
                let metadata = json!({ "resourceVersion": version.to_string() });
                let said = json!({ "metadata": metadata });
                let line = json!({ "type": "BOOKMARK", "object": said }).to_string() + "\n";
                return conn.try_send(chunk(&line) + "0\r\n\r\n").await;
            }
        }
    }
}

enum Over {
    Broken,
    Expired,
    Silent,
}

fn chunk(text: &str) -> String {
    format!("{:x}\r\n{text}\r\n", text.len())
}

/// An Ingress of class `portcullis` that sends a host to a Service's port 80.
pub fn ingress(name: &str, host: &str, service: &str) -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
        "metadata": { "name": name, "namespace": "shop" },
        "spec": {
            "ingressClassName": "portcullis",
            "rules": [{ "host": host, "http": { "paths": [{
                "path": "/", "pathType": "Prefix",
                "backend": { "service": { "name": service, "port": { "number": 80 } } },
            }] } }],
        },
    })
}

/// The class of these.
pub fn ingress_class() -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "IngressClass",
        "metadata": { "name": "portcullis" },
        "spec": { "controller": "portcullis.dev/ingress-controller" },
    })
}

/// A Service with port 80.
pub fn service(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": { "name": name, "namespace": "shop" },
        "spec": {
            "type": "ClusterIP", "clusterIP": "10.96.0.9", "selector": { "app": name },
            "ports": [{ "name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP" }],
        },
    })
}

/// One slice of a Service for each of its endpoints, since these differ in their ports.
pub fn slice(service: &str, address: SocketAddr) -> Value {
    slice_in_state(service, address, "ready")
}

/// The same for an endpoint that is `ready` or `terminating`.
pub fn slice_in_state(service: &str, address: SocketAddr, state: &str) -> Value {
    let ready = state == "ready";
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {
            "name": slice_name(service, address), "namespace": "shop",
            "labels": { "kubernetes.io/service-name": service, "app": service },
        },
        "addressType": "IPv4",
        "endpoints": [{
            "addresses": [address.ip().to_string()],
            "conditions": { "ready": ready, "serving": true, "terminating": !ready },
            "nodeName": "node-1", "targetRef": { "kind": "Pod", "name": "p" },
        }],
        "ports": [{ "name": "http", "port": address.port(), "protocol": "TCP" }],
    })
}

/// The name of that slice.
pub fn slice_name(service: &str, address: SocketAddr) -> String {
    format!("{service}-{}", address.port())
}
