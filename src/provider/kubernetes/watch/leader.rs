//! Which replica writes: the one that holds a Lease (coordination.k8s.io/v1).
//!
//! As in client-go: a holder renews every two seconds and gives up when it could not for ten;
//! others take over when nothing moved for the fifteen seconds of the Lease, by their own clock, so
//! that clocks need not agree. Each write names the version it is based on, so that of two that
//! take over at once one fails.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::Method;
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::{oneshot, watch};

use super::Context;
use super::api::Fault;
use super::patience::{Patience, Say};

/// How long a Lease lasts that is not renewed.
const DURATION: Duration = Duration::from_secs(15);
/// For how long a holder that cannot renew goes on.
const RENEW: Duration = Duration::from_secs(10);
/// How often it is renewed, and how often others look.
const RETRY: Duration = Duration::from_secs(2);

/// A candidate.
pub struct Elector {
    context: Arc<Context>,
    identity: String,
    path: String,
    /// The Lease as it was seen last, and when it was first seen so.
    observed: Option<(Value, Instant)>,
    /// When it was renewed last; `None` while another holds it.
    renewed: Option<Instant>,
    patience: Patience,
}

impl Elector {
    /// A candidate for the Lease that the options name.
    pub fn new(context: Arc<Context>) -> Self {
        let identity = context.options.pod.clone().unwrap_or_else(|| {
            // Outside a cluster there may be several on one machine.
            let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
            format!("{}_{:016x}", host.trim(), context.seed())
        });
        let namespace = &context.options.namespace;
        let path = format!("/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases");
        Self {
            context,
            identity,
            path,
            observed: None,
            renewed: None,
            patience: Patience::default(),
        }
    }

    /// Stands for election, and tells `leads` whether it holds the Lease, until `resign`; then gives
    /// it back, so that another need not wait until it runs out. Apart from whoever writes, so that
    /// much to write does not keep it from renewing.
    pub async fn run(mut self, leads: watch::Sender<bool>, mut resign: oneshot::Receiver<()>) {
        let mut tick = tokio::time::interval(RETRY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = &mut resign => break,
                _ = tick.tick() => {}
            }
            self.attempt().await;
            let now = self.leads();
            leads.send_if_modified(|before| std::mem::replace(before, now) != now);
        }
        self.release().await;
    }

    fn leads(&self) -> bool {
        self.renewed.is_some_and(|at| at.elapsed() < RENEW)
    }

    /// Takes or renews the Lease where that is possible.
    async fn attempt(&mut self) {
        let led = self.leads();
        let limit = RENEW.saturating_sub(RETRY);
        let outcome = tokio::time::timeout(limit, self.try_to_hold()).await;
        match outcome {
            Ok(Ok(true)) => {
                self.renewed = Some(Instant::now());
                self.patience.passed();
            }
            Ok(Ok(false)) => {
                self.renewed = None;
                self.patience.passed();
            }
            Ok(Err(fault)) => self.tell(&fault),
            Err(_) => self.tell(&Fault::Unreachable(format!("not within {limit:?}"))),
        }
        self.account(led);
    }

    async fn release(&mut self) {
        if self.renewed.take().is_none() {
            return;
        }
        let Some((mut lease, _)) = self.observed.take() else { return };
        if let Some(spec) = lease.get_mut("spec").and_then(Value::as_object_mut) {
            spec.insert("holderIdentity".to_owned(), json!(""));
            spec.insert("leaseDurationSeconds".to_owned(), json!(1));
            spec.insert("renewTime".to_owned(), json!(now()));
        }
        if let Err(fault) = self.put(&lease).await {
            tracing::warn!("the Lease cannot be given back: {fault}");
        }
        self.account(true);
    }

    async fn try_to_hold(&mut self) -> Result<bool, Fault> {
        let api = &self.context.api;
        let one = format!("{}/{}", self.path, self.context.options.election);
        let lease = match api.get::<Value>(&one).await {
            Ok(lease) => lease,
            Err(fault) if fault.status() == 404 => return self.create().await,
            Err(fault) => return Err(fault),
        };
        let seen = Instant::now();
        let moved = self.observed.as_ref().is_none_or(|(before, _)| before != &lease);
        if moved {
            self.observed = Some((lease.clone(), seen));
        }
        let spec = lease.get("spec").cloned().unwrap_or_default();
        let holder = spec.get("holderIdentity").and_then(Value::as_str).unwrap_or_default();
        let ours = holder == self.identity;
        let since = self.observed.as_ref().map_or(seen, |(_, since)| *since);
        let seconds = spec.get("leaseDurationSeconds").and_then(Value::as_u64);
        let lasts = seconds.map_or(DURATION, Duration::from_secs);
        if !ours && !holder.is_empty() && since.elapsed() < lasts {
            return Ok(false);
        }
        let transitions = spec.get("leaseTransitions").and_then(Value::as_u64).unwrap_or(0);
        let mut next = lease;
        let acquired = spec.get("acquireTime").filter(|_| ours).cloned();
        if let Some(object) = next.as_object_mut() {
            let spec = self.spec(acquired, transitions + u64::from(!ours));
            object.insert("spec".to_owned(), spec);
        }
        match self.put(&next).await {
            Ok(lease) => {
                self.observed = Some((lease, Instant::now()));
                Ok(true)
            }
            // Another was first.
            Err(fault) if fault.status() == 409 => Ok(false),
            Err(fault) => Err(fault),
        }
    }

    async fn create(&mut self) -> Result<bool, Fault> {
        let options = &self.context.options;
        let lease = json!({
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": { "name": options.election, "namespace": options.namespace },
            "spec": self.spec(None, 0),
        });
        let content = Some(("application/json", lease.to_string().into_bytes()));
        match self.context.api.ask(Method::POST, &self.path, content).await {
            Ok(body) => {
                let lease = serde_json::from_slice(&body);
                let lease = lease.map_err(|error| Fault::Malformed(error.to_string()))?;
                self.observed = Some((lease, Instant::now()));
                Ok(true)
            }
            Err(fault) if fault.status() == 409 => Ok(false),
            Err(fault) => Err(fault),
        }
    }

    async fn put(&self, lease: &Value) -> Result<Value, Fault> {
        let path = format!("{}/{}", self.path, self.context.options.election);
        let content = Some(("application/json", lease.to_string().into_bytes()));
        let body = self.context.api.ask(Method::PUT, &path, content).await?;
        serde_json::from_slice(&body).map_err(|error| Fault::Malformed(error.to_string()))
    }

    fn spec(&self, acquired: Option<Value>, transitions: u64) -> Value {
        let now = now();
        json!({
            "holderIdentity": self.identity,
            "leaseDurationSeconds": DURATION.as_secs(),
            "acquireTime": acquired.unwrap_or_else(|| json!(now)),
            "renewTime": now,
            "leaseTransitions": transitions,
        })
    }

    fn account(&self, led: bool) {
        let leads = self.leads();
        self.context.metrics.kubernetes().set_leader(leads);
        if leads != led {
            let identity = &self.identity;
            match leads {
                true => tracing::info!(%identity, "we write statuses and events now"),
                false => tracing::info!(%identity, "another writes statuses and events now"),
            }
        }
    }

    fn tell(&mut self, fault: &Fault) {
        let say = self.patience.failed(Instant::now());
        let (election, namespace) =
            (&self.context.options.election, &self.context.options.namespace);
        let hint = match fault.status() {
            403 if say == Say::Loudly => {
                ". Give a Role there of our service account the rules { apiGroups: \
                    [\"coordination.k8s.io\"], resources: [\"leases\"], verbs: [\"get\", \
                    \"create\", \"update\"] }"
            }
            _ => "",
        };
        let told = format!(
            "the Lease {namespace}/{election} that decides who writes statuses cannot be had: \
             {fault}{hint}"
        );
        match say {
            Say::Calmly => tracing::warn!("{told}; it is tried again"),
            Say::Loudly => tracing::error!("{told}"),
            Say::Nothing => {}
        }
    }
}

/// This moment as the API writes it, with microseconds.
fn now() -> String {
    Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()
}
