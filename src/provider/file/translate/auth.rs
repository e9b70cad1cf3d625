//! Who may use a route. Whatever is wrong here closes the route and never opens it.

use std::path::Path;
use std::sync::Arc;

use ir::{Auth, BasicAuth, Credentials, SecretBytes};

use super::context::Context;
use crate::ir;
use crate::provider::file::field::{At, Field};
use crate::provider::file::raw;

const REALM: &str = "Restricted";

pub(super) fn auth(context: &mut Context<'_>, field: &Field<raw::Auth>) -> Option<Auth> {
    let at = field.given()?;
    if at.value.basic.is_absent() {
        context.error(at.place, "`auth` asks for nothing", Some("add `basic`, or leave it out"));
    }
    let basic = at.value.basic.given().map(|at| basic(context, at));
    Some(Auth { basic })
}

fn basic(context: &mut Context<'_>, at: &At<raw::BasicAuth>) -> BasicAuth {
    let raw = &at.value;
    let realm = match raw.realm.given() {
        None => REALM,
        Some(realm) => {
            if realm.value.chars().any(char::is_control) {
                let message = "realm: it has characters no header may have";
                context.error(realm.place, message, Some("line breaks and other controls are out"));
            }
            realm.value.as_str()
        }
    };
    let users = match (&raw.users, &raw.users_file) {
        (Field::Given(users), Field::Absent) => {
            Credentials::Htpasswd(SecretBytes::new(users.value.as_bytes()))
        }
        (Field::Absent, Field::Given(path)) => users_file(context, path),
        (Field::Bad, _) | (_, Field::Bad) => Credentials::Missing("they cannot be read".into()),
        _ => {
            let hint = "give one of `users` (lines of user:hash) and `users_file`";
            context.error(at.place, "it is not said who may come in", Some(hint));
            Credentials::Missing("it is not said who may come in".into())
        }
    };
    BasicAuth { realm: Arc::from(realm), users }
}

/// What was read of the file before it could not be read any more still serves.
fn users_file(context: &mut Context<'_>, path: &At<String>) -> Credentials {
    let (bytes, error) = context.read(path.place, Path::new(&path.value));
    if let Some(error) = error {
        context.unreadable("password file", path, error);
    }
    match bytes {
        Some(bytes) => Credentials::Htpasswd(bytes.clone()),
        None => Credentials::Missing("the password file cannot be read".into()),
    }
}
