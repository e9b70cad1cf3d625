//! Who may use a route, as it is written.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::provider::file::field::Field;

/// What a client must show before its request is served.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::provider::file) struct Auth {
    /// A user name and a password (HTTP basic authentication).
    pub basic: Field<BasicAuth>,
}

/// Users and their passwords; one of `users` and `users_file`. A hash is bcrypt (of a cost up to
/// 17), `$apr1$` or `{SHA}`; users with anything else, a plain password say, are refused.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::provider::file) struct BasicAuth {
    /// What the client is told that it needs a password for. Default: `Restricted`.
    pub realm: Field<String>,
    /// Lines of `user:hash`, as `htpasswd` makes them.
    pub users: Field<String>,
    /// A file of such lines. Where it is missing the route answers 503.
    pub users_file: Field<String>,
}
