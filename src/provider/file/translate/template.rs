//! Texts with parts of a request in them.

use ir::{Scope, Template};

use super::context::{Context, shown};
use crate::ir;
use crate::provider::file::field::At;

/// The template that is the value of `key`.
pub(super) fn of(
    context: &mut Context<'_>,
    key: &str,
    at: &At<String>,
    scope: Scope,
) -> Option<Template> {
    match Template::parse_in(&at.value, scope) {
        Ok(template) => Some(template.hidden(at.substituted)),
        Err(error) => {
            let mut hint = "variables are host, http_host, request_uri, escaped_request_uri, uri, \
                            args, is_args, scheme, pass_access_scheme, remote_addr, remote_port, \
                            remote_user, request_method, request_id, server_port, \
                            server_protocol, proxy_add_x_forwarded_for, ssl_client_verify, \
                            ssl_client_s_dn, ssl_client_i_dn, ssl_client_serial, \
                            ssl_client_fingerprint, http_NAME, cookie_NAME and arg_NAME"
                .to_owned();
            if scope.response {
                hint.push_str("; of the response sent_http_NAME and status");
            }
            if scope.groups > 0 {
                hint.push_str(&format!("; groups are 1 to {}", scope.groups));
            }
            context.error(at.place, format!("{key}: {} {error}", shown(at)), Some(&hint));
            None
        }
    }
}
