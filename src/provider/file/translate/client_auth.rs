//! What a host demands of client certificates. Whatever is missing here closes the host and never
//! opens it.

use ir::{ClientTrust, HostClientAuth, HostClientAuthMode};

use super::context::Context;
use super::{auth, or};
use crate::ir;
use crate::provider::file::field::{At, Field};
use crate::provider::file::raw;

pub(super) fn client_auth(
    context: &mut Context<'_>,
    field: &Field<raw::HostClientAuth>,
) -> Option<HostClientAuth> {
    let at = field.given()?;
    let raw = &at.value;
    let mode = match raw.mode.get() {
        None | Some(raw::HostClientAuthMode::Required) => HostClientAuthMode::Required,
        Some(raw::HostClientAuthMode::Optional) => HostClientAuthMode::Optional,
        Some(raw::HostClientAuthMode::OptionalUntrusted) => HostClientAuthMode::OptionalUntrusted,
    };
    Some(HostClientAuth {
        mode,
        trust: trust(context, at),
        subject: raw.subject.get().map(|pattern| pattern.0.0.clone()),
        error_page: auth::template(context, "error_page", &raw.error_page),
        forward: or(&raw.forward, false),
        ca_at: raw.ca.given().and_then(|path| context.location(path.place)),
        crl_at: raw.crl.given().and_then(|path| context.location(path.place)),
    })
}

/// What was read of the files before they could not be read any more still serves.
fn trust(context: &mut Context<'_>, at: &At<raw::HostClientAuth>) -> ClientTrust {
    let raw = &at.value;
    if raw.ca.is_absent() {
        let hint = "name the PEM file of the CAs that sign your clients' certificates";
        context.error(at.place, "`client_auth` has no `ca`", Some(hint));
    }
    let ca = raw.ca.given().and_then(|path| context.pem("client CA", path).0);
    let Some(ca) = ca else {
        return ClientTrust::Missing("the file of the client CAs cannot be read".into());
    };
    let crl = match &raw.crl {
        Field::Absent => None,
        field => {
            match field.given().and_then(|path| context.pem("list of revoked certificates", path).0)
            {
                Some(crl) => Some(crl),
                None => {
                    let why = "the file of revoked certificates cannot be read";
                    return ClientTrust::Missing(why.into());
                }
            }
        }
    };
    ClientTrust::Authorities { ca, crl, depth: raw.depth.get().copied() }
}
