//! What rules come to for a request, and which route is found by what they make of its path: the
//! way of the proxy's own look-up.
//!
//! Rules are judged by what the question says. It has no certificate, user or id, and an address
//! only where one is given.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use http::{HeaderValue, Method, StatusCode};
use serde::{Deserialize, Serialize};

use super::Question;
use crate::filter::{Answer, Facts, RequestTarget, Rules, Ruling, Verdict};
use crate::ir::{HostPattern, RedirectTo, Rewrite, Rule, Step, Variable};
use crate::proxy::MOST_LOOKUPS;
use crate::snapshot::{
    CompiledListener, CompiledRoute, HostTable, Outcome, RequestFacts, Snapshot, Trial,
};

/// An answer that rules give in the place of everything that comes after them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleAnswer {
    /// Its status.
    pub status: u16,
    /// What gives it, in words.
    pub why: String,
    /// Where a redirect leads, unless that is not to be shown.
    #[serde(default)]
    pub location: Option<String>,
}

/// What looking for a route came to.
pub(super) struct Found {
    /// Path and query after the rules.
    pub target: RequestTarget,
    /// Whether that is what the upstream gets, whatever the route makes of paths.
    pub settled: bool,
    /// Whether a part of it, or of where rules redirect to, is not to be shown.
    pub secret: bool,
    /// Whether a rule looked at what the question does not say.
    pub guessed: bool,
    /// Whether a route was looked for; rules may answer before.
    pub routed: bool,
    /// The answer of a rule.
    pub answer: Option<RuleAnswer>,
    /// The routes of the host that were tried last, by rank.
    pub trials: Vec<Trial>,
}

impl Found {
    /// The route that serves the request, whether or not rules of it answer.
    pub fn winner<'s>(&self, snapshot: &'s Snapshot) -> Option<&'s CompiledRoute> {
        let won = self.trials.iter().find(|trial| trial.outcome == Outcome::Won)?;
        snapshot.route(won.route)
    }

    /// A text that was made of the target, where it may be shown.
    pub fn shown(&self, text: &HeaderValue) -> Option<String> {
        match self.secret {
            true => Some("<redacted>".to_owned()),
            false => text.to_str().ok().map(str::to_owned),
        }
    }
}

/// The rules of a host, which may have been declared in several places.
pub(super) fn of_host(snapshot: &Snapshot, host: &HostPattern) -> Vec<Rule> {
    let hosts = snapshot.config.hosts.iter().filter(|spec| spec.pattern == *host);
    hosts.flat_map(|spec| spec.rules.iter().cloned()).collect()
}

/// Goes through the rules of the host `pattern`, and through those of each route that is found.
pub(super) fn find(
    snapshot: &Snapshot,
    listener: &CompiledListener,
    (pattern, table): (&HostPattern, &HostTable),
    question: &Question,
    asked: &RequestTarget,
) -> Found {
    let found = Found {
        target: asked.clone(),
        settled: false,
        secret: false,
        guessed: false,
        routed: false,
        answer: None,
        trials: Vec::new(),
    };
    let gated = table.client_gate.is_some();
    let ruling = Ruling::default();
    let mut walk = Walk { listener, question, asked, gated, ruling, found };
    if let Some(rules) = &table.rules {
        let verdict = walk.judge(rules, &of_host(snapshot, pattern));
        // What a host's rules make of the path is what routes are looked for by.
        walk.ruling.settled = false;
        if verdict == Verdict::Answered {
            return walk.answered("a rule of the host");
        }
    }
    for _ in 0..MOST_LOOKUPS {
        let facts = RequestFacts {
            method: &question.method,
            path: walk.found.target.path(),
            query: walk.found.target.query(),
            headers: &question.headers,
        };
        let trials = table.explain(&facts);
        let won = trials.iter().find(|trial| trial.outcome == Outcome::Won);
        let slashes =
            won.map_or(Ok(()), |won| table.check_slashes(&walk.found.target, &facts, won.route));
        walk.found.trials = trials;
        walk.found.routed = true;
        if let Err(error) = slashes {
            return walk.refused(StatusCode::BAD_REQUEST, error.to_string());
        }
        let Some(route) = walk.found.winner(snapshot) else { return walk.found };
        let Some(rules) = &route.rules else { return walk.found };
        let spec = crate::admin::view::route(snapshot, route).map(|(_, spec)| spec);
        match walk.judge(rules, spec.map_or(&[], |spec| &spec.rules)) {
            Verdict::Lookup => {}
            Verdict::Answered => return walk.answered("a rule of the route"),
            Verdict::Continue | Verdict::Stop => {
                walk.found.settled = walk.ruling.settled;
                return walk.found;
            }
        }
    }
    let why = "its rewrites lead in a circle".to_owned();
    walk.refused(StatusCode::INTERNAL_SERVER_ERROR, why)
}

/// A request on its way through rules.
struct Walk<'a> {
    listener: &'a CompiledListener,
    question: &'a Question,
    asked: &'a RequestTarget,
    /// Whether the host demands client certificates, which comes before all that it answers.
    gated: bool,
    ruling: Ruling,
    found: Found,
}

impl Walk<'_> {
    /// Goes through `rules`, which were made of `specs`.
    fn judge(&mut self, rules: &Rules, specs: &[Rule]) -> Verdict {
        let question = self.question;
        if self.found.target.path() == "*" && question.method == Method::OPTIONS {
            return Verdict::Continue;
        }
        self.found.secret |= specs.iter().any(has_secret);
        self.found.guessed |= specs.iter().any(|rule| asks_more(rule, question));
        let client = question.client.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let facts = Facts {
            scheme: if self.listener.tls.is_some() { "https" } else { "http" },
            host: question.host.name(),
            http_host: question.host.to_value(),
            port: self.listener.spec.client_port(),
            protocol: "HTTP/1.1",
            target: &self.found.target,
            asked: self.asked,
            method: &question.method,
            headers: &question.headers,
            client,
            peer: SocketAddr::new(client, 0),
            user: None,
            certificate: None,
            request_id: b"",
            captures: &[],
        };
        let verdict = rules.judge(&facts, &mut self.ruling);
        if let Some(target) = self.ruling.target.take() {
            self.found.target = target;
        }
        verdict
    }

    /// With an answer in the place of any route.
    fn refused(self, status: StatusCode, why: String) -> Found {
        let answer = Some(RuleAnswer { status: status.as_u16(), why, location: None });
        Found { routed: false, answer, trials: Vec::new(), ..self.found }
    }

    /// With the answer that the rules gave.
    fn answered(mut self, by: &str) -> Found {
        let whom = if self.gated { ", to whom `client_auth` lets in" } else { "" };
        let by = &format!("{by}{whom}");
        let (status, why, location) = match self.ruling.answer.take() {
            Some(Answer::Response(status, ..)) => (status, by.to_owned(), None),
            Some(Answer::Redirect(status, to)) => (status, by.to_owned(), self.found.shown(&to)),
            Some(Answer::Unsound) | None => {
                (StatusCode::BAD_REQUEST, format!("{by}: it makes no path or URL"), None)
            }
        };
        self.found.answer = Some(RuleAnswer { status: status.as_u16(), why, location });
        self.found
    }
}

/// Whether a rule puts something into paths and URLs that is not to be shown.
fn has_secret(rule: &Rule) -> bool {
    rule.then.iter().any(|step| match step {
        Step::Rewrite(Rewrite { path: template, .. })
        | Step::Redirect(RedirectTo { to: template, .. }) => template.is_secret(),
        Step::Filter(_) | Step::Respond(_) | Step::Stop => false,
    })
}

/// Whether a condition of the rule is about something that the question does not say.
fn asks_more(rule: &Rule, question: &Question) -> bool {
    let unknown = |variable: &Variable| match variable {
        Variable::ClientFingerprint
        | Variable::ClientIssuer
        | Variable::ClientSerial
        | Variable::ClientSubject
        | Variable::ClientVerify
        | Variable::RemotePort
        | Variable::RemoteUser
        | Variable::RequestId
        | Variable::ServerProtocol => true,
        Variable::RemoteAddr | Variable::ProxyAddXForwardedFor => question.client.is_none(),
        _ => false,
    };
    rule.when.iter().any(|condition| condition.value.variables().any(unknown))
}
