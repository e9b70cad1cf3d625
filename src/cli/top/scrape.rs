//! The figures of a metrics page that a table shows.

use std::collections::BTreeMap;

use super::histogram::Histogram;

/// What is counted of one route of a listener, or of an upstream.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Counts {
    /// Requests, or attempts.
    pub requests: f64,
    /// Those that failed.
    pub errors: f64,
    /// Those under way.
    pub in_flight: f64,
    /// How long they took.
    pub durations: Histogram,
}

/// The counts of one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Scrape {
    /// By listener and route.
    pub routes: BTreeMap<(String, String), Counts>,
    /// By upstream.
    pub upstreams: BTreeMap<String, Counts>,
}

impl Scrape {
    /// Reads a page in Prometheus' text format; lines that are of no interest or make no sense
    /// are passed over.
    pub(super) fn parse(page: &str) -> Self {
        let mut scrape = Self::default();
        for line in page.lines().filter(|line| line.starts_with("portcullis_")) {
            if let Some((name, labels, value)) = sample(line) {
                scrape.take(name, &labels, value);
            }
        }
        scrape
    }

    fn take(&mut self, name: &str, labels: &BTreeMap<&str, String>, value: f64) {
        let label = |name: &str| labels.get(name).cloned().unwrap_or_default();
        match name {
            "portcullis_requests_total" => {
                let counts = self.route(label("listener"), label("route"));
                counts.requests += value;
                if matches!(label("code").as_str(), "5xx" | "-") {
                    counts.errors += value;
                }
            }
            "portcullis_requests_in_flight" => {
                self.route(label("listener"), label("route")).in_flight += value;
            }
            "portcullis_request_duration_seconds_bucket" => {
                let counts = self.route(label("listener"), label("route"));
                counts.durations.bucket(&label("le"), value);
            }
            "portcullis_upstream_attempts_total" => {
                self.upstream(label("upstream")).requests += value;
            }
            "portcullis_upstream_errors_total" => {
                self.upstream(label("upstream")).errors += value;
            }
            "portcullis_upstream_responses_total" if label("code") == "5xx" => {
                self.upstream(label("upstream")).errors += value;
            }
            "portcullis_upstream_response_seconds_bucket" => {
                self.upstream(label("upstream")).durations.bucket(&label("le"), value);
            }
            _ => {}
        }
    }

    fn route(&mut self, listener: String, route: String) -> &mut Counts {
        self.routes.entry((listener, route)).or_default()
    }

    fn upstream(&mut self, upstream: String) -> &mut Counts {
        self.upstreams.entry(upstream).or_default()
    }
}

/// `name{label="value",…} value`, with `\\`, `\"` and `\n` in values.
fn sample(line: &str) -> Option<(&str, BTreeMap<&str, String>, f64)> {
    let end = line.find(['{', ' '])?;
    let (name, mut rest) = line.split_at(end);
    let mut labels = BTreeMap::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        while !rest.starts_with('}') {
            let (label, after) = rest.split_once("=\"")?;
            let mut value = String::new();
            let mut characters = after.char_indices();
            let close = loop {
                match characters.next()? {
                    (at, '"') => break at,
                    (_, '\\') => value.push(match characters.next()?.1 {
                        'n' => '\n',
                        other => other,
                    }),
                    (_, other) => value.push(other),
                }
            };
            labels.insert(label, value);
            rest = after.get(close + 1..)?;
            rest = rest.strip_prefix(',').unwrap_or(rest);
        }
        rest = rest.get(1..)?;
    }
    let value = rest.split_whitespace().next()?.parse().ok()?;
    Some((name, labels, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_read() {
        let scrape = Scrape::parse(
            "# HELP portcullis_requests_total x\n\
             portcullis_requests_total{listener=\"web\",route=\"a\",code=\"2xx\",reason=\"-\"} 5\n\
             portcullis_requests_total{listener=\"web\",route=\"a\",code=\"5xx\",reason=\"-\"} 2\n\
             portcullis_requests_in_flight{listener=\"web\",route=\"a\"} 3\n\
             portcullis_upstream_attempts_total{upstream=\"u \\\"}\\\\\",endpoint=\"x\"} 4\n\
             portcullis_upstream_errors_total{upstream=\"u \\\"}\\\\\",endpoint=\"x\",reason=\"r\"} 1\n\
             portcullis_requests_total{broken\n\
             portcullis_requests_total\n",
        );
        let route = &scrape.routes[&("web".to_owned(), "a".to_owned())];
        assert_eq!((route.requests, route.errors, route.in_flight), (7.0, 2.0, 3.0));
        let upstream = &scrape.upstreams["u \"}\\"];
        assert_eq!((upstream.requests, upstream.errors), (4.0, 1.0));
        assert_eq!(scrape.routes.len(), 1);
    }
}
