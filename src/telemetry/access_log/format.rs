//! How a record becomes a line.

use super::clock;
use super::field::{self, Field, Sink};
use super::nginx::NginxFormat;
use super::record::Record;
use super::template::{Template, TemplateError};
use crate::ir::AccessLogFormat;
use crate::telemetry::escape;

/// A line format, ready for use.
#[derive(Clone, Debug)]
pub(super) enum Format {
    Combined,
    Json,
    Nginx(NginxFormat),
    Template(Template),
}

impl Format {
    pub(super) fn new(format: &AccessLogFormat) -> Result<Self, TemplateError> {
        Ok(match format {
            AccessLogFormat::Combined => Self::Combined,
            AccessLogFormat::Json => Self::Json,
            AccessLogFormat::Nginx { format, json } => {
                Self::Nginx(NginxFormat::parse(format, *json))
            }
            AccessLogFormat::Template(text) => Self::Template(Template::parse(text)?),
        })
    }

    /// Appends `record` as one line, newline included.
    pub(super) fn write(&self, record: &Record, out: &mut Vec<u8>) {
        match self {
            Self::Combined => combined(record, out),
            Self::Json => json(record, out),
            Self::Nginx(format) => format.write(record, out),
            Self::Template(template) => template.write(record, out),
        }
        out.push(b'\n');
    }
}

/// A field the record does not have is left out.
fn json(record: &Record, out: &mut Vec<u8>) {
    out.push(b'{');
    let mut first = true;
    for field in Field::ALL {
        let before = out.len();
        if !first {
            out.push(b',');
        }
        out.push(b'"');
        out.extend_from_slice(field.name().as_bytes());
        out.extend_from_slice(b"\":");
        if field.write(record, &mut Sink::Json(out)) {
            first = false;
        } else {
            out.truncate(before);
        }
    }
    out.push(b'}');
}

/// `client - user [time] "method target version" status bytes "referer" "user agent"`
fn combined(record: &Record, out: &mut Vec<u8>) {
    let text = record.text();
    Field::Client.write(record, &mut Sink::Plain(out));
    out.extend_from_slice(b" - ");
    let user = out.len();
    if !Field::User.write(record, &mut Sink::Plain(out)) {
        out.push(b'-');
    }
    // The form separates by spaces, so a name must have none.
    out.iter_mut().skip(user).filter(|byte| **byte == b' ').for_each(|byte| *byte = b'_');
    out.extend_from_slice(b" [");
    clock::ncsa(record.start, out);
    out.extend_from_slice(b"] \"");
    match (&record.method, record.version) {
        (Some(method), Some(version)) => {
            escape::plain(method.as_str().as_bytes(), out);
            out.push(b' ');
            escape::plain(text.path(), out);
            if let Some(query) = text.query() {
                out.push(b'?');
                escape::plain(query, out);
            }
            out.push(b' ');
            out.extend_from_slice(field::version(version).as_bytes());
        }
        _ => out.push(b'-'),
    }
    out.extend_from_slice(b"\" ");
    Field::Status.write(record, &mut Sink::Plain(out));
    out.push(b' ');
    Field::ResponseBytes.write(record, &mut Sink::Plain(out));
    for header in [text.referer(), text.user_agent()] {
        out.extend_from_slice(b" \"");
        escape::plain(header.unwrap_or(b"-"), out);
        out.push(b'"');
    }
}
