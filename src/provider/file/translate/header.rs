//! Header fields and conditions on values.

use std::sync::Arc;

use http::{HeaderName, HeaderValue};
use ir::{
    CookieMatch, Filter, HeaderEdit, HeaderMatch, HeaderTemplate, HeaderText, QueryMatch,
    ResponseEdit, Scope, SecretBytes, ValueMatch,
};

use super::context::{Context, shown};
use super::template;
use crate::ir;
use crate::provider::file::field::{At, Field, List, Named, OneOf, Text};
use crate::provider::file::node::Place;
use crate::provider::file::raw;
use crate::provider::file::scalar::FieldNames;

/// Fields that frame messages or rule the connection; they are the proxy's own.
const FRAMING: [&str; 9] = [
    "connection",
    "content-length",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "host",
];

/// The edit, or `None` where it changes nothing.
pub(super) fn edit(
    context: &mut Context<'_>,
    field: &Field<raw::HeaderEdit>,
    scope: Scope,
) -> Option<HeaderEdit> {
    let raw = field.get()?;
    let edit = parts(context, &raw.remove, &raw.set, &raw.add, scope);
    (edit != HeaderEdit::default()).then_some(edit)
}

/// The same of responses.
pub(super) fn response_edit(
    context: &mut Context<'_>,
    field: &Field<raw::ResponseEdit>,
    scope: Scope,
) -> Option<Filter> {
    let raw = field.get()?;
    let scope = Scope { response: true, ..scope };
    let edit = parts(context, &raw.remove, &raw.set, &raw.add, scope);
    if edit == HeaderEdit::default() {
        return None;
    }
    let statuses = raw.statuses.get().map(|list| list.0.0.as_slice()).unwrap_or_default();
    let types = raw.types.get().map(|list| list.0.0.as_slice()).unwrap_or_default();
    for at in types {
        let sound = |part: &str| HeaderName::from_bytes(part.as_bytes()).is_ok();
        if !at.value.split_once('/').is_some_and(|(kind, sub)| sound(kind) && sound(sub)) {
            let hint = "for example `text/html`";
            context.error(at.place, format!("{} is no media type", shown(at)), Some(hint));
        }
    }
    Some(Filter::ResponseHeaders(ResponseEdit {
        edit,
        statuses: statuses.iter().map(|at| (at.value.0.0, at.value.0.1)).collect(),
        types: types.iter().map(|at| at.value.to_ascii_lowercase().into()).collect(),
    }))
}

type Values = Field<Named<OneOf<String, raw::FieldValue>>>;

fn parts(
    context: &mut Context<'_>,
    remove: &Field<List<Text<FieldNames>>>,
    set: &Values,
    add: &Values,
    scope: Scope,
) -> HeaderEdit {
    let mut edit = HeaderEdit::default();
    for at in remove.get().map(|list| list.0.as_slice()).unwrap_or_default() {
        match &at.value.0 {
            FieldNames::One(name) => {
                own(context, at, name);
                edit.remove.push(name.clone());
            }
            FieldNames::Starting(start) => edit.remove_starting.push(start.clone()),
        }
    }
    (edit.set, edit.set_from) = values(context, set, scope);
    (edit.add, edit.add_from) = values(context, add, scope);
    edit
}

/// The fields of a mapping: those with constant values, and those with templates.
fn values(
    context: &mut Context<'_>,
    field: &Values,
    scope: Scope,
) -> (Vec<HeaderText>, Vec<HeaderTemplate>) {
    let entries = field.get().map(|named| named.0.as_slice()).unwrap_or_default();
    let (mut texts, mut templates) = (Vec::new(), Vec::new());
    for entry in entries {
        let Some(name) = name(context, &entry.name) else { continue };
        own(context, &entry.name, &name);
        match entry.value.given() {
            None => missing(context, &entry.name, &name, entry.value.is_absent()),
            Some(At { value: OneOf::Scalar(text), place, substituted }) => {
                texts.extend(constant(context, name, text, *place, *substituted));
            }
            Some(At { value: OneOf::Map(raw), place, .. }) => match raw.template.given() {
                Some(at) => {
                    let template = template::of(context, name.as_str(), at, scope);
                    templates.extend(template.map(|template| HeaderTemplate { name, template }));
                }
                None if raw.template.is_absent() => {
                    let hint = "write `{ template: … }`, or the value itself";
                    context.error(*place, format!("the header `{name}` has no value"), Some(hint));
                }
                None => {}
            },
        }
    }
    (texts, templates)
}

fn missing(context: &mut Context<'_>, at: &At<String>, name: &HeaderName, absent: bool) {
    if absent {
        let message = format!("the header `{name}` has no value");
        context.error(at.place, message, Some("write `\"\"` for an empty value"));
    }
}

/// Values with something substituted in them are marked sensitive.
fn constant(
    context: &mut Context<'_>,
    name: HeaderName,
    text: &str,
    place: Place,
    substituted: bool,
) -> Option<HeaderText> {
    match HeaderValue::from_bytes(text.as_bytes()) {
        Ok(mut value) => {
            value.set_sensitive(substituted);
            Some(HeaderText { name, value })
        }
        Err(_) => {
            let message = format!("the value of `{name}` has characters no header may have");
            context.error(place, message, Some("line breaks and other controls are out"));
            None
        }
    }
}

/// The header fields of a mapping. Values with something substituted in them are marked sensitive.
pub(super) fn fields(context: &mut Context<'_>, field: &Field<Named<String>>) -> Vec<HeaderText> {
    let entries = field.get().map(|named| named.0.as_slice()).unwrap_or_default();
    let mut fields = Vec::with_capacity(entries.len());
    for entry in entries {
        let Some(name) = name(context, &entry.name) else { continue };
        own(context, &entry.name, &name);
        let Some(at) = entry.value.given() else {
            missing(context, &entry.name, &name, entry.value.is_absent());
            continue;
        };
        fields.extend(constant(context, name, &at.value, at.place, at.substituted));
    }
    fields
}

pub(super) fn name(context: &mut Context<'_>, at: &At<String>) -> Option<HeaderName> {
    let name = at.value.parse().ok();
    if name.is_none() {
        context.error(at.place, format!("{} is no header name", shown(at)), None);
    }
    name
}

pub(super) fn own<T>(context: &mut Context<'_>, at: &At<T>, name: &HeaderName) {
    if FRAMING.contains(&name.as_str()) {
        let hint = match name.as_str() {
            "host" => "use `rewrite: { host: … }`",
            _ => "leave it out: it frames the message or rules the connection",
        };
        context.error(at.place, format!("`{name}` is the proxy's own"), Some(hint));
    }
}

/// Conditions on headers.
pub(super) fn conditions(
    context: &mut Context<'_>,
    field: &Field<Named<OneOf<String, raw::Condition>>>,
) -> Vec<HeaderMatch> {
    let entries = field.get().map(|named| named.0.as_slice()).unwrap_or_default();
    let mut conditions = Vec::with_capacity(entries.len());
    for entry in entries {
        let name = name(context, &entry.name);
        if let (Some(name), Some(value)) = (name, condition(context, &entry.name, &entry.value)) {
            conditions.push(HeaderMatch { name, value });
        }
    }
    conditions
}

/// Conditions on cookies.
pub(super) fn cookies(
    context: &mut Context<'_>,
    field: &Field<Named<OneOf<String, raw::Condition>>>,
) -> Vec<CookieMatch> {
    let entries = field.get().map(|named| named.0.as_slice()).unwrap_or_default();
    let mut conditions = Vec::with_capacity(entries.len());
    for entry in entries {
        let name = &entry.name.value;
        // RFC 6265 §4.1.1: a token, as header names are.
        if HeaderName::from_bytes(name.as_bytes()).is_err() {
            context.error(
                entry.name.place,
                format!("{} is no name a cookie can have", shown(&entry.name)),
                Some("letters, digits and a few signs, but no spaces, `;`, `,` or `=`"),
            );
        }
        if let Some(value) = condition(context, &entry.name, &entry.value) {
            conditions.push(CookieMatch { name: Arc::from(&**name), value });
        }
    }
    conditions
}

/// Conditions on query parameters.
pub(super) fn query(
    context: &mut Context<'_>,
    field: &Field<Named<OneOf<String, raw::Condition>>>,
) -> Vec<QueryMatch> {
    let entries = field.get().map(|named| named.0.as_slice()).unwrap_or_default();
    let mut conditions = Vec::with_capacity(entries.len());
    for entry in entries {
        if let Some(value) = condition(context, &entry.name, &entry.value) {
            conditions.push(QueryMatch { name: Arc::from(&*entry.name.value), value });
        }
    }
    conditions
}

fn condition(
    context: &mut Context<'_>,
    name: &At<String>,
    field: &Field<OneOf<String, raw::Condition>>,
) -> Option<ValueMatch> {
    const HINT: &str = "write a text, `{ regex: … }` or `{ present: true }`";
    let Some(at) = field.given() else {
        if field.is_absent() {
            let message = format!("the condition on {} is empty", shown(name));
            context.error(name.place, message, Some(HINT));
        }
        return None;
    };
    let raw = match &at.value {
        // What is put in from a file or variable may be a key that clients must show.
        OneOf::Scalar(text) if at.substituted => {
            return Some(ValueMatch::Secret(SecretBytes::new(text.as_bytes())));
        }
        OneOf::Scalar(text) => return Some(ValueMatch::Exact(Arc::from(&**text))),
        OneOf::Map(raw) => raw,
    };
    match (&raw.present, &raw.regex) {
        (Field::Given(present), Field::Absent) if present.value => Some(ValueMatch::Present),
        (Field::Absent, Field::Given(regex)) if regex.substituted => {
            Some(ValueMatch::SecretRegex(SecretBytes::new(regex.value.0.0.as_bytes())))
        }
        (Field::Absent, Field::Given(regex)) => Some(ValueMatch::Regex(regex.value.0.0.clone())),
        (Field::Bad, _) | (_, Field::Bad) => None,
        _ => {
            let message = format!("the condition on {} is not one condition", shown(name));
            context.error(at.place, message, Some(HINT));
            None
        }
    }
}
