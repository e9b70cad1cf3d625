//! Events on objects that are wrong, so that `kubectl describe` says why.
//!
//! One event for each thing that is wrong with an object, told again now and then for as long as it
//! is: the API server forgets events after an hour. Their number in a time is bounded.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::Method;
use ir::{Problem, Severity};
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use super::Context;
use super::kind::Kind;
use super::status::Outcome;
use crate::ir;
use crate::provider::kubernetes::Key;

/// How often an event is told again.
const AGAIN: Duration = Duration::from_secs(30 * 60);
/// How many may come at once.
const BURST: f64 = 25.0;
/// How many may come in a second after that.
const RATE: f64 = 2.0;
/// The longest message the API takes.
const LONGEST: usize = 1000;

/// Tells events.
pub struct Events {
    context: Arc<Context>,
    /// When each was told, by the event's name, and how often.
    told: HashMap<String, (Instant, u32)>,
    places: f64,
    counted: Instant,
    /// Whether a failure was told of.
    failed: bool,
}

impl Events {
    /// Nothing told yet.
    pub fn new(context: Arc<Context>) -> Self {
        let (told, counted) = (HashMap::new(), Instant::now());
        Self { context, told, places: BURST, counted, failed: false }
    }

    /// Tells what is wrong with the Ingresses of `outcome` as far as it was not told lately. What
    /// there is no room for now is told with a later one.
    pub async fn tell(&mut self, outcome: &Outcome) {
        let uids: HashMap<&Key, Option<&str>> =
            outcome.ingresses.iter().map(|(key, ingress)| (key, ingress.uid.as_deref())).collect();
        let now = Instant::now();
        let mut wrong = HashMap::new();
        for problem in &outcome.problems {
            let Some(key) = ingress_of(problem) else { continue };
            let Some(uid) = uids.get(&key).copied() else { continue };
            wrong.insert(name(&key, uid, problem), (key, uid, problem));
        }
        self.told.retain(|name, _| wrong.contains_key(name));
        for (name, (key, uid, problem)) in wrong {
            let last = self.told.get(&name).copied();
            if last.is_some_and(|(at, _)| now.saturating_duration_since(at) < AGAIN) {
                continue;
            }
            if !self.take_place(now) {
                return;
            }
            let count = last.map_or(1, |(_, count)| count.saturating_add(1));
            let event = event(&self.context, &name, &key, uid, problem, count);
            if self.send(&key, &name, &event).await {
                self.told.insert(name, (now, count));
            }
        }
    }

    fn take_place(&mut self, now: Instant) -> bool {
        let since = now.saturating_duration_since(self.counted).as_secs_f64();
        self.counted = now;
        self.places = (self.places + since * RATE).min(BURST);
        let has = self.places >= 1.0;
        if has {
            self.places -= 1.0;
        }
        has
    }

    async fn send(&mut self, key: &Key, name: &str, event: &Value) -> bool {
        let path = format!("/api/v1/namespaces/{}/events", key.namespace);
        let body = Some(("application/json", event.to_string().into_bytes()));
        let mut sent = self.context.api.ask(Method::POST, &path, body).await;
        if sent.as_ref().is_err_and(|fault| fault.status() == 409) {
            // An earlier leader told it, or we did half an hour ago.
            let again = json!({ "lastTimestamp": event["lastTimestamp"], "count": event["count"] });
            let body = Some(("application/merge-patch+json", again.to_string().into_bytes()));
            sent = self.context.api.ask(Method::PATCH, &format!("{path}/{name}"), body).await;
        }
        match sent {
            Ok(_) => self.failed = false,
            Err(fault) if !std::mem::replace(&mut self.failed, true) => {
                let hint = match fault.status() {
                    403 => {
                        ". Give our service account the rule { apiGroups: [\"\"], resources: \
                            [\"events\"], verbs: [\"create\", \"patch\"] }"
                    }
                    _ => "",
                };
                tracing::warn!("an event about Ingress {key} cannot be told: {fault}{hint}");
            }
            Err(_) => {}
        }
        !self.failed
    }
}

/// The Ingress that a problem is about.
fn ingress_of(problem: &Problem) -> Option<Key> {
    let origin = problem.origin.as_ref()?;
    let is_ingress = origin.kind.as_str() == Kind::Ingress.name();
    is_ingress.then(|| Key::new(origin.namespace.as_str(), origin.name.as_str()))
}

/// The same for the same problem of the same object, whoever tells it.
fn name(key: &Key, uid: Option<&str>, problem: &Problem) -> String {
    let mut hash = DefaultHasher::new();
    (uid, &problem.message).hash(&mut hash);
    // No longer than a name may be.
    let name: String = key.name.chars().take(200).collect();
    format!("{name}.{:016x}", hash.finish())
}

fn event(
    context: &Context,
    name: &str,
    key: &Key,
    uid: Option<&str>,
    problem: &Problem,
    count: u32,
) -> Value {
    let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let mut message = problem.message.clone();
    if let Some(hint) = &problem.hint {
        message = format!("{message} ({hint})");
    }
    let reason = match problem.severity {
        Severity::Error => "Rejected",
        Severity::Warning => "Differs",
    };
    json!({
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": { "name": name, "namespace": &*key.namespace },
        "involvedObject": {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "Ingress",
            "namespace": &*key.namespace,
            "name": &*key.name,
            "uid": uid,
        },
        "type": "Warning",
        "reason": reason,
        "message": message.chars().take(LONGEST).collect::<String>(),
        "source": { "component": "portcullis" },
        "reportingComponent": "portcullis.dev/ingress-controller",
        "reportingInstance": context.options.pod.as_deref().unwrap_or("portcullis"),
        "firstTimestamp": now,
        "lastTimestamp": now,
        "count": count,
    })
}
