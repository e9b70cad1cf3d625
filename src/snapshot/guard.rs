//! What stands before a route: whom it lets in, ready to be asked.

use crate::filter::BasicAuth;
use crate::ir::{self, Credentials, Name, Problem};

/// Who may use a route.
#[derive(Debug)]
pub enum Guard {
    /// Nobody, because what would be asked for cannot be set up; why, for logs and `explain`.
    Closed(String),
    /// Whoever shows this.
    Asks {
        /// A user name and a password.
        basic: Option<BasicAuth>,
    },
}

impl Guard {
    /// The guard of the route `name`. Cannot fail: what cannot be set up lets nobody in, and both
    /// that and users who never come in are reported.
    pub fn new(auth: &ir::Auth, name: &Name, problems: &mut Vec<Problem>) -> Self {
        let basic = auth.basic.as_ref().map(|basic| self::basic(basic, name, problems));
        match basic.transpose() {
            Ok(basic) => Self::Asks { basic },
            Err(reason) => {
                let message = format!("route '{name}': {reason}");
                let hint = "its requests are answered 503 until it is mended";
                problems.push(Problem::error(message).hint(hint));
                Self::Closed(reason)
            }
        }
    }
}

fn basic(
    basic: &ir::BasicAuth,
    name: &Name,
    problems: &mut Vec<Problem>,
) -> Result<BasicAuth, String> {
    let htpasswd = match &basic.users {
        Credentials::Htpasswd(text) => text.expose(),
        Credentials::Missing(why) => return Err(format!("there are no users: {why}")),
    };
    let (auth, faults) = BasicAuth::new(&basic.realm, htpasswd)?;
    for fault in faults {
        let message = format!("route '{name}': line {} of its users: {}", fault.line, fault.what);
        let hint = "make the line with `htpasswd -B`; nobody comes in by it as it is";
        problems.push(Problem::error(message).hint(hint));
    }
    if auth.users.is_empty() {
        let message = format!("route '{name}': there is no user, so nobody comes in");
        problems.push(Problem::error(message).hint("add a line of the form user:hash"));
    }
    Ok(auth)
}
