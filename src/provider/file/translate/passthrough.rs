//! TLS connections of a host that are not terminated here.

use std::time::Duration;

use ir::{ListenerSelector, Name, Timeouts, TlsPassthrough};

use super::context::Context;
use super::host::Names;
use crate::ir;
use crate::provider::file::field::{At, Field, OneOf, Text};
use crate::provider::file::node::Place;
use crate::provider::file::raw;
use crate::provider::file::scalar::Deadline;

/// What the host `raw`, which is served on `listeners`, says of it.
pub(super) fn passthrough(
    context: &mut Context<'_>,
    raw: &raw::Host,
    listeners: &ListenerSelector,
    names: &Names<'_>,
    timeouts: &Timeouts,
) -> Option<TlsPassthrough> {
    let at = raw.tls_passthrough.given()?;
    let mut passthrough = TlsPassthrough::new(Name::default(), timeouts);
    let upstream = match &at.value {
        OneOf::Scalar(name) => {
            Some(At { value: name.clone(), place: at.place, substituted: at.substituted })
        }
        OneOf::Map(map) => {
            deadline(&map.connect, &mut passthrough.connect);
            deadline(&map.idle, &mut passthrough.idle);
            if map.upstream.is_absent() {
                let hint = "name the upstream that terminates TLS";
                context.error(at.place, "`tls_passthrough` has no `upstream`", Some(hint));
            }
            map.upstream.given().map(|name| At {
                value: name.value.clone(),
                place: name.place,
                substituted: name.substituted,
            })
        }
    };
    contradictions(context, raw, at.place, listeners, names);
    let upstream = upstream?;
    names
        .check(context, "upstream", &upstream)
        .then(|| TlsPassthrough { upstream: Name::from(upstream.value.as_str()), ..passthrough })
}

fn deadline(field: &Field<Text<Deadline>>, target: &mut Option<Duration>) {
    if let Some(given) = field.get() {
        *target = given.0.0;
    }
}

/// Says what can have no effect beside it.
fn contradictions(
    context: &mut Context<'_>,
    raw: &raw::Host,
    place: Place,
    listeners: &ListenerSelector,
    names: &Names<'_>,
) {
    if let Some(client_auth) = raw.client_auth.given() {
        let hint = "with `tls_passthrough`, clients show their certificates to the upstream";
        context.error(client_auth.place, "`client_auth` has no effect here", Some(hint));
    }
    let selected = names.listeners.iter().filter(|name| listeners.selects(name));
    let (secure, plain): (Vec<&str>, Vec<&str>) =
        selected.partition(|name| names.secure.contains(*name));
    match listeners {
        ListenerSelector::Named(_) if secure.is_empty() && !plain.is_empty() => {
            let message = "`tls_passthrough` needs a listener with `tls`, and this host has none";
            context.error(place, message, Some("name one in the host's `listeners`"));
        }
        // Another provider may have one.
        ListenerSelector::All if secure.is_empty() && !plain.is_empty() => {
            let message = "`tls_passthrough` needs a listener with `tls`, and none is here";
            context.warning(place, message, Some("give a listener `tls: {}`"));
        }
        ListenerSelector::Named(_) if plain.is_empty() && raw.routes.given().is_some() => {
            let message = "the routes are for what comes without TLS, and nothing does here";
            let hint = "`tls_passthrough` takes all that comes to listeners with `tls`";
            context.warning(place, message, Some(hint));
        }
        _ => {}
    }
}
