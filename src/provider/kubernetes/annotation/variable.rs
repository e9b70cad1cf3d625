//! nginx's variables, those that mean something here, and texts with variables in them.

use std::fmt;
use std::sync::Arc;

use http::HeaderName;
use serde::{Serialize, Serializer};

/// A variable of nginx or of ingress-nginx. The set is closed: what is not here is refused.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Variable {
    /// `$host`: the request's host in lower case, without a port.
    Host,
    /// `$http_host`: the `Host` field as it was sent, port and all.
    HttpHost,
    /// `$scheme`: `http` or `https`, as the client reached us or as a trusted proxy says.
    Scheme,
    /// `$request_uri`: the target as it was sent, with its query.
    RequestUri,
    /// `$escaped_request_uri`: the same, escaped for use as a query parameter.
    EscapedRequestUri,
    /// `$uri` and `$document_uri`: the normalised path as it is now.
    Uri,
    /// `$args` and `$query_string`.
    Args,
    /// `$is_args`: `?` where there is a query.
    IsArgs,
    /// `$request_method`.
    RequestMethod,
    /// `$remote_addr` and `$binary_remote_addr`: the client's address as far as it is believed.
    RemoteAddr,
    /// `$remote_port`.
    RemotePort,
    /// `$remote_user`: the user of basic authentication.
    RemoteUser,
    /// `$server_name`: the host pattern that matched.
    ServerName,
    /// `$server_port`: the port the client connected to.
    ServerPort,
    /// `$server_protocol`: `HTTP/1.1`, say.
    ServerProtocol,
    /// `$request_id` and `$req_id`: the request's identifier.
    RequestId,
    /// `$content_type`.
    ContentType,
    /// `$content_length`.
    ContentLength,
    /// `$proxy_add_x_forwarded_for`: the client's X-Forwarded-For and its address.
    ProxyAddXForwardedFor,
    /// `$namespace`: the object's.
    Namespace,
    /// `$ingress_name`.
    IngressName,
    /// `$service_name`.
    ServiceName,
    /// `$service_port`.
    ServicePort,
    /// `$proxy_upstream_name`.
    UpstreamName,
    /// `$ssl_client_verify`.
    ClientVerify,
    /// `$ssl_client_s_dn`: the subject of the client's certificate.
    ClientSubject,
    /// `$ssl_client_i_dn`: its issuer.
    ClientIssuer,
    /// `$http_…`: a header field of the request.
    Header(HeaderName),
    /// `$sent_http_…` and `$upstream_http_…`: a header field of the response.
    ResponseHeader(HeaderName),
    /// `$cookie_…`: a cookie.
    Cookie(Arc<str>),
    /// `$arg_…`: a query parameter.
    Arg(Arc<str>),
    /// `$1`: a group of the expression that matched last.
    Capture(u8),
}

/// Those with a name of their own; the first name of several is the one they are shown by.
const NAMED: [(&str, Variable); 34] = [
    ("host", Variable::Host),
    ("best_http_host", Variable::HttpHost),
    ("http_host", Variable::HttpHost),
    ("scheme", Variable::Scheme),
    ("pass_access_scheme", Variable::Scheme),
    ("request_uri", Variable::RequestUri),
    ("escaped_request_uri", Variable::EscapedRequestUri),
    ("uri", Variable::Uri),
    ("document_uri", Variable::Uri),
    ("args", Variable::Args),
    ("query_string", Variable::Args),
    ("is_args", Variable::IsArgs),
    ("request_method", Variable::RequestMethod),
    ("remote_addr", Variable::RemoteAddr),
    ("binary_remote_addr", Variable::RemoteAddr),
    ("the_real_ip", Variable::RemoteAddr),
    ("remote_port", Variable::RemotePort),
    ("remote_user", Variable::RemoteUser),
    ("server_name", Variable::ServerName),
    ("server_port", Variable::ServerPort),
    ("server_protocol", Variable::ServerProtocol),
    ("request_id", Variable::RequestId),
    ("req_id", Variable::RequestId),
    ("content_type", Variable::ContentType),
    ("content_length", Variable::ContentLength),
    ("proxy_add_x_forwarded_for", Variable::ProxyAddXForwardedFor),
    ("namespace", Variable::Namespace),
    ("ingress_name", Variable::IngressName),
    ("service_name", Variable::ServiceName),
    ("service_port", Variable::ServicePort),
    ("proxy_upstream_name", Variable::UpstreamName),
    ("ssl_client_verify", Variable::ClientVerify),
    ("ssl_client_s_dn", Variable::ClientSubject),
    ("ssl_client_i_dn", Variable::ClientIssuer),
];

impl Variable {
    /// The variable `name`, without its `$`. Case does not matter, as in nginx.
    pub fn parse(name: &str) -> Result<Self, String> {
        if let Ok(number @ 0..=9) = name.parse::<u8>() {
            return match number {
                0 => Err("has `$0` in it, which nginx has not".to_owned()),
                number => Ok(Self::Capture(number)),
            };
        }
        let lower = name.to_ascii_lowercase();
        if let Some((_, variable)) = NAMED.iter().find(|(known, _)| *known == lower) {
            return Ok(variable.clone());
        }
        let field = |name: &str| {
            let name = name.replace('_', "-");
            name.parse::<HeaderName>()
                .map_err(|_| format!("has `${name}` in it, which names no header"))
        };
        for prefix in ["sent_http_", "upstream_http_"] {
            if let Some(rest) = lower.strip_prefix(prefix) {
                return field(rest).map(Self::ResponseHeader);
            }
        }
        match (lower.strip_prefix("http_"), name.split_once('_')) {
            (Some(rest), _) => field(rest).map(Self::Header),
            (None, Some((_, rest))) if lower.starts_with("cookie_") && !rest.is_empty() => {
                Ok(Self::Cookie(rest.into()))
            }
            (None, Some((_, rest))) if lower.starts_with("arg_") && !rest.is_empty() => {
                Ok(Self::Arg(rest.into()))
            }
            _ => Err(format!("has the variable `${name}` in it, which is not known here")),
        }
    }
}

/// As nginx writes it, with its `$`.
impl fmt::Display for Variable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let field = |name: &HeaderName| name.as_str().replace('-', "_");
        match self {
            Self::HttpHost => f.write_str("$http_host"),
            Self::Header(name) => write!(f, "$http_{}", field(name)),
            Self::ResponseHeader(name) => write!(f, "$sent_http_{}", field(name)),
            Self::Cookie(name) => write!(f, "$cookie_{name}"),
            Self::Arg(name) => write!(f, "$arg_{name}"),
            Self::Capture(number) => write!(f, "${number}"),
            named => match NAMED.iter().find(|(_, variable)| variable == named) {
                Some((name, _)) => write!(f, "${name}"),
                None => Ok(()),
            },
        }
    }
}

impl Serialize for Variable {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A part of a text with variables.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Piece {
    /// Itself.
    Literal(Arc<str>),
    /// What the variable is at the time.
    Variable(Variable),
}

/// A text with variables in it. No two literals stand side by side.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct Template {
    pieces: Vec<Piece>,
}

impl Template {
    /// Takes `text` apart at its `$name` and `${name}`.
    pub fn parse(text: &str) -> Result<Self, String> {
        Self::parse_with(text, |name| {
            Variable::parse(name).map(|variable| Self { pieces: vec![Piece::Variable(variable)] })
        })
    }

    /// The same, with someone else to say what a name stands for.
    pub(super) fn parse_with(
        text: &str,
        mut resolve: impl FnMut(&str) -> Result<Self, String>,
    ) -> Result<Self, String> {
        let mut template = Self::default();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('$') {
            template.push_literal(before);
            let (name, after) = match after.strip_prefix('{') {
                Some(inner) => inner
                    .split_once('}')
                    .ok_or_else(|| "has a `${` without its `}` in it".to_owned())?,
                None => after.split_at(name_length(after)),
            };
            if name.is_empty() || name_length(name) != name.len() {
                return Err("has a `$` in it that begins no variable".to_owned());
            }
            for piece in resolve(name)?.pieces {
                match piece {
                    Piece::Literal(text) => template.push_literal(&text),
                    variable => template.pieces.push(variable),
                }
            }
            rest = after;
        }
        template.push_literal(rest);
        Ok(template)
    }

    /// The text itself, whatever is in it.
    pub fn literal(text: &str) -> Self {
        let mut template = Self::default();
        template.push_literal(text);
        template
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

    /// The pieces in order.
    pub fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// About how much memory it takes: bytes of text, and some for each piece.
    pub(super) fn weight(&self) -> usize {
        let text = |piece: &Piece| match piece {
            Piece::Literal(text) => text.len(),
            Piece::Variable(_) => 0,
        };
        self.pieces.iter().map(|piece| 32 + text(piece)).sum()
    }

    /// The text, where it has no variables.
    pub fn as_literal(&self) -> Option<&str> {
        match self.pieces.as_slice() {
            [] => Some(""),
            [Piece::Literal(text)] => Some(text),
            _ => None,
        }
    }

    /// The literal it begins with.
    pub fn start(&self) -> &str {
        match self.pieces.first() {
            Some(Piece::Literal(text)) => text,
            _ => "",
        }
    }

    /// Its variables.
    pub fn variables(&self) -> impl Iterator<Item = &Variable> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Literal(_) => None,
            Piece::Variable(variable) => Some(variable),
        })
    }
}

/// A capture is one digit; other names are letters, digits and underscores.
fn name_length(text: &str) -> usize {
    match text.bytes().next() {
        Some(b'0'..=b'9') => 1,
        _ => text.bytes().take_while(|b| b.is_ascii_alphanumeric() || *b == b'_').count(),
    }
}

/// As nginx writes it. A literal `$` cannot be told from a variable's.
impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for piece in &self.pieces {
            match piece {
                Piece::Literal(text) => f.write_str(text)?,
                Piece::Variable(variable) => {
                    let text = variable.to_string();
                    write!(f, "${{{}}}", text.trim_start_matches('$'))?;
                }
            }
        }
        Ok(())
    }
}

/// A text that goes into a header field or URL: no control characters, no blanks at its ends.
pub(super) fn template(text: &str) -> Result<Template, String> {
    if text.chars().any(char::is_control) {
        return Err("has a control character in it".to_owned());
    }
    Template::parse(text)
}

/// An `http` or `https` URL with variables. The host may be one.
pub(super) fn url(text: &str) -> Result<Template, String> {
    let odd =
        |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | ';' | '{' | '}' | '\\' | '<' | '>');
    // Braces belong to `${name}` only.
    if text.replace("${", "").contains(|c| odd(c) && c != '}') {
        return Err("has a character in it that no URL has".to_owned());
    }
    let parsed = template(text)?;
    let start = parsed.start().to_ascii_lowercase();
    let known = ["http://", "https://"].into_iter().find_map(|scheme| start.strip_prefix(scheme));
    let dynamic = match parsed.pieces() {
        [Piece::Variable(Variable::Scheme), Piece::Literal(rest), ..] => rest.strip_prefix("://"),
        _ => None,
    };
    match known.or(dynamic) {
        Some(host) if host.starts_with(['/', '?', '#', ':', '@']) => {
            Err("is a URL without a host".to_owned())
        }
        // Nothing may follow where the text ends with its scheme.
        Some("") if parsed.pieces().len() < if known.is_some() { 2 } else { 3 } => {
            Err("is a URL without a host".to_owned())
        }
        Some(_) => Ok(parsed),
        None => Err("is no http or https URL\nwrite it as in `https://example.com/`".to_owned()),
    }
}
