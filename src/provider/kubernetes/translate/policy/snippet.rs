//! Snippets: edits of headers become filters, what depends on the request becomes rules. Of the
//! rest every line is named, and one that keeps requests out lets nobody in.

use http::header::CONTENT_TYPE;
use http::{HeaderName, HeaderValue, StatusCode};
use ir::{
    Condition, Filter, HeaderEdit, HeaderTemplate, HeaderText, Next, RedirectTo, Reply,
    ResponseEdit, Rewrite, Rule, Scope, Step, Test,
};

use super::capture::{matches, takes};
use super::template::{variable, within};
use super::{Mapping, auth};
use crate::ir;
use crate::provider::kubernetes::Key;
use crate::provider::kubernetes::annotation::snippet::{
    self, Directive, Kind, Location, Only, RewriteFlag, Snippet,
};
use crate::provider::kubernetes::annotation::{Snippets, Template, Variable};
use crate::provider::kubernetes::report::Verdict;

/// The statuses for which `add_header` is meant without `always`.
const ADDED_TO: [(u16, u16); 6] =
    [(200, 201), (204, 204), (206, 206), (301, 304), (307, 307), (308, 308)];

impl<'m> Mapping<'m> {
    pub(super) fn snippets(&mut self, values: &Snippets) {
        self.mapped.extend(["configuration-snippet", "server-snippet"]);
        if let Some(snippet) = &values.configuration {
            let Reading { filters, rules, .. } = self.snippet("configuration-snippet", snippet);
            self.policy.captures = snippet.directives.iter().any(takes);
            self.policy.filters.extend(filters);
            self.policy.rules = rules;
        }
        if let Some(snippet) = &values.server {
            // What is closed is so before anything else is done with requests.
            self.closed_by(snippet);
            let Reading { filters, rules, locations, .. } = self.snippet("server-snippet", snippet);
            let edits = filters.into_iter().map(Step::Filter).collect::<Vec<_>>();
            if !edits.is_empty() {
                self.policy.server_rules.push(Rule { when: Vec::new(), then: edits });
            }
            self.policy.server_rules.extend(rules);
            self.policy.location_rules = locations;
        }
    }

    /// Closes the hosts for what lines that cannot be read would have kept out of them: other
    /// Ingresses have paths there, too.
    fn closed_by(&mut self, snippet: &Snippet) {
        let reading = Reading::new(self.key);
        let within = snippet.refused.iter().filter_map(|refusal| refusal.within.as_deref());
        let mut rules: Vec<Rule> = within.map(|all| reading.closing(all.iter())).collect();
        let directives = &snippet.directives;
        let rewrites = directives.iter().any(Directive::rewrites);
        let all = directives.iter().chain(snippet.located());
        for directive in all.filter(|directive| directive.turns_away()) {
            if Reading::new(self.key).directive(&directive.kind).is_ok() {
                continue;
            }
            rules.push(match &directive.kind {
                Kind::If { given, condition, .. } if !rewrites => {
                    reading.closing(given.iter().chain([condition]))
                }
                _ => reading.closing([].iter()),
            });
        }
        rules.dedup();
        self.policy.server_rules.extend(rules);
    }

    fn snippet(&mut self, name: &'static str, snippet: &Snippet) -> Reading<'m> {
        let mut reading = Reading::new(self.key);
        let directives = || snippet.directives.iter().chain(snippet.located());
        let matching = directives().any(matches);
        if name == "server-snippet" && !matching {
            // There is no expression of a path yet.
            reading.before = 0;
        } else if matching && directives().any(takes) {
            reading.notes.push("`$1` outside of `if` is what the path's expression captures");
        }
        let mut left = Vec::new();
        let mut closed = None;
        for (number, directive) in directives().enumerate() {
            let before = reading.rules.len();
            let read = reading.directive(&directive.kind);
            let located = number.checked_sub(snippet.directives.len());
            if let Some(located) = located.and_then(|number| snippet.locations.get(number)) {
                let rules = reading.rules.drain(before..);
                let location = || located.location.clone();
                reading.locations.extend(rules.map(|rule| (location(), rule)));
            }
            let Err(why) = read else { continue };
            let text = format!("line {} is not honoured: {why}", directive.line);
            if directive.turns_away() {
                closed.get_or_insert(text);
            } else {
                left.push(text);
            }
        }
        if let Some(text) = closed {
            if name == "server-snippet" {
                let text = format!("{text}; requests to the host that it is for are answered 503");
                self.note(name, Verdict::Refused, text);
            } else {
                self.note(name, Verdict::Refused, format!("{text}; requests are answered 503"));
                self.policy.deny(format!("{name}: {text}"));
            }
        } else if !left.is_empty() {
            let some = left.len() < directives().count();
            let start = if some { "is honoured in part: " } else { "" };
            self.note(name, Verdict::Omitted, format!("{start}{}", left.join("; ")));
        } else if !reading.notes.is_empty() {
            reading.notes.dedup();
            let text = format!("is honoured, but {}", reading.notes.join("; "));
            self.note(name, Verdict::Differs, text);
        }
        reading
    }
}

/// A snippet on its way into filters and rules.
struct Reading<'k> {
    key: &'k Key,
    filters: Vec<Filter>,
    rules: Vec<Rule>,
    /// Those of locations.
    locations: Vec<(Location, Rule)>,
    /// What is different here.
    notes: Vec<&'static str>,
    /// How many groups there may be of an expression that matched before.
    before: u8,
}

impl<'k> Reading<'k> {
    fn new(key: &'k Key) -> Self {
        Self {
            key,
            filters: Vec::new(),
            rules: Vec::new(),
            locations: Vec::new(),
            notes: Vec::new(),
            before: 9,
        }
    }

    /// Lets nobody in for whom all of this holds; nobody at all where that cannot be told.
    fn closing<'c>(&self, when: impl Iterator<Item = &'c snippet::Condition>) -> Rule {
        let when = when.map(|one| self.condition(one)).collect::<Result<Vec<_>, _>>();
        let status = StatusCode::SERVICE_UNAVAILABLE;
        let body = ir::Template::of([]);
        let reply = Reply { status, body, content_type: "text/plain; charset=utf-8".into() };
        Rule { when: when.unwrap_or_default(), then: vec![Step::Respond(reply)] }
    }

    fn directive(&mut self, kind: &Kind) -> Result<(), String> {
        if let Kind::If { given, condition, then } = kind {
            let all = given.iter().chain([condition]);
            let when = all.map(|one| self.condition(one)).collect::<Result<Vec<_>, _>>()?;
            let own = condition.groups().map(|groups| u8::try_from(groups.min(9)).unwrap_or(9));
            return self.block(&when, then, own.unwrap_or(self.before));
        }
        match self.filter(kind, self.before)? {
            // Edits hold wherever they stand.
            Some(filter) => self.filters.push(filter),
            None => self.step(Vec::new(), kind, self.before)?,
        }
        Ok(())
    }

    /// What holds under conditions: edits first, since nothing that stands before them ends them.
    fn block(&mut self, when: &[Condition], then: &[Directive], groups: u8) -> Result<(), String> {
        let mut edits = Vec::new();
        let mut steps = Vec::new();
        for directive in then {
            match self.filter(&directive.kind, groups)? {
                Some(filter) => edits.push(Step::Filter(filter)),
                None => steps.push(&directive.kind),
            }
        }
        if !edits.is_empty() {
            self.rules.push(Rule { when: when.to_vec(), then: edits });
        }
        for kind in steps {
            self.step(when.to_vec(), kind, groups)?;
        }
        Ok(())
    }

    /// What answers requests or changes their paths.
    fn step(&mut self, when: Vec<Condition>, kind: &Kind, groups: u8) -> Result<(), String> {
        let scope = Scope { groups, response: false };
        let step = match kind {
            Kind::Return { status, body } => {
                let mut status = *status;
                if status.as_u16() == 444 {
                    self.notes.push("`return 444` answers 403");
                    status = StatusCode::FORBIDDEN;
                }
                let content_type = match body.as_literal() {
                    // With parts of the request in it nothing is to be run as a page.
                    Some(text) if text.trim_start().starts_with('<') => "text/html; charset=utf-8",
                    _ => "text/plain; charset=utf-8",
                };
                let body = within(body, self.key, scope)?;
                Step::Respond(Reply { status, body, content_type: content_type.into() })
            }
            Kind::Redirect { status, target } => {
                Step::Redirect(RedirectTo { status: *status, to: within(target, self.key, scope)? })
            }
            Kind::Rewrite { pattern, replacement, flag } => {
                return self.rewrite(when, pattern.as_str(), replacement, *flag);
            }
            _ => return Err("it stands where it means nothing".to_owned()),
        };
        self.rules.push(Rule { when, then: vec![step] });
        Ok(())
    }

    fn rewrite(
        &mut self,
        when: Vec<Condition>,
        pattern: &str,
        replacement: &Template,
        flag: RewriteFlag,
    ) -> Result<(), String> {
        let scope = Scope { groups: 9, response: false };
        let path = within(replacement, self.key, scope)?;
        let next = match flag {
            RewriteFlag::Last => Next::Lookup,
            RewriteFlag::Break => Next::Stop,
            RewriteFlag::Continue => {
                self.notes.push("a path that `rewrite` without a flag has changed stays here");
                Next::Continue
            }
            RewriteFlag::Redirect => {
                self.rules.extend(away(when, pattern, &path, StatusCode::FOUND));
                return Ok(());
            }
            RewriteFlag::Permanent => {
                self.rules.extend(away(when, pattern, &path, StatusCode::MOVED_PERMANENTLY));
                return Ok(());
            }
        };
        let rewrite = Step::Rewrite(Rewrite { pattern: pattern.into(), path, next });
        self.rules.push(Rule { when, then: vec![rewrite] });
        Ok(())
    }

    fn condition(&self, condition: &snippet::Condition) -> Result<Condition, String> {
        let template = match &condition.variable {
            Variable::Namespace => ir::Template::literal(&self.key.namespace),
            Variable::IngressName => ir::Template::literal(&self.key.name),
            other => {
                let known = variable(other).filter(|known| known.is_in(Scope::default()));
                let known = known.ok_or_else(|| format!("`{other}` is not filled in here"))?;
                ir::Template::of([ir::Piece::Variable(known)])
            }
        };
        let test = match &condition.test {
            snippet::Test::True => Test::True,
            snippet::Test::Is(text) => Test::Is(ir::Text::Plain(text.clone())),
            snippet::Test::IsNot(text) => Test::IsNot(ir::Text::Plain(text.clone())),
            snippet::Test::Matches(pattern) => Test::Matches(pattern.as_str().into()),
            snippet::Test::MatchesNot(pattern) => Test::MatchesNot(pattern.as_str().into()),
        };
        Ok(Condition { value: template, test })
    }

    /// The edit that a directive is; none where it is no edit.
    fn filter(&self, kind: &Kind, groups: u8) -> Result<Option<Filter>, String> {
        let response = Scope { groups, response: true };
        let edit = match kind {
            Kind::SetResponseHeader { name, value, only } => {
                response_edit(self.set(name, value, response)?, only)
            }
            Kind::AddResponseHeader { name, value, always } => {
                let edit = match *name == CONTENT_TYPE {
                    // There is one already, and two are an error.
                    true => self.set(name, value, response)?,
                    false => {
                        let HeaderEdit { set, set_from, .. } = self.set(name, value, response)?;
                        HeaderEdit { add: set, add_from: set_from, ..HeaderEdit::default() }
                    }
                };
                let statuses = if *always { Vec::new() } else { ADDED_TO.to_vec() };
                ResponseEdit { edit, statuses, types: Vec::new() }
            }
            Kind::RemoveResponseHeader { name, only } => {
                let edit = match name.strip_suffix('*') {
                    Some("") => return Err("it takes all headers away".to_owned()),
                    Some(start) => {
                        HeaderEdit { remove_starting: vec![start.into()], ..HeaderEdit::default() }
                    }
                    None => {
                        let name = name.parse().map_err(|_| "it is no name of a header")?;
                        self.set(&name, &Template::default(), response)?
                    }
                };
                response_edit(edit, only)
            }
            Kind::SetRequestHeader { name, value } if *name == http::header::HOST => {
                return self.host(value, groups).map(Some);
            }
            Kind::SetRequestHeader { name, value } => {
                let edit = self.set(name, value, Scope { groups, response: false })?;
                return Ok(Some(Filter::RequestHeaders(edit)));
            }
            Kind::Return { .. }
            | Kind::Redirect { .. }
            | Kind::Rewrite { .. }
            | Kind::If { .. } => {
                return Ok(None);
            }
        };
        Ok(Some(Filter::ResponseHeaders(edit)))
    }

    fn host(&self, value: &Template, groups: u8) -> Result<Filter, String> {
        match value.as_literal() {
            Some("") => Err("a request has a Host".to_owned()),
            Some(host) => Ok(Filter::RewriteHost(host.into())),
            None => within(value, self.key, Scope { groups, response: false })
                .map(Filter::RewriteHostFrom),
        }
    }

    /// A value in the place of all others; an empty one takes them away.
    fn set(&self, name: &HeaderName, value: &Template, scope: Scope) -> Result<HeaderEdit, String> {
        if auth::rules(name) {
            return Err("the header frames messages or rules connections".to_owned());
        }
        if value.pieces().is_empty() {
            return Ok(HeaderEdit { remove: vec![name.clone()], ..HeaderEdit::default() });
        }
        let template = within(value, self.key, scope)?;
        let name = name.clone();
        Ok(match template.as_literal() {
            Some(text) => {
                let value = HeaderValue::from_str(text).map_err(|_| "it is no value")?;
                HeaderEdit { set: vec![HeaderText { name, value }], ..HeaderEdit::default() }
            }
            None => {
                let field = HeaderTemplate { name, template };
                HeaderEdit { set_from: vec![field], ..HeaderEdit::default() }
            }
        })
    }
}

/// Redirects to what a path is rewritten to, with the request's query behind it.
pub(super) fn away(
    when: Vec<Condition>,
    pattern: &str,
    to: &ir::Template,
    status: StatusCode,
) -> Vec<Rule> {
    let of = |variable| ir::Template::of([ir::Piece::Variable(variable)]);
    let found = Condition { value: of(ir::Variable::Uri), test: Test::Matches(pattern.into()) };
    let redirect = |more: Option<Condition>, to: ir::Template| {
        // The groups of the last expression that matched are those that count.
        let when = when.iter().cloned().chain(more).chain([found.clone()]).collect();
        Rule { when, then: vec![Step::Redirect(RedirectTo { status, to })] }
    };
    if let Some((ir::Piece::Literal(text), before)) = to.pieces().split_last()
        && let Some(bare) = text.strip_suffix('?')
    {
        let bare = ir::Piece::Literal(bare.into());
        return vec![redirect(None, ir::Template::of(before.iter().cloned().chain([bare])))];
    }
    if to.variables().any(|variable| *variable == ir::Variable::RequestUri) {
        // The query is in it.
        return vec![redirect(None, to.clone())];
    }
    let asks = |piece: &ir::Piece| matches!(piece, ir::Piece::Literal(text) if text.contains('?'));
    let mark = if to.pieces().iter().any(asks) { "&" } else { "?" };
    let query = [ir::Piece::Literal(mark.into()), ir::Piece::Variable(ir::Variable::Args)];
    let asked = Condition { value: of(ir::Variable::Args), test: Test::IsNot(ir::Text::from("")) };
    let with = ir::Template::of(to.pieces().iter().cloned().chain(query));
    vec![redirect(Some(asked), with), redirect(None, to.clone())]
}

fn response_edit(edit: HeaderEdit, only: &Only) -> ResponseEdit {
    let statuses = only.statuses.iter().map(|status| (*status, *status)).collect();
    ResponseEdit { edit, statuses, types: only.types.clone() }
}
