//! What a request sees: the compiled, immutable form of the configuration.
//!
//! # How a request finds its route
//!
//! [`HostIndex`] picks the virtual host: an exact name, else the longest wildcard suffix, else the
//! default. That choice is final: a host whose routes do not match is a miss, never a reason to
//! try the wildcard host.
//!
//! Inside the host, [`HostTable`] picks the route of the highest rank all of whose conditions hold:
//!
//! 1. exact paths;
//! 2. regular expressions, in the order in which each expression first appears;
//! 3. prefixes, the longest first.
//!
//! Among routes with the same path condition the higher rank has, in this order, a method
//! condition, more header conditions, more query conditions, the earlier declaration.
//!
//! A prefix counts in whole segments (`/cart` holds for `/cart`, `/cart/` and `/cart/x`, not for
//! `/cartoon`), slashes at its end do not count, and `/` holds for everything. Every character of
//! a configured path stands for itself. Methods are taken literally, as in the Gateway API: `GET`
//! does not include `HEAD`.

mod explain;
mod host;
mod matcher;
#[cfg(test)]
mod oracle;
mod path;
mod pattern;
mod query;
mod rank;
mod table;
#[cfg(test)]
mod tests;

#[cfg(test)]
use crate::ir;

pub use explain::{Outcome, Trial};
pub use host::HostIndex;
pub use path::below;
pub use table::{HostTable, RequestFacts, RouteId};
