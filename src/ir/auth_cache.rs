//! How long the word of a service about a request holds for others.

use std::time::Duration;

use serde::{Serialize, Serializer};

use super::{Span, Template, Variable};

/// Which answers of an authentication service are kept, for requests that are alike.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AuthCache {
    /// What makes two requests alike, beside the route, the host and the URL that is asked. All
    /// that the service decides by must be in it.
    pub key: Template,
    /// For how long at most, by status: the first range that a status is in counts, and an answer
    /// that is in none is not kept. The answer itself may say less (`Cache-Control`, `Expires`).
    #[serde(serialize_with = "times")]
    pub valid: Vec<(u16, u16, Duration)>,
}

impl AuthCache {
    /// For how long answers of this status are kept; `None` where they are not.
    pub fn time(&self, status: u16) -> Option<Duration> {
        let found = self.valid.iter().find(|(from, to, _)| (*from..=*to).contains(&status));
        found.map(|(_, _, time)| *time).filter(|time| !time.is_zero())
    }

    /// What requests may differ in that share an answer, in words, because it is neither in the key
    /// nor in `asked`, the path and query that the service is asked for: services commonly decide
    /// by it. `None` where nothing of that kind is left open.
    pub fn leaves_open(&self, asked: &Template) -> Option<&'static str> {
        use Variable::{EscapedRequestUri, RequestMethod, RequestUri, Uri};
        let mut known = self.key.variables().chain(asked.variables());
        let path = known.clone().any(|it| matches!(it, EscapedRequestUri | RequestUri | Uri));
        match (known.any(|it| *it == RequestMethod), path) {
            (true, true) => None,
            (true, false) => Some("path"),
            (false, true) => Some("method"),
            (false, false) => Some("method and path"),
        }
    }

    /// 200, 202 and 401 for five minutes, as ingress-nginx has it.
    pub fn usual_times() -> Vec<(u16, u16, Duration)> {
        [200, 202, 401].map(|status| (status, status, Duration::from_secs(300))).into()
    }
}

fn times<S: Serializer>(times: &[(u16, u16, Duration)], serializer: S) -> Result<S::Ok, S::Error> {
    let range = |from: u16, to: u16| match from == to {
        true => from.to_string(),
        false => format!("{from}-{to}"),
    };
    serializer.collect_map(
        times.iter().map(|(from, to, time)| (range(*from, *to), Span(*time).to_string())),
    )
}
