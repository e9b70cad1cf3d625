//! What is written back: the proxy's addresses into the status of each Ingress it serves, and
//! events about those that are wrong. Only by the replica that holds the Lease.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use ir::Problem;
use serde_json::{Value, json};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

use super::address::Publish;
use super::api::Fault;
use super::event::Events;
use super::leader::Elector;
use super::left::Left;
use super::{Context, Parting, kind::Kind};
use crate::ir;
use crate::provider::kubernetes::{Ingress, Key};

/// How often the addresses are looked up.
const LOOK: Duration = Duration::from_secs(10);
/// How many statuses are written at once.
const AT_ONCE: usize = 8;

/// What became of the Ingresses.
#[derive(Clone, Default)]
pub struct Outcome {
    /// Those that are served.
    pub ingresses: Vec<(Key, Arc<Ingress>)>,
    /// Those that are not, and have an address in their status.
    pub others: Vec<(Key, Arc<Ingress>)>,
    /// What is wrong.
    pub problems: Vec<Problem>,
}

/// Writes until `stop`; then gives back what it holds.
pub async fn run(
    context: Arc<Context>,
    publish: Publish,
    mut outcomes: watch::Receiver<Outcome>,
    mut stop: oneshot::Receiver<Parting>,
) {
    let (told, mut leads) = watch::channel(false);
    let (resign, resigned) = oneshot::channel();
    let elector = tokio::spawn(Elector::new(context.clone()).run(told, resigned));
    let mut writer = Writer {
        events: Events::new(context.clone()),
        context,
        publish,
        addresses: None,
        written: HashMap::new(),
        left: Left::default(),
        told: false,
    };
    let mut look = tokio::time::interval(LOOK);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let parting = loop {
        let mut stale = false;
        tokio::select! {
            biased;
            parting = &mut stop => break parting,
            _ = look.tick() => stale = true,
            changed = leads.changed() => match changed {
                Ok(()) => stale = true,
                Err(_) => break Ok(Parting::Gone),
            },
            changed = outcomes.changed() => {
                if changed.is_err() {
                    break Ok(Parting::Gone);
                }
            }
        }
        if *leads.borrow_and_update() {
            let outcome = outcomes.borrow_and_update().clone();
            tokio::select! {
                () = writer.write(&outcome, stale) => {}
                parting = &mut stop => break parting,
            }
        }
    };
    if *leads.borrow() && parting != Ok(Parting::Succeeded) {
        let outcome = outcomes.borrow().clone();
        writer.part(&outcome).await;
    }
    let _ = resign.send(());
    let _ = elector.await;
}

/// A status that was to be written: of what, at which version, and what came of it.
type Write = (Key, Option<Box<str>>, Result<(), Fault>);

struct Writer {
    context: Arc<Context>,
    events: Events,
    publish: Publish,
    /// What statuses are to say.
    addresses: Option<Vec<Value>>,
    /// The version of each Ingress whose status was written last: until another comes, it is right.
    written: HashMap<Key, (Option<Box<str>>, Vec<Value>)>,
    left: Left,
    /// Whether a failure was told of.
    told: bool,
}

impl Writer {
    async fn write(&mut self, outcome: &Outcome, look: bool) {
        if self.publish.is_wanted() {
            if look || self.addresses.is_none() {
                self.addresses = self.publish.addresses().await.or(self.addresses.take());
            }
            if let Some(addresses) = self.addresses.clone() {
                self.publish_all(&outcome.ingresses, &addresses).await;
                self.left.clear(&self.context, &outcome.others, &addresses).await;
            }
        }
        self.events.tell(outcome).await;
    }

    /// Takes the addresses away where nobody is left behind them.
    async fn part(&mut self, outcome: &Outcome) {
        if self.publish.is_wanted() && !self.publish.others_serve().await {
            self.publish_all(&outcome.ingresses, &[]).await;
        }
    }

    async fn publish_all(&mut self, ingresses: &[(Key, Arc<Ingress>)], addresses: &[Value]) {
        let mut writes: JoinSet<Write> = JoinSet::new();
        for (key, ingress) in ingresses {
            let version = ingress.version.clone();
            let last = self.written.get(key);
            let just_now = last.is_some_and(|last| last.0 == version && last.1 == addresses);
            if just_now || published(ingress) == addresses {
                continue;
            }
            if writes.len() >= AT_ONCE
                && let Some(done) = writes.join_next().await
            {
                self.wrote(done, addresses);
            }
            let (context, key) = (self.context.clone(), key.clone());
            let body = json!({ "status": { "loadBalancer": { "ingress": addresses } } });
            writes.spawn(async move {
                let outcome = patch(&context, &key, &body).await;
                (key, version, outcome)
            });
        }
        while let Some(done) = writes.join_next().await {
            self.wrote(done, addresses);
        }
        if self.written.len() > 2 * ingresses.len() + 16 {
            let there: std::collections::HashSet<&Key> = ingresses.iter().map(|(k, _)| k).collect();
            self.written.retain(|key, _| there.contains(key));
        }
    }

    fn wrote(&mut self, done: Result<Write, tokio::task::JoinError>, addresses: &[Value]) {
        let Ok((key, version, outcome)) = done else { return };
        let kubernetes = self.context.metrics.kubernetes();
        match outcome {
            Ok(()) => {
                kubernetes.status_update("success");
                self.written.insert(key, (version, addresses.to_vec()));
                self.told = false;
            }
            // It is gone.
            Err(fault) if fault.status() == 404 => {}
            Err(fault) => {
                kubernetes.status_update("failure");
                let told = std::mem::replace(&mut self.told, true);
                if !told {
                    let hint = match fault.status() {
                        403 => {
                            ". Give our service account the rule { apiGroups: \
                                [\"networking.k8s.io\"], resources: [\"ingresses/status\"], \
                                verbs: [\"patch\"] }"
                        }
                        _ => "; it is tried again",
                    };
                    tracing::warn!("the status of Ingress {key} cannot be written: {fault}{hint}");
                }
            }
        }
    }
}

/// What the status of `ingress` says, without what we do not write.
pub(super) fn published(ingress: &Ingress) -> Vec<Value> {
    let status = ingress.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let entries = status.and_then(|status| status.ingress.as_ref()).into_iter().flatten();
    let entry = |entry: &k8s_openapi::api::networking::v1::IngressLoadBalancerIngress| match (
        &entry.ip,
        &entry.hostname,
    ) {
        (Some(ip), _) => json!({ "ip": ip }),
        (None, hostname) => json!({ "hostname": hostname }),
    };
    entries.map(entry).collect()
}

/// Writes the status alone. It names no version: nobody else has a say in these fields.
async fn patch(context: &Context, key: &Key, body: &Value) -> Result<(), Fault> {
    let path = format!("{}/status?{}", Kind::Ingress.path_of(key), context.manager_query());
    let content = Some(("application/merge-patch+json", body.to_string().into_bytes()));
    context.api.ask(Method::PATCH, &path, content).await.map(|_| ())
}
