//! Answers of services that hold for several requests: who may be told one that another's request
//! was given, and which are kept for that.

use std::rc::Rc;
use std::time::SystemTime;

use http::header::{HOST, VARY, VIA, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, StatusCode};

use super::external;
use crate::filter::{Place, lifetime, render, values};
use crate::ir::Variable;
use crate::proxy::answers::{Answer, Tag};
use crate::proxy::{Context, Request, forwarding};
use crate::snapshot::{External, Way};
use crate::util::moment::Moment;

/// A request as far as answers are kept for it.
pub(super) struct Alike {
    tag: Tag,
    /// Whether there is nothing in it of what makes requests alike but what they ask for. Who has
    /// nothing to show is turned away by the word given to another, but never let in.
    nobody: bool,
}

impl Alike {
    /// What makes `request` like others; `None` where no answers are kept.
    ///
    /// Route and service are in it, and the host and the URL that is asked: a session of one host is
    /// none of another's, though one route serves both.
    pub fn of(request: &Request, context: &Context, external: &External) -> Option<Self> {
        let cache = external.spec.cache.as_ref()?;
        let identity = external.identity.as_ref()?;
        let facts = request.facts();
        let url = render(&external.spec.path, &facts, Place::Url);
        let values: Vec<_> = values(&cache.key, &facts).collect();
        let fixed = [identity.as_slice(), request.host.name().as_bytes(), &url];
        let parts = fixed.into_iter().chain(values.iter().map(Vec::as_slice));
        let tag = context.worker.answers.tag(parts)?;
        let shown = cache.key.variables().zip(&values).filter(|(variable, _)| tells_who(variable));
        let nobody = match shown.clone().next() {
            Some(_) => shown.map(|(_, value)| value).all(Vec::is_empty),
            None => values.iter().all(Vec::is_empty),
        };
        Some(Self { tag, nobody })
    }

    /// What was answered to a request like it.
    pub fn find(&self, request: &Request, context: &Context) -> Option<Rc<Answer>> {
        let found = context.worker.answers.find(self.tag, &request.headers, Moment::now());
        if let Some(listener) = context.listener() {
            let result = if found.is_some() { "hit" } else { "miss" };
            listener.metrics.auth_cache(context.worker.id, result);
        }
        found
    }

    /// Keeps an answer, if it may be kept.
    pub fn keep(
        &self,
        request: &Request,
        context: &Context,
        external: &External,
        (status, headers): (StatusCode, &HeaderMap),
    ) {
        let most = external.spec.cache.as_ref().and_then(|cache| cache.time(status.as_u16()));
        let Some(most) = most.filter(|_| !(self.nobody && status.is_success())) else { return };
        let Some(time) = lifetime(headers, most, SystemTime::now()) else { return };
        let answers = &context.worker.answers;
        let vary = match varying(external, headers) {
            Some(names) if names.is_empty() => None,
            Some(names) => match answers.tag_of(&names, &request.headers) {
                Some(tag) => Some((names, tag)),
                None => return,
            },
            None => return,
        };
        let passed_on: &[HeaderName] = match status {
            StatusCode::UNAUTHORIZED => &[WWW_AUTHENTICATE],
            status if status.is_success() => &external.spec.response_headers,
            _ => &[],
        };
        let mut kept = HeaderMap::new();
        for name in passed_on {
            for value in headers.get_all(name) {
                kept.append(name, value.clone());
            }
        }
        answers.keep(self.tag, Answer { status, headers: kept, vary }, time, Moment::now());
    }
}

/// Whether a variable may tell who asks, and not only what for and where.
fn tells_who(variable: &Variable) -> bool {
    use Variable::{
        EscapedRequestUri, Host, HttpHost, IsArgs, PassAccessScheme, RequestId, RequestMethod,
        RequestUri, Scheme, ServerPort, ServerProtocol, Uri,
    };
    !matches!(
        variable,
        EscapedRequestUri
            | Host
            | HttpHost
            | IsArgs
            | PassAccessScheme
            | RequestId
            | RequestMethod
            | RequestUri
            | Scheme
            | ServerPort
            | ServerProtocol
            | Uri
    )
}

/// The fields of requests that an answer depends on; `None` where it depends on what requests do
/// not have, but the question had: fields that are this proxy's to write, and whatever the routes of
/// the request's own host make of a question.
fn varying(external: &External, headers: &HeaderMap) -> Option<Box<[HeaderName]>> {
    let mut names = Vec::new();
    for field in headers.get_all(VARY) {
        for name in field.to_str().ok()?.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            let name: HeaderName = Some(name).filter(|name| *name != "*")?.parse().ok()?;
            let own = external.spec.request_headers.iter().any(|(own, _)| *own == name);
            let written = forwarding::is_owned(name.as_str()) || [HOST, VIA].contains(&name);
            let own_host = matches!(external.way, Way::OwnHost);
            if own || own_host || written || external::is_of_the_question(&name) {
                return None;
            }
            names.push(name);
        }
    }
    Some(names.into())
}
