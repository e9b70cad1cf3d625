//! Lines in nginx's own language, `$status $request_time`, for those who read them already.

use std::io::Write as _;
use std::time::{Duration, UNIX_EPOCH};

use super::clock;
use super::field::{self, Field, Sink};
use super::record::Record;
use crate::telemetry::escape;

/// A parsed format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NginxFormat {
    pieces: Vec<Piece>,
    /// Whether values are escaped for JSON strings, and empty where there are none.
    json: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Literal(String),
    Variable(Variable),
    /// It has no value, ever.
    Unknown(String),
}

/// What a variable is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Variable {
    /// The same as one of our fields.
    Field(Field),
    TimeLocal,
    TimeIso8601,
    Msec,
    RemotePort,
    PeerAddress,
    Request,
    RequestUri,
    IsArgs,
    RequestTime,
    UpstreamStatus,
    UpstreamResponseTime,
    UpstreamHeaderTime,
    UpstreamConnectTime,
    UpstreamResponseLength,
    /// `namespace-service-port`.
    UpstreamName,
    /// Part of the route's name, which begins with namespace and Ingress.
    Namespace,
    IngressName,
    /// Parts of the upstream's name, `namespace/service:port`.
    ServiceName,
    ServicePort,
    /// What is always empty here.
    Empty,
}

impl Variable {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "time_local" => Self::TimeLocal,
            "time_iso8601" => Self::TimeIso8601,
            "msec" => Self::Msec,
            "remote_addr" | "proxy_protocol_addr" | "the_real_ip" => Self::Field(Field::Client),
            "realip_remote_addr" => Self::PeerAddress,
            "remote_port" | "realip_remote_port" => Self::RemotePort,
            "remote_user" => Self::Field(Field::User),
            "request" => Self::Request,
            "request_method" => Self::Field(Field::Method),
            "request_uri" => Self::RequestUri,
            "uri" | "document_uri" => Self::Field(Field::Path),
            "args" | "query_string" => Self::Field(Field::Query),
            "is_args" => Self::IsArgs,
            "server_protocol" => Self::Field(Field::Version),
            "scheme" => Self::Field(Field::Scheme),
            "host" | "http_host" | "server_name" | "best_http_host" => Self::Field(Field::Host),
            "status" => Self::Field(Field::Status),
            "body_bytes_sent" | "bytes_sent" => Self::Field(Field::ResponseBytes),
            "request_length" => Self::Field(Field::RequestBytes),
            "request_time" => Self::RequestTime,
            "http_referer" => Self::Field(Field::Referer),
            "http_user_agent" => Self::Field(Field::UserAgent),
            "req_id" | "request_id" => Self::Field(Field::RequestId),
            "ssl_protocol" => Self::Field(Field::TlsVersion),
            "ssl_server_name" => Self::Field(Field::ServerName),
            "upstream_addr" => Self::Field(Field::Endpoint),
            "upstream_status" => Self::UpstreamStatus,
            "upstream_response_time" => Self::UpstreamResponseTime,
            "upstream_header_time" => Self::UpstreamHeaderTime,
            "upstream_connect_time" => Self::UpstreamConnectTime,
            "upstream_response_length" | "upstream_bytes_received" => Self::UpstreamResponseLength,
            "proxy_upstream_name" => Self::UpstreamName,
            "proxy_alternative_upstream_name" => Self::Empty,
            "namespace" => Self::Namespace,
            "ingress_name" => Self::IngressName,
            "service_name" => Self::ServiceName,
            "service_port" => Self::ServicePort,
            _ => return None,
        })
    }
}

impl NginxFormat {
    /// Parses a format: `$name` and `${name}` are variables, all else is text. Line breaks in it
    /// are spaces.
    pub fn parse(text: &str, json: bool) -> Self {
        let mut pieces = Vec::new();
        let mut literal = String::new();
        let mut rest = text.trim_end();
        while let Some(at) = rest.find('$') {
            let (before, from) = rest.split_at(at);
            literal.push_str(before);
            let after = from.get(1..).unwrap_or_default();
            let (name, next) = match after.strip_prefix('{').and_then(|a| a.split_once('}')) {
                Some(braced) => braced,
                None => {
                    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
                    after.split_at(after.find(|c| !is_name(c)).unwrap_or(after.len()))
                }
            };
            if name.is_empty() {
                literal.push('$');
            } else {
                if !literal.is_empty() {
                    pieces.push(Piece::Literal(std::mem::take(&mut literal)));
                }
                let known = Variable::named(name).map(Piece::Variable);
                pieces.push(known.unwrap_or_else(|| Piece::Unknown(name.to_owned())));
            }
            rest = next;
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            pieces.push(Piece::Literal(literal));
        }
        for piece in &mut pieces {
            if let Piece::Literal(text) = piece {
                *text = text.replace(|c: char| c.is_control() && c != '\t', " ");
            }
        }
        Self { pieces, json }
    }

    /// The variables that it has and that have no value here, each once.
    pub fn unknown(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for piece in &self.pieces {
            if let Piece::Unknown(name) = piece
                && !names.contains(&name.as_str())
            {
                names.push(name);
            }
        }
        names
    }

    /// Appends `record`; what has no value is `-`, in JSON nothing.
    pub(super) fn write(&self, record: &Record, out: &mut Vec<u8>) {
        for piece in &self.pieces {
            match piece {
                Piece::Literal(text) => out.extend_from_slice(text.as_bytes()),
                Piece::Unknown(_) => self.nothing(out),
                Piece::Variable(variable) => self.variable(*variable, record, out),
            }
        }
    }

    fn nothing(&self, out: &mut Vec<u8>) {
        if !self.json {
            out.push(b'-');
        }
    }

    fn variable(&self, variable: Variable, record: &Record, out: &mut Vec<u8>) {
        let text = record.text();
        let tried = record.endpoint.is_some();
        // Writing to a Vec cannot fail.
        match variable {
            Variable::Field(field) => self.field(field, record, out),
            Variable::TimeLocal => clock::ncsa(record.start, out),
            Variable::TimeIso8601 => clock::iso8601(record.start, out),
            Variable::Msec => {
                let since = record.start.duration_since(UNIX_EPOCH).unwrap_or_default();
                seconds(since, out);
            }
            Variable::RemotePort => drop(write!(out, "{}", record.peer.port())),
            Variable::PeerAddress => drop(write!(out, "{}", record.peer.ip())),
            Variable::Request => match (&record.method, record.version) {
                (Some(method), Some(version)) => {
                    self.text(method.as_str().as_bytes(), out);
                    out.push(b' ');
                    self.target(record, out);
                    out.push(b' ');
                    out.extend_from_slice(field::version(version).as_bytes());
                }
                // Connections that are passed on have none.
                _ => self.nothing(out),
            },
            Variable::RequestUri => self.target(record, out),
            Variable::IsArgs if text.query().is_some_and(|query| !query.is_empty()) => {
                out.push(b'?');
            }
            Variable::IsArgs | Variable::Empty => {}
            Variable::RequestTime => seconds(record.duration, out),
            Variable::UpstreamStatus if tried => self.field(Field::Status, record, out),
            Variable::UpstreamResponseLength if tried && record.upstream_head.is_some() => {
                self.field(Field::ResponseBytes, record, out);
            }
            Variable::UpstreamResponseLength if tried => out.push(b'0'),
            Variable::UpstreamStatus | Variable::UpstreamResponseLength => self.nothing(out),
            Variable::UpstreamResponseTime => {
                // Of an attempt that brought nothing the end is that of the request.
                let rest = Duration::from_millis(u64::from(record.upstream_rest));
                let whole = record.upstream_head.map(|head| head.saturating_add(rest));
                let whole = whole.or(tried.then_some(record.duration));
                self.span(whole, out);
            }
            Variable::UpstreamHeaderTime => self.span(record.upstream_head, out),
            Variable::UpstreamConnectTime => {
                let kept = record.upstream_head.map(|_| Duration::ZERO);
                self.span(record.connect.or(kept), out);
            }
            Variable::UpstreamName => match upstream(record) {
                Some((namespace, service, port)) => {
                    self.text(format!("{namespace}-{service}-{port}").as_bytes(), out);
                }
                None => self.field(Field::Upstream, record, out),
            },
            Variable::Namespace => self.optional(route(record).map(|(space, _)| space), out),
            Variable::IngressName => self.optional(route(record).map(|(_, name)| name), out),
            Variable::ServiceName => self.optional(upstream(record).map(|(_, name, _)| name), out),
            Variable::ServicePort => self.optional(upstream(record).map(|(_, _, port)| port), out),
        }
    }

    fn field(&self, field: Field, record: &Record, out: &mut Vec<u8>) {
        let begin = out.len();
        let written = match self.json {
            true => field.write(record, &mut Sink::Json(out)),
            false => field.write(record, &mut Sink::Plain(out)),
        };
        match written {
            false => self.nothing(out),
            true if self.json => unquote(begin, out),
            true => {}
        }
    }

    fn text(&self, bytes: &[u8], out: &mut Vec<u8>) {
        if self.json {
            let begin = out.len();
            escape::json(bytes, out);
            unquote(begin, out);
        } else {
            escape::plain(bytes, out);
        }
    }

    fn optional(&self, text: Option<&str>, out: &mut Vec<u8>) {
        match text {
            Some(text) => self.text(text.as_bytes(), out),
            None => self.nothing(out),
        }
    }

    fn span(&self, span: Option<Duration>, out: &mut Vec<u8>) {
        match span {
            Some(span) => seconds(span, out),
            None => self.nothing(out),
        }
    }

    fn target(&self, record: &Record, out: &mut Vec<u8>) {
        let text = record.text();
        self.text(text.path(), out);
        if let Some(query) = text.query() {
            out.push(b'?');
            self.text(query, out);
        }
    }
}

/// Takes the quotes off a JSON string that begins at `begin`: those of the format stand around it.
fn unquote(begin: usize, out: &mut Vec<u8>) {
    if out.get(begin) == Some(&b'"') {
        out.pop();
        out.remove(begin);
    }
}

/// Seconds with three decimals.
fn seconds(span: Duration, out: &mut Vec<u8>) {
    // Writing to a Vec cannot fail.
    let _ = write!(out, "{}.{:03}", span.as_secs(), span.subsec_millis());
}

/// Namespace and Ingress of the route, where it has such a name.
fn route(record: &Record) -> Option<(&str, &str)> {
    let (namespace, rest) = record.route.as_ref()?.as_str().split_once('/')?;
    Some((namespace, rest.split_once('/')?.0))
}

/// Namespace, Service and port of the upstream, where it has such a name.
fn upstream(record: &Record) -> Option<(&str, &str, &str)> {
    let name = record.upstream.as_ref()?.as_str();
    let name = name.split_once('@').map_or(name, |(name, _)| name);
    let (namespace, rest) = name.split_once('/')?;
    let (service, port) = rest.rsplit_once(':')?;
    Some((namespace, service, port))
}

#[cfg(test)]
mod tests;
