//! The directives that are kept, and how statements become them.

use std::cell::Cell;
use std::sync::Arc;

use http::{HeaderName, HeaderValue, StatusCode};
use serde::{Serialize, Serializer};

use super::super::finding::shown;
use super::super::pattern::Pattern;
use super::super::variable::{self, Piece, Template, Variable};
use super::cases::{Holds, Names};
use super::condition::Condition;
use super::location::Location;
use super::refusal::{Refusal, refuse, unknown};
use super::statement::Statement;
use super::{Context, Snippet};

/// One directive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Directive {
    /// Its line in the snippet, from 1.
    pub line: u32,
    /// What it does.
    pub kind: Kind,
}

/// What is kept of a `location`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Located {
    /// What it is for; the condition of the directive says the same.
    #[serde(skip)]
    pub location: Location,
    /// What it does.
    #[serde(flatten)]
    pub directive: Directive,
}

/// What a directive does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// more_set_headers: the response has this header, in place of others of its name, whatever
    /// its status. An empty value takes it away.
    SetResponseHeader {
        /// The header.
        #[serde(serialize_with = "name_text")]
        name: HeaderName,
        /// Its value.
        value: Template,
        /// Which responses.
        #[serde(flatten)]
        only: Only,
    },
    /// more_clear_headers, proxy_hide_header: the response has no such header.
    RemoveResponseHeader {
        /// The header; in lower case. `x-*` are all that begin so.
        name: Arc<str>,
        /// Which responses.
        #[serde(flatten)]
        only: Only,
    },
    /// add_header: the response has this header beside others of its name.
    AddResponseHeader {
        /// The header.
        #[serde(serialize_with = "name_text")]
        name: HeaderName,
        /// Its value. Nothing is added where it comes out empty.
        value: Template,
        /// Whether with every status; else with 200, 201, 204, 206, 301, 302, 303, 304, 307, 308.
        always: bool,
    },
    /// proxy_set_header, more_set_input_headers, more_clear_input_headers: the back end gets this header, in place of others
    /// of its name. Where the value comes out empty it gets none.
    SetRequestHeader {
        /// The header.
        #[serde(serialize_with = "name_text")]
        name: HeaderName,
        /// Its value.
        value: Template,
    },
    /// return: the request is answered so.
    Return {
        /// 200 to 599; 444 closes the connection without an answer.
        #[serde(serialize_with = "status_code")]
        status: StatusCode,
        /// The body.
        body: Template,
    },
    /// return with a redirect's status: the client is sent there.
    Redirect {
        /// 301, 302, 303, 307 or 308.
        #[serde(serialize_with = "status_code")]
        status: StatusCode,
        /// A URL, or a path of the same host.
        target: Template,
    },
    /// rewrite.
    Rewrite {
        /// What is searched in the path.
        pattern: Pattern,
        /// What the whole path becomes; `$1` are the groups of `pattern`. With a `?` at its end the
        /// query is dropped, else the request's is appended.
        replacement: Template,
        /// What happens then.
        flag: RewriteFlag,
    },
    /// if, and `location` of a server-snippet: where the condition holds, the rest does too.
    If {
        /// What must hold beside it, and is looked at before: on this depends what a name was set to.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        given: Vec<Condition>,
        /// The condition.
        condition: Condition,
        /// What then holds. No `If` in it.
        then: Vec<Directive>,
    },
}

/// Which responses an edit is for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Only {
    /// Those of these statuses; none is all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub statuses: Vec<u16>,
    /// Those of these media types, in lower case; none is all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub types: Vec<Arc<str>>,
}

/// What happens after a rewrite.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RewriteFlag {
    /// The next directive.
    Continue,
    /// A path is looked for anew.
    Last,
    /// The back end gets it.
    Break,
    /// The client is sent there, with 302.
    Redirect,
    /// The same with 301.
    Permanent,
}

impl Directive {
    /// Whether it answers requests or leads them elsewhere: without it they might be let in.
    pub fn turns_away(&self) -> bool {
        match &self.kind {
            Kind::Return { .. } | Kind::Redirect { .. } | Kind::Rewrite { .. } => true,
            Kind::If { then, .. } => then.iter().any(Self::turns_away),
            _ => false,
        }
    }

    /// Whether it changes paths of requests that go on.
    pub fn rewrites(&self) -> bool {
        match &self.kind {
            Kind::Rewrite { flag, .. } => {
                !matches!(flag, RewriteFlag::Redirect | RewriteFlag::Permanent)
            }
            Kind::If { then, .. } => then.iter().any(Self::rewrites),
            _ => false,
        }
    }
}

fn name_text<S: Serializer>(name: &HeaderName, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(name.as_str())
}

fn status_code<S: Serializer>(status: &StatusCode, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u16(status.as_u16())
}

/// Directives of a snippet, and bytes and variables that come of names that were set, at most.
const MOST_DIRECTIVES: usize = 256;
const MOST_EXPANDED: usize = 64 << 10;

pub(super) type Kinds = Result<Vec<Kind>, Box<Refusal>>;

/// What is known while a snippet is read from top to bottom.
pub(super) struct Translator {
    context: Context,
    snippet: Snippet,
    /// What `set` gave names, which is put in their place where they are used.
    pub(super) names: Names,
    /// Whether a block is being read.
    pub(super) inside: bool,
    /// Its condition.
    pub(super) within: Vec<Condition>,
    /// The groups of its condition, where that has an expression.
    pub(super) groups: Option<usize>,
    /// How much more text may come of names that were set: a snippet must not grow without end.
    room: Cell<usize>,
    /// Directives that were read, in blocks and outside.
    pub(super) count: usize,
    /// Whether there was an `allow` that is not read, before which `deny all` means less.
    allows: bool,
}

impl Translator {
    pub(super) fn new(context: Context) -> Self {
        Self {
            context,
            snippet: Snippet::default(),
            names: Names::default(),
            inside: false,
            within: Vec::new(),
            groups: None,
            room: Cell::new(MOST_EXPANDED),
            count: 0,
            allows: false,
        }
    }

    pub(super) fn translate(mut self, statements: &[Statement]) -> Snippet {
        let directives = self.all(statements);
        if directives.iter().any(Directive::rewrites) {
            // Which path such a condition is about is not known, as locations come after rewrites.
            let within = self.snippet.refused.iter_mut().filter_map(|one| one.within.as_mut());
            within.for_each(Vec::clear);
        }
        self.snippet.directives = directives;
        self.snippet
    }

    pub(super) fn all(&mut self, statements: &[Statement]) -> Vec<Directive> {
        let mut kept = Vec::new();
        for statement in statements {
            self.count += 1;
            if self.count > MOST_DIRECTIVES {
                self.names.lose(statement);
                let refusal = refuse(statement, "it is one directive too many");
                let refusal = self.placed(refusal);
                self.snippet.refused.push(refusal);
                continue;
            }
            match self.one(statement) {
                Ok(kinds) => {
                    let kinds =
                        kinds.into_iter().map(|kind| Directive { line: statement.line, kind });
                    match statement.name.as_str() {
                        "location" => self.locate(&statement.arguments, kinds),
                        _ => kept.extend(kinds),
                    }
                }
                Err(refusal) => {
                    self.names.lose(statement);
                    let refusal = self.placed(*refusal);
                    // Of a line that is read several times it is said once.
                    if !self.snippet.refused.contains(&refusal) {
                        self.snippet.refused.push(refusal);
                    }
                }
            }
        }
        kept
    }

    /// Keeps what a location does.
    fn locate(&mut self, arguments: &[String], kinds: impl Iterator<Item = Directive>) {
        if let Ok(location) = Location::read(arguments) {
            let located = |directive| Located { location: location.clone(), directive };
            self.snippet.locations.extend(kinds.map(located));
        }
    }

    /// The refusal with what must hold for it to count, where it closes a host.
    fn placed(&self, mut refusal: Refusal) -> Refusal {
        if refusal.guards && self.context == Context::Server {
            refusal.within.get_or_insert_with(|| self.within.clone());
        }
        refusal
    }

    pub(super) fn single(&mut self, statement: &Statement) -> Kinds {
        let refused = |reason: String| Box::new(refuse(statement, &reason));
        if let Some(block) = &statement.block {
            return match statement.name.as_str() {
                "if" => self.conditional(statement, self.condition(&statement.arguments), block),
                "location" if self.context == Context::Server => {
                    let condition = Location::read(&statement.arguments);
                    let condition = condition.and_then(|location| location.condition());
                    self.location(statement, condition.map(Holds::If), block)
                }
                _ => Err(Box::new(unknown(statement))),
            };
        }
        let arguments: Vec<&str> = statement.arguments.iter().map(String::as_str).collect();
        let kinds = match statement.name.as_str() {
            "more_set_headers" => options(&arguments).and_then(|(only, arguments)| {
                self.more_headers(arguments, |name, value| {
                    let only = only.clone();
                    Kind::SetResponseHeader { name, value, only }
                })
            }),
            "more_clear_headers" => {
                options(&arguments).and_then(|(only, arguments)| removed(arguments, &only))
            }
            "proxy_hide_header" if arguments.len() == 1 => removed(&arguments, &Only::default()),
            "more_clear_input_headers" => no_options(&arguments).and_then(|()| {
                arguments.iter().map(|name| cleared(name)).collect::<Result<_, _>>()
            }),
            "more_set_input_headers" => {
                self.more_headers(&arguments, |name, value| Kind::SetRequestHeader { name, value })
            }
            "proxy_set_header"
                if arguments.first().is_some_and(|name| {
                    ["connection", "upgrade"].contains(&name.to_ascii_lowercase().as_str())
                }) =>
            {
                Err("of Connection or Upgrade is the proxy's own business; WebSocket connections \
                     pass anyway\ntake it out"
                    .to_owned())
            }
            "proxy_set_header" => self
                .field(&arguments)
                .map(|(name, value, _)| vec![Kind::SetRequestHeader { name, value }]),
            "add_header" => self
                .field(&arguments)
                .map(|(name, value, always)| vec![Kind::AddResponseHeader { name, value, always }]),
            "return" => self.returned(&arguments).map(|kind| vec![kind]),
            "rewrite" => self.rewrite(&arguments).map(|kind| vec![kind]),
            "set" => self.assign(&arguments),
            "allow" => {
                self.allows = true;
                return Err(Box::new(unknown(statement)));
            }
            "deny" if arguments == ["all"] && !self.allows => {
                Ok(vec![Kind::Return { status: StatusCode::FORBIDDEN, body: Template::default() }])
            }
            // After a rewrite of a location it says what holds anyway.
            "break" if arguments.is_empty() && !self.inside => Ok(Vec::new()),
            _ => return Err(Box::new(unknown(statement))),
        };
        kinds.map_err(|reason| refused(format!("`{}` {reason}", statement.name)))
    }

    /// `Name: value` arguments.
    fn more_headers(
        &self,
        arguments: &[&str],
        kind: impl Fn(HeaderName, Template) -> Kind,
    ) -> Result<Vec<Kind>, String> {
        no_options(arguments)?;
        arguments
            .iter()
            .map(|argument| {
                let (name, value) = argument.split_once(':').unwrap_or((argument, ""));
                Ok(kind(header(name.trim())?, self.value(value.trim())?))
            })
            .collect()
    }

    /// A name and a value, and whether `always` follows.
    fn field(&self, arguments: &[&str]) -> Result<(HeaderName, Template, bool), String> {
        let (name, value, always) = match arguments {
            [name, value] => (name, value, false),
            [name, value, "always"] => (name, value, true),
            _ => return Err("needs a name and a value".to_owned()),
        };
        Ok((header(name)?, self.value(value)?, always))
    }

    /// The text of a header or body.
    fn value(&self, text: &str) -> Result<Template, String> {
        let template = self.template(text)?;
        for piece in template.pieces() {
            if let Piece::Literal(text) = piece
                && HeaderValue::from_bytes(text.as_bytes()).is_err()
            {
                return Err("has a control character in its value".to_owned());
            }
        }
        Ok(template)
    }

    fn template(&self, text: &str) -> Result<Template, String> {
        self.template_with(text, self.groups)
    }

    /// A text in which `$1` and on are of an expression with so many groups, or of one that is not
    /// known here.
    fn template_with(&self, text: &str, groups: Option<usize>) -> Result<Template, String> {
        let template = Template::parse_with(text, |name| {
            let Some(set) = self.names.value(name)? else {
                return Template::parse(&format!("${{{name}}}"));
            };
            let room = self.room.get().checked_sub(set.weight());
            self.room.set(room.ok_or("uses names that were set too often")?);
            Ok(set.clone())
        })?;
        let beyond = template.variables().find(|variable| {
            matches!((variable, groups), (Variable::Capture(number), Some(groups))
                if usize::from(*number) > groups)
        });
        match (beyond, groups) {
            (Some(capture), Some(groups)) => {
                Err(format!("uses `{capture}`, and the expression before it captures {groups}"))
            }
            _ => Ok(template),
        }
    }

    fn returned(&self, arguments: &[&str]) -> Result<Kind, String> {
        let (code, text) = match arguments {
            [url] if url.parse::<u16>().is_err() => ("302", Some(*url)),
            [code] => (*code, None),
            [code, text] => (*code, Some(*text)),
            _ => return Err("needs a status, and at most one text".to_owned()),
        };
        let status = super::super::value::status(code, 200, 599)
            .map_err(|error| format!("has `{}` in it, which {error}", shown(code)))?;
        let redirects = matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308);
        match text {
            Some(text) if redirects => Ok(Kind::Redirect { status, target: self.target(text)? }),
            None if redirects => Err("redirects to no place".to_owned()),
            _ => {
                let text = text.unwrap_or_default();
                Ok(Kind::Return { status, body: self.template(text)? })
            }
        }
    }

    /// Where a client is sent.
    fn target(&self, text: &str) -> Result<Template, String> {
        if text.chars().any(|c| c.is_control() || c == ' ') {
            return Err("redirects to what has a blank or control character in it".to_owned());
        }
        let template = self.template(text)?;
        // A place made of parts of the request is a place of the client's choice.
        match template.pieces().first() {
            Some(Piece::Variable(Variable::Scheme | Variable::RequestUri | Variable::Uri)) => {}
            Some(Piece::Literal(start)) if start.starts_with('/') => {}
            Some(Piece::Literal(_)) if variable::url(&template.to_string()).is_ok() => {}
            Some(_) => return Err("redirects to what is neither a URL nor a path".to_owned()),
            None => return Err("redirects to no place".to_owned()),
        }
        Ok(template)
    }

    fn rewrite(&self, arguments: &[&str]) -> Result<Kind, String> {
        let (pattern, replacement, flag) = match arguments {
            [pattern, replacement] => (pattern, replacement, RewriteFlag::Continue),
            [pattern, replacement, flag] => {
                let flag = super::super::value::choice(
                    flag,
                    &[
                        ("last", RewriteFlag::Last),
                        ("break", RewriteFlag::Break),
                        ("redirect", RewriteFlag::Redirect),
                        ("permanent", RewriteFlag::Permanent),
                    ],
                )
                .map_err(|error| format!("has the flag `{}`, which {error}", shown(flag)))?;
                (pattern, replacement, flag)
            }
            _ => return Err("needs an expression, a replacement and at most one flag".to_owned()),
        };
        if self.names.look_at_the_path() {
            return Err(
                "changes the path by which a name was set\nset the name after it".to_owned()
            );
        }
        let pattern =
            Pattern::parse(pattern).map_err(|error| format!("has an expression that {error}"))?;
        if replacement.chars().any(|c| c.is_control() || c == ' ') {
            return Err("has a blank or control character in its replacement".to_owned());
        }
        let replacement = self.template_with(replacement, Some(pattern.groups()))?;
        let start = replacement.start();
        let leaves = ["http://", "https://"].iter().any(|scheme| start.starts_with(scheme))
            || matches!(replacement.pieces().first(), Some(Piece::Variable(Variable::Scheme)));
        let flag = match flag {
            RewriteFlag::Permanent => RewriteFlag::Permanent,
            _ if leaves => RewriteFlag::Redirect,
            flag => flag,
        };
        Ok(Kind::Rewrite { pattern, replacement, flag })
    }

    /// Remembers what `set` gives a name.
    fn assign(&mut self, arguments: &[&str]) -> Result<Vec<Kind>, String> {
        let [name, value] = arguments else {
            return Err("needs a variable and a value".to_owned());
        };
        let name = name.strip_prefix('$').ok_or("needs a variable and a value")?;
        if Variable::parse(name).is_ok() {
            return Err(format!("changes `${}`, which is not read here", shown(name)));
        }
        let value = self.template(value)?;
        self.names.set(name, value);
        Ok(Vec::new())
    }
}

fn header(text: &str) -> Result<HeaderName, String> {
    let name: HeaderName =
        text.parse().map_err(|_| format!("has `{}`, which is no header name", shown(text)))?;
    // Framing is the proxy's own business.
    match name.as_str() {
        "content-length" | "transfer-encoding" | "te" | "trailer" => {
            Err(format!("would change `{name}`, which says where a message ends"))
        }
        _ => Ok(name),
    }
}

/// A request header that goes.
fn cleared(name: &str) -> Result<Kind, String> {
    Ok(Kind::SetRequestHeader { name: header(name.trim())?, value: Template::default() })
}

/// What `-s` and `-t` say, and what stands behind them.
fn options<'a, 's>(arguments: &'a [&'s str]) -> Result<(Only, &'a [&'s str]), String> {
    let mut only = Only::default();
    let mut rest = arguments;
    while let [option @ ("-s" | "-t"), list, after @ ..] = rest {
        let words = list.split_ascii_whitespace();
        if *option == "-t" {
            only.types.extend(words.map(|word| Arc::from(word.to_ascii_lowercase())));
        } else {
            for word in words {
                let status = super::super::value::status(word, 200, 599)
                    .map_err(|error| format!("has `{}` in it, which {error}", shown(word)))?;
                only.statuses.push(status.as_u16());
            }
        }
        rest = after;
    }
    Ok((only, rest))
}

fn no_options(arguments: &[&str]) -> Result<(), String> {
    match arguments.iter().find(|argument| argument.starts_with('-')) {
        Some(option) => Err(format!(
            "has the option `{}`, which is not read here\nleave the option out where it does not \
             matter",
            shown(option)
        )),
        None if arguments.is_empty() => Err("names no header".to_owned()),
        None => Ok(()),
    }
}

fn removed(arguments: &[&str], only: &Only) -> Result<Vec<Kind>, String> {
    no_options(arguments)?;
    arguments
        .iter()
        .map(|argument| {
            let argument = argument.trim();
            let name = argument.strip_suffix('*').unwrap_or(argument);
            header(name)?;
            let name = argument.to_ascii_lowercase().into();
            Ok(Kind::RemoveResponseHeader { name, only: only.clone() })
        })
        .collect()
}
