//! Where a request would go, and why not elsewhere: the same look-up that serves requests, told
//! in full.
//!
//! Works on any snapshot, one that is served or one compiled from files. The request is brought
//! into its one form as the data plane does it. Header conditions are judged by the headers as
//! given: those that the proxy strips from untrusted clients (`X-Forwarded-*` and their kind)
//! count as if a trusted proxy sent them.

mod forecast;
mod policies;
mod question;
mod ruled;
mod text;

#[cfg(test)]
mod tests;

pub use forecast::Forecast;
pub use policies::Policies;
pub use question::{Question, QuestionError};
pub use ruled::RuleAnswer;

use std::sync::Arc;

use http::Method;
use serde::{Deserialize, Serialize};

use super::view::{self, RouteView, UpstreamView};
use crate::filter::{Location, RequestTarget};
use crate::ir::{EncodedSlashes, HostPattern};
use crate::proxy::{Sight, client_scheme};
use crate::snapshot::{Action, CompiledListener, CompiledRoute, Outcome, Snapshot, Trial};
use crate::upstream::Upstream;
use crate::util::moment::Moment;
use ruled::Found;

/// What becomes of a request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    /// The request in the form in which it is looked up.
    pub request: Asked,
    /// Why it is answered before any route is looked up.
    pub refused: Option<Refusal>,
    /// What is odd about the question.
    pub note: Option<String>,
    /// What each listener that it can come in by does with it.
    pub listeners: Vec<OnListener>,
}

/// A request in its one form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// The method.
    pub method: String,
    /// `http` or `https`.
    pub scheme: String,
    /// The host name, lower case, without port.
    pub host: String,
    /// The normalised path.
    pub path: String,
    /// The query without its `?`.
    pub query: Option<String>,
}

/// An answer the proxy gives whatever the routes are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// Its status.
    pub status: u16,
    /// Why.
    pub reason: String,
}

/// What one listener does with the request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OnListener {
    /// The listener.
    pub listener: String,
    /// Its address.
    pub address: String,
    /// Whether it terminates TLS.
    pub tls: bool,
    /// The pattern of the virtual host that answers; `None` where there is none.
    pub host: Option<String>,
    /// How it matched: `exact`, `wildcard`, `wildcard of one label` or `default`.
    pub host_match: Option<String>,
    /// Where its TLS connection goes, where that is not terminated here; the request itself is then for
    /// the upstream to read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passes_to: Option<PassesTo>,
    /// Path and query that rules made of its own, where routes were looked for by them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leads_to: Option<String>,
    /// The answer of rules before any route; nothing below counts then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<RuleAnswer>,
    /// Whether rules looked at what is not known here, such as a client certificate.
    #[serde(default)]
    pub guessed: bool,
    /// The route that serves it; `None` is answered 404.
    pub won: Option<Winner>,
    /// The other routes of the host, by rank.
    pub others: Vec<Loser>,
}

/// Where a TLS connection goes that is not terminated here.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PassesTo {
    /// The upstream's name.
    pub name: String,
    /// Why connections are closed instead.
    pub error: Option<String>,
    /// The upstream.
    pub upstream: Option<Target>,
}

/// The route that serves a request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Winner {
    /// The route.
    pub route: RouteView,
    /// What holds for its requests.
    pub policies: Policies,
    /// Path and query as the upstream gets them, where the route forwards.
    pub upstream_target: Option<String>,
    /// The answer of a rule of it, where one answers this request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<RuleAnswer>,
    /// Where the route's `https_redirect` leads, where this request is one that it redirects.
    pub https_redirect: Option<String>,
    /// Where a redirect leads.
    pub location: Option<String>,
    /// The upstreams it forwards to.
    pub upstreams: Vec<Target>,
}

/// An upstream a request may go to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Target {
    /// Its share relative to the others of the route.
    pub weight: u32,
    /// The endpoint it would be sent to now.
    pub pick: Forecast,
    /// The upstream and its endpoints.
    pub upstream: UpstreamView,
}

/// A route that does not serve the request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loser {
    /// Its name.
    pub route: String,
    /// Its path and how that matches, for example `prefix /cart`.
    pub path: String,
    /// `lost`, or `shadowed`: it would serve the request if the winner were not there.
    pub outcome: String,
    /// The first reason.
    pub reason: String,
    /// Where it was declared.
    pub origin: String,
}

/// Explains `question` by `snapshot`.
pub fn explain(snapshot: &Snapshot, question: &Question) -> Explanation {
    let mut explanation =
        Explanation { request: question.asked(), refused: None, note: None, listeners: Vec::new() };
    let (listeners, note) = ways_in(snapshot, question);
    let keeps =
        listeners.iter().any(|listener| listener.spec.encoded_slashes == EncodedSlashes::Keep);
    let slashes = if keeps { EncodedSlashes::Keep } else { EncodedSlashes::Refuse };
    let target = match question.target(slashes) {
        Ok(target) if target.path() == "*" && question.method != Method::OPTIONS => {
            explanation.refused = Some(bad_request("'*' is only for OPTIONS"));
            return explanation;
        }
        Ok(target) => target,
        Err(error) => {
            explanation.refused = Some(bad_request(error));
            return explanation;
        }
    };
    if matches!(question.method, Method::CONNECT | Method::TRACE) {
        let reason = "CONNECT and TRACE are never forwarded".to_owned();
        explanation.refused = Some(Refusal { status: 405, reason });
        return explanation;
    }
    explanation.request.path = target.path().to_owned();
    explanation.request.query = target.query().map(str::to_owned);
    explanation.note = note;
    explanation.listeners =
        listeners.iter().map(|listener| on(snapshot, listener, question, &target)).collect();
    explanation
}

fn bad_request(reason: impl ToString) -> Refusal {
    Refusal { status: 400, reason: reason.to_string() }
}

/// The listeners the request can come in by. Ports are often mapped on the way here, so where
/// none has the URL's port every one that speaks its scheme counts.
fn ways_in<'s>(
    snapshot: &'s Snapshot,
    question: &Question,
) -> (Vec<&'s CompiledListener>, Option<String>) {
    let fits = |listener: &&CompiledListener| listener.tls.is_some() == question.secure;
    let all: Vec<_> = snapshot.listeners().map(AsRef::as_ref).collect();
    let port = question.effective_port();
    let exact: Vec<_> = (all.iter().copied())
        .filter(|listener| fits(listener) && listener.spec.client_port() == port)
        .collect();
    if !exact.is_empty() {
        return (exact, None);
    }
    let scheme = question.scheme();
    let same: Vec<_> = all.iter().copied().filter(fits).collect();
    // A port the URL leaves out says little about where the proxy really listens.
    let named = question.port.is_some();
    if !same.is_empty() {
        let note =
            format!("no {scheme} listener has port {port}; every {scheme} listener is shown");
        return (same, named.then_some(note));
    }
    let note = format!("no listener speaks {scheme}; every listener is shown");
    (all, Some(note))
}

fn on(
    snapshot: &Snapshot,
    listener: &CompiledListener,
    question: &Question,
    target: &RequestTarget,
) -> OnListener {
    let host = question.host.name();
    let pattern = listener.hosts.matched(host);
    let passes_to = listener.passage(host).map(|passage| {
        let sight = Sight { client: question.client, host, target, headers: &Default::default() };
        let upstream = passage.upstream.as_ref();
        PassesTo {
            name: passage.spec.upstream.to_string(),
            error: upstream.err().cloned(),
            upstream: upstream.ok().map(|live| self::target(snapshot, live, 1, &sight)),
        }
    });
    if let Some(passes_to) = passes_to {
        return OnListener {
            listener: listener.name.to_string(),
            address: listener.spec.bind.to_string(),
            tls: true,
            host: pattern.as_ref().map(ToString::to_string),
            host_match: pattern.as_ref().map(|pattern| how(pattern).to_owned()),
            passes_to: Some(passes_to),
            leads_to: None,
            answer: None,
            guessed: false,
            won: None,
            others: Vec::new(),
        };
    }
    let found = pattern.as_ref().zip(listener.hosts.lookup(host.as_bytes()));
    let found = found.map(|(pattern, table)| {
        ruled::find(snapshot, listener, (pattern, table), question, target)
    });
    let winner = found.as_ref().and_then(|found| found.winner(snapshot));
    let trials = found.iter().flat_map(|found| &found.trials);
    let others = trials.filter(|trial| trial.outcome != Outcome::Won);
    let elsewhere = found.as_ref().filter(|found| found.routed && found.target != *target);
    OnListener {
        listener: listener.name.to_string(),
        address: listener.spec.bind.to_string(),
        tls: listener.tls.is_some(),
        host: pattern.as_ref().map(ToString::to_string),
        host_match: pattern.as_ref().map(|pattern| how(pattern).to_owned()),
        passes_to: None,
        leads_to: elsewhere.map(|found| match found.secret {
            true => "<redacted>".to_owned(),
            false => found.target.as_str().to_owned(),
        }),
        answer: found.as_ref().filter(|found| !found.routed).and_then(|found| found.answer.clone()),
        guessed: found.as_ref().is_some_and(|found| found.guessed),
        won: winner
            .zip(found.as_ref())
            .and_then(|(route, found)| account(snapshot, route, question, found)),
        others: others.filter_map(|trial| loser(snapshot, trial, winner)).collect(),
    }
}

fn how(pattern: &HostPattern) -> &'static str {
    match pattern {
        HostPattern::Any => "default",
        HostPattern::Exact(_) => "exact",
        HostPattern::OneLabel(_) => "wildcard of one label",
        HostPattern::Wildcard(_) => "wildcard",
    }
}

fn account(
    snapshot: &Snapshot,
    route: &CompiledRoute,
    question: &Question,
    found: &Found,
) -> Option<Winner> {
    let (view, spec) = view::route(snapshot, route)?;
    let target = &found.target;
    let policies = Policies::new(route, &ruled::of_host(snapshot, &route.host), spec);
    let ended = Winner {
        route: view,
        policies,
        upstream_target: None,
        answer: found.answer.clone(),
        https_redirect: None,
        location: None,
        upstreams: Vec::new(),
    };
    if ended.answer.is_some() {
        return Some(ended);
    }
    let secure = client_scheme(&question.headers).unwrap_or(question.secure);
    let to_https = (route.https_redirect.as_ref())
        .filter(|plan| {
            !secure && !matches!(route.action, Action::Fail { .. }) && plan.concerns(target)
        })
        .and_then(|plan| plan.location(question.host.name(), target));
    if let Some(location) = to_https {
        return Some(Winner { https_redirect: found.shown(&location), ..ended });
    }
    let location = match &route.action {
        Action::Redirect(plan) => plan.location(&Location {
            scheme: if secure { "https" } else { "http" },
            host: question.host.name(),
            port: question.host.port(),
            target,
        }),
        _ => None,
    };
    let sight = Sight {
        client: question.client,
        host: question.host.name(),
        target,
        headers: &question.headers,
    };
    let upstreams: Vec<_> = match &route.action {
        Action::Forward(targets) => targets
            .iter()
            .map(|(live, weight)| self::target(snapshot, live, weight, &sight))
            .collect(),
        _ => Vec::new(),
    };
    let upstream_target = match &route.action {
        Action::Forward(_) if found.secret => None,
        Action::Forward(_) if found.settled => Some(target.as_str().to_owned()),
        Action::Forward(_) => policies::rewritten(route, spec, target),
        _ => None,
    };
    let location = location.and_then(|location| found.shown(&location));
    Some(Winner { upstream_target, location, upstreams, ..ended })
}

fn target(snapshot: &Snapshot, live: &Arc<Upstream>, weight: u32, sight: &Sight<'_>) -> Target {
    let now = Moment::now();
    Target {
        weight,
        pick: forecast::forecast(live, sight, now),
        upstream: view::upstream(snapshot, live, now),
    }
}

fn loser(snapshot: &Snapshot, trial: &Trial, winner: Option<&CompiledRoute>) -> Option<Loser> {
    let route = snapshot.route(trial.route)?;
    let (path_match, path) = view::path(&route.matches.path);
    let (outcome, reason) = match &trial.outcome {
        Outcome::Lost(reason) => ("lost", reason.clone()),
        Outcome::Shadowed => {
            let winner = winner.map_or("the winner", |winner| winner.name.as_str());
            ("shadowed", format!("its conditions hold too, but {winner} ranks higher"))
        }
        Outcome::Won => return None,
    };
    Some(Loser {
        route: route.name.to_string(),
        path: format!("{path_match} {path}"),
        outcome: outcome.to_owned(),
        reason,
        origin: route.origin.to_string(),
    })
}
