//! Rules: goes through them with a request, and keeps what they come to until it is applied.
//!
//! Knows nothing of when rules are gone through, nor of how routes are found.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, StatusCode};
use regex::bytes::Regex;

use super::template::{Draft, Facts, Place, render, render_value};
use super::{HeaderEdits, RequestTarget, ResponseEdits, TargetError, substitute};
use crate::ir::{self, Next, Template, Text};
use crate::util::escape::{decoded, encoded};

/// The rules of a host or route, ready to be gone through.
#[derive(Debug)]
pub struct Rules(Box<[Rule]>);

#[derive(Debug)]
struct Rule {
    when: Box<[Condition]>,
    then: Box<[Step]>,
}

#[derive(Debug)]
struct Condition {
    value: Template,
    test: Test,
}

#[derive(Debug)]
enum Test {
    True,
    Is(Text),
    IsNot(Text),
    Matches(Regex),
    MatchesNot(Regex),
}

#[derive(Debug)]
enum Step {
    Request(Arc<HeaderEdits>),
    Response(Arc<ResponseEdits>),
    Host(Template),
    Rewrite { regex: Regex, path: Template, next: Next },
    Respond(ir::Reply),
    Redirect(ir::RedirectTo),
    Stop,
}

/// How going through rules ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The request goes on.
    Continue,
    /// It goes on, and no further rule is for it.
    Stop,
    /// A route is to be looked for by its new path.
    Lookup,
    /// It is answered; the ruling says with what.
    Answered,
}

/// What rules came to for one request.
#[derive(Debug, Default)]
pub struct Ruling {
    /// The new path and query.
    pub target: Option<RequestTarget>,
    /// Whether the path is the one the upstream gets, whatever the route makes of paths.
    pub settled: bool,
    /// The `Host` for the upstream; what is no host is `Some(None)`.
    pub host: Option<Option<HeaderValue>>,
    /// The answer.
    pub answer: Option<Answer>,
    request: Vec<(Arc<HeaderEdits>, Vec<Option<HeaderValue>>)>,
    response: Vec<(Arc<ResponseEdits>, Vec<Draft>)>,
    captures: Vec<Box<[u8]>>,
}

/// A response that a rule answers with.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// A body with its media type.
    Response(StatusCode, HeaderValue, Vec<u8>),
    /// Where the client is sent.
    Redirect(StatusCode, HeaderValue),
    /// What was to be a path or URL is none.
    Unsound,
}

impl Rules {
    /// Compiles rules, or says what is wrong with them; `None` where there are none.
    pub fn new(rules: &[ir::Rule]) -> Result<Option<Self>, String> {
        let rules: Box<[Rule]> = rules.iter().map(Rule::new).collect::<Result<_, _>>()?;
        Ok(Some(Self(rules)).filter(|rules| !rules.0.is_empty()))
    }

    /// Rules under which nobody gets in: in the place of some that cannot be compiled.
    pub fn closed() -> Self {
        let reply = ir::Reply {
            status: StatusCode::INTERNAL_SERVER_ERROR,
            body: Template::of([]),
            content_type: "text/plain".into(),
        };
        let then = Box::from([Step::Respond(reply)]);
        Self(Box::from([Rule { when: Box::default(), then }]))
    }

    /// Goes through the rules with a request, whose target may have been rewritten by those of
    /// `ruling`, and adds to that what they come to.
    pub fn judge(&self, facts: &Facts<'_>, ruling: &mut Ruling) -> Verdict {
        for rule in &self.0 {
            if !rule.when.iter().all(|condition| condition.holds(facts, ruling)) {
                continue;
            }
            for step in &rule.then {
                match ruling.take(step, facts) {
                    Verdict::Continue => {}
                    verdict => return verdict,
                }
            }
        }
        Verdict::Continue
    }
}

impl Rule {
    fn new(rule: &ir::Rule) -> Result<Self, String> {
        let condition = |condition: &ir::Condition| {
            let test = match &condition.test {
                ir::Test::True => Test::True,
                ir::Test::Is(text) => Test::Is(text.clone()),
                ir::Test::IsNot(text) => Test::IsNot(text.clone()),
                ir::Test::Matches(text) => Test::Matches(substitute::compile(text)?),
                ir::Test::MatchesNot(text) => Test::MatchesNot(substitute::compile(text)?),
            };
            Ok::<_, String>(Condition { value: condition.value.clone(), test })
        };
        let when = rule.when.iter().map(condition).collect::<Result<_, _>>()?;
        let then = rule.then.iter().map(Step::new).collect::<Result<_, _>>()?;
        Ok(Self { when, then })
    }
}

impl Step {
    fn new(step: &ir::Step) -> Result<Self, String> {
        Ok(match step {
            ir::Step::Filter(ir::Filter::RequestHeaders(edit)) => {
                Self::Request(Arc::new(HeaderEdits::new(edit)))
            }
            ir::Step::Filter(ir::Filter::ResponseHeaders(edit)) => {
                Self::Response(Arc::new(ResponseEdits::new(edit)))
            }
            ir::Step::Filter(ir::Filter::RewriteHost(host)) => Self::Host(Template::literal(host)),
            ir::Step::Filter(ir::Filter::RewriteHostFrom(host)) => Self::Host(host.clone()),
            ir::Step::Filter(_) => return Err("a rule has a filter that none can have".to_owned()),
            ir::Step::Rewrite(rewrite) => Self::Rewrite {
                regex: substitute::compile(&rewrite.pattern)?,
                path: rewrite.path.clone(),
                next: rewrite.next,
            },
            ir::Step::Respond(reply) => Self::Respond(reply.clone()),
            ir::Step::Redirect(redirect) => Self::Redirect(redirect.clone()),
            ir::Step::Stop => Self::Stop,
        })
    }
}

impl Condition {
    fn holds(&self, facts: &Facts<'_>, ruling: &mut Ruling) -> bool {
        let (value, is_decoded) = ruling.with(facts, |facts| {
            let slashes = with_slashes(facts.target);
            let facts = Facts { target: slashes.as_ref().unwrap_or(facts.target), ..facts.clone() };
            let value = render(&self.value, &facts, Place::Condition);
            let escapes = facts.target.path().contains('%');
            let is_decoded = escapes && value != render(&self.value, &facts, Place::Header);
            (value, is_decoded)
        });
        match &self.test {
            Test::True => !value.is_empty() && value != b"0",
            Test::Is(text) => value == text.expose(),
            Test::IsNot(text) => value != text.expose(),
            Test::MatchesNot(regex) => !regex.is_match(&value),
            Test::Matches(regex) => {
                let found = match is_decoded {
                    true => captures_of_decoded(regex, &value),
                    false => captures(regex, &value),
                };
                let holds = found.is_some();
                if let Some(found) = found {
                    ruling.captures = found;
                }
                holds
            }
        }
    }
}

/// The same of what was decoded, encoded again: what was captured may become part of a URL or of a
/// field.
fn captures_of_decoded(regex: &Regex, value: &[u8]) -> Option<Vec<Box<[u8]>>> {
    let found = captures(regex, value)?;
    Some(found.iter().map(|group| encoded(group).into_bytes().into()).collect())
}

/// The target with slashes for the encoded ones that were kept: conditions judge a path as nginx does,
/// so that nobody gets past one by writing `/admin%2Fx`. `None` where there are none.
fn with_slashes(target: &RequestTarget) -> Option<RequestTarget> {
    target.with_decoded_slashes()?.ok()
}

/// What the groups of `regex` captured, the first of them first, where it is found in `value`.
fn captures(regex: &Regex, value: &[u8]) -> Option<Vec<Box<[u8]>>> {
    let found = regex.captures(value)?;
    let text = |group: Option<regex::bytes::Match<'_>>| {
        group.map(|group| Box::from(group.as_bytes())).unwrap_or_default()
    };
    Some(found.iter().skip(1).take(9).map(text).collect())
}

impl Ruling {
    /// Whether the request or its response is to be changed.
    pub fn edits_request(&self) -> bool {
        !self.request.is_empty()
    }

    /// Whether there are edits of the response.
    pub fn edits_response(&self) -> bool {
        !self.response.is_empty()
    }

    /// Edits the request's headers.
    pub fn on_request(&self, headers: &mut HeaderMap) {
        for (edits, values) in &self.request {
            edits.apply(headers, &mut values.iter().cloned());
        }
    }

    /// Edits the response's headers.
    pub fn on_response(&self, status: StatusCode, headers: &mut HeaderMap) {
        for (edits, drafts) in &self.response {
            let values: Vec<_> =
                drafts.iter().map(|draft| draft.finish(Some((status, headers)))).collect();
            edits.apply(status, headers, &mut values.into_iter());
        }
    }

    /// The facts with what the rules have changed so far.
    fn with<T>(&self, facts: &Facts<'_>, then: impl FnOnce(&Facts<'_>) -> T) -> T {
        let target = self.target.as_ref().unwrap_or(facts.target);
        then(&Facts { target, captures: &self.captures, ..facts.clone() })
    }

    fn take(&mut self, step: &Step, facts: &Facts<'_>) -> Verdict {
        match step {
            Step::Request(edits) => {
                let mut drafts = Vec::new();
                self.with(facts, |facts| edits.drafts(facts, &mut drafts));
                let values = drafts.iter().map(|draft| draft.finish(None)).collect();
                self.request.push((edits.clone(), values));
            }
            Step::Response(edits) => {
                let mut drafts = Vec::new();
                self.with(facts, |facts| edits.edits().drafts(facts, &mut drafts));
                self.response.push((edits.clone(), drafts));
            }
            Step::Host(template) => {
                let host = self.with(facts, |facts| render_value(template, facts, Place::Header));
                self.host = Some(host);
            }
            Step::Rewrite { regex, path, next } => return self.rewrite(regex, path, *next, facts),
            Step::Respond(reply) => {
                let body = self.with(facts, |facts| render(&reply.body, facts, Place::Header));
                let kind = HeaderValue::from_str(&reply.content_type);
                let kind = kind.unwrap_or(HeaderValue::from_static("text/plain; charset=utf-8"));
                return self.answer(Answer::Response(reply.status, kind, body));
            }
            Step::Redirect(redirect) => {
                let to = self.with(facts, |facts| render_value(&redirect.to, facts, Place::Url));
                let to = to.filter(|to| !to.is_empty());
                return self.answer(match to {
                    Some(to) => Answer::Redirect(redirect.status, to),
                    None => Answer::Unsound,
                });
            }
            Step::Stop => return Verdict::Stop,
        }
        Verdict::Continue
    }

    fn answer(&mut self, answer: Answer) -> Verdict {
        self.answer = Some(answer);
        Verdict::Answered
    }

    fn rewrite(
        &mut self,
        regex: &Regex,
        path: &Template,
        next: Next,
        facts: &Facts<'_>,
    ) -> Verdict {
        let target = self.target.as_ref().unwrap_or(facts.target);
        // What is encoded stays so where the expression is found with it.
        let found = captures(regex, target.path().as_bytes()).or_else(|| {
            let slashes = with_slashes(target);
            let path = slashes.as_ref().unwrap_or(target).path();
            let with_slashes = || captures(regex, path.as_bytes());
            let found = slashes.as_ref().and_then(|_| with_slashes());
            let of_decoded = || captures_of_decoded(regex, &decoded(path));
            found.or_else(|| path.contains('%').then(of_decoded).flatten())
        });
        let Some(found) = found else {
            return Verdict::Continue;
        };
        self.captures = found;
        let text = self.with(facts, |facts| render(path, facts, Place::Url));
        let own = self.target.as_ref().unwrap_or(facts.target);
        match joined(&text, own) {
            Ok(target) => self.target = Some(target),
            Err(_) => return self.answer(Answer::Unsound),
        }
        match next {
            Next::Continue => Verdict::Continue,
            Next::Stop => {
                self.settled = true;
                Verdict::Stop
            }
            Next::Lookup => Verdict::Lookup,
        }
    }
}

/// The target that a rewrite comes to, with the client's own query where that stays.
fn joined(text: &[u8], own: &RequestTarget) -> Result<RequestTarget, TargetError> {
    let text = std::str::from_utf8(text).map_err(|_| TargetError::Character)?;
    let (text, kept) = match text.strip_suffix('?') {
        Some(text) => (text, None),
        None => (text, own.query()),
    };
    let kept = kept.filter(|kept| !kept.is_empty());
    let (path, query) = match text.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (text, None),
    };
    let query = match (query, kept) {
        (Some(query), Some(kept)) if !query.is_empty() => Some(format!("{query}&{kept}")),
        (Some(query), None) => Some(query.to_owned()),
        (_, kept) => kept.map(str::to_owned),
    };
    match path.starts_with('/') {
        true => own.rewritten(path, query.as_deref()),
        false => own.rewritten(&format!("/{path}"), query.as_deref()),
    }
}

#[cfg(test)]
mod tests;
