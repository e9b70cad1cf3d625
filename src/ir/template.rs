//! Text with parts of a request in it: for URLs and header values that depend on who asks for
//! what. A closed list of variables, and nothing to compute.

use std::fmt;
use std::sync::Arc;

use http::HeaderName;
use serde::{Serialize, Serializer};

/// A text with variables.
#[derive(Clone, PartialEq, Eq)]
pub struct Template {
    /// Never two literals in a row, and no empty one.
    pieces: Vec<Piece>,
    /// Whether part of it came out of a file or variable and is not to be shown.
    secret: bool,
}

/// A part of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Text that stands for itself.
    Literal(Arc<str>),
    /// A part of the request.
    Variable(Variable),
}

/// A part of a request. The names are nginx's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Variable {
    /// `arg_NAME`: the first query parameter of that name, as it came.
    Arg(Arc<str>),
    /// `args`: the query without its `?`.
    Args,
    /// `1` to `9`: what a group of the expression that matched last captured. Only in rules.
    Capture(u8),
    /// `ssl_client_fingerprint`: the SHA-256 of the client's certificate.
    ClientFingerprint,
    /// `ssl_client_i_dn`: who signed it.
    ClientIssuer,
    /// `ssl_client_serial`: its serial number.
    ClientSerial,
    /// `ssl_client_s_dn`: its subject.
    ClientSubject,
    /// `ssl_client_verify`: `SUCCESS` where the client showed one that was verified, else `NONE`.
    ClientVerify,
    /// `cookie_NAME`: a cookie.
    Cookie(Arc<str>),
    /// `escaped_request_uri`: `request_uri`, percent-encoded to be part of a query.
    EscapedRequestUri,
    /// `http_NAME`: a header field; underscores stand for dashes.
    Header(HeaderName),
    /// `host`: the host without a port.
    Host,
    /// `http_host`, `best_http_host`: the host as the client named it, with its port.
    HttpHost,
    /// `is_args`: `?` where there is a query.
    IsArgs,
    /// `pass_access_scheme`: the scheme, as far as a trusted proxy told it.
    PassAccessScheme,
    /// `proxy_add_x_forwarded_for`: the `X-Forwarded-For` that came, and the peer's address.
    ProxyAddXForwardedFor,
    /// `remote_addr`: the client's address as far as it is believed.
    RemoteAddr,
    /// `remote_port`: the peer's port.
    RemotePort,
    /// `remote_user`: who it is from, where that was asked for and shown.
    RemoteUser,
    /// `request_id`, `req_id`: the request's id.
    RequestId,
    /// `request_method`: the method.
    RequestMethod,
    /// `request_uri`: path and query as the client asked for them.
    RequestUri,
    /// `sent_http_NAME`, `upstream_http_NAME`: a header field of the response. Only in edits of
    /// responses.
    ResponseHeader(HeaderName),
    /// `scheme`: the scheme of the connection.
    Scheme,
    /// A part of the route and not of the request, for which its provider puts a text in by
    /// [`Template::bind`]; no name in a configuration file.
    Site(Site),
    /// `server_port`: the port the request came to.
    ServerPort,
    /// `server_protocol`: `HTTP/1.1` or `HTTP/2.0`.
    ServerProtocol,
    /// `status`: the status of the response. Only in edits of responses.
    Status,
    /// `uri`: the path, after what has rewritten it so far.
    Uri,
}

/// A part of the route that a template belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Site {
    /// The name of the host.
    Host,
    /// The service behind it.
    Service,
    /// That service's port.
    ServicePort,
    /// Namespace, service and port in one name.
    Upstream,
}

/// What a template may take beside parts of the request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// How many groups the expression before it captures.
    pub groups: u8,
    /// Whether there is a response.
    pub response: bool,
}

/// What is wrong with a template, as the end of a sentence that begins with it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// A control character: it would end a header line.
    #[error("has a control character")]
    Control,
    /// A brace without its partner.
    #[error("has a brace without its partner; write `{{{{` or `}}}}` for the character itself")]
    Brace,
    /// A name that is no variable.
    #[error("has no variable `{0}`")]
    Unknown(String),
}

/// The variables that have no name of the user's in them.
const PLAIN: [(&str, Variable); 25] = [
    ("args", Variable::Args),
    ("best_http_host", Variable::HttpHost),
    ("escaped_request_uri", Variable::EscapedRequestUri),
    ("host", Variable::Host),
    ("http_host", Variable::HttpHost),
    ("is_args", Variable::IsArgs),
    ("pass_access_scheme", Variable::PassAccessScheme),
    ("proxy_add_x_forwarded_for", Variable::ProxyAddXForwardedFor),
    ("remote_addr", Variable::RemoteAddr),
    ("remote_port", Variable::RemotePort),
    ("remote_user", Variable::RemoteUser),
    ("req_id", Variable::RequestId),
    ("request_id", Variable::RequestId),
    ("request_method", Variable::RequestMethod),
    ("request_uri", Variable::RequestUri),
    ("scheme", Variable::Scheme),
    ("server_port", Variable::ServerPort),
    ("server_protocol", Variable::ServerProtocol),
    ("ssl_client_fingerprint", Variable::ClientFingerprint),
    ("ssl_client_i_dn", Variable::ClientIssuer),
    ("ssl_client_s_dn", Variable::ClientSubject),
    ("ssl_client_serial", Variable::ClientSerial),
    ("ssl_client_verify", Variable::ClientVerify),
    ("status", Variable::Status),
    ("uri", Variable::Uri),
];

impl Variable {
    /// The variable called `name`.
    pub fn named(name: &str) -> Option<Self> {
        if let Some((_, variable)) = PLAIN.iter().find(|(known, _)| *known == name) {
            return Some(variable.clone());
        }
        let word = |name: &str| -> Option<Arc<str>> {
            let letters = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
            (!name.is_empty() && name.bytes().all(letters)).then(|| Arc::from(name))
        };
        let field = |text: &str| {
            let field = word(text)?.to_ascii_lowercase().replace('_', "-");
            HeaderName::from_bytes(field.as_bytes()).ok()
        };
        if let Some(name) = name.strip_prefix("http_") {
            return field(name).map(Self::Header);
        }
        let response = |prefix| name.strip_prefix(prefix);
        if let Some(name) = response("sent_http_").or_else(|| response("upstream_http_")) {
            return field(name).map(Self::ResponseHeader);
        }
        if let [digit @ b'1'..=b'9'] = name.as_bytes() {
            return Some(Self::Capture(digit - b'0'));
        }
        match name.strip_prefix("cookie_") {
            Some(cookie) => word(cookie).map(Self::Cookie),
            None => word(name.strip_prefix("arg_")?).map(Self::Arg),
        }
    }

    /// Whether it has a value in `scope`.
    pub fn is_in(&self, scope: Scope) -> bool {
        match self {
            Self::Capture(number) => *number <= scope.groups,
            Self::ResponseHeader(_) | Self::Status => scope.response,
            _ => true,
        }
    }
}

impl fmt::Display for Variable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Arg(name) => write!(f, "arg_{name}"),
            Self::Capture(number) => write!(f, "{number}"),
            Self::Cookie(name) => write!(f, "cookie_{name}"),
            Self::Header(name) => write!(f, "http_{}", name.as_str().replace('-', "_")),
            Self::ResponseHeader(name) => {
                write!(f, "sent_http_{}", name.as_str().replace('-', "_"))
            }
            plain => {
                let known = PLAIN.iter().rfind(|(_, variable)| variable == plain);
                f.write_str(known.map_or("", |(name, _)| name))
            }
        }
    }
}

impl Template {
    /// Parses a text with `{name}` in it; `{{` and `}}` are the braces themselves. Of parts of the
    /// request only.
    ///
    /// # Errors
    /// Braces without partners, names that are no variables, control characters.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        Self::parse_in(text, Scope::default())
    }

    /// The same where there is more than the request.
    ///
    /// # Errors
    /// As [`Template::parse`].
    pub fn parse_in(text: &str, scope: Scope) -> Result<Self, TemplateError> {
        let template = Self::parse_any(text)?;
        let strange = template.variables().find(|variable| !variable.is_in(scope));
        match strange.map(ToString::to_string) {
            Some(name) => Err(TemplateError::Unknown(name)),
            None => Ok(template),
        }
    }

    fn parse_any(text: &str) -> Result<Self, TemplateError> {
        let mut template = Self::checked(text)?;
        let mut rest = text;
        while let Some(brace) = rest.find(['{', '}']) {
            let (before, from) = rest.split_at(brace);
            template.push_literal(before);
            if let Some(after) = from.strip_prefix("{{") {
                template.push_literal("{");
                rest = after;
            } else if let Some(after) = from.strip_prefix("}}") {
                template.push_literal("}");
                rest = after;
            } else {
                let inner = from.strip_prefix('{').ok_or(TemplateError::Brace)?;
                let (name, after) = inner.split_once('}').ok_or(TemplateError::Brace)?;
                template.push_named(name)?;
                rest = after;
            }
        }
        template.push_literal(rest);
        Ok(template)
    }

    /// The same, kept from being shown where `secret`.
    #[must_use]
    pub fn hidden(mut self, secret: bool) -> Self {
        self.secret |= secret;
        self
    }

    /// A template of these pieces.
    pub fn of(pieces: impl IntoIterator<Item = Piece>) -> Self {
        let mut template = Self { pieces: Vec::new(), secret: false };
        for piece in pieces {
            match piece {
                Piece::Literal(text) => template.push_literal(&text),
                variable => template.pieces.push(variable),
            }
        }
        template
    }

    /// A text without variables.
    pub fn literal(text: &str) -> Self {
        Self::of([Piece::Literal(text.into())])
    }

    /// The same with `text` in the place of parts of the route.
    #[must_use]
    pub fn bind(&self, text: &dyn Fn(Site) -> Arc<str>) -> Self {
        let pieces = self.pieces.iter().map(|piece| match piece {
            Piece::Variable(Variable::Site(site)) => Piece::Literal(text(*site)),
            other => other.clone(),
        });
        Self::of(pieces).hidden(self.secret)
    }

    /// Its pieces.
    pub fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// Its variables.
    pub fn variables(&self) -> impl Iterator<Item = &Variable> + Clone {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Literal(_) => None,
            Piece::Variable(variable) => Some(variable),
        })
    }

    /// The text, where it has no variables.
    pub fn as_literal(&self) -> Option<&str> {
        match self.pieces.as_slice() {
            [] => Some(""),
            [Piece::Literal(text)] => Some(text),
            _ => None,
        }
    }

    /// Whether it is not to be shown.
    pub fn is_secret(&self) -> bool {
        self.secret
    }

    fn checked(text: &str) -> Result<Self, TemplateError> {
        match text.chars().any(char::is_control) {
            true => Err(TemplateError::Control),
            false => Ok(Self { pieces: Vec::new(), secret: false }),
        }
    }

    fn push_literal(&mut self, text: &str) {
        if text.is_empty() {
            return;
        }
        match self.pieces.last_mut() {
            Some(Piece::Literal(last)) => *last = format!("{last}{text}").into(),
            _ => self.pieces.push(Piece::Literal(text.into())),
        }
    }

    fn push_named(&mut self, name: &str) -> Result<(), TemplateError> {
        let variable = Variable::named(name);
        let variable = variable.ok_or_else(|| TemplateError::Unknown(name.to_owned()))?;
        self.pieces.push(Piece::Variable(variable));
        Ok(())
    }
}

impl fmt::Display for Template {
    /// For people: what is secret is not shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.secret {
            return f.write_str("<redacted>");
        }
        self.pieces.iter().try_for_each(|piece| match piece {
            Piece::Literal(text) => f.write_str(&text.replace('{', "{{").replace('}', "}}")),
            Piece::Variable(variable) => write!(f, "{{{variable}}}"),
        })
    }
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Template({self})")
    }
}

impl Serialize for Template {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests;
