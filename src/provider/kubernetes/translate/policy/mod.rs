//! What one Ingress asks for beside its rules: its annotations, as settings of the model.
//!
//! `annotation` knows what the texts mean; here typed values become settings, one family a file.
//! What the model cannot do is said, and where somebody would get in because of it, nobody does.

mod access;
mod auth;
mod backend;
mod balance;
mod capture;
mod client_auth;
mod defaults;
mod exchange;
mod headers;
mod overtaken;
mod pages;
mod redirect;
mod rewrite;
mod snippet;
mod template;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use http::StatusCode;
use ir::{
    Action, Auth, Bodies, Cors, Filter, Guard, HostPattern, HttpsRedirect, Retry, RetryOn, Rule,
    Scope, ServicePlace, Step, Timeouts,
};

pub(super) use self::auth::{upstream, upstream_name};
pub(super) use self::capture::capture;
use self::defaults::Completed;
use self::rewrite::Rewrite;
use self::template::{template, within};
use super::References;
use super::canary::Canary;
use super::pages::Pages;
use super::service::Settings;
use crate::ir;
use crate::provider::kubernetes::annotation::snippet::Location;
use crate::provider::kubernetes::annotation::{
    self, Alias, Annotations, Class, OWN_PREFIX, ObjectRef,
};
use crate::provider::kubernetes::report::{Finding, Report, Verdict};
use crate::provider::kubernetes::{Ingress, Inputs, Key, Options};

/// The settings of an Ingress' routes.
#[derive(Clone, Debug)]
pub(super) struct Policy {
    pub timeouts: Timeouts,
    pub retry: Retry,
    pub body_limit: Option<u64>,
    /// What of bodies is read ahead, and how fast responses go.
    pub bodies: Bodies,
    pub access_log: bool,
    pub filters: Vec<Filter>,
    /// What is done with some of its requests before anything else.
    pub rules: Vec<Rule>,
    /// Whether filters or rules take what the expression of a path captures.
    pub captures: bool,
    /// The same for all requests of its hosts.
    pub server_rules: Vec<Rule>,
    /// What answers some paths of its hosts, whatever the path was before it was rewritten.
    pub location_rules: Vec<(Location, Rule)>,
    /// Who may use its routes.
    pub guard: Guard,
    /// What its clients must show.
    pub auth: Option<Auth>,
    /// What clients of its hosts must show in the TLS handshake.
    pub client_auth: Option<ir::HostClientAuth>,
    /// A place outside that is asked about its requests.
    pub asked: Option<ServicePlace>,
    /// Whose answers stand in the place of errors.
    pub pages: Option<Pages>,
    /// Which pages of other origins may.
    pub cors: Option<Cors>,
    /// What its requests are answered with in place of being forwarded.
    pub answer: Option<Action>,
    /// How its upstreams are spoken to.
    pub upstream: Settings,
    /// Whether the cookie of a session is for the path of its rule only.
    pub cookie_by_path: bool,
    /// Whether TLS of its hosts is their back end's to terminate.
    pub passthrough: bool,
    /// The answer to requests for `/` itself, on all of its hosts.
    pub app_root: Option<Action>,
    /// Set where it is the other choice of another Ingress' rules.
    pub canary: Option<Canary>,
    /// Whether sessions of the main Service hold for the canary and come before its rules.
    pub canary_sticky: bool,
    /// Further names of its hosts.
    pub aliases: Vec<HostPattern>,
    /// What becomes of the paths of its rules.
    pub rewrite: Rewrite,
    /// The redirect to https of hosts with TLS.
    pub https: HttpsRedirect,
    /// Whether there is one, and if so, whether also for hosts without TLS.
    pub to_https: ToHttps,
    /// Whether each of its hosts is served under its name with and without `www.`, by a redirect.
    pub www: bool,
    /// Why its last good version should stay in force instead of it.
    pub refused: Option<String>,
}

/// Which requests without TLS are sent to https.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ToHttps {
    Always,
    Never,
    /// Those for hosts with TLS.
    WithTls,
}

/// What ingress-nginx does where nothing is said, as far as clients and back ends can tell.
impl Default for Policy {
    fn default() -> Self {
        Self {
            timeouts: Timeouts { connect: Some(Duration::from_secs(5)), ..Timeouts::default() },
            retry: Retry {
                attempts: 2,
                on: RetryOn { timeout: true, ..RetryOn::default() },
                ..Retry::default()
            },
            body_limit: Some(1 << 20),
            bodies: Bodies::default(),
            access_log: true,
            filters: Vec::new(),
            rules: Vec::new(),
            captures: false,
            server_rules: Vec::new(),
            location_rules: Vec::new(),
            guard: Guard::default(),
            auth: None,
            client_auth: None,
            asked: None,
            pages: None,
            cors: None,
            answer: None,
            upstream: Settings::default(),
            cookie_by_path: false,
            passthrough: false,
            app_root: None,
            canary: None,
            canary_sticky: true,
            aliases: Vec::new(),
            rewrite: Rewrite::default(),
            https: HttpsRedirect { strip_trailing_slash: true, ..HttpsRedirect::default() },
            to_https: ToHttps::WithTls,
            www: false,
            refused: None,
        }
    }
}

impl Policy {
    /// Reads the annotations of an Ingress; puts down what becomes of each.
    pub fn read(
        key: &Key,
        ingress: &Ingress,
        inputs: &Inputs,
        options: &Options,
        references: &mut References,
        report: &mut Report,
    ) -> Self {
        let own = ingress.annotations.to_map();
        if own.is_empty() && options.controller == Default::default() {
            return Self::default();
        }
        let Completed { parsed, inherited } = defaults::complete(&own, options);
        let mut mapping = Mapping::new(key, inputs, options, references);
        mapping.all(&parsed.values);
        mapping.policy.impose(&options.controller, mapping.key);
        if let Some(reason) = &parsed.refused {
            mapping.policy.refused = Some(reason.clone());
            // Where there is no version before it, nothing is done that was not asked for.
            mapping.policy.deny(reason.clone());
        }
        if let Some(reason) = &parsed.denied {
            mapping.policy.deny(reason.clone());
        }
        for finding in parsed.findings {
            let inherited = inherited.contains(&finding.annotation);
            let judged = mapping.judge(finding);
            if !inherited {
                report.add(judged);
            }
        }
        mapping.policy
    }

    /// The filters of a route that does this: what is answered here has edits of the response only.
    pub fn filters_of(&self, action: &Action) -> Vec<Filter> {
        let filters = self.filters.iter();
        match action {
            Action::Forward(_) => filters.cloned().collect(),
            Action::Fail { .. } => Vec::new(),
            Action::Redirect(_) | Action::RedirectTo(_) | Action::Respond(_) => filters
                .filter(|filter| matches!(filter, Filter::ResponseHeaders(_)))
                .cloned()
                .collect(),
        }
    }

    /// Its rules. What fails, fails for everybody.
    pub fn rules_of(&self, action: &Action) -> Vec<Rule> {
        match action {
            Action::Fail { .. } => Vec::new(),
            _ => self.rules.clone(),
        }
    }

    /// Whether it turns requests away, or might, that are served where nothing is said.
    pub fn restricts(&self) -> bool {
        let turns = |rule: &Rule| rule.then.iter().any(|step| !matches!(step, Step::Filter(_)));
        self.guard != Guard::default()
            || self.auth.is_some()
            || self.client_auth.is_some()
            || self.answer.is_some()
            || self.rules.iter().chain(&self.server_rules).any(turns)
            || self.location_rules.iter().any(|(_, rule)| turns(rule))
    }

    /// Lets nobody in. The first reason stays.
    pub fn deny(&mut self, reason: String) {
        if !matches!(self.answer, Some(Action::Fail { .. })) {
            let status = StatusCode::SERVICE_UNAVAILABLE;
            self.answer = Some(Action::Fail { status, reason });
        }
    }
}

/// The annotations of one Ingress on their way into settings.
struct Mapping<'m> {
    key: &'m Key,
    inputs: &'m Inputs,
    options: &'m Options,
    references: &'m mut References,
    policy: Policy,
    /// The annotations that have become settings, by name without prefix.
    mapped: BTreeSet<&'static str>,
    /// What else is to be said of some.
    notes: BTreeMap<&'static str, (Verdict, String)>,
}

impl<'m> Mapping<'m> {
    fn new(
        key: &'m Key,
        inputs: &'m Inputs,
        options: &'m Options,
        references: &'m mut References,
    ) -> Self {
        Self {
            key,
            inputs,
            options,
            references,
            policy: Policy::default(),
            mapped: BTreeSet::new(),
            notes: BTreeMap::new(),
        }
    }
}

impl Mapping<'_> {
    fn all(&mut self, values: &Annotations) {
        self.timeouts(&values.timeouts);
        self.body(&values.body);
        self.backend(&values.backend, &values.proxy_ssl);
        self.pages(&values.backend);
        self.balance(&values.balance);
        self.canary(&values.canary);
        self.redirect(&values.redirect);
        self.access(&values.access);
        self.auth(&values.auth, values.access.satisfy);
        self.client_auth(&values.auth_tls);
        self.limits(&values.limit);
        self.rate(&values.limit);
        self.cors(&values.cors);
        self.host(&values.host);
        self.rewrite(&values.rewrite, values.host.forwarded_prefix.as_ref());
        self.headers(&values.headers);
        self.snippets(&values.snippets);
        self.overtaken(&values.redirect);
        self.mapped.insert("enable-access-log");
        let default = self.options.controller.settings.no_access_log != Some(true);
        self.policy.access_log = values.log.access.unwrap_or(default);
    }

    fn host(&mut self, host: &annotation::Host) {
        self.mapped.extend(["server-alias", "upstream-vhost"]);
        for alias in &host.aliases {
            match alias {
                Alias::Name(name) => self.policy.aliases.push(name.clone().one_label()),
                Alias::Regex(pattern) => {
                    let text = format!(
                        "`~{}` is not honoured: a host has names, not expressions",
                        pattern.as_str()
                    );
                    self.note("server-alias", Verdict::Omitted, text);
                }
            }
        }
        if let Some(host) = &host.upstream_vhost {
            match (host.as_literal(), within(host, self.key, Scope::default())) {
                (Some(host), _) => self.policy.filters.push(Filter::RewriteHost(host.into())),
                (None, Ok(host)) => self.policy.filters.push(Filter::RewriteHostFrom(host)),
                (None, Err(why)) => {
                    let text = format!("is not honoured: {why}");
                    self.note("upstream-vhost", Verdict::Omitted, text);
                }
            }
        }
    }

    /// Says something of an annotation beside or in place of its being honoured.
    fn note(&mut self, name: &'static str, verdict: Verdict, message: impl Into<String>) {
        self.notes.insert(name, (verdict, message.into()));
    }

    /// The key of an object that an annotation refers to. Those of other namespaces are not read:
    /// whoever may write an Ingress need not be allowed to see them.
    fn refer(&mut self, name: &'static str, to: &ObjectRef) -> Option<Key> {
        let own = &self.key.namespace;
        match to.namespace.as_ref().filter(|namespace| *namespace != own) {
            None => Some(Key::new(own.clone(), to.name.clone())),
            Some(_) => {
                let text = format!("refers to {to}, which is in another namespace");
                self.note(name, Verdict::Refused, format!("{text}; requests are answered 503"));
                self.policy.deny(format!("{name} {text}"));
                None
            }
        }
    }

    /// What becomes of an annotation of which this was found when it was read.
    fn judge(&mut self, found: annotation::Finding) -> Finding {
        let name = self.name(&found.annotation).to_owned();
        let verdict = match found.class {
            Class::Honoured => Verdict::Honoured,
            Class::Difference | Class::Ignored | Class::NeverExisted => Verdict::Differs,
            Class::NotHonoured => Verdict::Omitted,
            Class::Denied | Class::Closed | Class::Refused => Verdict::Refused,
        };
        let read = matches!(found.class, Class::Honoured | Class::Difference);
        let finding = Finding {
            verdict,
            subject: found.annotation,
            message: match verdict {
                Verdict::Honoured => String::new(),
                _ => found.message,
            },
            hint: found.remedy,
        };
        if !read {
            return finding;
        }
        if let Some((verdict, message)) = self.notes.get(name.as_str()) {
            let (verdict, message) = (*verdict, message.clone());
            return Finding { verdict, message, hint: None, ..finding };
        }
        if self.mapped.contains(name.as_str()) {
            return finding;
        }
        let subject = finding.subject;
        if guards(&name) {
            let message = "is not honoured by this version, so nobody is let in";
            self.policy.deny(format!("{subject} {message}"));
            return Finding::refused(subject, message).hint("its requests are answered 503");
        }
        Finding::omitted(subject, "is not honoured by this version")
    }

    fn name<'n>(&self, annotation: &'n str) -> &'n str {
        let prefixes = [OWN_PREFIX, &self.options.annotation_prefix];
        let name = prefixes
            .into_iter()
            .find_map(|prefix| annotation.strip_prefix(prefix)?.strip_prefix('/'));
        name.unwrap_or(annotation)
    }
}

/// Whether an annotation keeps requests out: where it is not honoured, nobody gets in.
fn guards(name: &str) -> bool {
    let names = ["allowlist-source-range", "whitelist-source-range", "denylist-source-range"];
    name.starts_with("auth-") || names.contains(&name)
}
